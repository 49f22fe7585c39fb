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
//!   published, so whoever has seen a result finds that worker free.
//! * A worker that waits for another task is *blocked*: it does not count against `max_workers`
//!   meanwhile, so a spare can start. When it goes on there may be one worker too many; the next
//!   one to look for a task retires.
//! * A worker that retires with tasks in the queue hands its wake-up on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use tokio::sync::Semaphore;

use super::builder::Config;
use super::queue::Queue;
use super::worker::{self, Seat};
use crate::core::task::TaskId;
use crate::core::{Host, Runnable, context};
use crate::error::{BrokenPool, Error};
use crate::map::engine::Begin;
use crate::metrics::{Metrics, Totals};
use crate::panic::{catch, drop_quietly};
use crate::shutdown::{Closing, Shutdown, ShutdownReport};
use crate::sync::{Condvar, Mutex};

pub(super) struct Pool {
    pub(super) config: Config,
    state: Mutex<State>,
    /// Idle workers wait here.
    work: Condvar,
    /// Room in a bounded queue; fair, so that nobody who waits for room is passed over.
    room: Option<Semaphore>,
    /// Counted by whoever withdraws a task, which need not be a worker.
    cancelled: AtomicU64,
    /// Counted by the timer; failures that a worker sees are in its own metrics.
    timed_out: AtomicU64,
    /// Every job is asked to stop.
    stopping: AtomicBool,
}

struct State {
    queue: Queue,
    phase: Phase,
    /// By number; free places are used again.
    seats: Vec<Option<Arc<Seat>>>,
    threads: Vec<(Arc<Seat>, JoinHandle<()>)>,
    /// Workers that have a seat; those of them that wait for a task in the queue; those that
    /// were woken and have not got to it; those that wait inside of a job.
    live: usize,
    idle: usize,
    woken: usize,
    blocked: usize,
    /// Tasks with async bodies that have not ended. A suspended one is in no queue.
    async_tasks: HashMap<TaskId, Weak<dyn Runnable>>,
    /// Maps that may not have begun in earnest.
    maps: Vec<Weak<dyn Begin>>,
    /// Of workers that have ended.
    totals: Totals,
    /// What was counted when the first shutdown began.
    at_shutdown: Option<(u64, u64, u64)>,
    waiting_for_end: Vec<Waker>,
}

enum Phase {
    Open,
    /// No new tasks; with `true`, no continuations of maps either.
    Closed(bool),
    Broken(BrokenPool),
}

/// What a submission that must be refused once the pool is closed, or may go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Caller,
    /// Work that was accepted before goes on.
    Continuation,
}

/// Somebody to set in motion, once the lock is released.
#[must_use]
enum Rouse {
    Nobody,
    Idle,
    New(Arc<Seat>),
}

impl State {
    fn active(&self) -> usize {
        self.live - self.blocked
    }

    fn has_ended(&self) -> bool {
        !matches!(self.phase, Phase::Open)
            && self.live == 0
            && self.queue.is_empty()
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

    fn wakers_at_end(&mut self) -> Vec<Waker> {
        if self.has_ended() { std::mem::take(&mut self.waiting_for_end) } else { Vec::new() }
    }

    fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().flatten()
    }
}

