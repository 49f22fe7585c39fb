//! What a pool takes of the system, that it gives all of it back, and what happens when there is no
//! more to be had.

use std::process::Command;
use std::time::Duration;

use concurrent_futures::{Error, ProcessPoolExecutor, Shutdown, WorkerStderr, call};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::deaths::{Death, die, square};
use crate::program::{Program, alone, part, say};
use crate::tools::{Gate, builder, end, lost, occupy, own_pid, pool};
use crate::watch::{Belongings, assert_no_child_left, descriptors};

/// Nothing here takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(30);

#[test]
fn nothing_is_left_of_fifty_pools() {
    alone("resources::nothing_is_left_of_fifty_pools", || {
        // What stays, such as memory of the codec, comes with the first.
        use_a_pool(0);
        let before = Belongings::now();
        for n in 1..=50 {
            use_a_pool(n);
            // Threads and processes are waited for by the shutdown.
            before.assert_unchanged();
        }
        assert_no_child_left();
    });
}

fn use_a_pool(n: u64) {
    let stderr = if n % 2 == 0 { WorkerStderr::Inherit } else { WorkerStderr::Tail };
    let pool = builder(2).stderr(stderr).build().unwrap();
    let futures: Vec<_> = (0..20).map(|n| pool.submit(call!(square(n)))).collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.result().unwrap(), n * n);
    }
    drop(lost(pool.submit(call!(die(Death::Exit(1)))).result()));
    let squares = pool.map(square, 0..100).result().unwrap();
    assert_eq!(squares[99], 99 * 99);
    match n % 5 {
        0 => drop(pool.shutdown_blocking(Shutdown::Drain).unwrap()),
        1 => {
            let gate = Gate::new();
            let held = occupy(&pool, &gate);
            pool.kill_workers().result().unwrap();
            drop(lost(held.result()));
        }
        2 => drop(pool.terminate_workers(HANG).result().unwrap()),
        // Without any task but the last one's.
        3 => drop(pool.shutdown_blocking(Shutdown::CancelQueued).unwrap()),
        _ => end(&pool),
    }
}

/// A pool that was not shut down but dropped ends by itself.
#[test]
fn nothing_is_left_of_a_pool_that_is_dropped() {
    alone("resources::nothing_is_left_of_a_pool_that_is_dropped", || {
        use_a_pool(0);
        let before = Belongings::now();
        for size in [1, 4] {
            let pool = pool(size);
            assert_eq!(pool.submit(call!(square(7))).result().unwrap(), 49);
            drop(pool);
            before.assert_unchanged();
            drop(crate::tools::pool(size)); // without a task
            before.assert_unchanged();
        }
        assert_no_child_left();
    });
}

// ---- Descriptors ----

fn limit_descriptors(to: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(to), maximum }).unwrap();
}

/// Numbers below this are all taken.
fn lowest_free() -> u64 {
    let taken = descriptors();
    (0..).find(|n| !taken.iter().any(|it| it.starts_with(&format!("{n} ->")))).unwrap()
}

/// What the errors say then.
const NO_DESCRIPTORS: &str =
    if cfg!(target_env = "musl") { "No file descriptors" } else { "open files" };

