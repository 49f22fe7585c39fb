//! `rusty_pool`: `evaluate`, whose handle holds the receiver to await. Core size and maximum are
//! the same, so that it does not grow.

use std::future::Future;

use rusty_pool::{Builder, ThreadPool};

use super::{Peer, Unwrap};

pub(crate) struct RustyPool {
    pool: ThreadPool,
}

impl Peer for RustyPool {
    const NAME: &'static str = "rusty_pool";

    fn new(workers: usize) -> Self {
        Self { pool: Builder::new().core_size(workers).max_size(workers).build() }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Unwrap(self.pool.evaluate(job).receiver)
    }
}
