//! A queue that stands still, so that what is in it can be looked at or taken away.

use std::fmt;
use std::sync::{Arc, Barrier};

use concurrent_futures::ThreadPoolExecutor;

/// Occupies every worker until it is dropped.
#[must_use = "dropping it opens the gate"]
pub struct Gate(Arc<Barrier>);

impl Gate {
    /// Returns when all workers are in a job that waits for the gate.
    pub fn close(pool: &ThreadPoolExecutor) -> Self {
        let workers = pool.max_workers();
        let gate = Self(Arc::new(Barrier::new(workers + 1)));
        for _ in 0..workers {
            let barrier = Arc::clone(&gate.0);
            let job = move || {
                barrier.wait(); // closed
                barrier.wait(); // open
            };
            pool.submit(job).detach();
        }
        gate.0.wait();
        gate
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.wait();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
