//! The process that the others are forked from, and what many of these leave.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Process, call};

use crate::support::{scaled, within_limit};
use crate::tools::{lost, own_pid, parent_of, until_ended};
use crate::watch::{Watched, assert_ended_soon, assert_is_gone_soon, kill};
use crate::{alone, assert_exit};

fn endless() {
    loop {
        thread::park();
    }
}

/// PR-12.
#[test]
fn a_process_has_no_descriptors_of_others() {
    fn descriptors() -> Vec<String> {
        crate::watch::descriptors().into_iter().map(|it| kind(&it)).collect()
    }
    /// Without the number of what it is.
    fn kind(descriptor: &str) -> String {
        descriptor.split(['[', '(']).next().unwrap().to_owned()
    }
    within_limit(|| {
        let first = Process::spawn(call!(descriptors())).result().unwrap();
        let others: Vec<_> = (0..5).map(|_| Process::spawn(call!(endless()))).collect();
        let last = Process::spawn(call!(descriptors())).result().unwrap();
        assert_eq!(first, last);
        others.into_iter().for_each(|process| {
            process.kill();
            process.join_blocking();
        });
    });
}

/// The descriptors, and the mappings that are shared with processes. Threads are counted apart: how many read
/// depends on how long they are held up.
fn belongings() -> (BTreeSet<String>, usize) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    (crate::watch::descriptors(), maps.lines().filter(|line| line.contains("memfd:")).count())
}

/// A helper ends a moment after its process.
#[track_caller]
fn assert_unchanged(before: &(BTreeSet<String>, usize)) {
    let start = Instant::now();
    while belongings() != *before && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(belongings(), *before);
    let threads = fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 10, "{threads} threads");
}

#[test]
fn thousands_one_after_the_other_leave_nothing() {
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/statm").unwrap();
        4096 * status.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    }
    alone("zygote::thousands_one_after_the_other_leave_nothing", || {
        let run = |count| {
            for n in 0..count {
                let process = Process::spawn(call!(own_pid()));
                let exit = process.join_blocking();
                assert_eq!(process.result().unwrap(), exit.pid().unwrap(), "of process {n}");
            }
        };
        run(scaled(500));
        let (before, memory) = (belongings(), resident());
        run(scaled(2000));
        assert_unchanged(&before);
        let grown = resident().saturating_sub(memory);
        assert!(grown < 2 << 20, "{grown} bytes more");
        assert!(Process::running().is_empty());
    });
}

#[test]
fn thousands_with_a_helper_of_their_own_leave_nothing_either() {
    alone("zygote::thousands_with_a_helper_of_their_own_leave_nothing_either", || {
        // So that there is a thread that reads before and after.
        Process::spawn(call!(own_pid())).join_blocking();
        let before = belongings();
        for _ in 0..scaled(200) {
            let process = Process::builder().env("A", "1").spawn(call!(own_pid()));
            process.join_blocking();
            process.result().unwrap();
        }
        assert_unchanged(&before);
    });
}

#[test]
fn the_death_of_the_helper_ends_its_processes_and_the_next_one_has_another() {
    alone(
        "zygote::the_death_of_the_helper_ends_its_processes_and_the_next_one_has_another",
        || {
            for _ in 0..5 {
                let processes = [(); 3].map(|()| Process::spawn(call!(endless())));
                let pids = processes
                    .each_ref()
                    .map(|process| futures::executor::block_on(process.started()).unwrap());
                let watched = Watched::all(&pids);
                let zygote = parent_of(pids[0]).unwrap();
                kill(zygote);
                until_ended(zygote);
                // Asked for before its death was seen, or after that: the next one has another helper.
                let next = Process::spawn(call!(own_pid()));
                for (process, pid) in processes.into_iter().zip(pids) {
                    let exit = process.join_blocking();
                    assert_eq!((exit.pid(), exit.code(), exit.signal()), (Some(pid), None, None));
                    let lost = lost(process.result());
                    assert!(lost.cause.unwrap().to_string().contains("SIGKILL"));
                }
                assert_ended_soon(&watched);
                assert_is_gone_soon(zygote);
                assert_exit(&next.join_blocking(), Some(0), None);
                next.result().unwrap();
            }
        },
    );
}
