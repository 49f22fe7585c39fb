//! The stream between the pool and a worker.

use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::descriptors::above_standard;

/// The most parts that one call takes; the kernel's `UIO_MAXIOV`.
const MAX_PARTS: usize = 1024;

/// Number of bytes that a socket may hold, if the system allows it: it is for many bytes only, of which more go in
/// between two changes from the one process to the other.
const BUFFER: usize = 1 << 20;

/// The pool's end, which never blocks, and the worker's, which does.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let [ours, theirs] = above_standard(|| {
        net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map(<[OwnedFd; 2]>::from)
    })?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    for end in [&ours, &theirs] {
        let _ = net::sockopt::set_socket_send_buffer_size(end, BUFFER);
    }
    Ok((ours, theirs))
}

/// Sends what fits of `parts`, one after the other; tells how many bytes those were. A peer that is
/// gone is an error, not a signal.
pub(crate) fn send(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    if let [part] = parts {
        // Cheaper to the kernel than a list.
        return Ok(retry_on_intr(|| net::send(fd, part, SendFlags::NOSIGNAL))?);
    }
    let parts = &parts[..parts.len().min(MAX_PARTS)];
    let sent = retry_on_intr(|| {
        net::sendmsg(fd, parts, &mut net::SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    });
    Ok(sent?)
}

/// Receives what is there, up to the length of `into`. 0 is the end of the stream.
pub(crate) fn receive(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    let (length, _) = retry_on_intr(|| net::recv(fd, &mut *into, RecvFlags::empty()))?;
    Ok(length)
}

/// As [`receive`], behind what `into` has: up to `most` bytes, and to its capacity.
pub(crate) fn receive_behind(
    fd: BorrowedFd<'_>,
    into: &mut Vec<u8>,
    most: usize,
) -> io::Result<usize> {
    let most = most.min(into.capacity() - into.len());
    let room = &mut into.spare_capacity_mut()[..most];
    let received = retry_on_intr(|| {
        net::recv(fd, &mut *room, RecvFlags::empty()).map(|((received, _), _)| received.len())
    })?;
    // SAFETY: the kernel has filled so much of the room, which begins at the length.
    unsafe { into.set_len(into.len() + received) };
    Ok(received)
}

/// Nothing more will be sent: the other side reads what there is, and then an end.
pub(crate) fn finish_writing(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(net::shutdown(fd, net::Shutdown::Write)?)
}

/// Nothing more will be sent or received but what was sent before: both sides read an end behind it.
pub(crate) fn end(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(net::shutdown(fd, net::Shutdown::Both)?)
}
