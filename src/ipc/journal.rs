//! Stores to words that processes share. Tests look at what each of them leaves behind. In any process.

#[cfg(test)]
pub(super) use self::kept::{Journal, journal_of, kill_at};

use std::sync::atomic::{AtomicU64, Ordering};

/// Stores to a word that may be the last store of this process.
#[inline]
pub(super) fn store(word: &AtomicU64, value: u64, order: Ordering) {
    #[cfg(test)]
    kept::note(word, value);
    word.store(value, order);
}

#[cfg(test)]
mod kept {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// The stores of an operation in their order: the address of the word, and the value.
    pub(in crate::ipc) type Journal = Vec<(usize, u64)>;

    thread_local! {
        static JOURNAL: RefCell<Option<Journal>> = const { RefCell::new(None) };
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Notes a store, if this thread keeps a journal, and kills the process, if it is the one to do that before.
    pub(super) fn note(word: &AtomicU64, value: u64) {
        JOURNAL.with_borrow_mut(|journal| {
            journal.iter_mut().for_each(|kept| kept.push((std::ptr::from_ref(word).addr(), value)));
        });
        match LEFT.get() {
            Some(0) => {
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            }
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }

    pub(in crate::ipc) fn journal_of(operation: impl FnOnce()) -> Journal {
        JOURNAL.set(Some(Vec::new()));
        operation();
        JOURNAL.take().unwrap()
    }

    /// Kills the process when this thread is about to store for the time after so many.
    pub(in crate::ipc) fn kill_at(store: usize) {
        LEFT.set(Some(store));
    }
}
