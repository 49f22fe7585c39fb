//! Pipes, and writes that do not wait for room in one.

use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, ioctl_fionbio, pwritev2, retry_on_intr};
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
    match write(stderr(), piece) {
        Ok(written) => written,
        Err(Errno::AGAIN) => 0,
        Err(_) => bytes.len(),
    }
}

/// Writes without waiting to a pipe, which another process may have filled since the look at it. The
/// descriptor is not made non-blocking for that: the other processes have the same one.
fn write(fd: BorrowedFd<'_>, piece: &[u8]) -> Result<usize, Errno> {
    // Only there: what a file answers that would have to wait, no poller would report the end of.
    let is_pipe = fstat(fd).is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Fifo);
    if is_pipe {
        // At the current position, which a pipe does not have.
        let (parts, position) = ([IoSlice::new(piece)], u64::MAX);
        match retry_on_intr(|| pwritev2(fd, &parts, position, ReadWriteFlags::NOWAIT)) {
            // Linux has it for pipes since 6.5.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            written => return written,
        }
    }
    retry_on_intr(|| rustix::io::write(fd, piece))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        let (reader, writer) = pipe().unwrap();
        let parts = [IoSlice::new(b"x")];
        match pwritev2(&writer, &parts, u64::MAX, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return,
            written => assert_eq!(written, Ok(1)),
        }
        let mut all = 1;
        let full = loop {
            match write(writer.as_fd(), &[0; PIECE]) {
                Ok(written) => all += written,
                Err(full) => break full,
            }
        };
        assert_eq!(full, Errno::AGAIN);
        while all > 0 {
            all -= read(reader.as_fd(), &mut [0; PIECE]).unwrap();
        }
        assert_eq!(write(writer.as_fd(), b"again"), Ok(5));
    }
}
