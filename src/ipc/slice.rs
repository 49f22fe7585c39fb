//! Large arrays that many processes read. In any process.

use std::any::type_name;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, RangeBounds};
use std::sync::Arc;

use serde_core::de::{Deserialize, Deserializer, Error as _};
use serde_core::ser::{Serialize, Serializer};

use super::error::Error;
use super::mapped::Mapped;
use crate::codec::Segment;
use crate::codec::buffer::{Buffer, Element};
use crate::codec::handle::{self, Carried};
use crate::sys::memory::Shared;
use crate::sys::{OwnedFd, SealedMemory, UnsealedMemory};

/// An array in memory that all processes map, and that none can write to any more.
///
/// It is copied once, when it is made. What travels to a worker process is a handle: the worker maps the same
/// memory, however large it is, and however many workers there are. The kernel has sealed it, so that no process
/// can change it, not even one that has gone wrong; that is why it can be read as a slice.
///
/// A clone is another handle to the same memory, and so is a [`slice`](Self::slice) of it. The memory is free
/// when no process has a handle any more, however these end; it has no name that could be left behind.
///
/// ```
/// use concurrent_futures::ipc::SharedSlice;
///
/// fn mean(samples: SharedSlice<f64>) -> f64 {
///     samples.iter().sum::<f64>() / samples.len() as f64
/// }
///
/// let samples = SharedSlice::new(vec![1.0, 2.0, 6.0])?;
/// // On a process pool: pool.submit(call!(mean(samples.clone())))
/// assert_eq!(mean(samples.clone()), 3.0);
/// assert_eq!(samples.slice(1..)[0], 2.0);
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// # This or a `Buffer`
///
/// A [`Buffer`] is copied to the worker with each task that has it. That is as fast for an array that is used
/// once, as fresh memory has to be filled either way; for one that many tasks use, or that is used again and
/// again, this is faster, and takes its memory once. A `SharedSlice` becomes a `Buffer` by `into`, without a copy.
///
/// # How it travels
///
/// In any value that is sent to a worker process, or back, or on to another worker, but not within an untagged or
/// internally tagged enum or a flattened field of serde's: that is an error of the task, and so is any other
/// serialiser. The same handle several times in a message is one mapping there. A process needs a file descriptor
/// for each array that it has; one that may not have any more gets the task's
/// [`Codec`](crate::Error::Codec) error. A worker keeps an array of 1 MiB or more mapped between its tasks, until the
/// process of the pool has no handle to it any more and the task that runs then is done: to map it anew costs as
/// much as to read it. The memory counts as shared memory, of which
/// [`memory_limit`](crate::ProcessPoolBuilder::memory_limit) takes no notice.
pub struct SharedSlice<T> {
    elements: Shared<T>,
    mapped: Arc<Mapped>,
}

impl<T: Element> SharedSlice<T> {
    /// Copies the elements into shared memory.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory or the descriptor, or allows no file of that length (`ulimit -f`).
    pub fn new(elements: impl AsRef<[T]>) -> Result<Self, Error> {
        let sealed = SealedMemory::of(bytemuck::cast_slice(elements.as_ref()));
        sealed
            .and_then(Self::of_sealed)
            .map_err(Error::io("the elements can't be copied into shared memory"))
    }

    /// Makes an array of `len` elements in place: `fill` gets them as zeros.
    ///
    /// # Errors
    ///
    /// As [`SharedVec::zeroed`] and [`SharedVec::freeze`].
    ///
    /// ```
    /// use concurrent_futures::ipc::SharedSlice;
    ///
    /// let squares = SharedSlice::build(1_000, |squares| {
    ///     for (n, square) in (0..).zip(squares) {
    ///         *square = n * n;
    ///     }
    /// })?;
    /// assert_eq!(squares[30], 900_u64);
    /// # Ok::<(), concurrent_futures::ipc::Error>(())
    /// ```
    pub fn build(len: usize, fill: impl FnOnce(&mut [T])) -> Result<Self, Error> {
        let mut elements = SharedVec::zeroed(len)?;
        fill(&mut elements);
        elements.freeze()
    }

    fn of_sealed((memory, descriptor): (SealedMemory, OwnedFd)) -> io::Result<Self> {
        Self::of_mapped(Mapped::new(memory, Arc::new(descriptor.into()))?)
    }

    /// All of the memory.
    pub(super) fn of_mapped(mapped: Arc<Mapped>) -> io::Result<Self> {
        let elements = elements(&mapped)?;
        Ok(Self { elements, mapped })
    }
}

impl<T> SharedSlice<T> {
    /// A part of the same memory, in O(1). It keeps the whole alive, and its handle is one to the whole.
    ///
    /// # Panics
    ///
    /// As slices do, if the range is not within this one.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        Self { elements: self.elements.slice(range), mapped: Arc::clone(&self.mapped) }
    }
}

