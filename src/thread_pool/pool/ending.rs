//! The end of a pool, and maps, which go on beyond the moment at which it is closed.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Pool, State, Tasks};
use crate::core::{TakenOut, context};
use crate::error::{BrokenPool, Error};
use crate::instruments::Measured;
use crate::lifecycle::{self, Accepting, Lifecycle, Phase};
use crate::panic::{KeptWaker, drop_quietly, wake_all};
use crate::room::Room;
use crate::shutdown::{Closing, Place, Shutdown, ShutdownReport};
use crate::sync::MutexGuard;

impl Accepting for Pool {
    fn life<R>(&self, look: impl FnOnce(&mut Lifecycle) -> R) -> R {
        look(&mut self.state.lock().life)
    }

    #[inline]
    fn room(&self) -> Option<&Room> {
        self.room.as_ref().filter(|_| self.state.is_home())
    }

    fn close(self: &Arc<Self>, how: Shutdown) {
        let (withdrawn, dead, wakers) = {
            let mut state = self.state.lock();
            // Before the withdrawal, so that the report has what that cancels.
            let counts = self.counts(&state);
            state.life.close(how, counts);
            let (withdrawn, dead) = match how {
                Shutdown::Drain => (Vec::new(), Vec::new()),
                Shutdown::CancelQueued => state.withdraw_unstarted(&Error::Cancelled),
            };
            (withdrawn, dead, state.wakers_at_end())
        };
        drop(dead);
        // After the phase, in which a submitter that finds the room closed looks for the reason.
        // One that gets room in between is refused by `push`.
        self.close_room();
        self.end_tasks(withdrawn, wakers);
        self.tell_closed();
    }
}

impl Pool {
    /// Ends all that waits, for a cause that all further submissions are told.
    pub(crate) fn break_with(self: &Arc<Self>, cause: Box<dyn std::error::Error + Send + Sync>) {
        let state = self.state.lock();
        self.fail_all(state, BrokenPool::new(cause), true);
    }

    /// Ends all that waits. With `for_good` the pool is broken then.
    pub(super) fn fail_all(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        cause: BrokenPool,
        for_good: bool,
    ) {
        if matches!(state.life.phase, Phase::Broken(_)) {
            // The first cause stays. The worker that was refused may have been the last one.
            let wakers = state.wakers_at_end();
            drop(state);
            return wake_all(wakers);
        }
        if for_good {
            state.life.phase = Phase::Broken(cause.clone());
        }
        let why = Error::BrokenPool(cause);
        let (withdrawn, dead) = state.withdraw_unstarted(&why);
        // References are taken under the lock, and used without it: `withdraw` takes the lock, and
        // drops user code.
        let (asynchronous, wakers) = (state.async_tasks.tasks(), state.wakers_at_end());
        drop(state);
        drop(dead);
        if for_good {
            self.close_room();
        }
        for task in asynchronous {
            task.runnable().withdraw(why.clone());
        }
        self.end_tasks(withdrawn, wakers);
        if for_good {
            self.tell_closed();
        }
    }

    pub(super) fn close_room(&self) {
        if let Some(room) = self.room() {
            room.close();
        }
    }

    /// Ends tasks that were taken out, and has workers and waiters look at the change.
    pub(super) fn end_tasks(&self, withdrawn: Vec<TakenOut>, wakers: Vec<KeptWaker>) {
        withdrawn.into_iter().for_each(TakenOut::end);
        // Waiters for the end come last: what was taken out has ended by then.
        self.sleep.wake_all();
        wake_all(wakers);
    }

    pub(super) fn async_tasks(&self) -> Tasks {
        self.state.lock().async_tasks.tasks()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.export();
    }
}

/// The pool as its shutdown sees it.
pub(crate) struct Ending(pub(crate) Arc<Pool>);

impl Closing for Ending {
    fn poll_ended(&self, place: &mut Place, waker: &Waker) -> Poll<()> {
        lifecycle::poll_ended(
            &self.0.state,
            |state| (!state.has_ended()).then_some(&mut state.life),
            place,
            waker,
        )
    }

    fn give_up(&self, place: Place) {
        drop(self.0.life(|life| life.give_up_wait(place)));
    }

    fn report(&self) -> ShutdownReport {
        // A recorder knows all that the report does.
        self.0.export();
        let state = self.0.state.lock();
        let running = state.seats().flat_map(|seat| seat.running()).collect();
        state.life.report(self.0.counts(&state), state.waiting(), running)
    }

    fn escalate(&self) {
        // First, so that a job which starts meanwhile finds the request.
        self.0.stopping.raise();
        self.0.close(Shutdown::CancelQueued);
        self.0.stopping.wake();
        for task in self.0.async_tasks() {
            // Started ones too: `close` has left them to run on.
            task.runnable().withdraw(Error::Cancelled);
        }
    }

    fn is_inside(&self) -> bool {
        context::is_worker_of(self.0.address())
    }

    fn join(&self) {
        // In a forked child the threads are the parent's.
        if !self.0.state.is_home() {
            return;
        }
        // A thread that comes second finds no handles, and waits here for the first.
        let _joining = self.0.joining.lock();
        let threads = std::mem::take(&mut self.0.state.lock().threads);
        for thread in threads {
            // A worker does not panic; if it did, it has ended all the same.
            drop_quietly(thread.join());
        }
    }
}
