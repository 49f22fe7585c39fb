//! Families: a worker, what its tasks have started, and what that has started in turn.
//!
//! A process leaves its group and its session with `setsid`, and its parent by outliving it. It keeps
//! its limits: they are copied by `fork` and survive `exec`. So each worker has a random number as its
//! soft limit on file locks (`RLIMIT_LOCKS`). No kernel since Linux 2.4.25 applies that limit to
//! anything, and `/proc` shows it of every process.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys::Signal;
use crate::sys::process::{self, PidFd};

/// The number of a family: a mark that no limit set by a person has, a part that is common to a worker
/// and the families within its own, those of the workers of pools that its tasks make, and a part of
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family(pub(crate) u64);

const MARK: u64 = 1 << 62;

/// Number of bits that are a family's own. The other 39 random ones are common to nested families.
const OWN_BITS: u32 = 23;

impl Family {
    /// A number that no other family has, in whatever program. Not from a generator in memory, which
    /// a fork of this process would have as well.
    ///
    /// Two families within one may have the same number by a very rare chance. Then what one of their
    /// workers leaves behind may live as long as the other.
    pub(crate) fn new() -> io::Result<Self> {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        let random = u64::from_ne_bytes(bytes) % MARK;
        Ok(Self(match Self::own() {
            None => MARK | random,
            Some(outer) => (outer.outermost() << OWN_BITS) | (random % (1 << OWN_BITS)),
        }))
    }

    /// The part that the family has in common with those within it, and with the outermost that it is in.
    fn outermost(self) -> u64 {
        self.0 >> OWN_BITS
    }

    fn from_limit(limit: u64) -> Option<Self> {
        (limit & MARK != 0 && limit < 2 * MARK).then_some(Self(limit))
    }

    /// Makes this process the first of the family. Where the limit may not be set, since a hard limit
    /// is below, the family is not known by its number.
    pub(crate) fn begin(self) {
        // The hard limit stays as it is, so that a family within this one can set its number.
        let maximum = getrlimit(Resource::Locks).maximum;
        let _ = setrlimit(Resource::Locks, Rlimit { current: Some(self.0), maximum });
    }

    /// The family that this process is in.
    pub(crate) fn own() -> Option<Self> {
        getrlimit(Resource::Locks).current.and_then(Self::from_limit)
    }

    /// The family of a process, if it is in one.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        // From `/proc`, which shows the limits of any process; `prlimit` needs the rights of its
        // user.
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
        limit.split_whitespace().next()?.parse().ok().and_then(Self::from_limit)
    }
}

/// Lists the children of this process, with those that it has adopted from parents that ended. It
/// must have one thread, as the kernel lists the children of a thread. Some may be missing if
/// others end meanwhile.
pub(crate) fn children() -> Vec<u32> {
    match fs::read_to_string("/proc/thread-self/children") {
        Ok(children) => children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel that was built without that file.
        Err(_) => {
            processes().into_iter().filter(|pid| process::is_child(*pid).unwrap_or(false)).collect()
        }
    }
}

/// Kills all processes of these families, whoever their parents are. Those of the families within them
/// as well, unless this process is in a family itself: then they have become children of the helper
/// to which that belongs, or will. The error is of one that this process may not kill, as it is another user's.
pub(crate) fn kill_families(families: &[Family]) -> io::Result<()> {
    /// Maximum number of searches: while one process is killed, another may start a third.
    const ROUNDS: usize = 20;
    let is_outermost = Family::own().is_none();
    let is_within = |family: Family, dead: &Family| match is_outermost {
        true => family.outermost() == dead.outermost(),
        false => family == *dead,
    };
    let is_in = |pid: u32| {
        Family::of(pid).is_some_and(|family| families.iter().any(|dead| is_within(family, dead)))
    };
    let (mut killed, mut refused) = (BTreeSet::new(), Ok(()));
    for _ in 0..ROUNDS {
        let before = killed.len();
        // A killed process is listed until its parent reaps it.
        let others =
            processes().into_iter().filter(|pid| !killed.contains(pid)).collect::<Vec<_>>();
        for pid in others.into_iter().filter(|pid| is_in(*pid)) {
            // The number may mean another process by now, so the family is looked up again. If that
            // process ends too, the signal to its descriptor fails. Without pidfds nothing is
            // killed.
            let held = PidFd::open(pid);
            if held.fd().is_none() || !is_in(pid) {
                continue;
            }
            match held.signal(Signal::Kill) {
                Ok(()) => drop(killed.insert(pid)),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => refused = Err(error),
                Err(_ended) => {}
            }
        }
        if killed.len() == before {
            break;
        }
    }
    refused
}

/// The numbers of all processes.
fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}
