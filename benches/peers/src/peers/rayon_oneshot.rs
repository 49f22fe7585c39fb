//! A rayon pool, with a tokio oneshot channel to await each result: what tokio's documentation
//! points to for CPU-bound work.

use std::future::Future;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;

use super::{Peer, Unwrap};

pub(crate) struct RayonOneshot {
    pub(crate) pool: ThreadPool,
}

impl Peer for RayonOneshot {
    const NAME: &'static str = "rayon + tokio oneshot";

    fn new(workers: usize) -> Self {
        let built = ThreadPoolBuilder::new().num_threads(workers).build();
        Self { pool: built.expect("a pool starts") }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.pool.spawn(move || {
            let _ = sender.send(job());
        });
        Unwrap(receiver)
    }
}
