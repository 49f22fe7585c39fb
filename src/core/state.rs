//! The state of a task in one word: where it is in its life, which outcome it has, who listens, and
//! how many references there are.
//!
//! The count is in that word so that a publisher sets `DONE` and gives its reference back in one step. A
//! count of its own makes a burst of tiny tasks take 5 % more CPU time, several producers 10 % more time,
//! and is no less code.
//!
//! # The run
//!
//! | phase | owner of the body | next phase |
//! | --- | --- | --- |
//! | `QUEUED` | none | `RUNNING` (a claim), `ENDED` (withdrawn) |
//! | `RUNNING` | the thread that claimed the task | `ENDED`; of an async body also `SUSPENDED` or `QUEUED` |
//! | `SUSPENDED` | none | `QUEUED` (woken), `ENDED` (withdrawn) |
//! | `ENDED` | the thread that ended the task, once | none |
//!
//! # The result
//!
//! Open, then settled (the `KIND` is fixed, and one thread has the right to publish), then `DONE` (visible to
//! all threads), then `TAKEN`. The result is apart from the run, since a time limit can settle a task that still
//! runs. A withdrawal settles the task in the step that ends it, unless the time limit has settled it before: it
//! publishes only once the body is dropped, and a thread that finds the task withdrawn by another one sees the
//! outcome.
//!
//! # The slot of the listener
//!
//! | `LISTENING` | `BUSY` | `DONE` | owner of the slot |
//! | --- | --- | --- | --- |
//! | `NONE` | | | none; the slot is empty |
//! | others | | | none; a thread that sets `BUSY` becomes it |
//! | `NONE` | set | | the thread that set `BUSY` |
//! | `NONE` | set | set | the same: it sees `DONE` when it gives the slot back, and tells its listener itself |
//! | `CALLBACKS` | | any | the lock of the callbacks, for as long as the task lives |
//!
//! The publisher takes a listener out *before* it sets `DONE`, and never waits for another thread.
//!
//! Every transition is a named function here, and one compare-and-swap or fetch-or.

use crate::error::Error;
use crate::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

const PHASE: u64 = 0b11;
const QUEUED: u64 = 0;
const RUNNING: u64 = 1;
const SUSPENDED: u64 = 2;
const ENDED: u64 = 3;

/// Set if an async body was woken while it was being polled. Set by its waker, only while
/// `RUNNING`; cleared when the body is suspended.
const WOKEN: u64 = 1 << 2;
/// Set if the task is asked to stop. Set by `cancel` and by time limits; never cleared.
const STOP: u64 = 1 << 3;
/// Set if the task has been claimed before. Set by the first claim; never cleared.
const STARTED: u64 = 1 << 4;
/// Set once the result is visible to all threads. Set by the publisher; never cleared.
const DONE: u64 = 1 << 5;
/// The [`Kind`] of the outcome, or 0. Set by the thread that settles; never cleared.
const KIND: u64 = 0xf << KIND_SHIFT;
const KIND_SHIFT: u32 = 6;
/// Set once the result has been moved out or discarded. Set by the thread that does so; never cleared.
const TAKEN: u64 = 1 << 10;
/// The content of the slot; see [`Listening`].
const LISTENING: u64 = 0b11 << LISTENING_SHIFT;
const LISTENING_SHIFT: u32 = 11;
/// Set if a thread owns the slot. Cleared by that thread.
const BUSY: u64 = 1 << 13;
/// Set once the caller's side has given the result up. Set by that side; never cleared.
const ABANDONED: u64 = 1 << 14;
/// Set if a callback was ever added, or a failure was handed to the caller's side with its future.
/// Never cleared.
const OBSERVED: u64 = 1 << 15;
/// Set if the task counts against the queue's capacity until it starts, or until it has run. Never changes.
const ROOM: u64 = 1 << 16;
/// Set while a [`Registry`](super::Registry) knows the task and may add references. Set and cleared
/// by the registry, under the lock that it is behind.
const REGISTERED: u64 = 1 << 17;

/// The references: the queue's or the worker's, the caller's, those of timers, of an async body's waker,
/// and of threads that withdraw all tasks of a registry. There is room for more than fit into memory.
const REFS: u64 = !(REF - 1);
const REF: u64 = 1 << 18;

/// Set in a state's time if that is the time of the run.
const RAN: u64 = 1 << 63;

