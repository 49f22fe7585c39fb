//! How workers without a task wait, and how one of them is called.
//!
//! To wake a sleeping thread costs a system call for who does it, and tens of microseconds until
//! the thread runs, most of all if its CPU has gone to sleep with it. So a worker that finds
//! nothing to do first *watches*: it looks at one atomic, in a short spin, then with a yield
//! between two looks, so that it takes no time from a thread that has something to do. One worker
//! watches at a time; the others sleep. It watches about as long as a wake-up would take. That was
//! measured with single tasks, each submitted when the one before was done: with a tenth of the
//! time the median from submission to result is four times as long, since every pause is then
//! longer than the watch; a second watcher changes nothing.
//!
//! A call is made under the lock that guards the queue, together with the push that it is for. It
//! counts on a watcher, if there is one that no other call counts on, else it wakes a sleeper that
//! was not woken yet. Whoever was called counts as about to look until it has the lock again, and
//! whoever is about to wait has looked at the queue under the same lock; so no push is missed.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Condvar, Mutex, MutexGuard, WATCH_ROUNDS, pause};

/// How many may watch at a time.
const WATCHERS: usize = 1;

/// Where workers wait. The [`Sleepers`] are under the pool's lock.
pub(super) struct Sleep {
    called: Condvar,
    /// Changes with every call that counts on a watcher.
    calls: AtomicU64,
}

/// Who waits.
#[derive(Default)]
pub(super) struct Sleepers {
    watching: Waiters,
    asleep: Waiters,
}

#[derive(Default)]
struct Waiters {
    count: usize,
    /// Of these, how many were called and have not got to the lock.
    called: usize,
}

impl Waiters {
    fn can_be_called(&self) -> bool {
        self.count > self.called
    }

    fn call(&mut self) -> bool {
        let one = self.can_be_called();
        self.called += usize::from(one);
        one
    }

    fn leave(&mut self) {
        self.count -= 1;
        self.called = self.called.saturating_sub(1);
    }
}

impl Sleepers {
    /// Whether a call would find anybody.
    pub(super) fn can_be_called(&self) -> bool {
        self.watching.can_be_called() || self.asleep.can_be_called()
    }
}

/// Who was called. A sleeper is to be woken once the lock is released.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    Nobody,
    Watcher,
    Sleeper,
}

impl Sleep {
    pub(super) fn new() -> Self {
        Self { called: Condvar::new(), calls: AtomicU64::new(0) }
    }

    /// Chooses somebody to look at the queue.
    pub(super) fn call(&self, sleepers: &mut Sleepers) -> Called {
        if sleepers.watching.call() {
            self.calls.fetch_add(1, Relaxed);
            Called::Watcher
        } else if sleepers.asleep.call() {
            Called::Sleeper
        } else {
            Called::Nobody
        }
    }

    /// Wakes the one that was called.
    pub(super) fn wake(&self, called: Called) {
        if called == Called::Sleeper {
            self.called.notify_one();
        }
    }

    /// Has all look at what was changed under the lock before. Without the lock: who has not seen
    /// the change waits by now.
    pub(super) fn wake_all(&self) {
        self.calls.fetch_add(1, Relaxed);
        self.called.notify_all();
    }

    /// Waits for a call: a worker that has just come watches for a while, `has_watched` says
    /// whether it did so already, and then sleeps. It may also come back for no reason.
    pub(super) fn wait<'a, S: AsMut<Sleepers>>(
        &self,
        lock: &'a Mutex<S>,
        mut state: MutexGuard<'a, S>,
        has_watched: &mut bool,
    ) -> MutexGuard<'a, S> {
        if !*has_watched && state.as_mut().watching.count < WATCHERS {
            state.as_mut().watching.count += 1;
            let before = self.calls.load(Relaxed);
            drop(state);
            *has_watched = !self.watch(before);
            let mut state = lock.lock();
            state.as_mut().watching.leave();
            return state;
        }
        *has_watched = false;
        state.as_mut().asleep.count += 1;
        let mut state = self.called.wait(state);
        state.as_mut().asleep.leave();
        state
    }

    /// `true`: there was a call.
    fn watch(&self, before: u64) -> bool {
        for round in 0..WATCH_ROUNDS {
            if self.calls.load(Relaxed) != before {
                return true;
            }
            pause(round);
        }
        false
    }
}
