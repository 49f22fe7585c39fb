//! The numbers of tasks.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Names a task. Unique within the process, and never used again.
// At a million tasks in each second there are numbers for two thousand years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    /// Returns a new number. Threads take numbers in blocks, so that they don't meet at one counter.
    #[inline]
    pub(crate) fn next() -> Self {
        const BLOCK: u64 = 1024;
        static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        let take = |next: &std::cell::Cell<u64>| {
            let mut number = next.get();
            if number % BLOCK == 0 {
                number = NEXT_BLOCK.fetch_add(1, Relaxed) * BLOCK + 1;
            }
            next.set(number + 1);
            number
        };
        // A thread whose storage is gone already takes a block for each task.
        let number =
            NEXT.try_with(take).unwrap_or_else(|_| NEXT_BLOCK.fetch_add(1, Relaxed) * BLOCK + 1);
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }

    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
