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
mod freezer;
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

/// Has a system call of this process, and of those that it forks, fail with `error` from now on; if there
/// is a limit, only where its first argument is at most that.
fn refuse_calls(call: libc::c_long, limit: Option<u32>, error: libc::c_int) {
    let step = |code: u32, skip_unless, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip_unless,
        k: value,
    };
    // Of an argument of 64 bits the lower half.
    let argument = if cfg!(target_endian = "little") { 16 } else { 20 };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 3, call as u32),
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, argument),
        // Skips the refusal if it is more.
        libc::sock_filter {
            jt: 1,
            ..step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, limit.unwrap_or(u32::MAX))
        },
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = program.as_mut_ptr();
    let program = libc::sock_fprog { len: program.len() as u16, filter };
    // SAFETY: the program is made of valid instructions, and read before the call returns.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (set, all_threads) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
        assert_eq!(libc::syscall(libc::SYS_seccomp, set, all_threads, &program), 0);
    }
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
