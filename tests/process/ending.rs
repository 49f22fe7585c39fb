//! Ends of processes: by themselves, by their owner, with the program.

use std::process::{self, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, LossCause, Process, WorkerStderr, call};
use rustix::process::Signal;

use crate::program::{Program, part, say, wait_for_go};
use crate::support::{on_runtimes, within_limit};
use crate::tools::{
    Gate, Reports, SHORT, assert_cancelled, hold, lost, own_pid, parent_of, until_ended,
};
use crate::watch::{Watched, assert_ended_soon, assert_is_gone_soon, signal};
use crate::{alone, assert_exit, is_listed};

fn endless(started: Reports) {
    started.add(process::id());
    loop {
        thread::park();
    }
}

/// Starts it, and waits until the function runs.
fn begun() -> (Process<()>, u32) {
    let started = Reports::new();
    let process = Process::spawn(call!(endless(started.clone())));
    let pid = started.wait_for(1)[0];
    (process, pid)
}

/// PR-4. Asked again, it ends no more.
#[test]
fn a_terminated_process_ends_by_its_signal() {
    on_runtimes(|| async {
        let (mut process, pid) = begun();
        process.terminate();
        process.terminate();
        let exit = process.join().await;
        assert_exit(&exit, None, Some(15));
        assert_eq!(exit.pid(), Some(pid));
        process.terminate();
        process.kill();
        let lost = lost((&mut process).await);
        assert_eq!((lost.pid, lost.signal, lost.exit_code), (pid, Some(15), None));
        assert_eq!(process.join().await, exit);
    });
}

/// PR-5. With it goes what it has started.
#[test]
fn a_killed_process_is_gone_with_what_it_has_started() {
    fn with_child(started: Reports) {
        started.add(Command::new("sleep").arg("1000").spawn().unwrap().id());
        endless(started);
    }
    within_limit(|| {
        let started = Reports::new();
        let process = Process::spawn(call!(with_child(started.clone())));
        let watched = Watched::all(&started.wait_for(2));
        process.kill();
        process.kill();
        assert_exit(&process.join_blocking(), None, Some(9));
        assert_ended_soon(&watched);
        let lost = lost(process.result());
        assert_eq!(lost.signal, Some(9));
        assert!(lost.cause.is_none_or(|cause| !matches!(cause, LossCause::OutOfMemory)));
    });
}

#[test]
fn a_process_may_take_no_notice_of_being_asked() {
    fn ignores(started: Reports, gate: Gate) -> u32 {
        // SAFETY: no handler is installed, and the process has one thread.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        hold(started, gate, 8)
    }
    within_limit(|| {
        let (started, gate) = (Reports::new(), Gate::new());
        let process = Process::spawn(call!(ignores(started.clone(), gate.clone())));
        started.wait_for(1);
        process.terminate();
        gate.open();
        assert_exit(&process.join_blocking(), Some(0), None);
        assert_eq!(process.result().unwrap(), 8);
    });
}

/// PR-6.
#[test]
fn a_process_is_listed_until_its_end() {
    on_runtimes(|| async {
        let (process, pid) = begun();
        let running = Process::running();
        let listed = running.iter().find(|running| running.pid() == Some(pid)).unwrap();
        assert_eq!(listed.name(), process.name());
        drop(process); // it runs on
        listed.kill();
        assert_exit(&listed.join().await, None, Some(9));
        assert!(!is_listed(pid));
    });
}

