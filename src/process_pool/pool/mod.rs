//! The pool itself: its queue, its workers, its life.
//!
//! One lock guards all of it, and is never held while user code runs or somebody is woken, nor
//! while anything is read from a socket or written to one. What a change leads to is collected under
//! the lock and done by [`Pool::release`], or, where the change was read from a socket, left to the
//! thread that reads: see [`relay`](super::relay).
//!
//! # The way of a task
//!
//! 1. `submit` queues it. If a worker is idle it is sent at once; if there may be one worker more,
//!    that is started, and the task is in its socket before the process exists.
//! 2. Otherwise the thread that reads the replies sends it: with each reply it fills up the
//!    worker that has replied, with several tasks at a time while they are quick. An idle worker
//!    takes back what another one has not begun. See [`ticket`].
//! 3. The reply takes the task out of the pool, then it is unpacked and its future is finished.
//!    So whoever sees a result finds that worker free.
//!
//! # The death of a worker
//!
//! Its socket closes. What it had not begun goes back to the front of the queue at once; what it
//! ran waits for the helper process to tell how it died, and then fails, or is tried again. Nobody
//! else is concerned.

mod death;
mod dispatch;
mod dump;
mod ending;
mod memory;
mod replies;
mod starts;
mod state;

pub(super) use self::ending::Ending;

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use self::ending::End;
use self::state::{Phase, Place, RoomLeft, State, Task};
use super::builder::Config;
use super::call::Complete;
use super::io::Io;
use super::link::{Life, Link, Worker};
use super::sys::AsFd;
use super::wire::{Content, Frame, Kind};
use super::zygote::{Launch, Zygote};
use super::{boot, ticket};
use crate::clock;
use crate::core::Options;
use crate::error::{BrokenPool, Error};
use crate::fork::Own;
use crate::instruments::Ledger;
use crate::metrics::{Metrics, Totals};
use crate::room::Room;
use crate::sync::{Mutex, MutexGuard};
use crate::thread_pool::ThreadPoolExecutor;
use crate::timer::{Timer, deadline};
use crate::trace::{Outbox, TaskTrace};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

pub(super) struct Pool {
    pub(super) config: Config,
    pub(super) id: u32,
    io: Arc<Io>,
    state: Own<Mutex<State>>,
    room: Option<Room>,
    completed: AtomicU64,
    failed: AtomicU64,
    /// Futures that are about to be finished, and drivers of maps. Rises under the lock.
    finishing: AtomicUsize,
    /// The pool is not open any more. Set under the lock.
    is_closing: AtomicBool,
    /// Threads for what takes long: callbacks, long replies, the input of maps.
    helpers: OnceLock<ThreadPoolExecutor>,
}

/// What is to be submitted.
pub(super) struct Order {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) content: Content,
    pub(super) complete: Box<dyn Complete>,
    pub(super) options: Options,
    pub(super) retries: u32,
    pub(super) holds_room: bool,
    /// Of a chunk: how many items. Of a call: its time limit in nanoseconds, or 0.
    pub(super) detail: u64,
    pub(super) trace: TaskTrace,
}

/// A future to finish, once the lock is released. In a box, since it goes through several hands.
struct Done(Box<Outcome>);

struct Outcome {
    complete: Box<dyn Complete>,
    trace: TaskTrace,
    reply: Result<Frame, Error>,
    /// It was counted as cancelled.
    is_counted: bool,
}

impl Done {
    fn new(
        complete: Box<dyn Complete>,
        trace: TaskTrace,
        reply: Result<Frame, Error>,
        is_counted: bool,
    ) -> Self {
        Self(Box::new(Outcome { complete, trace, reply, is_counted }))
    }

    fn failed(task: Task, error: Error) -> Self {
        let Task { complete, trace, .. } = task;
        Self::new(complete, trace, Err(error), false)
    }

    fn has_failed(&self) -> bool {
        match &self.0.reply {
            Ok(frame) => frame.header.kind != Kind::Value,
            Err(error) => !matches!(error, Error::Cancelled),
        }
    }

    /// Of a task that was withdrawn.
    fn withdrawn(task: Task, error: Error) -> Self {
        let Task { complete, trace, .. } = task;
        Self::new(complete, trace, Err(error), true)
    }
}

/// A future that is to be finished, here or by a helper thread: the pool does not end before that.
struct HandedOn {
    pool: Arc<Pool>,
    done: Option<Done>,
}

impl HandedOn {
    /// Finishes it here, unless that may take long.
    fn finish(self) {
        let Self { pool, done: Some(done) } = &self else { return };
        let length = done.0.reply.as_ref().map_or(0, Frame::len);
        // The hook for failures that nobody has seen may take long as well.
        let tells = pool.config.on_unobserved.is_set() && done.has_failed();
        if tells || done.0.complete.takes_long(length) {
            let pool = Arc::clone(pool);
            pool.helpers().go_on(move || drop(self)).detach();
        }
    }
}

