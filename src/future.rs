//! The caller's handle of a task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::core::TaskId;
use crate::core::set::CompletionSet;
use crate::core::state::Kind;
use crate::core::{
    Awaited, Extra, Failure, OnUnobserved, Options, Outcome, Promise, Refused, Source, TaskRef,
    context, parker,
};
use crate::error::Error;
use crate::label::Label;
use crate::panic::KeptWaker;
use crate::sync::Mutex;
use crate::timer::deadline;

/// The result of a submitted task, as a future.
///
/// Await it on any executor, or block on it with [`result`](Self::result). The task runs whether
/// or not anyone polls.
///
/// # Drop
///
/// Dropping the future withdraws the task if it has not started, and drops its closure at once.
/// So a client that hangs up, `select!` and `tokio::time::timeout` leave no dead work in the
/// queue. A task that has started runs on and its result is dropped. [`detach`](Self::detach)
/// lets the task run unobserved; a future with a done-callback is detached when dropped.
///
/// # Cancel safety
///
/// Polling takes nothing until it is ready, so `&mut future` can be awaited in `select!` again
/// and again. Awaiting the future itself moves it into the await; see above for its drop.
///
/// # Examples
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let answer = pool.submit(|| 6 * 7).await?;
/// assert_eq!(answer, 42);
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a TaskFuture withdraws its task if it has not started; await it, or call `detach()`"]
pub struct TaskFuture<T> {
    outcome: Outcome<T>,
    /// The drop has nothing to do: the task was detached, or its result was taken.
    released: bool,
    /// The drop ends the task also if it runs.
    kills: bool,
    pending_here: context::Pending,
}

impl<T> TaskFuture<T> {
    pub(crate) fn new(outcome: Outcome<T>) -> Self {
        Self { outcome, released: false, kills: false, pending_here: context::Pending::default() }
    }

    /// A future that is finished from the start.
    pub(crate) fn ready(outcome: Result<T, Error>) -> Self
    where
        T: Send + 'static,
    {
        Self::new(Promise::kept(outcome, ()))
    }

    /// A future whose task the pool of this name has refused.
    #[cfg(feature = "process")]
    pub(crate) fn refused(
        error: Error,
        label: Option<Label>,
        on_unobserved: &OnUnobserved,
        pool: &str,
    ) -> Self {
        Self::new(refused(error, label, on_unobserved, pool).into_outcome())
    }

    /// A future that is completed by hand, to bridge code that reports by callback, and for
    /// tests. It counts as pending until then, never as running.
    ///
    /// ```
    /// use concurrent_futures::TaskFuture;
    ///
    /// let (completer, future) = TaskFuture::promise();
    /// std::thread::spawn(move || completer.complete(Ok("done")));
    /// assert_eq!(future.result()?, "done");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn promise() -> (Completer<T>, TaskFuture<T>)
    where
        T: Send + 'static,
    {
        let closing = Arc::new(Closing::default());
        let (promise, outcome) = Promise::of(Arc::clone(&closing));
        (Completer { promise, closing }, Self::new(outcome))
    }

    /// Withdraws the task. `true` if it will not run: then the future is finished, at once, with
    /// [`Error::Cancelled`], and the job has been dropped on this thread. Idempotent.
    ///
    /// If the job is running, the answer is `false` and its stop request is set, which the job
    /// sees as [`task::stop_requested`](crate::task::stop_requested). A future given to
    /// `submit_future` that is waiting is dropped at once, one that is being polled at its next
    /// wait. A finished task stays as it is: `false`.
    pub fn cancel(&self) -> bool {
        self.outcome.task().runnable().cancel()
    }

    /// Ends the task for certain, also one that runs, if it runs in a worker process: the process
    /// is killed and replaced, and with it goes whatever the task has started. `true` if the task
    /// has no result and will have none; the future is finished then, with [`Error::Cancelled`].
    /// Nothing else is lost: what was waiting for that process runs in another.
    ///
    /// A thread can't be killed, so there this is the same as [`cancel`](Self::cancel).
    pub fn kill(&self) -> bool {
        self.outcome.task().runnable().kill()
    }

    /// Has the drop of this future [`kill`](Self::kill) its task, instead of letting a started one
    /// run on.
    pub fn kill_on_drop(mut self) -> Self {
        self.kills = true;
        self
    }

    /// Lets the task run without anyone waiting for it; its result is dropped.
    pub fn detach(mut self) {
        self.released = true;
        self.outcome.abandon();
    }

    /// Returns whether there is a result: a value or an error. Stays true when it has been taken.
    pub fn is_done(&self) -> bool {
        self.outcome.is_done()
    }

    /// Returns whether the task has started and not finished. A task inside `submit_future` counts as
    /// running from its first poll on.
    pub fn is_running(&self) -> bool {
        let now = self.outcome.look();
        !now.is_done() && (now.is_underway() || self.outcome.task().runnable().is_running())
    }