/// The state of one task.
pub(crate) struct State {
    word: AtomicU64,
    /// The moment of the submission, in ticks of the [`clock`](crate::clock); with [`RAN`], how long the task has
    /// run, from just before its result is published.
    // Also before that no plain number: a reference to one is protected for as long as the function runs that was
    // given it, and another thread may free the task as soon as `word` says so, before that returns.
    time: std::sync::atomic::AtomicU64,
}

/// The kind of a task's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(u8);

impl Kind {
    /// The value is stored.
    pub(crate) const VALUE: Self = Self(1);
    /// `Error::Cancelled`; nothing is stored.
    pub(crate) const CANCELLED: Self = Self(2);
    /// `Error::TimedOut`, by a limit of the task's own; nothing is stored.
    pub(crate) const TIME_LIMIT: Self = Self(3);
    /// The first of the kinds of stored errors.
    const FIRST_STORED_ERROR: u8 = 4;

    /// The kind of a task that is withdrawn with `error`; `TimedOut` is by a limit of the task's own.
    pub(super) fn of_withdrawal(error: &Error) -> Self {
        match error {
            Error::TimedOut { .. } => Self::TIME_LIMIT,
            _ => Self::of_error(error),
        }
    }

    pub(crate) fn of_error(error: &Error) -> Self {
        match error {
            Error::Cancelled => Self::CANCELLED,
            _ => Self(Self::FIRST_STORED_ERROR + error.number()),
        }
    }

    #[inline]
    pub(super) fn is_stored(self) -> bool {
        self != Self::CANCELLED && self != Self::TIME_LIMIT
    }

    /// Returns the name of the error, if it is one.
    pub(crate) fn error_name(self) -> Option<&'static str> {
        match self {
            Self::VALUE => None,
            Self::CANCELLED => Some("Cancelled"),
            Self::TIME_LIMIT => Some("TimedOut"),
            Self(kind) => Error::NAMES.get(usize::from(kind - Self::FIRST_STORED_ERROR)).copied(),
        }
    }

    fn bits(self) -> u64 {
        u64::from(self.0) << KIND_SHIFT
    }

    /// Returns `word`, settled as this kind unless it is settled already.
    fn settle(self, word: u64) -> u64 {
        if word & KIND == 0 { word | self.bits() } else { word }
    }

    #[inline]
    fn in_word(word: u64) -> Option<Self> {
        let kind = ((word & KIND) >> KIND_SHIFT) as u8;
        (kind != 0).then_some(Self(kind))
    }
}

/// The content of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    None = 0,
    Waker = 1,
    Set = 2,
    Callbacks = 3,
}

impl Listening {
    fn bits(self) -> u64 {
        (self as u64) << LISTENING_SHIFT
    }

    #[inline]
    fn in_word(word: u64) -> Self {
        match (word & LISTENING) >> LISTENING_SHIFT {
            0 => Self::None,
            1 => Self::Waker,
            2 => Self::Set,
            _ => Self::Callbacks,
        }
    }
}

#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The task is the caller's, for the first run.
    First { takes_room: bool },
    /// The task is the caller's, after a suspension.
    Again,
    /// Another thread has claimed or ended the task.
    Lost,
}

#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Suspend {
    /// The body waits for its waker.
    Waiting,
    /// The body was woken meanwhile: the caller queues the task again.
    Requeue,
    /// The task was asked to stop: the caller ends it. With `settles` this step has settled it, as
    /// cancelled.
    Stop { settles: bool },
}

/// The parameters of a publication.
#[derive(Clone, Copy)]
pub(super) struct Publication {
    pub(super) kind: Kind,
    /// The task, which runs on this thread, ends with it.
    pub(super) ends: bool,
    /// This thread owns the slot since the last try, and gives it back.
    pub(super) owns_slot: bool,
    /// This thread holds the lock of the callbacks.
    pub(super) has_callbacks_lock: bool,
    /// The publisher gives its reference back in the same step, unless the result was given up.
    pub(super) releases: bool,
}

/// The answer to a publisher. After `Listener` it tries again, after `Callbacks` in another way.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Publish {
    /// There is a listener, and the publisher now owns the slot: it takes the listener out.
    Listener(Listening),
    /// There are callbacks: the publisher runs them and publishes under their lock.
    Callbacks,
    /// The task is done, and the publisher's reference is given back.
    Released,
    /// As `Released`, and that was the last one: the publisher frees the task.
    Last,
    /// The task is done, and the caller's side has given the result up: the publisher still has its
    /// reference, and drops what it had stored.
    Unwanted,
    /// The task is done, and the publisher still has its reference, as it wanted.
    Kept,
}

