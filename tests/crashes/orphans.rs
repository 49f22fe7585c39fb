//! What a pool's processes have to do with others: those that their tasks start, the program and its
//! other children, and the terminal. Whichever of them dies, nothing is left of the rest.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use concurrent_futures::{ProcessPoolExecutor, Shutdown, call};
use rustix::process::{Resource, Signal, getrlimit};

use crate::deaths::{Death, die, sleep_long, spin, square, start_sleep, status};
use crate::program::{Program, alone, part, say, wait_for_go};
use crate::support::within_limit;
use crate::tools::{
    Gate, Reports, end, family, hold, lost, occupy, occupy_all, own_pid, parent_of, pool,
    until_ended,
};
use crate::watch::{Watched, assert_ended_soon, assert_is_gone_soon, descriptors, kill};

/// The process that has forked the workers.
fn helper_of(pool: &ProcessPoolExecutor) -> u32 {
    parent_of(pool.worker_pids()[0]).unwrap()
}

/// Has as many workers started as there may be. All are idle then.
fn start_all(pool: &ProcessPoolExecutor) {
    let gate = Gate::new();
    let held = occupy_all(pool, &gate);
    gate.open();
    held.into_iter().for_each(|held| assert!(held.result().is_ok()));
}

// ---- The program dies ----

/// Of three workers one is idle, one computes, and one waits for a process that it has started.
#[test]
fn nothing_outlives_the_program() {
    const NAME: &str = "orphans::nothing_outlives_the_program";
    if part().is_some() {
        let pool = pool(3);
        start_all(&pool);
        let started = Reports::new();
        let _busy = pool.submit(call!(spin(started.clone())));
        started.wait_for(1);
        let _waits = pool.submit(call!(sleep_long(started.clone())));
        let sleep = started.wait_for(2)[1];
        let mut all = family(&pool);
        assert_eq!(all.len(), 4);
        all.push(sleep);
        say(&all);
        wait_for_go();
        return;
    }
    for _ in 0..5 {
        let mut program = Program::start(NAME, "program");
        let all = Watched::all(&program.hear());
        program.kill();
        program.ended();
        assert_ended_soon(&all);
    }
}

/// As early as can be: the program has not waited for anything.
#[test]
fn nothing_outlives_a_program_that_dies_while_its_pool_starts() {
    const NAME: &str = "orphans::nothing_outlives_a_program_that_dies_while_its_pool_starts";
    if part().is_some() {
        let pool = pool(2);
        let _futures = [pool.submit(call!(square(1))), pool.submit(call!(square(2)))];
        say(&crate::watch::children());
        wait_for_go();
        return;
    }
    for _ in 0..5 {
        let mut program = Program::start(NAME, "program");
        let helper = program.hear();
        let all = Watched::all(&helper);
        program.kill();
        program.ended();
        assert_ended_soon(&all);
    }
}

// ---- The helper dies ----

#[test]
fn a_pool_recovers_from_the_death_of_its_helper() {
    alone("orphans::a_pool_recovers_from_the_death_of_its_helper", || {
        for size in [1, 3] {
            let pool = pool(size);
            start_all(&pool);
            let started = Reports::new();
            let running = pool.submit(call!(sleep_long(started.clone())));
            let sleep = started.wait_for(1)[0];
            let worker = parent_of(sleep).unwrap();
            let gate = Gate::new();
            let held: Vec<_> = (1..size).map(|_| occupy(&pool, &gate)).collect();
            let waiting: Vec<_> = (0..20).map(|n| pool.submit(call!(square(n)))).collect();

            let helper = helper_of(&pool);
            let mut all = family(&pool);
            all.push(sleep);
            let all = Watched::all(&all);
            kill(helper);
            let lost_one = lost(running.result());
            assert_eq!(lost_one.pid, worker);
            assert!(lost_one.to_string().contains("process that starts workers"), "{lost_one}");
            for held in held {
                drop(lost(held.result()));
            }
            assert_ended_soon(&all);

            // What had not begun is not concerned.
            for (n, future) in (0..).zip(waiting) {
                assert_eq!(future.result().unwrap(), n * n);
            }
            start_all(&pool);
            assert_ne!(helper_of(&pool), helper);
            assert_eq!(pool.worker_pids().len(), size);
            end(&pool);
        }
    });
}

#[test]
fn a_task_that_may_run_again_does_so_after_the_death_of_the_helper() {
    alone("orphans::a_task_that_may_run_again_does_so_after_the_death_of_the_helper", || {
        let pool = pool(1);
        let (started, gate) = (Reports::new(), Gate::new());
        let task = pool.task().retries(1);
        let future = task.submit(call!(hold(started.clone(), gate.clone(), 5)));
        let first = started.wait_for(1)[0];
        kill(helper_of(&pool));
        let second = started.wait_for(2)[1];
        assert_ne!(first, second);
        gate.open();
        assert_eq!(future.result().unwrap(), 5);
        end(&pool);
    });
}

