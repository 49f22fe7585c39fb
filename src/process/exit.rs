//! The end of a process, as those see it who have spawned it.

use std::fmt;

use crate::local::start::zygote::Exit;
use crate::sys::{ExitStatus, Usage};

/// The end of a [`Process`](crate::Process), from [`join`](crate::Process::join).
///
/// It has either a [`code`](Self::code), if the process has exited, or a [`signal`](Self::signal), if that has
/// ended it; neither, if how it ended is not known: since it never started, or was lost with the process that
/// had started it.
///
/// The exit code is 0 if the function has returned a value, 101 if it has panicked, and 1 if there is no value
/// for another reason, as one that can't be encoded. A function that calls [`std::process::exit`] has the code
/// that it gives, and no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessExit {
    pid: Option<u32>,
    status: Option<ExitStatus>,
    stderr: String,
    usage: Option<Usage>,
}

impl ProcessExit {
    pub(super) fn new(pid: Option<u32>, exit: Option<&Exit>) -> Self {
        let Some(exit) = exit else { return Self { pid, ..Self::default() } };
        Self {
            pid: Some(exit.pid),
            status: Some(exit.status),
            stderr: String::from_utf8_lossy(&exit.stderr_tail).into_owned(),
            usage: Some(exit.usage),
        }
    }

    /// The number that the process had. `None` if it never started.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The exit code, if it has exited.
    pub fn code(&self) -> Option<i32> {
        match self.status {
            Some(ExitStatus::Code(code)) => Some(code),
            _ => None,
        }
    }

    /// The signal that has ended it, if one has.
    pub fn signal(&self) -> Option<i32> {
        match self.status {
            Some(ExitStatus::Signal(signal)) => Some(signal),
            _ => None,
        }
    }

    /// Returns whether the exit code is 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// The number that Python has as `exitcode`: the exit code, or the signal with a minus sign.
    ///
    /// ```
    /// use concurrent_futures::{Process, call};
    ///
    /// fn abort() {
    ///     std::process::abort();
    /// }
    ///
    /// let exit = Process::spawn(call!(abort())).join_blocking();
    /// assert_eq!((exit.signal(), exit.python_code()), (Some(6), Some(-6)));
    /// ```
    pub fn python_code(&self) -> Option<i32> {
        self.code().or(self.signal().map(|signal| -signal))
    }

    /// The last that it wrote to stderr, up to 4 KiB, if that was to be kept
    /// ([`WorkerStderr::Tail`](crate::WorkerStderr::Tail)).
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// The resources that it has used, if its end was reported.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

/// `process 4711 exited with exit code 0`.
impl fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.status) {
            (None, _) => f.write_str("the process never started"),
            (Some(pid), status) => write!(f, "process {pid} {}", ExitStatus::describe(status)),
        }
    }
}
