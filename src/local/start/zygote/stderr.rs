//! The stderr of workers, which passes through the zygote on its way to the zygote's own, so that the
//! last of it is known when a worker dies. In the zygote.

use std::io;

use crate::sys::{AsFd, BorrowedFd, OwnedFd, pipe};

/// Number of bytes that are kept of each worker's stderr.
const TAIL: usize = 4096;

/// Output that was read from workers and not written yet. While there is something, nothing more is read, so
/// that it does not grow: a worker that writes more than is taken waits, as it would with a stderr of
/// its own.
#[derive(Default)]
pub(super) struct Backlog(Vec<u8>);

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes as much as can be written now.
    pub(super) fn flush(&mut self) {
        while !self.0.is_empty() {
            match pipe::write_to_stderr(&self.0) {
                0 => return,
                written => drop(self.0.drain(..written)),
            }
        }
    }
}

/// One worker's stderr.
pub(super) struct Tail {
    pipe: OwnedFd,
    last: Vec<u8>,
    /// The worker, or what it has started, may write more.
    is_open: bool,
}

impl Tail {
    /// Makes a pipe. Returns its reading end as a tail, and the end for the worker.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (pipe, theirs) = pipe::pipe()?;
        Ok((Self { pipe, last: Vec::new(), is_open: true }, theirs))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Reads a piece. `false`: there is nothing now, or never again.
    pub(super) fn read(&mut self, backlog: &mut Backlog) -> bool {
        let mut piece = [0; pipe::PIECE];
        let piece = match pipe::read(self.pipe.as_fd(), &mut piece) {
            Ok(0) => {
                self.is_open = false;
                return false;
            }
            Ok(length) => &piece[..length],
            Err(_nothing_now) => return false,
        };
        backlog.0.extend(piece);
        self.last.extend(piece);
        let surplus = self.last.len().saturating_sub(TAIL);
        self.last.drain(..surplus);
        true
    }

    /// Returns the last bytes, once the worker has ended and what it has left behind was killed.
    pub(super) fn end(mut self, backlog: &mut Backlog) -> Vec<u8> {
        // 1 MiB, far more than a pipe holds by default: a process that could not be killed might
        // write for ever.
        const MOST: usize = 1024 * 1024 / pipe::PIECE;
        for _ in 0..MOST {
            if !self.read(backlog) {
                break;
            }
        }
        self.last
    }
}
