//! Files in memory as a process has them mapped. In any process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::shared_memory::file;
use crate::sys::explain;

/// Where no bytes are, aligned as mappings are.
#[repr(align(4096))]
struct Page;

/// A mapping, which is removed with its owner. `length` bytes from `start` on, or none.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is the sole owner of a part of the address space, and any thread may remove it.
unsafe impl Send for Mapping {}
// SAFETY: a reference to it gives access to nothing.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(
        fd: impl AsFd,
        length: usize,
        access: ProtFlags,
        kind: MapFlags,
    ) -> Result<Self, Errno> {
        if length == 0 {
            return Ok(Self { start: NonNull::<Page>::dangling().cast(), length });
        }
        // SAFETY: a new mapping at a place that the kernel chooses, so that no other memory is touched.
        let start = unsafe { mmap(std::ptr::null_mut(), length, access, kind, fd, 0)? };
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, length })
    }

    /// All of its bytes, from the start of a page on.
    pub(super) fn bytes(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.start, self.length)
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

/// A file in memory whose pages are there: without, an access would be the death of the process (SIGBUS).
pub(super) fn reserved_file(length: usize) -> io::Result<OwnedFd> {
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
