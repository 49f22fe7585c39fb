//! Memory that no process can write to any more, by the kernel's word: a file without a name, which is sealed.
//! In any process.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::shared_memory::file;
use crate::sys::explain;

/// After these seals no process can write to the file, make it shorter or longer, or take a seal away; and none
/// has it mapped for writing, or the first one would have been refused.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Where no bytes are, aligned as mappings are.
#[repr(align(4096))]
struct Page;

/// A mapping, which is removed with its owner. `length` bytes from `start` on, or none.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is the sole owner of a part of the address space, and any thread may remove it.
unsafe impl Send for Mapping {}
// SAFETY: a reference to it gives access to nothing.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: impl AsFd, length: usize, access: ProtFlags, kind: MapFlags) -> Result<Self, Errno> {
        if length == 0 {
            return Ok(Self { start: NonNull::<Page>::dangling().cast(), length });
        }
        // SAFETY: a new mapping at a place that the kernel chooses, so that no other memory is touched.
        let start = unsafe { mmap(std::ptr::null_mut(), length, access, kind, fd, 0)? };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: it is this value's own mapping, and no reference to its bytes outlives its owner.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

/// One process's mapping of sealed memory, whose file has all of [`SEALS`].
pub(crate) struct SealedMemory(Mapping);

impl SealedMemory {
    /// Copies bytes into new memory, and seals it. Another process can [`map`](Self::map) the descriptor.
    pub(crate) fn of(bytes: &[u8]) -> io::Result<(Self, OwnedFd)> {
        let fd = new_file(bytes.len())?;
        let mut written = 0;
        while written < bytes.len() {
            written += rustix::io::pwrite(&fd, &bytes[written..], written as u64)?;
        }
        Self::seal(fd)
    }

    fn seal(fd: OwnedFd) -> io::Result<(Self, OwnedFd)> {
        rustix::fs::fcntl_add_seals(&fd, SEALS)?;
        Ok((Self::map(&fd)?, fd))
    }

    /// Maps memory that was sealed, in this process or another one.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        // Any other file is an error as well, or has no seals.
        if !rustix::fs::fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SEALS)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not sealed memory"));
        }
        let length = rustix::fs::fstat(&fd)?.st_size;
        let length = usize::try_from(length).map_err(|_| Errno::OVERFLOW)?;
        // Kernels before 6.7 refuse every shared mapping of such a file. Pages of a private one are the file's
        // until they are written to, which a mapping for reading does not allow.
        let map = |kind| Mapping::new(&fd, length, ProtFlags::READ, kind);
        let mapping = match map(MapFlags::SHARED) {
            Err(Errno::PERM) => map(MapFlags::PRIVATE),
            mapping => mapping,
        };
        Ok(Self(mapping?))
    }
}

impl Deref for SealedMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Mapping { start, length } = self.0;
        // SAFETY: so many bytes are mapped for reading until `self` is dropped, or there are none and the
        // pointer is not null; by the seals no process can change them.
        unsafe { NonNull::slice_from_raw_parts(start, length).as_ref() }
    }
}

/// Memory that only this process has, and that is to be sealed. It begins with zeros.
pub(crate) struct UnsealedMemory {
    fd: OwnedFd,
    mapping: Mapping,
}

impl UnsealedMemory {
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let fd = new_file(length)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let mapping = Mapping::new(&fd, length, access, MapFlags::SHARED)?;
        Ok(Self { fd, mapping })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let Mapping { start, length } = self.mapping;
        // SAFETY: so many bytes are mapped until `self` is dropped, or there are none; all are initialised, as
        // the file begins with zeros; and who may write to them has `self` mutably borrowed.
        unsafe { NonNull::slice_from_raw_parts(start, length).as_ref() }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let Mapping { start, length } = self.mapping;
        // SAFETY: the same; and no other process has the memory: the descriptor has not left this value, which has
        // the only mapping.
        unsafe { NonNull::slice_from_raw_parts(start, length).as_mut() }
    }

    /// Seals the memory.
    pub(crate) fn seal(self) -> io::Result<(SealedMemory, OwnedFd)> {
        let Self { fd, mapping } = self;
        // The seal is refused while there is a mapping for writing.
        drop(mapping);
        SealedMemory::seal(fd)
    }
}

/// Tells files apart that are open at the same time.
pub(crate) fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A file in memory whose pages are there: without, an access would be the death of the process (SIGBUS).
fn new_file(length: usize) -> io::Result<OwnedFd> {
    let fd = file(length)?;
    let sysinfo = rustix::system::sysinfo();
    let pages = (sysinfo.totalram as u64).saturating_add(sysinfo.totalswap as u64);
    if length as u64 > pages.saturating_mul(sysinfo.mem_unit.into()) {
        // The kernel would find that out by taking what there is, and then kill processes.
        return Err(Errno::NOMEM.into());
    }
    if length > 0 {
        match rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, length as u64) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => rustix::fs::ftruncate(&fd, length as u64)?,
            reserved => reserved.map_err(explain(format!("no memory for {length} bytes")))?,
        }
    }
    Ok(fd)
}
