//! `tokio::task::spawn_blocking`, in two settings.
//!
//! Its documentation asks to limit how many CPU-bound jobs run at a time, since the pool may
//! grow to 512 threads. Here `max_blocking_threads` is the limit; a semaphore would be one more
//! step for each job. The default limit, which is what is mostly written, is a row of its own.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::{Held, Peer, Unwrap};

pub(crate) struct SpawnBlocking;

impl Peer for SpawnBlocking {
    const NAME: &'static str = "spawn_blocking";

    fn configure(runtime: &mut Builder, workers: usize) {
        runtime.max_blocking_threads(workers);
    }

    fn new(_workers: usize) -> Self {
        Self
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Unwrap(spawn_blocking(job))
    }

    fn hold<T, F>(&self, jobs: impl ExactSizeIterator<Item = F>) -> Held<impl Send + 'static>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Held::in_vec(jobs.map(|job| AbortOnDropHandle::new(spawn_blocking(job))))
    }
}

pub(crate) struct SpawnBlockingDefault;

impl Peer for SpawnBlockingDefault {
    const NAME: &'static str = "spawn_blocking, 512 threads";

    fn new(_workers: usize) -> Self {
        Self
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Unwrap(spawn_blocking(job))
    }
}
