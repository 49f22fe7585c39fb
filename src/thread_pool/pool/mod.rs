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
//! * With an idle timeout a worker that has slept for so long retires, if more than `min_workers` live.
//! * A worker that has given up its seat keeps its index until it leaves: it may run the finalizer,
//!   for which the end of the pool waits. It does not count against `max_workers`.
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

mod ending;
mod host;
mod observe;
mod state;
mod workers;

pub(crate) use self::ending::Ending;
pub(crate) use self::host::PoolHost;
use self::state::{Refused, State};

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::builder::Config;
use super::queue::{Queue, Tasks};
use super::runtime;
use super::sleep::{Called, Sleep, Sleepers};
use super::worker::{self, Seat};
use crate::cache_padded::CachePadded;
use crate::clock;
use crate::core::local_queue::OwnLocalQueue;
use crate::core::{MaybeExtra, New, StopFlag, TaskRef};
use crate::error::Error;
use crate::fork::Own;
use crate::lifecycle::{Accepting, Handle, Lifecycle, Phase};
use crate::map::crew::AfterChunk;
use crate::room::Room;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Mutex, MutexGuard};

/// Aligned, so that the count of references, which every submission changes, is not in a cache
/// line with what every worker reads.
#[repr(align(128))]
pub(crate) struct Pool {
    pub(crate) config: Config,
    /// Beside what workers read, the lock makes a burst of tiny tasks take up to half as long again.
    state: CachePadded<Own<Mutex<State>>>,
    /// Idle workers wait here.
    sleep: Sleep,
    /// Room in a bounded queue.
    room: Option<Room>,
    /// Withdrawn tasks. Counted by the thread that withdraws one, which need not be a worker.
    cancelled: AtomicU64,
    /// Items of maps that have a value. Counted after each chunk.
    items: AtomicU64,
    /// Tasks that ran into their time limit. Counted by the timer; other failures by the worker
    /// that sees them.
    timed_out: AtomicU64,
    /// Set once every job is asked to stop, at the deadline of a shutdown; never cleared.
    stopping: Arc<StopFlag>,
    /// Set under the lock when the system refuses a thread while tasks wait and all workers are
    /// blocked; cleared by a blocked worker that finds it otherwise.
    starved: AtomicBool,
    /// The part that its executors share, for jobs that ask for theirs.
    pub(super) handle: OnceLock<Weak<Handle<PoolHost>>>,
    /// The hosts of tasks of other runtimes than the pool's own, and some that are gone.
    hosts: Mutex<Vec<(runtime::Id, Weak<PoolHost>)>>,
    /// Held by the thread that joins the workers; other threads that want to join wait for it.
    joining: Mutex<()>,
}

/// Time after a refusal in which a pool with workers asks for no further thread.
const RETRY: Duration = Duration::from_millis(20);

/// Time for which tasks wait in a pool without a worker, before it is broken.
const STUCK: Duration = Duration::from_millis(600);

/// The reason for which a task is queued. It decides what a closed pool still takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Caller,
    /// A job of a map that was accepted before.
    Continuation,
    /// A caller, with an async body.
    AsyncCaller,
    /// A started task that was woken.
    Woken,
}

/// The wake-up or start to perform after the lock is released.
#[must_use]
enum Rouse {
    Nobody,
    Called(Called),
    New(Arc<Seat>, OwnLocalQueue),
}

impl PoolHost {
    /// Makes a task and queues it, or leaves its body with the submitter. A caller has taken room for it,
    /// which is free again then.
    pub(crate) fn enqueue<X: MaybeExtra>(
        self: &Arc<Self>,
        new: &New<Self, X>,
        extra: X,
        origin: Origin,
    ) -> Result<(), Error> {
        self.enqueue_in_place(new, extra, origin)
    }

    /// As [`enqueue`](Self::enqueue), without a call.
    #[inline(always)]
    pub(crate) fn enqueue_in_place<X: MaybeExtra>(
        self: &Arc<Self>,
        new: &New<Self, X>,
        extra: X,
        origin: Origin,
    ) -> Result<(), Error> {
        // A map bounds its tasks by its window, and must go on while the queue is full.
        let takes_room = origin != Origin::Continuation;
        let task = new.queue(self.of_submission(), extra, takes_room);
        if let Err((task, error)) = self.pool.push(task, origin) {
            if takes_room {
                self.pool.free_room();
            }
            new.refused(task);
            return Err(error);
        }
        new.start_queue_clock();
        Ok(())
    }
}

