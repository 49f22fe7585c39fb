//! The pool itself: its queue, its workers, its life.
//!
//! One lock guards the queue and the counts of workers; it is held for a few moves and never
//! while user code runs, a thread starts, or somebody is woken.
//!
//! # Workers come and go
//!
//! * A submission wakes an idle worker if there is one that was not woken yet. Otherwise it
//!   starts one, if there are fewer than `max_workers` and more tasks wait than workers are about
//!   to look for one. A worker counts as about to look from just before its task's result is
//!   published, so whoever has seen a result finds that worker free. Code of the user's that belongs
//!   to the end of a task runs before that: callbacks, and the destructor of a result that nobody
//!   wants. Only wakers can't; a worker that is held up in one for long is not counted on any more.
//! * A worker that waits for another task is *blocked*: it does not count against `max_workers`
//!   meanwhile, so a spare can start. When it goes on there may be one worker too many; the next
//!   one to look for a task retires.
//! * A worker that retires with tasks in the queue hands its wake-up on.
//! * If the system refuses a thread, the pool goes on with the workers that it has, and tries again
//!   when a task is submitted or taken, or a worker blocks. If all workers are blocked, nothing of
//!   that may happen; so a blocked worker tries again every [`RETRY`]. A pool breaks only if it has
//!   no worker at all.
//!
//! # Local queues
//!
//! A worker whose tasks are quick takes several at once into its *local queue*; so the lock is taken once
//! for many tasks. Others take from there what would have to wait: all of it when its worker
//! blocks, or has not come back to it between two looks; half of it when they have nothing else
//! to do. No worker sleeps while there is a task in any local queue.
//!
//! What becomes of the tasks' room in a bounded queue, and how a pool ends, is checked by loom in
//! `tests/models`, with this file as it is.

use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::builder::Config;
use super::queue::{Queue, Tasks};
use super::sleep::{Called, Sleep, Sleepers};
use super::worker::{self, Seat};
use crate::cache_padded::CachePadded;
use crate::clock;
use crate::core::TaskId;
use crate::core::cell::Header;
use crate::core::local_queue::OwnLocalQueue;
use crate::core::{
    Body, Extra, Host, MaybeExtra, OnUnobserved, Outcome, Registry, TakenOut, Task, TaskRef,
    context,
};
use crate::dump::{self, Dump, Noted};
use crate::error::{BrokenPool, Error};
use crate::fork::Own;
use crate::instruments::Measured;
use crate::map::engine::{AfterChunk, Begin};
use crate::metrics::{Metrics, Totals};
use crate::panic::{KeptWaker, drop_quietly, wake_all};
use crate::room::Room;
use crate::shutdown::{Closing, Place, Shutdown, ShutdownReport, Waiters};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use crate::sync::thread::{JoinHandle, Thread};
use crate::sync::{Mutex, MutexGuard};

/// Aligned, so that the count of references, which every submission changes, is not in a cache
/// line with what every worker reads.
#[repr(align(128))]
pub(super) struct Pool {
    pub(super) config: Config,
    /// Beside what workers read, the lock makes a burst of tiny tasks take up to half as long again.
    state: CachePadded<Own<Mutex<State>>>,
    /// Idle workers wait here.
    sleep: Sleep,
    /// Room in a bounded queue.
    room: Option<Room>,
    /// Counted by whoever withdraws a task, which need not be a worker.
    cancelled: AtomicU64,
    /// Counted by the timer; failures that a worker sees are in its own metrics.
    timed_out: AtomicU64,
    /// Every job is asked to stop.
    stopping: AtomicBool,
    /// Set under the lock when the system refuses a thread while tasks wait and all workers are
    /// blocked; cleared by a blocked worker that finds it otherwise.
    starved: AtomicBool,
    /// Held by the one that joins the threads; the others wait for it.
    joining: Mutex<()>,
}

/// After a refusal a pool with workers asks for no thread for so long.
const RETRY: Duration = Duration::from_millis(20);

