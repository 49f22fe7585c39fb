//! Memory that any number of processes write to, until it is sealed: a file without a name. In any process.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::mapping::{Mapping, reserved_file};
use super::sealed_memory::{SEALS, SealedMemory};
use crate::sys::atomic_word::AtomicWord;

/// Its length stays as it is. Further seals can be added, so that it can become [`SealedMemory`].
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// One process's mapping of the memory, whose file has the seals of [`FIXED`].
pub(crate) struct WritableMemory(Mapping);

impl WritableMemory {
    /// New memory, all zeros, and the descriptor by which another process can [`map`](Self::map) it.
    pub(crate) fn create(length: usize) -> io::Result<(Self, OwnedFd)> {
        let fd = reserved_file(length)?;
        rustix::fs::fcntl_add_seals(&fd, FIXED)?;
        Ok((Self::map(&fd)?, fd))
    }

    /// Maps what [`create`](Self::create) has made, in this process or another one.
    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(&fd).unwrap_or(SealFlags::empty());
        if !seals.contains(FIXED) {
            // Any other file has no seals.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not memory that is to be shared",
            ));
        }
        if seals.contains(SealFlags::WRITE) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is frozen, nobody can write to it any more",
            ));
        }
        let length = usize::try_from(rustix::fs::fstat(&fd)?.st_size);
        let length = length.map_err(|_| io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        Ok(Self(Mapping::new(fd, length, access, MapFlags::SHARED)?))
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.bytes().len()
    }

    /// All of the memory. `None`: it has no whole number of such words.
    ///
    /// All that uses one mapping uses it as words of one type.
    pub(crate) fn words<W: AtomicWord>(&self) -> Option<&[W]> {
        let bytes = self.0.bytes();
        if bytes.len() % size_of::<W>() != 0 {
            return None;
        }
        let words = NonNull::slice_from_raw_parts(bytes.cast(), bytes.len() / size_of::<W>());
        // SAFETY: so many bytes are mapped until `self` is dropped, as the file can't be made shorter, or there are
        // none. They begin with a page, so the words are aligned; any bytes are words; and what any process does with
        // them is atomic, or done by one that went wrong.
        Some(unsafe { words.as_ref() })
    }

    /// A part of the memory.
    pub(super) fn part(&self, range: Range<usize>) -> NonNull<[u8]> {
        let bytes = self.0.bytes();
        assert!(range.start <= range.end && range.end <= bytes.len());
        // SAFETY: it begins within the mapping, or at its end.
        let start = unsafe { bytes.cast::<u8>().byte_add(range.start) };
        NonNull::slice_from_raw_parts(start, range.len())
    }

    /// Seals the memory, whose descriptor it is: from here on no process can write to it. Fails with
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) while any has it mapped otherwise.
    ///
    /// # Panics
    ///
    /// If that fails, and the system refuses to map the memory again.
    pub(crate) fn seal(self, fd: impl AsFd) -> Result<SealedMemory, (Self, io::Error)> {
        // First, as it may be refused. Pages of a private mapping are the file's until they are written to, which a
        // mapping for reading does not allow.
        let length = self.len();
        let sealed = match Mapping::new(&fd, length, ProtFlags::READ, MapFlags::PRIVATE) {
            Ok(mapping) => mapping,
            Err(error) => return Err((self, error.into())),
        };
        // This one is for writing.
        drop(self);
        let added = rustix::fs::fcntl_add_seals(&fd, SEALS);
        // Another process may have been quicker.
        let has = rustix::fs::fcntl_get_seals(&fd);
        match added {
            Err(refused) if !has.is_ok_and(|seals| seals.contains(SEALS)) => {
                drop(sealed);
                match Self::map(fd) {
                    Ok(again) => Err((again, refused.into())),
                    Err(error) => panic!("shared memory can't be mapped again: {error}"),
                }
            }
            _ => Ok(SealedMemory(sealed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

    use super::*;

    #[test]
    fn memory_is_written_through_each_of_its_mappings() {
        let (memory, fd) = WritableMemory::create(40).unwrap();
        let other = WritableMemory::map(&fd).unwrap();
        memory.words::<AtomicU32>().unwrap()[9].store(7, Relaxed);
        assert_eq!(other.words::<AtomicU32>().unwrap()[9].load(Relaxed), 7);
        assert_eq!(memory.words::<AtomicU8>().unwrap().len(), 40);
        let (memory, _) = WritableMemory::create(6).unwrap();
        assert!(memory.words::<AtomicU32>().is_none());
        let (memory, _) = WritableMemory::create(0).unwrap();
        assert!(memory.words::<AtomicU32>().unwrap().is_empty());
    }

    #[test]
    fn memory_is_sealed_once_nobody_else_has_it() {
        for length in [1, 10_000] {
            let (memory, fd) = WritableMemory::create(length).unwrap();
            let other = WritableMemory::map(&fd).unwrap();
            memory.words::<AtomicU8>().unwrap()[length - 1].store(5, Relaxed);
            let Err((memory, error)) = memory.seal(&fd) else { panic!("there is another mapping") };
            assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
            // It is written to as before.
            memory.words::<AtomicU8>().unwrap()[length - 1].store(6, Relaxed);
            assert_eq!(other.words::<AtomicU8>().unwrap()[length - 1].load(Relaxed), 6);
            drop(memory);
            let sealed = other.seal(&fd).map_err(|(_, error)| error).unwrap();
            assert_eq!((sealed.len(), sealed[length - 1]), (length, 6));
            assert_eq!(SealedMemory::map(&fd).unwrap()[..], sealed[..]);
            let error = WritableMemory::map(&fd).map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let file = super::super::shared_memory::file(4096).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        assert!(WritableMemory::map(&file).is_err());
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        assert!(WritableMemory::map(&file).is_err());
        assert!(WritableMemory::map(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
