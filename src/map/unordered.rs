//! The results of a map as they finish. In the consumer's process.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::consumer::Consumer;
use super::settings::impl_settings;
use crate::blocking::{Blocking, BlockingNext};
use crate::error::Error;
use crate::next::Next;

/// The results of a map as they finish, each with its index in the input. From
/// [`Map::unordered`](super::Map::unordered).
///
/// With chunks of more than one item, the results of a chunk come together.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let words = ["one", "three", "eleven"];
/// let mut lengths = pool.map(str::len, words).unordered();
/// while let Some((index, length)) = lengths.next().await {
///     assert_eq!(length?, words[index].len());
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "a map does nothing until it is read, or started with `start`; dropping it stops it"]
pub struct Unordered<T> {
    consumer: Consumer<T>,
}

impl_settings!([T] Unordered<T>);

impl<T> Unordered<T> {
    pub(super) fn new(mut consumer: Consumer<T>) -> Self {
        consumer.take_in_any_order();
        Self { consumer }
    }

    /// As [`Map::timeout`](super::Map::timeout); the index that comes with the error is the number of
    /// results that were delivered.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.consumer.timeout(limit);
        self
    }

    /// Waits for the next result. `None` at the end.
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
}

impl<T> Stream for Unordered<T> {
    type Item = (usize, Result<T, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.consumer.poll_next(cx)
    }

    /// As that of [`Map`](super::Map).
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.consumer.size_hint()
    }
}

impl<T> FusedStream for Unordered<T> {
    fn is_terminated(&self) -> bool {
        self.consumer.is_finished()
    }
}

impl<T> BlockingNext for Unordered<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Self::Item> {
        self.consumer.next_blocking()
    }
}

// No field is pinned: results are moved out, never polled in place.
impl<T> Unpin for Unordered<T> {}

impl<T> fmt::Debug for Unordered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.debug(f.debug_struct("Unordered"))
    }
}