/// What every push looks at comes first, and lies together.
#[repr(C)]
struct State {
    queue: Queue,
    sleepers: Sleepers,
    /// Workers that have a seat, and those of them that wait inside of a job.
    live: usize,
    blocked: usize,
    phase: Phase,
    /// Number of pushes, and how many of them were of a task that had been accepted before. Apart, so
    /// that a submission counts without a branch.
    pushed: u64,
    woken: u64,
    /// By number; free places are used again.
    seats: Vec<Option<Arc<Seat>>>,
    /// The seat whose local queue is to be looked at next.
    next_look: usize,
    /// All that were started, but for some that have ended.
    threads: Vec<JoinHandle<()>>,
    /// Threads that are being started and are not in `threads` yet.
    starting: usize,
    /// The system's last refusal to start a thread, until one is started.
    refused: Option<Refused>,
    /// Tasks with async bodies that have not ended. A suspended one is in no queue.
    async_tasks: Registry,
    /// Maps that may not have begun in earnest.
    maps: Vec<Weak<dyn Begin>>,
    /// Tasks that were asked to stop while they ran, and perhaps some that have ended.
    asked_to_stop: Vec<TaskId>,
    /// Of workers that have ended.
    totals: Totals,
    /// What was counted when the first shutdown began.
    at_shutdown: Option<(u64, u64, u64)>,
    waiting_for_end: Waiters,
}

impl AsMut<Sleepers> for State {
    fn as_mut(&mut self) -> &mut Sleepers {
        &mut self.sleepers
    }
}

struct Refused {
    at: Instant,
    cause: BrokenPool,
}

impl Refused {
    /// How long the pool asks for no other thread.
    fn pause(&self) -> Duration {
        RETRY.saturating_sub(self.at.elapsed())
    }
}

enum Phase {
    Open,
    /// No new tasks; with `true`, no continuations of maps either.
    Closed(bool),
    Broken(BrokenPool),
}

/// The reason for which a task is queued. It decides what a closed pool still takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Caller,
    /// A job of a map that was accepted before.
    Continuation,
    /// A caller, with an async body.
    AsyncCaller,
    /// A started task that was woken.
    Woken,
}

/// Somebody to set in motion, once the lock is released.
#[must_use]
enum Rouse {
    Nobody,
    Called(Called),
    New(Arc<Seat>, OwnLocalQueue),
}

impl State {
    fn new(phase: Phase) -> Self {
        Self {
            queue: Queue::default(),
            phase,
            pushed: 0,
            woken: 0,
            seats: Vec::new(),
            threads: Vec::new(),
            starting: 0,
            refused: None,
            live: 0,
            blocked: 0,
            sleepers: Sleepers::default(),
            next_look: 0,
            async_tasks: Registry::default(),
            maps: Vec::new(),
            asked_to_stop: Vec::new(),
            totals: Totals::new(),
            at_shutdown: None,
            waiting_for_end: Waiters::default(),
        }
    }

    /// What a forked child has of the pool.
    fn abroad() -> Mutex<Self> {
        Mutex::new(Self::new(Phase::Broken(BrokenPool::abroad())))
    }

    fn active(&self) -> usize {
        self.live - self.blocked
    }

    /// Whether there is anybody to wake, or one more worker to start.
    fn may_find_worker(&self, max_workers: usize) -> bool {
        self.sleepers.can_be_called() || self.active() < max_workers
    }

    /// Whether tasks wait and no worker will look at them before one that is blocked goes on.
    fn is_starved(&self) -> bool {
        self.live > 0 && self.active() == 0 && self.waiting() > 0
    }

    /// Whether no thread is to be asked for, since one was refused a moment ago. A pool in which
    /// nobody looks at the queue asks all the same.
    fn pauses(&self) -> bool {
        self.active() > 0 && self.refused.as_ref().is_some_and(|refused| !refused.pause().is_zero())
    }

    /// Returns the number of tasks that wait, in the queue or in a local one.
    fn waiting(&self) -> usize {
        let local: usize = self.seats().map(|seat| seat.local_queue.len()).sum();
        (self.queue.entries() + local).saturating_sub(self.queue.dead())
    }

