//! Attributes that a process leaves to those that it starts, besides its environment, directory and
//! descriptors.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const LIMITED: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// The value of a limit that is not set.
const UNLIMITED: u64 = u64::MAX;

/// A process's attributes, to be set in another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// `None`: the system does not tell (before Linux 4.7).
    pub(crate) umask: Option<u32>,
    /// The niceness, from -20 to 19.
    pub(crate) nice: i32,
    /// The CPUs that it may use, by number; none if the system does not tell.
    pub(crate) cpus: Vec<u32>,
    /// The soft and the hard one of each of [`LIMITED`].
    pub(crate) limits: [[u64; 2]; LIMITED.len()],
}

impl Attributes {
    /// Limits none of which is set.
    pub(crate) const NO_LIMITS: [[u64; 2]; LIMITED.len()] = [[UNLIMITED; 2]; LIMITED.len()];

    /// Those of this process. Niceness and CPUs are those of this thread, as for a process that it
    /// would start.
    pub(crate) fn current() -> Self {
        Self { umask: umask(), nice: nice(), cpus: cpus(), limits: LIMITED.map(limit) }
    }

    /// Sets them in this process, as far as it may do that: a hard limit that was lowered since then,
    /// for example, stays so.
    pub(crate) fn apply(&self) {
        if let Some(umask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(umask));
        }
        if self.nice != nice() {
            let _ = setpriority_process(None, self.nice);
        }
        if self.cpus != cpus() && !self.cpus.is_empty() {
            let mut set = CpuSet::new();
            self.cpus.iter().for_each(|cpu| set.set(*cpu as usize));
            let _ = sched_setaffinity(None, &set);
        }
        for (resource, to) in LIMITED.into_iter().zip(self.limits) {
            let before = limit(resource);
            if to != before {
                let most = to[1].min(before[1]);
                let _ = set_limit(resource, to)
                    .or_else(|_| set_limit(resource, [to[0].min(most), most]));
            }
        }
    }
}

fn nice() -> i32 {
    getpriority_process(None).unwrap_or(0)
}

fn cpus() -> Vec<u32> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect()
}

fn limit(resource: Resource) -> [u64; 2] {
    let limit = getrlimit(resource);
    [limit.current, limit.maximum].map(|limit| limit.unwrap_or(UNLIMITED))
}

fn set_limit(resource: Resource, limit: [u64; 2]) -> Result<(), Errno> {
    let [current, maximum] = limit.map(|limit| Some(limit).filter(|limit| *limit != UNLIMITED));
    setrlimit(resource, Rlimit { current, maximum })
}

/// Reads the umask; the system call of that name would change it.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(umask.trim(), 8).ok()
}
