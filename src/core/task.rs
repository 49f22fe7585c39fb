//! A submitted job: claimed, run, withdrawn.

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::cell::{Cell, Header, TaskRef, VTable, free_block, make_block, put_back};
use super::context::{self, End, WorkerContext};
use super::id::TaskId;
use super::outcome::{Outcome, Publisher, publish};
use super::state::{Claim, Kind, Snapshot, State, Suspend};
use super::unobserved::{OnUnobserved, UnobservedFailure};
use crate::clock;
use crate::error::Error;
use crate::instruments::Instruments;
use crate::panic::{Panicked, drop_quietly};
use crate::sync::Mutex;
use crate::timer::{Timer, deadline};
use crate::trace::TaskTrace;

/// What a submitter may ask for one task.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) label: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) queue_timeout: Option<Duration>,
}

/// The part of a task that only those with options have.
pub(crate) struct Extra {
    options: Options,
    deadline: OnceLock<Instant>,
    timer: Mutex<Option<Timer>>,
}

impl Extra {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, deadline: OnceLock::new(), timer: Mutex::new(None) }
    }

    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        self.options.label.as_ref()
    }

    /// The clock of `timeout` has been started elsewhere.
    #[cfg(feature = "process")]
    pub(crate) fn with_deadline(options: Options, deadline: Option<Instant>) -> Self {
        let extra = Self::new(options);
        if let Some(deadline) = deadline {
            let _ = extra.deadline.set(deadline);
        }
        extra
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    fn disarm(&self) {
        let timer = self.timer.lock().take();
        drop(timer);
    }
}

/// [`Extra`], or nothing.
pub(crate) trait MaybeExtra: Send + Sync + 'static {
    fn get(&self) -> Option<&Extra>;
}

impl MaybeExtra for () {
    fn get(&self) -> Option<&Extra> {
        None
    }
}

impl MaybeExtra for Extra {
    fn get(&self) -> Option<&Extra> {
        Some(self)
    }
}

/// What a task computes. A closure is a computation that is ready at its first poll, so one cell
/// serves closures and futures.
pub(crate) trait Body: Send + Sized + 'static {
    type Output: Send + 'static;

    /// Whether a poll may come back without a value.
    const ASYNC: bool;

    /// Runs it, and catches its panics.
    fn poll(self, task: &TaskRef) -> Polled<Self>;
}

pub(crate) enum Polled<B: Body> {
    Ready(Result<B::Output, Panicked>),
    Pending(B),
}

/// What a task needs of the pool that it was submitted to.
pub(crate) trait Host: Send + Sync + 'static {
    /// Runs `take` under the queue's lock. If it says that it took a queued task, the entry that
    /// stays behind in the queue is counted as dead.
    fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool;

    /// Queues a woken task again.
    fn requeue(self: &Arc<Self>, task: TaskRef);

    /// A task that had not started has left the queue; there is room for another.
    fn release_room(&self);

    /// An accepted task was withdrawn.
    fn count_cancelled(&self);

    /// A task has run into its time limit.
    fn count_failed(&self);

    /// A task with an async body has ended: it leaves the registry that it was entered in.
    fn async_ended(&self, id: TaskId);

    /// A task that runs is asked to stop.
    fn asked_to_stop(&self, id: TaskId);

    fn instruments(&self) -> &Instruments;

    /// Whom to tell of failures that nobody has seen.
    fn on_unobserved(&self) -> &OnUnobserved;

    /// All jobs of the pool are asked to stop.
    fn is_stopping(&self) -> bool;

    /// The pool's name, for people.
    fn name(&self) -> &str;
}

/// The right to run a task, from [`TaskRef::claim`].
#[must_use]
pub(crate) struct Claimed {
    first: bool,
    takes_room: bool,
}

/// A task, whatever its types. `this` is the reference through which it is called.
pub(crate) trait Runnable {
    fn extra(&self) -> Option<&Extra>;

    /// The number of the task, if it is not that of its cell.
    fn id(&self) -> Option<TaskId>;

    /// Whether it runs in another place than its cell knows of.
    fn is_running(&self) -> bool;

    /// Withdraws a task that has not started; called under the queue's lock, so that it is counted
    /// before anybody can find the queue empty. The rest is for `taken_out`, without the lock.
    fn take_out(&self) -> bool;

    fn taken_out(&self, this: &TaskRef, error: Error);

    /// Ends a task that is queued or suspended; a running one is asked to stop.
    fn withdraw(&self, this: &TaskRef, error: Error);

