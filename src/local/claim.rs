//! Claims: who has the last word on whether a task that was sent to a worker starts. Both ends.
//!
//! Tasks are sent ahead, so that a worker need not wait for the pool between two quick ones. Each
//! carries a claim, a word in the memory that the pool shares with the worker.
//!
//! | word | set by | what follows |
//! | --- | --- | --- |
//! | 0 | the pool, before it sends the task | either of the next two, whoever is first |
//! | `STARTED` | the worker, when it comes to the task | it runs; `STOP` may be added |
//! | `WITHDRAWN` | the pool: cancelled, or wanted for another worker | the worker skips it |
//! | `STARTED`, `STOP` | the pool | the job sees that it is asked to stop |
//! | `ENDED` besides | the worker, at the end of a task that watches the claim | the watch ends |
//!
//! So a task is never both run and withdrawn, and when a worker dies it is known which task it
//! ran, and which it had not begun. The pool uses a claim again when the task's reply is there.
//!
//! The worker can write anything to its control block. The worst that it reaches is that its own tasks
//! count as started or not.

use std::time::Duration;

use crate::local::control_block::ControlBlock;
use crate::remote::slots::SLOTS;
use crate::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use crate::sys;

pub(crate) const STARTED: u32 = 1;
pub(crate) const WITHDRAWN: u32 = 2;
pub(crate) const STOP: u32 = 4;
pub(crate) const ENDED: u32 = 8;

/// One of the claims in a worker's control block.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    block: &'a ControlBlock,
    index: usize,
}

impl<'a> Claim<'a> {
    pub(crate) fn new(block: &'a ControlBlock, number: u16) -> Self {
        Self { block, index: usize::from(number) % SLOTS }
    }

    fn word(self) -> &'a AtomicU32 {
        &self.block.claims[self.index]
    }

    // ---- The pool's side ----

    /// Makes the claim free for a new task, before that is put in line.
    pub(crate) fn issue(self) {
        // Not before the reply to the slot's last task, or its `Skipped`: until then the worker may
        // come to that task, and would start it by the claim of this one.
        self.block.started_at[self.index].store(0, Release);
        self.word().store(0, Release);
    }

    /// Keeps the task from starting. Returns `false` if it has started.
    pub(crate) fn withdraw(self) -> bool {
        match self.word().compare_exchange(0, WITHDRAWN, AcqRel, Acquire) {
            Ok(_) => true,
            // Withdrawn before is a success as well. A spoilt control block may have both bits set,
            // and counts as started.
            Err(now) => now & (STARTED | WITHDRAWN) == WITHDRAWN,
        }
    }

    pub(crate) fn ask_to_stop(self) {
        // Only after `withdraw` has returned `false`: on a free claim the bit would make `start`
        // fail, for a task that was not withdrawn.
        self.word().fetch_or(STOP, AcqRel);
        sys::wake_all_on(self.word());
    }

    pub(crate) fn has_started(self) -> bool {
        self.word().load(Acquire) & STARTED != 0
    }

    /// Returns when the task started, by the clock of [`now`]. Known a moment later than
    /// `has_started`.
    pub(crate) fn started_at(self) -> Option<Duration> {
        let nanos = self.block.started_at[self.index].load(Acquire);
        (self.has_started() && nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    // ---- The worker's side ----

    /// Claims the task for this worker. Returns `false` if it was withdrawn.
    pub(crate) fn start(self) -> bool {
        if self.word().compare_exchange(0, STARTED, AcqRel, Acquire).is_err() {
            return false;
        }
        // 0 is what `issue` writes, and means no time.
        let nanos = u64::try_from(now().as_nanos()).unwrap_or(u64::MAX);
        self.block.started_at[self.index].store(nanos.max(1), Release);
        true
    }

    pub(crate) fn is_asked_to_stop(self) -> bool {
        self.word().load(Acquire) & STOP != 0
    }

    /// Blocks until `is_over`, which is looked at after each request to stop, and after `end_watch`.
    pub(crate) fn watch(self, is_over: &dyn Fn() -> bool) {
        loop {
            // Before the look: the wait ends at once if the word has changed since.
            let now = self.word().load(Acquire);
            if is_over() {
                return;
            }
            sys::wait_on(self.word(), now);
        }
    }

    /// Has `watch` look again. Called before the reply, after which the pool uses the claim again.
    pub(crate) fn end_watch(self) {
        self.word().fetch_or(ENDED, AcqRel);
        sys::wake_all_on(self.word());
    }
}

/// A clock that all processes of the machine share.
pub(crate) fn now() -> Duration {
    sys::monotonic_now()
}
