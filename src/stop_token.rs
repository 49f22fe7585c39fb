//! A stop request as a value: for the threads that a job starts, and for a program that stops work from outside.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_core::future::FusedFuture;

use crate::core::waiters::Place;
use crate::core::{Awaited, StopFlag, TaskRef, context};
use crate::error::Error;

/// A stop request that any thread can look at, or wait for.
///
/// [`task::stop_requested`](crate::task::stop_requested) answers for the job that runs on this thread. A job
/// that hands its work to other threads, as with `rayon` or [`std::thread::scope`], takes its token by
/// [`task::stop_token`](crate::task::stop_token) and gives a clone to each. [`StopToken::new`] makes a
/// token that the program sets itself.
///
/// Clones are cheap, and are set together. A token that is set stays so.
///
/// A job's token may be kept after the end of the job. It has no part in the task then, keeps none of its
/// memory but a flag, and is not set by what becomes of later tasks on the same worker. It may still be set
/// by what the job belonged to: the pool, at the deadline of its shutdown, or the map.
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor, task};
/// use std::thread;
///
/// let pool = ThreadPoolExecutor::new();
/// let future = pool.submit(|| {
///     let token = task::stop_token();
///     thread::scope(|scope| {
///         let halves = [0..500_u64, 500..1_000].map(|range| {
///             let token = token.clone();
///             scope.spawn(move || {
///                 let mut sum = 0;
///                 for n in range {
///                     token.checkpoint()?;
///                     sum += n;
///                 }
///                 Ok::<_, Error>(sum)
///             })
///         });
///         halves.into_iter().map(|half| half.join().unwrap()).sum::<Result<u64, _>>()
///     })
/// });
/// assert_eq!(future.result()??, 499_500);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct StopToken(Arc<Inner>);

struct Inner {
    /// The token is set once one of them is. None: never.
    flags: Vec<Arc<StopFlag>>,
    /// The time limit of the job, and when it is reached.
    limit: Option<(Duration, Instant)>,
}

impl StopToken {
    /// Makes a token that is set by [`StopSource::stop`].
    ///
    /// ```
    /// use concurrent_futures::StopToken;
    ///
    /// let (source, token) = StopToken::new();
    /// let worker = std::thread::spawn(move || while !token.stop_requested() {});
    /// source.stop();
    /// worker.join().unwrap();
    /// ```
    #[allow(clippy::new_ret_no_self, reason = "as `channel`: two ends of one thing")]
    pub fn new() -> (StopSource, Self) {
        let flag = Arc::<StopFlag>::default();
        let token = Self::of(vec![Arc::clone(&flag)]);
        (StopSource(flag), token)
    }

    /// The token of the job that runs on this thread; one that is never set outside of a job.
    pub(crate) fn of_job() -> Self {
        Self(Arc::new(Inner { flags: context::stop_flags(), limit: context::limit() }))
    }

    /// Returns whether the stop was requested. Cheap: a load or two.
    pub fn stop_requested(&self) -> bool {
        self.0.flags.iter().any(|flag| flag.is_set())
    }

    /// [`stop_requested`](Self::stop_requested) for use with `?`, as
    /// [`task::checkpoint`](crate::task::checkpoint).
    ///
    /// # Errors
    ///
    /// If the stop was requested: [`Error::TimedOut`] if the job's [time limit](Self::deadline) has passed,
    /// else [`Error::Cancelled`].
    pub fn checkpoint(&self) -> Result<(), Error> {
        if !self.stop_requested() {
            return Ok(());
        }
        let passed = self.0.limit.filter(|(_, deadline)| *deadline <= Instant::now());
        Err(passed.map_or(Error::Cancelled, |(limit, _)| Error::TimedOut { limit, started: true }))
    }

    /// When the token's job reaches its time limit, as [`task::deadline`](crate::task::deadline). `None` if
    /// there is none, and for a token of [`StopToken::new`].
    pub fn deadline(&self) -> Option<Instant> {
        self.0.limit.map(|(_, deadline)| deadline)
    }

    /// Waits for the stop request. Pending for ever if none comes, also after the end of the job.
    ///
    /// ```
    /// use concurrent_futures::StopToken;
    ///
    /// # futures::executor::block_on(async {
    /// let (source, token) = StopToken::new();
    /// std::thread::spawn(move || source.stop());
    /// token.stopped().await;
    /// assert!(token.stop_requested());
    /// # });
    /// ```
    pub fn stopped(&self) -> Stopped {
        let places = vec![None; self.0.flags.len()];
        Stopped { token: self.clone(), places, is_over: false, pending_here: Default::default() }
    }
}