    /// Ends the task, if it does not run at this moment; else asks it to stop. Tells whether it
    /// ended.
    fn cancel(&self, this: &TaskRef) -> bool;

    /// Ends the task, also while it runs, where that is possible; else as `cancel`.
    fn kill(&self, this: &TaskRef) -> bool;

    /// The future is dropped: ends the task if it has not started.
    fn withdraw_unstarted(&self, this: &TaskRef);

    /// Runs the task on this thread, if that is a worker of its pool, the task is queued, and
    /// the stack has room.
    fn run_in_place(&self, this: &TaskRef);

    /// The waker of an async body queues its task.
    fn wake(&self, this: &TaskRef);

    /// The clock of `queue_timeout` has run out.
    fn queued_too_long(&self, this: &TaskRef, limit: Duration);

    /// The clock of `timeout` has run out.
    fn ran_too_long(&self, this: &TaskRef, limit: Duration);

    fn is_stop_requested(&self) -> bool;

    /// The task has failed, and nobody has seen or will see that.
    fn unobserved(&self, this: &TaskRef, error: &Error);
}

/// One allocation: what the queue, the worker and the caller share.
#[repr(C)]
pub(crate) struct Task<B: Body, H: Host, X: MaybeExtra> {
    cell: Cell<B, B::Output>,
    host: Arc<H>,
    extra: X,
    trace: TaskTrace,
}

/// The submitter's side of a task that was just made.
pub(crate) struct Submitted<B: Body, H: Host, X: MaybeExtra> {
    task: TaskRef,
    types: PhantomData<Task<B, H, X>>,
}

impl<B: Body, H: Host, X: MaybeExtra> Submitted<B, H, X> {
    /// Starts the clock of `queue_timeout`, now that the task is queued.
    fn start_queue_clock(&self) {
        let Some(extra) = Task::<B, H, X>::of(&self.task).extra.get() else { return };
        let Some(limit) = extra.options.queue_timeout else { return };
        let task = self.task.clone();
        let expire = move || task.runnable().queued_too_long(&task, limit);
        let refused = {
            let mut timer = extra.timer.lock();
            // Whoever claims or ends the task looks at the timer after that, so none is left behind.
            let now = self.task.header().state.look();
            if !now.is_queued() || now.is_started() {
                return;
            }
            Timer::new(deadline(limit), Box::new(expire)).map(|new| *timer = Some(new)).err()
        };
        if let Some(refused) = refused {
            let task = Task::<B, H, X>::of(&self.task);
            task.withdraw_in_queue(&self.task, Error::NoTimer(refused));
        }
    }

    /// The task was queued.
    pub(crate) fn accepted(self) -> Outcome<B::Output> {
        self.start_queue_clock();
        // SAFETY: the types are the task's, and this is the one place that makes its outcome.
        unsafe { Outcome::new(self.task) }
    }

    /// The task was refused, and `queued` comes back from the queue: its body.
    pub(crate) fn refused(self, queued: TaskRef) -> B {
        debug_assert_eq!(self.task.as_ptr(), queued.as_ptr());
        let task = Task::<B, H, X>::of(&self.task);
        let withdrawn = task.state().withdraw_unstarted();
        assert!(withdrawn, "nobody else has seen the task");
        // SAFETY: this thread has ended the task.
        unsafe { task.cell.take_body() }
    }
}

impl<B: Body, H: Host, X: MaybeExtra> Task<B, H, X> {
    const VTABLE: VTable = VTable {
        runnable: |block| {
            // The table's task begins with its header.
            let task: NonNull<Self> = block.cast();
            task
        },
        run: Self::run,
        take: Self::take,
        put_back: put_back::<B, B::Output>,
        free: Self::free,
    };

    /// Makes a task: the queue's reference, and the submitter's.
    pub(crate) fn submit(
        host: &Arc<H>,
        body: B,
        extra: X,
        takes_room: bool,
    ) -> (TaskRef, Submitted<B, H, X>) {
        let state = State::queued(clock::now(), takes_room, B::ASYNC);
        let id = TaskId::next();
        let trace = if takes_room {
            TaskTrace::new(id.get(), extra.get().and_then(Extra::label), host.name())
        } else {
            TaskTrace::none() // It goes on with what was accepted, and belongs to that.
        };
        let make = |cell| Self { cell, host: Arc::clone(host), extra, trace };
        let block = make_block(&Self::VTABLE, id, state, Some(body), make);
        // SAFETY: the table fits the block, and the state has two references.
        let (queued, task) = unsafe { (TaskRef::from_raw(block), TaskRef::from_raw(block)) };
        (queued, Submitted { task, types: PhantomData })
    }

