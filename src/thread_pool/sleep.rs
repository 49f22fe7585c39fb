//! Workers without a task: they wait, and are called.
//!
//! To wake a sleeping thread costs a system call for who does it, and tens of microseconds until
//! the thread runs, most of all if its CPU has gone to sleep with it. So an idle worker may first
//! *watch*: it looks at one atomic, in a short spin, then with a yield between two looks, so that
//! it takes no time from a thread that has something to do. At most one worker watches at a time;
//! the others sleep.
//!
//! # When a worker watches
//!
//! A watch pays if the next task comes before a wake-up would be over; otherwise it is CPU time
//! for nothing, up to [`WATCH_ROUNDS`] yields. So the pool predicts the next pause from the last
//! ones ([`Pauses`]): with single tasks, each submitted when the one before is done, workers
//! watch; with a task every millisecond they sleep at once, and a task costs no more CPU time
//! than in a pool that never watches. The length of a watch was measured with single tasks: with a
//! tenth of it the median from submission to result is four times as long, since every pause is
//! then longer than the watch; a second watcher changes nothing.
//!
//! # CPUs that others want
//!
//! A watcher that yields a CPU which another program wants gets it back when its turn comes, some
//! milliseconds later, whether or not there was a call; a sleeper that is woken gets a CPU at once.
//! So a watcher notes when it last looked, and a call counts on it only if that was a moment ago,
//! or if no worker sleeps. A watcher that finds that it was off its CPU stops, and for the next
//! [`DISTRUST`] short pauses no worker of the pool watches.
//!
//! # Calls
//!
//! A call is made under the lock that guards the queue, together with the push that it is for. It
//! counts on a watcher, if there is one that is on its CPU and that no other call counts on, else
//! it wakes a sleeper that was not woken yet. Whoever was called counts as about to look until it
//! has the lock again, and whoever is about to wait has looked at the queue under the same lock; so
//! no push is missed.

use std::time::Instant;

use crate::clock;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Condvar, Mutex, MutexGuard, WATCH_ROUNDS, pause};

/// Ticks that a wake-up takes at most, as a rule: some 80 microseconds by a processor's counter,
/// 200 where a tick is a nanosecond. A longer pause is not worth a watch, and a thread that was
/// held up for longer was not on a CPU.
const WAKE_UP: u64 = 200_000;

/// Short pauses after which the workers of a pool watch again that has lost a CPU by watching.
const DISTRUST: i8 = 32;

/// Maximum number of workers that watch at a time.
const WATCHERS: usize = 1;

/// Where workers wait. The [`Sleepers`] are under the pool's lock.
pub(super) struct Sleep {
    called: Condvar,
    /// Changes with every call that counts on a watcher.
    calls: AtomicU64,
    /// When the watcher last looked, in ticks of the clock. Read by calls.
    looked: AtomicU64,
}

/// The workers that wait.
#[derive(Default)]
pub(super) struct Sleepers {
    watching: Waiters,
    asleep: Waiters,
    pauses: Pauses,
}

/// A prediction of the next pause: the time from when a worker found nothing to do until the next
/// call. A counter goes up with each short pause and down with each long one, so that one pause
/// out of line changes nothing.
struct Pauses {
    /// When the pause began that is not over, in ticks.
    since: Option<u64>,
    score: i8,
}

impl Pauses {
    /// From this score on the next pause is expected to be short. A new pool starts here, so it
    /// watches until it has seen one long pause.
    const SHORT: i8 = 2;
    const MOST: i8 = 3;

    fn begin(&mut self, now: u64) {
        self.since = Some(now);
    }

    fn end(&mut self, now: u64) {
        let Some(since) = self.since.take() else { return };
        if now.saturating_sub(since) < WAKE_UP {
            self.score = Self::MOST.min(self.score + 1);
        } else if self.score > 0 {
            // A score below 0 is distrust, which only short pauses end.
            self.score -= 1;
        }
    }

    fn next_is_short(&self) -> bool {
        self.score >= Self::SHORT
    }

    /// Records that a watch has cost the worker its CPU.
    fn distrust(&mut self) {
        self.score = Self::SHORT - DISTRUST;
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self { since: None, score: Self::SHORT }
    }
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
        // Waiters are not told apart: the first to leave takes a call with it, also if it woke for
        // no reason, since it looks at the queue as the called one would.
        self.called = self.called.saturating_sub(1);
    }
}

impl Sleepers {
    /// Returns whether a call would find a worker.
    pub(super) fn can_be_called(&self) -> bool {
        self.watching.can_be_called() || self.asleep.can_be_called()
    }
}

/// The worker that was called. A sleeper is to be woken once the lock is released.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    Nobody,
    Watcher,
    Sleeper,
}

impl Sleep {
    pub(super) fn new() -> Self {
        Self { called: Condvar::new(), calls: AtomicU64::new(0), looked: AtomicU64::new(0) }
    }

    /// Chooses somebody to look at the queue.
    pub(super) fn call(&self, sleepers: &mut Sleepers) -> Called {
        if !sleepers.can_be_called() {
            return Called::Nobody;
        }
        let now = clock::now();
        // The first call ends the pause; those that follow find none.
        sleepers.pauses.end(now);
        // `looked` may be older than the watcher's last look: then a sleeper is woken for nothing.
        let is_on_cpu = now.saturating_sub(self.looked.load(Relaxed)) < WAKE_UP;
        if (is_on_cpu || !sleepers.asleep.can_be_called()) && sleepers.watching.call() {
            // Relaxed: the count only ends the watch. The watcher takes the lock before it looks at
            // the queue.
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
            // One for each call that counts on a sleeper, so at least as many wake as were called.
            self.called.notify_one();
        }
    }

