//! The stream between the pool and a worker.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::descriptors::{above_standard, move_above_standard};
use crate::sys::MOST_DESCRIPTORS;

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
    send_message(fd, parts, &mut SendAncillaryBuffer::default())
}

/// As [`send`], and duplicates of the descriptors with the first byte, at most [`MOST_DESCRIPTORS`]. `ResourceBusy`:
/// the user has as many under way as the system allows.
pub(crate) fn send_with(
    fd: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    send_message(fd, parts, &mut ancillary)
}

fn send_message(
    fd: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    ancillary: &mut SendAncillaryBuffer<'_, '_, '_>,
) -> io::Result<usize> {
    let parts = &parts[..parts.len().min(MAX_PARTS)];
    match retry_on_intr(|| net::sendmsg(fd, parts, ancillary, SendFlags::NOSIGNAL)) {
        Err(Errno::TOOMANYREFS) => Err(ErrorKind::ResourceBusy.into()),
        sent => Ok(sent?),
    }
}

/// Descriptors that came with a byte.
pub(crate) struct Batch {
    pub(crate) descriptors: Vec<OwnedFd>,
    /// `false`: there were more, and this process may not have that many.
    pub(crate) is_whole: bool,
}

/// Receives what is there, up to the length of `into`, and to the next byte with descriptors; gives those of
/// one. 0 is the end of the stream.
pub(crate) fn receive_with(
    fd: BorrowedFd<'_>,
    into: &mut [u8],
) -> io::Result<(usize, Option<Batch>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received =
        retry_on_intr(|| net::recvmsg(fd, &mut [IoSliceMut::new(into)], &mut ancillary, flags))?;
    let mut is_whole = !received.flags.contains(ReturnFlags::CTRUNC);
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        let RecvAncillaryMessage::ScmRights(received) = message else { continue };
        for fd in received {
            match move_above_standard(fd) {
                Ok(fd) => descriptors.push(fd),
                Err(_none_left) => is_whole = false,
            }
        }
    }
    let has_come = !is_whole || !descriptors.is_empty();
    Ok((received.bytes, has_come.then_some(Batch { descriptors, is_whole })))
}

/// Receives what is there, up to the length of `into`. 0 is the end of the stream. Descriptors that come with
/// it are lost.
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::sys::memory_file;

    /// W-11. The limit does not bind a privileged user, so a program of its own goes on as another one.
    #[test]
    fn descriptors_of_which_too_many_are_under_way_are_refused_until_some_have_arrived() {
        const PART: &str = "CF_TEST_UNPRIVILEGED";
        if !super::super::descriptors::may_have_many() {
            return;
        }
        if std::env::var_os(PART).is_none() {
            let name = std::thread::current().name().unwrap().to_owned();
            let mut program = Command::new(std::env::current_exe().unwrap());
            let output = program.args(["--exact", &name]).env(PART, "1").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            return assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        let user = 400_000 + std::process::id();
        // SAFETY: calls without memory. Those that fail leave a program that is unprivileged already.
        unsafe {
            libc::setgid(user);
            libc::setuid(user);
        }
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum }).unwrap();
        let (ours, theirs) = pair().unwrap();
        let file = memory_file(0).unwrap();
        let send = || send_with(ours.as_fd(), &[IoSlice::new(b"x")], &[file.as_fd(); 20]);
        let sent = (1..).find_map(|count| send().err().map(|error| (count, error)));
        let (sent, error) = sent.unwrap();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
        // Not a part of them either.
        for _ in 1..sent {
            let (length, batch) = receive_with(theirs.as_fd(), &mut [0; 100]).unwrap();
            let batch = batch.unwrap();
            assert_eq!((length, batch.descriptors.len(), batch.is_whole), (1, 20, true));
        }
        assert_eq!(send().unwrap(), 1);
    }
}
