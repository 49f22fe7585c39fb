//! Memory that outlives who made it: of a buffer that is sent, and of what is received.
//!
//! 1. A [`Shared`] points to values that its owner keeps: a `Vec`, a [`ReceivedSegment`], or a
//!    [`SealedMemory`]. Behind the `Arc` the owner's memory does not move, is not written to and is not freed.
//! 2. Values are looked at as bytes only if all of their bytes are initialised (`NoUninit`), and bytes as
//!    values only if each bit pattern is one (`AnyBitPattern`), so that nothing has to be dropped.
//! 3. A [`ReceivedSegment`] is the sole owner of its memory, all of which is initialised: it comes
//!    zeroed.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice::SliceIndex;
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};

use super::SealedMemory;
#[cfg(target_os = "linux")]
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Received memory is aligned to a cache line, which is enough for any number, and most else.
#[repr(align(64))]
struct Line;

/// From here on memory is mapped in huge pages. Page faults take longer than the bytes take to
/// arrive: 64 MiB came in 52 ms into a fresh `Vec`, and in 22 ms into such a mapping.
const HUGE: usize = 4 << 20;

/// Values that stay where they are for as long as anybody has a clone of this.
pub(crate) struct Shared<T> {
    start: NonNull<T>,
    len: usize,
    owner: Arc<dyn Any + Send + Sync>,
}

/// Bytes that are sent from where they are.
pub(crate) type Segment = Shared<u8>;

// SAFETY: it is an `Arc` of its owner, which may be sent, and a view of values that nobody writes
// to (rule 1).
unsafe impl<T: Sync> Send for Shared<T> {}

// SAFETY: what can be done through a reference is to read the values, which are `Sync` and nobody writes to (rule
// 1), and to clone, which gives another thread an `Arc` of the owner, which may be sent.
unsafe impl<T: Sync> Sync for Shared<T> {}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { start: self.start, len: self.len, owner: Arc::clone(&self.owner) }
    }
}

impl<T: Clone + Send + Sync + 'static> From<Vec<T>> for Shared<T> {
    fn from(values: Vec<T>) -> Self {
        let owner = Arc::new(values);
        let all = NonNull::from(owner.as_slice());
        Self { start: all.cast(), len: all.len(), owner }
    }
}

impl<T> Shared<T> {
    /// A part of the same memory.
    pub(crate) fn slice(&self, range: impl SliceIndex<[T], Output = [T]>) -> Self {
        let part = NonNull::from(&self[range]);
        Self { start: part.cast(), len: part.len(), owner: Arc::clone(&self.owner) }
    }
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// Without a copy, if this is the only clone and the memory is a whole `Vec`.
    pub(crate) fn into_vec(self) -> Vec<T> {
        if self.owner.downcast_ref::<Vec<T>>().is_none_or(|all| all.len() != self.len) {
            return self.to_vec();
        }
        match self.owner.downcast::<Vec<T>>() {
            Ok(owner) => Arc::try_unwrap(owner).unwrap_or_else(|shared| shared.to_vec()),
            Err(_) => unreachable!("it was looked at above"),
        }
    }

    /// The same memory as bytes.
    pub(crate) fn bytes(&self) -> Segment
    where
        T: NoUninit,
    {
        let bytes: &[u8] = bytemuck::cast_slice(self);
        let bytes = NonNull::from(bytes);
        Segment { start: bytes.cast(), len: bytes.len(), owner: Arc::clone(&self.owner) }
    }
}

impl Segment {
    /// The same memory as other values; `None`, if it is not aligned for them, or does not hold a whole
    /// number of them.
    pub(crate) fn cast<T: AnyBitPattern>(&self) -> Option<Shared<T>> {
        let values: &[T] = bytemuck::try_cast_slice(self).ok()?;
        let values = NonNull::from(values);
        Some(Shared { start: values.cast(), len: values.len(), owner: Arc::clone(&self.owner) })
    }

