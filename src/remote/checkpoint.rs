//! A chunk's checkpoint: how far its worker has come, in memory that outlives the worker. Both ends.
//!
//! The bytes of the message that the worker is putting together are copied as they are appended. The
//! message's length is written to one of two words in turn, and the number of results says which; so
//! the length fits the number at any moment. The worker writes that number last.
//!
//! The pool trusts what is there no more than what the connection brings.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::frame::{Frame, Header, Kind};
use crate::codec::Encoder;

// Words of the area.
const BEGUN: usize = 0;
/// The index of the first item whose result is in the message, and how many there are.
const FIRST: usize = 1;
const COUNT: usize = 2;
/// The length of the message where `COUNT` is even, and where it is odd.
const LENGTHS: usize = 3;
const BYTES: usize = 5;

/// A checkpoint in the worker's process. Without an area, every result is sent at once.
pub(crate) struct Checkpoint<'a> {
    area: &'a [AtomicU64],
    first: u64,
    /// Number of bytes of the message that are in the area.
    copied: usize,
}

impl<'a> Checkpoint<'a> {
    /// Begins the checkpoint of a chunk: forgets what an earlier one has left, which must not be
    /// taken for results of this one.
    pub(crate) fn new(area: &'a [AtomicU64]) -> Self {
        let area = if area.len() > BYTES { area } else { &[] };
        let checkpoint = Self { area, first: 0, copied: 0 };
        checkpoint.restart();
        checkpoint.store(BEGUN, 0, Release);
        checkpoint
    }

    fn store(&self, word: usize, value: u64, order: std::sync::atomic::Ordering) {
        if let Some(word) = self.area.get(word) {
            word.store(value, order);
        }
    }

    /// Marks the message as empty.
    fn restart(&self) {
        // The count first: with the new index it would offer results that were sent already.
        self.store(COUNT, 0, Release);
        self.store(FIRST, self.first, Release);
    }

    /// Records that the item of this index is begun.
    pub(crate) fn begin(&self, index: u64) {
        self.store(BEGUN, index + 1, Release);
    }

    /// Records that another result is in the message. `false`: the message is too long for the area.
    pub(crate) fn note(&mut self, message: &Encoder) -> bool {
        let body = message.body();
        // From the word on that was not full: its first bytes are written again, as they were.
        let word = self.copied / 8;
        if !message.is_body() || !copy_in(self.area, BYTES + word, &body[8 * word..]) {
            return false;
        }
        self.copied = body.len();
        let count = message.len() as u64;
        // The other of the two words has the length for the count that still stands.
        self.store(LENGTHS + count as usize % 2, body.len() as u64, Relaxed);
        // From here on the result survives the death of this process.
        self.store(COUNT, count, Release);
        true
    }

    /// Records that the message was sent, with so many results.
    pub(crate) fn sent(&mut self, count: usize) {
        self.first += count as u64;
        self.copied = 0;
        self.restart();
    }
}

/// Returns how many items a dead worker had begun.
pub(crate) fn begun(area: &[AtomicU64]) -> usize {
    let begun = area.get(BEGUN).map_or(0, |word| word.load(Acquire));
    usize::try_from(begun).unwrap_or(usize::MAX)
}

/// Returns the results that a dead worker had not sent, if those before `received` have been; and how
/// many.
pub(crate) fn finished(area: &[AtomicU64], received: usize) -> Option<(Frame, usize)> {
    let load = |word: usize| area.get(word).map(|word| word.load(Acquire));
    let count = load(COUNT)?;
    if count == 0 || load(FIRST)? != received as u64 {
        // None; or they were sent, and have arrived, but the worker died before it noted that.
        return None;
    }
    let length = load(LENGTHS + count as usize % 2)?;
    // Before memory is taken, since a worker may have written any length.
    let length = usize::try_from(length).ok().filter(|length| *length <= 8 * area.len())?;
    let mut body = vec![0; length];
    if !copy_out(area, BYTES, &mut body) {
        return None;
    }
    let header = Header { kind: Kind::Value, slot: 0, number: 0, detail: 0 };
    Some((Frame::of(header, body), usize::try_from(count).ok()?))
}

/// Copies `bytes` into the area, from word `at` on; the last word is filled up with zeros. `false`:
/// there is not so much room, and nothing was copied.
fn copy_in(area: &[AtomicU64], at: usize, bytes: &[u8]) -> bool {
    let Some(words) = words(area, at, bytes.len()) else { return false };
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for (word, chunk) in words.iter().zip(chunks) {
        word.store(u64::from_ne_bytes(std::array::from_fn(|i| chunk[i])), Relaxed);
    }
    if let (Some(word), false) = (words.last(), rest.is_empty()) {
        let byte = |i| rest.get(i).copied().unwrap_or(0);
        word.store(u64::from_ne_bytes(std::array::from_fn(byte)), Relaxed);
    }
    true
}

/// Copies from the area, from word `at` on, until `into` is full. `false`: there is not so much, and
/// nothing was copied.
fn copy_out(area: &[AtomicU64], at: usize, into: &mut [u8]) -> bool {
    let Some(words) = words(area, at, into.len()) else { return false };
    for (word, chunk) in words.iter().zip(into.chunks_mut(8)) {
        let bytes = word.load(Relaxed).to_ne_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    true
}

/// The words that `length` bytes take from word `at` on.
fn words(area: &[AtomicU64], at: usize, length: usize) -> Option<&[AtomicU64]> {
    area.get(at..at.checked_add(length.div_ceil(8))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_copied_as_they_are_or_not_at_all() {
        const WORDS: usize = 20;
        let area: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(u64::MAX)).collect();
        for length in [0, 1, 7, 8, 9, 100] {
            let bytes: Vec<u8> = (1..=length).collect();
            let mut copy = vec![0; bytes.len()];
            assert!(copy_in(&area, WORDS - 13, &bytes) && copy_out(&area, WORDS - 13, &mut copy));
            assert_eq!(copy, bytes);
        }
        let last = area[WORDS - 13 + 12].load(Relaxed).to_ne_bytes();
        assert_eq!(last, [97, 98, 99, 100, 0, 0, 0, 0]);
        assert!(!copy_in(&area, WORDS - 13, &[1; 105]) && !copy_out(&area, WORDS, &mut [0]));
        assert!(!copy_in(&area, usize::MAX, &[1]));
        assert!(copy_in(&area, WORDS, &[]));
    }

    #[test]
    fn without_an_area_nothing_is_kept() {
        let mut checkpoint = Checkpoint::new(&[]);
        checkpoint.begin(0);
        let mut message = Encoder::new();
        message.push(&1_u64).unwrap();
        assert!(!checkpoint.note(&message));
        checkpoint.sent(1);
        assert_eq!(begun(&[]), 0);
        assert!(finished(&[], 0).is_none());
    }
}
