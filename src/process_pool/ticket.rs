//! Tickets: who has the last word on whether a task that was sent to a worker starts.
//!
//! Tasks are sent ahead, so that a worker need not wait for the pool between two quick ones. Each
//! carries a ticket, a word in the memory that the pool shares with the worker.
//!
//! | word | set by | what follows |
//! | --- | --- | --- |
//! | 0 | the pool, before it sends the task | either of the next two, whoever is first |
//! | `STARTED` | the worker, when it comes to the task | it runs; `STOP` may be added |
//! | `WITHDRAWN` | the pool: cancelled, or wanted for another worker | the worker skips it |
//! | `STARTED`, `STOP` | the pool | the job sees that it is asked to stop |
//!
//! So a task is never both run and withdrawn, and when a worker dies it is known which task it
//! ran, and which it had not begun. The pool uses a ticket again when the task's reply is there.
//!
//! The worker can write anything to its page. The worst that it reaches is that its own tasks
//! count as started or not.

use std::time::Duration;

use super::page::{Page, TICKETS};
use crate::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

const STARTED: u32 = 1;
const WITHDRAWN: u32 = 2;
const STOP: u32 = 4;

/// The numbers of the tickets that are not in use.
pub(super) struct FreeTickets(u64);

impl FreeTickets {
    pub(super) fn all() -> Self {
        const { assert!(TICKETS == u64::BITS as usize) };
        Self(u64::MAX)
    }

    pub(super) fn take(&mut self) -> Option<u16> {
        let ticket = self.0.trailing_zeros();
        (ticket < u64::BITS).then(|| {
            self.0 &= !(1 << ticket);
            ticket as u16
        })
    }

    pub(super) fn give_back(&mut self, ticket: u16) {
        self.0 |= 1 << ticket;
    }
}

/// A ticket of the worker that `page` is shared with.
#[derive(Clone, Copy)]
pub(super) struct Ticket<'a> {
    page: &'a Page,
    index: usize,
}

impl<'a> Ticket<'a> {
    pub(super) fn new(page: &'a Page, number: u16) -> Self {
        Self { page, index: usize::from(number) % TICKETS }
    }

    fn word(self) -> &'a AtomicU32 {
        &self.page.tickets[self.index]
    }

    // ---- The pool's side ----

    /// Before the task is sent.
    pub(super) fn issue(self) {
        self.page.started_at[self.index].store(0, Release);
        self.word().store(0, Release);
    }

    /// The task is not to start. `false`: it has.
    pub(super) fn withdraw(self) -> bool {
        match self.word().compare_exchange(0, WITHDRAWN, AcqRel, Acquire) {
            Ok(_) => true,
            // A worker that has spoilt its page may have set both.
            Err(now) => now & (STARTED | WITHDRAWN) == WITHDRAWN,
        }
    }

    pub(super) fn ask_to_stop(self) {
        self.word().fetch_or(STOP, AcqRel);
    }

    pub(super) fn has_started(self) -> bool {
        self.word().load(Acquire) & STARTED != 0
    }

    /// When the task started, by the clock of [`now`]. A little later than `has_started` says so.
    pub(super) fn started_at(self) -> Option<Duration> {
        let nanos = self.page.started_at[self.index].load(Acquire);
        (self.has_started() && nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    // ---- The worker's side ----

    /// The task is to run. `false`: it was withdrawn.
    pub(super) fn start(self) -> bool {
        if self.word().compare_exchange(0, STARTED, AcqRel, Acquire).is_err() {
            return false;
        }
        let nanos = u64::try_from(now().as_nanos()).unwrap_or(u64::MAX);
        self.page.started_at[self.index].store(nanos.max(1), Release);
        true
    }

    pub(super) fn is_asked_to_stop(self) -> bool {
        self.word().load(Acquire) & STOP != 0
    }
}

/// A clock that all processes of the machine share.
pub(super) fn now() -> Duration {
    super::sys::monotonic_now()
}
