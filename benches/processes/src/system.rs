//! What the measurements ask of the system about other processes, through `/proc` and signals.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A limit against hangs: the signal of the alarm ends the process. Children don't inherit it.
pub(crate) fn end_after_a_minute() {
    // SAFETY: it only sets a timer of this process.
    unsafe { libc::alarm(60) };
}

/// Sends SIGKILL. A process that has ended meanwhile is no error.
pub(crate) fn kill(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The processes that this one has started, in any thread.
pub(crate) fn children() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.expect("the process is alive");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    parent.expect("every process has a parent")
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Of a process, in MB.
pub(crate) struct Memory {
    /// Its own pages, and its share of those that it shares with others.
    pub(crate) proportional: f64,
    /// Pages that no other process has.
    pub(crate) private: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let rollup = rollup.expect("the process is alive, and of this user");
        let megabytes = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            kibibytes.map_or(f64::NAN, |kibibytes: f64| kibibytes * 1024.0 / 1e6)
        };
        Self {
            proportional: megabytes("Pss"),
            private: megabytes("Private_Clean") + megabytes("Private_Dirty"),
        }
    }
}
