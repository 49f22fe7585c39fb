//! The task cell and its two faces.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::completion::Completion;
use super::context::{self, End, WorkerContext};
use super::state::{Claim, State, Suspend};
use crate::error::Error;
use crate::panic::{catch, drop_quietly};
use crate::sync::Mutex;
use crate::timer::{Timer, deadline};

/// Names a task. Unique within the process, and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NonZeroU64::new(NEXT.fetch_add(1, Relaxed)).unwrap_or(NonZeroU64::MAX))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a submitter may ask for one task.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) label: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) queue_timeout: Option<Duration>,
}

/// The part of a task that only few tasks have.
struct Extra {
    options: Options,
    deadline: OnceLock<Instant>,
    timer: Mutex<Option<Timer>>,
}

/// What is known of a task, whatever its types.
pub(crate) struct Info {
    id: TaskId,
    submitted: Instant,
    /// Counts against the queue's capacity until it starts.
    takes_room: bool,
    extra: Option<Box<Extra>>,
}

impl Info {
    fn new(options: Option<Options>, takes_room: bool) -> Self {
        let extra = |options| {
            Box::new(Extra { options, deadline: OnceLock::new(), timer: Mutex::new(None) })
        };
        Self {
            id: TaskId::next(),
            submitted: Instant::now(),
            takes_room,
            extra: options.map(extra),
        }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        self.extra.as_ref().and_then(|extra| extra.options.label.as_ref())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.extra.as_ref().and_then(|extra| extra.deadline.get().copied())
    }

    fn disarm(&self) {
        if let Some(extra) = &self.extra {
            let timer = extra.timer.lock().take();
            drop(timer);
        }
    }
}

/// What a task computes. A closure is a computation that is ready at its first poll, so one cell
/// serves closures and futures.
pub(crate) trait Body: Send + 'static {
    type Output: Send + 'static;

    /// Whether a poll may come back without a value.
    const ASYNC: bool;

    fn poll(&mut self, waker: &dyn Fn() -> Waker) -> Poll<Self::Output>;
}

/// What a task needs of the pool that it was submitted to.
pub(crate) trait Host: Send + Sync + 'static {
    /// Runs `take` under the queue's lock. If it says that it took a queued task, the entry that
    /// stays behind in the queue is counted as dead.
    fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool;

    /// Queues a woken task again.
    fn requeue(self: &Arc<Self>, task: Arc<dyn Runnable>);

    /// A task that had not started has left the queue; there is room for another.
    fn release_room(&self);

    /// An accepted task was withdrawn.
    fn count_cancelled(&self);

    /// A task has run into its time limit.
    fn count_failed(&self);

    /// A task with an async body has ended.
    fn async_ended(&self, id: TaskId);

    /// All jobs of the pool are asked to stop.
    fn is_stopping(&self) -> bool;
}

/// The worker's side of a task.
pub(crate) trait Runnable: Send + Sync {
    fn info(&self) -> &Info;

    /// Takes the task to run it, unless somebody was faster.
    fn claim(&self) -> Option<Claimed>;

    /// Runs the claimed task on this thread, which is a worker.
    fn run(self: Arc<Self>, worker: &dyn WorkerContext, claimed: Claimed);

    /// Whether the entry in the queue still stands for a task that waits for a worker.
    fn is_queued(&self) -> bool;

    fn is_started(&self) -> bool;

    /// Withdraws a task that has not started; called under the queue's lock, so that it is counted
    /// before anybody can find the queue empty. The rest is for `taken_out`, without the lock.
    fn take_out(&self) -> bool;

    fn taken_out(self: Arc<Self>, error: Error);

    /// Ends a task that is queued or suspended; a running one is asked to stop.
    fn withdraw(self: Arc<Self>, error: Error);

    fn is_stop_requested(&self) -> bool;
}

/// The right to run a task, from [`Runnable::claim`].
#[must_use]
pub(crate) struct Claimed {
    first: bool,
}

/// The caller's side of a task.
pub(crate) trait Outcome<T>: Send + Sync {
    fn completion(&self) -> &Completion<T>;

    fn info(&self) -> &Info;

    /// Ends the task, if it does not run at this moment; else asks it to stop. Tells whether it
    /// ended.
    fn cancel(self: Arc<Self>) -> bool;

    /// The future is dropped: ends the task if it has not started.
    fn withdraw_unstarted(self: Arc<Self>);

    /// Runs the task on this thread, if that is a worker of its pool, the task is queued, and
    /// the stack has room.
    fn run_in_place(self: Arc<Self>);

    fn is_running(&self) -> bool;
}

/// One allocation: what the queue, the worker and the future share.
pub(crate) struct Task<B: Body, H: Host> {
    state: State,
    info: Info,
    host: Arc<H>,
    /// Whoever moves `state` away from `QUEUED` or `SUSPENDED` takes it.
    body: Mutex<Option<B>>,
    completion: Completion<B::Output>,
}

