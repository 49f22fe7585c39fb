//! A submitted job: how it is run and withdrawn. It is made in [`submit`](super::submit()).

use std::io;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{Head, HeadTable, Header, TaskRef, Typed};
use super::extra::{Continuation, Extra, MaybeExtra, TaskName};
use super::id::TaskId;
use super::outcome::{Publisher, publish};
use super::runnable::{Claimed, Runnable};
use super::state::{Kind, Listening, Snapshot, State, Suspend};
use super::stop_flag::StopFlag;
use super::unobserved::{OnUnobserved, UnobservedFailure};
use super::worker::context::{self, End, WorkerContext};
use crate::error::Error;
use crate::label::Label;
use crate::panic::Panicked;
use crate::timer::{Timer, deadline};
use crate::trace::TaskTrace;

/// The computation of a task. A closure is one that is ready at its first poll, so one cell serves closures
/// and futures.
pub(crate) trait Body: Send + Sized + 'static {
    type Output: Send + 'static;

    /// Set if a poll may return without a value.
    const ASYNC: bool;

    /// Runs the body. A panic that it lets through is the task's result as well.
    fn poll(self, task: &TaskRef) -> Polled<Self>;
}

pub(crate) enum Polled<B: Body> {
    Ready(Result<B::Output, Panicked>),
    Pending(B),
}

/// The pool that a task was submitted to, as the task needs it.
pub(crate) trait Host: Send + Sync + Sized + 'static {
    /// The functions of its tasks. A `static` has them compiled with the host, instead of with each crate
    /// that submits something.
    const TABLES: &'static TaskTables = &TaskTables::of::<Self>();

    /// Returns the address of the pool, which its workers have too.
    fn address(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// Returns whether [`run_here`](Self::run_here) can give the job what it is to see.
    fn can_run_here(&self) -> bool {
        true
    }

    /// Runs a task in the place of another one that waits for it, on this thread, which is a worker.
    fn run_here(&self, run: impl FnOnce()) {
        run();
    }

    /// Runs `take` under the queue's lock, once. If it returns `true`, it took a queued task, and the entry
    /// that stays behind in the queue is counted as dead.
    fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool;

    /// Queues a woken task again.
    fn requeue(self: &Arc<Self>, task: TaskRef);

    /// Gives back the room of a task that has left the queue.
    fn release_room(&self);

    /// Returns whether a task keeps its room until it has run, so that none is accepted to wait.
    fn is_room_for_runs(&self) -> bool {
        false
    }

    /// Counts an accepted task that was withdrawn.
    fn count_cancelled(&self);

    /// Counts a task that has run into its time limit.
    fn count_failed(&self);

    /// Takes a task with an async body, which has ended, out of the registry that it was entered in.
    fn async_ended(&self, id: TaskId);

    /// Records that a task which runs was asked to stop.
    fn asked_to_stop(&self, id: TaskId);

    /// Returns the callback for unobserved failures.
    fn on_unobserved(&self) -> &OnUnobserved;

    /// Returns the request to all jobs of the pool to stop.
    fn stop(&self) -> &Arc<StopFlag>;

    /// Returns the pool's name, for people.
    fn name(&self) -> &str;
}

/// The tables of a host's tasks.
pub(crate) struct TaskTables([HeadTable; 4]);

impl TaskTables {
    pub(crate) const fn of<H: Host>() -> Self {
        Self([
            HeadTable::of::<Task<H, ()>>(),
            HeadTable::of::<Task<H, Extra>>(),
            HeadTable::of::<Task<H, TaskName>>(),
            HeadTable::of::<Task<H, Continuation>>(),
        ])
    }
}

/// The part of a task that the queue, the worker and the caller share; body and result are behind it, in the same
/// allocation.
#[repr(C)]
pub(crate) struct Task<H: Host, X: MaybeExtra> {
    header: Header,
    host: Arc<H>,
    extra: X,
    trace: TaskTrace,
}

impl<H: Host, X: MaybeExtra> Task<H, X> {
    #[inline]
    pub(super) fn new(header: Header, host: Arc<H>, extra: X, trace: TaskTrace) -> Self {
        Self { header, host, extra, trace }
    }

    fn state(&self) -> &State {
        &self.header.state
    }

    fn release_room(&self) {
        if self.state().takes_room() {
            self.host.release_room();
        }
    }

    /// Returns whether another thread may settle the task while it is this thread's.
    fn has_rivals(&self) -> bool {
        self.extra.get().is_some_and(|extra| extra.options.timeout.is_some())
    }

