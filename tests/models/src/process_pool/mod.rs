//! The tickets of the process pool, with doubles of the page, which is shared memory, and of the
//! clock.

#[path = "../../../../src/process_pool/ticket.rs"]
mod ticket;
#[cfg(test)]
mod ticket_model;
#[path = "../../../../src/process_pool/turn.rs"]
mod turn;
#[cfg(test)]
mod turn_model;

mod page {
    use crate::sync::atomic::{AtomicU32, AtomicU64};

    pub(super) const TICKETS: usize = 64;

    pub(super) struct Page {
        pub(super) tickets: Vec<AtomicU32>,
        pub(super) started_at: Vec<AtomicU64>,
    }

    impl Page {
        /// Has tickets 0 and 1.
        pub(super) fn new() -> Self {
            let tickets = [(); 2].map(|()| AtomicU32::new(0)).into();
            Self { tickets, started_at: [(); 2].map(|()| AtomicU64::new(0)).into() }
        }
    }
}

mod sys {
    use std::time::Duration;

    pub(super) fn monotonic_now() -> Duration {
        Duration::from_nanos(7)
    }
}