impl Drop for HandedOn {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            self.pool.finish_here(done);
            self.pool.finished();
        }
    }
}

/// What is to be told once the lock is released.
struct Notes {
    room: RoomLeft,
    ledger: Ledger,
    events: Outbox,
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.room == RoomLeft::default() && !Ledger::IS_KEPT && self.events.is_empty()
    }
}

/// What is to be done once the lock is released: user code, all of it.
struct AllDue {
    notes: Option<Notes>,
    done: Vec<Done>,
    end: Option<End>,
}

enum Due {
    Tell(Notes),
    Finish(Done),
    End(Box<End>),
}

/// User code that a pool has to run.
pub(super) struct Delivery {
    pool: Arc<Pool>,
    due: Due,
}

thread_local! {
    /// The pool whose user code this thread runs outside of its helper threads.
    static DELIVERING: Cell<*const Pool> = const { Cell::new(std::ptr::null()) };
}

impl Delivery {
    fn new(pool: &Arc<Pool>, due: Due) -> Self {
        Self { pool: Arc::clone(pool), due }
    }

    pub(super) fn run(self) {
        let Self { pool, due } = self;
        struct Restore(*const Pool);
        impl Drop for Restore {
            fn drop(&mut self) {
                DELIVERING.set(self.0);
            }
        }
        let _restore = Restore(DELIVERING.replace(Arc::as_ptr(&pool)));
        match due {
            Due::Tell(Notes { room, ledger, events }) => {
                pool.give_room_back(room);
                pool.config.instruments.book(ledger);
                events.tell();
            }
            Due::Finish(done) => HandedOn { pool, done: Some(done) }.finish(),
            Due::End(end) => pool.ended(Some(*end)),
        }
    }
}

impl Pool {
    pub(super) fn new(config: Config) -> Result<Arc<Self>, Error> {
        let broken = |error: std::io::Error| Error::BrokenPool(BrokenPool::new(error.into()));
        boot::check_can_start().map_err(broken)?;
        let room = config.queue_capacity.map(Room::new);
        let launch = Launch::new(&config.zygote).map_err(broken)?;
        let zygote = Zygote::start(&launch).map_err(broken)?;
        let is_ready = config.memory_limit.is_some();
        let zygote = match config.memory_limit {
            Some(limit) => memory::check_limit(zygote, limit)?,
            None => zygote,
        };
        Io::join(|io, id| {
            io.watch_helper(id, zygote.fd())?;
            let mut state = State::new(Phase::Open, Some(launch), Some(zygote));
            state.zygote_is_ready = is_ready;
            Ok(Arc::new(Self {
                config,
                id,
                io: Arc::clone(io),
                state: Own::new(Mutex::new(state), State::abroad),
                room,
                completed: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                finishing: AtomicUsize::new(0),
                is_closing: AtomicBool::new(false),
                helpers: OnceLock::new(),
            }))
        })
        .map_err(broken)
    }

    // ---- Room in the queue ----

    /// A forked child has none: another thread may have held its lock.
    fn room(&self) -> Option<&Room> {
        self.room.as_ref().filter(|_| self.state.is_home())
    }

    pub(super) fn take_room(&self) -> Result<(), Error> {
        match self.room() {
            None => Ok(()),
            Some(room) => room.take().map_err(|no_room| no_room.into_error(|| self.refusal())),
        }
    }

    pub(super) async fn wait_for_room(&self) -> Result<(), Error> {
        if let Some(room) = self.room() {
            if !room.wait().await {
                return Err(self.refusal());
            }
        }
        if self.is_open() {
            return Ok(());
        }
        self.release_room();
        Err(self.refusal())
    }

    fn give_room_back(&self, left: RoomLeft) {
        let Some(room) = self.room() else { return };
        room.release(left.count);
        if left.is_closed {
            room.close();
        }
    }

    /// Whether the user code that this thread runs is the pool's, which does not end before that.
    fn is_delivering_here(&self) -> bool {
        std::ptr::eq(DELIVERING.get(), self)
    }

    pub(super) fn release_room(&self) {
        if let Some(room) = self.room() {
            room.release(1);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Open)
    }

    /// Why the pool takes no tasks.
    pub(super) fn refusal(&self) -> Error {
        match &self.state.lock().phase {
            Phase::Broken(cause) => Error::BrokenPool(cause.clone()),
            _ => Error::ShutDown,
        }
    }

    // ---- The queue ----