    /// Returns whether the task ended with [`Error::Cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.outcome.look().is_cancelled()
    }

    /// The number of the task, the same as [`task::id`](crate::task::id) inside of the job.
    pub fn id(&self) -> TaskId {
        self.outcome.task().id()
    }

    /// The label of the task: that given with [`TaskOptions::label`](crate::TaskOptions::label); else, of a
    /// [`call!`](crate::call), the path of its function, on pools of threads and processes.
    pub fn label(&self) -> Option<&str> {
        self.outcome.task().runnable().label().map(|label| &**label)
    }

    /// Waits for the result by blocking this thread.
    ///
    /// Inside a job this can't deadlock the pool, not even one with a single worker: a task of
    /// the same pool that is still queued runs in place, on the waiting job's stack; for one that
    /// runs elsewhere the worker lends its place to a spare thread while it waits. The spare is
    /// also used when too little of the worker's stack is left: each job has
    /// [`stack_size`](crate::ThreadPoolBuilder::stack_size). The same holds for destructors,
    /// callbacks and wakers that run on a worker. Only jobs that wait for each other in a circle
    /// wait for ever.
    ///
    /// Called in async code, it blocks the thread that polls; await the future there instead. In debug builds
    /// this and all other waits report on stderr, once for each line of code, that they block a task of tokio.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result(mut self) -> Result<T, Error> {
        if !self.is_done() {
            self.outcome.task().runnable().run_in_place();
        }
        if self.is_done() {
            return self.take();
        }
        let awaited = self.awaited();
        match parker::block_on(|| awaited, None, |cx| self.poll_outcome(cx)) {
            Some(outcome) => outcome,
            None => unreachable!("a wait without a limit ends with a result"),
        }
    }

    /// Waits for the result by blocking this thread, for at most `limit`. `None` if there is no result by
    /// then: the task goes on, and the future is as before.
    ///
    /// ```
    /// use concurrent_futures::TaskFuture;
    /// use std::time::Duration;
    ///
    /// let (completer, mut future) = TaskFuture::promise();
    /// assert!(future.result_timeout(Duration::from_millis(1)).is_none());
    /// completer.complete(Ok(7));
    /// assert!(matches!(future.result_timeout(Duration::from_millis(1)), Some(Ok(7))));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result_timeout(&mut self, limit: Duration) -> Option<Result<T, Error>> {
        if self.is_done() {
            return Some(self.take());
        }
        if limit.is_zero() {
            return None;
        }
        let awaited = self.awaited();
        let polled =
            parker::block_on(|| awaited, Some(deadline(limit)), |cx| self.poll_outcome(cx));
        if polled.is_none() {
            self.outcome.unlisten();
        }
        polled
    }

    /// Calls `callback` with the result: on the worker that finishes the task, just before
    /// anybody else sees that it has finished; on the thread that cancels it; or here and now if
    /// it has finished. A panicking callback is reported by the panic hook and harms nothing.
    /// If the result has been taken already, the callback gets [`Error::ResultTaken`].
    ///
    /// A future that has had a callback is detached when dropped.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    /// use std::sync::mpsc;
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let (sender, results) = mpsc::channel();
    /// let future = pool.submit(|| 3 * 3);
    /// future.add_done_callback(move |result| {
    ///     if let Ok(nine) = result {
    ///         let _ = sender.send(*nine);
    ///     }
    /// });
    /// drop(future); // the callback still comes
    /// assert_eq!(results.recv(), Ok(9));
    /// ```
    pub fn add_done_callback<F>(&self, callback: F)
    where
        F: FnOnce(&Result<T, Error>) + Send + 'static,
    {
        self.outcome.add_callback(callback);
    }

    /// Another reference to the task.
    pub(crate) fn task(&self) -> TaskRef {
        self.outcome.task().clone()
    }

    /// The future as a dump shows it to be waited for.
    fn awaited(&self) -> Awaited {
        Awaited::Task(self.id())
    }

    pub(crate) fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<Result<T, Error>> {
        let polled = self.outcome.poll(cx);
        self.released |= polled.is_ready();
        polled
    }

    /// Takes the result of a future that is done.
    pub(crate) fn take(&mut self) -> Result<T, Error> {
        self.released = true;
        self.outcome.take()
    }

    /// Has `set` told once this future is done; `false` if it is done already.
    pub(crate) fn listen(&mut self, set: &Arc<CompletionSet>, index: usize) -> bool {
        self.outcome.listen(set, index)
    }

    pub(crate) fn unlisten(&mut self) {
        self.outcome.unlisten();
    }

    /// The future is about to be handed over as one that is done, so that its failure is seen.
    pub(crate) fn observe_failure(&self) {
        self.outcome.observe_failure();
    }

    /// Returns whether it ended with an error other than `Cancelled`.
    pub(crate) fn is_failed(&self) -> bool {
        self.outcome.look().is_failed()
    }
}

