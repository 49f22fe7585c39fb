//! An object in memory that processes share: what each of them has of it. In any process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use serde_core::de::{Deserializer, Error as _};
use serde_core::ser::Serializer;

use super::event_word;
use super::held::Lockable;
use super::registry::{self, Entry};
use super::waits::{Listing, Look, WaitList, Watched};
use crate::codec::handle::{self, Descriptor};
use crate::core::Awaited;
use crate::sys::{self, RobustMemory, robust_lock};

/// A kind of object, and what one process has of it.
pub(super) trait Kind: Sized + Send + Sync + 'static {
    /// The first word of the memory.
    const MARK: u64;

    /// The number of events that may be waited for, beside that of the lock.
    const EVENTS: usize;

    /// What a dump says of those who wait for an event.
    const AWAITED: Awaited;

    /// What this process has of an object. `words` may have come from another process, and so be anything; they are
    /// read once. `None`: it is no such object.
    fn open(words: &[AtomicU64]) -> Option<Self>;

    /// Called once the object is mapped. An error: this process can't have it.
    fn enter(_memory: &RobustMemory) -> io::Result<()> {
        Ok(())
    }

    /// Returns who of those that wait for an event of this process may go on.
    fn look(object: &Object<Self>, event: usize) -> Look;
}

/// An object, once in each process that has a handle to it.
pub(super) struct Object<K> {
    pub(super) memory: RobustMemory,
    pub(super) descriptor: Descriptor,
    pub(super) kind: K,
    /// For each event, and the lock.
    waits: Box<[WaitList]>,
    listing: Listing,
    _entry: Entry,
}

impl<K: Kind> Object<K> {
    /// A new one, of so many words, of which as many are set aside at once. `write` makes them what they are to be,
    /// behind the first.
    pub(super) fn create(
        words: usize,
        reserved: usize,
        write: impl FnOnce(&[AtomicU64]),
    ) -> io::Result<Arc<Self>> {
        let (memory, descriptor) = RobustMemory::create(words)?;
        sys::reserve(&descriptor, 0..reserved)?;
        write(memory.words());
        memory.words()[0].store(K::MARK, Relaxed);
        Self::of_memory(memory, Descriptor::new(descriptor.into()))
    }

    /// One that has arrived.
    pub(super) fn of(descriptor: Descriptor) -> io::Result<Arc<Self>> {
        // As long as it is mapped the file is there, and no other one has its identity.
        if let Some(object) = registry::find(sys::identity(&*descriptor)?) {
            return Ok(object);
        }
        Self::of_memory(RobustMemory::map(&*descriptor)?, descriptor)
    }

    fn of_memory(memory: RobustMemory, descriptor: Descriptor) -> io::Result<Arc<Self>> {
        let words = memory.words();
        let is_marked = words.first().is_some_and(|mark| mark.load(Relaxed) == K::MARK);
        let kind = is_marked.then(|| K::open(words)).flatten();
        let kind = kind.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the memory is of another kind")
        })?;
        K::enter(&memory)?;
        let identity = sys::identity(&*descriptor)?;
        let waits = (0..=K::EVENTS).map(|_| WaitList::default()).collect();
        let listing = Listing::default();
        let enter = |_entry| Self { memory, descriptor, kind, waits, listing, _entry };
        Ok(registry::enter(identity, enter))
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    pub(super) fn wait_list(&self, event: usize) -> &WaitList {
        &self.waits[event]
    }

    /// Wakes all who wait for an event, in all processes.
    pub(super) fn wake_all(&self, event: usize) {
        event_word::wake_all(self.word(event));
        // At once, and not by way of the thread.
        self.waits[event].wake_futures();
    }

    /// Serialises a handle to it. `of` is the type that the handle's type is generic over, or the handle's own.
    pub(super) fn serialize<S: Serializer>(
        &self,
        name: &str,
        of: &str,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        handle::serialize(name, vec![Arc::clone(&self.descriptor)], of, serializer)
    }

    /// Deserialises a handle to it, which is called `name`.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        name: &'static str,
        of: &str,
        deserializer: D,
    ) -> Result<Arc<Self>, D::Error> {
        let carried = handle::deserialize::<String, D>(name, deserializer)?;
        if carried.value != of {
            let sent = carried.value;
            return Err(D::Error::custom(format_args!("a handle of {sent} instead of {of}")));
        }
        let Ok([descriptor]) = <[_; 1]>::try_from(carried.descriptors) else {
            return Err(D::Error::custom(format_args!("a {name} has one descriptor")));
        };
        Self::of(descriptor).map_err(|error| {
            D::Error::custom(format_args!("the memory of a {name} can't be mapped: {error}"))
        })
    }
}

impl<K: Kind> Watched for Object<K> {
    fn awaited(&self, event: usize) -> Awaited {
        if event == K::EVENTS { Awaited::Lock } else { K::AWAITED }
    }

    fn wait_lists(&self) -> &[WaitList] {
        &self.waits
    }

    fn word(&self, event: usize) -> &AtomicU32 {
        if event == K::EVENTS { self.memory.lock_word() } else { self.memory.event(event) }
    }

    fn arm(&self, event: usize) -> u32 {
        let word = self.word(event);
        if event == K::EVENTS { robust_lock::arm(word) } else { event_word::arm(word) }
    }

    fn look(&self, event: usize) -> Look {
        if event == K::EVENTS { self.look_at_lock() } else { K::look(self, event) }
    }

    fn listing(&self) -> &Listing {
        &self.listing
    }
}

impl<K: Kind> Lockable for Object<K> {
    const LOCK: usize = K::EVENTS;

    fn holder(&self) -> io::Result<u32> {
        self.memory.holder()
    }
}