/// PR-9.
#[test]
fn a_dropped_process_runs_on_unless_it_is_to_be_killed() {
    within_limit(|| {
        let (started, gate) = (Reports::new(), Gate::new());
        let process = Process::spawn(call!(hold(started.clone(), gate.clone(), 0)));
        let handle = process.handle();
        drop(process);
        let pid = started.wait_for(1)[0];
        assert!(handle.is_running() && is_listed(pid));
        gate.open();
        assert_exit(&handle.join_blocking(), Some(0), None);

        for as_task in [false, true] {
            let (process, _) = begun();
            let handle = process.handle();
            let process = process.kill_on_drop();
            if as_task {
                drop(process.into_task());
            } else {
                drop(process);
            }
            assert_exit(&handle.join_blocking(), None, Some(9));
        }
        // One that has a value is left alone.
        let mut process = Process::spawn(call!(own_pid())).kill_on_drop();
        futures::executor::block_on(&mut process).unwrap();
        let handle = process.handle();
        drop(process);
        assert_exit(&handle.join_blocking(), Some(0), None);
    });
}

/// PR-10.
#[test]
fn twenty_at_once_are_joined_and_twenty_are_terminated() {
    within_limit(|| {
        let (started, gate) = (Reports::new(), Gate::new());
        let spawn = |n| Process::spawn(call!(hold(started.clone(), gate.clone(), n)));
        let processes: Vec<_> = (0..20).map(spawn).collect();
        started.wait_for(20);
        gate.open();
        for (n, process) in (0..).zip(processes) {
            assert_exit(&process.join_blocking(), Some(0), None);
            assert_eq!(process.result().unwrap(), n);
        }
        let started = Reports::new();
        let spawn = |_| Process::spawn(call!(endless(started.clone())));
        let processes: Vec<_> = (0..20).map(spawn).collect();
        started.wait_for(20);
        processes.iter().for_each(Process::terminate);
        for process in processes {
            assert_exit(&process.join_blocking(), None, Some(15));
        }
    });
}

/// PR-13.
#[test]
fn what_the_function_leaves_running_ends_with_it() {
    fn leaves() -> u32 {
        thread::spawn(|| {
            loop {
                thread::park();
            }
        });
        Command::new("sleep").arg("1000").spawn().unwrap().id()
    }
    within_limit(|| {
        let process = Process::spawn(call!(leaves()));
        assert_exit(&process.join_blocking(), Some(0), None);
        assert_is_gone_soon(process.result().unwrap());
    });
}

/// PR-14.
#[test]
fn the_last_of_stderr_is_in_the_exit_and_in_the_error() {
    fn complain() {
        eprint!("{}\nlast words", "x".repeat(5000));
        process::exit(3);
    }
    within_limit(|| {
        let process = Process::builder().stderr(WorkerStderr::Tail).spawn(call!(complain()));
        let exit = process.join_blocking();
        assert_exit(&exit, Some(3), None);
        assert!(exit.stderr().ends_with("x\nlast words") && exit.stderr().len() == 4096);
        assert_eq!(lost(process.result()).stderr, exit.stderr());
    });
}

/// PR-15, PR-20.
#[test]
fn exit_codes_are_those_of_the_end() {
    fn exit(code: i32) {
        process::exit(code);
    }
    fn abort() {
        process::abort();
    }
    within_limit(|| {
        for code in [0, 1, 42, 255] {
            let process = Process::spawn(call!(exit(code)));
            assert_exit(&process.join_blocking(), Some(code), None);
            let lost = lost(process.result());
            assert_eq!((lost.exit_code, lost.signal), (Some(code), None));
        }
        let process = Process::spawn(call!(abort()));
        assert_exit(&process.join_blocking(), None, Some(6));
        assert_eq!(lost(process.result()).signal, Some(6));
    });
}

/// PR-16. Neither at the end of `main` nor when the program is killed.
#[test]
fn no_process_outlives_the_program() {
    let name = "ending::no_process_outlives_the_program";
    if let Some(part) = part() {
        let (process, pid) = begun();
        let private = Process::builder().env("A", "1").spawn(call!(own_pid()));
        private.join_blocking();
        say(&[pid, parent_of(pid).unwrap()]);
        wait_for_go();
        if part == "drops" {
            drop(process);
        }
        process::exit(0);
    }
    for (part, is_killed) in [("ends", false), ("drops", false), ("ends", true)] {
        let mut program = Program::start(name, part);
        let watched = Watched::all(&program.hear());
        if is_killed {
            program.kill();
        } else {
            program.go();
        }
        program.ended();
        assert_ended_soon(&watched);
    }
}

