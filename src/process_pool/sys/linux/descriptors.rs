//! Which descriptors the zygote and its forks have; and that none of the crate's, in any process, is
//! a standard stream.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};

use crate::process_pool::sys::explain;

/// The first that is not one of stdin, stdout, stderr.
const FIRST: RawFd = 3;

const NULL: &str = "/dev/null";

/// Makes descriptors, none of which is stdin, stdout or stderr. The program may have closed one of
/// these, and what is opened next gets its number, and so everything that is printed.
///
/// All descriptors that this crate makes are made through this, but for those that the standard
/// library opens to read a file, and closes again.
pub(super) fn above_standard<const N: usize, E>(
    make: impl Fn() -> Result<[OwnedFd; N], E>,
) -> io::Result<[OwnedFd; N]>
where
    E: Into<io::Error>,
{
    let mut placeholders = Vec::new();
    loop {
        let made = make().map_err(Into::into)?;
        if made.iter().all(|fd| fd.as_raw_fd() >= FIRST) {
            return Ok(made);
        }
        drop(made);
        // Whoever writes there meanwhile gets the error of a closed descriptor.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        placeholders.push(rustix::fs::open("/", flags, Mode::empty())?);
    }
}

/// The same for a descriptor that was received, which has the lowest number that was free.
pub(super) fn move_above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, FIRST)?)
}

/// Closes what the parent has let through `exec`, and takes the control socket from stdin, which is
/// `/dev/null` from then on.
pub(super) fn take_stdin() -> io::Result<OwnedFd> {
    fill_standard()?;
    close_inherited()?;
    let moved = explain("the control socket can't be moved");
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST).map_err(moved)?;
    let null = open_null(OFlags::RDONLY | OFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(control)
}

fn open_null(flags: OFlags) -> io::Result<OwnedFd> {
    let refused = explain(format!("{NULL} can't be opened"));
    rustix::fs::open(NULL, flags, Mode::empty()).map_err(refused)
}

/// The parent may have closed its stdout or stderr. What is opened next would get that number.
fn fill_standard() -> io::Result<()> {
    loop {
        let null = open_null(OFlags::RDWR)?;
        if null.as_raw_fd() >= FIRST {
            return Ok(());
        }
        let _ = null.into_raw_fd();
    }
}

/// Whatever is not to be closed by `exec` has survived it. What libraries have opened since then is,
/// by common practice.
fn close_inherited() -> io::Result<()> {
    for fd in numbers()? {
        // SAFETY: no number of a descriptor can harm this call.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        if fd >= FIRST && flags != -1 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: nothing in this process has opened it, so nothing owns it.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}

/// Descriptors that a fork of the zygote keeps: those which constructors and the preloaded function
/// have opened, for they count on them.
pub(crate) struct Kept(Vec<RawFd>);

impl Kept {
    /// All that are open now, but for `own`.
    pub(crate) fn all_but(own: BorrowedFd<'_>) -> io::Result<Self> {
        let mut numbers = numbers()?;
        // SAFETY: no number of a descriptor can harm this call. It finds the one that has listed them
        // closed.
        let is_open = |fd: RawFd| unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1;
        numbers.retain(|fd| *fd >= FIRST && *fd != own.as_raw_fd() && is_open(*fd));
        numbers.sort_unstable();
        Ok(Self(numbers))
    }

    /// Closes all others, except for `own` and stdin, stdout and stderr.
    ///
    /// # Safety
    ///
    /// Nothing that owns one of the others is used or dropped in this process from here on.
    pub(super) unsafe fn close_others(&self, own: BorrowedFd<'_>) -> io::Result<()> {
        let mut kept = self.0.clone();
        kept.push(own.as_raw_fd());
        kept.sort_unstable();
        let mut first = FIRST;
        for fd in kept {
            // SAFETY: by the caller; the range has none of those that are kept.
            unsafe { close_range(first, fd - 1)? };
            first = fd + 1;
        }
        // SAFETY: as above.
        unsafe { close_range(first, RawFd::MAX) }
    }
}

/// # Safety
///
/// Nothing that owns one of these descriptors is used or dropped in this process from here on.
unsafe fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // As a bare system call: glibc has the function since 2.34 only.
    // SAFETY: by the caller.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return Ok(());
    }
    // A kernel before 5.9, or a sandbox that does not know the call.
    for fd in numbers()?.into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: by the caller.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// The descriptors of this process, in no order, with the one that reads the list and is closed
/// again.
fn numbers() -> io::Result<Vec<RawFd>> {
    const LIST: &str = "/proc/self/fd";
    let refused = explain(format!("{LIST} can't be read"));
    let entries = std::fs::read_dir(LIST).map_err(refused)?;
    let number =
        |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(number).collect())
}

/// Makes `fd` the stderr of this process.
pub(super) fn set_stderr(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(fd)?)
}
