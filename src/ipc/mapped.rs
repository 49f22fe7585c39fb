//! The sealed memory that this process has mapped: each file once, however often it arrives. In any process.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use crate::codec::handle::Descriptor;
use crate::fork::Own;
use crate::shrink::shrink;
use crate::sync::Mutex;
use crate::sys::{self, SealedMemory};

/// Sealed memory, and the descriptor that it is sent by.
pub(super) struct Mapped {
    pub(super) memory: Arc<SealedMemory>,
    pub(super) descriptor: Descriptor,
}

/// By the identity of the file. One that is gone may have left an entry, whose identity another file has then.
static MAPPED: Own<Mutex<Option<All>>> = Own::from_start(Mutex::new(None), || Mutex::new(None));

type All = HashMap<(u64, u64), Weak<Mapped>>;

impl Mapped {
    /// Memory that was made here.
    pub(super) fn new(memory: SealedMemory, descriptor: impl Into<Descriptor>) -> Arc<Self> {
        let mapped = Arc::new(Self { memory: Arc::new(memory), descriptor: descriptor.into() });
        // Without an identity it is mapped again when it comes back.
        if let Ok(identity) = sys::identity(&*mapped.descriptor) {
            let mut all = MAPPED.lock();
            all.get_or_insert_default().insert(identity, Arc::downgrade(&mapped));
        }
        mapped
    }

    /// Memory that has arrived.
    pub(super) fn of(descriptor: Descriptor) -> io::Result<Arc<Self>> {
        let identity = sys::identity(&*descriptor)?;
        let mut all = MAPPED.lock();
        let all = all.get_or_insert_default();
        // As long as it is mapped the file is there, and no other one has its identity.
        if let Some(mapped) = all.get(&identity).and_then(Weak::upgrade) {
            return Ok(mapped);
        }
        // Under the lock, so that no two threads map it.
        let memory = Arc::new(SealedMemory::map(&*descriptor)?);
        let mapped = Arc::new(Self { memory, descriptor });
        all.insert(identity, Arc::downgrade(&mapped));
        Ok(mapped)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut all = MAPPED.lock();
        if let Some(all) = &mut *all {
            if let Ok(identity) = sys::identity(&*self.descriptor) {
                // Another thread may have mapped the file again by now.
                if all.get(&identity).is_some_and(|mapped| mapped.strong_count() == 0) {
                    all.remove(&identity);
                }
            }
            shrink(all);
        }
    }
}