    /// Queues a task and sees that a worker gets it, or gives it back.
    pub(super) fn push(self: &Arc<Self>, order: Order) -> Result<(), Box<Order>> {
        let mut state = self.state.lock();
        let is_accepted = match state.phase {
            Phase::Open => true,
            Phase::Closed(at_once) => order.kind == Kind::Chunk && !at_once,
            Phase::Broken(_) => false,
        };
        if !is_accepted {
            return Err(Box::new(order));
        }
        self.enqueue(&mut state, order);
        self.dispatch(&mut state);
        self.release(state);
        Ok(())
    }

    fn enqueue(self: &Arc<Self>, state: &mut State, order: Order) {
        let number = order.number;
        let limit = order.options.queue_timeout;
        let queue_timer = limit.map(|limit| {
            let pool = Arc::clone(self);
            self.timer(limit, move || pool.queued_too_long(number, limit))
        });
        let task = Task {
            content: Arc::new(order.content),
            kind: order.kind,
            detail: order.detail,
            complete: order.complete,
            place: Place::Queued,
            holds_room: order.holds_room,
            submitted: clock::now(),
            retries: order.retries,
            lost: Vec::new(),
            near_misses: 0,
            options: order.options,
            queue_timer,
            run_timer: None,
            trace: order.trace,
        };
        state.tasks.insert(number, Box::new(task));
        state.ledger.accepted();
        state.queue.push_back(number);
        state.queued += 1;
    }

    /// Releases the lock, sends what is in line, and runs the user code that is due: it finishes
    /// futures, gives room in the queue back, tells subscribers.
    fn release(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        let (due, to_flush) = self.unlock(state);
        // Before a worker has the frame that it tells of.
        if let Some(notes) = due.notes {
            Delivery::new(self, Due::Tell(notes)).run();
        }
        self.flush_all(&to_flush);
        due.done.into_iter().for_each(|done| Delivery::new(self, Due::Finish(done)).run());
        if let Some(end) = due.end {
            Delivery::new(self, Due::End(end.into())).run();
        }
    }

    /// As [`release`](Self::release); the user code is left to the thread that reads.
    fn release_to_reader(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        self.io.deliver(self.unlock_and_flush(state));
    }

    /// As [`release`](Self::release); returns the user code, in the order in which it is to be run.
    fn unlock_and_flush(
        self: &Arc<Self>,
        state: MutexGuard<'_, State>,
    ) -> impl Iterator<Item = Delivery> {
        let (due, to_flush) = self.unlock(state);
        self.flush_all(&to_flush);
        let notes = due.notes.map(Due::Tell).into_iter();
        let all = notes
            .chain(due.done.into_iter().map(Due::Finish))
            .chain(due.end.map(|end| Due::End(end.into())));
        all.map(|due| Delivery::new(self, due))
    }

    /// Releases the lock. What is returned is to be done without it.
    fn unlock(&self, mut state: MutexGuard<'_, State>) -> (AllDue, Vec<(u32, Arc<Link>)>) {
        let to_flush = std::mem::take(&mut state.to_flush);
        let done = std::mem::take(&mut state.done);
        if !done.is_empty() {
            self.finishing.fetch_add(done.len(), Relaxed); // of a line that other threads change
        }
        let end = self.end(&mut state);
        let notes = Notes {
            room: std::mem::take(&mut state.room_left),
            ledger: state.take_ledger(),
            events: state.outbox.take(),
        };
        drop(state);
        (AllDue { notes: (!notes.is_empty()).then_some(notes), done, end }, to_flush)
    }

    fn flush_all(&self, to_flush: &[(u32, Arc<Link>)]) {
        to_flush.iter().for_each(|(number, link)| self.flush(*number, link));
    }

    fn finish_here(&self, done: Done) {
        let Outcome { complete, trace, reply, is_counted } = *done.0;
        complete.complete(reply, &trace, &|is_value| {
            if !is_counted {
                let counter = if is_value { &self.completed } else { &self.failed };
                counter.fetch_add(1, Relaxed);
                let instruments = &self.config.instruments;
                if is_value { instruments.completed() } else { instruments.failed() }
            }
        });
    }

    /// A future was finished, or the driver of a map has ended.
    fn finished(self: &Arc<Self>) {
        // Whoever closes the pool says so before it looks how many are left: one of the two sees the
        // other.
        if self.finishing.fetch_sub(1, SeqCst) > 1 || !self.is_closing.load(SeqCst) {
            return;
        }
        let mut state = self.state.lock();
        let end = self.end(&mut state);
        drop(state);
        self.ended(end);
    }

    pub(super) fn helpers(&self) -> &ThreadPoolExecutor {
        self.helpers.get_or_init(ThreadPoolExecutor::internal)
    }

    /// Runs `action` after `limit`, by the thread that reads if there is no other.
    fn timer(&self, limit: Duration, action: impl FnOnce() + Send + 'static) -> Timer {
        let (timer, is_kept) = Timer::with_stand_in(deadline(limit), Box::new(action));
        if !is_kept {
            self.io.poller.wake();
        }
        timer
    }

