//! The claims of tasks, with doubles of the control block, which is shared memory, and of the clock.

#[path = "../../../src/local/claim.rs"]
pub(crate) mod claim;

pub(crate) mod control_block {
    use crate::sync::atomic::{AtomicU32, AtomicU64};

    pub(crate) struct ControlBlock {
        pub(crate) claims: Vec<AtomicU32>,
        pub(crate) started_at: Vec<AtomicU64>,
    }

    impl ControlBlock {
        /// Has claims 0 and 1.
        pub(crate) fn new() -> Self {
            let claims = [(); 2].map(|()| AtomicU32::new(0)).into();
            Self { claims, started_at: [(); 2].map(|()| AtomicU64::new(0)).into() }
        }
    }
}
