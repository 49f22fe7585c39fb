//! Which CPUs a measurement may use: those that the program that starts it may use, since
//! processes inherit that.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Holds this thread, and what it starts, on few CPUs until dropped.
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// The last `count` CPUs of those that are allowed: the first one has the most interrupts.
    pub(crate) fn to(count: usize) -> Self {
        let before = sched_getaffinity(None).expect("this thread's own affinity");
        set(&last(&before, count));
        Self { before }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        set(&self.before);
    }
}

/// One end of a connection stays on the first of the allowed CPUs, the other on the last.
pub(crate) struct Apart {
    last: CpuSet,
    _first: Pinned,
}

impl Apart {
    /// Holds this thread, and what it starts, on the first.
    pub(crate) fn first() -> Self {
        let before = sched_getaffinity(None).expect("this thread's own affinity");
        let mut first = CpuSet::new();
        allowed(&before).into_iter().take(1).for_each(|cpu| first.set(cpu));
        set(&first);
        Self { last: last(&before, 1), _first: Pinned { before } }
    }

    /// Moves the main thread of another process to the last.
    pub(crate) fn move_to_last(&self, pid: u32) {
        let pid = Pid::from_raw(pid.cast_signed());
        sched_setaffinity(pid, &self.last).expect("it is alive, and of this user");
    }
}

fn set(cpus: &CpuSet) {
    sched_setaffinity(None, cpus).expect("a part of what was allowed is allowed");
}

fn last(cpus: &CpuSet, count: usize) -> CpuSet {
    let mut last = CpuSet::new();
    for cpu in allowed(cpus).into_iter().rev().take(count) {
        last.set(cpu);
    }
    last
}

fn allowed(cpus: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU).filter(|&cpu| cpus.is_set(cpu)).collect()
}
