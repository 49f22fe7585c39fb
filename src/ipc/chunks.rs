//! Arrays whose parts are written to by one process at a time. In any process.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde_core::de::{Deserialize, Deserializer};
use serde_core::ser::{Serialize, Serializer};

use super::chunk::Chunk;
use super::error::{Error, FreezeError};
use super::mapped_chunks::MappedChunks;
use super::slice::SharedSlice;
use crate::codec::buffer::Element;
use crate::sys::MOST_CHUNKS;

/// An array in memory that all processes map, in chunks, each of which has a lock: whoever has that has a chunk as
/// `&mut [T]`.
///
/// The chunks of an image may be its rows, those of a table its columns, or any number of elements. What travels to a
/// worker process is a handle, to the array or to a [`Chunk`]; so the chunks are the items of a map, and nothing is
/// copied. A clone is another handle to the same memory. The memory is free when no process has a handle any more,
/// however these end; it has no name that could be left behind.
///
/// ```
/// use concurrent_futures::PortableError;
/// use concurrent_futures::ipc::{Chunk, SharedChunks, SharedSlice};
///
/// fn render(row: Chunk<f32>) -> Result<(), PortableError> {
///     let mut pixels = row.lock_blocking()?;
///     pixels.fill(row.index() as f32);
///     Ok(())
/// }
///
/// let (width, height) = (640, 480);
/// let image = SharedChunks::<f32>::zeroed(height * width, width)?;
/// // On a process pool: pool.try_map(render, image.chunks()).await?
/// image.chunks().try_for_each(render)?;
/// let image: SharedSlice<f32> = image.freeze()?;
/// assert_eq!(image[2 * width], 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # When nothing is written any more
///
/// [`freeze`](Self::freeze) makes it a [`SharedSlice`], which is the same memory.
///
/// # How it travels
///
/// As a [`SharedSlice`](SharedSlice#how-it-travels), with two file descriptors, which all its chunks share. A worker
/// does not keep it mapped between its tasks, however large it is, as nobody could freeze it then; items of a map that
/// come to a worker together have one mapping.
///
/// # Trust
///
/// A lock binds only those who ask for it, which all code of a program does; but a process that runs code that may
/// write anywhere, as of an unsound C library, can write to a chunk that this one has as a slice. For such workers
/// take a [`Buffer`](crate::Buffer) there and back.
pub struct SharedChunks<T> {
    chunks: Arc<MappedChunks<T>>,
}

impl<T: Element> SharedChunks<T> {
    /// `len` elements, all of whose bytes are zero, in chunks of `chunk_len` elements. The last one is shorter if they
    /// don't come out even.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](Error::InvalidSetting) if `chunk_len` is 0, and
    /// [`TooManyChunks`](Error::TooManyChunks) if there are more than 131,072 chunks. [`Io`](Error::Io) if the system
    /// refuses the memory, a descriptor, or a thread, which each process has that shares a lock, or allows no file of
    /// that length (`ulimit -f`).
    pub fn zeroed(len: usize, chunk_len: usize) -> Result<Self, Error> {
        const {
            assert!(size_of::<T>() > 0, "an array of elements without a size needs no memory");
            assert!(align_of::<T>() <= 4096, "shared memory is aligned to a page");
        }
        if chunk_len == 0 {
            return Err(Error::InvalidSetting("the length of a chunk must be at least 1"));
        }
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize);
        let refused = Error::io("there is no shared memory for the elements");
        let Some(bytes) = bytes else { return Err(refused(io::ErrorKind::OutOfMemory.into())) };
        let chunks = len.div_ceil(chunk_len);
        if chunks > MOST_CHUNKS {
            let (most, chunk_len) = (MOST_CHUNKS, len.div_ceil(MOST_CHUNKS));
            return Err(Error::TooManyChunks { chunks, most, chunk_len });
        }
        // A chunk that is longer than all is as long.
        let chunk = chunk_len.min(len.max(1)) * size_of::<T>();
        MappedChunks::create(bytes, chunk).map(|chunks| Self { chunks }).map_err(refused)
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.chunks.memory.len() / size_of::<T>()
    }

    /// Returns whether there is no element, and so no chunk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of elements of each chunk but the last, which may be shorter.
    pub fn chunk_len(&self) -> usize {
        self.chunks.memory.chunk_len() / size_of::<T>()
    }

    /// A handle to each chunk, in their order: for the items of a map.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = Chunk<T>> + Send + use<T> {
        let chunks = Arc::clone(&self.chunks);
        (0..chunks.memory.count()).map(move |index| Chunk::new(&chunks, index))
    }

    /// A handle to one chunk.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    #[track_caller]
    pub fn chunk(&self, index: usize) -> Chunk<T> {
        let count = self.chunks.memory.count();
        assert!(index < count, "the index is {index}, and the number of chunks {count}");
        Chunk::new(&self.chunks, index)
    }

    /// Has the kernel seal the memory: from here on no process can write to it, and all may read it as a slice.
    /// Nothing is copied.
    ///
    /// It succeeds once no other handle to the array, or to a chunk of it, is left: when the tasks that it was given
    /// to are done, and the other handles of this process are dropped. A task that it was given to and that has not
    /// begun has no array then: its error is [`Codec`](crate::Error::Codec). What a process that was killed has left of a chunk is
    /// not told here; [lock](Chunk::try_lock) it to know.
    ///
    /// # Errors
    ///
    /// If another handle to the array exists, or the system refuses. The array comes back, and is as it was.
    ///
    /// # Panics
    ///
    /// If another process has the array mapped, and the system, for want of memory, can't map it here again.
    pub fn freeze(self) -> Result<SharedSlice<T>, FreezeError<Self>> {
        let sealed = self.chunks.freeze().map_err(|error| error.map(|chunks| Self { chunks }))?;
        match SharedSlice::of_mapped(sealed) {
            Ok(slice) => Ok(slice),
            Err(_) => unreachable!("the memory has a whole number of elements"),
        }
    }
}

impl<T> Clone for SharedChunks<T> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks) }
    }
}

impl<T> fmt::Debug for SharedChunks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.chunks.memory.count();
        f.debug_struct("SharedChunks").field("chunks", &count).finish_non_exhaustive()
    }
}

impl<T: Element> Serialize for SharedChunks<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.chunks.serialize("SharedChunks", (), serializer)
    }
}

impl<'de, T: Element> Deserialize<'de> for SharedChunks<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (chunks, ()) = MappedChunks::deserialize("SharedChunks", deserializer)?;
        Ok(Self { chunks })
    }
}