    /// Sends what is in line for a worker. Not under the lock.
    fn flush(&self, number: u32, link: &Link) {
        link.flush(|is_stuck| {
            // An error would mean that the worker is gone, and taken out of the poller.
            let key = Io::key(self.id, number);
            let _ = self.io.poller.change(link.socket.as_fd(), key, true, is_stuck);
        });
    }

    // ---- The caller's side ----

    /// Withdraws a task that has not started. One that runs is asked to stop, if `stop` says so.
    pub(super) fn withdraw(self: &Arc<Self>, number: u64, stop: bool) -> bool {
        let mut state = self.state.lock();
        if let Some(task) = state.withdraw(number) {
            state.left(&task);
            self.release(state);
            task.trace.outcome(Some(&Error::Cancelled));
            drop(task);
            return true;
        }
        if stop {
            state.ask_to_stop(number);
        }
        false
    }

    /// Nobody wants the task: it ends as cancelled, or is asked to stop.
    pub(super) fn cancel(self: &Arc<Self>, number: u64) {
        let mut state = self.state.lock();
        self.cancel_or_stop(&mut state, number, true);
        self.release(state);
    }

    /// Ends a task, also one that runs. `false`: it is done.
    pub(super) fn kill(self: &Arc<Self>, number: u64) -> bool {
        if self.withdraw(number, false) {
            return true;
        }
        let mut state = self.state.lock();
        let Some(task) = state.remove(number) else { return false };
        state.cancelled += 1;
        state.ledger.cancelled();
        if let Place::Sent { worker, ticket } = task.place {
            Self::condemn(&mut state, worker, ticket);
        }
        self.dispatch(&mut state);
        self.release(state);
        task.trace.outcome(Some(&Error::Cancelled));
        drop(task);
        true
    }

    pub(super) fn is_running(&self, number: u64) -> bool {
        let state = self.state.lock();
        state.tasks.get(&number).is_some_and(|task| state.has_started(task))
    }

    fn queued_too_long(self: &Arc<Self>, number: u64, limit: Duration) {
        let mut state = self.state.lock();
        if let Some(task) = state.withdraw(number) {
            state.left(&task);
            let error = Error::TimedOut { limit, started: false };
            state.done.push(Done::withdrawn(*task, error));
            self.release(state);
        }
    }

    /// The time limit may have passed: it counts from the start of the task, which the worker has
    /// noted.
    fn ran_too_long(self: &Arc<Self>, number: u64, limit: Duration) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(task) = state.tasks.get_mut(&number) else { return };
        let Place::Sent { worker: worker_number, ticket } = task.place else { return };
        let Some(worker) = state.workers.get(&worker_number) else { return };
        let left = match worker.ticket(ticket).started_at() {
            None => limit.max(Duration::from_millis(1)),
            // If it had begun later than now, the worker would have spoilt its page.
            Some(start) => ticket::now()
                .checked_sub(start)
                .map_or(Duration::ZERO, |elapsed| limit.saturating_sub(elapsed)),
        };
        if !left.is_zero() {
            let pool = Arc::clone(self);
            let timer = self.timer(left, move || pool.ran_too_long(number, limit));
            let old = task.run_timer.replace(timer);
            drop(guard);
            return drop(old);
        }
        let Some(task) = state.remove(number) else { return };
        Self::condemn(state, worker_number, ticket);
        self.dispatch(state);
        state.done.push(Done::failed(*task, Error::TimedOut { limit, started: true }));
        self.release(guard);
    }

    fn counts(&self, state: &State) -> (u64, u64, u64) {
        (self.completed.load(Relaxed), self.failed.load(Relaxed), state.cancelled)
    }

    pub(super) fn worker_pids(&self) -> Vec<u32> {
        let state = self.state.lock();
        state.workers.values().filter(|w| w.life != Life::Gone).filter_map(Worker::pid).collect()
    }

    pub(super) fn metrics(&self) -> Metrics {
        let state = self.state.lock();
        let (completed, failed, cancelled) = self.counts(&state);
        let mut totals = Totals::new();
        totals.add(&state.metrics);
        let (queue_time, run_time) = totals.times();
        let running = state.tasks.values().filter(|task| state.has_started(task)).count();
        let alive = state.workers.values().filter(|worker| worker.life == Life::Working);
        let (workers, idle) = alive.fold((0, 0), |(workers, idle), worker| {
            (workers + 1, idle + usize::from(worker.is_idle()))
        });
        Metrics {
            workers,
            idle,
            queued: state.tasks.len() - running,
            running,
            completed,
            failed,
            cancelled,
            queue_time,
            run_time,
        }
    }
}
