//! The stderr of workers on its way through the zygote.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{ioctl_fionbio, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};

use super::descriptors::above_standard;

/// Number of bytes that can be written to a pipe that has room without waiting (`PIPE_BUF` on Linux).
pub(crate) const PIECE: usize = 4096;

/// The end to read from, which does not block, and the one to write to, which does.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map(<[OwnedFd; 2]>::from);
    let [reader, writer] = above_standard(pipe)?;
    ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// Reads what is there, up to the length of `into`. 0: nobody has the other end.
pub(crate) fn read(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::io::read(fd, &mut *into))?)
}

pub(crate) fn stderr() -> BorrowedFd<'static> {
    rustix::stdio::stderr()
}

/// Writes a piece of `bytes` to stderr if that does not block; tells how much. What can't be written
/// at all counts as written.
pub(crate) fn write_to_stderr(bytes: &[u8]) -> usize {
    let mut watched = [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)];
    let now = Timespec::default();
    if retry_on_intr(|| poll(&mut watched, Some(&now))) == Ok(0) {
        return 0;
    }
    let piece = &bytes[..bytes.len().min(PIECE)];
    match retry_on_intr(|| rustix::io::write(stderr(), piece)) {
        Ok(written) => written,
        Err(rustix::io::Errno::AGAIN) => 0,
        Err(_) => bytes.len(),
    }
}
