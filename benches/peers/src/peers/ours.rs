//! The crate itself.

use std::future::Future;

use concurrent_futures::{Shutdown, ThreadPoolExecutor, as_completed};
use futures::{Stream, StreamExt};

use super::{Peer, Unwrap};

pub(crate) struct Ours {
    pub(crate) pool: ThreadPoolExecutor,
}

impl Peer for Ours {
    const NAME: &'static str = "concurrent-futures";

    fn new(workers: usize) -> Self {
        let built = ThreadPoolExecutor::builder().max_workers(workers).build();
        Self { pool: built.expect("two workers are valid") }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Unwrap(self.pool.submit(job))
    }

    fn as_completed<T, F>(
        &self,
        jobs: impl Iterator<Item = F>,
    ) -> impl Stream<Item = T> + Send + Unpin
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let futures = jobs.map(|job| self.pool.submit(job));
        as_completed(futures).map(|(_, result)| result.expect("no job fails"))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.pool.shutdown_blocking(Shutdown::Drain);
    }
}
