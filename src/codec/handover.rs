//! Thread-locals through which a value and the codec hand to each other what serde, which is between them, knows
//! nothing of. For both ends.

use std::cell::Cell;
use std::marker::PhantomData;
use std::thread::LocalKey;

/// Empties a thread-local when dropped.
#[must_use]
pub(crate) struct Withdraw<T: 'static> {
    from: &'static LocalKey<Cell<Option<T>>>,
    not_send: PhantomData<*const ()>,
}

impl<T> Drop for Withdraw<T> {
    fn drop(&mut self) {
        // A thread that is ending has no offers any more.
        let _ = self.from.try_with(Cell::take);
    }
}

pub(super) fn put<T>(into: &'static LocalKey<Cell<Option<T>>>, value: T) -> Withdraw<T> {
    // In a thread that is ending there is no place for the value: it is dropped.
    let _ = into.try_with(|cell| cell.set(Some(value)));
    Withdraw { from: into, not_send: PhantomData }
}