/// The whole memory as elements.
fn elements<T: Element>(mapped: &Mapped) -> io::Result<Shared<T>> {
    const {
        assert!(size_of::<T>() > 0, "an array of elements without a size needs no memory");
        assert!(align_of::<T>() <= 4096, "shared memory is aligned to a page");
    }
    let all = Segment::from(Arc::clone(&mapped.memory));
    all.cast()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a whole number of elements"))
}

impl<T> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        Self { elements: self.elements.clone(), mapped: Arc::clone(&self.mapped) }
    }
}

impl<T> Deref for SharedSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.elements
    }
}

impl<T> AsRef<[T]> for SharedSlice<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: PartialEq> PartialEq for SharedSlice<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for SharedSlice<T> {}

impl<'a, T> IntoIterator for &'a SharedSlice<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Element> From<SharedSlice<T>> for Buffer<T> {
    /// Without a copy: the buffer keeps the memory alive.
    fn from(slice: SharedSlice<T>) -> Self {
        Self::of_shared(slice.elements)
    }
}

/// The type of the elements, where they begin in the memory, in bytes, and how many there are.
type Place<Name> = (Name, u64, u64);

impl<T: Element> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Mapped { memory, descriptor, .. } = &*self.mapped;
        let from = self.as_ptr().addr() - memory.as_ptr().addr();
        let place: Place<&str> = (type_name::<T>(), from as u64, self.len() as u64);
        handle::serialize(&name::<T>(), vec![Arc::clone(descriptor)], &place, serializer)
    }
}

impl<'de, T: Element> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Carried { descriptors, value: (of, from, len), .. } =
            handle::deserialize::<Place<String>, D>("SharedSlice", deserializer)?;
        if of != type_name::<T>() {
            return Err(D::Error::custom(format_args!(
                "a SharedSlice<{of}> instead of a {}",
                name::<T>()
            )));
        }
        let Ok([descriptor]) = <[_; 1]>::try_from(descriptors) else {
            return Err(D::Error::custom("a SharedSlice has one descriptor"));
        };
        let mapped = Mapped::of(descriptor).map_err(|error| {
            D::Error::custom(format_args!("the memory of a SharedSlice can't be mapped: {error}"))
        })?;
        // A worker may have sent any numbers.
        let part = || {
            let all = elements::<T>(&mapped).ok()?;
            let (from, len) = (usize::try_from(from).ok()?, usize::try_from(len).ok()?);
            let first = from / size_of::<T>();
            let end = first.checked_add(len).filter(|end| *end <= all.len())?;
            (from % size_of::<T>() == 0).then(|| all.slice(first..end))
        };
        let elements = part()
            .ok_or_else(|| D::Error::custom("a SharedSlice has other memory than it says"))?;
        Ok(Self { elements, mapped })
    }
}

fn name<T>() -> String {
    format!("SharedSlice<{}>", type_name::<T>())
}

/// An array in shared memory that is still being filled, by its owner alone: what becomes a [`SharedSlice`].
///
/// ```
/// use concurrent_futures::ipc::{SharedSlice, SharedVec};
///
/// let mut rows = SharedVec::zeroed(3)?;
/// rows[1] = 7_u32;
/// let rows: SharedSlice<u32> = rows.freeze()?;
/// assert_eq!(rows[..], [0, 7, 0]);
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
pub struct SharedVec<T> {
    memory: UnsealedMemory,
    elements: PhantomData<T>,
}

impl<T: Element> SharedVec<T> {
    /// `len` elements, all of whose bytes are zero.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory or the descriptor, or allows no file of that length (`ulimit -f`).
    pub fn zeroed(len: usize) -> Result<Self, Error> {
        const {
            assert!(size_of::<T>() > 0, "an array of elements without a size needs no memory");
            assert!(align_of::<T>() <= 4096, "shared memory is aligned to a page");
        }
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize);
        let memory =
            bytes.ok_or_else(|| io::ErrorKind::OutOfMemory.into()).and_then(UnsealedMemory::new);
        let memory = memory.map_err(Error::io("there is no shared memory for the elements"))?;
        Ok(Self { memory, elements: PhantomData })
    }

    /// Has the kernel seal the memory: from here on no process can write to it.
    ///
    /// # Errors
    ///
    /// If the system refuses, as while a child that was forked meanwhile has the memory mapped as well.
    pub fn freeze(self) -> Result<SharedSlice<T>, Error> {
        let sealed = self.memory.seal();
        sealed
            .and_then(SharedSlice::of_sealed)
            .map_err(Error::io("the shared memory can't be sealed"))
    }
}

impl<T: Element> Deref for SharedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(self.memory.bytes())
    }
}

impl<T: Element> DerefMut for SharedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.memory.bytes_mut())
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for SharedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
