//! A part of an array that is written to by one process at a time. In any process.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_core::de::{Deserialize, Deserializer, Error as _};
use serde_core::ser::{Serialize, Serializer};

use super::error::{ABANDONED, Error};
use super::held::{Held, Lockable};
use super::mapped_chunks::MappedChunks;
use super::waiting::Waiting;
use super::waits::{Listing, Look, WaitList, Watched};
use crate::codec::buffer::Element;
use crate::core::Awaited;
use crate::sys::{ChunkLocks, ChunkMemory, HeldChunk, robust_lock};

/// A part of a [`SharedChunks`](super::SharedChunks), with a lock of its own.
///
/// It is a handle, which travels as that to the whole does, and keeps the whole alive. A clone is another handle to the
/// same chunk.
///
/// ```
/// use concurrent_futures::ipc::{Chunk, SharedChunks};
///
/// fn number(part: Chunk<u64>) {
///     // If a process was killed within the chunk, all of it is written again.
///     let mut numbers = part.lock_blocking().unwrap_or_else(|abandoned| abandoned.into_inner());
///     for (number, place) in part.range().zip(numbers.iter_mut()) {
///         *place = number as u64;
///     }
/// }
///
/// let numbers = SharedChunks::zeroed(10, 4)?;
/// numbers.chunks().for_each(number);
/// let last = numbers.chunk(2);
/// assert_eq!((last.index(), last.range()), (2, 8..10));
/// assert_eq!(last.lock_blocking()?[..], [8, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # When a holder is killed
///
/// The kernel frees the chunk, and the next one that locks it is told, once: by [`Abandoned`], which has the guard.
///
/// # Order, and blocking
///
/// As of a [`Lock`](super::Lock): there is no order among those who wait, a holder that locks again waits for itself,
/// and in a task of a process pool that blocks the worker's place is lent out meanwhile.
pub struct Chunk<T> {
    chunks: Arc<MappedChunks<T>>,
    index: usize,
}

/// The outcome of locking a chunk.
type Locked<T> = Result<ChunkGuard<T>, Abandoned<ChunkGuard<T>>>;

impl<T: Element> Chunk<T> {
    pub(super) fn new(chunks: &Arc<MappedChunks<T>>, index: usize) -> Self {
        Self { chunks: Arc::clone(chunks), index }
    }

    /// The number of the chunk, from 0 on.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where its elements are in the whole array.
    pub fn range(&self) -> Range<usize> {
        let Range { start, end } = self.chunks.memory.range(self.index);
        start / size_of::<T>()..end / size_of::<T>()
    }

    fn to_lock(&self) -> Arc<ChunkLock> {
        let (waits, listing) = Default::default();
        let memory = &self.chunks.memory;
        let (locks, memory) = (Arc::clone(memory.locks()), Arc::downgrade(memory));
        Arc::new(ChunkLock { locks, memory, index: self.index, waits, listing })
    }

    /// Locks the chunk, and waits while another has it.
    ///
    /// # Errors
    ///
    /// [`Abandoned`], with the guard, if the last holder was killed within the chunk.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn lock(&self) -> Result<ChunkGuard<T>, Abandoned<ChunkGuard<T>>> {
        let (lock, mut waiting) = (self.to_lock(), Waiting::default());
        ChunkGuard::of(poll_fn(|cx| Held::poll(&lock, &mut waiting, cx)).await)
    }

    /// Locks the chunk, unless another has it: `None`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Option<Result<ChunkGuard<T>, Abandoned<ChunkGuard<T>>>> {
        Held::try_new(&self.to_lock()).map(ChunkGuard::of)
    }

    /// Locks the chunk, and blocks the thread while another has it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock_blocking(&self) -> Result<ChunkGuard<T>, Abandoned<ChunkGuard<T>>> {
        let lock = self.to_lock();
        loop {
            // Without a deadline there is always a guard.
            if let Some(held) = Held::block(&lock, None) {
                return ChunkGuard::of(held);
            }
        }
    }

    /// As [`lock_blocking`](Self::lock_blocking), for `limit` at most. `None`: another has the chunk still.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock_timeout(
        &self,
        limit: Duration,
    ) -> Option<Result<ChunkGuard<T>, Abandoned<ChunkGuard<T>>>> {
        // A limit beyond the clock's range is none.
        Held::block(&self.to_lock(), Instant::now().checked_add(limit)).map(ChunkGuard::of)
    }
}

