//! The pool itself: its queue, its workers, its life. In the pool's process.
//!
//! One lock guards all of it, and is never held while user code runs or somebody is woken, nor
//! while anything is read from a socket or written to one. What a change leads to is collected under
//! the lock and done by [`Pool::release`], or, where the change was read from a socket, left to the
//! thread that reads: see [`relay`](crate::reactor::relay).
//!
//! # The way of a task
//!
//! 1. `submit` queues it. If a worker is idle it is sent at once; if there may be one worker more,
//!    that is started, and the task is sent to it before it runs.
//! 2. Otherwise the thread that reads the replies sends it: with each reply it fills up the
//!    worker that has replied, with several tasks at a time while they are quick. An idle worker
//!    takes back what another one has not begun. See [`claim`](crate::local::claim).
//! 3. The reply takes the task out of the pool, then it is unpacked and its future is finished.
//!    So whoever sees a result finds that worker free.
//!
//! # The death of a worker
//!
//! Its connection closes. What it had not begun goes back to the front of the queue at once; what
//! it ran waits for the transport to tell how it died, and then fails, or is tried again. No other
//! worker is concerned.

pub(crate) mod config;
pub(crate) mod crew;
mod dispatch;
mod dump;
mod ending;
mod finishing;
mod keeping;
#[cfg(test)]
mod loopback;
mod loss;
mod nesting;
mod number_map;
mod replies;
mod starts;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod transport;
mod withdrawal;
pub(crate) mod worker;

pub(crate) use self::ending::Ending;
pub(crate) use self::replies::CheckedCall;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use self::config::Config;
use self::ending::End;
use self::finishing::Finishing;
use self::state::{FlushOf, Parent, Place, RoomLeft, State, Task};
use self::worker::{Life, Sent};
use crate::clock;
use crate::error::Error;
use crate::fork::Own;
use crate::instruments::Measured;
use crate::lifecycle::{Accepting, Counts, Lifecycle, Phase};
use crate::metrics::{Metrics, Totals};
use crate::reactor::UserCode;
use crate::remote::frame::{Frame, Kind};
use crate::remote::map_context::MapContext;
use crate::remote::scheduler::transport::{Hub, Progress, Transport, WorkerLink};
use crate::remote::submission::{Counted, ReplySink, Submission, Submit};
use crate::room::Room;
use crate::sync::{Mutex, MutexGuard};
use crate::thread_pool::ThreadPoolExecutor;
use crate::trace::{Outbox, TaskTrace};

type TimerOf<T> = <<T as Transport>::Hub as Hub>::Timer;

pub(crate) struct Pool<T: Transport> {
    pub(crate) config: Config,
    pub(crate) hub: T::Hub,
    // A forked child has another state in its place: of a broken pool, without workers.
    state: Own<Mutex<State<T>>>,
    room: Option<Room>,
    /// The phase is `Open`. Changed under the lock, and looked at without: each submission looks twice.
    is_open: AtomicBool,
    // Counted without the lock, by the threads that finish futures.
    completed: AtomicU64,
    failed: AtomicU64,
    items: AtomicU64,
    /// Futures that are about to be finished, and the user's code on helper threads.
    finishing: Finishing,
    /// Threads for what takes long: callbacks, long replies, the input of maps.
    helpers: OnceLock<ThreadPoolExecutor>,
}

/// A future to finish after the lock is released, by the thread that reads or by a helper thread. The
/// pool does not end before that. A drop finishes it.
struct Completion<T: Transport> {
    pool: Arc<Pool<T>>,
    finish: Option<Finish>,
}

struct Finish {
    sink: Box<dyn ReplySink>,
    trace: TaskTrace,
    reply: Result<Frame, Error>,
    /// The task was counted as cancelled, or was not accepted: no counter changes for it.
    is_counted: bool,
}

impl<T: Transport> Completion<T> {
    fn failed(pool: &Arc<Pool<T>>, task: Task<T>, error: Error) -> Box<Self> {
        let Task { sink, trace, .. } = task;
        Self::of(pool, Finish { sink, trace, reply: Err(error), is_counted: false })
    }

