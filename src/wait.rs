//! Waiting for some of a set of futures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::future::FusedFuture;

use crate::core::set::{CompletionSet, WakeAt};
use crate::core::{Awaited, context, parker};
use crate::future::TaskFuture;
use crate::timer::Delay;

/// The condition on which [`wait`] comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReturnWhen {
    /// When any future has finished or was cancelled.
    FirstCompleted,
    /// When any future has ended with an error other than
    /// [`Cancelled`](crate::Error::Cancelled), or all have finished. A job's own `Err` is a value
    /// and not meant here.
    FirstError,
    /// When all futures have finished or were cancelled.
    AllCompleted,
}

/// The result of [`wait`], each part in the order of the input. Take the results with
/// [`TaskFuture::result`] or by awaiting; for those in `done` that does not wait. Each part may be given to
/// [`wait`] again.
///
/// ```
/// use concurrent_futures::{ReturnWhen, ThreadPoolExecutor, wait};
///
/// let pool = ThreadPoolExecutor::new();
/// let words = ["a", "bb", "ccc"];
/// let parts = wait(words.map(|word| pool.submit(|| word.len())), ReturnWhen::AllCompleted).result();
/// for (index, future) in parts.done_indices.into_iter().zip(parts.done) {
///     assert_eq!(future.result()?, words[index].len());
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct DoneAndNotDone<T> {
    /// The futures that have finished, cancelled ones included.
    pub done: Vec<TaskFuture<T>>,
    /// The place in the input of each future in `done`.
    pub done_indices: Vec<usize>,
    /// The others. Dropping them withdraws the tasks that have not started.
    pub not_done: Vec<TaskFuture<T>>,
    /// The place in the input of each future in `not_done`.
    pub not_done_indices: Vec<usize>,
}

/// Waits until the futures are as `return_when` says, then gives them back in two parts.
///
/// If they are so already, or there are none, the answer is there at the first poll. O(1) for
/// each completion, and O(n) once at the end.
///
/// # Drop
///
/// Dropping it before it is ready drops the futures, which withdraws the tasks that have not
/// started.
///
/// # Examples
///
/// ```
/// use concurrent_futures::{ReturnWhen, ThreadPoolExecutor, wait};
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let futures: Vec<_> = (0..4).map(|n| pool.submit(move || n * n)).collect();
/// let all = wait(futures, ReturnWhen::AllCompleted).await;
/// assert_eq!(all.done.len(), 4);
/// let squares: Result<Vec<_>, _> = all.done.into_iter().map(|future| future.result()).collect();
/// assert_eq!(squares?, [0, 1, 4, 9]);
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
pub fn wait<T>(
    futures: impl IntoIterator<Item = TaskFuture<T>>,
    return_when: ReturnWhen,
) -> Wait<T> {
    Wait {
        futures: futures.into_iter().collect(),
        return_when,
        delay: None,
        set: None,
        is_over: false,
        pending_here: context::Pending::default(),
    }
}

/// The future of [`wait`].
///
/// # Cancel safety
///
/// Polling takes nothing until it is ready, so `&mut wait` can be awaited in `select!` again and again. To
/// drop it drops the futures.
#[must_use = "futures do nothing unless polled, and dropping this one withdraws tasks that have not started"]
pub struct Wait<T> {
    futures: Vec<TaskFuture<T>>,
    return_when: ReturnWhen,
    delay: Option<Delay>,
    /// Made at the first poll.
    set: Option<Arc<CompletionSet>>,
    is_over: bool,
    pending_here: context::Pending,
}

impl<T> Wait<T> {
    /// Comes back at the latest after `limit`, with what has finished by then. That is no error.
    ///
    /// The limit counts from this call, also before the first poll. It is kept as long as this future is
    /// polled.
    ///
    /// ```
    /// use concurrent_futures::{ReturnWhen, TaskFuture, wait};
    /// use std::time::Duration;
    ///
    /// let (completer, future) = TaskFuture::promise();
    /// let limit = Duration::from_millis(1);
    /// let parts = wait([future], ReturnWhen::AllCompleted).timeout(limit).result();
    /// assert_eq!((parts.done.len(), parts.not_done.len()), (0, 1));
    /// completer.complete(Ok(1));
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.delay = Some(Delay::new(limit));
        self
    }

    /// Waits by blocking this thread. Inside a job the worker's place is lent out meanwhile.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result(mut self) -> DoneAndNotDone<T> {
        let awaited = self.awaited();
        let deadline = self.delay.as_mut().map(Delay::keep_by_caller);
        match parker::block_on(|| awaited, deadline, |cx| self.poll_parts(cx)) {
            Some(parts) => parts,
            None => unreachable!("a wait ends with an answer, at its limit too"),
        }
    }

    fn awaited(&self) -> Awaited {
        Awaited::Set(self.futures.len())
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>) -> Poll<DoneAndNotDone<T>> {
        let set = match &self.set {
            Some(set) => set,
            None => {
                let wake_at = match self.return_when {
                    ReturnWhen::FirstCompleted => WakeAt::First,
                    ReturnWhen::FirstError => WakeAt::Failure,
                    ReturnWhen::AllCompleted => WakeAt::All,
                };
                let set = Arc::new(CompletionSet::new(self.futures.len(), wake_at));
                for (index, future) in self.futures.iter_mut().enumerate() {
                    // A future that is done already tells no set, so its end is counted here.
                    if !future.listen(&set, index) {
                        set.finished(index, future.is_failed());
                    }
                }
                self.set.insert(set)
            }
        };
        let is_over = set.poll_over(cx.waker()).is_ready();
        let is_late = |delay: &mut Delay| delay.poll(cx).is_ready();
        if !is_over && !self.delay.as_mut().is_some_and(is_late) {
            return Poll::Pending;
        }
        self.is_over = true;
        // Each is looked at once: one that finishes after that is in `not_done`.
        let parts = std::mem::take(&mut self.futures).into_iter().enumerate();
        let (done, not_done): (Vec<_>, Vec<_>) = parts.partition(|(_, future)| future.is_done());
        let (done_indices, done): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let (not_done_indices, mut not_done): (Vec<_>, Vec<_>) = not_done.into_iter().unzip();
        done.iter().for_each(TaskFuture::observe_failure);
        // They are the caller's again, so their ends are not for this set.
        not_done.iter_mut().for_each(TaskFuture::unlisten);
        Poll::Ready(DoneAndNotDone { done, done_indices, not_done, not_done_indices })
    }
}

impl<T> Future for Wait<T> {
    type Output = DoneAndNotDone<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let awaited = self.awaited();
        let polled = self.poll_parts(cx);
        self.pending_here.note(&polled, cx, || awaited);
        polled
    }
}

impl<T> FusedFuture for Wait<T> {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl<T> fmt::Debug for Wait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("futures", &self.futures.len())
            .field("return_when", &self.return_when)
            .finish_non_exhaustive()
    }
}
