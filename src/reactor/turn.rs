//! Whose turn it is to read: that of one thread at a time, which another one takes over while user
//! code keeps it.
//!
//! The word of a turn is even while its thread reads, and odd while that runs user code. Each change
//! raises it, so a turn that was taken over never comes back:
//!
//! | who | change | meaning |
//! | --- | --- | --- |
//! | the reader | even to odd | It runs user code, and holds no lock and nothing unread. |
//! | the reader | odd to even | It reads on. |
//! | a standby | odd to even | The turn is the standby's. The reader finds another word at its return. |

use crate::sync::Mutex;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicU64, fence};

pub(crate) struct Turn {
    word: AtomicU64,
    /// No standby looks at the word now and then: there is none, or it sleeps until it is woken.
    is_unwatched: AtomicBool,
}

/// The right to read.
#[derive(Debug)]
pub(crate) struct Reading(u64);

impl Turn {
    /// Returns a turn, and the right to it of the first thread.
    pub(crate) fn new() -> (Self, Reading) {
        (Self { word: AtomicU64::new(0), is_unwatched: AtomicBool::new(true) }, Reading(0))
    }

    /// Marks the beginning of user code. `true`: no standby watches, so one is to be called before
    /// that code runs.
    pub(crate) fn leave(&self, reading: &mut Reading) -> bool {
        reading.0 += 1;
        // No other thread changes an even word, so a plain store is enough.
        self.word.store(reading.0, Release);
        // A standby that goes to sleep says so and then looks at the word. So one of the two sees
        // what the other one has written.
        fence(SeqCst);
        self.is_unwatched.load(Relaxed)
    }

    /// Marks the end of user code. `false`: the turn was taken over meanwhile, and is lost.
    pub(crate) fn come_back(&self, reading: &mut Reading) -> bool {
        reading.0 += 1;
        self.word.compare_exchange(reading.0 - 1, reading.0, AcqRel, Relaxed).is_ok()
    }

    /// The word, for a standby to compare.
    pub(crate) fn look(&self) -> Look {
        Look(self.word.load(Acquire))
    }

    /// Takes the turn from a thread that has been in the same piece of user code since this look.
    pub(crate) fn take_over(&self, since: Look) -> Option<Reading> {
        let next = since.0 + 1;
        let is_taken =
            since.is_away() && self.word.compare_exchange(since.0, next, AcqRel, Relaxed).is_ok();
        is_taken.then_some(Reading(next))
    }

    /// A standby begins to watch, or is about to be woken for that.
    pub(crate) fn watch(&self) {
        self.is_unwatched.store(false, Release);
    }

    /// A standby stops watching, until it is woken. `false`: user code was begun before that, and
    /// nobody will wake it.
    pub(crate) fn stop_watching(&self) -> bool {
        self.is_unwatched.store(true, Release);
        // As in `leave`: a job that has not seen this is seen by the look.
        fence(SeqCst);
        !self.look().is_away()
    }

    pub(crate) fn is_unwatched(&self) -> bool {
        self.is_unwatched.load(Acquire)
    }
}

/// The word of a turn, as a standby has seen it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look(u64);

impl Look {
    /// The thread runs user code.
    fn is_away(self) -> bool {
        self.0 % 2 == 1
    }
}

/// The place of the thread that stands by. Its entry and the watch of the turn change together,
/// under its lock: else a thread that comes late to wake a standby could set the turn as watched
/// when that standby has left.
pub(crate) struct Standby<T>(Mutex<Option<T>>);

impl<T> Standby<T> {
    pub(crate) fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// Has the standby watch the turn: wakes it, or starts one if there is none.
    pub(crate) fn wake(
        &self,
        turn: &Turn,
        wake: impl FnOnce(&T),
        start: impl FnOnce() -> Option<T>,
    ) {
        let mut place = self.0.lock();
        if let Some(standby) = &*place {
            // Before the wake-up: a sleeping standby goes back to sleep unless it finds this.
            turn.watch();
            return wake(standby);
        }
        *place = start();
        // If the start was refused, the turn stays unwatched, and the next job tries again.
        if place.is_some() {
            turn.watch();
        }
    }

    /// Makes a thread, which is about to watch, the standby. `false`: there is one already.
    pub(crate) fn enlist(&self, turn: &Turn, thread: impl FnOnce() -> T) -> bool {
        let mut place = self.0.lock();
        if place.is_some() {
            return false;
        }
        *place = Some(thread());
        turn.watch();
        true
    }

    /// As [`Turn::take_over`]; the thread stops being the standby.
    pub(crate) fn take_over(&self, turn: &Turn, since: Look) -> Option<Reading> {
        let reading = turn.take_over(since)?;
        // Until here others may wake this thread as the standby, which does no harm: the turn
        // counts as unwatched only from here on, so the next job calls another.
        let mut place = self.0.lock();
        *place = None;
        // The answer is always `true`: this thread has the turn, and runs no user code yet.
        turn.stop_watching();
        Some(reading)
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().take()
    }
}
