//! Steps of a process by which others see what it does, and at each of which it may be killed. Tests look at what is
//! left then. In any process.

#[cfg(test)]
pub(super) use self::kept::journal_of;
#[cfg(all(test, target_os = "linux", not(miri)))]
pub(super) use self::killed::{part, was_killed};

use std::sync::atomic::{AtomicU64, Ordering};

/// Stores to a word.
#[inline]
pub(super) fn store(word: &AtomicU64, value: u64, order: Ordering) {
    #[cfg(test)]
    kept::note(word, value);
    step();
    word.store(value, order);
}

/// Comes before a step that is no store.
#[inline]
pub(super) fn step() {
    #[cfg(all(test, target_os = "linux", not(miri)))]
    killed::step();
}

#[cfg(test)]
mod kept {
    use std::cell::RefCell;

    use super::*;

    /// The stores of an operation in their order: the address of the word, and the value.
    type Journal = Vec<(usize, u64)>;

    thread_local! {
        static JOURNAL: RefCell<Option<Journal>> = const { RefCell::new(None) };
    }

    /// Notes a store, if this thread keeps a journal.
    pub(super) fn note(word: &AtomicU64, value: u64) {
        JOURNAL.with_borrow_mut(|journal| {
            journal.iter_mut().for_each(|kept| kept.push((std::ptr::from_ref(word).addr(), value)));
        });
    }

    pub(in crate::ipc) fn journal_of(operation: impl FnOnce()) -> Journal {
        JOURNAL.set(Some(Vec::new()));
        operation();
        JOURNAL.take().unwrap()
    }
}

/// Processes that are killed at a step.
#[cfg(all(test, target_os = "linux", not(miri)))]
mod killed {
    use std::cell::Cell;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use rustix::process::{Signal, getpid, kill_process};

    use crate::codec::handle::Descriptor;

    const PART: &str = "CF_TEST_KILLED";

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(super) fn step() {
        match LEFT.get() {
            Some(0) => kill_process(getpid(), Signal::KILL).unwrap(),
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }

    /// Runs the calling test again, as a process that has the memory and a part, and that is killed before its step of
    /// this number. Returns whether it was; otherwise it has done its part.
    pub(in crate::ipc) fn was_killed(memory: &Descriptor, part: &str, step: usize) -> bool {
        // It is closed by `exec`; its duplicate is not.
        let duplicate = rustix::io::dup(memory.as_fd()).unwrap();
        let name = std::thread::current().name().unwrap().to_owned();
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", &name]).stdout(Stdio::null());
        let program = program.env(PART, format!("{} {part} {step}", duplicate.as_raw_fd()));
        let status = program.status().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        !status.success()
    }

    /// In that process: the memory, the part, and a function to call before the part is done.
    pub(in crate::ipc) fn part() -> Option<(Descriptor, String, impl FnOnce())> {
        let all = std::env::var(PART).ok()?;
        let mut words = all.split(' ');
        let fd: RawFd = words.next()?.parse().unwrap();
        let part = words.next()?.to_owned();
        let step = words.next()?.parse().unwrap();
        // The test has left that open for this process; this is another one for the same file.
        let path = format!("/proc/self/fd/{fd}");
        let memory = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let memory = std::os::fd::OwnedFd::from(memory);
        Some((Descriptor::new(memory.into()), part, move || LEFT.set(Some(step))))
    }
}
