//! SD: CPython's `test_shutdown.py`. SD-1 and SD-4 run over processes in
//! `tests/lifecycle/shutdown.rs`; SD-2, SD-6 and SD-17 are programs, in `program_end.rs`.

use std::collections::HashSet;
use std::process;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use concurrent_futures::{
    Error, ProcessPoolExecutor, Shutdown, ShutdownReport, TaskFuture, call, task,
};

use crate::program;
use crate::support::{POOL_SIZES, on_runtimes, wakers_kept, within_limit};
use crate::tools::{
    Gate, Reports, assert_cancelled, assert_gone, builder, family, hold, lost, occupy, occupy_all,
    own_pid, pool, until_ended,
};

const BOTH: [Shutdown; 2] = [Shutdown::Drain, Shutdown::CancelQueued];

fn square(n: u64) -> u64 {
    n * n
}

fn fifty_squares(pool: &ProcessPoolExecutor) -> Vec<TaskFuture<u64>> {
    (0..50).map(|n| pool.submit(call!(square(n)))).collect()
}

#[track_caller]
fn assert_squares(futures: Vec<TaskFuture<u64>>) {
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.result().unwrap(), n * n);
    }
}

#[track_caller]
fn assert_shut_down<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::ShutDown)), "{result:?}");
}

/// SD-1. From the call on, whether or not its future is polled, and while jobs still run.
#[test]
fn the_shutdown_begins_with_the_call() {
    within_limit(|| {
        for how in BOTH {
            for size in POOL_SIZES {
                let pool = pool(size);
                let gate = Gate::new();
                let busy = occupy(&pool, &gate);
                let ended = pool.shutdown(how);
                assert_shut_down(pool.submit(call!(square(3))).result());
                drop(ended);
                assert_shut_down(pool.submit(call!(square(3))).result());
                gate.open();
                busy.result().unwrap();
            }
        }
    });
}

// ---- Exit handlers ----

/// SD-3.
#[test]
fn a_submission_from_an_exit_handler_is_refused_after_shutdown() {
    /// The pool of the handler, which takes no argument.
    static AT_EXIT: OnceLock<ProcessPoolExecutor> = OnceLock::new();

    extern "C" fn refuses_at_exit() {
        let result = AT_EXIT.get().map(|pool| pool.submit(call!(square(3))).result());
        let text = match result {
            Some(Err(error)) => error.to_string(),
            other => format!("{other:?}"),
        };
        println!("the handler: {text}");
    }

    let name = "shutdown::a_submission_from_an_exit_handler_is_refused_after_shutdown";
    for size in POOL_SIZES {
        let main = || {
            let pool = AT_EXIT.get_or_init(|| pool(size));
            pool.submit(call!(square(3))).result().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            // SAFETY: the handler takes nothing and does not unwind: nothing in it panics.
            assert_eq!(unsafe { libc::atexit(refuses_at_exit) }, 0);
        };
        if let Some(ended) = program::run(name, size, main) {
            let ended = ended.well();
            assert!(
                ended
                    .stdout
                    .contains("the handler: the executor is shut down and takes no new tasks"),
                "{}",
                ended.stdout
            );
        }
    }
}

/// SD-3. Workers have no part in the exit handlers of the program: they have a copy of none.
#[test]
fn an_exit_handler_runs_in_the_program_alone() {
    extern "C" fn say_so() {
        println!("the handler of {}", process::id());
    }

    let name = "shutdown::an_exit_handler_runs_in_the_program_alone";
    let main = || {
        // SAFETY: the handler takes nothing and does not unwind: nothing in it panics.
        assert_eq!(unsafe { libc::atexit(say_so) }, 0);
        let pool = pool(2);
        let gate = Gate::new();
        let busy = occupy_all(&pool, &gate);
        gate.open();
        drop(busy);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    };
    if let Some(ended) = program::run(name, 0, main) {
        let ended = ended.well();
        assert_eq!(ended.stdout.matches("the handler of").count(), 1, "{}", ended.stdout);
    }
}

// ---- Cancellation ----

