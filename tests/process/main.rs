//! `Process`: one call in a process of its own. The ids are those of `docs/behaviours.md`.

#![cfg(all(feature = "process", target_os = "linux"))]
#![allow(dead_code, reason = "modules shared with other test binaries, which use all of them")]

mod ending;
mod nested;
#[path = "../crashes/program.rs"]
mod program;
mod settings;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
#[path = "../processes/tools.rs"]
mod tools;
mod values;
#[path = "../crashes/watch.rs"]
mod watch;
mod zygote;

use concurrent_futures::{Process, ProcessExit};

use crate::program::{Program, part, say};

/// Runs `test` as a program of its own, whose processes no other test has a part in.
#[track_caller]
fn alone(name: &str, test: impl FnOnce()) {
    if part().is_some() {
        test();
        say(&[0]);
        return;
    }
    let mut program = Program::start(name, "alone");
    let said = program.hear();
    let status = program.ended();
    assert!(status.success() && said == [0], "{status}\n{}", program.output());
}

#[track_caller]
fn assert_exit(exit: &ProcessExit, code: Option<i32>, signal: Option<i32>) {
    assert_eq!((exit.code(), exit.signal()), (code, signal), "{exit}");
    assert_eq!(exit.python_code(), code.or(signal.map(|signal| -signal)));
    assert_eq!(exit.success(), code == Some(0));
    assert!(exit.pid().is_some() && exit.usage().is_some_and(|usage| usage.peak_memory > 0));
}

fn is_listed(pid: u32) -> bool {
    Process::running().iter().any(|running| running.pid() == Some(pid))
}