impl Pool {
    pub(super) fn new(config: Config) -> Arc<Self> {
        let room = config.queue_capacity.map(Semaphore::new);
        Arc::new(Self {
            config,
            state: Mutex::new(State {
                queue: Queue::default(),
                phase: Phase::Open,
                seats: Vec::new(),
                threads: Vec::new(),
                live: 0,
                idle: 0,
                woken: 0,
                blocked: 0,
                async_tasks: HashMap::new(),
                maps: Vec::new(),
                totals: Totals::new(),
                at_shutdown: None,
                waiting_for_end: Vec::new(),
            }),
            work: Condvar::new(),
            room,
            cancelled: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// The pool's address, to tell pools apart.
    pub(super) fn address(self: &Arc<Self>) -> *const () {
        Arc::as_ptr(self).cast()
    }

    // ---- Room in the queue ----

    /// Takes room for one task; a task gives it back when it starts or is withdrawn.
    pub(super) fn take_room(&self) -> Result<(), Error> {
        let Some(room) = &self.room else { return Ok(()) };
        match room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                Err(Error::QueueFull { capacity: self.config.queue_capacity.unwrap_or(usize::MAX) })
            }
            Err(tokio::sync::TryAcquireError::Closed) => Err(self.refusal()),
        }
    }

    pub(super) async fn wait_for_room(&self) -> Result<(), Error> {
        if let Some(room) = &self.room {
            match room.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_closed) => return Err(self.refusal()),
            }
        }
        if matches!(self.state.lock().phase, Phase::Open) {
            return Ok(());
        }
        self.release_room();
        Err(self.refusal())
    }

    /// Why the pool takes no tasks.
    pub(super) fn refusal(&self) -> Error {
        match &self.state.lock().phase {
            Phase::Broken(cause) => Error::BrokenPool(cause.clone()),
            _ => Error::ShutDown,
        }
    }

    /// Why the pool dropped a task that it had accepted.
    pub(super) fn withdrawal(&self) -> Error {
        match &self.state.lock().phase {
            Phase::Broken(cause) => Error::BrokenPool(cause.clone()),
            _ => Error::Cancelled,
        }
    }

    // ---- The queue ----

    /// Queues a task and sees that somebody will run it. `async_id`: of a task with an async
    /// body, at its submission.
    pub(super) fn push(
        self: &Arc<Self>,
        task: Arc<dyn Runnable>,
        origin: Origin,
        async_id: Option<TaskId>,
    ) -> Result<(), Error> {
        let mut state = self.state.lock();
        let accepted = match (&state.phase, origin) {
            (Phase::Open, _) | (Phase::Closed(false), Origin::Continuation) => true,
            (Phase::Closed(true), Origin::Continuation) => task.is_started(),
            _ => false,
        };
        if !accepted {
            drop(state);
            return Err(self.refusal());
        }
        if let Some(id) = async_id {
            state.async_tasks.insert(id, Arc::downgrade(&task));
        }
        state.queue.push(task);
        let rouse = self.find_worker(&mut state);
        self.rouse(state, rouse);
        Ok(())
    }

    /// Tells whether tasks wait in the queue.
    pub(super) fn is_wanted(&self) -> bool {
        !self.state.lock().queue.is_empty()
    }

    /// Chooses who is to look at the queue.
    fn find_worker(&self, state: &mut State) -> Rouse {
        if state.idle > state.woken {
            state.woken += 1;
            return Rouse::Idle;
        }
        if state.active() >= self.config.max_workers {
            return Rouse::Nobody;
        }
        let about_to_look = state.seats().filter(|seat| !seat.is_busy()).count();
        if state.queue.len() <= about_to_look {
            return Rouse::Nobody;
        }
        let free = state.seats.iter().position(Option::is_none);
        let index = free.unwrap_or(state.seats.len());
        let seat = Arc::new(Seat::new(index));
        if free.is_some() {
            state.seats[index] = Some(Arc::clone(&seat));
        } else {
            state.seats.push(Some(Arc::clone(&seat)));
        }
        state.live += 1;
        Rouse::New(seat)
    }

    fn rouse(self: &Arc<Self>, state: MutexGuard<'_, State>, rouse: Rouse) {
        drop(state);
        match rouse {
            Rouse::Nobody => {}
            Rouse::Idle => self.work.notify_one(),
            Rouse::New(seat) => self.start_worker(seat),
        }
    }

    fn start_worker(self: &Arc<Self>, seat: Arc<Seat>) {
        match worker::spawn(self, &seat) {
            Ok(thread) => {
                let mut state = self.state.lock();
                let is_here = state.seats().any(|other| Arc::ptr_eq(other, &seat));
                // One that has retired meanwhile needs no one to wait for it.
                if is_here || !matches!(state.phase, Phase::Open) {
                    state.threads.push((seat, thread));
                }
            }
            Err(refused) => {
                let is_last = self.leave(&seat);
                if is_last {
                    let refused = format!("the system refused to start a worker thread: {refused}");
                    self.break_with(refused.into());
                }
            }
        }
    }

    // ---- The worker's view ----

    /// The next task for the worker at `seat`; waits for one. `None`: the worker is to end.
    pub(super) fn next_task(&self, seat: &Seat) -> Option<Arc<dyn Runnable>> {
        let mut state = self.state.lock();
        seat.set_busy(false);
        loop {
            if state.active() > self.config.max_workers {
                // One too many, since a worker that was blocked has gone on.
                if !state.queue.is_empty() && state.idle > state.woken {
                    state.woken += 1;
                    self.work.notify_one();
                }
                return None;
            }
            if let Some(task) = state.queue.pop() {
                seat.set_busy(true);
                return Some(task);
            }
            if state.is_over() {
                return None;
            }
            state.idle += 1;
            state = self.work.wait(state);
            state.idle -= 1;
            state.woken = state.woken.saturating_sub(1);
        }
    }

    pub(super) fn dead_popped(&self) {
        self.state.lock().queue.dead_popped();
    }

    /// The worker has ended; `true` if it was the last one.
    pub(super) fn leave(&self, seat: &Arc<Seat>) -> bool {
        let (is_last, thread, wakers) = {
            let mut state = self.state.lock();
            state.live -= 1;
            state.totals.add(&seat.metrics);
            if let Some(place) = state.seats.get_mut(seat.index) {
                *place = None;
            }
            let mine = state.threads.iter().position(|(other, _)| Arc::ptr_eq(other, seat));
            let mine = mine.filter(|_| matches!(state.phase, Phase::Open));
            let thread = mine.map(|index| state.threads.swap_remove(index));
            (state.live == 0, thread, state.wakers_at_end())
        };
        drop(thread);
        wake_all(wakers);
        is_last
    }

    /// A worker is about to wait inside of a job: its place is free for another.
    pub(super) fn block(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.blocked += 1;
        let rouse =
            if state.queue.is_empty() { Rouse::Nobody } else { self.find_worker(&mut state) };
        self.rouse(state, rouse);
    }

    pub(super) fn unblock(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.blocked -= 1;
        let rouse = if state.active() > self.config.max_workers && state.idle > state.woken {
            state.woken += 1;
            Rouse::Idle // to retire
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
        let (withdrawn, wakers) = {
            let mut state = self.state.lock();
            if state.at_shutdown.is_none() {
                state.at_shutdown = Some(self.counts(&state));
            }
            match &mut state.phase {
                Phase::Open => state.phase = Phase::Closed(cancel),
                Phase::Closed(cancelled) => *cancelled |= cancel,
                Phase::Broken(_) => {}
            }
            let withdrawn = if cancel { state.queue.take_unstarted() } else { Vec::new() };
            (withdrawn, state.wakers_at_end())
        };
        self.finish_close(withdrawn, &Error::Cancelled, wakers);
    }

    /// Ends all that waits, for a cause that all further submissions are told.
    pub(super) fn break_with(self: &Arc<Self>, cause: Box<dyn std::error::Error + Send + Sync>) {
        let cause = BrokenPool::new(cause);
        let (mut withdrawn, wakers) = {
            let mut state = self.state.lock();
            if matches!(state.phase, Phase::Broken(_)) {
                return; // The first cause stays.
            }
            state.phase = Phase::Broken(cause.clone());
            (state.queue.take_unstarted(), state.wakers_at_end())
        };
        withdrawn.extend(self.async_tasks());
        self.finish_close(withdrawn, &Error::BrokenPool(cause), wakers);
    }

    fn finish_close(&self, withdrawn: Vec<Arc<dyn Runnable>>, why: &Error, wakers: Vec<Waker>) {
        if let Some(room) = &self.room {
            room.close();
        }
        for task in withdrawn {
            let why = match why {
                Error::BrokenPool(cause) => Error::BrokenPool(cause.clone()),
                _ => Error::Cancelled,
            };
            task.withdraw(why);
        }
        self.work.notify_all();
        wake_all(wakers);
    }

    fn async_tasks(&self) -> Vec<Arc<dyn Runnable>> {
        self.state.lock().async_tasks.values().filter_map(Weak::upgrade).collect()
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
        let state = self.state.lock();
        let totals = self.totals(&state);
        Metrics {
            workers: state.live,
            idle: state.seats().filter(|seat| !seat.is_busy()).count(),
            queued: state.queue.len(),
            running: state.seats().map(|seat| seat.running().len()).sum(),
            completed: totals.completed,
            failed: totals.failed,
            cancelled: self.cancelled.load(Relaxed),
            queue_time: totals.queue_time,
            run_time: totals.run_time,
        }
    }

    /// For `Debug`, which must not wait for a lock that its caller might hold up.
    pub(super) fn max_workers(&self) -> usize {
        self.config.max_workers
    }
}

fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        drop_quietly(catch(|| waker.wake()));
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

    fn requeue(self: &Arc<Self>, task: Arc<dyn Runnable>) {
        if let Err(error) = self.push(Arc::clone(&task), Origin::Continuation, None) {
            task.withdraw(error);
        }
    }

    fn release_room(&self) {
        if let Some(room) = &self.room {
            room.add_permits(1);
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
            state.async_tasks.remove(&id);
            (state.is_over(), state.wakers_at_end())
        };
        if is_over {
            self.work.notify_all();
        }
        wake_all(wakers);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

/// The pool as its shutdown sees it.
pub(super) struct Ending(pub(super) Arc<Pool>);

impl Closing for Ending {
    fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        let waker = waker.clone();
        let mut state = self.0.state.lock();
        if state.has_ended() {
            return Poll::Ready(());
        }
        if !state.waiting_for_end.iter().any(|other| other.will_wake(&waker)) {
            state.waiting_for_end.push(waker);
        }
        Poll::Pending
    }

    fn report(&self) -> ShutdownReport {
        let state = self.0.state.lock();
        let (completed, failed, cancelled) = self.0.counts(&state);
        let before = state.at_shutdown.unwrap_or_default();
        ShutdownReport {
            completed: completed - before.0,
            failed: failed - before.1,
            cancelled: cancelled - before.2,
            queued: state.queue.len(),
            running: state.seats().flat_map(|seat| seat.running()).collect(),
        }
    }

    fn escalate(&self) {
        self.0.stopping.store(true, SeqCst);
        self.0.close(Shutdown::CancelQueued);
        for task in self.0.async_tasks() {
            task.withdraw(Error::Cancelled);
        }
    }

    fn is_inside(&self) -> bool {
        context::is_worker_of(self.0.address())
    }

    fn join(&self) {
        let threads = std::mem::take(&mut self.0.state.lock().threads);
        for (_, thread) in threads {
            // A worker does not panic; if it did, it has ended all the same.
            drop_quietly(thread.join());
        }
    }
}