/// The next task is submitted when the helper is dead and the pool has not been told, or is being.
#[test]
fn a_pool_whose_helper_is_dead_takes_tasks() {
    alone("orphans::a_pool_whose_helper_is_dead_takes_tasks", || {
        for workers in [0, 2] {
            for n in 0..20 {
                let pool = pool(2);
                let helper = if workers == 0 {
                    crate::watch::children()[0]
                } else {
                    start_all(&pool);
                    helper_of(&pool)
                };
                kill(helper);
                if n % 2 == 0 {
                    until_ended(helper);
                }
                // If there are workers, a task may begin with each while that is being killed.
                for n in [n, n + 1] {
                    let task = pool.task().retries(workers);
                    assert_eq!(task.submit(call!(square(n))).result().unwrap(), n * n);
                }
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
            }
        }
    });
}

/// A shutdown goes on, whichever process dies meanwhile.
#[test]
fn a_pool_ends_though_its_helper_is_dead() {
    alone("orphans::a_pool_ends_though_its_helper_is_dead", || {
        for n in 0..10 {
            let pool = pool(2);
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let waiting = pool.submit(call!(square(n)));
            let helper = helper_of(&pool);
            let ending = pool.shutdown(Shutdown::Drain);
            kill(helper);
            for held in held {
                drop(lost(held.result()));
            }
            assert_eq!(waiting.result().unwrap(), n * n);
            ending.result().unwrap();

            let pool = crate::tools::pool(1);
            pool.submit(call!(square(n))).result().unwrap();
            kill(helper_of(&pool));
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

// ---- The worker dies ----

/// Starts a process and dies.
fn leave_behind(started: Reports, death: Death) {
    started.add(start_sleep());
    death.die();
}

#[test]
fn what_a_task_has_started_ends_with_its_worker() {
    within_limit(|| {
        let pool = pool(1);
        for death in Death::ALL {
            let started = Reports::new();
            let future = pool.submit(call!(leave_behind(started.clone(), death)));
            assert_eq!(status(&lost(future.result())), death.status());
            assert_is_gone_soon(started.wait_for(1)[0]);
        }
        let started = Reports::new();
        let future = pool.submit(call!(sleep_long(started.clone())));
        let sleep = Watched::all(&started.wait_for(1));
        assert!(future.kill());
        assert_ended_soon(&sleep);
        end(&pool);
    });
}

#[test]
fn what_a_task_has_started_ends_with_the_pool() {
    within_limit(|| {
        let pool = pool(1);
        let sleep = Watched::all(&[pool.submit(call!(start_sleep())).result().unwrap()]);
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        end(&pool);
        assert_ended_soon(&sleep);
    });
}

/// A fork of the worker has all that the worker has, its socket as well.
fn fork_and_die(started: Reports, death: Death) {
    // SAFETY: the child calls nothing but `getpid` and `pause`, which a fork may at any time, and
    // returns to nothing of its parent's.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        },
        child => started.add(u32::try_from(child).unwrap()),
    }
    death.die();
}

#[test]
fn a_fork_of_the_worker_does_not_hide_its_death() {
    within_limit(|| {
        for size in [1, 2] {
            let pool = pool(size);
            for death in Death::ALL {
                let started = Reports::new();
                let future = pool.submit(call!(fork_and_die(started.clone(), death)));
                assert_eq!(status(&lost(future.result())), death.status());
                assert_is_gone_soon(started.wait_for(1)[0]);
                assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
            }
            end(&pool);
        }
    });
}

// ---- The program's other children ----

/// Whatever a pool does that has to do with processes.
fn exercise() {
    let pool = pool(2);
    for n in 0..5 {
        assert_eq!(pool.submit(call!(square(n))).result().unwrap(), n * n);
        for death in Death::ALL {
            assert_eq!(status(&lost(pool.submit(call!(die(death))).result())), death.status());
        }
        let started = Reports::new();
        let killed = pool.submit(call!(sleep_long(started.clone())));
        started.wait_for(1);
        assert!(killed.kill());
        let worker = pool.submit(call!(own_pid())).result().unwrap();
        kill(worker);
    }
    kill(parent_of(pool.submit(call!(own_pid())).result().unwrap()).unwrap());
    // It may have begun on a worker that is about to die with its parent.
    assert_eq!(pool.task().retries(2).submit(call!(square(7))).result().unwrap(), 49);
    pool.shutdown_blocking(Shutdown::Drain).unwrap();
}

#[test]
fn a_program_may_ignore_its_children() {
    alone("orphans::a_program_may_ignore_its_children", || {
        // SAFETY: a signal that is ignored needs no code.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        exercise();
    });
}

#[test]
fn a_program_may_reap_every_child() {
    alone("orphans::a_program_may_reap_every_child", || {
        let reaped = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let reaper = {
            let (reaped, is_over) = (Arc::clone(&reaped), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(SeqCst) {
                    let mut status = 0;
                    // SAFETY: the place for the status is valid.
                    match unsafe { libc::waitpid(-1, &mut status, 0) } {
                        -1 => thread::yield_now(), // there is none now
                        pid => reaped.lock().unwrap().push((pid.unsigned_abs(), status)),
                    }
                }
            })
        };
        let own: Vec<u32> = (0..5)
            .map(|code| {
                let child = Command::new("sh").args(["-c", &format!("exit {code}")]).spawn();
                let child = child.unwrap();
                let pid = child.id();
                std::mem::forget(child);
                exercise();
                pid
            })
            .collect();
        own.iter().for_each(|pid| until_ended(*pid));
        is_over.store(true, SeqCst);
        // Something to wake up for, if it waits.
        let mut last = Command::new("true").spawn().unwrap();
        reaper.join().unwrap();
        let _ = last.wait();

        let reaped = reaped.lock().unwrap();
        for (code, pid) in (0..).zip(own) {
            let statuses: Vec<_> = reaped.iter().filter(|(other, _)| *other == pid).collect();
            assert_eq!(statuses, [&(pid, code << 8)]);
        }
    });
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, SeqCst);
}

fn count(signal: libc::c_int) {
    let handler = count_signal as extern "C" fn(libc::c_int);
    // SAFETY: the handler does what is allowed in one: it counts.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

#[test]
fn the_program_is_not_told_of_workers_that_end() {
    alone("orphans::the_program_is_not_told_of_workers_that_end", || {
        count(libc::SIGCHLD);
        let pool = pool(2);
        for death in Death::ALL {
            drop(lost(pool.submit(call!(die(death))).result()));
        }
        assert_eq!(pool.submit(call!(square(7))).result().unwrap(), 49);
        assert_eq!(SIGNALS.load(SeqCst), 0);
        end(&pool);
    });
}

// ---- The terminal ----

/// What Ctrl-C is: a signal to all processes of the program's group.
#[test]
fn a_signal_to_the_program_s_group_does_not_reach_workers() {
    fn group() -> (u32, u32) {
        (process::id(), rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs())
    }
    alone("orphans::a_signal_to_the_program_s_group_does_not_reach_workers", || {
        count(libc::SIGINT);
        let pool = pool(2);
        let (worker, group) = pool.submit(call!(group())).result().unwrap();
        assert_eq!(worker, group);
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let before = family(&pool);

        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        rustix::process::kill_current_process_group(Signal::INT).unwrap();
        assert!(!other.wait().unwrap().success()); // so the signal is there
        while SIGNALS.load(SeqCst) == 0 {
            thread::yield_now(); // whichever thread it is that gets it
        }

        gate.open();
        for held in held {
            assert_eq!(held.result().unwrap(), 42);
        }
        assert_eq!(family(&pool), before);
        end(&pool);
    });
}

// ---- Descriptors ----

/// By number, and what each of them is.
fn list_descriptors() -> BTreeSet<String> {
    descriptors()
}

#[test]
fn no_descriptor_of_the_program_leaks_into_a_worker() {
    within_limit(|| {
        // Not closed by `exec`, and with the highest number of all.
        let file = std::fs::File::open("/etc/passwd").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let number = (limit - 1).min(900) as i32;
        let high = rustix::io::fcntl_dupfd_cloexec(&file, number).unwrap();
        rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
        assert!(high.as_raw_fd() >= number);

        let pool = pool(3);
        start_all(&pool);
        let own = descriptors();
        for round in 0..2 {
            let gate = Gate::new();
            let held: Vec<_> = (0..2).map(|_| occupy(&pool, &gate)).collect();
            let theirs = pool.submit(call!(list_descriptors())).result().unwrap();
            let theirs: Vec<&str> = theirs.iter().map(|it| &**it).collect();
            let standard = |number: &str| own.iter().find(|it| it.starts_with(number)).unwrap();
            assert_eq!(theirs.len(), 4, "{theirs:?}");
            assert_eq!(theirs[0], "0 -> /dev/null");
            assert_eq!(theirs[1], standard("1 -> "));
            assert_eq!(theirs[2], standard("2 -> "));
            assert!(theirs[3].starts_with("3 -> socket:"), "{theirs:?}");
            gate.open();
            held.into_iter().for_each(|held| assert!(held.result().is_ok()));
            // The same of those that come later.
            if round == 0 {
                pool.worker_pids().into_iter().for_each(kill);
            }
        }
        drop((file, high));
        end(&pool);
    });
}
