//! Memory that processes write to in chunks, each with a lock that is free again when its holder dies. In any process.
//!
//! The locks are words of memory of their own, which that with the data can so be sealed without. The node of a lock is
//! in this process's list while it holds that: a list can't have as many as there may be chunks.

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::robust_lock;
use super::robust_memory::{KEEPERS, RobustMemory, reserve, with_room};
use super::sealed_memory::SealedMemory;
use super::writable_memory::WritableMemory;
use crate::fork;
use crate::sys::MOST_CHUNKS;

/// The words before the locks: what it is, and the length of a chunk in bytes. The rest of them keep the locks apart
/// from these.
const MARK: usize = 0;
const CHUNK: usize = 1;
const LOCKS_AT: usize = 8;
const CHUNKS: u64 = u64::from_le_bytes(*b"chunks01");

/// One process's mapping of both memories.
pub(crate) struct ChunkMemory {
    data: WritableMemory,
    /// Those who wait for a lock may keep this for a moment longer than the data.
    locks: Arc<ChunkLocks>,
    /// In bytes: the length of each chunk but the last, which may be shorter. At least 1.
    chunk: usize,
}

/// One process's mapping of the locks.
pub(crate) struct ChunkLocks(RobustMemory);

impl ChunkLocks {
    /// The lock of a chunk, to wait for.
    pub(crate) fn word(&self, number: usize) -> &AtomicU32 {
        self.0.lock_in_word(LOCKS_AT + number).0
    }

    /// Returns the number that stands for this process. An error: it was forked, and has no thread for the list.
    pub(crate) fn holder(&self) -> io::Result<u32> {
        self.0.holder()
    }
}

impl ChunkMemory {
    /// New memory, all zeros, and the descriptors by which another process can [`map`](Self::map) it: of the data, and
    /// of the locks.
    pub(crate) fn create(length: usize, chunk: usize) -> io::Result<(Self, [OwnedFd; 2])> {
        let (data, data_fd) = WritableMemory::create(length)?;
        let words = LOCKS_AT + length.div_ceil(chunk);
        let (locks, locks_fd) = RobustMemory::create(words)?;
        reserve(&locks_fd, 0..words)?;
        locks.words()[CHUNK].store(chunk as u64, Relaxed);
        locks.words()[MARK].store(CHUNKS, Relaxed);
        Ok((Self::new(data, locks)?, [data_fd, locks_fd]))
    }

    /// Maps what [`create`](Self::create) has made.
    pub(crate) fn map(data: impl AsFd, locks: impl AsFd) -> io::Result<Self> {
        Self::new(WritableMemory::map(data)?, RobustMemory::map(locks)?)
    }

    fn new(data: WritableMemory, locks: RobustMemory) -> io::Result<Self> {
        // Read once: another process may write there.
        let word = |at: usize| locks.words().get(at).map_or(0, |word| word.load(Relaxed));
        let chunk = usize::try_from(word(CHUNK)).unwrap_or(0);
        let count = data.len().checked_div(chunk).map(|_| data.len().div_ceil(chunk));
        let has_locks =
            |count: &usize| *count <= MOST_CHUNKS && LOCKS_AT + count <= locks.words().len();
        match count.filter(has_locks) {
            Some(count) if word(MARK) == CHUNKS => locks.allow_locks(LOCKS_AT + count)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not memory in chunks")),
        }
        Ok(Self { data, locks: Arc::new(ChunkLocks(locks)), chunk })
    }

    /// The number of chunks.
    pub(crate) fn count(&self) -> usize {
        self.data.len().div_ceil(self.chunk)
    }

    /// The length of each chunk but the last, in bytes.
    pub(crate) fn chunk_len(&self) -> usize {
        self.chunk
    }

    /// The length of all chunks, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Where a chunk is, in bytes.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    pub(crate) fn range(&self, number: usize) -> Range<usize> {
        assert!(number < self.count(), "there are {} chunks, and none is {number}", self.count());
        let start = number * self.chunk;
        start..self.data.len().min(start.saturating_add(self.chunk))
    }

    pub(crate) fn locks(&self) -> &Arc<ChunkLocks> {
        &self.locks
    }

    /// Takes the lock of a chunk, unless another thread, of whatever process, has it. `has_waited`: the caller has
    /// waited, so others may wait as well. Returns also whether the last holder was killed. An error: there is no thread
    /// for the list.
    pub(crate) fn take(
        self: &Arc<Self>,
        number: usize,
        has_waited: bool,
    ) -> io::Result<Option<(HeldChunk, bool)>> {
        assert!(number < self.count());
        let (word, node) = self.locks.0.lock_in_word(LOCKS_AT + number);
        if robust_lock::is_held(word.load(Relaxed)) {
            return Ok(None);
        }
        fork::watch();
        let generation = fork::generation();
        let mut keepers = KEEPERS.lock();
        // Whatever another process that went wrong has written to the word, no two threads here have the chunk.
        //
        // SAFETY: the node is this process's own memory, mapped as long as `self` is there, and atomic.
        if unsafe { node.as_ref() }.is_linked() {
            return Ok(None);
        }
        let keeper = with_room(&mut keepers)?;
        // Before the lock is taken: a process that is killed in between has a node of a lock that is not its own, of
        // which the kernel takes no notice.
        //
        // SAFETY: it is in no list of this process, as it says, and the lists change under the lock of `KEEPERS` only.
        // Its memory can be written to and is used for nothing else; it is unlinked below or by the value that is
        // returned, which keeps the mapping. The word is at the distance.
        unsafe { keeper.link(node) };
        let holder = keeper.thread;
        let Some(was_abandoned) = robust_lock::take(word, holder, has_waited) else {
            // SAFETY: it was put into this list above.
            unsafe { keeper.unlink(node) };
            return Ok(None);
        };
        let memory = Arc::clone(self);
        Ok(Some((HeldChunk { memory, number, holder, generation }, was_abandoned)))
    }

    /// Seals the data, whose descriptor it is: see [`WritableMemory::seal`].
    pub(crate) fn seal(self, fd: impl AsFd) -> Result<SealedMemory, (Self, io::Error)> {
        let Self { data, locks, chunk } = self;
        data.seal(fd).map_err(|(data, error)| (Self { data, locks, chunk }, error))
    }
}

