//! The process that forks the workers, and is their parent.
//!
//! The pool's process has threads, so it can't be forked. It starts the same program once more, which
//! becomes the zygote before `main` (see [`start`](crate::local::start)): a process with one thread, small, and
//! with the same functions at the same places. A worker is a fork of it, made in a fifth of a
//! millisecond.
//!
//! The zygote reaps the workers and reports how they ended. It kills what a dead worker leaves behind:
//! its process group, and what else belongs to its [`Family`]. When its parent dies or closes the
//! control socket, it kills all workers and all that they have started, and ends; and when it dies
//! itself, the kernel kills the workers, and the pool their families.
//!
//! * here: the pool's side, [`Zygote`], and what it is told;
//! * [`message`]: what goes over the control socket;
//! * [`preload`]: the call that it makes first;
//! * [`process`]: the zygote itself; [`stderr`]: the stderr of workers that it passes on.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(all(target_os = "linux", not(no_process_pool)))]
#[allow(unsafe_code)]
pub(crate) mod fork;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
mod handle;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
mod message;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
mod preload;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
pub(crate) mod process;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
mod stderr;

use crate::local::family::Family;
use crate::remote::frame::Content;
use crate::sys::{ExitStatus, PidFd, Usage};

#[cfg(all(target_os = "linux", not(no_process_pool)))]
pub(crate) use handle::{Launch, Zygote};

#[cfg(not(all(target_os = "linux", not(no_process_pool))))]
pub(crate) use super::unsupported::{Launch, Zygote};

/// The destination of what workers, or a process, write to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerStderr {
    /// To that of this process.
    #[default]
    Inherit,
    /// To that of this process, through a helper that keeps the last 4 KiB for
    /// [`WorkerLost`](crate::WorkerLost) and [`ProcessExit`](crate::ProcessExit).
    Tail,
}

/// Settings of a zygote and its workers.
#[derive(Clone, Default)]
pub(crate) struct ZygoteSettings {
    /// Variables of the environment to set, and to remove.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) current_dir: Option<PathBuf>,
    /// A call that the zygote makes once: what it has loaded, all workers have. As
    /// [`pack_outside`](crate::remote::call::pack_outside) has packed it.
    pub(crate) preload: Option<Arc<Content>>,
}

impl ZygoteSettings {
    /// Returns whether a zygote without settings serves as well.
    pub(crate) fn is_default(&self) -> bool {
        self.env.is_empty() && self.current_dir.is_none() && self.preload.is_none()
    }
}

/// Settings of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerSettings {
    /// The owner's number for it, by which it is reported.
    pub(crate) number: u32,
    /// Its place in the pool. `None`: it belongs to no pool, and ends with the one call that it makes.
    pub(crate) index: Option<u32>,
    /// The name of the pool, or of the process.
    pub(crate) pool: String,
    /// The worker and all that its tasks start.
    pub(crate) family: Family,
    /// The most private memory that it is to use, in bytes.
    pub(crate) memory_limit: Option<u64>,
    /// Set to keep the last of its stderr for [`Exit::stderr_tail`].
    pub(crate) keep_stderr: bool,
}

/// A report of a zygote.
pub(crate) enum Notice {
    /// It can fork.
    Ready,
    /// It can't serve, for the reason given, and ends.
    Refused(String),
    /// A worker was forked, and will be reported as exited. The worker sends this itself, before
    /// any task.
    Spawned {
        number: u32,
        pid: u32,
        pidfd: PidFd,
    },
    SpawnFailed {
        number: u32,
        error: io::Error,
    },
    /// A worker was to be killed, and may not be.
    KillFailed {
        number: u32,
        error: io::Error,
    },
    /// A signal has stopped a worker, or continued it.
    Stopped {
        number: u32,
        is_stopped: bool,
    },
    Exited(Exit),
}

/// The end of a worker. Its process group was killed by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) number: u32,
    pub(crate) pid: u32,
    pub(crate) status: ExitStatus,
    pub(crate) usage: Usage,
    /// Set if it was killed, and the kernel has killed some process for want of memory since the
    /// last time that a worker was killed. Unless the pool has killed it, that was probably the
    /// reason.
    pub(crate) out_of_memory: bool,
    /// The last that it wrote to stderr, up to 4 KiB, if that was to be kept.
    pub(crate) stderr_tail: Vec<u8>,
}
