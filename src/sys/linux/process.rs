//! Processes: this one, its children, and any other by its number.

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::zeroed;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::descriptors::above_standard;
use crate::sys::{ExitStatus, Signal, Usage};

/// Proof that this process had one thread at a check, and may be forked. Code that uses the proof has started
/// no thread since the check.
pub(crate) struct SingleThreaded(PhantomData<*const ()>);

impl SingleThreaded {
    /// `Err` tells how many threads there are.
    pub(crate) fn check() -> io::Result<Self> {
        // A thread whose end was waited for may still be on its way out.
        const LOOKS: u32 = 50;
        let mut threads = thread_count()?;
        for _ in 1..LOOKS {
            if threads == 1 {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
            threads = thread_count()?;
        }
        if threads != 1 {
            return Err(io::Error::other(format!("{threads} threads are running")));
        }
        Ok(Self(PhantomData))
    }

    /// Removes a variable from the environment.
    pub(crate) fn remove_variable(&self, name: &str) {
        // SAFETY: no other thread is there to read the environment.
        unsafe { std::env::remove_var(name) };
    }
}

fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// The name that tools show for this process. The kernel keeps 15 bytes of it.
pub(crate) fn set_name(name: &str) {
    let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = CString::new(name) {
        // It is of use to people only, so an error is none.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Children of children that have ended become children of this process.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Puts a child of this process into a process group of its own.
pub(crate) fn lead_group(pid: u32) {
    // An error means that the child has ended.
    let _ = pid_of(pid).map(|pid| rustix::process::setpgid(Some(pid), Some(pid)));
}

/// Kills all processes of the group that `pid` leads. While the leader is not reaped, the number
/// can't mean another group. An error means that none of those which are left may be killed.
pub(crate) fn kill_group(pid: u32) -> io::Result<()> {
    let Some(pid) = pid_of(pid) else { return Ok(()) };
    match rustix::process::kill_process_group(pid, rustix::process::Signal::KILL) {
        Err(Errno::SRCH) => Ok(()), // there is none left
        killed => Ok(killed?),
    }
}

/// Numbers that mean one process; 0 and 1 would make `kill` mean other things.
fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
}

/// Ends this process at once, without anything that is registered for the end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it runs no code of this process.
    unsafe { libc::_exit(code) }
}

/// A process, to be signalled without doubt about which one the number means.
pub(crate) struct PidFd {
    pid: u32,
    fd: Option<OwnedFd>,
}

impl PidFd {
    /// A process that can't have been reaped yet. Where the system has no such descriptors (before
    /// Linux 5.3, and in some sandboxes) its number has to do.
    pub(crate) fn open(pid: u32) -> Self {
        let open = |pid| {
            above_standard(|| rustix::process::pidfd_open(pid, PidfdFlags::empty()).map(|fd| [fd]))
        };
        let fd = pid_of(pid).and_then(|pid| open(pid).ok()).map(|[fd]| fd);
        Self { pid, fd }
    }

    /// A child that was not reaped.
    pub(crate) fn by_number(pid: u32) -> Self {
        Self { pid, fd: None }
    }

    /// As received from a process that has opened it.
    pub(crate) fn from_parts(pid: u32, fd: Option<OwnedFd>) -> Self {
        Self { pid, fd }
    }

