//! The values that this process has made of the memory that it shares with others: once for each file, however often a
//! handle to it arrives. In any process.

use std::any::Any;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::codec::handle::Identity;
use crate::fork::Own;
use crate::shrink::shrink;
use crate::sync::Mutex;

/// Holds its file open, so that no other one has the identity.
type Value = dyn Any + Send + Sync;

static ALL: Own<Mutex<Option<All>>> = Own::from_start(Mutex::new(None), || Mutex::new(None));

#[derive(Default)]
struct All {
    known: HashMap<Identity, Weak<Value>>,
    /// Values that are kept beyond the handles of this process, as soon as they are made.
    kept: HashMap<Identity, Option<Arc<Value>>>,
}

/// The entry of the value that this is a part of, which is removed with it.
pub(super) struct Entry(Identity);

/// Returns what was made of a file, if it is still there.
pub(super) fn find<V: Any + Send + Sync>(identity: Identity) -> Option<Arc<V>> {
    // Without the lock from here on: if it is of another type, this may be its last reference.
    let known = ALL.lock().as_mut().and_then(|all| {
        let known = all.known.get(&identity)?.upgrade()?;
        all.keep(identity, &known);
        Some(known)
    });
    known?.downcast().ok()
}

/// Enters what `make` makes of a file. If another thread was quicker, its value is the one.
pub(super) fn enter<V: Any + Send + Sync>(
    identity: Identity,
    make: impl FnOnce(Entry) -> V,
) -> Arc<V> {
    let made = Arc::new(make(Entry(identity)));
    let known = {
        let mut all = ALL.lock();
        let all = all.get_or_insert_default();
        let known = all.known.get(&identity).and_then(Weak::upgrade);
        let value = known.clone().unwrap_or_else(|| Arc::<V>::clone(&made));
        if known.is_none() {
            all.known.insert(identity, Arc::downgrade(&value));
        }
        all.keep(identity, &value);
        known
    };
    // Without the lock, as this may drop either.
    known.and_then(|known| known.downcast().ok()).unwrap_or(made)
}

/// Keeps what this process makes of a file, until it is to [`forget`] it.
pub(crate) fn keep(identity: Identity) {
    let mut all = ALL.lock();
    all.get_or_insert_default().kept.entry(identity).or_default();
}

/// Keeps nothing of a file any more. What was kept is to be dropped by the caller, as its destructor may be user
/// code.
pub(crate) fn forget(identity: Identity) -> impl Send {
    let mut all = ALL.lock();
    let all = all.get_or_insert_default();
    let forgotten = all.kept.remove(&identity);
    shrink(&mut all.kept);
    forgotten
}

/// The items of one message, while they are decoded and used one after the other. What they have in common is mapped
/// once for all of them.
#[derive(Default)]
pub(crate) struct Items(Vec<Identity>);

thread_local! {
    /// The files of the items, one of which this thread decodes.
    static ITEMS: Cell<Option<Vec<Identity>>> = const { Cell::new(None) };
}

impl Items {
    /// Decodes one. What was mapped for it stays so.
    pub(crate) fn decode<R>(&mut self, decode: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a mut Items);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.0 = ITEMS.take().unwrap_or_default();
            }
        }
        ITEMS.set(Some(std::mem::take(&mut self.0)));
        let _back = Back(self);
        decode()
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|identity| drop(forget(identity)));
    }
}

/// Before something is made of a file that has arrived: if that is for an item, it is kept for those behind it.
pub(super) fn keep_for_items(identity: Identity) {
    if let Some(mut files) = ITEMS.take() {
        if !files.contains(&identity) {
            files.push(identity);
            keep(identity);
        }
        ITEMS.set(Some(files));
    }
}

impl All {
    fn keep(&mut self, identity: Identity, value: &Arc<Value>) {
        if let Some(kept) = self.kept.get_mut(&identity) {
            kept.get_or_insert_with(|| Arc::clone(value));
        }
    }
}

impl Entry {
    pub(super) fn identity(&self) -> Identity {
        self.0
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut all = ALL.lock();
        if let Some(All { known, .. }) = &mut *all {
            // Another thread may have entered the file again by now.
            if known.get(&self.0).is_some_and(|value| value.strong_count() == 0) {
                known.remove(&self.0);
            }
            shrink(known);
        }
    }
}
