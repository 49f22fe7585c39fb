//! Where a task is in its life, in one word.
//!
//! | phase | who may touch the body | what can come next |
//! | --- | --- | --- |
//! | `QUEUED` | nobody | `RUNNING` (a claim), `ENDED` (withdrawn) |
//! | `RUNNING` | the thread that claimed it | `ENDED`; an async body also `SUSPENDED` or `QUEUED` |
//! | `SUSPENDED` | nobody | `QUEUED` (woken), `ENDED` (withdrawn) |
//! | `ENDED` | the thread that ended it, once | nothing |
//!
//! Every transition below is one compare-and-swap or fetch-or, so exactly one thread wins the
//! body. Whether there is a result already is another matter, kept by the completion: a time
//! limit can finish the future of a task that still runs.

use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire};

const PHASE: u8 = 0b0011;
const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const SUSPENDED: u8 = 2;
const ENDED: u8 = 3;

/// Set if an async body was woken while it was being polled. Set by its waker, only while
/// `RUNNING`; cleared when the body is suspended.
const WOKEN: u8 = 0b0100;
/// Set if the task is asked to stop. Set by `cancel` and by time limits; never cleared.
const STOP: u8 = 0b1000;
/// Set if the task has been claimed before. Set by the first claim; never cleared.
const STARTED: u8 = 0b1_0000;

pub(super) struct State(AtomicU8);

#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The caller runs it, for the first time.
    First,
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

impl State {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(QUEUED))
    }

    fn load(&self) -> u8 {
        self.0.load(Acquire)
    }

    /// Moves from `phase` by `change`, or does nothing if the phase is another one.
    fn advance(&self, phase: u8, change: impl Fn(u8) -> u8) -> Option<u8> {
        let change = |now| (now & PHASE == phase).then(|| change(now));
        self.0.fetch_update(AcqRel, Acquire, change).ok()
    }

    /// `QUEUED` to `RUNNING`.
    pub(super) fn claim(&self) -> Claim {
        match self.advance(QUEUED, |now| (now & !PHASE) | RUNNING | STARTED) {
            None => Claim::Lost,
            Some(before) if before & STARTED == 0 => Claim::First,
            Some(_) => Claim::Again,
        }
    }

    /// `QUEUED` to `ENDED`, if it never started.
    pub(super) fn withdraw_unstarted(&self) -> bool {
        self.0
            .fetch_update(AcqRel, Acquire, |now| {
                (now & (PHASE | STARTED) == QUEUED).then_some(now | ENDED)
            })
            .is_ok()
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

    /// `RUNNING` to `ENDED`.
    pub(super) fn end(&self) {
        let before = self.0.fetch_or(ENDED, AcqRel);
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
        let before = self.0.fetch_update(AcqRel, Acquire, |now| match now & PHASE {
            SUSPENDED => Some((now & !PHASE) | QUEUED),
            RUNNING if now & WOKEN == 0 => Some(now | WOKEN),
            _ => None,
        });
        before.is_ok_and(|before| before & PHASE == SUSPENDED)
    }

    pub(super) fn request_stop(&self) {
        self.0.fetch_or(STOP, AcqRel);
    }

    pub(super) fn is_stop_requested(&self) -> bool {
        self.load() & STOP != 0
    }

    pub(super) fn is_queued(&self) -> bool {
        self.load() & PHASE == QUEUED
    }

    /// Queued or suspended.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.load() & PHASE, QUEUED | SUSPENDED)
    }

    pub(super) fn is_started(&self) -> bool {
        self.load() & STARTED != 0
    }

    pub(super) fn is_ended(&self) -> bool {
        self.load() & PHASE == ENDED
    }

    /// Started and not ended.
    pub(super) fn is_underway(&self) -> bool {
        let now = self.load();
        now & STARTED != 0 && now & PHASE != ENDED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_is_claimed_once() {
        let state = State::new();
        assert!(state.is_queued());
        assert_eq!(state.claim(), Claim::First);
        assert_eq!(state.claim(), Claim::Lost);
        assert!(!state.withdraw_unstarted());
        assert_eq!(state.withdraw_queued(), None);
        assert!(state.is_underway());
        state.end();
        assert!(!state.is_underway());
    }

    #[test]
    fn a_withdrawn_task_can_not_be_claimed() {
        let state = State::new();
        assert!(state.withdraw_unstarted());
        assert_eq!(state.claim(), Claim::Lost);
        assert!(!state.wake());
    }

    #[test]
    fn a_wake_during_a_poll_queues_once() {
        let state = State::new();
        assert_eq!(state.claim(), Claim::First);
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
        let state = State::new();
        assert_eq!(state.claim(), Claim::First);
        state.request_stop();
        assert!(state.is_stop_requested());
        assert_eq!(state.suspend(), Suspend::Stop);
        assert_eq!(state.claim(), Claim::Lost);
        assert!(!state.withdraw_suspended());
    }
}