    /// The worker at `seat` looks at the queue no more. In one step with its decision, since
    /// whoever pushes or blocks next must not count on it.
    fn retire(&mut self, seat: &Arc<Seat>) {
        let Some(place) = self.seats.get_mut(seat.index) else { return };
        if place.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, seat)) {
            *place = None;
            self.live -= 1;
            self.totals.add(&seat.metrics);
        }
    }

    fn has_ended(&self) -> bool {
        !matches!(self.phase, Phase::Open)
            && self.live == 0
            && self.starting == 0
            && self.waiting() == 0
            && self.async_tasks.is_empty()
    }

    /// Whether a worker that finds the queue empty should end.
    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Closed(_) => self.async_tasks.is_empty(),
            Phase::Broken(_) => true,
        }
    }

    /// Takes all tasks out of the queue that have not started. The second part are dead entries, to
    /// be dropped once the lock is released.
    fn withdraw_unstarted(&mut self) -> (Vec<TakenOut>, Tasks) {
        for seat in self.seats.iter().flatten() {
            self.queue.put_back(std::iter::from_fn(|| seat.local_queue.take()).collect());
        }
        let (mut withdrawn, mut dead) = (Vec::new(), Vec::new());
        for task in self.queue.take_unstarted() {
            match task.take_out() {
                Ok(task) => withdrawn.push(task),
                Err(task) => dead.push(task),
            }
        }
        (withdrawn, dead)
    }

    /// Takes a task for a worker whose local queue is empty, and up to `more` others for that.
    fn take_tasks(&mut self, own: &mut OwnLocalQueue, more: usize) -> Option<TaskRef> {
        self.free_stuck_queue();
        if let Some(task) = self.queue.pop() {
            let fair = self.queue.entries() / (2 * self.active().max(1));
            if more > 0 && fair > 0 {
                own.fill(self.queue.pop_many(fair.min(more).min(own.room())));
            }
            return Some(task);
        }
        let full = self.seats().find(|seat| !seat.local_queue.is_empty())?;
        let half = full.local_queue.len() / 2;
        let task = full.local_queue.take()?;
        own.fill(std::iter::from_fn(|| full.local_queue.take()).take(half.min(own.room())));
        Some(task)
    }

    /// Puts the tasks of a local queue back whose worker has not come back to it since it was last
    /// looked at. Each call looks at one.
    fn free_stuck_queue(&mut self) {
        self.next_look = (self.next_look + 1) % self.seats.len().max(1);
        if let Some(Some(seat)) = self.seats.get(self.next_look) {
            if seat.is_stuck() {
                self.queue.put_back(std::iter::from_fn(|| seat.local_queue.take()).collect());
            }
        }
    }

    /// Puts the tasks of all local queues back, so that the queue has all that waits.
    fn gather_local_queues(&mut self, now: u64) {
        let locals = self.seats.iter().flatten().map(|seat| &seat.local_queue);
        let mut tasks: Tasks =
            locals.flat_map(|local| std::iter::from_fn(|| local.take())).collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.header().state.waited(now)));
        self.queue.put_back(tasks);
    }

    fn wakers_at_end(&mut self) -> Vec<KeptWaker> {
        if self.has_ended() { self.waiting_for_end.take_all() } else { Vec::new() }
    }

    fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().flatten()
    }
}

impl Pool {
    pub(super) fn new(config: Config) -> Arc<Self> {
        let room = config.queue_capacity.map(Room::new);
        let pool = Arc::new(Self {
            config,
            state: CachePadded(Own::new(Mutex::new(State::new(Phase::Open)), State::abroad)),
            sleep: Sleep::new(),
            room,
            cancelled: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            joining: Mutex::new(()),
        });
        pool.config.instruments.include(&pool);
        pool
    }

    /// The pool's address, to tell pools apart.
    pub(super) fn address(self: &Arc<Self>) -> *const () {
        Arc::as_ptr(self).cast()
    }

    // ---- Room in the queue ----

    /// A forked child has none: another thread may have held its lock.
    fn room(&self) -> Option<&Room> {
        self.room.as_ref().filter(|_| self.state.is_home())
    }

