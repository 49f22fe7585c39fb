//! Bytes that processes share, and that only ever change as a whole. In any process.
//!
//! They are in one of two halves of the memory, and the *version* says in which. The holder of the object's lock writes
//! the other half, and then the version. If it is killed before that, nothing has changed. A reader needs no lock: it
//! copies the half, and looks whether the version is still the same; a half is only written to again when it is not.

use super::journal::store;
use crate::sync::atomic::{
    AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence,
};
use crate::sync::pause;
use std::ops::Range;

const VERSION: usize = 2;
/// The words of each half that have been set aside.
const RESERVED: [usize; 2] = [3, 4];
const HALVES: usize = 8;

/// The number of words for bytes of this capacity.
pub(crate) fn words(capacity: usize) -> usize {
    HALVES + 2 * (1 + capacity.div_ceil(8))
}

/// The words until the halves.
pub(crate) const HEAD: usize = HALVES;

/// The memory says what can't be.
#[derive(Debug)]
pub(crate) struct Damaged;

#[derive(Clone, Copy)]
pub(crate) struct Halves<'a> {
    all: &'a [AtomicU64],
    /// Of a half, in words. The first one is the length of its bytes, and one bit of the caller's.
    size: usize,
}

/// What the bytes are, beside their length. It is the caller's.
const MARK: u64 = 1 << 63;

/// What was read: words that bytes are in, of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) length: usize,
    pub(crate) is_marked: bool,
    pub(crate) version: u64,
}

impl<'a> Halves<'a> {
    pub(crate) fn new(all: &'a [AtomicU64]) -> Self {
        Self { all, size: (all.len() - HALVES) / 2 }
    }

    fn half(self, version: u64) -> &'a [AtomicU64] {
        &self.all[HALVES + (version % 2) as usize * self.size..][..self.size]
    }

    pub(crate) fn version(self) -> u64 {
        self.all[VERSION].load(Acquire)
    }

    /// Copies the bytes, in the place of what is in `into`. It takes as long as it meets others who change them.
    pub(crate) fn read(self, into: &mut Vec<u64>) -> Result<Content, Damaged> {
        let mut tries = 0;
        loop {
            let version = self.version();
            let (head, words) = match self.half(version).split_first() {
                Some((head, words)) => (head.load(Relaxed), words),
                None => return Err(Damaged),
            };
            let length = usize::try_from(head & !MARK).ok();
            let words = length.and_then(|length| words.get(..length.div_ceil(8)));
            into.clear();
            into.extend(words.into_iter().flatten().map(|word| word.load(Relaxed)));
            // Who reads what was written behind a later version sees that version: it meets the fence in `write`.
            fence(Acquire);
            if self.all[VERSION].load(Relaxed) == version {
                let length = length.filter(|_| words.is_some()).ok_or(Damaged)?;
                return Ok(Content { length, is_marked: head & MARK != 0, version });
            }
            tries += 1;
            pause(tries);
        }
    }

    /// By the holder of the lock: the words for which the system has to be asked for memory before bytes of this
    /// length are written.
    pub(crate) fn must_reserve(self, length: usize) -> Option<Range<usize>> {
        let half = (self.all[VERSION].load(Relaxed).wrapping_add(1) % 2) as usize;
        let reserved = usize::try_from(self.all[RESERVED[half]].load(Relaxed)).unwrap_or(0);
        let needed = 1 + length.div_ceil(8);
        let start = HALVES + half * self.size;
        (needed > reserved.min(self.size)).then(|| start..start + needed.min(self.size))
    }

    /// By the holder of the lock, once that memory is there: makes these the bytes. They fit.
    pub(crate) fn write(self, bytes: &[u8], is_marked: bool) {
        let next = self.all[VERSION].load(Relaxed).wrapping_add(1);
        let half = self.half(next);
        let length = bytes.len().div_ceil(8);
        let reserved = &self.all[RESERVED[(next % 2) as usize]];
        let least = 1 + length as u64;
        if reserved.load(Relaxed) < least {
            store(reserved, least, Relaxed);
        }
        // A reader that sees a store behind this sees that the version is not the one before the last.
        fence(Release);
        let mark = if is_marked { MARK } else { 0 };
        store(&half[0], bytes.len() as u64 | mark, Relaxed);
        for (word, bytes) in half[1..].iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            store(word, u64::from_ne_bytes(whole), Relaxed);
        }
        store(&self.all[VERSION], next, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ipc::journal::journal_of;

    fn memory(capacity: usize) -> Vec<AtomicU64> {
        (0..words(capacity)).map(|_| AtomicU64::new(0)).collect()
    }

    fn bytes_of(memory: &[AtomicU64]) -> Vec<u8> {
        let mut words = Vec::new();
        let content = Halves::new(memory).read(&mut words).unwrap();
        bytemuck::cast_slice(&words)[..content.length].to_vec()
    }

    /// C-1. A process that is killed at any store has changed all of it, or nothing.
    #[test]
    fn a_change_that_ends_at_any_store_has_happened_or_not() {
        let memory = memory(40);
        for round in 0..50_u8 {
            let before: Vec<_> = memory.iter().map(|word| word.load(Relaxed)).collect();
            let (old, new) = (bytes_of(&memory), vec![round; usize::from(round) * 7 % 41]);
            let stores = journal_of(|| Halves::new(&memory).write(&new, round % 2 == 0));
            let start = memory.as_ptr().addr();
            for count in 0..=stores.len() {
                let killed: Vec<_> = before.iter().map(|word| AtomicU64::new(*word)).collect();
                for (address, value) in &stores[..count] {
                    killed[(address - start) / 8].store(*value, Relaxed);
                }
                assert_eq!(bytes_of(&killed), if count == stores.len() { &new[..] } else { &old });
                // And the next one goes on.
                Halves::new(&killed).write(b"next", false);
                assert_eq!(bytes_of(&killed), b"next");
            }
        }
    }

    #[test]
    fn what_is_read_is_never_of_two_changes() {
        let memory = memory(800);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..20_000_u64 {
                    let byte = round as u8;
                    let length = 1 + round as usize % 800;
                    Halves::new(&memory).write(&vec![byte; length], byte % 2 == 0);
                }
            });
            let (mut words, mut last) = (Vec::new(), 0);
            while last < 20_000 {
                let content = Halves::new(&memory).read(&mut words).unwrap();
                let round = content.version.wrapping_sub(1);
                let bytes: &[u8] = &bytemuck::cast_slice(&words)[..content.length];
                assert!(content.version >= last);
                last = content.version;
                if last > 0 {
                    assert_eq!(content.length, 1 + round as usize % 800);
                    assert!(bytes.iter().all(|byte| *byte == round as u8));
                    assert_eq!(content.is_marked, round % 2 == 0);
                }
            }
        });
    }

    /// C-6.
    #[test]
    fn a_length_that_can_not_be_is_damage_until_the_next_change() {
        let memory = memory(16);
        for length in [17, 24, u64::MAX / 2, u64::MAX] {
            memory[HALVES].store(length, Relaxed);
            memory[HALVES + 3].store(length, Relaxed);
            Halves::new(&memory).read(&mut Vec::new()).unwrap_err();
            Halves::new(&memory).write(b"whole", false);
            assert_eq!(bytes_of(&memory), b"whole");
        }
    }
}
