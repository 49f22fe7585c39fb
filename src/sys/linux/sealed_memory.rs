//! Memory that no process can write to any more, by the kernel's word: a file without a name, which is sealed.
//! In any process.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::SealFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use super::mapping::{Mapping, reserved_file};

/// After these seals no process can write to the file, make it shorter or longer, or take a seal away; and none
/// has it mapped for writing, or the first one would have been refused.
pub(super) const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// One process's mapping of sealed memory, whose file has all of [`SEALS`].
pub(crate) struct SealedMemory(pub(super) Mapping);

impl SealedMemory {
    /// Copies bytes into new memory, and seals it. Another process can [`map`](Self::map) the descriptor.
    pub(crate) fn of(bytes: &[u8]) -> io::Result<(Self, OwnedFd)> {
        let fd = reserved_file(bytes.len())?;
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
        // SAFETY: so many bytes are mapped for reading until `self` is dropped, or there are none and the
        // pointer is not null; by the seals no process can change them.
        unsafe { self.0.bytes().as_ref() }
    }
}

/// Memory that only this process has, and that is to be sealed. It begins with zeros.
pub(crate) struct UnsealedMemory {
    fd: OwnedFd,
    mapping: Mapping,
}

impl UnsealedMemory {
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let fd = reserved_file(length)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let mapping = Mapping::new(&fd, length, access, MapFlags::SHARED)?;
        Ok(Self { fd, mapping })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped until `self` is dropped, or there are none; all are initialised, as
        // the file begins with zeros; and who may write to them has `self` mutably borrowed.
        unsafe { self.mapping.bytes().as_ref() }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the same; and no other process has the memory: the descriptor has not left this value, which has
        // the only mapping.
        unsafe { self.mapping.bytes().as_mut() }
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