    /// Takes room for one task; a task gives it back when it starts or is withdrawn.
    #[inline]
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
        if matches!(self.state.lock().phase, Phase::Open) {
            return Ok(());
        }
        self.release_room();
        Err(self.refusal())
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        let is_open = matches!(self.state.lock().phase, Phase::Open);
        if is_open { Ok(()) } else { Err(self.refusal()) }
    }

    /// Why the pool takes no tasks.
    #[cold]
    pub(super) fn refusal(&self) -> Error {
        match &self.state.lock().phase {
            Phase::Broken(cause) => Error::BrokenPool(cause.clone()),
            _ => Error::ShutDown,
        }
    }

    /// Why the pool does not go on with a map that it had accepted.
    pub(super) fn withdrawal(&self) -> Error {
        let state = self.state.lock();
        match (&state.phase, &state.refused) {
            (Phase::Broken(cause), _) => Error::BrokenPool(cause.clone()),
            (_, Some(refused)) if state.live == 0 => Error::BrokenPool(refused.cause.clone()),
            _ => Error::Cancelled,
        }
    }

    // ---- The queue ----

    /// Makes a task and queues it, or gives its body back. A caller has taken room for it, which
    /// is free again then.
    pub(super) fn enqueue<B: Body, X: MaybeExtra>(
        self: &Arc<Self>,
        body: B,
        extra: X,
        origin: Origin,
    ) -> Result<Outcome<B::Output>, (B, Error)> {
        let takes_room = origin != Origin::Continuation;
        let (task, submitted) = Task::submit(self, body, extra, takes_room);
        match self.push(task, origin) {
            Ok(()) => Ok(submitted.accepted()),
            Err((task, error)) => {
                if takes_room {
                    self.release_room();
                }
                Err((submitted.refused(task), error))
            }
        }
    }

    /// Queues a task and sees that somebody will run it, or gives it back.
    fn push(self: &Arc<Self>, task: TaskRef, origin: Origin) -> Result<(), (TaskRef, Error)> {
        let mut state = self.state.lock();
        let accepted = match (&state.phase, origin) {
            (Phase::Open, _) | (Phase::Closed(_), Origin::Woken) => true,
            (Phase::Closed(is_cancelled), Origin::Continuation) => !is_cancelled,
            _ => false,
        };
        if !accepted {
            drop(state);
            return Err((task, self.refusal()));
        }
        state.pushed += 1;
        match origin {
            Origin::Caller | Origin::Continuation => {}
            Origin::AsyncCaller => state.async_tasks.insert(&task),
            Origin::Woken => state.woken += 1,
        }
        state.queue.push(task);
        if state.may_find_worker(self.config.max_workers) {
            let rouse = self.find_worker(&mut state);
            self.rouse(state, rouse);
        }
        Ok(())
    }

    /// What a map's driver does between two chunks.
    pub(super) fn after_chunk(&self) -> AfterChunk {
        let state = self.state.lock();
        match state.phase {
            Phase::Closed(true) | Phase::Broken(_) => AfterChunk::GiveUp,
            _ if state.waiting() == 0 => AfterChunk::GoOn,
            _ => AfterChunk::Requeue,
        }
    }

    /// Chooses who is to look at the queue.
    fn find_worker(&self, state: &mut State) -> Rouse {
        let called = self.sleep.call(&mut state.sleepers);
        if called != Called::Nobody {
            return Rouse::Called(called);
        }
        if state.active() >= self.config.max_workers || state.pauses() {
            return Rouse::Nobody;
        }
        // In this order: a worker is busy before it takes what was waiting in its local queue.
        let waiting = state.waiting();
        let now = clock::now();
        let about_to_look = state.seats().filter(|seat| seat.is_about_to_look(now)).count();
        if waiting <= about_to_look {
            return Rouse::Nobody;
        }
        let free = state.seats.iter().position(Option::is_none);
        let index = free.unwrap_or(state.seats.len());
        let own = OwnLocalQueue::new();
        let seat = Arc::new(Seat::new(index, own.clone()));
        if free.is_some() {
            state.seats[index] = Some(Arc::clone(&seat));
        } else {
            state.seats.push(Some(Arc::clone(&seat)));
        }
        state.live += 1;
        state.starting += 1;
        Rouse::New(seat, own)
    }

    fn rouse(self: &Arc<Self>, state: MutexGuard<'_, State>, rouse: Rouse) {
        drop(state);
        match rouse {
            Rouse::Nobody => {}
            Rouse::Called(called) => self.sleep.wake(called),
            Rouse::New(seat, own) => self.start_worker(seat, own),
        }
    }

    fn start_worker(self: &Arc<Self>, seat: Arc<Seat>, own: OwnLocalQueue) {
        let spawned = worker::spawn(self, &seat, own);
        let mut state = self.state.lock();
        state.starting -= 1;
        // The threads of workers that have retired meanwhile need no one to wait for them. Not at
        // the end: it waits for the destructors of thread-locals as well, which may still run.
        if matches!(state.phase, Phase::Open) {
            state.threads.retain(|thread| !thread.is_finished());
        }
        match spawned {
            Ok(thread) => {
                if self.starved.load(Relaxed) {
                    thread.thread().unpark(); // It may have blocked before it was in the list.
                }
                state.threads.push(thread);
                state.refused = None;
                let wakers = state.wakers_at_end();
                drop(state);
                wake_all(wakers);
            }
            Err(refused) => self.on_refusal(state, &seat, &refused),
        }
    }

    /// The worker at `seat` has no thread. Those that there are do its work; if there is none, all
    /// that waits ends with the system's reason.
    fn on_refusal(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        seat: &Arc<Seat>,
        refused: &std::io::Error,
    ) {
        state.retire(seat);
        let cause = format!("the system refused to start a worker thread: {refused}");
        let cause = BrokenPool::new(cause.into());
        state.refused = Some(Refused { at: Instant::now(), cause: cause.clone() });
        if state.live == 0 {
            return self.fail_all(state, cause, !self.config.is_internal);
        }
        let mut blocked = Vec::new();
        if state.is_starved() {
            self.starved.store(true, Relaxed);
            blocked.extend(state.threads.iter().map(|thread| thread.thread().clone()));
        }
        drop(state);
        // Those that are blocked see that they have to try again.
        blocked.iter().for_each(Thread::unpark);
    }

    /// For a blocked worker: if the pool is starved, tries to start another worker unless that was
    /// refused a moment ago. The answer is when to ask again; `None`: the pool is not starved.
    pub(super) fn seek_spare(self: &Arc<Self>) -> Option<Duration> {
        if !self.starved.load(Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        if !state.is_starved() {
            self.starved.store(false, Relaxed);
            return None;
        }
        let pause = state.refused.as_ref().map_or(Duration::ZERO, Refused::pause);
        if !pause.is_zero() {
            return Some(pause);
        }
        let rouse = self.find_worker(&mut state);
        self.rouse(state, rouse);
        Some(RETRY)
    }

    // ---- The worker's view ----

    /// The next task for the worker at `seat`; waits for one. With it the worker may take up to
    /// `more` others into its local queue. `None`: the worker is to end.
    pub(super) fn next_task(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        own: &mut OwnLocalQueue,
        more: usize,
    ) -> Option<TaskRef> {
        if !seat.local_queue.is_empty() {
            // Before it takes one: nobody is to count on it to look at the queue.
            seat.set_busy();
            if let Some(task) = own.take() {
                return Some(task);
            }
        }
        let mut state = self.state.lock();
        seat.looks();
        let mut has_watched = false;
        loop {
            if state.active() > self.config.max_workers {
                // One too many, since a worker that was blocked has gone on.
                let waits = state.waiting() > 0;
                let called =
                    if waits { self.sleep.call(&mut state.sleepers) } else { Called::Nobody };
                state.retire(seat);
                drop(state);
                self.sleep.wake(called);
                return None;
            }
            if let Some(task) = state.take_tasks(own, more) {
                seat.set_busy();
                if state.refused.is_some() {
                    let rouse = self.find_worker(&mut state);
                    self.rouse(state, rouse);
                }
                return Some(task);
            }
            if state.is_over() {
                state.retire(seat);
                return None;
            }
            state = self.sleep.wait(self.state.get(), state, &mut has_watched);
        }
    }

    pub(super) fn dead_popped(&self) {
        self.state.lock().queue.dead_popped();
    }

    /// The worker's last step.
    pub(super) fn leave(&self, seat: &Arc<Seat>) {
        let wakers = {
            let mut state = self.state.lock();
            state.retire(seat);
            state.wakers_at_end()
        };
        wake_all(wakers);
    }

    /// A worker is about to wait inside of a job, or of what belongs to its end: its place and its
    /// local queue are free for others.
    pub(super) fn block(self: &Arc<Self>, seat: &Seat) {
        let mut state = self.state.lock();
        state.blocked += 1;
        self.hold_up(state, seat);
    }

    /// A worker that counted as about to look for a task is to run code of the user's first.
    pub(super) fn keep_busy(self: &Arc<Self>, seat: &Seat) {
        self.hold_up(self.state.lock(), seat);
    }

    /// The worker at `seat` is not to be counted on: what waits for it is for others.
    fn hold_up(self: &Arc<Self>, mut state: MutexGuard<'_, State>, seat: &Seat) {
        seat.set_busy();
        state.queue.put_back(std::iter::from_fn(|| seat.local_queue.take()).collect());
        let rouse = if state.waiting() == 0 { Rouse::Nobody } else { self.find_worker(&mut state) };
        self.rouse(state, rouse);
    }

    pub(super) fn unblock(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.blocked -= 1;
        let rouse = if state.active() > self.config.max_workers {
            Rouse::Called(self.sleep.call(&mut state.sleepers)) // to retire
        } else {
            Rouse::Nobody
        };
        self.rouse(state, rouse);
    }

    // ---- The end ----

    /// Registers a map that must begin in earnest before the pool closes.
    pub(super) fn add_map(&self, map: Weak<dyn Begin>) {
        let mut state = self.state.lock();
        if state.maps.len() == state.maps.capacity() {
            state.maps.retain(|map| map.strong_count() > 0);
        }
        state.maps.push(map);
    }

    pub(super) fn close(self: &Arc<Self>, how: Shutdown) {
        let maps = std::mem::take(&mut self.state.lock().maps);
        if how == Shutdown::Drain {
            for map in maps.iter().filter_map(Weak::upgrade) {
                map.begin();
            }
        }
        let cancel = how == Shutdown::CancelQueued;
        let (withdrawn, dead, wakers) = {
            let mut state = self.state.lock();
            if state.at_shutdown.is_none() {
                state.at_shutdown = Some(self.counts(&state));
            }
            match &mut state.phase {
                Phase::Open => state.phase = Phase::Closed(cancel),
                Phase::Closed(cancelled) => *cancelled |= cancel,
                Phase::Broken(_) => {}
            }
            let (withdrawn, dead) =
                if cancel { state.withdraw_unstarted() } else { (Vec::new(), Vec::new()) };
            (withdrawn, dead, state.wakers_at_end())
        };
        drop(dead);
        self.close_room();
        self.end_tasks(withdrawn, &Error::Cancelled, wakers);
    }

    /// Ends all that waits, for a cause that all further submissions are told.
    pub(super) fn break_with(self: &Arc<Self>, cause: Box<dyn std::error::Error + Send + Sync>) {
        let state = self.state.lock();
        self.fail_all(state, BrokenPool::new(cause), true);
    }

    /// Ends all that waits. With `for_good` the pool is broken then.
    fn fail_all(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        cause: BrokenPool,
        for_good: bool,
    ) {
        if matches!(state.phase, Phase::Broken(_)) {
            return; // The first cause stays.
        }
        if for_good {
            state.phase = Phase::Broken(cause.clone());
        }
        let (withdrawn, dead) = state.withdraw_unstarted();
        let (asynchronous, wakers) = (state.async_tasks.tasks(), state.wakers_at_end());
        drop(state);
        drop(dead);
        if for_good {
            self.close_room();
        }
        for task in asynchronous {
            task.runnable().withdraw(Error::BrokenPool(cause.clone()));
        }
        self.end_tasks(withdrawn, &Error::BrokenPool(cause), wakers);
    }

    fn close_room(&self) {
        if let Some(room) = self.room() {
            room.close();
        }
    }

    /// Ends tasks that were taken out, and has workers and waiters look at the change.
    fn end_tasks(&self, withdrawn: Vec<TakenOut>, why: &Error, wakers: Vec<KeptWaker>) {
        for task in withdrawn {
            let why = match why {
                Error::BrokenPool(cause) => Error::BrokenPool(cause.clone()),
                _ => Error::Cancelled,
            };
            task.end(why);
        }
        self.sleep.wake_all();
        wake_all(wakers);
    }

    fn async_tasks(&self) -> Tasks {
        self.state.lock().async_tasks.tasks()
    }

    // ---- What is counted ----

    fn totals(&self, state: &State) -> Totals {
        let mut totals = state.totals.clone();
        for seat in state.seats() {
            totals.add(&seat.metrics);
        }
        totals.failed += self.timed_out.load(Relaxed);
        totals
    }

    fn counts(&self, state: &State) -> (u64, u64, u64) {
        let totals = self.totals(state);
        (totals.completed, totals.failed, self.cancelled.load(Relaxed))
    }

    pub(super) fn metrics(&self) -> Metrics {
        // Only what must fit together is read under the lock; submitters and workers need it.
        let (mut totals, submitted, seats, workers, idle, queued) = {
            let state = self.state.lock();
            let seats: Vec<_> = state.seats().cloned().collect();
            let idle = seats.iter().filter(|seat| !seat.is_busy()).count();
            let totals = state.totals.clone();
            (totals, state.pushed - state.woken, seats, state.live, idle, state.waiting())
        };
        for seat in &seats {
            totals.add(&seat.metrics);
        }
        totals.failed += self.timed_out.load(Relaxed);
        let (completed, failed) = (totals.completed, totals.failed);
        let (queue_time, run_time) = totals.times();
        Metrics {
            workers,
            idle,
            queued,
            running: seats.iter().map(|seat| seat.running().len()).sum(),
            submitted,
            completed,
            failed,
            cancelled: self.cancelled.load(Relaxed),
            workers_lost: 0,
            queue_time,
            run_time,
        }
    }

    /// The name of a worker's thread.
    pub(super) fn worker_name(&self, seat: &Seat) -> String {
        format!("{}_{}", self.config.thread_name_prefix, seat.index)
    }

    pub(super) fn dump(&self) -> Dump {
        let now = clock::now();
        let note = |header: &Header, extra: Option<&Extra>| Noted {
            id: header.id(),
            label: extra.and_then(|extra| extra.label().cloned()),
            ticks: header.state.waited(now),
        };
        let note_suspended = |header: &Header, extra: Option<&Extra>| {
            let now = header.state.look();
            (now.is_at_rest() && !now.is_queued()).then(|| note(header, extra))
        };
        // Only what must fit together is read under the lock; submitters and workers need it.
        let (state, seats, asked_to_stop, count, queued, suspended) = {
            let mut state = self.state.lock();
            state.gather_local_queues(now);
            let phase = match &state.phase {
                Phase::Broken(cause) => dump::State::Broken(cause.clone()),
                _ if state.has_ended() => dump::State::Ended,
                Phase::Open => dump::State::Open,
                Phase::Closed(false) => dump::State::Draining,
                Phase::Closed(true) => dump::State::Cancelling,
            };
            let seats: Vec<_> = state.seats().cloned().collect();
            let queued = state.queue.first(dump::LOOKED_AT);
            let queued = queued.map(|task| note(task.header(), task.runnable().extra()));
            let queued: Vec<_> = queued.collect();
            let suspended = state.async_tasks.look(dump::LOOKED_AT, note_suspended);
            (phase, seats, state.asked_to_stop.clone(), state.waiting(), queued, suspended)
        };
        let stopping = self.stopping.load(Relaxed);
        let is_asked_to_stop = |id| stopping || asked_to_stop.contains(&id);
        let workers = seats.iter().map(|seat| dump::Worker {
            name: self.worker_name(seat),
            pid: None,
            cpu_time: None,
            peak_memory: None,
            tasks: seat.dump(is_asked_to_stop),
            is_leaving: false,
            is_stopped: false,
        });
        Dump {
            pool: self.config.thread_name_prefix.clone(),
            state,
            max_workers: self.config.max_workers,
            workers: workers.collect(),
            suspended: Noted::into_waiting(suspended),
            queue: dump::Queue::new(count, self.config.queue_capacity, queued),
        }
    }

    pub(super) fn max_workers(&self) -> usize {
        self.config.max_workers
    }
}