    fn withdrawn(pool: &Arc<Pool<T>>, task: Task<T>, error: Error) -> Box<Self> {
        let Task { sink, trace, .. } = task;
        Self::of(pool, Finish { sink, trace, reply: Err(error), is_counted: true })
    }

    /// In a box, since it goes through several hands.
    fn of(pool: &Arc<Pool<T>>, finish: Finish) -> Box<Self> {
        Box::new(Self { pool: Arc::clone(pool), finish: Some(finish) })
    }

    /// Returns whether user code that takes long may run when the future is finished.
    fn takes_long(&self) -> bool {
        let Some(Finish { sink, reply, .. }) = &self.finish else { return false };
        let has_failed = match reply {
            Ok(frame) => frame.header.kind != Kind::Value,
            // A cancelled task has not failed, so the hook is not called.
            Err(error) => !matches!(error, Error::Cancelled),
        };
        let may_be_unobserved = has_failed && self.pool.config.on_unobserved.is_set();
        may_be_unobserved || sink.takes_long(reply.as_ref().map_or(0, Frame::len))
    }
}

impl<T: Transport> UserCode for Completion<T> {
    fn run(mut self: Box<Self>) {
        if self.takes_long() {
            let pool = Arc::clone(&self.pool);
            // If the helper pool drops the job unrun, that finishes the future as well.
            pool.helpers().go_on(move || drop(self)).detach();
        } else {
            let finish = self.finish.take();
            self.pool.deliver(|| self.pool.complete(finish));
        }
    }
}

impl<T: Transport> Drop for Completion<T> {
    fn drop(&mut self) {
        self.pool.complete(self.finish.take());
    }
}

impl<T: Transport> Pool<T> {
    /// Finishes the future of a completion.
    fn complete(self: &Arc<Self>, finish: Option<Finish>) {
        let Some(Finish { sink, trace, reply, is_counted }) = finish else { return };
        let pool = self;
        sink.complete(reply, &trace, &|counted| {
            let (counter, count) = match counted {
                Counted::Items(count) => (&pool.items, count as u64),
                _ if is_counted => return,
                Counted::Value => (&pool.completed, 1),
                Counted::Error => (&pool.failed, 1),
            };
            counter.fetch_add(count, Relaxed);
        });
        // After the callbacks and the wake-up: the pool does not end before them.
        pool.finished();
    }
}

/// Records for waiters and subscribers, to be passed on after the lock is released.
struct Notes {
    room: RoomLeft,
    events: Outbox,
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.room == RoomLeft::default() && self.events.is_empty()
    }

    fn tell<T: Transport>(self, pool: &Pool<T>) {
        pool.give_room_back(self.room);
        self.events.tell();
    }
}

/// Work to do after the lock is released.
struct Unlocked<T: Transport> {
    notes: Option<Notes>,
    done: Vec<Box<dyn UserCode>>,
    end: Option<End<T>>,
    to_flush: Vec<(u32, FlushOf<T>)>,
}

/// User code of a pool that is not a [`Completion`].
struct Deferred<T: Transport, F> {
    pool: Arc<Pool<T>>,
    run: F,
}

impl<T: Transport, F: FnOnce(&Arc<Pool<T>>) + Send> UserCode for Deferred<T, F> {
    fn run(self: Box<Self>) {
        let Self { pool, run } = *self;
        pool.deliver(|| run(&pool));
    }
}

impl<T: Transport> Measured for Pool<T> {
    fn export(&self) {
        self.config.instruments.export(|| self.metrics());
    }
}

impl<T: Transport> Submit for Arc<Pool<T>> {
    fn submit(&self, submission: Submission) {
        if let Err(refused) = self.push(submission) {
            let why = self.withdrawal();
            // A submission that was not accepted is in no counter.
            refused.sink.complete(Err(why), &TaskTrace::none(), &|_| ());
        }
    }

    fn cancel(&self, number: u64) {
        Pool::cancel(self, number);
    }

    fn end_context(&self, context: Arc<MapContext>) {
        let mut state = self.state.lock();
        state.release_context(context);
        self.release(state);
    }

