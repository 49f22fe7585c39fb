//! One function over many items.
//!
//! [`engine`] is the workers' side: they take shares of the [`input`] themselves, under the window.
//! [`chunk`] decides how long a share is, and computes it; [`apply`] says where, and [`elsewhere`] how
//! it comes back from there. [`segment`] is the memory in which items and results lie. [`consumer`] is
//! the side of the code that takes the results: in order, all of them, or as they come.
//!
//! All of it is in the consumer's process, which may be a worker whose task has a map on its pool. The
//! `map` functions of executors make a [`Map`]; the consumer polls it, and drivers run on threads of the
//! executor or of its helper pool. Both meet under the engine's lock, and no user code runs under that.

pub(crate) mod apply;
mod chunk;
mod consumer;
pub(crate) mod crew;
#[cfg_attr(not(feature = "process"), allow(dead_code, reason = "all is computed here"))]
pub(crate) mod elsewhere;
mod engine;
mod future;
mod input;
mod integers;
mod segment;
mod settings;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod try_map;
mod unordered;

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;

use self::apply::Apply;
use self::consumer::Consumer;
use self::crew::Crew;
use self::engine::Engine;
pub use self::future::MapFuture;
use self::settings::impl_settings;
pub use self::try_map::{TryMap, TryMapError, TryMapFuture};
pub use self::unordered::Unordered;
use crate::blocking::{Blocking, BlockingNext};
use crate::error::Error;
use crate::next::Next;

/// The results of `map`: awaited, all of them in order; as a stream, one by one in order.
///
/// * Awaited it is `Result<Vec<T>, Error>`, by [`into_future`](Self::into_future). The first error in the
///   order of the input wins; the items that have not started by then never run.
/// * As a [`Stream`] of `Result<T, Error>`, read with [`next`](Self::next), an item's error stands in its
///   place and does not end the stream. A consumer that pauses does not hold up the workers, only
///   [`buffer_size`](Self::buffer_size) does.
/// * [`unordered`](Self::unordered) yields results as they finish, with their index.
/// * [`blocking`](Self::blocking) makes an iterator of it, and [`result`](Self::result) blocks for all
///   results, for synchronous code.
///
/// # When the work starts
///
/// At the first poll, or with [`start`](Self::start), which overlaps it with what the caller does meanwhile.
/// A map that has not started is no accepted work: dropped, it has done nothing, and if the executor is
/// shut down before, it is [`ShutDown`](Error::ShutDown). Its sizes and its label are set before the start.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let squares = pool.map(|x| x * x, 0..1_000).start();
/// let other = (0..1_000).sum::<u64>(); // meanwhile
/// assert_eq!(squares.await?.into_iter().max(), Some(998_001));
/// # assert_eq!(other, 499_500);
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
///
/// The workers pull the input themselves, one of them at a time. An input that blocks holds one
/// worker; an input that panics ends the map with that panic, in the place of the next item.
///
/// # Drop and cancel safety
///
/// Dropping the map stops it: items that have not started are dropped, running ones see
/// [`task::stop_requested`](crate::task::stop_requested), and the input is dropped. `next()` may be
/// dropped at any time; no result is lost.
///
/// # Examples
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let squares: Vec<u64> = pool.map(|x| x * x, 0..1_000).await?;
/// assert_eq!(squares[999], 998_001);
///
/// // An endless input, eight items ahead at most.
/// let mut roots = pool.map(|x: u32| f64::from(x).sqrt(), 0..).buffer_size(8);
/// assert_eq!(roots.next().await.transpose()?, Some(0.0));
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "a Map does nothing until it is awaited, read, or started with `start`; dropping it stops it"]
pub struct Map<T> {
    consumer: Consumer<T>,
}

impl<T> Map<T> {
    pub(crate) fn new<A, I, F, C>(crew: C, f: F, input: I) -> Self
    where
        A: Send + 'static,
        T: Send + 'static,
        I: Iterator<Item = A> + Send + 'static,
        F: Apply<A, T>,
        C: Crew,
    {
        Self { consumer: Consumer::new(Engine::new(crew, f, input)) }
    }

    /// Stops the map once `limit` has passed since its start, or since this call if it has started: the
    /// item that is waited for ends with [`Error::TimedOut`], and nothing comes after it. Results that are
    /// there by then are delivered first.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.consumer.timeout(limit);
        self
    }

    /// Yields the results as they finish instead of in order, each with its index in the input.
    pub fn unordered(self) -> Unordered<T> {
        Unordered::new(self.consumer)
    }

    /// Waits for the next result, in the order of the input. `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time; no result is lost.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is that of streams, and returns a future"
    )]
    pub fn next(&mut self) -> Next<'_, Self> {
        Next::new(self)
    }

    /// Iterates over the results by blocking this thread. Inside a job of the same executor, the worker
    /// computes items itself while it waits.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// for (word, length) in ["one", "three"].into_iter().zip(pool.map(str::len, ["one", "three"]).blocking()) {
    ///     assert_eq!(length?, word.len());
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }

    /// Waits for all results by blocking this thread. Inside a job of the same executor, the
    /// worker computes items itself while it waits.
    ///
    /// # Errors
    ///
    /// The first error in the order of the input.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result(self) -> Result<Vec<T>, Error> {
        MapFuture::new(self.consumer).result()
    }

    /// Awaits all results, in order; what `.await` does. For `join!`, `select!` and `spawn`, which take a
    /// future.
    // Not that of the trait alone: with `StreamExt` in scope the method of a stream would be called.
    pub fn into_future(self) -> MapFuture<T> {
        MapFuture::new(self.consumer)
    }
}

impl_settings!([T] Map<T>);

impl<T, E> Map<Result<T, E>> {
    /// Has the first `Err` end the map.
    pub(crate) fn until_error(self) -> TryMap<T, E> {
        TryMap::new(self.consumer)
    }
}

impl<T> IntoFuture for Map<T> {
    type Output = Result<Vec<T>, Error>;
    type IntoFuture = MapFuture<T>;

    fn into_future(self) -> MapFuture<T> {
        self.into_future()
    }
}

impl<T> Stream for Map<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.consumer.poll_next(cx).map(|item| item.map(|(_, result)| result))
    }

    /// The length of the input, less what was delivered. With a limit the lower bound is at most 1, since its
    /// error ends the map. A map that is stopped by the end of its executor yields fewer.
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.consumer.size_hint()
    }
}

impl<T> FusedStream for Map<T> {
    fn is_terminated(&self) -> bool {
        self.consumer.is_finished()
    }
}

impl<T> BlockingNext for Map<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Result<T, Error>> {
        self.consumer.next_blocking().map(|(_, result)| result)
    }
}

// No field is pinned: results are moved out, never polled in place.
impl<T> Unpin for Map<T> {}

impl<T> fmt::Debug for Map<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.debug(f.debug_struct("Map"))
    }
}