impl<B: Body, H: Host> Task<B, H> {
    pub(crate) fn new(
        host: &Arc<H>,
        body: B,
        options: Option<Options>,
        takes_room: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: State::new(),
            info: Info::new(options, takes_room),
            host: Arc::clone(host),
            body: Mutex::new(Some(body)),
            completion: Completion::new(),
        })
    }

    /// Starts the clock of `queue_timeout`, once the task is queued.
    pub(crate) fn start_queue_clock(self: &Arc<Self>) {
        let Some(extra) = &self.info.extra else { return };
        let Some(limit) = extra.options.queue_timeout else { return };
        let expire = self.when_alive(move |task| {
            task.withdraw_in_queue(Error::TimedOut { limit, started: false });
        });
        let mut timer = extra.timer.lock();
        // Whoever claims or ends the task looks at the timer after that, so none is left behind.
        if self.state.is_queued() && !self.state.is_started() {
            *timer = Some(Timer::new(deadline(limit), expire));
        }
    }

    fn release_room(&self) {
        if self.info.takes_room {
            self.host.release_room();
        }
    }

    /// The body, for whoever has the right to it: the thread that moved the state, or the
    /// submitter of a task that was refused and that nobody else has seen.
    pub(crate) fn take_body(&self) -> Option<B> {
        self.body.lock().take()
    }

    /// An action for the timer, which must not keep the task alive.
    fn when_alive(
        self: &Arc<Self>,
        f: impl FnOnce(Arc<Self>) + Send + 'static,
    ) -> Box<dyn FnOnce() + Send> {
        let task: Weak<Self> = Arc::downgrade(self);
        Box::new(move || {
            if let Some(task) = task.upgrade() {
                f(task);
            }
        })
    }

    /// Withdraws a task that has an entry in the queue and has not started.
    fn withdraw_in_queue(&self, error: Error) -> bool {
        let taken = self.host.take_queued(&mut || {
            let taken = self.state.withdraw_unstarted();
            if taken {
                self.host.count_cancelled();
            }
            taken
        });
        if taken {
            self.release_room();
            self.withdrawn(error, || ());
        }
        taken
    }

    /// Ends a task that has started and whose state has just been moved to `ENDED` by this
    /// thread. It is not counted if its time limit has finished the future already.
    fn broken_off(&self, error: Error) {
        self.withdrawn(error, || self.host.count_cancelled());
    }

    /// Ends a task whose state has just been moved to `ENDED` by this thread.
    fn withdrawn(&self, error: Error, account: impl FnOnce()) {
        self.info.disarm();
        drop_quietly(self.take_body());
        let settled = self.completion.settle(Err(error), account);
        drop_quietly(settled);
        if B::ASYNC {
            self.host.async_ended(self.info.id);
        }
    }

    /// Starts the clock of `timeout`: at the limit the future ends, and the job is asked to stop.
    fn start_clock(self: &Arc<Self>) {
        let Some(extra) = &self.info.extra else { return };
        let timer = extra.options.timeout.map(|limit| {
            let at = *extra.deadline.get_or_init(|| deadline(limit));
            let expire = self.when_alive(move |task| {
                // First the right to say what came of it: who sees the request may end at once.
                if task.completion.begin() {
                    task.state.request_stop();
                    let error = Error::TimedOut { limit, started: true };
                    task.completion.conclude(Err(error), || task.host.count_failed());
                }
                if B::ASYNC && task.state.withdraw_suspended() {
                    task.broken_off(Error::Cancelled);
                }
            });
            Timer::new(at, expire)
        });
        let queue_timer = std::mem::replace(&mut *extra.timer.lock(), timer);
        drop(queue_timer);
    }

    /// Ends a task that this thread runs.
    fn finish(
        &self,
        outcome: Result<B::Output, Error>,
        worker: &dyn WorkerContext,
        since: Instant,
    ) {
        self.info.disarm();
        let end = if outcome.is_ok() { End::Completed } else { End::Failed };
        if let Err(late) = self.completion.settle(outcome, || worker.stopped(since.elapsed(), end))
        {
            // The time limit has finished the future already, and has counted it.
            worker.stopped(since.elapsed(), End::Uncounted);
            drop_quietly(late);
        }
        // After the result is there: an ended task without one is a withdrawn task.
        self.state.end();
        if B::ASYNC {
            self.host.async_ended(self.info.id);
        }
    }

    fn suspend(self: Arc<Self>, body: B, worker: &dyn WorkerContext, since: Instant) {
        *self.body.lock() = Some(body);
        match self.state.suspend() {
            Suspend::Waiting => worker.stopped(since.elapsed(), End::Uncounted),
            Suspend::Requeue => {
                worker.stopped(since.elapsed(), End::Uncounted);
                self.host.requeue(self.clone());
            }
            Suspend::Stop => {
                worker.stopped(since.elapsed(), End::Uncounted);
                self.broken_off(Error::Cancelled);
            }
        }
    }
}

/// A suspended body that nobody can wake, since its waker and its future are gone, has ended.
impl<B: Body, H: Host> Drop for Task<B, H> {
    fn drop(&mut self) {
        if B::ASYNC && self.state.is_underway() {
            self.broken_off(Error::Cancelled);
        }
    }
}