    fn withdrawal(&self) -> Error {
        Pool::withdrawal(self)
    }

    fn go_on(&self, job: Box<dyn FnOnce() + Send>) {
        self.run_on_helper(job).detach();
    }
}

thread_local! {
    /// The address of the pool whose user code this thread runs outside of its helper threads, to
    /// compare. That code must not wait for the pool's end, which waits for it.
    static DELIVERING: Cell<*const ()> = const { Cell::new(std::ptr::null()) };
}

impl<T: Transport> Pool<T> {
    pub(crate) fn new(config: Config, transport: T, hub: T::Hub) -> Arc<Self> {
        let room = config.queue_capacity.map(|capacity| Room::new(capacity, config.max_workers));
        let mut state = State::new(Lifecycle::new(Phase::Open), transport, config.max_waiting);
        state.finalizer.clone_from(&config.finalizer);
        let pool = Arc::new(Self {
            config,
            hub,
            state: Own::new(Mutex::new(state), State::abroad),
            room,
            is_open: AtomicBool::new(true),
            completed: AtomicU64::new(0),
            items: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            finishing: Finishing::new(),
            helpers: OnceLock::new(),
        });
        pool.config.instruments.include(&pool);
        pool
    }

    /// Takes the lock. To be given back by [`release`](Self::release), if anything was changed.
    pub(crate) fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock()
    }

    // ---- Room in the queue ----

    fn give_room_back(&self, left: RoomLeft) {
        if let Some(room) = self.room() {
            room.release(left.count);
            if left.is_closed {
                room.close();
            }
        }
        if left.is_closed {
            self.tell_closed();
        }
    }

    /// Returns whether the user code that this thread runs is the pool's, which does not end before that.
    fn is_delivering_here(&self) -> bool {
        std::ptr::eq(DELIVERING.get(), std::ptr::from_ref(self).cast())
    }

    // ---- The queue ----

    /// Queues a task and sees that a worker gets it, or gives it back.
    pub(crate) fn push(self: &Arc<Self>, submission: Submission) -> Result<(), Box<Submission>> {
        let mut state = self.state.lock();
        let is_accepted = match state.life.phase {
            Phase::Open => true,
            // A map that was accepted goes on, unless the pool was closed with `CancelQueued`.
            Phase::Closed(at_once) => submission.kind == Kind::Chunk && !at_once,
            Phase::Broken(_) => false,
        };
        if !is_accepted {
            return Err(Box::new(submission));
        }
        self.enqueue(&mut state, submission, None);
        self.dispatch(&mut state);
        self.release(state);
        Ok(())
    }

    fn enqueue(
        self: &Arc<Self>,
        state: &mut State<T>,
        submission: Submission,
        parent: Option<Parent>,
    ) {
        let number = submission.number;
        let limit = submission.options.queue_timeout;
        let queue_timer = limit.map(|limit| {
            let pool = Arc::clone(self);
            // However short the limit: the action waits for the lock, and then finds the task.
            self.timer(limit, move || pool.queued_too_long(number, limit))
        });
        let task = Task {
            content: Some(submission.content.into()),
            kind: submission.kind,
            detail: submission.detail,
            sink: submission.sink,
            place: Place::Queued,
            parent,
            holds_room: submission.holds_room,
            submitted: clock::now(),
            lost: Vec::new(),
            suspect_deaths: 0,
            options: submission.options,
            queue_timer,
            run_timer: None,
            trace: submission.trace,
            context: submission.context,
        };
        state.submitted += task.count();
        state.tasks.insert(number, Box::new(task));
        state.queue.push_back(number);
        state.queued += 1;
    }

    /// Releases the lock, sends what is in line, and runs the user code that is due: it finishes
    /// futures, gives room in the queue back, tells subscribers.
    pub(crate) fn release(self: &Arc<Self>, state: MutexGuard<'_, State<T>>) {
        let Unlocked { notes, done, end, to_flush } = self.unlock(state);
        // Before the frames are sent: subscribers hear that a task starts, and then of its events.
        if let Some(notes) = notes {
            self.deliver(|| notes.tell(self));
        }
        flush_all::<T>(to_flush);
        done.into_iter().for_each(UserCode::run);
        if end.is_some() {
            self.deliver(|| self.on_end(end));
        }
    }

    /// As [`release`](Self::release); the user code is left to the thread that reads.
    pub(crate) fn release_to_reader(self: &Arc<Self>, state: MutexGuard<'_, State<T>>) {
        self.hub.deliver(self.unlock_and_flush(state));
    }

    /// As [`release`](Self::release); returns the user code, in the order in which it is to be run.
    fn unlock_and_flush(
        self: &Arc<Self>,
        state: MutexGuard<'_, State<T>>,
    ) -> impl Iterator<Item = Box<dyn UserCode>> {
        let Unlocked { notes, done, end, to_flush } = self.unlock(state);
        // Frames are not held up by user code, which runs later, on the thread that reads.
        flush_all::<T>(to_flush);
        let notes = notes.map(|notes| self.defer(|pool| notes.tell(pool)));
        let end = end.map(|end| self.defer(|pool| pool.on_end(Some(end))));
        notes.into_iter().chain(done).chain(end)
    }

    fn defer(self: &Arc<Self>, run: impl FnOnce(&Arc<Self>) + Send + 'static) -> Box<dyn UserCode> {
        Box::new(Deferred { pool: Arc::clone(self), run })
    }

    /// Runs user code of this pool.
    fn deliver(&self, run: impl FnOnce()) {
        struct Restore(*const ());
        impl Drop for Restore {
            fn drop(&mut self) {
                DELIVERING.set(self.0);
            }
        }
        let _restore = Restore(DELIVERING.replace(std::ptr::from_ref(self).cast()));
        run();
    }

    /// Releases the lock.
    fn unlock(&self, mut state: MutexGuard<'_, State<T>>) -> Unlocked<T> {
        let done = std::mem::take(&mut state.done);
        // Before the look for the end, which these completions hold up. Without any, the cache line
        // of the count, which other threads change, is left alone.
        if !done.is_empty() {
            self.finishing.begin(done.len());
        }
        let end = self.end(&mut state);
        // With the finalizers of workers that the end dismisses.
        let to_flush = std::mem::take(&mut state.to_flush);
        let notes =
            Notes { room: std::mem::take(&mut state.room_left), events: state.outbox.take() };
        drop(state);
        Unlocked { notes: (!notes.is_empty()).then_some(notes), done, end, to_flush }
    }

    /// Ends what [`Finishing::begin`] has counted: a completion, or a job on a helper thread.
    fn finished(self: &Arc<Self>) {
        if !self.finishing.finish() {
            return;
        }
        let mut state = self.state.lock();
        // Of what `release` does, the look for the end leaves finalizers to be sent.
        let end = self.end(&mut state);
        let to_flush = std::mem::take(&mut state.to_flush);
        drop(state);
        flush_all::<T>(to_flush);
        self.on_end(end);
    }

    pub(crate) fn helpers(&self) -> &ThreadPoolExecutor {
        self.helpers.get_or_init(ThreadPoolExecutor::internal)
    }

    /// Runs `action` after `limit`.
    pub(crate) fn timer(
        &self,
        limit: Duration,
        action: impl FnOnce() + Send + 'static,
    ) -> TimerOf<T> {
        self.hub.timer(limit, Box::new(action))
    }

    // ---- The caller's side ----

    /// Withdraws a task that has not started. One that runs is asked to stop, if `stop` says so.
    pub(crate) fn withdraw(self: &Arc<Self>, number: u64, stop: bool) -> bool {
        let mut state = self.state.lock();
        if let Some(task) = state.withdraw(number, || Error::Cancelled) {
            self.release(state);
            // The caller settles the future, so the sink is dropped unused.
            task.trace.outcome(Some(&Error::Cancelled));
            drop(task);
            return true;
        }
        if stop {
            state.ask_to_stop(number);
        }
        false
    }

    /// Ends a task that nobody wants as cancelled, or asks it to stop.
    pub(crate) fn cancel(self: &Arc<Self>, number: u64) {
        let mut state = self.state.lock();
        self.cancel_or_stop(&mut state, number, true);
        self.release(state);
    }

    /// Ends a task, also one that runs. `false`: it is done.
    pub(crate) fn kill(self: &Arc<Self>, number: u64) -> bool {
        if self.withdraw(number, false) {
            return true;
        }
        let mut state = self.state.lock();
        // Out of the table: its reply, or the loss of its worker, finds no task from here on.
        let Some(task) = state.remove(number) else { return false };
        state.cancelled += task.count();
        if let Place::Sent { worker, slot } = task.place {
            Self::kill_for(&mut state, worker, slot);
        }
        self.dispatch(&mut state);
        self.release(state);
        task.trace.outcome(Some(&Error::Cancelled));
        drop(task);
        true
    }

    pub(crate) fn is_running(&self, number: u64) -> bool {
        let state = self.state.lock();
        state.tasks.get(&number).is_some_and(|task| state.has_started(task))
    }

    fn queued_too_long(self: &Arc<Self>, number: u64, limit: Duration) {
        let mut state = self.state.lock();
        let error = || Error::TimedOut { limit, started: false };
        if let Some(task) = state.withdraw(number, error) {
            self.end_withdrawn(&mut state, *task, error());
            self.release(state);
        }
    }

    /// Ends a task whose time limit has passed. The limit counts from the start, which the worker
    /// has noted; before it has passed, the timer is set again.
    fn ran_too_long(self: &Arc<Self>, number: u64, limit: Duration) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(task) = state.tasks.get_mut(&number) else { return };
        let Place::Sent { worker: worker_number, slot } = task.place else { return };
        let Some(worker) = state.workers.get(&worker_number) else { return };
        let left = match worker.link.progress(slot) {
            Progress::Started(Some(elapsed)) => limit.saturating_sub(elapsed),
            // Not started, as far as is known: a limit of zero must not become a busy loop.
            _ => limit.max(Duration::from_millis(1)),
        };
        if !left.is_zero() {
            let pool = Arc::clone(self);
            let timer = self.timer(left, move || pool.ran_too_long(number, limit));
            let old = task.run_timer.replace(timer);
            drop(guard);
            return drop(old);
        }
        let Some(task) = state.remove(number) else { return };
        Self::kill_for(state, worker_number, slot);
        self.dispatch(state);
        state.done.push(Completion::failed(self, *task, Error::TimedOut { limit, started: true }));
        self.release(guard);
    }

    fn counts(&self, state: &State<T>) -> Counts {
        let (completed, failed) = (self.completed.load(Relaxed), self.failed.load(Relaxed));
        Counts { completed, failed, cancelled: state.cancelled }
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let state = self.state.lock();
        let Counts { completed, failed, cancelled } = self.counts(&state);
        let mut totals = Totals::new();
        totals.add(&state.metrics);
        let (queue_time, run_time) = totals.times();
        let running = state.workers.iter().map(|(number, worker)| {
            // What was taken back or killed stays in `sent` until its reply or `Skipped` is there.
            let is_running =
                |sent: &&Sent| state.is_with(*number, **sent) && worker.has_started(sent.slot);
            worker.sent.iter().filter(is_running).count()
        });
        let running = running.sum();
        let alive = state.workers.values().filter(|worker| worker.life == Life::Working);
        let (workers, idle) = alive.fold((0, 0), |(workers, idle), worker| {
            (workers + 1, idle + usize::from(worker.is_idle()))
        });
        Metrics {
            workers,
            idle,
            queued: state.tasks.len() - running,
            running,
            submitted: state.submitted,
            completed,
            failed,
            cancelled,
            items: self.items.load(Relaxed),
            workers_lost: state.workers_lost,
            queue_time,
            run_time,
        }
    }
}

/// Sends what is in line, once the lock is released.
fn flush_all<T: Transport>(to_flush: Vec<(u32, FlushOf<T>)>) {
    to_flush.into_iter().for_each(|(_, flush)| T::Worker::flush(flush));
}
