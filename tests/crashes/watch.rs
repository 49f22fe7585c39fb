//! Whether processes have ended, and what this one has open.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::tools::parent_of;

/// So long processes may live on when they have lost what they live for: as long as the helper waits
/// at its end for those that it has killed, some two seconds. It takes a thousandth of that; but it is
/// counted in looks, each a millisecond later than the last one, for on a machine with much else to do
/// the processes are held up as the test is.
const LOOKS: u32 = 2_000;

const LOOK: Duration = Duration::from_millis(1);

/// Nothing that goes by itself takes this long.
const HANG: Duration = Duration::from_secs(10);

/// A process, known by more than its number, which could come to mean another one.
pub(crate) struct Watched {
    pid: u32,
    process: OwnedFd,
}

impl Watched {
    /// `None`: it has ended and was reaped.
    pub(crate) fn new(pid: u32) -> Option<Self> {
        let process = rustix::process::pidfd_open(number(pid), PidfdFlags::empty()).ok()?;
        Some(Self { pid, process })
    }

    /// Processes that are there.
    #[track_caller]
    pub(crate) fn all(pids: &[u32]) -> Vec<Self> {
        let watched: Vec<Self> = pids.iter().filter_map(|pid| Self::new(*pid)).collect();
        assert!(watched.len() == pids.len() && !pids.is_empty(), "not all of {pids:?} are there");
        assert!(watched.iter().all(Self::is_alive), "not all of {pids:?} are alive");
        watched
    }

    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        let limit = Timespec::try_from(limit).unwrap();
        loop {
            match poll(&mut ended, Some(&limit)) {
                Err(Errno::INTR) => {}
                ready => return ready.unwrap() > 0,
            }
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    /// Whether it has been killed, or is about to end, and only waits for a processor to do it on.
    fn is_killed(&self) -> bool {
        const KILL: u64 = 1 << 8;
        let stat = stat_of(self.pid);
        let Some((_, fields)) = stat.rsplit_once(')') else { return false };
        let field = |n: usize| fields.split_whitespace().nth(n)?.parse::<u64>().ok();
        is_exiting(&stat) || field(28).is_some_and(|signals| signals & KILL != 0)
    }
}

/// Whether a process or thread with this `stat` is on its way out.
fn is_exiting(stat: &str) -> bool {
    const EXITING: u64 = 1 << 2 | 1 << 10; // the kernel's `PF_EXITING`, and before that `PF_SIGNALED`
    let flags = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(6));
    flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & EXITING != 0)
}

/// They all end, and at once.
#[track_caller]
pub(crate) fn assert_ended_soon(all: &[Watched]) {
    let goes_on = |process: &&Watched| process.is_alive() && !process.is_killed();
    for _ in 0..LOOKS {
        match all.iter().find(goes_on) {
            Some(process) => process.ends_within(LOOK),
            None => break,
        };
    }
    let is_left = |process: &&Watched| goes_on(process) || !process.ends_within(HANG);
    let left: Vec<String> = all.iter().filter(is_left).map(|it| stat_of(it.pid)).collect();
    assert!(left.is_empty(), "still there: {left:?}");
}

#[track_caller]
pub(crate) fn assert_is_gone_soon(pid: u32) {
    if let Some(process) = Watched::new(pid) {
        assert_ended_soon(&[process]);
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    rustix::process::kill_process(number(pid), signal).unwrap();
}

pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn number(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap()
}

fn stat_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

// ---- This process ----

/// What the children of this process leave behind becomes its own children.
pub(crate) fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

/// The living children of this process.
pub(crate) fn children() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| parent_of(*pid) == Some(process::id());
    pids.filter(is_child).filter(|pid| Watched::new(*pid).is_some_and(|it| it.is_alive())).collect()
}

/// Neither a child is left nor, after [`adopt_orphans`], a child of one.
#[track_caller]
pub(crate) fn assert_no_child_left() {
    let left: Vec<Watched> = children().into_iter().filter_map(Watched::new).collect();
    // What was killed as the last may be on its way.
    assert_ended_soon(&left);
    let end = loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(end, Err(Errno::CHILD)), "{:?}", children());
}

/// What this process has: descriptors, threads by their names, and memory shared with workers.
///
/// Without the thread that keeps time limits, which waits a little for the next one before it ends,
/// and without threads that were joined, which are listed a moment longer than they live.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Belongings {
    descriptors: BTreeSet<String>,
    threads: Vec<String>,
    pages: usize,
}

impl Belongings {
    pub(crate) fn now() -> Self {
        let descriptors = descriptors();
        let mut threads: Vec<String> = fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|thread| {
                let path = thread.ok()?.path();
                let is_exiting = is_exiting(&fs::read_to_string(path.join("stat")).ok()?);
                fs::read_to_string(path.join("comm")).ok().filter(|_| !is_exiting)
            })
            .filter(|name| name != "cf-timer\n")
            .collect();
        threads.sort();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let pages = maps.lines().filter(|line| line.contains("memfd:")).count();
        Self { descriptors, threads, pages }
    }

    /// Nothing has come to it since, but for what goes by itself soon.
    #[track_caller]
    pub(crate) fn assert_unchanged(&self) {
        let start = Instant::now();
        // A pool that was dropped ends by itself, and a thread is listed a moment longer than it lives.
        while Self::now() != *self && start.elapsed() < HANG {
            thread::sleep(LOOK);
        }
        assert_eq!(Self::now(), *self);
    }
}

/// Each with what it is.
pub(crate) fn descriptors() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            // That which reads the list is closed by now or the list itself.
            let target = fs::read_link(&path).ok()?;
            let is_list = target.starts_with("/proc") && target.ends_with("fd");
            let number = path.file_name()?.to_str()?.to_owned();
            (!is_list).then(|| format!("{number} -> {}", target.display()))
        })
        .collect()
}
