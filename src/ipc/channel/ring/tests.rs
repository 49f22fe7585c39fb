//! The ring at each of its stores, and with whatever in its words.

use std::ops::Range;

use super::*;
use crate::ipc::journal::journal_of;

const SIZE: usize = 13;
const CAPACITY: u64 = 4;

struct Memory(Vec<AtomicU64>);

impl Memory {
    fn new() -> Self {
        Self((0..words(SIZE)).map(|_| AtomicU64::new(0)).collect())
    }

    fn copy(&self) -> Self {
        Self(self.0.iter().map(|word| word.load(Relaxed).into()).collect())
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.0, CAPACITY).unwrap()
    }

    /// An item: its length in bytes and the bytes, which count from there.
    fn put(&self, length: usize) -> bool {
        let ring = self.ring();
        let bytes: Vec<u8> = (0..length).map(|n| (length + n) as u8).collect();
        let state = ring.state().unwrap();
        let Some(mut writer) = ring.write(state, 1 + length.div_ceil(8)) else { return false };
        if let Some(words) = writer.must_reserve {
            writer.reserved(words);
        }
        writer.word(length as u64);
        writer.bytes(&bytes);
        ring.commit(writer.after);
        true
    }

    fn take(&self) -> Option<usize> {
        let ring = self.ring();
        let mut reader = ring.read_first(ring.state().unwrap())?;
        let length = reader.word().unwrap() as usize;
        let mut bytes = vec![0; length];
        reader.bytes(&mut bytes).unwrap();
        assert!(bytes.iter().zip(0..).all(|(byte, n)| *byte == (length + n) as u8));
        ring.commit(reader.after().unwrap());
        Some(length)
    }

    fn items(&self) -> Vec<usize> {
        let copy = self.copy();
        std::iter::from_fn(|| copy.take()).collect()
    }
}

/// Items of these lengths, taken out again after some more have come.
const LENGTHS: [usize; 12] = [0, 1, 7, 8, 9, 31, 16, 40, 3, 24, 0, 33];

#[test]
fn items_come_out_as_they_went_in_wherever_the_ring_begins() {
    let memory = Memory::new();
    let mut inside = std::collections::VecDeque::new();
    for round in 0..500 {
        let length = LENGTHS[round % LENGTHS.len()];
        let used: usize = inside.iter().map(|length: &usize| 1 + length.div_ceil(8)).sum();
        let has_room = inside.len() < CAPACITY as usize && used + 1 + length.div_ceil(8) <= SIZE;
        assert_eq!(memory.put(length), has_room);
        if has_room {
            inside.push_back(length);
        }
        if round % 3 != 0 || !has_room {
            assert_eq!(memory.take(), inside.pop_front());
        }
        assert_eq!(memory.ring().count(), inside.len() as u64);
        assert_eq!(memory.items(), Vec::from(inside.clone()));
    }
}

/// C-1: a process that is killed at any store has done the whole operation, or nothing of it.
#[test]
fn an_operation_that_ends_at_any_store_has_happened_or_not() {
    let memory = Memory::new();
    for round in 0..200 {
        let length = LENGTHS[round % LENGTHS.len()];
        for puts in [true, false] {
            let (before, items) = (memory.copy(), memory.items());
            let stores = journal_of(|| {
                if puts {
                    memory.put(length);
                } else if round % 5 != 0 {
                    memory.take();
                }
            });
            let after = memory.items();
            for count in 0..=stores.len() {
                let killed = before.copy();
                for (address, value) in &stores[..count] {
                    let at = (address - memory.0.as_ptr().addr()) / size_of::<AtomicU64>();
                    killed.0[at].store(*value, Relaxed);
                }
                let left = killed.items();
                let is_done = count == stores.len();
                assert_eq!(left, if is_done { after.clone() } else { items.clone() }, "{count}");
                // And the next process goes on.
                if killed.take().is_none() {
                    assert!(left.is_empty());
                }
                while killed.take().is_some() {}
                assert!(killed.put(8));
                assert_eq!(killed.items(), [8]);
            }
        }
    }
}

/// C-6.
#[test]
fn whatever_the_memory_says_nothing_is_read_beyond_it_and_it_can_be_cleared() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |range: Range<u64>| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        range.start + random % (range.end - range.start)
    };
    let mut damaged = 0;
    for _ in 0..20_000 {
        let memory = Memory::new();
        for _ in 0..next(0..4) {
            memory.put(LENGTHS[next(0..12) as usize]);
        }
        for _ in 0..next(1..4) {
            let at =
                [INDEX, TICKET, RESERVED, COPIES[0], COPIES[0] + 1, COPIES[1] + 2, RING, RING + 1]
                    [next(0..8) as usize];
            let value = match next(0..3) {
                0 => next(0..20),
                1 => u64::MAX - next(0..20),
                _ => next(0..u64::MAX),
            };
            memory.0[at].store(value, Relaxed);
        }
        let ring = memory.ring();
        assert!(ring.count() <= CAPACITY);
        let taken = ring.state().and_then(|state| {
            let Some(mut reader) = ring.read_first(state) else { return Ok(()) };
            let length = reader.word()?;
            let length = usize::try_from(length).map_err(|_| Damaged)?;
            reader.has(length)?;
            reader.words(length, &mut Vec::new())?;
            ring.commit(reader.after()?);
            Ok(())
        });
        if taken.is_err() {
            damaged += 1;
            ring.clear();
            assert_eq!(memory.items(), [0; 0]);
            assert!(memory.put(8));
            assert_eq!(memory.items(), [8]);
        }
    }
    assert!(damaged > 1_000, "{damaged}");
}
