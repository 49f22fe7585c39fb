//! Systems without worker processes. No pool can be created there, so none of these values exist, and
//! no function gets further than to say so.

use std::io;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::{ExitStatus, Signal};
use crate::process_pool::page::Page;
use crate::process_pool::zygote::{Notice, WorkerSettings, ZygoteSettings};

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "worker processes are supported on Linux only so far; use ThreadPoolExecutor here",
    ))
}

pub(crate) fn can_start() -> io::Result<()> {
    unsupported()
}

/// What there is none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum None {}

/// In place of descriptors.
pub(crate) struct OwnedFd(None);

#[derive(Clone, Copy)]
pub(crate) struct BorrowedFd<'a>(&'a None);

pub(crate) trait AsFd {
    fn as_fd(&self) -> BorrowedFd<'_>;
}

impl AsFd for OwnedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        BorrowedFd(&self.0)
    }
}

pub(crate) mod hook {
    pub(crate) fn is_in_charge() -> bool {
        false
    }
}

pub(crate) mod socket {
    use std::io::{self, IoSlice};

    use super::{BorrowedFd, OwnedFd};

    pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        super::unsupported()
    }

    pub(crate) fn send(fd: BorrowedFd<'_>, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *fd.0 {}
    }

    pub(crate) fn receive(fd: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
        match *fd.0 {}
    }

    pub(crate) fn finish_writing(fd: BorrowedFd<'_>) -> io::Result<()> {
        match *fd.0 {}
    }

    pub(crate) fn receive_behind(
        fd: BorrowedFd<'_>,
        _: &mut Vec<u8>,
        _: usize,
    ) -> io::Result<usize> {
        match *fd.0 {}
    }
}

pub(crate) struct Poller(None);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) key: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        unsupported()
    }

    pub(crate) fn add(&self, _: BorrowedFd<'_>, _: u64, _: bool, _: bool) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn change(&self, _: BorrowedFd<'_>, _: u64, _: bool, _: bool) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn remove(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn wait(&self, _: &mut Vec<Event>, _: Option<Duration>) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn wake(&self) {
        match self.0 {}
    }
}

pub(crate) struct SharedPage(None);

impl SharedPage {
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        unsupported()
    }

    pub(crate) fn map(fd: &OwnedFd) -> io::Result<Self> {
        match fd.0 {}
    }

    pub(crate) fn results(&self) -> &[AtomicU64] {
        match self.0 {}
    }

    pub(crate) fn copy_in(&self, _: usize, _: &[u8]) -> bool {
        match self.0 {}
    }

    pub(crate) fn copy_out(&self, _: usize, _: &mut [u8]) -> bool {
        match self.0 {}
    }
}

impl Deref for SharedPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        match self.0 {}
    }
}

pub(crate) struct PidFd(None);

impl PidFd {
    pub(crate) fn signal(&self, _: Signal) -> io::Result<()> {
        match self.0 {}
    }
}

pub(crate) struct Launch(None);

impl Launch {
    pub(crate) fn new(_: &ZygoteSettings) -> io::Result<Self> {
        unsupported()
    }
}

pub(crate) struct Zygote(None);

impl Zygote {
    pub(crate) fn start(launch: &Launch) -> io::Result<Self> {
        match launch.0 {}
    }

    pub(crate) fn wait_until_ready(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }

    pub(crate) fn pid(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn end(self) -> Option<ExitStatus> {
        match self.0 {}
    }

    pub(crate) fn spawn(
        &self,
        _: &WorkerSettings,
        _: OwnedFd,
        _: BorrowedFd<'_>,
    ) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn signal(&self, _: u32, _: Signal) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn receive(&self) -> io::Result<Option<Notice>> {
        match self.0 {}
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        match self.0 {}
    }
}

/// There is no worker to have a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family(pub(crate) u64);

impl Family {
    pub(crate) fn new() -> io::Result<Self> {
        unsupported()
    }
}

pub(crate) fn kill_families(_: &[Family]) {}

/// There is no worker to send anything.
pub(crate) fn memory_size() -> u64 {
    u64::MAX
}

/// There is no worker to have a group.
pub(crate) fn kill_group(_: u32) -> io::Result<()> {
    Ok(())
}

/// There is no worker to print anything.
pub(crate) fn flush_c_stdout() {}

/// There is no worker to use any.
pub(crate) struct PrivateMemory {
    pub(crate) used: u64,
}

pub(crate) fn private_memory(_: u32) -> Option<PrivateMemory> {
    None
}

pub(crate) fn monotonic_now() -> Duration {
    Duration::ZERO
}