    fn of(this: &TaskRef) -> &Self {
        // SAFETY: private to this module, which calls it only through this type's own table, or
        // with a reference that `submit` has made.
        unsafe { this.as_ptr().cast::<Self>().as_ref() }
    }

    fn state(&self) -> &State {
        self.cell.state()
    }

    fn release_room(&self) {
        if self.state().takes_room() {
            self.host.release_room();
        }
    }

    /// Whether somebody else might settle the task while it is this thread's.
    fn has_rivals(&self) -> bool {
        self.extra.get().is_some_and(|extra| extra.options.timeout.is_some())
    }

    // ---- The run ----

    fn run(this: TaskRef, worker: &dyn WorkerContext, claimed: Claimed) {
        let task = Self::of(&this);
        let label = task.extra.get().and_then(Extra::label);
        let since = worker.started(&this, claimed.first, label);
        if claimed.first {
            if claimed.takes_room {
                task.host.release_room();
            }
            task.trace.started(|| task.state().waited(since));
            if let Err(refused) = task.start_clock(&this) {
                // SAFETY: this thread has claimed the task.
                drop_quietly(unsafe { task.cell.take_body() });
                return Self::finish(this, Err(Error::NoTimer(refused)), worker, since);
            }
        }
        // SAFETY: this thread has claimed the task.
        let body = unsafe { task.cell.take_body() };
        let run = |this: &TaskRef| {
            let _entered = Self::of(this).trace.enter();
            body.poll(this)
        };
        context::run_in_frame(this, run, |this, polled| match polled {
            Polled::Ready(Ok(value)) => Self::finish(this, Ok(value), worker, since),
            Polled::Ready(Err(panicked)) => {
                Self::finish(this, Err(Error::Panicked(Box::new(panicked))), worker, since);
            }
            Polled::Pending(body) => Self::suspend(this, body, worker, since),
        });
    }

    /// Starts the clock of `timeout`: at the limit the future ends, and the job is asked to stop.
    fn start_clock(&self, this: &TaskRef) -> io::Result<()> {
        let Some(extra) = self.extra.get() else { return Ok(()) };
        let timer = extra.options.timeout.map(|limit| {
            let at = *extra.deadline.get_or_init(|| deadline(limit));
            let task = this.clone();
            Timer::new(at, Box::new(move || task.runnable().ran_too_long(&task, limit)))
        });
        let queue_timer = std::mem::replace(&mut *extra.timer.lock(), timer.transpose()?);
        drop(queue_timer);
        Ok(())
    }

    /// Ends a task that this thread runs.
    #[inline]
    fn finish(
        this: TaskRef,
        outcome: Result<B::Output, Error>,
        worker: &dyn WorkerContext,
        since: u64,
    ) {
        let task = Self::of(&this);
        let kind = Kind::of(&outcome);
        if let Some(extra) = task.extra.get() {
            extra.disarm();
        }
        if task.has_rivals() && !task.state().settle(kind) {
            // The time limit has finished the future already, and has counted it.
            drop_quietly(outcome);
            worker.stopped(since, End::Uncounted);
            task.trace.close();
            task.state().end();
            return task.ended();
        }
        task.trace.outcome(outcome.as_ref().err());
        task.trace.close();
        let end = if outcome.is_ok() { End::Completed } else { End::Failed };
        // The registry holds no reference, so the task must live until it has left it.
        let registered = B::ASYNC.then(|| this.clone());
        let account = || worker.stopped(since, end);
        // SAFETY: it is such a cell; this thread has run it and settles it; the place is empty.
        unsafe {
            publish::<B, _>(Publisher::Releasing(this), kind, outcome, account, true);
        }
        if let Some(this) = registered {
            Self::of(&this).ended();
        }
    }

    fn ended(&self) {
        if B::ASYNC {
            self.host.async_ended(self.cell.header().id());
        }
    }

    fn suspend(this: TaskRef, body: B, worker: &dyn WorkerContext, since: u64) {
        let task = Self::of(&this);
        // SAFETY: the place is this thread's since it has claimed the task, and empty.
        unsafe { task.cell.put_body(body) };
        let next = task.state().suspend();
        let stopped = || worker.stopped(since, End::Uncounted);
        match next {
            Suspend::Waiting => stopped(),
            Suspend::Requeue => {
                stopped();
                task.host.requeue(this.clone());
            }
            Suspend::Stop => task.broken_off(&this, Error::Cancelled, stopped),
        }
    }

