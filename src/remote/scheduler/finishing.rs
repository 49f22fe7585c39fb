//! Completions under way, and the close of the pool: the end waits for both. In the pool's process.
//!
//! A completion ends without the pool's lock, or each would take it once more. Only the last one of a
//! closing pool takes it, to look for the end. Both facts are in one word, so that its changes are in one
//! order: either the last completion finds that the pool is closing, or the thread that closes the pool, and
//! looks for the end after that, finds that nothing is under way.

use crate::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// The lowest bit. The others count.
const CLOSING: usize = 1;
const ONE: usize = 2;

pub(crate) struct Finishing(AtomicUsize);

impl Finishing {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Adds completions: under the pool's lock, which orders it before any look for the end; or while
    /// another one is under way that ends after this, so that the count rises from zero under the lock
    /// only.
    pub(crate) fn begin(&self, count: usize) {
        self.0.fetch_add(count * ONE, Relaxed);
    }

    /// Ends a completion. `true`: that was the last one of a closing pool, so the caller is to look for
    /// the end, under the lock.
    #[must_use]
    pub(crate) fn finish(&self) -> bool {
        // What the completion did happens before the end, whose look acquires it: later changes of the
        // word, also by other threads, carry it on.
        self.0.fetch_sub(ONE, Release) == ONE | CLOSING
    }

    /// Records that the pool is not open any more. Under the lock, before a look for the end; the
    /// completion that sees the bit takes the lock after that, which orders the rest.
    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSING, Relaxed);
    }

    /// Returns whether no completion is under way. Under the lock.
    pub(crate) fn is_none(&self) -> bool {
        self.0.load(Acquire) < ONE
    }
}