    /// Returns whether it is the very same memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        ptr::eq::<[u8]>(&**self, &**other)
    }
}

impl From<Arc<SealedMemory>> for Segment {
    fn from(owner: Arc<SealedMemory>) -> Self {
        // Behind the `Arc` the mapping stays where it is, and no process can write to it.
        let all = NonNull::from(&**owner);
        Self { start: all.cast(), len: all.len(), owner }
    }
}

impl From<ReceivedSegment> for Segment {
    fn from(received: ReceivedSegment) -> Self {
        let (start, len) = (received.start, received.len);
        Self { start, len, owner: Arc::new(received) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: there are `len` values, which stay for as long as the owner, which stays for as
        // long as this reference (rule 1).
        unsafe { NonNull::slice_from_raw_parts(self.start, self.len).as_ref() }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Memory that something is received into. It is aligned for any number.
pub(crate) struct ReceivedSegment {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is the sole owner of its memory (rule 3), as a `Box<[u8]>` is.
unsafe impl Send for ReceivedSegment {}

// SAFETY: through a reference the memory can only be read.
unsafe impl Sync for ReceivedSegment {}

impl ReceivedSegment {
    /// Zeroed memory.
    ///
    /// # Errors
    ///
    /// There is not that much memory.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let start = match len {
            0 => NonNull::<Line>::dangling().cast(),
            1..HUGE => allocate(len)?,
            HUGE.. => map(len)?,
        };
        Ok(Self { start, len })
    }
}

fn layout(len: usize) -> io::Result<Layout> {
    Layout::from_size_align(len, align_of::<Line>()).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

fn allocate(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: `len` is not 0; nobody else calls this with an empty layout.
    let start = unsafe { alloc_zeroed(layout(len)?) };
    NonNull::new(start).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// # Safety
///
/// The memory is from [`allocate`], of this length, and nobody has it any more.
unsafe fn free(start: NonNull<u8>, len: usize) {
    if let Ok(layout) = layout(len) {
        // SAFETY: the memory is from `allocate`, with the layout of this length, and nobody has it any more: both
        // are required.
        unsafe { dealloc(start.as_ptr(), layout) };
    }
}

#[cfg(target_os = "linux")]
fn map(len: usize) -> io::Result<NonNull<u8>> {
    // Slices can't be longer.
    layout(len)?;
    // SAFETY: the kernel chooses a place where nothing is.
    let start = unsafe {
        mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
    };
    // SAFETY: it is the mapping from above. Where there are no huge pages, small ones do.
    let _ = unsafe { madvise(start, len, Advice::LinuxHugepage) };
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// # Safety
///
/// It is the whole mapping from [`map`], and nobody has it any more.
#[cfg(target_os = "linux")]
unsafe fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: it is the whole mapping, and nobody has it any more: both are required.
    let unmapped = unsafe { munmap(start.as_ptr().cast(), len) };
    debug_assert_eq!(unmapped, Ok(()));
}

// Nothing is received there so far.
#[cfg(not(target_os = "linux"))]
use self::{allocate as map, free as unmap};

impl AsMut<[u8]> for ReceivedSegment {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is initialised, and nobody else's (rule 3).
        unsafe { NonNull::slice_from_raw_parts(self.start, self.len).as_mut() }
    }
}

impl Deref for ReceivedSegment {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is initialised, and nobody writes to it meanwhile (rule 3).
        unsafe { NonNull::slice_from_raw_parts(self.start, self.len).as_ref() }
    }
}

impl Drop for ReceivedSegment {
    fn drop(&mut self) {
        match self.len {
            0 => {}
            // SAFETY: it is from `allocate`, and this is its only owner (rule 3).
            1..HUGE => unsafe { free(self.start, self.len) },
            // SAFETY: it is from `map`, and this is its only owner (rule 3).
            HUGE.. => unsafe { unmap(self.start, self.len) },
        }
    }
}

impl fmt::Debug for ReceivedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedSegment").field("len", &self.len).finish_non_exhaustive()
    }
}
