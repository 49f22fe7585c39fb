//! The end of a pool, and maps, which go on beyond the moment at which it is closed.

use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use super::{Phase, Pool, State, Tasks};
use crate::core::{TakenOut, context};
use crate::error::{BrokenPool, Error};
use crate::instruments::Measured;
use crate::map::crew::Begin;
use crate::panic::{KeptWaker, drop_quietly, wake_all};
use crate::shutdown::{Closing, Place, Shutdown, ShutdownReport};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering::SeqCst;

impl Pool {
    /// Registers a map that must begin in earnest before the pool closes.
    pub(crate) fn add_map(&self, map: Weak<dyn Begin>) {
        let mut state = self.state.lock();
        if state.maps.len() == state.maps.capacity() {
            state.maps.retain(|map| map.strong_count() > 0);
        }
        state.maps.push(map);
    }

    pub(crate) fn close(self: &Arc<Self>, how: Shutdown) {
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

    pub(super) fn close_room(&self) {
        if let Some(room) = self.room() {
            room.close();
        }
    }

    /// Ends tasks that were taken out, and has workers and waiters look at the change.
    pub(super) fn end_tasks(&self, withdrawn: Vec<TakenOut>, why: &Error, wakers: Vec<KeptWaker>) {
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
