//! The state of a pool: its queue and workers. All of it is under the pool's lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Queue, RETRY, Seat, Sleepers, Tasks};
use crate::core::local_queue::OwnLocalQueue;
use crate::core::{Registry, TakenOut, TaskId, TaskRef};
use crate::error::{BrokenPool, Error};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Totals;
use crate::panic::KeptWaker;
use crate::sync::Mutex;
use crate::sync::thread::JoinHandle;
use crate::timer::Timer;

/// The state of a pool. The fields that every push looks at come first, and lie together.
#[repr(C)]
pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) sleepers: Sleepers,
    /// Workers that have a seat, and those of them that wait inside of a job.
    pub(super) live: usize,
    pub(super) blocked: usize,
    /// Number of pushes, and how many of them were no new task: of one that had been accepted before, or of a
    /// map's job. Apart, so that a submission counts without a branch.
    pub(super) pushed: u64,
    pub(super) uncounted: u64,
    pub(super) life: Lifecycle,
    /// By number; free places are used again.
    pub(super) seats: Vec<Option<Arc<Seat>>>,
    /// The seat whose local queue is to be looked at next.
    pub(super) next_look: usize,
    /// All that were started, but for some that have ended.
    pub(super) threads: Vec<JoinHandle<()>>,
    /// Threads that are being started and are not in `threads` yet.
    pub(super) starting: usize,
    /// The system's last refusal to start a thread, until one is started.
    pub(super) refused: Option<Refused>,
    /// Tasks with async bodies that have not ended. A suspended one is in no queue.
    pub(super) async_tasks: Registry,
    /// Tasks that were asked to stop while they ran, and perhaps some that have ended.
    pub(super) asked_to_stop: Vec<TaskId>,
    /// Of workers that have ended.
    pub(super) totals: Totals,
    /// The indices of workers that have given up their seats and have not ended.
    pub(super) leaving: Vec<usize>,
}

impl AsMut<Sleepers> for State {
    fn as_mut(&mut self) -> &mut Sleepers {
        &mut self.sleepers
    }
}

pub(super) struct Refused {
    pub(super) at: Instant,
    /// The first refusal in a row for want of which tasks wait and there is no worker.
    pub(super) stuck_since: Option<Instant>,
    /// Asks again then.
    pub(super) retry: Option<Timer>,
    /// The reason, if all that waited has ended with it.
    pub(super) cause: Option<BrokenPool>,
}

impl Refused {
    /// Returns the time for which the pool asks for no other thread.
    pub(super) fn pause(&self) -> Duration {
        RETRY.saturating_sub(self.at.elapsed())
    }
}

impl State {
    pub(crate) fn new(life: Lifecycle) -> Self {
        Self {
            queue: Queue::default(),
            life,
            pushed: 0,
            uncounted: 0,
            seats: Vec::new(),
            threads: Vec::new(),
            starting: 0,
            refused: None,
            live: 0,
            blocked: 0,
            sleepers: Sleepers::default(),
            next_look: 0,
            async_tasks: Registry::default(),
            asked_to_stop: Vec::new(),
            totals: Totals::new(),
            leaving: Vec::new(),
        }
    }

    /// The state of the pool in a forked child.
    pub(super) fn abroad() -> Mutex<Self> {
        Mutex::new(Self::new(Lifecycle::abroad()))
    }

    pub(super) fn active(&self) -> usize {
        self.live - self.blocked
    }

    /// Returns whether there is a worker to wake, or one more to start.
    pub(super) fn may_find_worker(&self, max_workers: usize) -> bool {
        self.sleepers.can_be_called() || self.active() < max_workers
    }

    /// Returns whether tasks wait and no worker will look at them before one that is blocked goes on.
    pub(super) fn is_starved(&self) -> bool {
        self.live > 0 && self.active() == 0 && self.waiting() > 0
    }

    /// Returns whether tasks wait and there is no worker. Without a task there is nothing to fail, and the next one
    /// has a thread asked for.
    pub(super) fn is_stuck(&self) -> bool {
        self.live == 0 && self.waiting() > 0
    }

    /// Returns whether no thread is to be asked for, since one was refused a moment ago. A pool in which
    /// nobody looks at the queue, and nothing asks again, asks all the same.
    pub(super) fn pauses(&self) -> bool {
        let asks_later = |refused: &Refused| self.active() > 0 || refused.retry.is_some();
        self.refused.as_ref().is_some_and(|it| asks_later(it) && !it.pause().is_zero())
    }

    /// Returns the number of tasks that wait, in the queue or in a local one.
    pub(super) fn waiting(&self) -> usize {
        let local: usize = self.seats().map(|seat| seat.local_queue.len()).sum();
        (self.queue.entries() + local).saturating_sub(self.queue.dead())
    }

    /// Makes a seat for a worker, whose thread the caller starts.
    pub(super) fn new_seat(&mut self) -> (Arc<Seat>, OwnLocalQueue) {
        let index = self.free_index();
        let own = OwnLocalQueue::new();
        // A clone is a plain `LocalQueue`: all may take from it, and `own` alone can fill it.
        let seat = Arc::new(Seat::new(index, own.clone()));
        match self.seats.get_mut(index) {
            Some(place) => *place = Some(Arc::clone(&seat)),
            None => self.seats.push(Some(Arc::clone(&seat))),
        }
        // Before the thread exists: the next submission counts on it, and the pool does not end.
        self.live += 1;
        self.starting += 1;
        (seat, own)
    }