    /// Has all look at what was changed under the lock before. Without the lock: who has not seen
    /// the change waits by now.
    pub(super) fn wake_all(&self) {
        self.calls.fetch_add(1, Relaxed);
        self.called.notify_all();
    }

    /// Waits for a call: a worker that has just come watches for a while if that is worth it, and
    /// then sleeps; `has_watched` says whether it has watched already. It may also come back for no
    /// reason. With `until`, it sleeps no longer than that.
    pub(super) fn wait<'a, S: AsMut<Sleepers>>(
        &self,
        lock: &'a Mutex<S>,
        mut state: MutexGuard<'a, S>,
        has_watched: &mut bool,
        until: Option<Instant>,
    ) -> MutexGuard<'a, S> {
        let sleepers = state.as_mut();
        if !*has_watched {
            let now = clock::now();
            sleepers.pauses.begin(now);
            if sleepers.watching.count < WATCHERS && sleepers.pauses.next_is_short() {
                // Under the lock under which the queue was found empty: a push from here on finds a
                // waiter.
                sleepers.watching.count += 1;
                // Under the lock, as calls are: a call after this is seen by the watch.
                let before = self.calls.load(Relaxed);
                self.looked.store(now, Relaxed);
                drop(state);
                let watched = self.watch(before, now);
                // A watch that was called does not count: if another worker has taken the task, the
                // next one may be as close.
                *has_watched = watched != Watched::Called;
                let mut state = lock.lock();
                let sleepers = state.as_mut();
                sleepers.watching.leave();
                // The caller looks at the queue under this very lock, whatever ended the watch.
                if watched == Watched::OffCpu {
                    sleepers.pauses.distrust();
                }
                return state;
            }
        }
        // For the next wait: a worker that was woken and finds nothing may watch again.
        *has_watched = false;
        sleepers.asleep.count += 1;
        let mut state = match until {
            None => self.called.wait(state),
            Some(until) => self.called.wait_until(lock, state, until),
        };
        // Also a sleeper whose time is over may be called before it has the lock. As after each wait, it
        // looks at the queue.
        state.as_mut().asleep.leave();
        state
    }

    fn watch(&self, before: u64, mut last: u64) -> Watched {
        for round in 0..WATCH_ROUNDS {
            if self.calls.load(Relaxed) != before {
                return Watched::Called;
            }
            pause(round);
            let now = clock::now();
            if now.saturating_sub(last) >= WAKE_UP {
                return Watched::OffCpu; // A call may have come meanwhile: the worker looks anyway.
            }
            self.looked.store(now, Relaxed);
            last = now;
        }
        Watched::InVain
    }
}

/// The end of a watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    Called,
    InVain,
    /// The watcher was not on a CPU for a while.
    OffCpu,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pauses(score: i8) -> Pauses {
        Pauses { since: None, score }
    }

    fn end_after(pauses: &mut Pauses, ticks: u64) {
        pauses.begin(1_000);
        pauses.end(1_000 + ticks);
    }

    #[test]
    fn workers_watch_after_short_pauses_and_sleep_after_long_ones() {
        let mut pauses = Pauses::default();
        assert!(pauses.next_is_short(), "a new pool");
        for _ in 0..3 {
            end_after(&mut pauses, WAKE_UP);
        }
        assert!(!pauses.next_is_short());
        for short in 1..=3 {
            end_after(&mut pauses, WAKE_UP - 1);
            assert_eq!(pauses.next_is_short(), short >= 2, "after {short} short pauses");
        }
    }

    #[test]
    fn one_pause_out_of_line_changes_nothing() {
        let mut always_short = pauses(Pauses::MOST);
        end_after(&mut always_short, WAKE_UP);
        assert!(always_short.next_is_short());
        let mut always_long = pauses(0);
        end_after(&mut always_long, 0);
        assert!(!always_long.next_is_short());
    }

    #[test]
    fn only_the_first_call_ends_a_pause() {
        let mut pauses = pauses(Pauses::MOST);
        pauses.begin(0);
        pauses.end(0);
        pauses.end(WAKE_UP);
        assert_eq!(pauses.score, Pauses::MOST);
    }

    #[test]
    fn after_a_lost_cpu_nobody_watches_for_a_while() {
        let mut pauses = pauses(Pauses::MOST);
        pauses.distrust();
        for _ in 0..DISTRUST {
            assert!(!pauses.next_is_short());
            end_after(&mut pauses, 0);
        }
        assert!(pauses.next_is_short());
    }

    /// One worker watches, `asleep` others sleep.
    fn with_watcher(asleep: usize) -> Sleepers {
        Sleepers {
            watching: Waiters { count: 1, called: 0 },
            asleep: Waiters { count: asleep, called: 0 },
            pauses: Pauses::default(),
        }
    }

    #[test]
    fn a_call_counts_on_a_watcher_that_is_on_its_cpu_and_else_wakes_a_sleeper() {
        let sleep = Sleep::new();
        sleep.looked.store(u64::MAX, Relaxed); // Later than any moment.
        assert!(sleep.call(&mut with_watcher(1)) == Called::Watcher);
        sleep.looked.store(0, Relaxed);
        let mut sleepers = with_watcher(1);
        while clock::now() < WAKE_UP {} // Where the clock starts with the first reading.
        assert!(sleep.call(&mut sleepers) == Called::Sleeper);
        assert!(sleep.call(&mut sleepers) == Called::Watcher, "there is nobody else");
        assert!(sleep.call(&mut sleepers) == Called::Nobody);
    }

    /// Another thread keeps this one off its CPU: that is played by a last look long ago.
    #[test]
    fn a_watcher_that_was_off_its_cpu_stops() {
        let sleep = Sleep::new();
        while clock::now() < WAKE_UP {}
        assert!(sleep.watch(0, 0) == Watched::OffCpu);
    }
}
