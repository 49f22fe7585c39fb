//! The program, started once more.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::process::PidFd;
use super::{control, descriptors, signals};
use crate::function::{self, EXECUTED, ProgramFile};
use crate::process_pool::sys::{ExitStatus, Signal, explain};

/// How long a helper may take to end by itself.
const PATIENCE: Duration = Duration::from_millis(500);

/// A process that runs the same program as this one, and is to end when the other end of its stdin is
/// closed.
pub(crate) struct Helper {
    child: Child,
    process: PidFd,
    /// A fork of this process has a copy of this, but not the child.
    owner: u32,
}

impl Helper {
    /// Starts it with the arguments of this process, `stdin`, and with variables set and removed. Its
    /// process group is its own: signals of the terminal are for this process alone.
    pub(crate) fn start(
        stdin: OwnedFd,
        variables: &[(OsString, Option<OsString>)],
        current_dir: Option<&Path>,
    ) -> io::Result<Self> {
        // Without code to run after a fork, so that the standard library spawns it without a copy of
        // this process's memory map.
        let mut command = command()?;
        command.stdin(Stdio::from(stdin)).process_group(0);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(path) = current_dir {
            command.current_dir(path);
        }
        let place = current_dir.map(|path| format!(" in {}", path.display())).unwrap_or_default();
        let refused = format!("the process that starts workers can't be started{place}");
        let child = command.spawn().map_err(explain(refused))?;
        let process = PidFd::open(child.id());
        Ok(Self { child, process, owner: std::process::id() })
    }

    #[cfg(test)]
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for its end, which is about to come, and hastens it after a while. `None`: how it would
    /// have ended by itself is not known.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        let ended = match self.process.fd() {
            Some(fd) => {
                let limit = Timespec::try_from(PATIENCE).ok();
                let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
                retry_on_intr(|| poll(&mut watched, limit.as_ref())).is_ok_and(|ready| ready > 0)
            }
            None => {
                let start = Instant::now();
                // An error: someone else has reaped it, or nobody needs to.
                while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(1));
                }
                !matches!(self.child.try_wait(), Ok(None))
            }
        };
        if !ended {
            let _ = self.process.signal(Signal::Kill);
        }
        // An error: someone else has reaped it.
        let status = self.child.wait().ok().filter(|_| ended)?;
        let signal = status.signal().map(ExitStatus::Signal);
        signal.or(status.code().map(ExitStatus::Code))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            self.end();
        }
    }
}

/// Returns the command that starts this program once more, with the arguments of this process.
fn command() -> io::Result<Command> {
    let all: Vec<OsString> = std::env::args_os().collect();
    let arguments = all.get(1..).unwrap_or_default();
    let mut command = match function::program_file()? {
        ProgramFile::ByLoader(path) => {
            let mut before = loader_and_options(arguments)?.into_iter();
            let mut command = Command::new(EXECUTED);
            before.next().map(|loader| command.arg0(loader));
            command.args(before).arg(path);
            command
        }
        file => {
            let at = if let ProgramFile::At(path) = file { path } else { EXECUTED.into() };
            let mut command = Command::new(at);
            all.first().map(|name| command.arg0(name));
            command
        }
    };
    command.args(arguments);
    Ok(command)
}

/// Returns what the command line has before the program's path and its `arguments`. The loader keeps
/// it from the program.
fn loader_and_options(arguments: &[OsString]) -> io::Result<Vec<OsString>> {
    let line = std::fs::read("/proc/self/cmdline")?;
    let words = line.split_inclusive(|byte| *byte == 0);
    let words = words.map(|word| OsStr::from_bytes(word.strip_suffix(&[0]).unwrap_or(word)));
    let mut words: Vec<OsString> = words.map(OsStr::to_owned).collect();
    if !words.ends_with(arguments) || words.len() < arguments.len() + 2 {
        return Err(io::Error::other(
            "the command line of this process was overwritten, so the options of the dynamic loader that has started it are lost; start the program directly",
        ));
    }
    words.truncate(words.len() - arguments.len() - 1);
    Ok(words)
}

/// Whether a helper can be started. The error says what to do.
pub(crate) fn can_start() -> io::Result<()> {
    if has_raised_privileges() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a program that runs with more privileges than who has started it (set-user-ID, file capabilities) can't have worker processes; use ThreadPoolExecutor there",
        ));
    }
    rustix::fs::readlink(EXECUTED, Vec::new()).map(drop).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(
            error.kind(),
            format!("worker processes need {EXECUTED}, which can't be read: {error}; mount /proc"),
        )
    })
}

/// Such a program can't tell a pool of its own from whoever has started it, by the environment and the
/// stdin that it was given; and what a zygote is told to call, it calls.
fn has_raised_privileges() -> bool {
    // SAFETY: it reads what the kernel has told this process at its start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// In a helper, before anything else: takes the control socket from stdin. `None` if there is none,
/// and nothing was changed. What the process has inherited besides the environment is gone then:
/// descriptors, ignored signals. The terminal does not stop it from then on. With an error, the
/// control socket still is stdin.
pub(crate) fn take_control() -> io::Result<Option<OwnedFd>> {
    if has_raised_privileges() || !control::is_control(rustix::stdio::stdin()) {
        return Ok(None);
    }
    signals::forget_inherited().map_err(explain("its signals can't be set up"))?;
    signals::ignore_job_control();
    let control = descriptors::take_stdin()?;
    Ok(Some(control))
}

/// What the runtime of Rust does before `main`, and has not done here: who writes to what nobody reads
/// gets an error.
pub(crate) fn ignore_sigpipe() {
    signals::ignore_sigpipe();
}