impl StopToken {
    /// Makes a token that is set once one of the flags is.
    pub(crate) fn of(flags: Vec<Arc<StopFlag>>) -> Self {
        Self(Arc::new(Inner { flags, limit: None }))
    }

    /// The requests that set the token.
    pub(crate) fn flags(&self) -> &[Arc<StopFlag>] {
        &self.0.flags
    }

    /// Has the task cancelled once the token is set. O(1), and over at the end of the task.
    pub(crate) fn attach(&self, task: TaskRef) {
        let cancel = Waker::from(Arc::new(Cancel(task.clone())));
        let flags = self.0.flags.iter().map(|flag| {
            let mut place = None;
            flag.leave(&mut place, &cancel);
            (Arc::downgrade(flag), place)
        });
        let detach = Arc::new(Detach(flags.collect()));
        // After the wakers are there: a request that this look does not see finds them.
        if self.stop_requested() {
            cancel.wake();
        }
        if task.poll_done(&mut None, &Waker::from(Arc::clone(&detach))).is_ready() {
            detach.wake();
        }
    }
}

/// Woken by the token: cancels the task.
struct Cancel(TaskRef);

impl Wake for Cancel {
    fn wake(self: Arc<Self>) {
        self.0.runnable().cancel();
    }
}

/// Woken by the end of the task: leaves the flags. It has no part in them, since a flag has the task: one
/// that nothing can wake any more ends with the last source and token.
struct Detach(Vec<(Weak<StopFlag>, Place)>);

impl Wake for Detach {
    fn wake(self: Arc<Self>) {
        for (flag, place) in &self.0 {
            if let Some(flag) = flag.upgrade() {
                flag.give_up(*place);
            }
        }
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken")
            .field("stop_requested", &self.stop_requested())
            .field("deadline", &self.deadline())
            .finish()
    }
}

/// Sets the tokens that were made with it. Made by [`StopToken::new`]; clones are cheap, and set the same
/// tokens.
///
/// # Drop
///
/// Dropping the last clone does not stop: the tokens are never set then.
#[derive(Clone)]
pub struct StopSource(Arc<StopFlag>);

impl StopSource {
    /// Sets the tokens. Wakes those who [wait](StopToken::stopped) for it before it returns. Idempotent.
    pub fn stop(&self) {
        self.0.set();
    }

    /// Returns whether [`stop`](Self::stop) was called.
    pub fn stop_requested(&self) -> bool {
        self.0.is_raised()
    }
}

impl fmt::Debug for StopSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopSource").field("stop_requested", &self.stop_requested()).finish()
    }
}

/// The future of [`StopToken::stopped`].
///
/// # Cancel safety
///
/// It can be dropped at any moment, and leaves nothing behind.
#[must_use = "futures do nothing unless polled"]
pub struct Stopped {
    token: StopToken,
    /// The place among the waiters of each flag.
    places: Vec<Place>,
    is_over: bool,
    pending_here: context::Pending,
}

impl Future for Stopped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut polled = Poll::Pending;
        for (flag, place) in this.token.0.flags.iter().zip(&mut this.places) {
            if flag.poll(place, cx.waker()).is_ready() {
                polled = Poll::Ready(());
                break;
            }
        }
        this.is_over = polled.is_ready();
        this.pending_here.note(&polled, cx, || Awaited::Stop);
        polled
    }
}

impl FusedFuture for Stopped {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for (flag, place) in self.token.0.flags.iter().zip(&self.places) {
            if place.is_some() {
                flag.give_up(*place);
            }
        }
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").field("token", &self.token).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Outcome, Promise};

    fn attached(token: &StopToken) -> (Promise<u8>, Outcome<u8>) {
        let (promise, outcome) = Promise::<u8>::of(());
        token.attach(outcome.task().clone());
        (promise, outcome)
    }

    #[test]
    fn a_task_that_is_done_leaves_its_token() {
        let (source, token) = StopToken::new();
        let (promise, outcome) = attached(&token);
        assert_eq!(source.0.waiting(), 1);
        promise.keep(Ok(1), || ());
        assert_eq!(source.0.waiting(), 0);
        token.attach(outcome.task().clone());
        assert_eq!(source.0.waiting(), 0, "it is done");
        let (_promise, pending) = attached(&token);
        source.stop();
        assert_eq!(source.0.waiting(), 0);
        assert!(pending.look().is_cancelled() && !outcome.look().is_cancelled());
        assert!(attached(&token).1.look().is_cancelled());
    }

    #[test]
    fn a_source_that_is_gone_keeps_no_task() {
        let (source, token) = StopToken::new();
        let (_promise, outcome) = attached(&token);
        let flag = Arc::downgrade(&source.0);
        drop((source, token));
        assert!(flag.upgrade().is_none());
        assert!(!outcome.is_done());
    }
}