impl<T> Clone for Chunk<T> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), index: self.index }
    }
}

impl<T> fmt::Debug for Chunk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<T: Element> Serialize for Chunk<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.chunks.serialize("Chunk", self.index as u64, serializer)
    }
}

impl<'de, T: Element> Deserialize<'de> for Chunk<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (chunks, index) = MappedChunks::deserialize::<u64, D>("Chunk", deserializer)?;
        // A worker may have sent any number.
        match usize::try_from(index) {
            Ok(index) if index < chunks.memory.count() => Ok(Self { chunks, index }),
            _ => Err(D::Error::custom(format_args!("there is no Chunk of the number {index}"))),
        }
    }
}

/// A [`Chunk`] that is locked, until this is dropped: its elements. That may be in another thread, and the guard may be
/// held across an `await`.
#[must_use = "the chunk is free again as soon as this is dropped"]
pub struct ChunkGuard<T> {
    held: Held<ChunkLock>,
    elements: PhantomData<fn(T) -> T>,
}

impl<T> ChunkGuard<T> {
    fn of(held: Held<ChunkLock>) -> Locked<T> {
        let was_abandoned = held.was_abandoned;
        let guard = Self { held, elements: PhantomData };
        if was_abandoned { Err(Abandoned(guard)) } else { Ok(guard) }
    }
}

impl<T: Element> Deref for ChunkGuard<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.held.taken)
    }
}

impl<T: Element> DerefMut for ChunkGuard<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.held.taken)
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for ChunkGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A [`Chunk`] is locked, and the process that had it last was killed meanwhile: what is in it may be half written.
///
/// It is told once. If it is dropped, as by `?`, the chunk is free, and the next one that locks it is not told.
pub struct Abandoned<G>(G);

impl<G> Abandoned<G> {
    /// The guard, to go on all the same.
    pub fn into_inner(self) -> G {
        self.0
    }
}

impl<G> fmt::Display for Abandoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ABANDONED)
    }
}

impl<G> fmt::Debug for Abandoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Abandoned: {self}")
    }
}

impl<G> StdError for Abandoned<G> {}

impl<G> From<Abandoned<G>> for Error {
    /// The chunk is free again.
    fn from(_: Abandoned<G>) -> Self {
        Self::Abandoned
    }
}

/// The lock of a chunk, for one who asks for it.
struct ChunkLock {
    locks: Arc<ChunkLocks>,
    /// Weak: a caller has a handle, but the thread for waits may keep this for longer, and must not keep the array from
    /// being frozen.
    memory: Weak<ChunkMemory>,
    index: usize,
    waits: [WaitList; 1],
    listing: Listing,
}

impl Watched for ChunkLock {
    fn awaited(&self, _: usize) -> Awaited {
        Awaited::Lock
    }

    fn wait_lists(&self) -> &[WaitList] {
        &self.waits
    }

    fn word(&self, _: usize) -> &AtomicU32 {
        self.locks.word(self.index)
    }

    fn arm(&self, event: usize) -> u32 {
        robust_lock::arm(self.word(event))
    }

    fn look(&self, _: usize) -> Look {
        self.look_at_lock()
    }

    fn listing(&self) -> &Listing {
        &self.listing
    }
}

impl Lockable for ChunkLock {
    const LOCK: usize = 0;
    type Taken = HeldChunk;

    fn holder(&self) -> io::Result<u32> {
        self.locks.holder()
    }

    fn take(&self, has_waited: bool) -> Option<(HeldChunk, bool)> {
        self.memory.upgrade()?.take(self.index, has_waited).ok().flatten()
    }

    /// With what was taken.
    fn release(&self, _: &HeldChunk) {}
}
