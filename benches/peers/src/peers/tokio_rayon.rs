//! `tokio-rayon`: `spawn_async` as in its documentation, on a pool with the right number of
//! threads instead of rayon's global one.

use std::future::Future;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio_rayon::AsyncThreadPool;

use super::Peer;

pub(crate) struct TokioRayon {
    pool: ThreadPool,
}

impl Peer for TokioRayon {
    const NAME: &'static str = "tokio-rayon";

    fn new(workers: usize) -> Self {
        let built = ThreadPoolBuilder::new().num_threads(workers).build();
        Self { pool: built.expect("a pool starts") }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.pool.spawn_async(job)
    }
}