    fn count_cancelled(&self) {
        if X::IS_COUNTED {
            self.host.count_cancelled();
        }
    }

    fn ended(&self, is_async: bool) {
        if is_async {
            self.host.async_ended(self.header.id());
        }
    }
}

// SAFETY: it is `repr(C)`, and its first field is a header.
unsafe impl<H: Host, X: MaybeExtra> Head for Task<H, X> {
    const TABLE: &'static HeadTable = &H::TABLES.0[X::TABLE];

    fn runnable(task: &Typed<Self>) -> &dyn Runnable {
        task
    }

    #[inline]
    fn run(claimed: Claimed<Typed<Self>>, worker: &dyn WorkerContext) {
        let (first, takes_room) = (claimed.first, claimed.takes_room);
        let task = claimed.into_task();
        let label = task.extra.label();
        let since = worker.started(task.untyped(), first, label);
        if first {
            // Before the body runs: room is for what waits.
            if takes_room && !task.host.is_room_for_runs() {
                task.host.release_room();
            }
            task.trace.started(|| task.state().waited(since));
            // From here on the timer may finish the future at any moment. The place stays this
            // thread's, since the outcome of a time limit is not stored.
            if let Err(refused) = task.start_clock() {
                // SAFETY: this thread has claimed the task, so the place, with the body, is its own.
                let drop_body = |task: &Typed<Self>| unsafe { task.untyped().drop_body() };
                let error = Error::NoTimer(Arc::new(refused));
                // SAFETY: this thread has claimed the task, and `drop_body` has emptied the place.
                return context::run_in_frame(task, drop_body, |task, ()| unsafe {
                    let kind = task.untyped().store_error(error);
                    task.finish(kind, worker, since);
                });
            }
        }
        let run = |task: &Typed<Self>| {
            let _entered = task.trace.enter();
            // SAFETY: this thread has claimed the task, so the place, with the body, is its own.
            unsafe { task.untyped().poll() }
        };
        // SAFETY: of each call: this thread has claimed the task, and `poll` has left such a result, or the body.
        context::run_in_frame(task, run, |task, polled| unsafe {
            match polled {
                Some(kind) => task.finish(kind, worker, since),
                None => task.suspend(worker, since),
            }
        });
    }
}

impl Claimed {
    /// Returns the host of the task, if it is an `H`, whose tables are a `static`.
    #[inline]
    pub(crate) fn host<H: Host>(&self) -> Option<&Arc<H>> {
        let (task, head) = (self.task(), self.task().head());
        let tables = &H::TABLES.0;
        if ptr::eq(head, &tables[<()>::TABLE]) {
            // SAFETY: this table is that of blocks with this head alone.
            Some(unsafe { &Typed::<Task<H, ()>>::assume_ref(task).host })
        } else if ptr::eq(head, &tables[Extra::TABLE]) {
            // SAFETY: this table is that of blocks with this head alone.
            Some(unsafe { &Typed::<Task<H, Extra>>::assume_ref(task).host })
        } else if ptr::eq(head, &tables[TaskName::TABLE]) {
            // SAFETY: this table is that of blocks with this head alone.
            Some(unsafe { &Typed::<Task<H, TaskName>>::assume_ref(task).host })
        } else if ptr::eq(head, &tables[Continuation::TABLE]) {
            // SAFETY: this table is that of blocks with this head alone.
            Some(unsafe { &Typed::<Task<H, Continuation>>::assume_ref(task).host })
        } else {
            None
        }
    }
}

impl<H: Host, X: MaybeExtra> Typed<Task<H, X>> {
    /// Starts the clock of `queue_timeout`, now that the task is queued.
    pub(super) fn start_queue_clock(&self) {
        let Some(extra) = self.extra.get() else { return };
        let Some(limit) = extra.options.queue_timeout else { return };
        let task = self.clone();
        let expire = move || task.queued_too_long(limit);
        let refused = {
            let mut timer = extra.timer.lock();
            // A thread that claims or ends the task takes this lock after that, so no timer is left
            // behind; neither by a limit that passes before the timer is stored here.
            let now = self.state().look();
            if !now.is_queued() || now.is_started() {
                return;
            }
            Timer::new(deadline(limit), Box::new(expire)).map(|new| *timer = Some(new)).err()
        };
        if let Some(refused) = refused {
            // After the lock is released, which the end of the task takes.
            self.withdraw_in_queue(Error::NoTimer(Arc::new(refused)));
        }
    }

