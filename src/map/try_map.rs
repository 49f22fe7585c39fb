//! A map whose function may fail: the first error ends it. In the consumer's process.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::FusedFuture;
use futures_core::stream::FusedStream;

use super::consumer::Consumer;
use super::settings::impl_settings;
use crate::blocking::{Blocking, BlockingNext};
use crate::error::Error;
use crate::next::Next;

/// The results of `try_map`, whose function returns a `Result`: as a [`Map`](super::Map), but the first
/// error in the order of the input ends it, and the items that have not started by then never run.
///
/// * Awaited it is `Result<Vec<T>, TryMapError<E>>`.
/// * As a [`Stream`] it yields values in the order of the input; after an error it has ended.
///
/// It starts at its first poll or with [`start`](Self::start), and dropping it stops it, as a `Map`.
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, TryMapError};
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let numbers = pool.try_map(str::parse::<u32>, ["1", "2", "3"]).await?;
/// assert_eq!(numbers, [1, 2, 3]);
///
/// let error = pool.try_map(str::parse::<u32>, ["1", "two", "3"]).await.unwrap_err();
/// assert_eq!(error.to_string(), "item 1: invalid digit found in string");
/// assert_eq!(error.index(), 1);
/// # Ok::<(), TryMapError<std::num::ParseIntError>>(())
/// # }).unwrap();
/// ```
#[must_use = "a TryMap does nothing until it is awaited, read, or started with `start`; dropping it stops it"]
pub struct TryMap<T, E> {
    consumer: Consumer<Result<T, E>>,
}

impl_settings!([T, E] TryMap<T, E>);

impl<T, E> TryMap<T, E> {
    pub(super) fn new(consumer: Consumer<Result<T, E>>) -> Self {
        Self { consumer }
    }

    /// As [`Map::timeout`](super::Map::timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.consumer.timeout(limit);
        self
    }

    /// Waits for the next value, in the order of the input. `None` at the end, and after an error.
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

    /// As [`Map::blocking`](super::Map::blocking).
    pub fn blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }

    /// As [`Map::result`](super::Map::result).
    ///
    /// # Errors
    ///
    /// The first error in the order of the input.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result(self) -> Result<Vec<T>, TryMapError<E>> {
        let TryMapFuture { mut consumer, mut all } = self.into_future();
        consumer.block_on(|consumer, cx| poll_all(consumer, &mut all, cx))
    }

    /// As [`Map::into_future`](super::Map::into_future).
    // Not that of the trait alone: with `StreamExt` in scope the method of a stream would be called.
    pub fn into_future(mut self) -> TryMapFuture<T, E> {
        self.consumer.keep_all();
        TryMapFuture { consumer: self.consumer, all: Vec::new() }
    }
}

/// The value of an item, or the error that ends the map.
fn checked<T, E>(
    consumer: &mut Consumer<Result<T, E>>,
    (index, result): (usize, Result<Result<T, E>, Error>),
) -> Result<T, TryMapError<E>> {
    let error = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => TryMapError::Function { index, error },
        Err(error) => TryMapError::Task { index, error },
    };
    consumer.finish();
    Err(error)
}

fn poll_all<T, E>(
    consumer: &mut Consumer<Result<T, E>>,
    all: &mut Vec<T>,
    cx: &Context<'_>,
) -> Poll<Result<Vec<T>, TryMapError<E>>> {
    while let Some(item) = ready!(consumer.poll_item(cx)) {
        match checked(consumer, item) {
            Ok(value) => all.push(value),
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(std::mem::take(all)))
}

impl<T, E> IntoFuture for TryMap<T, E> {
    type Output = Result<Vec<T>, TryMapError<E>>;
    type IntoFuture = TryMapFuture<T, E>;

    fn into_future(self) -> TryMapFuture<T, E> {
        self.into_future()
    }
}

impl<T, E> Stream for TryMap<T, E> {
    type Item = Result<T, TryMapError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let consumer = &mut self.consumer;
        consumer.poll_next(cx).map(|item| item.map(|item| checked(consumer, item)))
    }

    /// As that of [`Map`](super::Map), with a lower bound of at most 1, since an error ends the map.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.consumer.size_hint();
        (least.min(1), most)
    }
}