/// What a pool does without what it needs: there is a value, or an error that says what the matter is.
#[track_caller]
fn works_or_says_why(pool: &ProcessPoolExecutor, why: &str) -> bool {
    let mut future = pool.submit(call!(square(7)));
    match future.result_timeout(HANG).unwrap() {
        Ok(value) => {
            assert_eq!(value, 49);
            true
        }
        Err(Error::BrokenPool(cause)) => {
            assert!(cause.cause().to_string().contains(why), "{cause:?}");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_pool_without_descriptors_works_or_says_why() {
    alone("resources::a_pool_without_descriptors_works_or_says_why", || {
        use_a_pool(0);
        let before = Belongings::now();
        let usual = getrlimit(Resource::Nofile).current.unwrap();
        let free = lowest_free();
        let (mut made, mut worked) = (0, 0);
        for more in 0..30 {
            limit_descriptors(free + more);
            match builder(1).build() {
                Ok(pool) => {
                    made += 1;
                    worked += u32::from(works_or_says_why(&pool, NO_DESCRIPTORS));
                    limit_descriptors(usual); // or nobody could look at what is left
                    end(&pool);
                }
                Err(Error::BrokenPool(cause)) => {
                    limit_descriptors(usual);
                    assert!(cause.cause().to_string().contains(NO_DESCRIPTORS), "{cause:?}");
                }
                Err(other) => panic!("{other}"),
            }
            before.assert_unchanged();
            assert_no_child_left();
            use_a_pool(0);
        }
        assert!(made < 30 && worked < made && worked > 5, "{made} {worked}");
    });
}

/// A pool that has workers goes on with them.
#[test]
fn a_pool_that_can_start_no_more_workers_goes_on_with_those_it_has() {
    alone("resources::a_pool_that_can_start_no_more_workers_goes_on_with_those_it_has", || {
        let usual = getrlimit(Resource::Nofile).current.unwrap();
        let pool = pool(4);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        limit_descriptors(lowest_free());
        let waiting: Vec<_> = (0..20).map(|n| pool.submit(call!(square(n)))).collect();
        assert!(waiting.iter().all(|future| !future.is_done()));
        limit_descriptors(usual);
        gate.open();
        let worker = held.result().unwrap();
        for (n, future) in (0..).zip(waiting) {
            assert_eq!(future.result().unwrap(), n * n);
        }

        // Its death makes room for another one.
        let before = getrlimit(Resource::Nofile).current.unwrap();
        limit_descriptors(lowest_free());
        crate::watch::kill(worker);
        works_or_says_why(&pool, NO_DESCRIPTORS);
        limit_descriptors(before);
        end(&pool);
    });
}

// ---- Processes and threads ----

#[test]
fn a_pool_without_processes_works_or_says_why() {
    // The limit is one on all processes and threads of a user, and none for the superuser.
    if part().is_none() && !rustix::process::getuid().is_root() {
        return println!("not tested: it takes root to become a user without other processes");
    }
    alone("resources::a_pool_without_processes_works_or_says_why", || {
        use_a_pool(0);
        let nobody = 100_000 + std::process::id();
        // SAFETY: it changes nothing but the process's rights.
        assert_eq!(unsafe { libc::setresuid(nobody, nobody, nobody) }, 0);
        let before = Belongings::now();
        let maximum = getrlimit(Resource::Nproc).maximum;
        let limit = |to| setrlimit(Resource::Nproc, Rlimit { current: to, maximum }).unwrap();
        let (mut made, mut worked) = (0, 0);
        for most in 1..20 {
            limit(Some(most));
            match builder(1).build() {
                Ok(pool) => {
                    made += 1;
                    worked += u32::from(works_or_says_why(&pool, NO_PROCESSES));
                    end(&pool);
                }
                Err(Error::BrokenPool(cause)) => {
                    assert!(cause.cause().to_string().contains(NO_PROCESSES), "{cause:?}");
                }
                Err(other) => panic!("{other}"),
            }
            limit(maximum);
            before.assert_unchanged();
            assert_no_child_left();
        }
        assert!(made < 19 && worked <= made && worked > 5, "{made} {worked}");
    });
}

const NO_PROCESSES: &str = "temporarily unavailable";

// ---- Without /proc ----

/// In a mount namespace of its own, in which something else is mounted there.
#[test]
fn without_proc_there_is_no_pool_and_the_error_says_so() {
    const NAME: &str = "resources::without_proc_there_is_no_pool_and_the_error_says_so";
    if part().is_some() {
        if std::fs::exists("/proc/self").unwrap() {
            return say(&[2]);
        }
        let error = ProcessPoolExecutor::new().unwrap_err();
        let text = format!("{error:?}");
        println!("{text}");
        let says_why = matches!(error, Error::BrokenPool(_)) && text.contains("/proc");
        return say(&[u32::from(says_why)]);
    }
    let can_unshare = Command::new("unshare").args(["--mount", "true"]).output();
    if !can_unshare.is_ok_and(|done| done.status.success()) {
        return println!("not tested: this needs the right to make a mount namespace");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc; exec \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().unwrap());
    let mut program = Program::of(command, NAME, "program");
    assert_eq!(program.hear(), [1], "{}", program.output());
    assert!(program.ended().success());
}

// ---- Memory of results ----

fn large(bytes: usize) -> Vec<u8> {
    vec![7; bytes]
}

/// What is large is not left lying about.
#[test]
fn large_results_leave_no_memory_behind() {
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    alone("resources::large_results_leave_no_memory_behind", || {
        let pool = pool(1);
        let once = || {
            let result = pool.submit(call!(large(2 << 20))).result().unwrap();
            assert_eq!((result.len(), result.last()), (2 << 20, Some(&7)));
        };
        (0..5).for_each(|_| once());
        let before = resident();
        (0..20).for_each(|_| once());
        let after = resident();
        assert!(after < before + 16 * 1024, "{before} kB, then {after} kB");
        assert_eq!(pool.submit(call!(own_pid())).result().unwrap(), pool.worker_pids()[0]);
        end(&pool);
    });
}
