//! The end of an executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_core::future::FusedFuture;

pub(crate) use crate::core::waiters::Place;
use crate::core::{Awaited, TaskId, context, parker};
use crate::error::Error;
use crate::label::Label;
use crate::timer::Delay;

/// The fate of tasks that were accepted and have not started at a shutdown. Tasks that run
/// are always waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shutdown {
    /// They run first.
    Drain,
    /// They end with [`Error::Cancelled`].
    CancelQueued,
}

/// The outcome of a shutdown. The counts start at the first shutdown of the executor, so all who
/// wait for it get the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that returned a value.
    pub completed: u64,
    /// Tasks that panicked or ran into their time limit.
    pub failed: u64,
    /// Tasks that were withdrawn, by this shutdown or otherwise.
    pub cancelled: u64,
    /// Tasks that were left in the queue, by a report that did not wait for the end.
    pub queued: usize,
    /// Tasks that were left running, by a report that did not wait for the end.
    pub running: Vec<RunningTask>,
    /// Set if all has ended. Not so if the deadline came first, inside of a job of the executor, and for an
    /// executor that is not the caller's to end, which takes tasks as before: the
    /// [global](crate::ThreadPoolExecutor::global) pool, and the pool of a worker process.
    pub ended: bool,
}

/// A task that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningTask {
    /// Its number.
    pub id: TaskId,
    /// Its label, if it was given one.
    pub label: Option<Label>,
    /// Time since it came to its worker.
    pub elapsed: Duration,
}

/// An executor, as a shutdown needs it.
pub(crate) trait Closing: Send + Sync {
    /// Returns whether all has ended; if not, `waker` is woken then, in place of what the same future has left
    /// before.
    fn poll_ended(&self, place: &mut Place, waker: &Waker) -> Poll<()>;

    /// The future with this place does not wait any more.
    fn give_up(&self, place: Place);

    fn report(&self) -> ShutdownReport;

    /// The deadline has come: withdraws what is queued and asks what runs to stop.
    fn escalate(&self);

    /// Returns whether this thread runs a job of the executor, which can't end while the job waits.
    fn is_inside(&self) -> bool;

    /// Waits for the threads themselves, which have nothing more to do.
    fn join(&self);
}

/// Waits for the end of an executor. From `shutdown`.
///
/// The shutdown itself has begun with the call and goes on if this is dropped.
///
/// # Cancel safety
///
/// It can be dropped at any moment: another call of `shutdown` waits for the same end.
///
/// # Inside of a job
///
/// Polled inside a job of the same executor, it is ready at once, with what is left in
/// [`queued`](ShutdownReport::queued) and [`running`](ShutdownReport::running), that job among
/// them: an executor can't end while one of its jobs waits for that.
///
/// ```
/// use concurrent_futures::{Shutdown, ThreadPoolExecutor};
/// use std::time::Duration;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let future = pool.submit(|| 1 + 1);
/// let report = pool.shutdown(Shutdown::Drain).deadline(Duration::from_secs(30)).await;
/// assert!(report.running.is_empty());
/// assert_eq!(future.await?, 2);
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "the shutdown has begun; await this to know when it has ended, or drop it"]
pub struct ShutdownFuture {
    /// `None`: it is left open.
    executor: Option<Arc<dyn Closing>>,
    place: Place,
    deadline: Option<Delay>,
    is_over: bool,
    pending_here: context::Pending,
}

impl ShutdownFuture {
    pub(crate) fn new(executor: Arc<dyn Closing>) -> Self {
        Self::of(Some(executor))
    }

    /// The future of an executor which is left open: ready, with an empty report.
    pub(crate) fn of_none() -> Self {
        Self::of(None)
    }

    fn of(executor: Option<Arc<dyn Closing>>) -> Self {
        let pending_here = context::Pending::default();
        Self { executor, place: None, deadline: None, is_over: false, pending_here }
    }

    /// Waits for `limit` at most, counted from this call, also before the first poll. Then all that is queued is cancelled,
    /// all that runs is asked to stop ([`task::stop_requested`](crate::task::stop_requested)), and
    /// the report says what was left running. The executor still ends once those jobs do.
    ///
    /// The limit is kept as long as this future is polled.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(Delay::new(limit));
        self
    }

    /// Waits by blocking this thread, and for the threads of the executor to be gone.
    ///
    /// # Errors
    ///
    /// [`Error::WouldDeadlock`] inside a job of this executor.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result(mut self) -> Result<ShutdownReport, Error> {
        if self.executor.as_ref().is_some_and(|executor| executor.is_inside()) {
            return Err(Error::WouldDeadlock);
        }
        let deadline = self.deadline.as_mut().map(Delay::keep_by_caller);
        match parker::block_on(|| Awaited::Shutdown, deadline, |cx| self.poll_report(cx)) {
            Some(report) => {
                if let Some(executor) = self.executor.as_ref().filter(|_| report.ended) {
                    executor.join();
                }
                Ok(report)
            }
            None => unreachable!("a wait ends with a report, at its deadline too"),
        }
    }

    fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<ShutdownReport> {
        let Some(executor) = &self.executor else {
            return Poll::Ready(ShutdownReport::default());
        };
        let mut ended = executor.poll_ended(&mut self.place, cx.waker()).is_ready();
        if !ended && !executor.is_inside() {
            let Some(deadline) = &mut self.deadline else { return Poll::Pending };
            ready!(deadline.poll(cx));
            executor.escalate();
            ended = executor.poll_ended(&mut self.place, cx.waker()).is_ready();
        }
        Poll::Ready(ShutdownReport { ended, ..executor.report() })
    }
}

impl Future for ShutdownFuture {
    type Output = ShutdownReport;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.poll_report(cx);
        self.is_over = polled.is_ready();
        self.pending_here.note(&polled, cx, || Awaited::Shutdown);
        polled
    }
}

impl FusedFuture for ShutdownFuture {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl Drop for ShutdownFuture {
    fn drop(&mut self) {
        if let Some(executor) = self.executor.as_ref().filter(|_| self.place.is_some()) {
            executor.give_up(self.place);
        }
    }
}

impl fmt::Debug for ShutdownFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownFuture")
            .field("deadline", &self.deadline.as_ref().map(Delay::limit))
            .finish_non_exhaustive()
    }
}