    /// Starts the clock of `timeout`: at the limit the future ends, and the job is asked to stop.
    fn start_clock(&self) -> io::Result<()> {
        let Some(extra) = self.extra.get() else { return Ok(()) };
        let timer = extra.options.timeout.map(|limit| {
            let at = *extra.deadline.get_or_init(|| deadline(limit));
            let task = self.clone();
            Timer::new(at, Box::new(move || task.ran_too_long(limit)))
        });
        let queue_timer = std::mem::replace(&mut *extra.timer.lock(), timer.transpose()?);
        drop(queue_timer);
        Ok(())
    }

    /// Ends a task that this thread runs.
    ///
    /// # Safety
    ///
    /// This thread has claimed the task, and a result of this kind, which is one that is stored, is in the place.
    #[inline]
    unsafe fn finish(self, kind: Kind, worker: &dyn WorkerContext, since: u64) {
        if self.host.is_room_for_runs() {
            // SAFETY: this thread has claimed the task, and such a result is in the place, which is required here too.
            return unsafe { self.finish_with_room(kind, worker, since) };
        }
        // SAFETY: this thread has claimed the task, and such a result is in the place, which is required here too.
        unsafe { self.finish_by(kind, |end| worker.stopped(since, end)) };
    }

    /// As [`finish`](Self::finish), of a task that has its room until then.
    ///
    /// # Safety
    ///
    /// The same.
    #[cold]
    unsafe fn finish_with_room(self, kind: Kind, worker: &dyn WorkerContext, since: u64) {
        let room = self.state().takes_room().then(|| Arc::clone(&self.host));
        // First, so that a pool with idle workers has room.
        let stopped = |end| {
            if let Some(host) = room {
                host.release_room();
            }
            worker.stopped(since, end)
        };
        // SAFETY: this thread has claimed the task, and such a result is in the place, which is required here too.
        unsafe { self.finish_by(kind, stopped) };
    }

    /// `stopped` tells the worker, and returns how long this stay was, in ticks.
    ///
    /// # Safety
    ///
    /// As for [`finish`](Self::finish).
    #[inline(always)]
    unsafe fn finish_by(self, kind: Kind, stopped: impl FnOnce(End) -> u64) {
        if let Some(extra) = self.extra.get() {
            extra.disarm();
        }
        let is_async = self.untyped().suspends();
        // Without rivals `publish` sets the kind too, which saves this step.
        if self.has_rivals() && !self.state().settle(kind) {
            // The time limit has finished the future already, and has counted it.
            // SAFETY: the place is this thread's, which has claimed the task; a time limit stores nothing. A result of
            // this kind is in it, as is required, and is not used any more.
            unsafe { self.untyped().drop_result(kind) };
            self.trace.close();
            self.state().set_run_time(stopped(End::Uncounted));
            // `DONE` is set by the timer's thread, `ENDED` by this one, which has run the body.
            self.state().end();
            return self.ended(is_async);
        }
        // SAFETY: the place is this thread's, which has claimed the task, with a result of this kind in it, as is
        // required. It stays there while the error is looked at: `publish` is below.
        self.trace.outcome(unsafe { self.untyped().stored_error(kind) });
        self.trace.close();
        let end = match kind {
            _ if !X::IS_COUNTED => End::Uncounted,
            Kind::VALUE => End::Completed,
            _ => End::Failed,
        };
        // The registry holds no reference, so the task must live until it has left it.
        let registered = is_async.then(|| self.clone());
        // Of an async body this is the time of the last poll, which nobody is told.
        let account = |state: &State| state.set_run_time(stopped(end));
        // SAFETY: without rivals the thread that has claimed the task is the only one to publish,
        // with rivals the one that has settled it; the place is its own, with such a result.
        unsafe { publish(Publisher::Releasing(self.into_untyped()), kind, account, true) };
        if let Some(task) = registered {
            task.ended(true);
        }
    }

    /// Leaves the task to be polled again.
    ///
    /// # Safety
    ///
    /// This thread has claimed the task, and its body is in its place.
    unsafe fn suspend(self, worker: &dyn WorkerContext, since: u64) {
        let next = self.state().suspend();
        // After `Waiting` another thread may run or end the task: the place is not this thread's.
        let stopped = || {
            worker.stopped(since, End::Uncounted);
        };
        match next {
            Suspend::Waiting => stopped(),
            Suspend::Requeue => {
                // First, so that the push counts on this worker to look at the queue.
                stopped();
                self.host.requeue(self.untyped().clone());
            }
            Suspend::Stop { settles } => {
                // SAFETY: `suspend` has moved the task to `ENDED`, with the body in its place.
                unsafe { self.broken_off(Error::Cancelled, settles, stopped) };
            }
        }
    }