/// The answer to the caller's side when it wants the slot.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// The caller owns the slot, with this in it.
    Owned(Listening),
    /// The task is done, and there are no callbacks.
    Done,
    /// There are callbacks: their lock is used instead.
    Callbacks,
}

/// The state of a task at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    #[inline]
    pub(crate) fn is_done(self) -> bool {
        self.0 & DONE != 0
    }

    /// Returns the kind of the outcome once it is settled, also before it is published.
    #[inline]
    pub(crate) fn kind(self) -> Option<Kind> {
        Kind::in_word(self.0)
    }

    pub(crate) fn is_cancelled(self) -> bool {
        self.is_done() && self.kind() == Some(Kind::CANCELLED)
    }

    /// Returns whether the task is done with an error other than `Cancelled`.
    pub(crate) fn is_failed(self) -> bool {
        self.is_done() && !matches!(self.kind(), Some(Kind::VALUE | Kind::CANCELLED))
    }

    #[inline]
    pub(crate) fn is_taken(self) -> bool {
        self.0 & TAKEN != 0
    }

    pub(crate) fn is_observed(self) -> bool {
        self.0 & OBSERVED != 0
    }

    pub(crate) fn is_abandoned(self) -> bool {
        self.0 & ABANDONED != 0
    }

    pub(crate) fn is_started(self) -> bool {
        self.0 & STARTED != 0
    }

    pub(crate) fn is_queued(self) -> bool {
        self.0 & PHASE == QUEUED
    }

    pub(crate) fn is_ended(self) -> bool {
        self.0 & PHASE == ENDED
    }

    /// Returns whether the task is queued or suspended.
    #[inline]
    pub(crate) fn is_at_rest(self) -> bool {
        matches!(self.0 & PHASE, QUEUED | SUSPENDED)
    }

    /// Returns whether the task has started and not ended.
    pub(crate) fn is_underway(self) -> bool {
        self.is_started() && !self.is_ended()
    }

    pub(crate) fn is_stop_requested(self) -> bool {
        self.0 & STOP != 0
    }

    /// Returns whether there is a body in the place.
    #[inline]
    pub(super) fn has_body(self) -> bool {
        self.is_at_rest()
    }

    /// Returns whether there is a result in the place.
    #[inline]
    pub(super) fn has_result(self) -> bool {
        self.is_done() && !self.is_taken() && self.kind().is_some_and(Kind::is_stored)
    }

    /// Returns whether there is nothing in place and slot any more. A faster look than those of what there is,
    /// for the end of a task, at which mostly nothing is left.
    #[inline]
    pub(super) fn is_emptied(self) -> bool {
        let is_unstored = || self.kind().is_some_and(|kind| !kind.is_stored());
        self.0 & (PHASE | LISTENING) == ENDED && (self.is_taken() || is_unstored())
    }

    /// Returns whether there is a value, or a failure, that has not been taken.
    #[inline]
    pub(super) fn is_untaken(self) -> bool {
        self.is_done() && !self.is_taken() && self.kind() != Some(Kind::CANCELLED)
    }

    #[inline]
    pub(super) fn listening(self) -> Listening {
        Listening::in_word(self.0)
    }

    pub(super) fn is_registered(self) -> bool {
        self.0 & REGISTERED != 0
    }

    #[inline]
    pub(super) fn is_only_reference(self) -> bool {
        self.0 & (REFS | REGISTERED) == REF
    }
}

impl State {
    /// The state of a task that is queued, with a reference for the queue and one for the caller. It was
    /// submitted at `ticks`.
    #[inline]
    pub(super) fn queued(ticks: u64, takes_room: bool) -> Self {
        let room = if takes_room { ROOM } else { 0 };
        Self { word: AtomicU64::new((2 * REF) | room | QUEUED), time: ticks.into() }
    }

    /// The state of a promise, which never runs, with a reference for the side that keeps it and one for
    /// the caller.
    pub(super) fn promised() -> Self {
        Self { word: AtomicU64::new((2 * REF) | ENDED), time: 0.into() }
    }

    /// The state of a promise that was done from the start, with a reference for the caller.
    pub(super) fn finished(kind: Kind) -> Self {
        Self { word: AtomicU64::new(REF | ENDED | DONE | kind.bits()), time: 0.into() }
    }

