//! The state of a task in one word: where it is in its life, which outcome it has, who listens, and
//! how many references there are.
//!
//! The count is in that word so that a publisher sets `DONE` and gives its reference back in one step. A
//! count of its own makes a burst of tiny tasks take 5 % more CPU time, several producers 10 % more time,
//! and is no less code.
//!
//! # The run
//!
//! | phase | who may touch the body | what can come next |
//! | --- | --- | --- |
//! | `QUEUED` | nobody | `RUNNING` (a claim), `ENDED` (withdrawn) |
//! | `RUNNING` | the thread that claimed it | `ENDED`; an async body also `SUSPENDED` or `QUEUED` |
//! | `SUSPENDED` | nobody | `QUEUED` (woken), `ENDED` (withdrawn) |
//! | `ENDED` | the thread that ended it, once | nothing |
//!
//! # The result
//!
//! Open, then settled (one thread has the right to say what came of it, its `KIND` is fixed), then
//! `DONE` (everybody may see it), then `TAKEN`. It is apart from the run, since a time limit can settle a task that
//! still runs.
//!
//! # The slot of the listener
//!
//! | `LISTENING` | `BUSY` | `DONE` | who owns the slot |
//! | --- | --- | --- | --- |
//! | `NONE` | | | nobody; it is empty |
//! | others | | | nobody; whoever sets `BUSY` gets it |
//! | `NONE` | set | | the thread that set `BUSY` |
//! | `NONE` | set | set | the same: it sees `DONE` when it gives the slot back, and tells its listener itself |
//! | `WATCH` | | any | the lock inside of the watch, for as long as the task lives |
//!
//! So the publisher takes a listener out *before* it sets `DONE`, and never waits for anybody.
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
/// Set if the result is there for all to see. Never cleared.
const DONE: u64 = 1 << 5;
/// What came of it, as a [`Kind`], or 0. Set by the thread that settles; never cleared.
const KIND: u64 = 0xf << KIND_SHIFT;
const KIND_SHIFT: u32 = 6;
/// Set if the stored result is gone from its place, or was not wanted there. Set by whoever moves
/// it out; never cleared.
const TAKEN: u64 = 1 << 10;
/// What is in the slot; see [`Listening`].
const LISTENING: u64 = 0b11 << LISTENING_SHIFT;
const LISTENING_SHIFT: u32 = 11;
/// Set if a thread owns the slot. Cleared by that thread.
const BUSY: u64 = 1 << 13;
/// Set if nobody will ask for the result. Set by the caller's side; never cleared.
const ABANDONED: u64 = 1 << 14;
/// Set if a callback was ever added, or a failure was handed to the caller's side with its future.
/// Never cleared.
const OBSERVED: u64 = 1 << 15;
/// Set if the task counts against the queue's capacity until it starts. Never changes.
const ROOM: u64 = 1 << 16;
/// Set while a [`Registry`](super::Registry) knows the task and may add references. Set and cleared
/// by the registry, under the lock that it is behind.
const REGISTERED: u64 = 1 << 17;

/// The references: the queue's or the worker's, the caller's, those of timers, of an async body's waker,
/// and of threads that withdraw all tasks of a registry. There is room for more than fit into memory.
const REFS: u64 = !(REF - 1);
const REF: u64 = 1 << 18;

/// The state of one task.
pub(crate) struct State {
    word: AtomicU64,
    /// The moment of the submission, in ticks of the [`clock`](crate::clock).
    submitted: u64,
}

/// What came of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(u8);

impl Kind {
    /// The value is stored.
    pub(crate) const VALUE: Self = Self(1);
    /// `Error::Cancelled`; nothing is stored.
    pub(crate) const CANCELLED: Self = Self(2);
    /// `Error::TimedOut`, by a limit of the task's own; nothing is stored.
    pub(crate) const TIME_LIMIT: Self = Self(3);
    /// Further ones are of stored errors.
    const FIRST_STORED_ERROR: u8 = 4;

    #[inline]
    pub(crate) fn of<T>(outcome: &Result<T, Error>) -> Self {
        outcome.as_ref().map_or_else(Self::of_error, |_| Self::VALUE)
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

    /// The name of the error.
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

    #[inline]
    fn in_word(word: u64) -> Option<Self> {
        let kind = ((word & KIND) >> KIND_SHIFT) as u8;
        (kind != 0).then_some(Self(kind))
    }
}

/// What is in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    None = 0,
    Waker = 1,
    Set = 2,
    Watch = 3,
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
            _ => Self::Watch,
        }
    }
}

#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The caller runs it, for the first time.
    First { takes_room: bool },
    /// The caller runs it on, after a suspension.
    Again,
    /// Somebody else has it.
    Lost,
}

#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Suspend {
    /// The body waits for its waker.
    Waiting,
    /// It was woken meanwhile: queue it again.
    Requeue,
    /// It was asked to stop: the caller ends it.
    Stop,
}