    // ---- Withdrawal ----

    /// Asks the job to stop. Returns whether there may be tokens, which the caller tells.
    fn ask_to_stop(&self) -> bool {
        let before = self.state().request_stop();
        if self.state().look().is_underway() {
            self.host.asked_to_stop(self.header.id());
        }
        // A token that is made from here on sees the request.
        before.listening() == Listening::Callbacks
    }

    /// Ends a task that is queued or suspended, after it was asked to stop.
    fn withdraw_at_rest(&self, error: Error) {
        let kind = Kind::of_withdrawal(&error);
        // Again if a wake-up came between the two looks, so that neither found it.
        while self.state().look().is_at_rest() {
            let mut before = None;
            self.host.take_queued(&mut || {
                before = self.state().withdraw_queued(kind);
                before.is_some()
            });
            if let Some(before) = before.or_else(|| self.state().withdraw_suspended(kind)) {
                // A task that has started gave its room back then, or does so in `broken_off`.
                if !before.is_started() && !self.host.is_room_for_runs() {
                    self.release_room();
                }
                // SAFETY: this thread has just moved the task to `ENDED`, from `QUEUED` or `SUSPENDED`,
                // when its body was in its place; it has settled it if it was not before.
                return unsafe { self.broken_off(error, before.kind().is_none(), || ()) };
            }
        }
    }

    /// Withdraws a task that has an entry in the queue and has not started.
    fn withdraw_in_queue(&self, error: Error) -> bool {
        let mut is_out = false;
        self.host.take_queued(&mut || {
            is_out = self.take_out(&error);
            is_out
        });
        // Without the queue's lock, since the body's destructor is user code.
        if is_out {
            // SAFETY: `take_out` has just returned `true` for this error, and this is the only call for it.
            unsafe { self.taken_out(error) };
        }
        is_out
    }

    /// Ends a task that has started. It is not counted if its time limit has finished the future
    /// already. `stopped` is called once no code of the user's is to run but wakers.
    ///
    /// # Safety
    ///
    /// As for [`withdrawn`](Self::withdrawn).
    unsafe fn broken_off(&self, error: Error, settles: bool, stopped: impl FnOnce()) {
        let count = || self.count_cancelled();
        // First, as in `finish_with_room`.
        let stopped = || {
            if self.host.is_room_for_runs() {
                self.release_room();
            }
            stopped();
        };
        // SAFETY: this thread has just moved the task to `ENDED`, with its body in its place, and settled it if
        // `settles` says so: that is required here too.
        unsafe { self.withdrawn(error, settles, stopped, count) };
    }

    /// Ends a task.
    ///
    /// # Safety
    ///
    /// This thread has just moved the task to `ENDED`, with its body in its place. With `settles` that step
    /// has settled it, as [`Kind::of_withdrawal`] says for `error`.
    unsafe fn withdrawn(
        &self,
        error: Error,
        settles: bool,
        stopped: impl FnOnce(),
        account: impl FnOnce(),
    ) {
        if let Some(extra) = self.extra.get() {
            extra.disarm();
        }
        // SAFETY: the thread that moves a task to `ENDED` owns the place. That is this one, and the body is there and
        // not used any more, as is required.
        unsafe { self.untyped().drop_body() };
        if settles {
            self.trace.outcome(Some(&error));
        }
        self.trace.close();
        if settles {
            let kind = Kind::of_withdrawal(&error);
            let account = |_: &State| {
                stopped();
                account();
            };
            if kind.is_stored() {
                // SAFETY: the place is this thread's, and empty.
                unsafe { self.untyped().store_error(error) };
            }
            let publisher = Publisher::Keeping(self.untyped());
            // SAFETY: the thread that has settled the task is the only one to publish; the place is its
            // own, with such an error, if it is stored.
            unsafe { publish(publisher, kind, account, false) };
        } else {
            stopped(); // The time limit has settled the task, and only its run ends here.
        }
        // Last: the pool may end with its last async task, whose result is to be there by then.
        self.ended(self.untyped().suspends());
    }
}

impl<H: Host, X: MaybeExtra> Runnable for Typed<Task<H, X>> {
    fn extra(&self) -> Option<&Extra> {
        self.extra.get()
    }

    fn label(&self) -> Option<&Label> {
        self.extra.label()
    }

    fn id(&self) -> Option<TaskId> {
        None
    }

    fn is_running(&self) -> bool {
        false
    }

