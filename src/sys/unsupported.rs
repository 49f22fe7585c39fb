//! Systems of which the crate knows no calls so far. None of these values exist there, and a function that
//! would make one returns an error.

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use super::atomic_word::AtomicWord;
use super::{Signal, Usage};

pub(crate) fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "worker processes are supported on Linux only so far; use ThreadPoolExecutor here",
    ))
}

/// A type without values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum None {}

// No process shares memory with this one.

pub(crate) const MOST_WORDS: usize = 1;

pub(crate) fn wait_on(_: &AtomicU32, _: u32) {}

pub(crate) fn wait_on_for(_: &AtomicU32, _: u32, _: Duration) {}

pub(crate) fn wait_on_any(_: &[(&AtomicU32, u32)], _: Option<Duration>) -> io::Result<()> {
    unsupported()
}

pub(crate) fn wake_one_on(_: &AtomicU32) -> bool {
    false
}

pub(crate) fn wake_all_on(_: &AtomicU32) {}

/// In place of descriptors.
#[derive(Debug)]
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

impl<T: AsFd> AsFd for &T {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
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

    pub(crate) fn send_with(
        fd: BorrowedFd<'_>,
        _: &[IoSlice<'_>],
        _: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        match *fd.0 {}
    }

    pub(crate) struct Batch {
        pub(crate) descriptors: Vec<OwnedFd>,
        pub(crate) is_whole: bool,
    }

    pub(crate) fn receive(fd: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
        match *fd.0 {}
    }

    pub(crate) fn receive_with(
        fd: BorrowedFd<'_>,
        _: &mut [u8],
    ) -> io::Result<(usize, Option<Batch>)> {
        match *fd.0 {}
    }

    pub(crate) fn finish_writing(fd: BorrowedFd<'_>) -> io::Result<()> {
        match *fd.0 {}
    }

    pub(crate) fn end(fd: BorrowedFd<'_>) -> io::Result<()> {
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

pub(crate) struct SealedMemory(None);

impl Deref for SealedMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.0 {}
    }
}

impl SealedMemory {
    pub(crate) fn of(_: &[u8]) -> io::Result<(Self, OwnedFd)> {
        unsupported()
    }

    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        match *fd.as_fd().0 {}
    }
}

pub(crate) struct UnsealedMemory(None);

impl UnsealedMemory {
    pub(crate) fn new(_: usize) -> io::Result<Self> {
        unsupported()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self.0 {}
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self.0 {}
    }

    pub(crate) fn seal(self) -> io::Result<(SealedMemory, OwnedFd)> {
        match self.0 {}
    }
}

pub(crate) struct WritableMemory(None);

impl WritableMemory {
    pub(crate) fn create(_: usize) -> io::Result<(Self, OwnedFd)> {
        unsupported()
    }

    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        match *fd.as_fd().0 {}
    }

    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn words<W: AtomicWord>(&self) -> Option<&[W]> {
        match self.0 {}
    }

    pub(crate) fn seal(self, _: impl AsFd) -> Result<SealedMemory, (Self, io::Error)> {
        match self.0 {}
    }
}

pub(crate) struct ChunkMemory(None);

impl ChunkMemory {
    pub(crate) fn create(_: usize, _: usize) -> io::Result<(Self, [OwnedFd; 2])> {
        unsupported()
    }

    pub(crate) fn map(data: impl AsFd, _: impl AsFd) -> io::Result<Self> {
        match *data.as_fd().0 {}
    }

    pub(crate) fn count(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn chunk_len(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn range(&self, _: usize) -> Range<usize> {
        match self.0 {}
    }

    pub(crate) fn locks(&self) -> &Arc<ChunkLocks> {
        match self.0 {}
    }

    pub(crate) fn take(
        self: &Arc<Self>,
        _: usize,
        _: bool,
    ) -> io::Result<Option<(HeldChunk, bool)>> {
        match self.0 {}
    }

    pub(crate) fn seal(self, _: impl AsFd) -> Result<SealedMemory, (Self, io::Error)> {
        match self.0 {}
    }
}

pub(crate) struct ChunkLocks(None);

impl ChunkLocks {
    pub(crate) fn word(&self, _: usize) -> &AtomicU32 {
        match self.0 {}
    }

    pub(crate) fn holder(&self) -> io::Result<u32> {
        match self.0 {}
    }
}

pub(crate) struct HeldChunk(None);

impl Deref for HeldChunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.0 {}
    }
}

