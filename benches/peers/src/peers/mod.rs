//! The executors that are compared, one small file each. Each is used as its documentation
//! advises, with [`WORKERS`](crate::bench::WORKERS) threads for the work; what had to be chosen
//! is said in its file.

mod affinitypool;
mod blocking;
mod futures_pool;
mod join_set;
mod ours;
mod rayon_oneshot;
mod rusty_pool;
mod second_runtime;
mod spawn_blocking;
mod textbook;
mod tokio_rayon;

pub(crate) use self::affinitypool::AffinityPool;
pub(crate) use self::blocking::Blocking;
pub(crate) use self::futures_pool::FuturesPool;
pub(crate) use self::join_set::SpawnBlockingJoinSet;
pub(crate) use self::ours::Ours;
pub(crate) use self::rayon_oneshot::RayonOneshot;
pub(crate) use self::rusty_pool::RustyPool;
pub(crate) use self::second_runtime::SecondRuntime;
pub(crate) use self::spawn_blocking::{SpawnBlocking, SpawnBlockingDefault};
pub(crate) use self::textbook::Textbook;
pub(crate) use self::tokio_rayon::TokioRayon;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::FuturesUnordered;
use tokio::runtime::Builder;

/// Something that runs closures on threads of its own and gives futures for their results.
///
/// A peer says how one job is submitted. The methods with a default are for peers that have a
/// way of their own for many jobs.
pub(crate) trait Peer: Send + Sync + Sized + 'static {
    const NAME: &'static str;

    /// Settings of the runtime that the measured future runs on.
    fn configure(_runtime: &mut Builder, _workers: usize) {}

    /// Called in the context of the runtime.
    fn new(workers: usize) -> Self;

    fn submit<T, F>(&self, job: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static;

    /// Submits all, then awaits all.
    fn burst<T, F>(&self, jobs: impl Iterator<Item = F>) -> impl Future<Output = ()> + Send
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let handles: Vec<_> = jobs.map(|job| self.submit(job)).collect();
        async {
            for handle in handles {
                handle.await;
            }
        }
    }

    /// Submits all; the results come as they finish.
    fn as_completed<T, F>(
        &self,
        jobs: impl Iterator<Item = F>,
    ) -> impl Stream<Item = T> + Send + Unpin
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        jobs.map(|job| self.submit(job)).collect::<FuturesUnordered<_>>()
    }

    /// Submits all, and gives something that keeps them wanted. Its drop cancels what has not
    /// started, if the peer can do that.
    fn hold<T, F>(&self, jobs: impl ExactSizeIterator<Item = F>) -> Held<impl Send + 'static>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Held::in_vec(jobs.map(|job| self.submit(job)))
    }
}

/// Tasks that are wanted.
pub(crate) struct Held<H> {
    _owner: H,
    /// Bytes of the `Vec` that the handles are in; it is the user's, not the executor's.
    pub(crate) bytes_of_vec: usize,
}

impl<H> Held<Vec<H>> {
    fn in_vec(handles: impl ExactSizeIterator<Item = H>) -> Self {
        let owner: Vec<H> = handles.collect();
        let bytes_of_vec = owner.capacity() * size_of::<H>();
        Self { _owner: owner, bytes_of_vec }
    }
}

/// The value of a future that can't fail here. As large as the future itself, so that no peer
/// pays for being behind a trait.
pub(crate) struct Unwrap<F>(F);

impl<F, T, E> Future for Unwrap<F>
where
    F: Future<Output = Result<T, E>> + Unpin,
    E: Debug,
{
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let polled = Pin::new(&mut self.0).poll(cx);
        polled.map(|result| result.expect("jobs of the benchmark do not fail"))
    }
}