/// SD-5. What runs goes on, what waits is cancelled: exactly so.
#[test]
fn a_shutdown_with_cancellation_cancels_what_has_not_started() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (started, gate) = (Reports::new(), Gate::new());
            let futures: Vec<_> = (0..50)
                .map(|n| pool.submit(call!(hold(started.clone(), gate.clone(), n))))
                .collect();
            started.wait_for(size);
            let ended = pool.shutdown(Shutdown::CancelQueued);
            let cancelled = futures.iter().filter(|future| future.is_cancelled()).count();
            assert_eq!(cancelled, 50 - size, "at once, and while others run");
            gate.open();
            let report = ended.await;
            assert_eq!((report.completed as usize, report.cancelled as usize), (size, 50 - size));
            assert_eq!((report.failed, report.queued), (0, 0));
            for (n, future) in (0..).zip(futures) {
                match future.await {
                    Ok(value) => assert_eq!(value, n),
                    outcome => assert_cancelled(&outcome),
                }
            }
            assert_eq!(started.get().len(), size, "a cancelled task never runs");
        }
    });
}

/// SD-5. Also what was sent ahead to a worker that is quick.
#[test]
fn among_quick_tasks_each_has_run_or_is_cancelled() {
    fn report(ran: Reports) {
        ran.add(0);
    }

    within_limit(|| {
        for size in POOL_SIZES {
            for round in 0..10 {
                let pool = pool(size);
                let ran = Reports::new();
                let futures: Vec<_> =
                    (0..500).map(|_| pool.submit(call!(report(ran.clone())))).collect();
                ran.wait_for(1 + 40 * round);
                pool.shutdown_blocking(Shutdown::CancelQueued).unwrap();
                let values = futures.into_iter().map(|future| match future.result() {
                    Ok(()) => 1,
                    outcome => {
                        assert_cancelled(&outcome);
                        0
                    }
                });
                assert_eq!(values.sum::<usize>(), ran.get().len());
            }
        }
    });
}

/// SD-7.
#[test]
fn a_task_cancelled_just_before_a_waiting_shutdown_does_not_hold_it_up() {
    fn until_asked() {
        while !task::stop_requested() {
            thread::yield_now();
        }
    }

    within_limit(|| {
        for size in POOL_SIZES {
            for _ in 0..20 {
                let pool = pool(size);
                // Cancelled before it starts, or asked to stop: both end it.
                let future = pool.submit(call!(until_asked()));
                let withdrawn = future.cancel();
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
                assert_eq!(future.is_cancelled(), withdrawn);
                assert_eq!(future.result().is_err(), withdrawn);
            }
        }
    });
}

/// SD-7.
#[test]
fn a_withdrawn_task_is_not_waited_for() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (started, gate, never) = (Reports::new(), Gate::new(), Gate::new());
            let busy = occupy_all(&pool, &gate);
            let future = pool.submit(call!(hold(started.clone(), never.clone(), 0)));
            assert!(future.cancel());
            let ended = pool.shutdown(Shutdown::Drain);
            gate.open();
            assert_eq!(ended.result().unwrap().completed as usize, size);
            assert_cancelled(&future.result());
            assert!(started.get().is_empty());
            drop(busy);
        }
    });
}

// ---- Processes ----

/// SD-10.
#[test]
fn after_a_waiting_shutdown_results_are_right_and_processes_are_gone() {
    on_runtimes(|| async {
        for how in BOTH {
            for size in POOL_SIZES {
                let pool = pool(size);
                let squares = pool.map(square, 0..20).await.unwrap();
                assert_eq!(squares, (0..20).map(square).collect::<Vec<_>>());
                let family = family(&pool);
                assert!((2..=1 + size).contains(&family.len()));
                pool.shutdown(how).await;
                assert_gone(&family);
            }
        }
    });
}

