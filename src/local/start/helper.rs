//! The program, started once more. In the pool's process, but for [`take_control`] and [`ignore_sigpipe`],
//! which the zygote calls.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::function::{self, EXECUTED, ProgramFile};
use crate::sys::attributes::Attributes;
use crate::sys::process::{self, PidFd};
use crate::sys::spawn::Spawn;
use crate::sys::{self, ExitStatus, Signal, control, descriptors, explain, signals};

/// Longest time that a helper may take to end by itself: longer than a zygote waits for the
/// processes that it kills.
const PATIENCE: Duration = Duration::from_secs(3);

/// A process that runs the same program as this one, and is to end when the other end of its stdin is
/// closed.
pub(crate) struct Helper {
    process: PidFd,
    is_reaped: bool,
    /// A fork of this process has a copy of this, but not the child.
    owner: u32,
}

impl Helper {
    /// Starts it with this stdin. Its process group is its own: signals of the terminal are for this
    /// process alone.
    pub(crate) fn start(stdin: BorrowedFd<'_>, given: &Surroundings) -> io::Result<Self> {
        refuse_two_users()?;
        let [stdout, stderr] = &given.output;
        let spawn = Spawn {
            program: &given.program,
            arguments: &given.arguments,
            environment: &given.environment,
            directory: given.directory.as_ref().map(AsFd::as_fd),
            standard: [stdin, stdout.as_fd(), stderr.as_fd()],
        };
        let pid =
            spawn.start().map_err(explain("the process that starts workers can't be started"))?;
        let process = PidFd::open(pid);
        Ok(Self { process, is_reaped: false, owner: std::process::id() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for its end, which is about to come, and hastens it by SIGKILL after a while. `None`: how
    /// it ended is not known.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        if std::mem::replace(&mut self.is_reaped, true) {
            return None; // the number may mean another process by now
        }
        let pid = self.process.pid();
        if let Some(fd) = self.process.fd() {
            let limit = Timespec::try_from(PATIENCE).ok();
            let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            let _ = retry_on_intr(|| poll(&mut watched, limit.as_ref()));
        }
        let start = Instant::now();
        loop {
            match process::reap(pid) {
                Ok((status, _)) => return Some(status),
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return None; // someone else has reaped it, or nobody needs to
                }
                // Without a descriptor there is nothing to wait with, so the end is polled for.
                Err(_still_there) if self.process.fd().is_none() && start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(_still_there) => {
                    // If it may not be killed, nobody knows how long that would take. If it has been on
                    // its way out, on a machine with much else to do, it has a status of its own.
                    self.process.signal(Signal::Kill).ok()?;
                    return process::wait(pid).ok();
                }
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            self.end();
        }
    }
}

/// Everything that a helper has of this process, as it was at one moment: a helper that takes the place
/// of a dead one has the same, whatever the program has changed since.
pub(crate) struct Surroundings {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    /// `None`: it can't be opened, and is what it is by then.
    directory: Option<OwnedFd>,
    /// Stdout and stderr.
    output: [OwnedFd; 2],
    pub(crate) attributes: Attributes,
}

impl Surroundings {
    /// Takes those of this process, with variables set and removed, and with `directory` if there is
    /// one.
    pub(crate) fn take(
        variables: &[(OsString, Option<OsString>)],
        directory: Option<&Path>,
    ) -> io::Result<Self> {
        let (program, arguments) = command()?;
        let is_kept = |name: &OsString| variables.iter().all(|(other, _)| other != name);
        let mut environment: Vec<_> =
            std::env::vars_os().filter(|(name, _)| is_kept(name)).collect();
        for (at, (name, value)) in variables.iter().enumerate() {
            // Of settings of one variable the last one counts.
            let is_last = variables[at + 1..].iter().all(|(other, _)| other != name);
            if let (Some(value), true) = (value, is_last) {
                environment.push((name.clone(), value.clone()));
            }
        }
        let directory = match directory {
            Some(path) => {
                let refused = format!("the directory {} can't be opened", path.display());
                Some(descriptors::open_directory(path).map_err(explain(refused))?)
            }
            None => descriptors::open_directory(Path::new(".")).ok(),
        };
        let output = [rustix::stdio::stdout(), rustix::stdio::stderr()];
        let [stdout, stderr] = output.map(descriptors::duplicate_output);
        let output = [stdout?, stderr?];
        let attributes = Attributes::current();
        Ok(Self { program, arguments, environment, directory, output, attributes })
    }
}

/// Returns the file to execute in order to start this program once more, and the arguments, which are
/// those of this process.
fn command() -> io::Result<(PathBuf, Vec<OsString>)> {
    let all: Vec<OsString> = std::env::args_os().collect();
    let arguments = all.get(1..).unwrap_or_default();
    let (file, mut line) = match function::program_file()? {
        ProgramFile::ByLoader(path) => {
            let mut line = loader_and_options(arguments)?;
            line.push(path.into());
            (EXECUTED.into(), line)
        }
        ProgramFile::At(path) => (path, all.first().cloned().into_iter().collect()),
        ProgramFile::Executed => (EXECUTED.into(), all.first().cloned().into_iter().collect()),
    };
    line.extend(arguments.iter().cloned());
    Ok((file, line))
}

/// Returns what the command line has before the program's path and its `arguments`. The loader keeps
/// it from the program.
fn loader_and_options(arguments: &[OsString]) -> io::Result<Vec<OsString>> {
    let line = std::fs::read("/proc/self/cmdline")?;
    let words = line.split_inclusive(|byte| *byte == 0);
    let words = words.map(|word| OsStr::from_bytes(word.strip_suffix(&[0]).unwrap_or(word)));
    let mut words: Vec<OsString> = words.map(OsStr::to_owned).collect();
    // At least two words come before the arguments: the loader's path and the program's.
    if !words.ends_with(arguments) || words.len() < arguments.len() + 2 {
        return Err(io::Error::other(
            "the command line of this process was overwritten, so the options of the dynamic loader that has started it are lost; start the program directly",
        ));
    }
    words.truncate(words.len() - arguments.len() - 1);
    Ok(words)
}

/// Checks that a helper can be started. The error says what to do.
pub(crate) fn can_start() -> io::Result<()> {
    if has_raised_privileges() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a program that runs with more privileges than who has started it (set-user-ID, file capabilities) can't have worker processes; use ThreadPoolExecutor there",
        ));
    }
    sys::shared_memory_length()?;
    rustix::fs::readlink(EXECUTED, Vec::new()).map(drop).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(
            error.kind(),
            format!("worker processes need {EXECUTED}, which can't be read: {error}; mount /proc"),
        )
    })
}

