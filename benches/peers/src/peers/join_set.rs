//! `tokio::task::JoinSet` over `spawn_blocking`, with the blocking pool limited as in
//! `spawn_blocking.rs`. It is a way to own many tasks, so it differs from `spawn_blocking` only
//! where there are many.

use std::future::Future;

use futures::{Stream, stream};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, spawn_blocking};

use super::{Held, Peer, Unwrap};

pub(crate) struct SpawnBlockingJoinSet;

fn set_of<T, F>(jobs: impl Iterator<Item = F>) -> JoinSet<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let mut set = JoinSet::new();
    for job in jobs {
        set.spawn_blocking(job);
    }
    set
}

impl Peer for SpawnBlockingJoinSet {
    const NAME: &'static str = "JoinSet of spawn_blocking";

    fn configure(runtime: &mut Builder, workers: usize) {
        runtime.max_blocking_threads(workers);
    }

    fn new(_workers: usize) -> Self {
        Self
    }

    /// For single jobs of a workload that is about many.
    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Unwrap(spawn_blocking(job))
    }

    fn burst<T, F>(&self, jobs: impl Iterator<Item = F>) -> impl Future<Output = ()> + Send
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let mut set = set_of(jobs);
        async move {
            while let Some(result) = set.join_next().await {
                result.expect("no job fails");
            }
        }
    }

    fn as_completed<T, F>(
        &self,
        jobs: impl Iterator<Item = F>,
    ) -> impl Stream<Item = T> + Send + Unpin
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let mut set = set_of(jobs);
        stream::poll_fn(move |cx| {
            set.poll_join_next(cx).map(|next| next.map(|result| result.expect("no job fails")))
        })
    }

    /// The handles are in the set's own allocations, which therefore count as memory of the
    /// tasks.
    fn hold<T, F>(&self, jobs: impl ExactSizeIterator<Item = F>) -> Held<impl Send + 'static>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Held { _owner: set_of(jobs), bytes_of_vec: 0 }
    }
}