impl Measured for Pool {
    fn export(&self) {
        self.config.instruments.export(|| self.metrics());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.export();
    }
}

impl Host for Pool {
    fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool {
        let swept = {
            let mut state = self.state.lock();
            if !take() {
                return false;
            }
            state.queue.one_died()
        };
        drop(swept);
        true
    }

    fn requeue(self: &Arc<Self>, task: TaskRef) {
        if let Err((task, error)) = self.push(task, Origin::Woken) {
            task.runnable().withdraw(error);
        }
    }

    fn release_room(&self) {
        if let Some(room) = self.room() {
            room.release(1);
        }
    }

    fn count_cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    fn count_failed(&self) {
        self.timed_out.fetch_add(1, Relaxed);
    }

    fn async_ended(&self, id: TaskId) {
        let (is_over, wakers) = {
            let mut state = self.state.lock();
            state.async_tasks.remove(id);
            (state.is_over(), state.wakers_at_end())
        };
        if is_over {
            self.sleep.wake_all();
        }
        wake_all(wakers);
    }

    fn asked_to_stop(&self, id: TaskId) {
        let mut state = self.state.lock();
        let State { asked_to_stop, seats, .. } = &mut *state;
        if asked_to_stop.contains(&id) {
            return;
        }
        if asked_to_stop.len() == asked_to_stop.capacity() {
            asked_to_stop.retain(|id| seats.iter().flatten().any(|seat| seat.runs(*id)));
        }
        asked_to_stop.push(id);
    }