impl<B: Body, H: Host> Runnable for Task<B, H> {
    fn info(&self) -> &Info {
        &self.info
    }

    fn claim(&self) -> Option<Claimed> {
        match self.state.claim() {
            Claim::Lost => None,
            Claim::First => Some(Claimed { first: true }),
            Claim::Again => Some(Claimed { first: false }),
        }
    }

    fn run(self: Arc<Self>, worker: &dyn WorkerContext, claimed: Claimed) {
        let Some(mut body) = self.take_body() else { unreachable!("a claimed task has its body") };
        let since = Instant::now();
        let queue_time = claimed.first.then(|| since - self.info.submitted);
        worker.started(&self.info, queue_time);
        if claimed.first {
            self.release_room();
            self.start_clock();
        }
        let polled = context::run_in_frame(self.clone(), B::ASYNC, || {
            catch(|| body.poll(&|| Waker::from(Arc::clone(&self))))
        });
        match polled {
            Ok(Poll::Pending) => self.suspend(body, worker, since),
            Ok(Poll::Ready(value)) => {
                drop_quietly(body);
                self.finish(Ok(value), worker, since);
            }
            Err(panicked) => {
                drop_quietly(body);
                self.finish(Err(Error::Panicked(Box::new(panicked))), worker, since);
            }
        }
    }

    fn is_queued(&self) -> bool {
        self.state.is_queued()
    }

    fn is_started(&self) -> bool {
        self.state.is_started()
    }

    fn take_out(&self) -> bool {
        let taken = self.state.withdraw_unstarted();
        if taken {
            self.host.count_cancelled();
        }
        taken
    }

    fn taken_out(self: Arc<Self>, error: Error) {
        self.release_room();
        self.withdrawn(error, || ());
    }

    fn withdraw(self: Arc<Self>, error: Error) {
        // Asked first: a body that is suspended from here on sees the request.
        self.state.request_stop();
        // Again if a wake-up came between the two looks, so that neither found it.
        while self.state.is_at_rest() {
            let mut started = None;
            self.host.take_queued(&mut || {
                started = self.state.withdraw_queued();
                started.is_some()
            });
            if started == Some(false) {
                self.release_room();
            }
            if started.is_some() || self.state.withdraw_suspended() {
                return self.broken_off(error);
            }
        }
    }

    fn is_stop_requested(&self) -> bool {
        self.state.is_stop_requested() || self.host.is_stopping()
    }
}

impl<B: Body, H: Host> Outcome<B::Output> for Task<B, H> {
    fn completion(&self) -> &Completion<B::Output> {
        &self.completion
    }

    fn info(&self) -> &Info {
        &self.info
    }

    fn cancel(self: Arc<Self>) -> bool {
        if self.completion.is_done() {
            return self.completion.is_cancelled();
        }
        if self.withdraw_in_queue(Error::Cancelled) {
            return true;
        }
        Arc::clone(&self).withdraw(Error::Cancelled);
        // Ended without a result: another thread is withdrawing it right now.
        self.state.is_ended() && (!self.completion.is_done() || self.completion.is_cancelled())
    }

    fn withdraw_unstarted(self: Arc<Self>) {
        self.withdraw_in_queue(Error::Cancelled);
    }

    fn run_in_place(self: Arc<Self>) {
        let host = Arc::as_ptr(&self.host).cast();
        let Some(worker) = context::worker() else { return };
        if worker.host() != host || !worker.has_stack() {
            return;
        }
        let mut claimed = None;
        self.host.take_queued(&mut || {
            claimed = self.claim();
            claimed.is_some()
        });
        if let Some(claimed) = claimed {
            self.run(&*worker, claimed);
        }
    }

    fn is_running(&self) -> bool {
        self.state.is_underway() && !self.completion.is_done()
    }
}

/// The waker of an async body queues its task.
impl<B: Body, H: Host> Wake for Task<B, H> {
    fn wake(self: Arc<Self>) {
        if self.state.wake() {
            self.host.requeue(self.clone());
        }
    }
}

/// A completion without a task behind it: finished at once, or by hand.
pub(crate) struct Promise<T> {
    pub(crate) info: Info,
    pub(crate) completion: Completion<T>,
}

impl<T> Promise<T> {
    pub(crate) fn new(completion: Completion<T>) -> Arc<Self> {
        Arc::new(Self { info: Info::new(None, false), completion })
    }
}

impl<T: Send> Outcome<T> for Promise<T> {
    fn completion(&self) -> &Completion<T> {
        &self.completion
    }

    fn info(&self) -> &Info {
        &self.info
    }

    fn cancel(self: Arc<Self>) -> bool {
        drop_quietly(self.completion.settle(Err(Error::Cancelled), || ()));
        self.completion.is_being_cancelled()
    }

    fn withdraw_unstarted(self: Arc<Self>) {}

    fn run_in_place(self: Arc<Self>) {}

    fn is_running(&self) -> bool {
        false
    }
}