impl Pool {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        let room = config.queue_capacity.map(|capacity| Room::new(capacity, config.max_workers));
        let pool = Arc::new(Self {
            config,
            state: CachePadded(Own::new(
                Mutex::new(State::new(Lifecycle::new(Phase::Open))),
                State::abroad,
            )),
            sleep: Sleep::new(),
            room,
            cancelled: AtomicU64::new(0),
            items: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            stopping: Arc::default(),
            starved: AtomicBool::new(false),
            handle: OnceLock::new(),
            hosts: Mutex::new(Vec::new()),
            joining: Mutex::new(()),
        });
        pool.config.instruments.include(&pool);
        pool
    }

    /// The pool's address, to tell pools apart.
    pub(crate) fn address(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// Returns the error of a map that was accepted and does not go on.
    pub(crate) fn withdrawal(&self) -> Error {
        let state = self.state.lock();
        let cause = match &state.life.phase {
            Phase::Broken(cause) => Some(cause),
            // An internal pool is not broken by a refusal: without a thread it has lost the map for
            // that reason.
            _ => state.refused.as_ref().and_then(|refused| refused.cause.as_ref()),
        };
        cause.map_or(Error::Cancelled, |cause| Error::BrokenPool(cause.clone()))
    }

    // ---- The queue ----

    /// Queues a task and finds a worker for it, or gives it back.
    #[inline(always)]
    fn push(self: &Arc<Self>, task: TaskRef, origin: Origin) -> Result<(), (TaskRef, Error)> {
        let mut state = self.state.lock();
        let accepted = match (&state.life.phase, origin) {
            // A woken task has started, so a closed pool takes it also if it has cancelled what was
            // queued.
            (Phase::Open, _) | (Phase::Closed(_), Origin::Woken) => true,
            (Phase::Closed(is_cancelled), Origin::Continuation) => !is_cancelled,
            _ => false,
        };
        if !accepted {
            // `refusal` takes the lock again.
            drop(state);
            return Err((task, self.refusal()));
        }
        state.pushed += 1;
        match origin {
            Origin::Caller => {}
            // Before a worker can see the task, whose end takes it out of the registry.
            Origin::AsyncCaller => state.async_tasks.insert(&task),
            Origin::Continuation | Origin::Woken => state.uncounted += 1,
        }
        state.queue.push(task);
        // Under load no worker waits and no other may be started: then nothing more is looked at.
        if state.may_find_worker(self.config.max_workers) {
            let rouse = self.find_worker(&mut state);
            self.rouse(state, rouse);
        }
        Ok(())
    }

    /// Returns the next step of a map's driver after a chunk.
    pub(crate) fn after_chunk(&self) -> AfterChunk {
        let state = self.state.lock();
        if !state.life.goes_on() {
            AfterChunk::GiveUp
        } else if state.waiting() == 0 {
            AfterChunk::GoOn
        } else {
            AfterChunk::Requeue
        }
    }

    /// Chooses the worker that is to look at the queue: one that waits, or a new one.
    fn find_worker(&self, state: &mut State) -> Rouse {
        let called = self.sleep.call(&mut state.sleepers);
        if called != Called::Nobody {
            return Rouse::Called(called);
        }
        if state.active() >= self.config.max_workers || state.pauses() {
            return Rouse::Nobody;
        }
        // In this order, since a worker turns busy before it takes a task from its local queue: the
        // other way round, both the task could be missed and its worker counted as about to look.
        let waiting = state.waiting();
        let now = clock::now();
        let about_to_look = state.seats().filter(|seat| seat.is_about_to_look(now)).count();
        if waiting <= about_to_look {
            return Rouse::Nobody;
        }
        let (seat, own) = state.new_seat();
        Rouse::New(seat, own)
    }

    fn rouse(self: &Arc<Self>, state: MutexGuard<'_, State>, rouse: Rouse) {
        // A woken thread wants the lock at once, and the start of a thread takes long.
        drop(state);
        match rouse {
            Rouse::Nobody => {}
            Rouse::Called(called) => self.sleep.wake(called),
            Rouse::New(seat, own) => self.start_worker(seat, own),
        }
    }
}