    fn on_unobserved(&self) -> &OnUnobserved {
        &self.config.on_unobserved
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    fn name(&self) -> &str {
        &self.config.thread_name_prefix
    }
}

/// The pool as its shutdown sees it.
pub(super) struct Ending(pub(super) Arc<Pool>);

impl Closing for Ending {
    fn poll_ended(&self, place: &mut Place, waker: &Waker) -> Poll<()> {
        let waker = KeptWaker::new(waker);
        let mut state = self.0.state.lock();
        if state.has_ended() {
            return Poll::Ready(());
        }
        let old = state.waiting_for_end.leave(place, waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    fn give_up(&self, place: Place) {
        let old = self.0.state.lock().waiting_for_end.give_up(place);
        drop(old);
    }

    fn report(&self) -> ShutdownReport {
        // A recorder knows all that the report does.
        self.0.export();
        let state = self.0.state.lock();
        let (completed, failed, cancelled) = self.0.counts(&state);
        let before = state.at_shutdown.unwrap_or_default();
        ShutdownReport {
            completed: completed - before.0,
            failed: failed - before.1,
            cancelled: cancelled - before.2,
            queued: state.waiting(),
            running: state.seats().flat_map(|seat| seat.running()).collect(),
        }
    }

    fn escalate(&self) {
        self.0.stopping.store(true, SeqCst);
        self.0.close(Shutdown::CancelQueued);
        for task in self.0.async_tasks() {
            task.runnable().withdraw(Error::Cancelled);
        }
    }

    fn is_inside(&self) -> bool {
        context::is_worker_of(self.0.address())
    }

    fn join(&self) {
        if !self.0.state.is_home() {
            return;
        }
        // Whoever comes second waits as well.
        let _joining = self.0.joining.lock();
        let threads = std::mem::take(&mut self.0.state.lock().threads);
        for thread in threads {
            // A worker does not panic; if it did, it has ended all the same.
            drop_quietly(thread.join());
        }
    }
}