/// A chunk that this process has locked, until this is dropped.
pub(crate) struct HeldChunk {
    memory: Arc<ChunkMemory>,
    number: usize,
    holder: u32,
    /// A process that was forked meanwhile has a copy of this, and not the lock.
    generation: u32,
}

impl Deref for HeldChunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.memory.data.part(self.memory.range(self.number));
        // SAFETY: the bytes are mapped as long as the memory is there, which this value keeps; they are initialised, as
        // the file begins with zeros. Nothing else of this process refers to them: the node of the chunk is in the list
        // of this process as long as this value is there, and no other value is made meanwhile. Other processes, which
        // run the same program, write to them while they have the lock, which this one has.
        unsafe { bytes.as_ref() }
    }
}

impl DerefMut for HeldChunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        let mut bytes = self.memory.data.part(self.memory.range(self.number));
        // SAFETY: mapped, initialised and nobody else's, as in `deref`; and this value is borrowed mutably.
        unsafe { bytes.as_mut() }
    }
}

impl Drop for HeldChunk {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            return;
        }
        let (word, node) = self.memory.locks.0.lock_in_word(LOCKS_AT + self.number);
        let mut keepers = KEEPERS.lock();
        // First: a process that is killed in between has a node of a lock that is not its own.
        robust_lock::unlock(word, self.holder);
        if let Some(keeper) = keepers.iter_mut().find(|keeper| keeper.thread == self.holder) {
            // SAFETY: this process has put it into that list, as the number and the generation say.
            unsafe { keeper.unlink(node) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU8;

    use super::*;

    fn memory(length: usize, chunk: usize) -> (Arc<ChunkMemory>, [OwnedFd; 2]) {
        let (memory, fds) = ChunkMemory::create(length, chunk).unwrap();
        (Arc::new(memory), fds)
    }

    fn take(memory: &Arc<ChunkMemory>, number: usize) -> Option<HeldChunk> {
        let (held, was_abandoned) = memory.take(number, false).unwrap()?;
        assert!(!was_abandoned);
        Some(held)
    }

    #[test]
    fn a_chunk_has_one_holder_in_all_mappings() {
        let (memory, [data, locks]) = memory(10, 4);
        let other = Arc::new(ChunkMemory::map(&data, &locks).unwrap());
        assert_eq!((other.count(), other.range(2)), (3, 8..10));
        let mut first = take(&memory, 0).unwrap();
        let last = take(&other, 2).unwrap();
        assert_eq!((first.len(), last.len()), (4, 2));
        for memory in [&memory, &other] {
            assert!(take(memory, 0).is_none());
            assert!(take(memory, 2).is_none());
        }
        first.fill(7);
        drop(first);
        let first = take(&other, 0).unwrap();
        assert_eq!(first[..], [7; 4]);
        drop((first, last));
        assert!(take(&memory, 2).is_some());
        let words = memory.data.words::<AtomicU8>().unwrap();
        assert_eq!(words.iter().map(|byte| byte.load(Relaxed)).sum::<u8>(), 28);
    }

    #[test]
    fn no_two_threads_have_a_chunk_whatever_its_word_says() {
        let (memory, _) = memory(10, 4);
        let held = take(&memory, 1).unwrap();
        memory.locks.word(1).store(0, Relaxed);
        assert!(take(&memory, 1).is_none());
        drop(held);
        memory.locks.word(1).store(0, Relaxed);
        assert!(take(&memory, 1).is_some());
    }

    /// M-13: more at a time than a list may have.
    #[test]
    fn all_chunks_can_be_held_at_once() {
        let (memory, _) = memory(5_000, 1);
        let mut held: Vec<_> = (0..5_000).map(|n| take(&memory, n).unwrap()).collect();
        held.iter_mut().for_each(|chunk| chunk[0] = 1);
        assert!(KEEPERS.lock().len() >= 3);
        assert!((0..5_000).all(|n| take(&memory, n).is_none()));
        drop(held);
        assert!((0..5_000).all(|n| take(&memory, n).unwrap()[..] == [1]));
    }

    #[test]
    fn what_is_no_memory_in_chunks_is_refused() {
        let (_, [data, locks]) = memory(64, 8);
        let other_data = WritableMemory::create(65).unwrap().1;
        assert!(ChunkMemory::map(&other_data, &locks).is_err(), "too few locks");
        assert!(ChunkMemory::map(&locks, &data).is_err());
        let (memory, other_locks) = RobustMemory::create(100).unwrap();
        for (mark, chunk, may) in
            [(CHUNKS, 8, true), (1, 8, false), (CHUNKS, 0, false), (CHUNKS, u64::MAX, true)]
        {
            memory.words()[MARK].store(mark, Relaxed);
            memory.words()[CHUNK].store(chunk, Relaxed);
            let mapped = ChunkMemory::map(&data, &other_locks);
            assert_eq!(mapped.is_ok(), may, "{mark} {chunk}");
            if let Ok(mapped) = mapped {
                let last = Arc::new(mapped);
                let number = last.count() - 1;
                assert_eq!(take(&last, number).unwrap().len().min(8), 8);
            }
        }
        let (empty, _) = ChunkMemory::create(0, 8).unwrap();
        assert_eq!(empty.count(), 0);
    }
}
