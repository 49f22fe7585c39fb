//! Calls of the operating system as safe functions. In any process; none of them takes a lock of this crate.
//!
//! * [`socket`]: a stream to another process; [`Poller`]: waiting for many of them;
//! * [`SharedMemory`]: memory that two processes share; [`WritableMemory`], [`SealedMemory`]: large arrays that any
//!   number of them do; [`memory`]: large blocks of this process's own;
//! * [`process`]: process numbers, signals, ends of children; [`spawn`]: starting a program;
//! * [`descriptors`], [`signals`], [`attributes`]: what a process has and leaves to its children.
//!
//! Linux has all of it. Elsewhere, `unsupported` has what code for all systems names, and answers that
//! it is not there yet.

pub(crate) mod atomic_word;
pub(crate) mod memory;

#[cfg(all(target_os = "linux", not(no_process_pool)))]
mod linux;
#[cfg(not(all(target_os = "linux", not(no_process_pool))))]
mod unsupported;

#[cfg(all(target_os = "linux", not(no_process_pool)))]
pub(crate) use linux::*;
#[cfg(not(all(target_os = "linux", not(no_process_pool))))]
pub(crate) use unsupported::*;

use std::fmt::Display;
use std::io;
use std::time::Duration;

use crate::error::HowEnded;

/// Puts in front of the system's reason what it has refused. For `map_err`.
pub(crate) fn explain<E: Into<io::Error>>(what: impl Display) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

/// The size of the area behind the value in [`SharedMemory`], in bytes, unless the system allows less.
pub(crate) const AREA: usize = 256 * 1024;

/// The most chunks of a [`ChunkMemory`]: the nodes of their locks are before these, at a distance.
pub(crate) const MOST_CHUNKS: usize = 128 * 1024;

/// The most descriptors that go with one byte through a socket (`SCM_MAX_FD` on Linux).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// A signal to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// To end. It may handle that, or take no notice.
    Terminate,
    /// It ends at once.
    Kill,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// SIGABRT, by which a program ends that gives up, for example for want of memory.
    pub(crate) const ABORTED: Self = Self::Signal(6);
    /// SIGKILL. These numbers are the same on all systems.
    pub(crate) const KILLED: Self = Self::Signal(9);

    /// In words; of `None` it is not known how the process ended.
    pub(crate) fn describe(status: Option<Self>) -> HowEnded {
        let (signal, exit_code) = match status {
            Some(Self::Signal(signal)) => (Some(signal), None),
            Some(Self::Code(code)) => (None, Some(code)),
            None => (None, None),
        };
        HowEnded { signal, exit_code }
    }
}

/// The resources that a process has used. From [`ProcessExit::usage`](crate::ProcessExit::usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The CPU time of all its threads, and of the children that it has reaped.
    pub cpu_time: Duration,
    /// The most memory that it held at a time, in bytes.
    pub peak_memory: u64,
}