/// SD-10. No caller returns before the processes are gone, be it the first or a later one.
#[test]
fn every_one_of_several_waiting_shutdowns_waits_for_the_processes() {
    within_limit(|| {
        for size in POOL_SIZES {
            for _ in 0..10 {
                let pool = pool(size);
                let gate = Gate::new();
                let busy = occupy_all(&pool, &gate);
                let family = family(&pool);
                let begun = pool.shutdown(Shutdown::Drain);
                let (sender, reports) = mpsc::channel::<ShutdownReport>();
                let waiters: Vec<_> = (0..4)
                    .map(|n| {
                        let (pool, sender, family) = (pool.clone(), sender.clone(), family.clone());
                        thread::spawn(move || {
                            let report = if n % 2 == 0 {
                                pool.shutdown_blocking(Shutdown::Drain).unwrap()
                            } else {
                                futures::executor::block_on(pool.shutdown(Shutdown::Drain))
                            };
                            assert_gone(&family);
                            sender.send(report).unwrap();
                        })
                    })
                    .collect();
                gate.open();
                let report = begun.result().unwrap();
                assert_gone(&family);
                waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
                drop(sender);
                assert!(reports.into_iter().all(|other| other == report));
                drop(busy);
            }
        }
    });
}

/// SD-12.
#[test]
fn a_dropped_pool_completes_what_was_submitted_and_its_processes_end() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy = occupy_all(&pool, &gate);
            let futures = fifty_squares(&pool);
            let map = pool.map(square, 0..50).start();
            let family = family(&pool);
            drop(pool); // does not wait: the gate is closed
            gate.open();
            for (n, future) in (0..).zip(futures) {
                assert_eq!(future.await.unwrap(), n * n);
            }
            assert_eq!(map.await.unwrap(), (0..50).map(square).collect::<Vec<_>>());
            for future in busy {
                assert_eq!(future.await.unwrap(), 42);
            }
            family.into_iter().for_each(until_ended);
        }
    });
}

/// SD-12.
#[test]
fn idle_processes_end_when_the_pool_is_dropped() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy = occupy_all(&pool, &gate);
            let family = family(&pool);
            gate.open();
            busy.into_iter().for_each(|future| assert_eq!(future.result().unwrap(), 42));
            let clone = pool.clone();
            drop(pool);
            clone.submit(call!(square(3))).result().unwrap(); // not the last handle
            drop(clone);
            family.into_iter().for_each(until_ended);
        }
    });
}

/// SD-12.
#[test]
fn a_pool_that_has_never_worked_ends_when_it_is_dropped() {
    within_limit(|| {
        for size in POOL_SIZES {
            drop(pool(size));
            pool(size).shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

/// SD-14.
#[test]
fn processes_end_by_themselves_after_a_shutdown_not_waited_for() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy = occupy_all(&pool, &gate);
            let futures = fifty_squares(&pool);
            let family = family(&pool);
            drop(pool.shutdown(Shutdown::Drain));
            gate.open();
            assert_squares(futures);
            family.into_iter().for_each(until_ended);
            drop(busy);
        }
    });
}

/// SD-18.
#[test]
fn three_blocked_tasks_use_three_processes_and_a_shutdown_ends_them() {
    on_runtimes(|| async {
        let pool = pool(5);
        let gate = Gate::new();
        let futures: Vec<_> = (0..3).map(|_| occupy(&pool, &gate)).collect();
        assert_eq!(pool.metrics().workers, 3);
        let workers = pool.worker_pids();
        gate.open();
        pool.shutdown(Shutdown::Drain).await;
        assert_gone(&workers);
        let mut pids = HashSet::new();
        for future in futures {
            pids.insert(future.await.unwrap());
        }
        assert_eq!(pids, workers.into_iter().collect());
    });
}

