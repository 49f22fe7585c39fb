//! The memory of a channel, which both sides share, with the queue. In any process.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use super::end::End;
use super::ring::{Ring, words};
use crate::core::Awaited;
use crate::ipc::object::{Kind, Object};
use crate::ipc::waits::Look;
use crate::sync::Mutex;

/// The word with the most items.
const CAPACITY: usize = 1;

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
pub(super) type Channel = Object<Queue>;

/// The part of a channel that each process has for itself.
pub(super) struct Queue {
    pub(super) capacity: u64,
    /// The ends that this process has, one of each side.
    pub(super) ends: Mutex<[Weak<End>; 2]>,
}

impl Kind for Queue {
    const MARK: u64 = u64::from_le_bytes(*b"channel1");
    /// Of both sides, and [`CLOSED`].
    const EVENTS: usize = 3;
    const AWAITED: Awaited = Awaited::Channel;

    fn open(words: &[AtomicU64]) -> Option<Self> {
        let capacity = words.get(CAPACITY)?.load(Relaxed);
        Ring::new(words, capacity).filter(|_| capacity > 0)?;
        Some(Self { capacity, ends: Mutex::default() })
    }

    fn look(channel: &Channel, event: usize) -> Look {
        let side = if event == Side::Receiver as usize { Side::Receiver } else { Side::Sender };
        let end = channel.kind.ends.lock()[side as usize].upgrade();
        if end.is_some_and(|end| end.is_alone()) {
            return Look::All;
        }
        let count = channel.ring().count();
        let may_go_on = match side {
            Side::Sender => event != CLOSED && count < channel.kind.capacity,
            Side::Receiver => count > 0,
        };
        if may_go_on { Look::One } else { Look::None }
    }
}

impl Channel {
    /// A new one, with so many words for items.
    pub(super) fn new(capacity: u64, ring: usize) -> io::Result<Arc<Self>> {
        Self::create(words(ring), words(0), |words| words[CAPACITY].store(capacity, Relaxed))
    }

    pub(super) fn capacity(&self) -> u64 {
        self.kind.capacity
    }

    pub(super) fn ring(&self) -> Ring<'_> {
        match Ring::new(self.words(), self.capacity()) {
            Some(ring) => ring,
            None => unreachable!("it was looked at when it was made"),
        }
    }

    /// The length of the longest record, in words.
    pub(super) fn longest(&self) -> usize {
        (self.words().len() - words(0)) / 4
    }
}