    /// The parent of this process, if that still is `expected`.
    pub(crate) fn of_parent(expected: u32) -> Option<Self> {
        let parent = Self::open(expected);
        // Only now is it certain that the number has meant the parent.
        match parent_pid() {
            0 => Some(Self { pid: expected, fd: None }),
            number => (number == expected).then_some(parent),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Can be read, as a poller says, once the process has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Returns whether it could be signalled: it is there, if only to be reaped.
    #[cfg(test)]
    pub(crate) fn signal_nothing(&self) -> io::Result<()> {
        let pid = pid_of(self.pid).ok_or(Errno::SRCH)?;
        Ok(rustix::process::test_kill_process(pid)?)
    }

    /// Kills the group that the process leads, unless that was reaped: its number may be another group's
    /// then. An error means that none of those which are left may be killed.
    pub(crate) fn kill_group(&self) -> io::Result<()> {
        let kill = |fd| rustix::process::pidfd_send_signal(fd, rustix::process::Signal::KILL);
        match self.fd.as_ref().map(kill) {
            Some(Err(Errno::SRCH)) => Ok(()),
            _ => kill_group(self.pid),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        if let Some(fd) = &self.fd {
            match rustix::process::pidfd_send_signal(fd, signal) {
                // The descriptor came from a process that has such calls; this one, in a sandbox or
                // under a memory checker, has none.
                Err(Errno::NOSYS) => {}
                sent => return Ok(sent?),
            }
        }
        let pid = pid_of(self.pid).ok_or(Errno::SRCH)?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

/// The parent's number; 0 if that is in another namespace.
pub(crate) fn parent_pid() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// A child that has ended and is not reaped yet, or `None`.
pub(crate) fn ended_child() -> io::Result<Option<u32>> {
    match changed_child(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT) {
        Err(error) if is_no_child(&error) => Ok(None),
        ended => Ok(ended?.map(|ended| ended.pid)),
    }
}

/// Returns a child that a signal has stopped (`true`) or continued since its last such change was
/// returned, or `None`.
pub(crate) fn stopped_child() -> io::Result<Option<(u32, bool)>> {
    match changed_child(libc::P_ALL, 0, libc::WSTOPPED | libc::WCONTINUED) {
        Err(error) if is_no_child(&error) => Ok(None),
        changed => Ok(changed?.map(|changed| (changed.pid, changed.code == libc::CLD_STOPPED))),
    }
}

/// Returns whether this process has a child, be it one that has ended and is not reaped yet.
pub(crate) fn has_children() -> bool {
    let looked = changed_child(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT);
    !looked.is_err_and(|error| is_no_child(&error))
}

/// Returns whether a process is a child of this one, be it one that has ended and is not reaped yet.
pub(crate) fn is_child(pid: u32) -> io::Result<bool> {
    match changed_child(libc::P_PID, pid, libc::WEXITED | libc::WNOWAIT) {
        Err(error) if is_no_child(&error) => Ok(false),
        looked => looked.map(|_| true),
    }
}

/// Kills a process if it is a child of this one: then its number can't mean another process, as long
/// as nobody but the caller reaps children. `false`: it is none, or has other rights than this process.
pub(crate) fn kill_child(pid: u32) -> bool {
    let pid = pid_of(pid).filter(|_| is_child(pid).unwrap_or(false));
    let signal = rustix::process::Signal::KILL;
    pid.is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// The report of `waitid` on a child.
struct Changed {
    pid: u32,
    code: libc::c_int,
}

/// Looks for a child of this process, among all or the one with the number `id`, to which one of the
/// changes in `options` has happened. `ECHILD`: there is no such child.
fn changed_child(
    which: libc::idtype_t,
    id: u32,
    options: libc::c_int,
) -> io::Result<Option<Changed>> {
    // SAFETY: zeros are a value of this type, and the place is valid. It stays as it is if nothing has
    // changed, and describes the child otherwise.
    let (answer, pid, code) = unsafe {
        let mut changed: libc::siginfo_t = zeroed();
        let answer = libc::waitid(which, id, &mut changed, options | libc::WNOHANG);
        (answer, changed.si_pid(), changed.si_code)
    };
    if answer == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0).map(|pid| Changed { pid, code }))
}

fn is_no_child(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

/// Reaps a child that has ended. `WouldBlock`: it has not.
pub(crate) fn reap(pid: u32) -> io::Result<(ExitStatus, Usage)> {
    wait_for(pid, libc::WNOHANG)
}

/// Waits for the end of a child, and reaps it.
pub(crate) fn wait(pid: u32) -> io::Result<ExitStatus> {
    loop {
        match wait_for(pid, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            reaped => return reaped.map(|(status, _)| status),
        }
    }
}

fn wait_for(pid: u32, options: libc::c_int) -> io::Result<(ExitStatus, Usage)> {
    let pid = pid_of(pid).ok_or(Errno::CHILD)?;
    let mut status = 0;
    // SAFETY: zeros are a value of this type, and both places are valid.
    let (reaped, usage) = unsafe {
        let mut usage: libc::rusage = zeroed();
        let pid = pid.as_raw_nonzero().get();
        (libc::wait4(pid, &mut status, options, &mut usage), usage)
    };
    match reaped {
        -1 => return Err(io::Error::last_os_error()),
        0 => return Err(io::ErrorKind::WouldBlock.into()),
        _ => {}
    }
    let status = if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let kilobytes = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    let cpu_time = time(usage.ru_utime) + time(usage.ru_stime);
    Ok((status, Usage { cpu_time, peak_memory: kilobytes * 1024 }))
}

/// Private memory of a process, in bytes: neither files nor what it shares by mappings.
#[derive(Clone, Copy, Default)]
pub(crate) struct PrivateMemory {
    /// In RAM or swapped out.
    pub(crate) used: u64,
    /// Address space that can be written to (what `RLIMIT_DATA` counts).
    pub(crate) reserved: u64,
}

/// Returns the private memory of a process; `None` if there is none with that number. An error means
/// that this process may not look: the other one may have other rights, and `/proc` hide it (`hidepid`).
pub(crate) fn private_memory(pid: u32) -> io::Result<Option<PrivateMemory>> {
    let status = match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Err(_) if !is_there(pid) => return Ok(None),
        status => status?,
    };
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    };
    let (used, reserved) = (bytes("RssAnon:") + bytes("VmSwap:"), bytes("VmData:"));
    Ok(Some(PrivateMemory { used, reserved }))
}

/// Returns whether there is such a process, be it one that has ended and is not reaped yet.
fn is_there(pid: u32) -> bool {
    pid_of(pid).is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// Returns what a live process has used so far, without waiting for it. `None`: there is none with that
/// number, or it has ended.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.split_whitespace().next()?.parse().ok()?;
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock = 0;
    // SAFETY: the place is valid, and the function accepts any number of a process.
    if unsafe { libc::clock_getcpuclockid(pid, &mut clock) } != 0 {
        return None;
    }
    // SAFETY: zeros are a value of this type, and the place is valid; a clock whose process has ended
    // meanwhile is an error.
    let time = unsafe {
        let mut time: libc::timespec = zeroed();
        (libc::clock_gettime(clock, &mut time) == 0).then_some(time)?
    };
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    Some(Usage { cpu_time: Duration::new(seconds, nanos), peak_memory: kilobytes * 1024 })
}

/// Returns whether a freezer has frozen the control group of a process. `false` where groups are not
/// mounted at their usual place.
pub(crate) fn is_frozen(pid: u32) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| {
        // The number of a hierarchy, its controllers, the group. Version 2 names no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return false };
        let has = |hierarchy: &str, file: &str, text: &str| {
            let path = format!("/sys/fs/cgroup{hierarchy}{group}/{file}");
            std::fs::read_to_string(path).is_ok_and(|state| state.contains(text))
        };
        match controllers {
            "" => ["", "/unified"].iter().any(|at| has(at, "cgroup.events", "frozen 1")),
            "freezer" => has("/freezer", "freezer.state", "FROZEN"),
            _ => false,
        }
    })
}

/// The time on a clock that is the same for all processes.
pub(crate) fn monotonic_now() -> Duration {
    // By the C library: rustix finds the kernel's clock by itself, in memory that a memory checker
    // hides from the program, which dies of the search.
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid for the call. The clock is always there, and if it were not, the time
    // would stay as it is.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    // It begins with the machine, so it is not negative.
    let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or_default());
    seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or_default())
}

/// Returns the kernel's count of processes killed for want of memory, on the whole machine. `None` if it
/// does not tell.
pub(crate) fn out_of_memory_kills() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/vmstat").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

/// Returns the machine's memory, in bytes. If that can't be learned, it is without bound.
pub(crate) fn memory_size() -> u64 {
    // SAFETY: these calls only read.
    let (pages, size) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    match (u64::try_from(pages), u64::try_from(size)) {
        (Ok(pages), Ok(size)) => pages.saturating_mul(size),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Leads a group, and ends with its stdin.
    fn leader() -> Child {
        Command::new("cat").process_group(0).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_group_is_killed_unless_its_leader_was_reaped() {
        let mut reaped = leader();
        let PidFd { fd, .. } = PidFd::open(reaped.id());
        let has_such_descriptors = fd.is_some();
        drop(reaped.stdin.take());
        reaped.wait().unwrap();
        let mut other = leader();
        if has_such_descriptors {
            // As if the number was used again.
            PidFd::from_parts(other.id(), fd).kill_group().unwrap();
        }
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());

        let mut leader = leader();
        PidFd::open(leader.id()).kill_group().unwrap();
        assert!(!leader.wait().unwrap().success());
    }
}
