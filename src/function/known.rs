//! Calls that this process has named, or has checked. In any process.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::NamedCall;
use crate::fork::Own;
use crate::sync::Mutex;

/// The calls. A forked child begins anew: another thread may have held the lock.
static KNOWN: Own<Mutex<BTreeSet<NamedCall>>> = Own::from_start(none(), none);

const fn none() -> Mutex<BTreeSet<NamedCall>> {
    Mutex::new(BTreeSet::new())
}

thread_local! {
    /// The call that this thread has added last, which is most often the next one as well: the lock
    /// is not needed for it.
    static LAST: Cell<Option<NamedCall>> = const { Cell::new(None) };
}

fn is_last(call: NamedCall) -> bool {
    LAST.try_with(|last| last.get() == Some(call)).unwrap_or(false)
}

pub(super) fn add(call: NamedCall) {
    if !is_last(call) {
        KNOWN.lock().insert(call);
        let _ = LAST.try_with(|last| last.set(Some(call))); // at the end of a thread it is gone
    }
}

pub(super) fn has(call: NamedCall) -> bool {
    is_last(call) || KNOWN.lock().contains(&call)
}
