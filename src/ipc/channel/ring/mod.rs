//! The queue of a channel, in words that processes share: a ring of records under one lock. In any process.
//!
//! A process may be killed at any of its stores, and the lock then goes to another one. So each change is one store:
//! the state stands there twice, who changes it writes the copy that does not count, and then the index, which says
//! that it does. There is nothing to be repaired; what was written before the index is nowhere.
//!
//! Another process may have written nonsense. So each length is checked before it is used, and nothing is read or
//! written but the words of the ring.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use crate::ipc::journal::store;

/// The places of what is not in the ring; each with a line of its own.
const INDEX: usize = 8;
const COPIES: [usize; 2] = [16, 24];
const TICKET: usize = 32;
const RESERVED: usize = 40;
const RING: usize = 48;

/// Words for a ring of so many.
pub(super) const fn words(ring: usize) -> usize {
    RING + ring
}

/// The state of the queue. Lengths and positions are in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The position of the oldest record.
    head: u64,
    used: u64,
    /// The number of items.
    pub(super) count: u64,
    /// The last ticket that was taken out of the lane.
    pub(super) seen: u64,
}

/// The memory says what can't be.
#[derive(Debug)]
pub(super) struct Damaged;

/// The queue. But for [`count`](Self::count), whoever calls has the lock.
#[derive(Clone, Copy)]
pub(super) struct Ring<'a> {
    all: &'a [AtomicU64],
    ring: &'a [AtomicU64],
    /// The most items.
    capacity: u64,
}

impl<'a> Ring<'a> {
    /// `None`: these are too few words.
    pub(super) fn new(all: &'a [AtomicU64], capacity: u64) -> Option<Self> {
        let ring = all.get(RING..).filter(|ring| !ring.is_empty())?;
        Some(Self { all, ring, capacity })
    }

    fn copy(self, index: u64) -> &'a [AtomicU64] {
        &self.all[COPIES[index as usize % 2]..][..4]
    }

    fn read(self, index: u64) -> State {
        let [head, used, count, seen] = [0, 1, 2, 3].map(|at| self.copy(index)[at].load(Relaxed));
        State { head, used, count, seen }
    }

    pub(super) fn state(self) -> Result<State, Damaged> {
        let state = self.read(self.all[INDEX].load(Acquire));
        let State { head, used, count, .. } = state;
        let size = self.ring.len() as u64;
        let is_empty = (count == 0, used == 0);
        let is_valid = head < size && used <= size && count <= self.capacity;
        if is_valid && matches!(is_empty, (true, true) | (false, false)) {
            Ok(state)
        } else {
            Err(Damaged)
        }
    }

    /// The number of items, without the lock: what it was a moment ago.
    pub(super) fn count(self) -> u64 {
        let index = self.all[INDEX].load(Acquire);
        // It may be in the middle of the change after the next, and is a recent number all the same.
        self.read(index).count.min(self.capacity)
    }

    pub(super) fn is_full(self, state: &State) -> bool {
        state.count >= self.capacity
    }

    /// Makes the state another one.
    pub(super) fn commit(self, state: State) {
        let next = self.all[INDEX].load(Relaxed).wrapping_add(1);
        let copy = self.copy(next);
        let State { head, used, count, seen } = state;
        for (word, value) in copy.iter().zip([head, used, count, seen]) {
            store(word, value, Relaxed);
        }
        store(&self.all[INDEX], next, Release);
    }

    /// Makes the queue an empty one, after damage.
    pub(super) fn clear(self) {
        self.commit(State { seen: self.all[TICKET].load(Relaxed), ..State::default() });
    }

    /// A number that no message in the lane has.
    pub(super) fn next_ticket(self) -> u64 {
        let next = self.all[TICKET].load(Relaxed).wrapping_add(1);
        store(&self.all[TICKET], next, Relaxed);
        next
    }

    /// The number of the last message in the lane, or of one that did not get there.
    pub(super) fn last_ticket(self) -> u64 {
        self.all[TICKET].load(Relaxed)
    }

    /// Begins to write a record of so many words at the end of the queue. `None`: there is no room for it.
    pub(super) fn write(self, state: State, length: usize) -> Option<Writer<'a>> {
        let length = length as u64;
        let size = self.ring.len() as u64;
        if self.is_full(&state) || length > size - state.used {
            return None;
        }
        // A queue that never backs up stays within few pages.
        let head = if state.used == 0 { 0 } else { state.head };
        let at = (head + state.used) % size;
        let after =
            State { head, used: state.used + length, count: state.count + 1, seen: state.seen };
        // Beyond the end it goes on at the start, where memory is.
        let until = (at + length).min(size) as usize;
        let reserved = self.all[RESERVED].load(Relaxed);
        let must_reserve = (RING + until) as u64 > reserved;
        let must_reserve = must_reserve.then_some(RING + until);
        Some(Writer { ring: self, at: at as usize, after, must_reserve })
    }

    /// Begins to read the oldest record. `None`: there is none.
    pub(super) fn read_first(self, state: State) -> Option<Reader<'a>> {
        (state.count > 0).then_some(Reader {
            ring: self,
            at: state.head as usize,
            left: state.used as usize,
            before: state,
        })
    }

    /// Returns the words from `at` on, as the two parts that they may be in.
    fn parts(self, at: usize, length: usize) -> [&'a [AtomicU64]; 2] {
        let first = length.min(self.ring.len() - at);
        [&self.ring[at..at + first], &self.ring[..length - first]]
    }
}