    fn take_out(&self, why: &Error) -> bool {
        let taken = self.state().withdraw_unstarted(Kind::of_withdrawal(why));
        if taken {
            self.count_cancelled();
        }
        taken
    }

    unsafe fn taken_out(&self, error: Error) {
        self.release_room();
        // SAFETY: as is required, `take_out` has returned `true`: it has moved the task from `QUEUED`, when its body was in its
        // place, to `ENDED`, and has settled it for this error; nothing has ended it since.
        unsafe { self.withdrawn(error, true, || (), || ()) };
    }

    fn withdraw(&self, error: Error) {
        // Asked first: a body that is suspended from here on sees the request.
        let is_watched = self.ask_to_stop();
        self.withdraw_at_rest(error);
        if is_watched {
            self.untyped().tell_of_stop();
        }
    }

    fn cancel(&self) -> bool {
        let now = self.state().look();
        if now.is_done() {
            return now.is_cancelled();
        }
        if self.withdraw_in_queue(Error::Cancelled) {
            return true;
        }
        self.withdraw(Error::Cancelled);
        // It may not be done: another thread is withdrawing it right now, and drops the body first.
        self.state().look().kind() == Some(Kind::CANCELLED)
    }

    fn kill(&self) -> bool {
        self.cancel()
    }

    fn withdraw_unstarted(&self) {
        let now = self.state().look();
        if now.is_queued() && !now.is_started() {
            self.withdraw_in_queue(Error::Cancelled);
        }
    }

    fn run_in_place(&self) {
        let Some(worker) = context::worker() else { return };
        let is_its_own = worker.host() == self.host.address();
        if !is_its_own || !worker.has_stack() || !self.host.can_run_here() {
            return;
        }
        // Claimed under the queue's lock: the entry that stays behind is counted in the same step.
        let mut claimed = None;
        self.host.take_queued(&mut || {
            claimed = self.untyped().clone().claim();
            claimed.is_some()
        });
        if let Some(claimed) = claimed {
            worker.keep_busy(); // It may wait in a waker, where it counts as free.
            self.host.run_here(|| claimed.run(&*worker));
        }
    }

    fn wake(&self) {
        if self.state().wake() {
            self.host.requeue(self.untyped().clone());
        }
    }

    fn queued_too_long(&self, limit: Duration) {
        self.withdraw_in_queue(Error::TimedOut { limit, started: false });
    }

    fn ran_too_long(&self, limit: Duration) {
        // The right to publish is taken first: a job that sees the request may end at once.
        if self.state().settle(Kind::TIME_LIMIT) {
            let is_watched = self.ask_to_stop();
            let error = Error::TimedOut { limit, started: true };
            self.trace.outcome(Some(&error));
            let account = |_: &State| self.host.count_failed();
            let publisher = Publisher::Keeping(self.untyped());
            // SAFETY: this thread has settled the task, so that it is the only one to publish; an
            // outcome of this kind is not stored.
            unsafe { publish(publisher, Kind::TIME_LIMIT, account, false) };
            if is_watched {
                self.untyped().tell_of_stop();
            }
        }
        // A body that is queued or runs sees the request at its next suspension.
        if !self.untyped().suspends() {
            return;
        }
        if let Some(before) = self.state().withdraw_suspended(Kind::CANCELLED) {
            // SAFETY: this thread has just moved the task from `SUSPENDED`, when its body was in its
            // place, to `ENDED`; it has settled it if it was not before.
            unsafe { self.broken_off(Error::Cancelled, before.kind().is_none(), || ()) };
        }
    }

    fn is_stop_requested(&self) -> bool {
        self.state().look().is_stop_requested() || self.host.stop().is_raised()
    }

    fn stop_flags(&self) -> Vec<Arc<StopFlag>> {
        vec![self.untyped().stop_flag(), Arc::clone(self.host.stop())]
    }

    fn unobserved(&self, error: &Error) {
        // A map's driver takes no room, and the map itself tells of its failure.
        if self.state().takes_room() {
            let label = self.label().map(|label| &**label);
            let (pool, id) = (self.host.name(), self.header().id());
            self.host.on_unobserved().tell(UnobservedFailure { pool, id, label, error });
        }
    }

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

    fn abandoned(&self) {
        if let Some(before) = self.state().withdraw_suspended(Kind::CANCELLED) {
            // SAFETY: this thread has just moved it from `SUSPENDED` to `ENDED`.
            unsafe { self.broken_off(Error::Cancelled, before.kind().is_none(), || ()) };
        }
    }
}
