//! Sockets for messages that arrive whole, with descriptors (`SOCK_SEQPACKET`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::descriptors::{above_standard, move_above_standard};
use crate::sys::MOST_DESCRIPTORS;

/// The longest message.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024;

/// Two ends, of which neither blocks.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    let [ours, theirs] = above_standard(|| {
        net::socketpair(AddressFamily::UNIX, kind, flags, None).map(<[OwnedFd; 2]>::from)
    })?;
    Ok((ours, theirs))
}

/// Returns whether `fd` may be an end of such a pair.
pub(crate) fn is_control(fd: BorrowedFd<'_>) -> bool {
    net::sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
        && net::sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
}

/// Sends one message, or nothing. If the other end is gone, the error is `BrokenPipe`; `ResourceBusy`: the user has as
/// many descriptors under way as the system allows.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(message)];
    match retry_on_intr(|| net::sendmsg(fd, &parts, &mut ancillary, SendFlags::NOSIGNAL)) {
        // The system's first answer where the other end has left messages unread.
        Err(Errno::CONNRESET) => Err(Errno::PIPE.into()),
        Err(Errno::TOOMANYREFS) => Err(io::ErrorKind::ResourceBusy.into()),
        sent => Ok(sent.map(drop)?),
    }
}

/// Receives one message into `into`. Tells its length, 0 at the end, and gives the descriptors that
/// came with it: fewer than were sent, if this process may not have that many.
pub(crate) fn receive(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received =
        retry_on_intr(|| net::recvmsg(fd, &mut [IoSliceMut::new(into)], &mut ancillary, flags))?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .filter_map(|fd| move_above_standard(fd).ok())
        .collect();
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a control message is too long"));
    }
    Ok((received.bytes, descriptors))
}

/// Copies the begin of the message that would be received next, without its descriptors. `None`: there is none.
pub(crate) fn peek(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Option<usize>> {
    match retry_on_intr(|| net::recv(fd, &mut *into, RecvFlags::PEEK)) {
        Ok((0, _)) | Err(Errno::AGAIN) => Ok(None),
        Ok((length, _)) => Ok(Some(length)),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether nobody has the other end any more.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    retry_on_intr(|| poll(&mut watched, Some(&Timespec::default()))).is_ok_and(|count| count > 0)
}

/// Waits until a message can be sent, up to `limit`. `false`: it can't.
pub(crate) fn wait_for_room(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    Ok(retry_on_intr(|| poll(&mut watched, Some(&limit)))? > 0)
}

/// Waits until there is a message, or the other end is gone.
pub(crate) fn wait_for_message(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut watched, None)).map(drop)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_end_that_is_gone_is_a_broken_pipe_also_if_it_has_left_messages_unread() {
        for unread in [false, true] {
            let (ours, theirs) = pair().unwrap();
            if unread {
                send(ours.as_fd(), b"unread", &[]).unwrap();
            }
            drop(theirs);
            // A process that another test starts has a copy of that end for a moment.
            wait_for_message(ours.as_fd()).unwrap();
            for _ in 0..2 {
                let error = send(ours.as_fd(), b"late", &[]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{unread}");
            }
        }
    }
}