/// SD-19.
#[test]
fn a_failed_task_does_not_hang_a_shutdown_over_workers_of_one_task_each() {
    fn fail_at_2(n: u32) -> u32 {
        assert_ne!(n, 2, "the second");
        process::id()
    }

    fn die_at_2(n: u32) -> u32 {
        if n == 2 {
            process::exit(2);
        }
        process::id()
    }

    within_limit(|| {
        for size in [1, 2, 4] {
            for job in [fail_at_2, die_at_2] {
                for _ in 0..5 {
                    let pool = builder(size).max_tasks_per_worker(1).build().unwrap();
                    let futures: Vec<_> = (1..=3)
                        .map(|n| pool.submit(concurrent_futures::Call::new(job, n)))
                        .collect();
                    drop(pool.shutdown(Shutdown::Drain));
                    let [first, second, third] =
                        <[_; 3]>::try_from(futures).unwrap().map(TaskFuture::result);
                    let pids = [first.unwrap(), third.unwrap()];
                    match second {
                        Err(Error::Panicked(_)) => {}
                        outcome => assert_eq!(lost(outcome).exit_code, Some(2)),
                    }
                    pool.shutdown_blocking(Shutdown::Drain).unwrap();
                    assert_gone(&pids);
                }
            }
        }
    });
}

// ---- Ends that Python does not have ----

#[test]
fn a_deadline_escalates_and_names_what_was_left_running() {
    fn until_asked(started: Reports) {
        started.add(process::id());
        while !task::stop_requested() {
            thread::yield_now();
        }
    }

    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let started = Reports::new();
            let running: Vec<_> = (0..size)
                .map(|_| pool.task().label("slow").submit(call!(until_asked(started.clone()))))
                .collect();
            let queued = pool.submit(call!(square(3)));
            started.wait_for(size);
            let report = pool.shutdown(Shutdown::Drain).deadline(crate::tools::SHORT).await;
            // What is asked to stop may have done so by now.
            let ids: Vec<_> = running.iter().map(TaskFuture::id).collect();
            for left in &report.running {
                assert!(ids.contains(&left.id));
                assert_eq!(left.label.as_deref(), Some("slow"));
                assert!(left.elapsed >= crate::tools::SHORT);
            }
            assert_cancelled(&queued.await);
            for future in running {
                future.await.unwrap();
            }
            let report = pool.shutdown(Shutdown::Drain).await;
            assert_eq!((report.completed as usize, report.cancelled), (size, 1));
        }
    });
}

#[test]
fn a_second_shutdown_tightens_the_first_and_never_loosens_it() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy = occupy_all(&pool, &gate);
            let queued = pool.submit(call!(square(3)));
            drop(pool.shutdown(Shutdown::Drain));
            assert!(!queued.is_done());
            drop(pool.shutdown(Shutdown::CancelQueued));
            assert_cancelled(&queued.result());
            let ended = pool.shutdown(Shutdown::Drain);
            gate.open();
            assert_eq!(ended.result().unwrap().cancelled, 1);
            drop(busy);
        }
    });
}

#[test]
fn a_future_outlives_its_pool() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (value, dead) = (pool.submit(call!(square(3))), pool.submit(call!(own_pid())));
            let pid = pool.submit(call!(own_pid())).result().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            drop(pool);
            assert_gone(&[pid]);
            assert_eq!(value.result().unwrap(), 9);
            assert!(!dead.cancel() && !dead.kill() && dead.is_done());
            assert!(format!("{dead:?}").contains("finished returned u32"));
        }
    });
}

#[test]
fn a_permit_outlives_the_last_handle() {
    on_runtimes(|| async {
        let pool = builder(1).queue_capacity(1).build().unwrap();
        let permit = pool.reserve().await.unwrap();
        drop(pool);
        // It is a handle itself.
        assert_eq!(permit.submit(call!(square(3))).await.unwrap(), 9);
    });
}

/// As over threads, in `tests/lifecycle/ending.rs`.
#[test]
fn a_shutdown_keeps_one_waker_for_each_future() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let busy = occupy(&pool, &gate);
        let (mut end, mut other) = (pool.shutdown(Shutdown::Drain), pool.shutdown(Shutdown::Drain));
        let (kept, given_up) = wakers_kept(&mut other);
        assert_eq!(kept, 1);
        drop(other);
        assert_eq!(Arc::strong_count(&given_up), 1, "no waker is left of a dropped future");
        let (kept, woken) = wakers_kept(&mut end);
        assert_eq!(kept, 1);
        gate.open();
        busy.result().unwrap();
        woken.wait_for(1);
        assert_eq!((woken.get(), given_up.get()), (1, 0));
    });
}