    // ---- Withdrawal ----

    /// Withdraws a task that has an entry in the queue and has not started.
    fn withdraw_in_queue(&self, this: &TaskRef, error: Error) -> bool {
        let taken = self.host.take_queued(&mut || self.take_out());
        if taken {
            self.taken_out(this, error);
        }
        taken
    }

    fn ask_to_stop(&self) {
        self.state().request_stop();
        if self.state().look().is_underway() {
            self.host.asked_to_stop(self.cell.header().id());
        }
    }

    /// Ends a task that has started and whose state has just been moved to `ENDED` by this
    /// thread. It is not counted if its time limit has finished the future already. `dropped` is
    /// called once its body is gone.
    fn broken_off(&self, this: &TaskRef, error: Error, dropped: impl FnOnce()) {
        self.withdrawn(this, error, dropped, || {
            self.host.count_cancelled();
            self.host.instruments().cancelled();
        });
    }

    /// Ends a task whose state has just been moved to `ENDED` by this thread.
    fn withdrawn(
        &self,
        this: &TaskRef,
        error: Error,
        dropped: impl FnOnce(),
        account: impl FnOnce(),
    ) {
        if let Some(extra) = self.extra.get() {
            extra.disarm();
        }
        // SAFETY: this thread has ended the task, which was at rest.
        drop_quietly(unsafe { self.cell.take_body() });
        dropped();
        let kind = match error {
            Error::TimedOut { .. } => Kind::TIME_LIMIT,
            _ => Kind::of_error(&error),
        };
        let is_known_now = !self.has_rivals() || self.state().settle(kind);
        if is_known_now {
            self.trace.outcome(Some(&error));
        }
        self.trace.close();
        if is_known_now {
            // SAFETY: it is such a cell; this thread settles it; the place is empty.
            unsafe {
                let this = Publisher::Keeping(this);
                publish::<B, B::Output>(this, kind, Err(error), account, false);
            }
        }
        self.ended();
    }

    // ---- The table ----

    /// The result of a task that has stored none.
    fn not_stored(&self, now: Snapshot) -> Error {
        let started = now.is_started();
        let limit = self.extra.get().and_then(|extra| {
            if started { extra.options.timeout } else { extra.options.queue_timeout }
        });
        match limit {
            Some(limit) if now.kind() == Some(Kind::TIME_LIMIT) => {
                Error::TimedOut { limit, started }
            }
            _ => Error::Cancelled,
        }
    }

    /// # Safety
    ///
    /// As for [`TaskRef::take`].
    unsafe fn take(block: NonNull<Header>, result: *mut ()) {
        // SAFETY: this function is in the table of such tasks only.
        let task = unsafe { block.cast::<Self>().as_ref() };
        // SAFETY: as for this function.
        unsafe { task.cell.move_out(result, |now| task.not_stored(now)) };
    }

    /// # Safety
    ///
    /// There is no reference left.
    unsafe fn free(block: NonNull<Header>) {
        // SAFETY: this function is in the table of such tasks only; the block is alive until it
        // is freed below.
        let task = unsafe { block.cast::<Self>().as_ref() };
        if B::ASYNC && task.state().look().is_underway() {
            // A suspended body that nobody can wake, since its waker and its future are gone, has
            // ended.
            // SAFETY: not a reference that counts, for the length of the call.
            let this = ManuallyDrop::new(unsafe { TaskRef::from_raw(block) });
            if task.state().withdraw_suspended() {
                task.broken_off(&this, Error::Cancelled, || ());
            }
        }
        // SAFETY: there is no reference left.
        unsafe { task.cell.clear() };
        // SAFETY: `submit` has made it, there is no reference left, and the cell is cleared.
        unsafe { free_block::<Self>(block) };
    }
}

impl<B: Body, H: Host, X: MaybeExtra> Runnable for Task<B, H, X> {
    fn extra(&self) -> Option<&Extra> {
        self.extra.get()
    }

    fn id(&self) -> Option<TaskId> {
        None
    }

    fn is_running(&self) -> bool {
        false
    }

    fn take_out(&self) -> bool {
        let taken = self.state().withdraw_unstarted();
        if taken {
            self.host.count_cancelled();
        }
        taken
    }

    fn taken_out(&self, this: &TaskRef, error: Error) {
        self.release_room();
        self.host.instruments().leaves();
        self.host.instruments().cancelled();
        self.withdrawn(this, error, || (), || ());
    }