/// How a result is made visible.
#[derive(Clone, Copy)]
pub(super) struct Publication {
    pub(super) kind: Kind,
    /// The task, which runs on this thread, ends with it.
    pub(super) ends: bool,
    /// This thread has the slot, since the last try; it is given back.
    pub(super) owns_slot: bool,
    /// This thread holds the watch's lock.
    pub(super) has_watch_lock: bool,
    /// The publisher gives its reference back in the same step, if somebody wants the result.
    pub(super) releases: bool,
}

/// What the publisher found. After `Listener` it tries again, after `Watch` in another way.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Publish {
    /// There is a listener, which the publisher now owns: it takes it out of the slot.
    Listener(Listening),
    /// There is a watch, with callbacks and a lock: publish through that.
    Watch,
    /// It is done, and the publisher's reference is given back.
    Released,
    /// As `Released`, and that was the last one: the publisher frees the task.
    Last,
    /// It is done, and nobody wants the value or error: the publisher still has its reference, and
    /// drops what it had stored.
    Unwanted,
    /// It is done, and the publisher still has its reference, as it wanted.
    Kept,
}

/// What the caller's side found when it wanted the slot.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// It has it, with this in it.
    Owned(Listening),
    /// The result is there, and there is no watch.
    Done,
    /// There is a watch; use its lock.
    Watch,
}