impl DerefMut for HeldChunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.0 {}
    }
}

pub(crate) mod control {
    use std::io;

    use super::{BorrowedFd, OwnedFd};

    pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        super::unsupported()
    }

    pub(crate) fn is_control(fd: BorrowedFd<'_>) -> bool {
        match *fd.0 {}
    }

    pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
        match *fd.0 {}
    }

    pub(crate) fn send(fd: BorrowedFd<'_>, _: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<()> {
        match *fd.0 {}
    }

    pub(crate) fn peek(fd: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<Option<usize>> {
        match *fd.0 {}
    }

    pub(crate) fn receive(fd: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        match *fd.0 {}
    }
}

pub(crate) const SLOTS: usize = 128;

/// There is no lock.
pub(crate) mod robust_lock {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Holder {
        None,
        Alive,
        Died,
    }

    pub(crate) fn take(_: &AtomicU32, _: u32, _: bool) -> Option<bool> {
        None
    }

    pub(crate) fn arm(word: &AtomicU32) -> u32 {
        word.load(Relaxed)
    }

    pub(crate) fn is_held(_: u32) -> bool {
        false
    }

    pub(crate) fn holder_of(_: &AtomicU32) -> Holder {
        Holder::None
    }

    pub(crate) fn free_nonsense(_: &AtomicU32) {}

    pub(crate) fn unlock(_: &AtomicU32, _: u32) {}
}

pub(crate) struct RobustMemory(None);

pub(crate) struct RobustGuard<'a>(&'a None);

impl Drop for RobustGuard<'_> {
    fn drop(&mut self) {
        match *self.0 {}
    }
}

impl RobustMemory {
    pub(crate) fn create(_: usize) -> io::Result<(Self, OwnedFd)> {
        unsupported()
    }

    pub(crate) fn map(fd: impl AsFd) -> io::Result<Self> {
        match *fd.as_fd().0 {}
    }

    pub(crate) fn event(&self, _: usize) -> &AtomicU32 {
        match self.0 {}
    }

    pub(crate) fn lock_word(&self) -> &AtomicU32 {
        match self.0 {}
    }

    pub(crate) fn holder(&self) -> io::Result<u32> {
        match self.0 {}
    }

    pub(crate) fn slot(&self, _: usize) -> &AtomicU32 {
        match self.0 {}
    }

    pub(crate) fn own_slot(&self) -> Option<usize> {
        match self.0 {}
    }

    pub(crate) fn take_slot(&self, _: usize) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        match self.0 {}
    }

    pub(crate) fn lock(&self, _: Option<Instant>) -> io::Result<Option<RobustGuard<'_>>> {
        match self.0 {}
    }

    pub(crate) fn try_lock_soon(&self) -> io::Result<Option<RobustGuard<'_>>> {
        match self.0 {}
    }
}

pub(crate) fn reserve(fd: impl AsFd, _: Range<usize>) -> io::Result<()> {
    match *fd.as_fd().0 {}
}

pub(crate) fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    match *fd.as_fd().0 {}
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

/// # Safety
///
/// There is no memory to share.
pub(crate) unsafe trait Shareable: Sync + 'static {}

pub(crate) struct SharedMemory<T>(None, PhantomData<T>);

impl<T> SharedMemory<T> {
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        unsupported()
    }

    pub(crate) fn area(&self) -> &[AtomicU64] {
        match self.0 {}
    }
}

impl<T> Deref for SharedMemory<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self.0 {}
    }
}

pub(crate) struct PidFd(None);

impl PidFd {
    pub(crate) fn kill_group(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn signal(&self, _: Signal) -> io::Result<()> {
        match self.0 {}
    }
}

/// Without bound: there is no call that tells.
pub(crate) fn memory_size() -> u64 {
    u64::MAX
}

/// Does nothing.
pub(crate) fn flush_c_stdout() {}

pub(crate) fn print_to_stderr(_: &str) {}

/// Of no process.
pub(crate) struct PrivateMemory {
    pub(crate) used: u64,
}

pub(crate) fn private_memory(_: u32) -> io::Result<Option<PrivateMemory>> {
    unsupported()
}

pub(crate) fn usage(_: u32) -> Option<Usage> {
    None
}

pub(crate) fn is_frozen(_: u32) -> bool {
    false
}

pub(crate) fn monotonic_now() -> Duration {
    Duration::ZERO
}
