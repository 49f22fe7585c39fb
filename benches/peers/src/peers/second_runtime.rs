//! A second tokio runtime for CPU-bound work: jobs are async blocks that never wait. What comes
//! as it finishes is read from a `JoinSet` whose tasks are spawned on that runtime.

use std::future::Future;

use futures::{Stream, stream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{Held, Peer, Unwrap};

pub(crate) struct SecondRuntime {
    runtime: Runtime,
}

impl Peer for SecondRuntime {
    const NAME: &'static str = "second tokio runtime";

    fn new(workers: usize) -> Self {
        let built = Builder::new_multi_thread().worker_threads(workers).build();
        Self { runtime: built.expect("a runtime starts") }
    }

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Unwrap(self.runtime.spawn(async move { job() }))
    }

    fn as_completed<T, F>(
        &self,
        jobs: impl Iterator<Item = F>,
    ) -> impl Stream<Item = T> + Send + Unpin
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let mut set = JoinSet::new();
        for job in jobs {
            set.spawn_on(async move { job() }, self.runtime.handle());
        }
        stream::poll_fn(move |cx| {
            set.poll_join_next(cx).map(|next| next.map(|result| result.expect("no job fails")))
        })
    }

    fn hold<T, F>(&self, jobs: impl ExactSizeIterator<Item = F>) -> Held<impl Send + 'static>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let spawn = |job: F| AbortOnDropHandle::new(self.runtime.spawn(async move { job() }));
        Held::in_vec(jobs.map(spawn))
    }
}