/// The task as the caller's side sees it at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    #[inline]
    pub(crate) fn is_done(self) -> bool {
        self.0 & DONE != 0
    }

    /// What came of it, or is about to.
    #[inline]
    pub(crate) fn kind(self) -> Option<Kind> {
        Kind::in_word(self.0)
    }

    pub(crate) fn is_cancelled(self) -> bool {
        self.is_done() && self.kind() == Some(Kind::CANCELLED)
    }

    /// Done with an error other than `Cancelled`.
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

    /// Queued or suspended.
    #[inline]
    pub(crate) fn is_at_rest(self) -> bool {
        matches!(self.0 & PHASE, QUEUED | SUSPENDED)
    }

    /// Started and not ended.
    pub(crate) fn is_underway(self) -> bool {
        self.is_started() && !self.is_ended()
    }

    pub(crate) fn is_stop_requested(self) -> bool {
        self.0 & STOP != 0
    }

    /// Whether there is a body in its place.
    #[inline]
    pub(super) fn has_body(self) -> bool {
        self.is_at_rest()
    }

    /// Whether there is a result in its place.
    #[inline]
    pub(super) fn has_result(self) -> bool {
        self.is_done() && !self.is_taken() && self.kind().is_some_and(Kind::is_stored)
    }

    /// Whether there is a value, or a failure, that nobody has taken.
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
    /// A queued task with a reference for the queue and one for the caller, submitted at `ticks`.
    #[inline]
    pub(super) fn queued(ticks: u64, takes_room: bool) -> Self {
        let room = if takes_room { ROOM } else { 0 };
        Self { word: AtomicU64::new((2 * REF) | room | QUEUED), submitted: ticks }
    }

    /// What never runs: with a reference for who finishes it and one for the caller.
    pub(super) fn promised() -> Self {
        Self { word: AtomicU64::new((2 * REF) | ENDED), submitted: 0 }
    }

    /// What has never run and is done, with a reference for the caller.
    pub(super) fn finished(kind: Kind) -> Self {
        Self { word: AtomicU64::new(REF | ENDED | DONE | kind.bits()), submitted: 0 }
    }

    #[inline]
    pub(crate) fn look(&self) -> Snapshot {
        Snapshot(self.word.load(Acquire))
    }

    /// How long before `now` the task was submitted, in ticks.
    #[inline]
    pub(crate) fn waited(&self, now: u64) -> u64 {
        now.saturating_sub(self.submitted) // The clocks of two threads may be off by a few ticks.
    }

    /// Applies `change` where it gives a new word; the answer is the old one.
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

    /// `QUEUED` to `ENDED`, if it never started.
    pub(super) fn withdraw_unstarted(&self) -> bool {
        self.update(|now| (now & (PHASE | STARTED) == QUEUED).then_some(now | ENDED)).is_ok()
    }

    /// `QUEUED` to `ENDED`; tells whether it had started.
    pub(super) fn withdraw_queued(&self) -> Option<bool> {
        let before = self.advance(QUEUED, |now| now | ENDED)?;
        Some(before & STARTED != 0)
    }

    /// `SUSPENDED` to `ENDED`.
    pub(super) fn withdraw_suspended(&self) -> bool {
        self.advance(SUSPENDED, |now| now | ENDED).is_some()
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
                (true, _) => rest | ENDED,
                (false, true) => rest | QUEUED,
                (false, false) => rest | SUSPENDED,
            }
        });
        match before {
            Some(before) if before & STOP != 0 => Suspend::Stop,
            Some(before) if before & WOKEN != 0 => Suspend::Requeue,
            _ => Suspend::Waiting,
        }
    }

    /// Tells whether the caller must queue the task: `SUSPENDED` became `QUEUED`. A running task
    /// is marked instead and queues itself.
    pub(super) fn wake(&self) -> bool {
        let before = self.update(|now| match now & PHASE {
            SUSPENDED => Some((now & !PHASE) | QUEUED),
            RUNNING if now & WOKEN == 0 => Some(now | WOKEN),
            _ => None,
        });
        before.is_ok_and(|before| before & PHASE == SUSPENDED)
    }

    pub(super) fn request_stop(&self) {
        self.word.fetch_or(STOP, AcqRel);
    }

    pub(super) fn takes_room(&self) -> bool {
        self.word.load(Relaxed) & ROOM != 0
    }

    // ---- The result ----

    /// Takes the right to publish. Whoever gets it must do so.
    #[must_use]
    pub(super) fn settle(&self, kind: Kind) -> bool {
        self.update(|now| (now & KIND == 0).then_some(now | kind.bits())).is_ok()
    }

    /// Makes the result visible. What is to be stored is in its place.
    #[inline]
    pub(super) fn publish(&self, how: Publication) -> Publish {
        let mut now = self.word.load(Acquire);
        loop {
            let listening = Listening::in_word(now);
            let (next, answer) = match listening {
                Listening::Waker | Listening::Set => {
                    ((now & !LISTENING) | BUSY, Publish::Listener(listening))
                }
                Listening::Watch if !how.has_watch_lock => return Publish::Watch,
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

    /// The result is about to be moved out of its place, by its only taker. `false`: it has been.
    #[must_use]
    #[inline]
    pub(super) fn take(&self) -> bool {
        let now = self.word.load(Acquire);
        debug_assert!(now & DONE != 0);
        if now & TAKEN != 0 {
            return false;
        }
        if Snapshot(now).is_only_reference() {
            self.word.store(now | TAKEN, Relaxed); // Nobody else can touch it.
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
            if listening == Listening::Watch {
                return Slot::Watch;
            }
            // Another thread that adds a callback, for a few moves; or one that publishes, which
            // has taken the slot over and is about to be done.
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

    /// Gives the slot back with `listening` in it. `false`: the result has come, the slot counts
    /// as empty (but for a watch), and what is in it is still this thread's.
    #[must_use]
    pub(super) fn close_slot(&self, listening: Listening) -> bool {
        let before = self.update(|now| {
            let stays = now & DONE == 0 || listening == Listening::Watch;
            Some((now & !(BUSY | LISTENING)) | if stays { listening.bits() } else { 0 })
        });
        before.is_ok_and(|before| before & DONE == 0)
    }

    /// Takes the slot for a watch; also of a task that is done.
    pub(super) fn open_slot_for_watch(&self) -> Slot {
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

    /// Nobody will ask for the result. The slot must be empty, or a watch.
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

    /// `true`: that was the last one.
    #[must_use]
    #[inline]
    pub(super) fn release(&self) -> bool {
        if self.look().is_only_reference() {
            return true; // Nobody else can touch it.
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
            has_watch_lock: false,
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
        assert!(!state.withdraw_unstarted());
        assert_eq!(state.withdraw_queued(), None);
        assert!(state.look().is_underway());
        assert_eq!(publish(&state, Kind::VALUE), Publish::Released);
        assert!(state.look().is_done() && !state.look().is_underway());
        assert!(state.look().is_only_reference());
    }

    #[test]
    fn a_withdrawn_task_can_not_be_claimed() {
        let state = queued();
        assert!(state.withdraw_unstarted());
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
        assert!(!state.withdraw_unstarted());
        assert_eq!(state.withdraw_queued(), Some(true));
    }

    #[test]
    fn a_stop_request_ends_at_the_next_suspension() {
        let state = queued();
        assert_eq!(state.claim(), FIRST);
        state.request_stop();
        assert!(state.look().is_stop_requested());
        assert_eq!(state.suspend(), Suspend::Stop);
        assert_eq!(state.claim(), Claim::Lost);
        assert!(!state.withdraw_suspended());
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
            has_watch_lock: false,
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
        assert_eq!(state.open_slot_for_watch(), Slot::Owned(Listening::None));
        assert!(!state.close_slot(Listening::Watch));
        assert_eq!(state.open_slot(), Slot::Watch);
    }

    #[test]
    fn nobody_wants_the_result_of_an_abandoned_task() {
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
        assert_eq!(Kind::of(&Ok(1)).error_name(), None);
        assert_eq!(Kind::of_error(&Error::Cancelled).error_name(), Some("Cancelled"));
        assert_eq!(Kind::of_error(&Error::ShutDown).error_name(), Some("ShutDown"));
        assert_eq!(Kind::of_error(&Error::ResultTaken).error_name(), Some("ResultTaken"));
        assert_eq!(Kind::TIME_LIMIT.error_name(), Some("TimedOut"));
    }
}
