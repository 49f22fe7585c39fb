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
    /// With the first turn.
    pub(crate) fn new() -> (Self, Reading) {
        (Self { word: AtomicU64::new(0), is_unwatched: AtomicBool::new(true) }, Reading(0))
    }

    /// User code comes next. `true`: nobody watches, which is to be mended first.
    pub(crate) fn leave(&self, reading: &mut Reading) -> bool {
        reading.0 += 1;
        self.word.store(reading.0, Release);
        // A standby that goes to sleep says so and then looks at the word. So one of the two sees
        // what the other one has written.
        fence(SeqCst);
        self.is_unwatched.load(Relaxed)
    }

    /// The user code has come back. `false`: the turn was taken over.
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

/// The place of the thread that stands by. Who is in it, and whether the turn is watched, change together
/// under its lock: else a thread that is about to wake a standby, and comes late, could say that somebody
/// watches when that standby has left.
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
            turn.watch();
            return wake(standby);
        }
        *place = start();
        if place.is_some() {
            turn.watch();
        }
    }

    /// Makes a thread the standby, which is about to watch. `false`: there is one.
    pub(crate) fn enlist(&self, turn: &Turn, thread: impl FnOnce() -> T) -> bool {
        let mut place = self.0.lock();
        if place.is_some() {
            return false;
        }
        *place = Some(thread());
        turn.watch();
        true
    }

    /// As [`Turn::take_over`], for the standby, which then is none any more.
    pub(crate) fn take_over(&self, turn: &Turn, since: Look) -> Option<Reading> {
        let reading = turn.take_over(since)?;
        let mut place = self.0.lock();
        *place = None;
        turn.stop_watching();
        Some(reading)
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().take()
    }
}
