//! smol's `blocking::unblock`. It has one pool for the process, of 500 threads at most;
//! `set_max_blocking_threads` limits it to the number of workers.

use std::future::Future;
use std::num::NonZeroUsize;

use super::Peer;

pub(crate) struct Blocking;

impl Peer for Blocking {
    const NAME: &'static str = "smol blocking";

    fn new(workers: usize) -> Self {
        let limit = NonZeroUsize::new(workers).expect("there are workers");
        blocking::set_max_blocking_threads(limit);
        Self
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        blocking::unblock(job)
    }
}