/// Refuses to start a helper while the effective user or group is not the real one: the program,
/// executed by this process, would count as one with raised privileges.
fn refuse_two_users() -> io::Result<()> {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    if getuid() == geteuid() && getgid() == getegid() {
        return Ok(());
    }
    Err(io::Error::new(
        ErrorKind::Unsupported,
        "worker processes can't be started by a process whose effective user or group is not its real one (seteuid); create the pool before, or change both",
    ))
}

/// Returns whether this program has more privileges than the process that has executed it. It could
/// not tell that process, which gives it environment and stdin, from a pool of its own; and a
/// zygote calls whatever it is told to.
fn has_raised_privileges() -> bool {
    // SAFETY: it reads what the kernel has told this process at its start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Takes the control socket from stdin, in a helper, before anything else. `None` if there is none,
/// and nothing was changed. The terminal does not stop this process from then on. With an error,
/// the control socket still is stdin.
///
/// What is open or ignored in this process besides was made so by libraries and constructors, for
/// nothing of that kind was inherited.
pub(crate) fn take_control() -> io::Result<Option<OwnedFd>> {
    if has_raised_privileges() || !control::is_control(rustix::stdio::stdin()) {
        return Ok(None);
    }
    // This process and its workers are process groups in the background of the program's terminal.
    signals::ignore_job_control();
    // What else is open is this process's own: it was started with its standard streams alone.
    descriptors::take_stdin().map(Some)
}

/// Ignores SIGPIPE, as std does before `main`, which has not run here: writing to a closed pipe
/// gets an error.
pub(crate) fn ignore_sigpipe() {
    signals::ignore_sigpipe();
}