    #[inline]
    pub(crate) fn look(&self) -> Snapshot {
        Snapshot(self.word.load(Acquire))
    }

    /// Returns the time from the submission to `now`, in ticks.
    #[inline]
    pub(crate) fn waited(&self, now: u64) -> u64 {
        // The clocks of two threads may be off by a few ticks.
        now.saturating_sub(self.time.load(Relaxed))
    }

    /// Notes how long the task has run, in ticks.
    #[inline]
    pub(crate) fn set_run_time(&self, ticks: u64) {
        self.time.store(RAN | ticks, Relaxed);
    }

    /// Returns how long the task has run, in ticks, if that is known; of a task that is done.
    pub(crate) fn run_time(&self) -> Option<u64> {
        let time = self.time.load(Relaxed);
        (time & RAN != 0).then_some(time & !RAN)
    }

    /// Applies `change` if it gives a new word. Returns the old one, as `Err` if it gave none.
    fn update(&self, change: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        self.word.fetch_update(AcqRel, Acquire, change)
    }

    /// Moves from `phase` by `change`, or does nothing if the phase is another one.
    fn advance(&self, phase: u64, change: impl Fn(u64) -> u64) -> Option<u64> {
        self.update(|now| (now & PHASE == phase).then(|| change(now))).ok()
    }

    // ---- The run ----

    /// `QUEUED` to `RUNNING`.
    #[inline]
    pub(super) fn claim(&self) -> Claim {
        match self.advance(QUEUED, |now| (now & !PHASE) | RUNNING | STARTED) {
            None => Claim::Lost,
            Some(before) if before & STARTED == 0 => {
                Claim::First { takes_room: before & ROOM != 0 }
            }
            Some(_) => Claim::Again,
        }
    }

    /// `QUEUED` to `ENDED`, if it never started; then no limit has settled it.
    pub(super) fn withdraw_unstarted(&self, kind: Kind) -> bool {
        let is_new = |now| now & (PHASE | STARTED) == QUEUED;
        self.update(|now| is_new(now).then(|| kind.settle(now | ENDED))).is_ok()
    }

    /// `QUEUED` to `ENDED`. Returns the state before.
    pub(super) fn withdraw_queued(&self, kind: Kind) -> Option<Snapshot> {
        self.advance(QUEUED, |now| kind.settle(now | ENDED)).map(Snapshot)
    }

    /// `SUSPENDED` to `ENDED`. Returns the state before.
    pub(super) fn withdraw_suspended(&self, kind: Kind) -> Option<Snapshot> {
        self.advance(SUSPENDED, |now| kind.settle(now | ENDED)).map(Snapshot)
    }

    /// `RUNNING` to `ENDED`, of a task whose result is there already.
    pub(super) fn end(&self) {
        let before = self.word.fetch_or(ENDED, AcqRel);
        debug_assert_eq!(before & PHASE, RUNNING);
    }

    /// `RUNNING` to `SUSPENDED`, `QUEUED` or `ENDED`. The body must be back in its place.
    pub(super) fn suspend(&self) -> Suspend {
        let before = self.advance(RUNNING, |now| {
            let rest = now & !(PHASE | WOKEN);
            match (now & STOP != 0, now & WOKEN != 0) {
                (true, _) => Kind::CANCELLED.settle(rest | ENDED),
                (false, true) => rest | QUEUED,
                (false, false) => rest | SUSPENDED,
            }
        });
        match before {
            Some(before) if before & STOP != 0 => Suspend::Stop { settles: before & KIND == 0 },
            Some(before) if before & WOKEN != 0 => Suspend::Requeue,
            _ => Suspend::Waiting,
        }
    }

    /// `SUSPENDED` to `QUEUED`. Returns whether that was so, and the caller must queue the task. A running
    /// task is marked instead, and its worker queues it.
    pub(super) fn wake(&self) -> bool {
        let before = self.update(|now| match now & PHASE {
            SUSPENDED => Some((now & !PHASE) | QUEUED),
            RUNNING if now & WOKEN == 0 => Some(now | WOKEN),
            _ => None,
        });
        before.is_ok_and(|before| before & PHASE == SUSPENDED)
    }

    /// Returns whether the task is as [`queued`](Self::queued) has made it, with both references.
    pub(super) fn is_unseen(&self) -> bool {
        self.word.load(Acquire) & !ROOM == (2 * REF) | QUEUED
    }

