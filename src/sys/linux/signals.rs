//! Signals of this process: back to what they were by default, ignored, blocked, or read from a descriptor.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

use libc::{c_int, sigaction, sigset_t};

use super::descriptors::above_standard;

/// The highest number of a signal on Linux (`_NSIG` on all but MIPS, which has 127).
const LAST: c_int = 64;

/// Undoes what outlives `exec`: ignored signals, and the mask. Can be called between `fork` and `exec`.
pub(crate) fn forget() -> io::Result<()> {
    for signal in 1..=LAST {
        // SAFETY: zeros are a value of this type, the pointers are to valid places, and the default
        // action needs no code of ours. Signals that can't be looked at give an error.
        unsafe {
            let mut action: sigaction = zeroed();
            let is_known = libc::sigaction(signal, null_mut(), &mut action) == 0;
            if is_known && action.sa_sigaction == libc::SIG_IGN {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &action, null_mut());
            }
        }
    }
    unblock_all()
}

/// Ignores SIGPIPE, as std does before `main`, so that writing to a closed pipe returns an error.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: ignoring needs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Ignores the signals of job control, in this process and in those that it forks.
///
/// By default a terminal stops a process group in its background for a read, for a change of the
/// terminal's settings and, with `stty tostop`, for a write. With the signals ignored, writes and
/// settings work, and a read fails with EIO.
pub(crate) fn ignore_job_control() {
    for signal in [libc::SIGTTOU, libc::SIGTTIN, libc::SIGTSTP] {
        // SAFETY: ignoring needs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// No signal is blocked from here on.
pub(crate) fn unblock_all() -> io::Result<()> {
    // SAFETY: `sigemptyset` makes the set valid.
    unsafe {
        let mut none = MaybeUninit::<sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        set_mask(none.as_ptr())
    }
}

/// This thread handles no signal from here on.
pub(crate) fn block_all() -> io::Result<()> {
    // SAFETY: `sigfillset` makes the set valid.
    unsafe {
        let mut all = MaybeUninit::<sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        set_mask(all.as_ptr())
    }
}

/// Tells of children that have ended.
pub(crate) struct ChildSignals(OwnedFd);

impl ChildSignals {
    /// From here on this process is told of its children, and blocks whatever signal can be blocked.
    pub(crate) fn instead_of_all_others() -> io::Result<Self> {
        // SAFETY: the two calls make the sets valid, and the default needs no code of ours.
        let child = unsafe {
            let (mut all, mut child) = (MaybeUninit::uninit(), MaybeUninit::<sigset_t>::uninit());
            // Where it is ignored, nobody is left to be reaped.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            libc::sigfillset(all.as_mut_ptr());
            set_mask(all.as_ptr())?;
            libc::sigemptyset(child.as_mut_ptr());
            libc::sigaddset(child.as_mut_ptr(), libc::SIGCHLD);
            child
        };
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is valid. The descriptor that comes is nobody's.
        let open = || unsafe {
            match libc::signalfd(-1, child.as_ptr(), flags) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok([OwnedFd::from_raw_fd(fd)]),
            }
        };
        above_standard(open).map(|[fd]| Self(fd))
    }

    /// Takes note of what was told; the children that it was about are to be asked for.
    pub(crate) fn clear(&self) {
        let mut told = [0; 8 * size_of::<libc::signalfd_siginfo>()];
        while rustix::io::read(&self.0, &mut told).is_ok() {}
    }
}

impl AsFd for ChildSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// # Safety
///
/// The set is valid.
unsafe fn set_mask(set: *const sigset_t) -> io::Result<()> {
    // SAFETY: the set is valid, as is required; null stands for an earlier mask that is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}
