//! Hostile environments: limits, debuggers, loaders, terminals, missing devices, foreign privileges.
//!
//! A test sets the stage, most often in a shell that goes on as the test binary ([`on_stage`]), and
//! runs one of the tests again there as a program. Where the stage can't be set (a tool is missing,
//! the test does not run as root), the test prints why it was left out ([`left_out`]) and passes.

#![cfg(all(feature = "process", target_os = "linux"))]
#![allow(dead_code, reason = "modules shared with other test binaries, which use all of them")]

#[cfg(target_arch = "x86_64")]
mod counter;
mod file_size;
mod helper;
mod identity;
mod preloaded_library;
mod privileges;
#[path = "../crashes/program.rs"]
mod program;
mod shortage;
mod standard_streams;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
mod surroundings;
mod terminal;
mod threads;
#[path = "../processes/tools.rs"]
mod tools;
#[path = "../crashes/watch.rs"]
mod watch;

use std::process::Command;

use program::{Program, part, say};

/// A program that runs the test `name` after the shell commands `stage`.
fn on_stage(stage: &str, name: &str, role: &str) -> Program {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{stage}\nexec \"$0\" \"$@\""));
    shell.arg(std::env::current_exe().unwrap());
    Program::of(shell, name, role)
}

/// Says why a test does not run here.
fn left_out(why: &str) {
    println!("left out: {why}");
}

/// The stage is that of the program.
#[test]
fn the_program_runs_on_its_stage() {
    if part().is_some() {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Core).current;
        return say(&[limit.map_or(u32::MAX, |limit| limit as u32)]);
    }
    let mut program = on_stage("ulimit -c 0", "the_program_runs_on_its_stage", "on stage");
    assert_eq!(program.hear(), [0]);
    assert!(program.ended().success(), "{}", program.output());
}