    /// Returns the state before.
    pub(super) fn request_stop(&self) -> Snapshot {
        Snapshot(self.word.fetch_or(STOP, AcqRel))
    }

    pub(super) fn takes_room(&self) -> bool {
        self.word.load(Relaxed) & ROOM != 0
    }

    // ---- The result ----

    /// Takes the right to publish; a thread that gets it must publish.
    #[must_use]
    pub(super) fn settle(&self, kind: Kind) -> bool {
        self.update(|now| (now & KIND == 0).then_some(now | kind.bits())).is_ok()
    }

    /// Makes the result visible. A result that is stored is in its place by now.
    #[inline]
    pub(super) fn publish(&self, how: Publication) -> Publish {
        let mut now = self.word.load(Acquire);
        loop {
            let listening = Listening::in_word(now);
            let (next, answer) = match listening {
                Listening::Waker | Listening::Set => {
                    ((now & !LISTENING) | BUSY, Publish::Listener(listening))
                }
                Listening::Callbacks if !how.has_callbacks_lock => return Publish::Callbacks,
                _ => {
                    let mut next = now | DONE | how.kind.bits();
                    if how.ends {
                        next |= ENDED;
                    }
                    if how.owns_slot {
                        next &= !BUSY;
                    }
                    if now & ABANDONED != 0 && how.kind != Kind::CANCELLED {
                        (next | TAKEN, Publish::Unwanted)
                    } else if !how.releases {
                        (next, Publish::Kept)
                    } else if now & REFS == REF {
                        (next - REF, Publish::Last)
                    } else {
                        (next - REF, Publish::Released)
                    }
                }
            };
            match self.word.compare_exchange_weak(now, next, AcqRel, Acquire) {
                Ok(_) => return answer,
                Err(changed) => now = changed,
            }
        }
    }

    /// Takes the right to move the result out of its place. `false`: it has been taken before.
    #[must_use]
    #[inline]
    pub(super) fn take(&self) -> bool {
        let now = self.word.load(Acquire);
        debug_assert!(now & DONE != 0);
        if now & TAKEN != 0 {
            return false;
        }
        if Snapshot(now).is_only_reference() {
            self.word.store(now | TAKEN, Relaxed); // No other thread can touch the word.
            return true;
        }
        self.word.fetch_or(TAKEN, AcqRel) & TAKEN == 0
    }

    // ---- The caller's side ----

    /// Takes the slot.
    pub(super) fn open_slot(&self) -> Slot {
        let mut round = 0;
        loop {
            let now = self.word.load(Acquire);
            let listening = Listening::in_word(now);
            if listening == Listening::Callbacks {
                return Slot::Callbacks;
            }
            // The owner is a thread that adds a callback, for a few moves; or one that publishes, and is
            // about to be done.
            if now & BUSY != 0 {
                crate::sync::pause(round);
                round = round.saturating_add(1);
                continue;
            }
            if now & DONE != 0 {
                return Slot::Done;
            }
            let next = (now & !LISTENING) | BUSY;
            if self.word.compare_exchange_weak(now, next, AcqRel, Acquire).is_ok() {
                return Slot::Owned(listening);
            }
        }
    }

    /// Gives the slot back with `listening` in it. `false`: the task is done, so the slot counts as empty
    /// (unless it holds callbacks), and its content is still this thread's.
    #[must_use]
    pub(super) fn close_slot(&self, listening: Listening) -> bool {
        let before = self.update(|now| {
            let stays = now & DONE == 0 || listening == Listening::Callbacks;
            Some((now & !(BUSY | LISTENING)) | if stays { listening.bits() } else { 0 })
        });
        before.is_ok_and(|before| before & DONE == 0)
    }

    /// Takes the slot for callbacks; also of a task that is done.
    pub(super) fn open_slot_for_callbacks(&self) -> Slot {
        loop {
            match self.open_slot() {
                Slot::Done => {
                    let taken =
                        self.update(|now| (now & (BUSY | LISTENING) == 0).then_some(now | BUSY));
                    if taken.is_ok() {
                        return Slot::Owned(Listening::None);
                    }
                }
                slot => return slot,
            }
        }
    }

    pub(super) fn observe(&self) {
        self.word.fetch_or(OBSERVED, AcqRel);
    }

    /// Gives the result up, and returns the state before. The slot is empty, or holds callbacks.
    pub(super) fn abandon(&self) -> Snapshot {
        Snapshot(self.word.fetch_or(ABANDONED, AcqRel))
    }

