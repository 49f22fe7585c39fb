//! Results in the order in which they come.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::stream::FusedStream;

use crate::blocking::{Blocking, BlockingNext};
use crate::core::{Awaited, context, parker};
use crate::error::{Error, Unfinished};
use crate::future::TaskFuture;
use crate::next::Next;
use crate::task_set::TaskSet;
use crate::timer::Delay;

/// Yields the results of `futures` as they finish, each with its position in the input.
///
/// Futures that have finished already come first. Each completion costs O(1), whatever the
/// number of futures: a finishing worker leaves the position in a list, and polling takes from
/// that list and never visits a future that has not finished.
///
/// # Cancel safety
///
/// `next()` may be dropped at any time; no result is lost.
///
/// # Drop
///
/// Dropping the stream drops the futures that it has not yielded, which withdraws those that
/// have not started.
///
/// # Examples
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, as_completed};
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let words = ["a", "bb", "ccc"];
/// let futures: Vec<_> = words.into_iter().map(|word| pool.submit(|| word.len())).collect();
/// let mut done = as_completed(futures);
/// while let Some((index, length)) = done.next().await {
///     assert_eq!(length?, words[index].len());
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
pub fn as_completed<T>(futures: impl IntoIterator<Item = TaskFuture<T>>) -> AsCompleted<T> {
    let set: TaskSet<usize, T> = futures.into_iter().enumerate().collect();
    AsCompleted { total: set.len(), set }
}

/// The stream of [`as_completed`].
///
/// # Cancel safety
///
/// Its `next()` may be dropped at any time; no result is lost. To drop the stream drops the futures that it
/// has not yielded.
#[must_use = "streams do nothing unless polled, and dropping this one withdraws tasks that have not started"]
pub struct AsCompleted<T> {
    /// By position.
    set: TaskSet<usize, T>,
    total: usize,
}

impl<T> AsCompleted<T> {
    /// Ends the stream with [`Unfinished`] once `limit` has passed, counted from this call. What
    /// has finished by then is yielded first.
    ///
    /// After the error the stream is finished, and the futures that are left are dropped.
    ///
    /// ```
    /// use concurrent_futures::{TaskFuture, as_completed};
    /// use std::time::Duration;
    ///
    /// let (completer, never) = TaskFuture::promise();
    /// let (quick, one) = TaskFuture::promise();
    /// quick.complete(Ok(1));
    /// let mut done = as_completed([never, one]).timeout(Duration::from_millis(1)).blocking();
    /// assert!(matches!(done.next(), Some(Ok((1, Ok(1))))));
    /// let late = done.next().unwrap().unwrap_err();
    /// assert_eq!(late.to_string(), "1 (of 2) futures unfinished");
    /// assert!(done.next().is_none());
    /// # completer.complete(Ok(2));
    /// ```
    pub fn timeout(self, limit: Duration) -> AsCompletedTimeout<T> {
        AsCompletedTimeout {
            total: self.total,
            set: self.set,
            delay: Delay::new(limit),
            pending_here: context::Pending::default(),
        }
    }

    /// Waits for the next result. `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is that of streams, and returns a future"
    )]
    pub fn next(&mut self) -> Next<'_, Self> {
        Next::new(self)
    }

    /// Iterates over the results by blocking this thread, for code without a runtime.
    ///
    /// ```
    /// use concurrent_futures::{ThreadPoolExecutor, as_completed};
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let squares = (0..4).map(|n| pool.submit(move || n * n));
    /// for (n, square) in as_completed(squares).blocking() {
    ///     assert_eq!(square?, n * n);
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }

    /// Returns the number of results that were not yielded yet.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Returns whether all results were yielded.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Gives the futures back that were not yielded, with their positions in the input.
    pub fn into_futures(self) -> impl Iterator<Item = (usize, TaskFuture<T>)> {
        self.set.into_futures()
    }
}

impl<T> Stream for AsCompleted<T> {
    type Item = (usize, Result<T, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.set).poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.set.size_hint()
    }
}

impl<T> FusedStream for AsCompleted<T> {
    fn is_terminated(&self) -> bool {
        self.set.is_terminated()
    }
}

impl<T> BlockingNext for AsCompleted<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Self::Item> {
        self.set.next_blocking()
    }
}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("unfinished", &self.len())
            .field("total", &self.total)
            .finish()
    }
}

/// The stream of [`AsCompleted::timeout`].
///
/// # Cancel safety
///
/// As [`AsCompleted`].
#[must_use = "streams do nothing unless polled, and dropping this one withdraws tasks that have not started"]
pub struct AsCompletedTimeout<T> {
    set: TaskSet<usize, T>,
    total: usize,
    delay: Delay,
    pending_here: context::Pending,
}

impl<T> AsCompletedTimeout<T> {
    /// Waits for the next result. `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is that of streams, and returns a future"
    )]
    pub fn next(&mut self) -> Next<'_, Self> {
        Next::new(self)
    }

    /// As [`AsCompleted::blocking`].
    pub fn blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }

    /// Returns the number of results that were not yielded yet; 0 once the limit has ended the stream.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Returns whether all results were yielded, or the limit has ended the stream.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Gives the futures back that were not yielded, with their positions in the input: none once the limit
    /// has ended the stream.
    ///
    /// ```
    /// use concurrent_futures::{TaskFuture, as_completed};
    /// use std::time::Duration;
    ///
    /// let (_completer, never) = TaskFuture::<u32>::promise();
    /// let late = as_completed([never]).timeout(Duration::from_secs(60));
    /// assert_eq!(late.len(), 1);
    /// let (index, future) = late.into_futures().next().unwrap();
    /// assert!(index == 0 && future.cancel());
    /// ```
    pub fn into_futures(self) -> impl Iterator<Item = (usize, TaskFuture<T>)> {
        self.set.into_futures()
    }

    /// Polls for the next item, and does not note the wait.
    fn poll_item(&mut self, cx: &Context<'_>) -> Poll<Option<<Self as Stream>::Item>> {
        // Results come before the limit, if both are there.
        match self.set.poll_item(cx) {
            Poll::Ready(item) => Poll::Ready(item.map(Ok)),
            Poll::Pending => self.delay.poll(cx).map(|_limit| {
                // With none unfinished the stream has ended.
                let left = std::mem::take(&mut self.set);
                let unfinished = left.len();
                drop(left);
                Some(Err(Unfinished { unfinished, total: self.total }))
            }),
        }
    }
}

impl<T> Stream for AsCompletedTimeout<T> {
    type Item = Result<(usize, Result<T, Error>), Unfinished>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.poll_item(cx);
        let unfinished = self.set.len();
        self.pending_here.note(&polled, cx, || Awaited::Set(unfinished));
        polled
    }

    /// At most an item for each future. The lower bound is at most 1, since the error of the limit ends the
    /// stream.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.set.len();
        (most.min(1), Some(most))
    }
}

impl<T> FusedStream for AsCompletedTimeout<T> {
    fn is_terminated(&self) -> bool {
        self.set.is_terminated()
    }
}

impl<T> BlockingNext for AsCompletedTimeout<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Self::Item> {
        let awaited = Awaited::Set(self.set.len());
        let deadline = self.delay.keep_by_caller();
        match parker::block_on(|| awaited, Some(deadline), |cx| self.poll_item(cx)) {
            Some(item) => item,
            None => unreachable!("a wait ends with an item, at its limit too"),
        }
    }
}

impl<T> fmt::Debug for AsCompletedTimeout<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompletedTimeout")
            .field("unfinished", &self.set.len())
            .field("total", &self.total)
            .field("limit", &self.delay.limit())
            .finish()
    }
}
