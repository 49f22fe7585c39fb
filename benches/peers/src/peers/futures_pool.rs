//! `futures::executor::ThreadPool`: `spawn_with_handle` of an async block that never waits.

use std::future::Future;

use futures::executor::{ThreadPool, ThreadPoolBuilder};
use futures::task::SpawnExt;

use super::Peer;

pub(crate) struct FuturesPool {
    pool: ThreadPool,
}

impl Peer for FuturesPool {
    const NAME: &'static str = "futures ThreadPool";

    fn new(workers: usize) -> Self {
        let built = ThreadPoolBuilder::new().pool_size(workers).create();
        Self { pool: built.expect("a pool starts") }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let spawned = self.pool.spawn_with_handle(async move { job() });
        spawned.expect("a thread pool takes every task")
    }
}