/// The failure of a future whose task the pool of this name has refused.
pub(crate) fn refused(
    error: Error,
    label: Option<Label>,
    on_unobserved: &OnUnobserved,
    pool: &str,
) -> Failure {
    if !on_unobserved.is_heard() {
        return Failure::new(error, ());
    }
    let extra = Extra::new(Options { label, ..Options::default() });
    let (on_unobserved, pool) = (on_unobserved.clone(), pool.to_owned());
    Failure::new(error, Refused { extra, on_unobserved, pool })
}

impl<T> Future for TaskFuture<T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = this.poll_outcome(cx);
        let task = this.outcome.task();
        this.pending_here.note(&polled, cx, || Awaited::Task(task.id()));
        polled
    }
}

impl<T> Drop for TaskFuture<T> {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let task = self.outcome.task();
        self.pending_here.over(|| Awaited::Task(task.id()));
        let now = self.outcome.look();
        if !now.is_done() {
            // The withdrawal ends the future, and must not wake its own waker.
            self.outcome.unlisten();
            let task = self.outcome.task();
            if self.kills {
                task.runnable().kill();
            } else if !now.is_observed() {
                task.runnable().withdraw_unstarted();
            }
        }
        self.outcome.abandon();
    }
}

impl<T> fmt::Debug for TaskFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.outcome.look();
        let mut debug = f.debug_struct("TaskFuture");
        debug.field("id", &self.id());
        if let Some(label) = self.label() {
            debug.field("label", &label);
        }
        let state = if now.is_cancelled() {
            "cancelled".to_owned()
        } else if let Some(error) = now.kind().filter(|_| now.is_done()).and_then(Kind::error_name)
        {
            format!("finished raised {error}")
        } else if now.is_done() {
            format!("finished returned {}", std::any::type_name::<T>())
        } else if self.is_running() {
            "running".to_owned()
        } else {
            "pending".to_owned()
        };
        debug.field("state", &format_args!("{state}")).finish()
    }
}

/// The other end of a [`TaskFuture::promise`].
///
/// Completing takes the completer, so a second completion can't be written:
///
/// ```compile_fail,E0382
/// let (completer, _future) = concurrent_futures::TaskFuture::promise();
/// completer.complete(Ok(1));
/// completer.complete(Ok(2));
/// ```
///
/// # Drop
///
/// Dropping it without completing ends the future with [`Error::Cancelled`].
pub struct Completer<T: Send + 'static> {
    promise: Promise<T>,
    closing: Arc<Closing>,
}

/// Set once a promise's future was given up, with the waker for that moment.
#[derive(Default)]
struct Closing(Mutex<(bool, Option<KeptWaker>)>);

impl Closing {
    fn close(&self) {
        let waker = {
            let (is_closed, waker) = &mut *self.0.lock();
            *is_closed = true;
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_closed(&self) -> bool {
        self.0.lock().0
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let waker = KeptWaker::new(cx.waker()); // user code, so it is cloned and dropped without the lock
        let (is_closed, before) = {
            let (is_closed, kept) = &mut *self.0.lock();
            (*is_closed, kept.replace(waker))
        };
        drop(before);
        if is_closed { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Source for Arc<Closing> {
    fn withdraw(&self, _task: TaskId, _stop: bool) -> bool {
        self.close();
        true
    }

    fn kill(&self, _task: TaskId) -> bool {
        self.close();
        true
    }

    fn is_withdrawn_on_drop(&self) -> bool {
        true
    }
}

impl<T: Send + 'static> Completer<T> {
    /// Finishes the future. Its callbacks run on this thread. If the future was cancelled, the
    /// result is dropped.
    pub fn complete(self, result: Result<T, Error>) {
        self.promise.keep(result, || ());
    }

    /// Returns whether the result is not wanted any more: the future was cancelled, or dropped without a
    /// callback. A [detached](TaskFuture::detach) future is not closed.
    pub fn is_closed(&self) -> bool {
        self.closing.is_closed()
    }

    /// Waits until the result is not wanted any more, so that its making can be broken off.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again at any moment.
    ///
    /// ```
    /// use concurrent_futures::TaskFuture;
    ///
    /// # futures::executor::block_on(async {
    /// let (mut completer, future) = TaskFuture::<String>::promise();
    /// std::thread::spawn(move || drop(future)); // the client hangs up
    /// completer.closed().await;
    /// assert!(completer.is_closed());
    /// # });
    /// ```
    pub fn closed(&mut self) -> impl Future<Output = ()> + Send + Unpin {
        std::future::poll_fn(|cx| self.closing.poll(cx))
    }
}

impl<T: Send + 'static> Drop for Completer<T> {
    fn drop(&mut self) {
        self.promise.keep(Err(Error::Cancelled), || ());
    }
}

impl<T: Send + 'static> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("id", &self.promise.id())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}
