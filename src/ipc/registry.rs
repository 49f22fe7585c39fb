//! What this process has made of the memory that it shares with others: once for each file, however often a
//! handle to it arrives. In any process.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::fork::Own;
use crate::shrink::shrink;
use crate::sync::Mutex;

/// Tells files apart that are open at the same time: device and number.
pub(super) type Identity = (u64, u64);

/// Holds its file open, so that no other one has the identity.
type Value = dyn Any + Send + Sync;

static KNOWN: Own<Mutex<Option<All>>> = Own::from_start(Mutex::new(None), || Mutex::new(None));

type All = HashMap<Identity, Weak<Value>>;

/// The entry of the value that this is a part of, which is removed with it.
pub(super) struct Entry(Identity);

/// Returns what was made of a file, if it is still there.
pub(super) fn find<V: Any + Send + Sync>(identity: Identity) -> Option<Arc<V>> {
    // Without the lock from here on: if it is of another type, this may be its last reference.
    let known = KNOWN.lock().as_ref().and_then(|all| all.get(&identity)?.upgrade());
    known?.downcast().ok()
}

/// Enters what `make` makes of a file. If another thread was quicker, its value is the one.
pub(super) fn enter<V: Any + Send + Sync>(
    identity: Identity,
    make: impl FnOnce(Entry) -> V,
) -> Arc<V> {
    let made = Arc::new(make(Entry(identity)));
    let known = {
        let mut all = KNOWN.lock();
        let entry = all.get_or_insert_default().entry(identity);
        let weak: Weak<Value> = Arc::<V>::downgrade(&made);
        let entry = entry.or_insert_with(|| Weak::clone(&weak));
        let known = entry.upgrade();
        if known.is_none() {
            *entry = weak;
        }
        known
    };
    // Without the lock, as this may drop either.
    known.and_then(|known| known.downcast().ok()).unwrap_or(made)
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut all = KNOWN.lock();
        if let Some(all) = &mut *all {
            // Another thread may have entered the file again by now.
            if all.get(&self.0).is_some_and(|value| value.strong_count() == 0) {
                all.remove(&self.0);
            }
            shrink(all);
        }
    }
}
