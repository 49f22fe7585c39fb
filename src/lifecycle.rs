//! The life of a pool: open, then closed or broken. The part that all pools share, under the lock
//! of each.

use std::future::Future;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::core::StopFlag;
use crate::core::waiters::Waiters;
use crate::error::{BrokenPool, Error};
use crate::executor_state::ExecutorState;
use crate::fork::Own;
use crate::panic::KeptWaker;
use crate::room::Room;
use crate::shutdown::{Place, RunningTask, Shutdown, ShutdownReport};
use crate::sync::Mutex;

pub(crate) enum Phase {
    Open,
    /// No new tasks; with `true`, maps that were accepted do not go on either.
    Closed(bool),
    Broken(BrokenPool),
}

/// The numbers of tasks that have ended.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

pub(crate) struct Lifecycle {
    pub(crate) phase: Phase,
    /// The counts at the beginning of the first shutdown.
    at_shutdown: Option<Counts>,
    waiting_for_end: Waiters,
    closed: Arc<StopFlag>,
}

impl Lifecycle {
    pub(crate) fn new(phase: Phase) -> Self {
        let closed = Arc::<StopFlag>::default();
        if !matches!(phase, Phase::Open) {
            closed.raise();
        }
        Self { phase, at_shutdown: None, waiting_for_end: Waiters::default(), closed }
    }

    /// The life of a pool in a forked child, where its workers are the parent's.
    pub(crate) fn abroad() -> Self {
        Self::new(Phase::Broken(BrokenPool::abroad()))
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Returns whether work that was accepted goes on: maps, and tasks that may run again.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closed(false))
    }

    /// Returns the reason for which no tasks are taken.
    pub(crate) fn refusal(&self) -> Error {
        match &self.phase {
            Phase::Broken(cause) => Error::BrokenPool(cause.clone()),
            _ => Error::ShutDown,
        }
    }

    /// Takes no more tasks. A later call may tighten an earlier one.
    pub(crate) fn close(&mut self, how: Shutdown, counts: Counts) {
        let cancels = how == Shutdown::CancelQueued;
        match &mut self.phase {
            Phase::Open => self.phase = Phase::Closed(cancels),
            Phase::Closed(cancelled) => *cancelled |= cancels,
            Phase::Broken(_) => {}
        }
        // The first shutdown counts, so that all reports begin at the same moment.
        self.at_shutdown.get_or_insert(counts);
    }

    /// Returns the report of a shutdown.
    pub(crate) fn report(
        &self,
        counts: Counts,
        queued: usize,
        running: Vec<RunningTask>,
    ) -> ShutdownReport {
        let before = self.at_shutdown.unwrap_or_default();
        ShutdownReport {
            completed: counts.completed - before.completed,
            failed: counts.failed - before.failed,
            cancelled: counts.cancelled - before.cancelled,
            queued,
            running,
            ended: false, // the future knows
        }
    }

    pub(crate) fn state(&self, has_ended: bool) -> ExecutorState {
        match &self.phase {
            Phase::Broken(cause) => ExecutorState::Broken(cause.clone()),
            _ if has_ended => ExecutorState::Ended,
            Phase::Open => ExecutorState::Open,
            Phase::Closed(false) => ExecutorState::Draining,
            Phase::Closed(true) => ExecutorState::Cancelling,
        }
    }

    pub(crate) fn give_up_wait(&mut self, place: Place) -> Option<KeptWaker> {
        self.waiting_for_end.give_up(place)
    }

    pub(crate) fn take_waiting(&mut self) -> Vec<KeptWaker> {
        self.waiting_for_end.take_all()
    }
}

/// Polls the end of a pool, as [`Closing`](crate::shutdown::Closing) has it. `life` finds the life in the
/// pool's state, or `None` once the pool has ended.
pub(crate) fn poll_ended<S>(
    state: &Own<Mutex<S>>,
    life: fn(&mut S) -> Option<&mut Lifecycle>,
    place: &mut Place,
    waker: &Waker,
) -> Poll<()> {
    // Wakers are user code: cloned before the lock is taken, dropped after it is released.
    let waker = KeptWaker::new(waker);
    let mut state = state.lock();
    let Some(life) = life(&mut state) else { return Poll::Ready(()) };
    let old = life.waiting_for_end.leave(place, waker);
    drop(state);
    drop(old);
    Poll::Pending
}

/// A pool that takes tasks until it is closed.
pub(crate) trait Accepting: Send + Sync {
    /// Looks at the pool's life, under its lock.
    fn life<R>(&self, look: impl FnOnce(&mut Lifecycle) -> R) -> R;

    /// Returns the room in a bounded queue. A forked child has none: another thread may have held its
    /// lock.
    fn room(&self) -> Option<&Room>;

    /// Takes no more tasks, and ends.
    fn close(self: &Arc<Self>, how: Shutdown);

    /// Returns the flag that is set once nothing more is taken.
    fn closed(&self) -> Arc<StopFlag> {
        self.life(|life| Arc::clone(&life.closed))
    }

    /// Tells those who wait for it that nothing more is taken. Called without the lock, after the phase has
    /// changed.
    fn tell_closed(&self) {
        self.closed().set();
    }

    fn check_open(&self) -> Result<(), Error> {
        self.life(|life| if life.is_open() { Ok(()) } else { Err(life.refusal()) })
    }

    #[cold]
    fn refusal(&self) -> Error {
        self.life(|life| life.refusal())
    }

    /// Takes room for one task; a task gives it back when it starts or is withdrawn.
    #[inline]
    fn take_room(&self) -> Result<(), Error> {
        match self.room() {
            None => Ok(()),
            Some(room) => room.take().map_err(|no_room| no_room.into_error(|| self.refusal())),
        }
    }

    /// Takes room for a permit, in an open pool.
    fn reserve_now(&self) -> Result<(), Error> {
        self.take_room()?;
        // An unbounded queue has room after the end too.
        self.check_open().inspect_err(|_| self.free_room())
    }

    fn wait_for_room(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async {
            if let Some(room) = self.room() {
                if !room.wait().await {
                    return Err(self.refusal());
                }
            }
            // The pool may have closed since it granted the room, which is given back then.
            self.check_open().inspect_err(|_| self.free_room())
        }
    }

    fn free_room(&self) {
        if let Some(room) = self.room() {
            room.release(1);
        }
    }
}

/// The part of an executor that its clones share. Workers and tasks hold the pool, not this.
pub(crate) struct Handle<P: Accepting>(pub(crate) Arc<P>);

impl<P: Accepting> Drop for Handle<P> {
    fn drop(&mut self) {
        self.0.close(Shutdown::Drain);
    }
}
