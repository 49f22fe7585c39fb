//! The memory of a channel, which both sides share, with the queue. In any process.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use super::end::End;
use super::ring::{Ring, words};
use crate::codec::handle::Descriptor;
use crate::ipc::event_word;
use crate::ipc::registry::{self, Entry};
use crate::ipc::waits::{Event, Listing, Look, Watched};
use crate::sync::Mutex;
use crate::sys::{self, RobustMemory};

/// The first words of the memory: what it is, and the most items.
const KIND: usize = 0;
const CAPACITY: usize = 1;
const CHANNEL: u64 = u64::from_le_bytes(*b"channel1");

/// The event that the last receiver is gone; that there is room is another one, which is told to one sender at a time.
pub(super) const CLOSED: usize = 2;

/// A side of the channel; the number is that of the event that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Waits for room.
    Sender = 0,
    /// Waits for items.
    Receiver = 1,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

/// A channel, once in each process that has ends of it.
pub(super) struct Channel {
    pub(super) memory: RobustMemory,
    pub(super) descriptor: Descriptor,
    pub(super) capacity: u64,
    /// Of both sides, and of those who wait for [`CLOSED`].
    events: [Event; 3],
    listing: Listing,
    /// The ends that this process has, one of each side.
    pub(super) ends: Mutex<[Weak<End>; 2]>,
    _entry: Entry,
}

impl Channel {
    /// A new one, for so many words.
    pub(super) fn create(capacity: u64, ring: usize) -> io::Result<Arc<Self>> {
        let (memory, descriptor) = RobustMemory::create(words(ring))?;
        sys::reserve(&descriptor, words(0))?;
        memory.words()[CAPACITY].store(capacity, Relaxed);
        memory.words()[KIND].store(CHANNEL, Relaxed);
        Self::enter(memory, Descriptor::new(descriptor.into()), capacity)
    }

    /// One that has arrived.
    pub(super) fn of(descriptor: Descriptor) -> io::Result<Arc<Self>> {
        // As long as it is mapped the file is there, and no other one has its identity.
        if let Some(channel) = registry::find(sys::identity(&*descriptor)?) {
            return Ok(channel);
        }
        let memory = RobustMemory::map(&*descriptor)?;
        let words = memory.words();
        // Read once: another process may write there.
        let constant = |at: usize| words.get(at).map_or(0, |word| word.load(Relaxed));
        let (kind, capacity) = (constant(KIND), constant(CAPACITY));
        if kind != CHANNEL || capacity == 0 || Ring::new(words, capacity).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a channel"));
        }
        Self::enter(memory, descriptor, capacity)
    }

    fn enter(memory: RobustMemory, descriptor: Descriptor, capacity: u64) -> io::Result<Arc<Self>> {
        let identity = sys::identity(&*descriptor)?;
        let (events, listing, ends) = Default::default();
        let enter = |_entry| Self { memory, descriptor, capacity, events, listing, ends, _entry };
        Ok(registry::enter(identity, enter))
    }

    pub(super) fn ring(&self) -> Ring<'_> {
        match Ring::new(self.memory.words(), self.capacity) {
            Some(ring) => ring,
            None => unreachable!("it was looked at when it was made"),
        }
    }

    /// The length of the longest record, in words.
    pub(super) fn longest(&self) -> usize {
        (self.memory.words().len() - words(0)) / 4
    }

    pub(super) fn event(&self, number: usize) -> &Event {
        &self.events[number]
    }

    /// Wakes all who wait for an event, in all processes.
    pub(super) fn wake_all(&self, number: usize) {
        event_word::wake_all(self.word(number));
        // At once, and not by way of the thread.
        self.events[number].wake_futures();
    }
}

impl Watched for Channel {
    fn events(&self) -> &[Event] {
        &self.events
    }

    fn word(&self, event: usize) -> &AtomicU32 {
        self.memory.event(event)
    }

    fn look(&self, event: usize) -> Look {
        let side = if event == Side::Receiver as usize { Side::Receiver } else { Side::Sender };
        let end = self.ends.lock()[side as usize].upgrade();
        if end.is_some_and(|end| end.is_alone()) {
            return Look::All;
        }
        let count = self.ring().count();
        let may_go_on = match side {
            Side::Sender => event != CLOSED && count < self.capacity,
            Side::Receiver => count > 0,
        };
        if may_go_on { Look::One } else { Look::None }
    }

    fn listing(&self) -> &Listing {
        &self.listing
    }
}
