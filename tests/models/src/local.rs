//! The claims of tasks, with a double of the control block, which is shared memory; and the outgoing line.

#[path = "../../../src/local/claim.rs"]
pub(crate) mod claim;
#[path = "../../../src/local/outgoing.rs"]
pub(crate) mod outgoing;

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