    /// Gives up the seat of a worker that looks at the queue no more. In the critical section in
    /// which that is decided, since a push or a wait that follows must not count on the worker.
    pub(super) fn retire(&mut self, seat: &Arc<Seat>) {
        let Some(place) = self.seats.get_mut(seat.index) else { return };
        // Called twice for most workers: by `next_task` and by `leave`. The place may be another
        // worker's by then.
        if place.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, seat)) {
            *place = None;
            self.live -= 1;
            self.leaving.push(seat.index);
            // Its counters do not change any more: a worker that retires runs no further task.
            self.totals.add(&seat.metrics);
        }
    }

    /// Returns the lowest index that no worker has.
    pub(super) fn free_index(&self) -> usize {
        let is_free = |at: &usize| self.seats[*at].is_none() && !self.leaving.contains(at);
        (0..self.seats.len()).find(is_free).unwrap_or(self.seats.len())
    }

    /// Records that the worker of a seat has ended, which frees its index.
    pub(super) fn ended(&mut self, seat: &Arc<Seat>) {
        self.retire(seat);
        self.leaving.retain(|index| *index != seat.index);
    }

    pub(super) fn has_ended(&self) -> bool {
        !self.life.is_open()
            && self.live == 0
            && self.leaving.is_empty()
            // The handle of a thread that is being started is still to be joined.
            && self.starting == 0
            && self.waiting() == 0
            && self.async_tasks.is_empty()
    }

    /// Returns whether a worker that finds the queue empty should end.
    pub(super) fn is_over(&self) -> bool {
        match self.life.phase {
            Phase::Open => false,
            Phase::Closed(_) => self.async_tasks.is_empty(),
            // The thread that breaks the pool ends the async tasks.
            Phase::Broken(_) => true,
        }
    }

    /// Takes all tasks out of the queue that have not started, to be ended with `why`. The second part
    /// are dead entries, to be dropped once the lock is released.
    pub(super) fn withdraw_unstarted(&mut self, why: &Error) -> (Vec<TakenOut>, Tasks) {
        for seat in self.seats.iter().flatten() {
            self.queue.put_back(std::iter::from_fn(|| seat.local_queue.take()).collect());
        }
        let (mut withdrawn, mut dead) = (Vec::new(), Vec::new());
        for task in self.queue.take_unstarted() {
            match task.take_out(why) {
                Ok(task) => withdrawn.push(task),
                // Under this lock no other thread can take a task that is in the queue, so it was
                // dead before.
                Err(task) => dead.push(task),
            }
        }
        (withdrawn, dead)
    }

    /// Takes a task for a worker whose local queue is empty, and up to `more` others for that.
    pub(super) fn take_tasks(&mut self, own: &mut OwnLocalQueue, more: usize) -> Option<TaskRef> {
        // First, since tasks that are put back are older than those in the queue.
        self.free_stuck_queue();
        if let Some(task) = self.queue.pop() {
            // Half of an equal share: the rest is for workers that were called and are on their
            // way.
            let fair = self.queue.entries() / (2 * self.active().max(1));
            if more > 0 && fair > 0 {
                // As many as fit, since `pop_many` would drop what `fill` leaves.
                own.fill(self.queue.pop_many(fair.min(more).min(own.room())));
            }
            return Some(task);
        }
        // Nothing in the queue: half of another worker's, so that the two go on at the same time.
        self.seats().find_map(|seat| {
            let half = seat.local_queue.len() / 2;
            // `None` also if its worker has taken the last one meanwhile: then another's.
            let task = seat.local_queue.take()?;
            own.fill(std::iter::from_fn(|| seat.local_queue.take()).take(half.min(own.room())));
            Some(task)
        })
    }

    /// Puts the tasks of a local queue back whose worker has not come back to it since it was last
    /// looked at. Each call looks at one.
    pub(super) fn free_stuck_queue(&mut self) {
        self.next_look = (self.next_look + 1) % self.seats.len().max(1);
        if let Some(Some(seat)) = self.seats.get(self.next_look) {
            if seat.is_stuck() {
                self.queue.put_back(std::iter::from_fn(|| seat.local_queue.take()).collect());
            }
        }
    }

    /// Puts the tasks of all local queues back, so that the queue has all that waits.
    pub(super) fn gather_local_queues(&mut self, now: u64) {
        let locals = self.seats.iter().flatten().map(|seat| &seat.local_queue);
        let mut tasks: Tasks =
            locals.flat_map(|local| std::iter::from_fn(|| local.take())).collect();
        // Oldest first, and in front of the queue, from whose front they were taken.
        tasks.sort_by_key(|task| std::cmp::Reverse(task.header().state.waited(now)));
        self.queue.put_back(tasks);
    }

    pub(super) fn wakers_at_end(&mut self) -> Vec<KeptWaker> {
        if self.has_ended() { self.life.take_waiting() } else { Vec::new() }
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().flatten()
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::core::promise::Promise;

    /// Fills a local queue with one task.
    fn full(own: &mut OwnLocalQueue) -> TaskRef {
        let (promise, mut outcome) = Promise::<()>::of(());
        outcome.abandon();
        own.fill(std::iter::once(promise.task().clone()));
        promise.task().clone()
    }

    /// Otherwise the one that looks would sleep while a task waits, and no push would wake it.
    #[test]
    fn a_look_at_local_queues_finds_the_task_that_its_owner_has_left() {
        loom::model(|| {
            let mut state = State::new(Lifecycle::new(Phase::Open));
            let mut owns: [_; 2] = std::array::from_fn(|_| OwnLocalQueue::new());
            let tasks = owns.each_mut().map(full);
            for (index, own) in owns.iter().enumerate() {
                state.seats.push(Some(Arc::new(Seat::new(index, (*own).clone()))));
            }
            let first = (*owns[0]).clone();
            let owner = loom::thread::spawn(move || drop(first.take()));
            assert!(state.take_tasks(&mut OwnLocalQueue::new(), 0).is_some());
            owner.join().unwrap();
            drop((state, owns, tasks));
        });
    }
}