impl<T, E> FusedStream for TryMap<T, E> {
    fn is_terminated(&self) -> bool {
        self.consumer.is_finished()
    }
}

impl<T, E> BlockingNext for TryMap<T, E> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Self::Item> {
        let item = self.consumer.next_blocking()?;
        Some(checked(&mut self.consumer, item))
    }
}

// No field is pinned: results are moved out, never polled in place.
impl<T, E> Unpin for TryMap<T, E> {}

impl<T, E> fmt::Debug for TryMap<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.debug(f.debug_struct("TryMap"))
    }
}

/// The future of a [`TryMap`] that is awaited.
///
/// # Drop and cancel safety
///
/// It can be polled by reference again and again, as in `select!`. Dropping it stops the map.
#[must_use = "a map does nothing until it is polled, and dropping it stops it"]
pub struct TryMapFuture<T, E> {
    consumer: Consumer<Result<T, E>>,
    all: Vec<T>,
}

impl<T, E> Future for TryMapFuture<T, E> {
    type Output = Result<Vec<T>, TryMapError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { consumer, all } = &mut *self;
        let polled = poll_all(consumer, all, cx);
        consumer.note(&polled, cx);
        polled
    }
}

impl<T, E> FusedFuture for TryMapFuture<T, E> {
    fn is_terminated(&self) -> bool {
        self.consumer.is_finished()
    }
}

// No field is pinned: results are moved out, never polled in place.
impl<T, E> Unpin for TryMapFuture<T, E> {}

impl<T, E> fmt::Debug for TryMapFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.debug(f.debug_struct("TryMapFuture"))
    }
}

/// The error that ended a [`TryMap`].
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, TryMapError};
///
/// let pool = ThreadPoolExecutor::new();
/// match pool.try_map(str::parse::<u32>, ["1", "two"]).result().unwrap_err() {
///     TryMapError::Function { index, error, .. } => println!("item {index} is no number: {error}"),
///     other => panic!("{other}"), // a panic, a lost worker, the end of the pool
/// }
/// ```
// `Debug` and `Error` ask for the `Debug` of `E`, also where `Display` alone could serve: many an `E` has no
// `Display`, and its map is to have an `unwrap` too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TryMapError<E> {
    /// The function has returned an error.
    #[non_exhaustive]
    Function {
        /// The position of the item in the input.
        index: usize,
        /// The error.
        error: E,
    },
    /// The item has no result: the function has panicked, its worker was lost, the time limit has passed,
    /// or the pool has ended.
    #[non_exhaustive]
    Task {
        /// The position of the item in the input.
        index: usize,
        /// The reason.
        error: Error,
    },
}

impl<E> TryMapError<E> {
    /// The error of a map whose function has returned `error` for the item at `index`, for tests of code
    /// that meets it.
    ///
    /// ```
    /// use concurrent_futures::{Error, TryMapError};
    ///
    /// let error = TryMapError::function(7, "no such page");
    /// assert_eq!(error.to_string(), "item 7: no such page");
    /// let error = TryMapError::<&str>::task(8, Error::Cancelled);
    /// assert!(error.into_error().unwrap_err().is_cancelled());
    /// ```
    pub fn function(index: usize, error: E) -> Self {
        Self::Function { index, error }
    }

    /// The error of a map whose item at `index` has no result, for tests of code that meets it.
    pub fn task(index: usize, error: Error) -> Self {
        Self::Task { index, error }
    }

    /// The position of the item in the input.
    pub fn index(&self) -> usize {
        match self {
            Self::Function { index, .. } | Self::Task { index, .. } => *index,
        }
    }

    /// Returns the error of the function.
    ///
    /// # Errors
    ///
    /// The reason for which there is none, where the item has no result.
    pub fn into_error(self) -> Result<E, Error> {
        match self {
            Self::Function { error, .. } => Ok(error),
            Self::Task { error, .. } => Err(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for TryMapError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function { index, error } => write!(f, "item {index}: {error}"),
            Self::Task { index, error } => write!(f, "item {index}: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for TryMapError<E> {
    /// The cause of the error, whose own text is part of this one's.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // An `E` need not be an `Error`, so its causes are not known.
            Self::Function { .. } => None,
            Self::Task { error, .. } => error.source(),
        }
    }
}
