//! Waiting for many descriptors at once.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use super::descriptors::above_standard;

/// Maximum number of events that one wait reports.
const EVENTS: usize = 64;

/// The key of the poller's own descriptor, not to be used for others.
const WAKE: u64 = u64::MAX;

/// Tells which descriptors can be read and written, as long as they can.
pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

/// A descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The key that it was added with.
    pub(crate) key: u64,
    /// There is something to read, or the other side is gone.
    pub(crate) readable: bool,
    /// There is room to write, or the other side is gone.
    pub(crate) writable: bool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let [epoll] = above_standard(|| epoll::create(epoll::CreateFlags::CLOEXEC).map(|fd| [fd]))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let [wake] = above_standard(|| eventfd(0, flags).map(|fd| [fd]))?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        Ok(Self { epoll, wake })
    }

    /// Adds a descriptor. The other side's end is reported whatever is asked for.
    pub(crate) fn add(
        &self,
        fd: BorrowedFd<'_>,
        key: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let (data, flags) = (epoll::EventData::new_u64(key), interest(readable, writable));
        Ok(epoll::add(&self.epoll, fd, data, flags)?)
    }

    /// Changes what is asked of a descriptor that was added.
    pub(crate) fn change(
        &self,
        fd: BorrowedFd<'_>,
        key: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let (data, flags) = (epoll::EventData::new_u64(key), interest(readable, writable));
        Ok(epoll::modify(&self.epoll, fd, data, flags)?)
    }

    /// Takes a descriptor out. To be called before it is closed: what was duplicated or inherited
    /// would go on being reported.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is ready, [`wake`](Self::wake) is called, or `limit` has passed, and
    /// puts what is ready into `events` in place of what is there. That may be nothing.
    pub(crate) fn wait(&self, events: &mut Vec<Event>, limit: Option<Duration>) -> io::Result<()> {
        events.clear();
        // A limit that is too long for the type is as good as none.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut ready = [MaybeUninit::uninit(); EVENTS];
        let ready = match epoll::wait(&self.epoll, &mut ready, limit.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in ready.iter() {
            // The fields are not aligned everywhere, so they are copied.
            let (key, flags) = ({ event.data }.u64(), { event.flags });
            if key == WAKE {
                let mut count = [0; 8];
                // It is only to be read so that it is not reported again.
                let _ = rustix::io::read(&self.wake, &mut count);
                continue;
            }
            use epoll::EventFlags as E;
            events.push(Event {
                key,
                readable: flags.intersects(E::IN | E::HUP | E::RDHUP | E::ERR),
                writable: flags.intersects(E::OUT | E::HUP | E::ERR),
            });
        }
        Ok(())
    }

    /// Ends the wait that is under way, or else the next one.
    pub(crate) fn wake(&self) {
        // It can only fail if the count is at its end, and then the wait ends already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

fn interest(readable: bool, writable: bool) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN | epoll::EventFlags::RDHUP, readable);
    flags.set(epoll::EventFlags::OUT, writable);
    flags
}