    // ---- References ----

    /// Marks the task as known to a registry. `false`: it is known to one already.
    #[must_use]
    pub(super) fn register(&self) -> bool {
        self.word.fetch_or(REGISTERED, AcqRel) & REGISTERED == 0
    }

    /// Clears the mark. From then on the task may be freed at any moment.
    pub(super) fn unregister(&self) {
        self.word.fetch_and(!REGISTERED, AcqRel);
    }

    /// Adds a reference to one that the caller has.
    pub(super) fn add_reference(&self) {
        self.word.fetch_add(REF, Relaxed);
    }

    /// Adds a reference, unless the last one is gone.
    #[must_use]
    pub(super) fn try_add_reference(&self) -> bool {
        self.update(|now| (now & REFS > 0).then_some(now + REF)).is_ok()
    }

    /// Gives a reference back. `true`: it was the last one, and the caller frees the task.
    #[must_use]
    #[inline]
    pub(super) fn release(&self) -> bool {
        if self.look().is_only_reference() {
            return true; // No other thread can touch the task.
        }
        self.word.fetch_sub(REF, AcqRel) & REFS == REF
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn queued() -> State {
        State::queued(0, false)
    }

    const FIRST: Claim = Claim::First { takes_room: false };

    /// As the worker does at the end of a closure.
    fn publish(state: &State, kind: Kind) -> Publish {
        let how = Publication {
            kind,
            ends: true,
            owns_slot: false,
            has_callbacks_lock: false,
            releases: true,
        };
        state.publish(how)
    }

    #[test]
    fn a_closure_is_claimed_once() {
        let state = queued();
        assert!(state.look().is_queued() && state.look().has_body());
        assert_eq!(state.claim(), FIRST);
        assert_eq!(state.claim(), Claim::Lost);
        assert!(!state.withdraw_unstarted(Kind::CANCELLED));
        assert!(state.withdraw_queued(Kind::CANCELLED).is_none());
        assert!(state.look().is_underway());
        assert_eq!(publish(&state, Kind::VALUE), Publish::Released);
        assert!(state.look().is_done() && !state.look().is_underway());
        assert!(state.look().is_only_reference());
    }

    #[test]
    fn a_withdrawn_task_can_not_be_claimed() {
        let state = queued();
        assert!(state.withdraw_unstarted(Kind::TIME_LIMIT));
        assert_eq!(state.look().kind(), Some(Kind::TIME_LIMIT));
        assert_eq!(state.claim(), Claim::Lost);
        assert!(!state.wake());
    }

    #[test]
    fn a_wake_during_a_poll_queues_once() {
        let state = queued();
        assert_eq!(state.claim(), FIRST);
        assert!(!state.wake());
        assert!(!state.wake());
        assert_eq!(state.suspend(), Suspend::Requeue);
        assert!(!state.wake());
        assert_eq!(state.claim(), Claim::Again);
        assert_eq!(state.suspend(), Suspend::Waiting);
        assert!(state.wake());
        assert!(!state.withdraw_unstarted(Kind::CANCELLED));
        assert!(state.withdraw_queued(Kind::CANCELLED).is_some_and(Snapshot::is_started));
        assert_eq!(state.look().kind(), Some(Kind::CANCELLED));
    }

    #[test]
    fn a_stop_request_ends_at_the_next_suspension() {
        let state = queued();
        assert_eq!(state.claim(), FIRST);
        state.request_stop();
        assert!(state.look().is_stop_requested());
        assert_eq!(state.suspend(), Suspend::Stop { settles: true });
        assert_eq!(state.look().kind(), Some(Kind::CANCELLED));
        assert_eq!(state.claim(), Claim::Lost);
        assert!(state.withdraw_suspended(Kind::CANCELLED).is_none());
    }

    #[test]
    fn a_withdrawal_after_the_time_limit_leaves_that_as_the_outcome() {
        let late = || {
            let state = queued();
            assert_eq!(state.claim(), FIRST);
            assert!(state.settle(Kind::TIME_LIMIT));
            state
        };
        let state = late();
        assert_eq!(state.suspend(), Suspend::Waiting);
        let before = state.withdraw_suspended(Kind::CANCELLED).unwrap();
        assert_eq!(before.kind(), Some(Kind::TIME_LIMIT));
        assert!(state.look().is_ended() && state.look().kind() == Some(Kind::TIME_LIMIT));
        let state = late();
        state.request_stop();
        assert_eq!(state.suspend(), Suspend::Stop { settles: false });
        assert_eq!(state.look().kind(), Some(Kind::TIME_LIMIT));
    }

    #[test]
    fn the_first_to_settle_says_what_came_of_it() {
        let state = queued();
        assert!(state.settle(Kind::TIME_LIMIT));
        assert!(!state.settle(Kind::VALUE));
        assert_eq!(state.look().kind(), Some(Kind::TIME_LIMIT));
        assert!(!state.look().is_failed(), "not before it is published");
        assert_eq!(publish(&state, Kind::TIME_LIMIT), Publish::Released);
        assert!(state.look().is_failed() && !state.look().has_result());
    }

    #[test]
    fn the_publisher_takes_the_listener_out_first() {
        let state = queued();
        assert_eq!(state.open_slot(), Slot::Owned(Listening::None));
        assert!(state.close_slot(Listening::Waker));
        assert_eq!(publish(&state, Kind::VALUE), Publish::Listener(Listening::Waker));
        assert!(!state.look().is_done());
        let how = Publication {
            kind: Kind::VALUE,
            ends: true,
            owns_slot: true,
            has_callbacks_lock: false,
            releases: true,
        };
        assert_eq!(state.publish(how), Publish::Released);
        assert_eq!(state.open_slot(), Slot::Done);
    }

    #[test]
    fn who_has_the_slot_at_the_end_hears_of_it() {
        let state = queued();
        assert_eq!(state.open_slot(), Slot::Owned(Listening::None));
        assert_eq!(publish(&state, Kind::VALUE), Publish::Released);
        assert!(!state.close_slot(Listening::Waker));
        assert_eq!(state.open_slot(), Slot::Done);
        assert_eq!(state.open_slot_for_callbacks(), Slot::Owned(Listening::None));
        assert!(!state.close_slot(Listening::Callbacks));
        assert_eq!(state.open_slot(), Slot::Callbacks);
    }

    #[test]
    fn the_result_of_an_abandoned_task_is_unwanted() {
        let state = queued();
        assert!(!state.abandon().is_done());
        assert_eq!(publish(&state, Kind::VALUE), Publish::Unwanted);
        assert!(state.look().is_taken() && !state.look().has_result());
    }

    #[test]
    fn a_failure_that_is_not_stored_is_unwanted_as_well() {
        let state = queued();
        assert!(!state.abandon().is_untaken());
        assert_eq!(publish(&state, Kind::TIME_LIMIT), Publish::Unwanted);
        let state = queued();
        assert!(!state.abandon().is_untaken());
        assert_eq!(publish(&state, Kind::CANCELLED), Publish::Released);
        assert!(!state.look().is_untaken());
        let state = State::finished(Kind::TIME_LIMIT);
        assert!(state.abandon().is_untaken() && state.take());
        assert!(!state.look().is_untaken());
    }

    #[test]
    fn a_result_is_taken_once() {
        let state = State::finished(Kind::VALUE);
        assert!(state.look().has_result());
        assert!(state.take());
        assert!(!state.take());
        assert!(state.release());
    }

    #[test]
    fn references_are_counted() {
        let state = State::queued(0, true);
        assert!(state.register() && !state.register());
        state.add_reference();
        assert!(!state.release());
        assert!(!state.release());
        assert!(state.try_add_reference());
        assert!(!state.release());
        assert!(state.release());
        assert!(!state.try_add_reference());
        assert!(state.look().is_registered() && state.takes_room());
        state.unregister();
        assert!(!state.look().is_registered());
    }

    #[test]
    fn a_submission_that_is_not_yet_is_now() {
        assert_eq!(State::queued(3, false).waited(5), 2);
        // The clocks of two threads may be off.
        assert_eq!(State::queued(5, false).waited(3), 0);
    }

    #[test]
    fn every_error_has_a_name() {
        assert_eq!(Kind::VALUE.error_name(), None);
        assert_eq!(Kind::of_error(&Error::Cancelled).error_name(), Some("Cancelled"));
        assert_eq!(Kind::of_error(&Error::ShutDown).error_name(), Some("ShutDown"));
        assert_eq!(Kind::of_error(&Error::ResultTaken).error_name(), Some("ResultTaken"));
        assert_eq!(Kind::TIME_LIMIT.error_name(), Some("TimedOut"));
    }
}