/// A record that is being written.
pub(super) struct Writer<'a> {
    ring: Ring<'a>,
    at: usize,
    pub(super) after: State,
    /// The number of words for which the system has to be asked for memory before.
    pub(super) must_reserve: Option<usize>,
}

impl Writer<'_> {
    /// Takes note that there is memory for so many words.
    pub(super) fn reserved(&self, words: usize) {
        store(&self.ring.all[RESERVED], words as u64, Relaxed);
    }

    pub(super) fn word(&mut self, word: u64) {
        store(&self.ring.ring[self.at], word, Relaxed);
        self.at = (self.at + 1) % self.ring.ring.len();
    }

    /// Writes bytes, and zeros up to the next whole word.
    pub(super) fn bytes(&mut self, mut bytes: &[u8]) {
        let length = bytes.len().div_ceil(8);
        for part in self.ring.parts(self.at, length) {
            let whole = bytes.chunks_exact(8);
            let count = whole.len().min(part.len());
            for (word, bytes) in part.iter().zip(whole) {
                store(word, bytemuck::pod_read_unaligned(bytes), Relaxed);
            }
            bytes = &bytes[8 * count..];
            if let Some(word) = part.get(count).filter(|_| !bytes.is_empty()) {
                let mut last = [0; 8];
                last[..bytes.len()].copy_from_slice(bytes);
                store(word, u64::from_ne_bytes(last), Relaxed);
                bytes = &[];
            }
        }
        self.at = (self.at + length) % self.ring.ring.len();
    }
}

/// A record that is being read.
pub(super) struct Reader<'a> {
    ring: Ring<'a>,
    at: usize,
    /// The words that are left in the queue.
    left: usize,
    before: State,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<[&[AtomicU64]; 2], Damaged> {
        self.left = self.left.checked_sub(length).ok_or(Damaged)?;
        let parts = self.ring.parts(self.at, length);
        self.at = (self.at + length) % self.ring.ring.len();
        Ok(parts)
    }

    pub(super) fn word(&mut self) -> Result<u64, Damaged> {
        let [part, other] = self.take(1)?;
        let word = part.first().or(other.first());
        word.map(|word| word.load(Relaxed)).ok_or(Damaged)
    }

    /// Returns an error if there are not so many bytes.
    pub(super) fn has(&self, bytes: usize) -> Result<(), Damaged> {
        if bytes.div_ceil(8) <= self.left { Ok(()) } else { Err(Damaged) }
    }

    /// Reads words that bytes are in, in the place of what is in `into`.
    pub(super) fn words(&mut self, bytes: usize, into: &mut Vec<u64>) -> Result<(), Damaged> {
        into.clear();
        for part in self.take(bytes.div_ceil(8))? {
            into.extend(part.iter().map(|word| word.load(Relaxed)));
        }
        Ok(())
    }

    /// Reads as many bytes as there is room for, and up to the next whole word.
    pub(super) fn bytes(&mut self, mut into: &mut [u8]) -> Result<(), Damaged> {
        for part in self.take(into.len().div_ceil(8))? {
            for word in part {
                let bytes = word.load(Relaxed).to_ne_bytes();
                let (room, rest) = into.split_at_mut(into.len().min(8));
                room.copy_from_slice(&bytes[..room.len()]);
                into = rest;
            }
        }
        Ok(())
    }

    /// The state without the record, all of which was read.
    pub(super) fn after(&self) -> Result<State, Damaged> {
        let count = self.before.count - 1;
        let after =
            State { head: self.at as u64, used: self.left as u64, count, seen: self.before.seen };
        if (count == 0) == (after.used == 0) { Ok(after) } else { Err(Damaged) }
    }
}
