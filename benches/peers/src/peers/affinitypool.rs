//! `affinitypool`: a sharded queue, and one allocation for each task.

use std::future::Future;

use affinitypool::Threadpool;

use super::Peer;

pub(crate) struct AffinityPool {
    pool: Threadpool,
}

impl Peer for AffinityPool {
    const NAME: &'static str = "affinitypool";

    fn new(workers: usize) -> Self {
        Self { pool: Threadpool::new(workers) }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.pool.spawn(job)
    }
}
