//! Memory that two processes share: a value at its start, and an area of words behind it.

use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::{Resource, getrlimit};

use super::descriptors::above_standard;
use crate::sys::AREA;

/// Where the area begins, so that it has pages of its own.
const AREA_AT: usize = 4096;
const LENGTH: usize = AREA_AT + AREA;
/// The least length: the page, and one page of the area.
const LEAST: usize = 2 * AREA_AT;

/// A value that processes can share.
///
/// # Safety
///
/// Any bytes are a value of the type, it is at most [`AREA_AT`] bytes long and aligned to less, and
/// all that a shared reference gives access to are atomics.
pub(crate) unsafe trait Shareable: Sync + 'static {}

/// One process's mapping of the memory. It costs what is touched of it.
pub(crate) struct SharedMemory<T: Shareable> {
    start: NonNull<u8>,
    /// In bytes: a multiple of [`AREA_AT`], from [`LEAST`] to [`LENGTH`].
    length: usize,
    /// The mapping stays until the end of the process.
    is_pinned: AtomicBool,
    value: PhantomData<T>,
}

// SAFETY: the memory is reached through shared references to atomics only, from whatever thread, as
// long as the mapping exists; and that ends with its owner.
unsafe impl<T: Shareable> Send for SharedMemory<T> {}
// SAFETY: shared references give access to atomics only, which any thread may use.
unsafe impl<T: Shareable> Sync for SharedMemory<T> {}

impl<T: Shareable> SharedMemory<T> {
    const FITS: () = assert!(size_of::<T>() <= AREA_AT && align_of::<T>() <= AREA_AT);

    /// New memory, all zeros, and the descriptor by which another process can [`map`](Self::map) it.
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let length = length()?;
        let fd = file(length)?;
        rustix::fs::ftruncate(&fd, length as u64)?;
        // Of what this process writes to and reads, whatever the other does. Where memory is promised
        // sparingly (`vm.overcommit_memory`), an access without it would be a SIGBUS.
        match rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, LEAST as u64) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            reserved => reserved?,
        }
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&fd)?, fd))
    }

    /// Maps what [`create`](Self::create) has made.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        let () = Self::FITS;
        let is_sealed = rustix::fs::fcntl_get_seals(&fd)?.contains(SealFlags::SHRINK);
        let length = usize::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
        let is_length = (LEAST..=LENGTH).contains(&length) && length % AREA_AT == 0;
        if !is_sealed || !is_length {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not memory that is to be shared",
            ));
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses. The file can't be shrunk, so all
        // of it stays there to be accessed.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, &fd, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, length, is_pinned: AtomicBool::new(false), value: PhantomData })
    }

    /// Keeps the mapping until the end of the process.
    pub(crate) fn pin(&self) -> &'static T {
        self.is_pinned.store(true, Relaxed);
        // SAFETY: the mapping is at least `LEAST` bytes long, and is never removed, as `drop` sees that it is
        // pinned. Its start is aligned to a page; the value fits before `AREA_AT` by `FITS`, and any bytes make
        // one.
        unsafe { self.start.cast().as_ref() }
    }

    /// The area behind the value, which is as large as [`AREA`] unless the system has set a limit.
    /// Both sides use it in whole words.
    pub(crate) fn area(&self) -> &[AtomicU64] {
        let words = (self.length - AREA_AT) / size_of::<AtomicU64>();
        // SAFETY: the mapping is that long, and lives as long as `self`. Its start is aligned to a
        // page and so the area to a word. All that any process does with it is atomic.
        unsafe {
            let start = self.start.byte_add(AREA_AT).cast();
            NonNull::slice_from_raw_parts(start, words).as_ref()
        }
    }
}

impl<T: Shareable> Deref for SharedMemory<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping lives as long as `self`, and is at least `LEAST` bytes long. Its start is
        // aligned to a page; the value fits before `AREA_AT` by `FITS`, and any bytes make one.
        unsafe { self.start.cast().as_ref() }
    }
}

impl<T: Shareable> Drop for SharedMemory<T> {
    fn drop(&mut self) {
        if *self.is_pinned.get_mut() {
            return;
        }
        // SAFETY: the mapping is this value's, and so is every reference into it.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Returns the maximum length of a file, in bytes. One that becomes longer would be the death of this process
/// (SIGXFSZ), also if it is in memory only.
fn longest_file() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

fn too_long(what: &str) -> io::Error {
    let limit = longest_file();
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!(
            "{what}, and the limit on the size of files (RLIMIT_FSIZE, `ulimit -f`) is {limit} bytes; raise the limit"
        ),
    )
}

/// Returns the length of the memory that [`create`](SharedMemory::create) makes, in bytes. To the system it
/// is a file.
pub(crate) fn length() -> io::Result<usize> {
    let limit = longest_file();
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let length = LENGTH.min(most - most % AREA_AT);
    if length < LEAST {
        return Err(too_long(&format!(
            "memory that two processes share is a file to the system, of at least {LEAST} bytes"
        )));
    }
    Ok(length)
}

/// A new file without a name, in memory, for `length` bytes.
pub(crate) fn file(length: usize) -> io::Result<OwnedFd> {
    if length as u64 > longest_file() {
        return Err(too_long(&format!(
            "they are {length} bytes, which go through a file in memory"
        )));
    }
    let [fd] = above_standard(|| memory_file().map(|fd| [fd]))?;
    Ok(fd)
}

fn memory_file() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = c"concurrent-futures";
    // There are systems that insist on this flag, and kernels (before 6.3) that don't know it.
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        made => made,
    }
}