/// PR-19.
#[test]
fn several_threads_join_the_same_process() {
    within_limit(|| {
        let (process, _) = begun();
        let process = &process;
        thread::scope(|scope| {
            let (sender, joined) = mpsc::channel();
            for _ in 0..4 {
                let sender = sender.clone();
                scope.spawn(move || sender.send(process.join_blocking()).unwrap());
            }
            assert!(process.join_timeout(SHORT).is_none());
            process.kill();
            for _ in 0..4 {
                assert_exit(&joined.recv().unwrap(), None, Some(9));
            }
            let exit = process.join_timeout(Duration::ZERO);
            assert_exit(&exit.unwrap(), None, Some(9));
        });
    });
}

/// However its end is asked for.
#[test]
fn a_process_that_is_ended_before_it_has_started_never_begins() {
    alone("ending::a_process_that_is_ended_before_it_has_started_never_begins", || {
        let (first, pid) = begun();
        let zygote = parent_of(pid).unwrap();
        type End = fn(&Process<()>);
        let ends: [(End, i32); 3] = [
            (Process::terminate, 15),
            (Process::kill, 9),
            (
                |process| {
                    process.terminate();
                    process.kill();
                },
                9,
            ),
        ];
        for (end, expected) in ends {
            let begun = Reports::new();
            signal(zygote, Signal::STOP);
            let process = Process::spawn(call!(endless(begun.clone())));
            end(&process);
            signal(zygote, Signal::CONT);
            assert_exit(&process.join_blocking(), None, Some(expected));
            assert_eq!(lost(process.result()).signal, Some(expected));
            assert_eq!(begun.get(), []);
        }
        let begun = Reports::new();
        signal(zygote, Signal::STOP);
        let process = Process::spawn(call!(endless(begun.clone())));
        let handle = process.handle();
        let task = process.into_task();
        assert!(task.cancel() && task.is_cancelled());
        signal(zygote, Signal::CONT);
        assert_exit(&handle.join_blocking(), None, Some(9));
        assert_cancelled(&task.result());
        assert_eq!(begun.get(), []);
        first.kill();
        first.join_blocking();
    });
}

#[test]
fn a_process_that_takes_no_notice_and_was_ended_before_it_has_started_does_not_begin() {
    fn ignore(gate: Gate) {
        // SAFETY: no handler is installed, and the process has one thread.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        gate.wait();
    }
    within_limit(|| {
        let (begun, gate) = (Reports::new(), Gate::new());
        let builder = Process::builder().preload(call!(ignore(gate.clone())));
        let process = builder.spawn(call!(endless(begun.clone())));
        process.terminate();
        gate.open();
        assert_exit(&process.join_blocking(), Some(1), None);
        assert_eq!(lost(process.result()).exit_code, Some(1));
        assert_eq!(begun.get(), []);
    });
}

#[test]
fn a_process_that_closes_its_socket_and_lives_on_is_ended() {
    fn closes_all() {
        for fd in 3..64 {
            // SAFETY: whoever owns one of them finds it closed; that is what this is about.
            unsafe { libc::close(fd) };
        }
        loop {
            thread::park();
        }
    }
    within_limit(|| {
        let process = Process::spawn(call!(closes_all()));
        assert_exit(&process.join_blocking(), None, Some(9));
        assert!(lost(process.result()).cause.is_some());
    });
}

#[test]
fn a_signal_of_another_ends_it_as_well() {
    within_limit(|| {
        let (process, pid) = begun();
        signal(pid, Signal::INT);
        until_ended(pid);
        assert_exit(&process.join_blocking(), None, Some(2));
        assert!(matches!(process.result(), Err(Error::WorkerLost(_))));
    });
}
