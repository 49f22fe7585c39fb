//! Descriptors: none that is made here is a standard stream, and a process closes all but those that it is
//! to keep.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::sys::explain;

/// The first that is not one of stdin, stdout, stderr.
pub(crate) const FIRST: RawFd = 3;

/// Lists the descriptors of this process.
const LIST: &str = "/proc/self/fd";

const NULL: &str = "/dev/null";

/// Makes descriptors, none of which is stdin, stdout or stderr. The program may have closed one of
/// these, and what is opened next gets its number, and so everything that is printed.
///
/// All descriptors that this crate makes are made through this, but for those that the standard
/// library opens to read a file, and closes again.
pub(crate) fn above_standard<const N: usize, E>(
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

/// Returns whether this process may have some hundred open files. If not, says that a test is left out.
#[cfg(test)]
pub(crate) fn may_have_many() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let may = limit.is_none_or(|limit| limit >= 1000);
    if !may {
        println!("left out: this process may have {limit:?} open files");
    }
    may
}

/// Moves a descriptor that was received, and so has the lowest number that was free, above the standard
/// streams.
pub(crate) fn move_above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST {
        return Ok(fd);
    }
    Ok(duplicate(fd.as_fd())?)
}

/// Duplicates a descriptor above the standard streams.
fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // The kernel's answer if the limit on descriptors is so low that there is no such number.
    let none_left = |error| if error == Errno::INVAL { Errno::MFILE } else { error };
    rustix::io::fcntl_dupfd_cloexec(fd, FIRST).map_err(none_left)
}

/// Duplicates stdout or stderr; if that is closed, opens `/dev/null` in its place.
pub(crate) fn duplicate_output(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    match duplicate(fd) {
        Err(Errno::BADF) => {
            above_standard(|| open_null(OFlags::WRONLY).map(|fd| [fd])).map(|[fd]| fd)
        }
        copy => copy.map_err(explain("stdout or stderr can't be duplicated")),
    }
}

/// Opens a directory, only to start processes there.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::empty()).map(|fd| [fd]);
    above_standard(open).map(|[fd]| fd)
}

/// Has all but the standard streams closed once this process executes a program. Makes system calls
/// only, so that it can be called between `fork` and `exec`.
pub(crate) fn close_on_exec() -> io::Result<()> {
    let (first, last) = (FIRST, RawFd::MAX);
    // SAFETY: nothing is closed by this.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC as RawFd)
    };
    if done == 0 {
        return Ok(());
    }
    // A kernel before 5.11, or a sandbox that does not know the call.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = rustix::fs::open(LIST, flags, Mode::empty())?;
    let mut place = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(list, &mut place);
    while let Some(entry) = entries.next() {
        let number = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok());
        if let Some(fd) = number.filter(|fd: &RawFd| *fd >= FIRST) {
            // SAFETY: nothing is closed by this.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Takes what is stdin, which is `/dev/null` from then on. With an error, stdin is as it was.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let taken = duplicate(rustix::stdio::stdin()).map_err(explain("stdin can't be duplicated"))?;
    let null = open_null(OFlags::RDONLY)?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(taken)
}

fn open_null(flags: OFlags) -> io::Result<OwnedFd> {
    let refused = explain(format!("{NULL} can't be opened"));
    rustix::fs::open(NULL, flags | OFlags::CLOEXEC, Mode::empty()).map_err(refused)
}

/// The descriptors that were open at a moment, for a fork to keep them and no later ones.
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
    pub(crate) unsafe fn close_others(&self, own: BorrowedFd<'_>) -> io::Result<()> {
        let mut kept = self.0.clone();
        kept.push(own.as_raw_fd());
        kept.sort_unstable();
        let mut first = FIRST;
        for fd in kept {
            // SAFETY: the range is between neighbours of what is kept, and so has none of it; what owns one of the
            // others is not used or dropped any more, as is required.
            unsafe { close_range(first, fd - 1)? };
            first = fd + 1;
        }
        // SAFETY: the range is behind the last that is kept; what owns one of the others is not used or dropped
        // any more, as is required.
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
    // SAFETY: what owns one of these descriptors is not used or dropped any more, as is required.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return Ok(());
    }
    // A kernel before 5.9, or a sandbox that does not know the call.
    for fd in numbers()?.into_iter().filter(|fd| (first..=last).contains(fd)) {
        // SAFETY: it is in the range, of which is required that what owns one is not used or dropped any more.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// The descriptors of this process, in no order, with the one that reads the list and is closed
/// again.
fn numbers() -> io::Result<Vec<RawFd>> {
    let refused = explain(format!("{LIST} can't be read"));
    let entries = std::fs::read_dir(LIST).map_err(refused)?;
    let number =
        |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(number).collect())
}

/// Makes `fd` the stderr of this process.
pub(crate) fn set_stderr(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(fd)?)
}