    fn withdraw(&self, this: &TaskRef, error: Error) {
        // Asked first: a body that is suspended from here on sees the request.
        self.ask_to_stop();
        // Again if a wake-up came between the two looks, so that neither found it.
        while self.state().look().is_at_rest() {
            let mut started = None;
            self.host.take_queued(&mut || {
                started = self.state().withdraw_queued();
                started.is_some()
            });
            if started == Some(false) {
                self.release_room();
                self.host.instruments().leaves();
            }
            if started.is_some() || self.state().withdraw_suspended() {
                return self.broken_off(this, error, || ());
            }
        }
    }

    fn cancel(&self, this: &TaskRef) -> bool {
        let now = self.state().look();
        if now.is_done() {
            return now.is_cancelled();
        }
        if self.withdraw_in_queue(this, Error::Cancelled) {
            return true;
        }
        self.withdraw(this, Error::Cancelled);
        let now = self.state().look();
        // Ended without a result: another thread is withdrawing it right now.
        now.is_ended() && (!now.is_done() || now.is_cancelled())
    }

    fn kill(&self, this: &TaskRef) -> bool {
        self.cancel(this)
    }

    fn withdraw_unstarted(&self, this: &TaskRef) {
        let now = self.state().look();
        if now.is_queued() && !now.is_started() {
            self.withdraw_in_queue(this, Error::Cancelled);
        }
    }

    fn run_in_place(&self, this: &TaskRef) {
        let Some(worker) = context::worker() else { return };
        if worker.host() != Arc::as_ptr(&self.host).cast() || !worker.has_stack() {
            return;
        }
        let mut claimed = None;
        self.host.take_queued(&mut || {
            claimed = this.claim();
            claimed.is_some()
        });
        if let Some(claimed) = claimed {
            this.clone().run(&*worker, claimed);
        }
    }

    fn wake(&self, this: &TaskRef) {
        if self.state().wake() {
            self.host.requeue(this.clone());
        }
    }

    fn queued_too_long(&self, this: &TaskRef, limit: Duration) {
        self.withdraw_in_queue(this, Error::TimedOut { limit, started: false });
    }

    fn ran_too_long(&self, this: &TaskRef, limit: Duration) {
        // First the right to say what came of it: who sees the request may end at once.
        if self.state().settle(Kind::TIME_LIMIT) {
            self.ask_to_stop();
            let error = Error::TimedOut { limit, started: true };
            self.trace.outcome(Some(&error));
            let account = || self.host.count_failed();
            // SAFETY: it is such a cell; this thread has settled it; nothing is stored.
            unsafe {
                let this = Publisher::Keeping(this);
                publish::<B, B::Output>(this, Kind::TIME_LIMIT, Err(error), account, false);
            }
        }
        if B::ASYNC && self.state().withdraw_suspended() {
            self.broken_off(this, Error::Cancelled, || ());
        }
    }

    fn is_stop_requested(&self) -> bool {
        self.state().look().is_stop_requested() || self.host.is_stopping()
    }

    fn unobserved(&self, this: &TaskRef, error: &Error) {
        // Not of a map's driver: the map tells what became of it.
        if self.state().takes_room() {
            let label = self.extra().and_then(|extra| extra.label()).map(|label| &**label);
            let (pool, id) = (self.host.name(), this.id());
            self.host.on_unobserved().tell(UnobservedFailure { pool, id, label, error });
        }
    }
}

impl TaskRef {
    /// Takes the task to run it, unless somebody was faster.
    pub(crate) fn claim(&self) -> Option<Claimed> {
        match self.header().state.claim() {
            Claim::Lost => None,
            Claim::First { takes_room } => Some(Claimed { first: true, takes_room }),
            Claim::Again => Some(Claimed { first: false, takes_room: false }),
        }
    }
}

/// The waker of an async body.
pub(crate) struct TaskWaker(TaskRef);

impl TaskWaker {
    /// The waker that `kept` refers to, as long as anybody has it, or a new one. All that a task
    /// has at a time is one, so that its references are few.
    pub(crate) fn get(kept: &mut Weak<Self>, task: &TaskRef) -> Waker {
        let waker = kept.upgrade().unwrap_or_else(|| {
            let waker = Arc::new(Self(task.clone()));
            *kept = Arc::downgrade(&waker);
            waker
        });
        Waker::from(waker)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.0.runnable().wake(&self.0);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.runnable().wake(&self.0);
    }
}
