//! An object in memory that processes share: what each of them has of it. In any process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use serde_core::de::{Deserializer, Error as _};
use serde_core::ser::Serializer;

use super::event_word;
use super::held::{ASK_AGAIN, Lockable, TakenWord};
use super::registry::{self, Entry};
use super::waiting::Waiting;
use super::waits::{BlockingWait, Listing, Look, WaitList, Watched};
use crate::codec::handle::{self, Descriptor};
use crate::core::Awaited;
use crate::sys::{self, RobustGuard, RobustMemory, robust_lock};

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

    /// Takes the lock for a moment.
    pub(super) fn lock(&self) -> RobustGuard<'_> {
        loop {
            if let Ok(Some(locked)) = self.memory.lock(None) {
                return locked;
            }
            // It was forked, and may not have a thread so far.
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Calls `attempt` until it is done, or until `deadline`: `None`. Blocks until the event in between.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn block<R>(
        self: &Arc<Self>,
        event: usize,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&Self) -> Attempt<R>,
    ) -> Option<R> {
        let mut wait = BlockingWait::new(deadline);
        if let Attempt::Done(done) = attempt(self) {
            return Some(done);
        }
        loop {
            // What happens from here on changes the word.
            let armed = self.arm(event);
            let outcome = attempt(self);
            match outcome {
                Attempt::Done(done) => return Some(done),
                _ if wait.is_over() => return None,
                Attempt::Wait => WaitList::block(self, event, armed, &mut wait),
                Attempt::Locked => std::thread::sleep(ASK_AGAIN),
            }
        }
    }

    /// As [`block`](Self::block), for a future.
    pub(super) fn poll<R>(
        self: &Arc<Self>,
        event: usize,
        waiting: &mut Waiting<Self>,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&Self) -> Attempt<R>,
    ) -> Poll<R> {
        waiting.polled(self, event, cx, |waiting, cx| {
            if let Attempt::Done(done) = attempt(self) {
                return Poll::Ready(done);
            }
            let armed = self.arm(event);
            let armed = match attempt(self) {
                Attempt::Done(done) => return Poll::Ready(done),
                Attempt::Wait => Some(armed),
                Attempt::Locked => None,
            };
            waiting.keep(self, event, cx, armed);
            Poll::Pending
        })
    }

    /// An attempt under the lock, for which it blocks until `deadline`.
    pub(super) fn locked<R>(
        &self,
        deadline: Option<Instant>,
        attempt: impl FnOnce() -> Option<R>,
    ) -> Attempt<R> {
        Attempt::under(self.memory.lock(deadline), attempt)
    }

    /// An attempt under the lock, for which it does not block.
    pub(super) fn locked_soon<R>(&self, attempt: impl FnOnce() -> Option<R>) -> Attempt<R> {
        Attempt::under(self.memory.try_lock_soon(), attempt)
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

/// The outcome of an attempt at something that may have to wait for an event.
pub(super) enum Attempt<R> {
    Done(R),
    Wait,
    /// The object's lock could not be had.
    Locked,
}

impl<R> Attempt<R> {
    /// An error is that of a process that was forked, and may not have a thread so far.
    fn under(
        locked: io::Result<Option<RobustGuard<'_>>>,
        attempt: impl FnOnce() -> Option<R>,
    ) -> Self {
        let Ok(Some(_locked)) = locked else { return Self::Locked };
        Self::from(attempt())
    }
}

impl<R> From<Option<R>> for Attempt<R> {
    fn from(done: Option<R>) -> Self {
        done.map_or(Self::Wait, Self::Done)
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

    type Taken = TakenWord;

    fn holder(&self) -> io::Result<u32> {
        self.memory.holder()
    }

    #[inline]
    fn take(&self, has_waited: bool) -> Option<(TakenWord, bool)> {
        TakenWord::take(self.memory.lock_word(), self.holder().ok()?, has_waited)
    }

    #[inline]
    fn release(&self, taken: &TakenWord) {
        taken.release(self.memory.lock_word());
    }
}
