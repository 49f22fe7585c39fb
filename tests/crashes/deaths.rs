//! Ways to die.

use std::process;
use std::thread;

use concurrent_futures::WorkerLost;
use serde::{Deserialize, Serialize};

/// How a process ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Death {
    Exit(i32),
    Abort,
    Fault,
}

impl Death {
    pub(crate) const ALL: [Self; 4] = [Self::Exit(0), Self::Exit(3), Self::Abort, Self::Fault];

    pub(crate) fn die(self) -> ! {
        match self {
            Self::Exit(code) => process::exit(code),
            Self::Abort => process::abort(),
            Self::Fault => fault(),
        }
    }

    /// The exit code or the signal.
    pub(crate) fn status(self) -> (Option<i32>, Option<i32>) {
        match self {
            Self::Exit(code) => (Some(code), None),
            Self::Abort => (None, Some(libc::SIGABRT)),
            Self::Fault => (None, Some(libc::SIGSEGV)),
        }
    }
}

/// The exit code or the signal.
pub(crate) fn status(lost: &WorkerLost) -> (Option<i32>, Option<i32>) {
    (lost.exit_code, lost.signal)
}

pub(crate) fn fault() -> ! {
    // Not null, for which the compiler has a panic in store.
    let nowhere = std::hint::black_box(std::ptr::without_provenance_mut::<u64>(64));
    // SAFETY: it is not allowed, and that is what the test is about. The first page of memory is
    // never mapped, so what comes of it is a signal.
    unsafe { nowhere.write_volatile(1) };
    unreachable!("nothing is mapped there")
}

/// Waits for its end.
pub(crate) fn wait_to_be_killed() -> ! {
    loop {
        thread::park();
    }
}

// ---- Jobs ----

pub(crate) fn die(death: Death) -> u32 {
    death.die()
}

pub(crate) fn square(n: u64) -> u64 {
    n * n
}

/// Runs until it is killed.
pub(crate) fn spin(started: crate::tools::Reports) {
    started.add(process::id());
    loop {
        std::hint::spin_loop();
    }
}

/// Starts a process that outlives the task.
pub(crate) fn start_sleep() -> u32 {
    let sleep = process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = sleep.id();
    std::mem::forget(sleep);
    pid
}

/// Starts a process, reports it, and waits for it.
pub(crate) fn sleep_long(started: crate::tools::Reports) -> i32 {
    let mut sleep = process::Command::new("sleep").arg("1000").spawn().unwrap();
    started.add(sleep.id());
    sleep.wait().unwrap().code().unwrap_or(-1)
}
