//! The end of a program that has a process pool: SD-2, SD-6 and SD-17. Each test runs itself again as
//! a program and looks at its exit code and at what it printed.
//!
//! As with threads, the end of `main` is the end: what has not finished by then does not, nothing
//! hangs, nothing is printed, and the exit code is that of `main`. No process is left either. That is
//! checked by the way: the workers have the program's stdout, and its end is waited for.

use std::mem;
use std::process;
use std::sync::LazyLock;
use std::time::Duration;

use concurrent_futures::{Error, ProcessPoolExecutor, Shutdown, TaskFuture, call};
use futures::executor::block_on;

use crate::program;
use crate::support::POOL_SIZES;
use crate::tools::{Gate, Reports, builder, hold, pool};

/// Says so when the gate is open.
fn slow_job(started: Reports, gate: Gate) {
    hold(started, gate, 0);
    println!("the task is done");
}

fn slow_task(pool: &ProcessPoolExecutor, gate: &Gate) -> TaskFuture<()> {
    let started = Reports::new();
    let future = pool.submit(call!(slow_job(started.clone(), gate.clone())));
    started.wait_for(1);
    future
}

fn for_ever(started: Reports) {
    started.add(process::id());
    loop {
        std::thread::park();
    }
}

/// A job that never ends. It runs.
fn endless_task(pool: &ProcessPoolExecutor) {
    let started = Reports::new();
    pool.submit(call!(for_ever(started.clone()))).detach();
    started.wait_for(1);
}

fn say(text: String) {
    println!("{text}");
}

fn queued_task(pool: &ProcessPoolExecutor) -> TaskFuture<()> {
    pool.submit(call!(say("a queued task ran".to_owned())))
}

fn square(n: u64) -> u64 {
    n * n
}

fn program(name: &str, main: impl Fn(usize) + Copy, check: impl Fn(program::Ended)) {
    for size in POOL_SIZES {
        if let Some(ended) = program::run(&format!("program_end::{name}"), size, || main(size)) {
            check(ended);
        }
    }
}

/// SD-2.
#[test]
fn the_end_of_main_ends_the_process_and_unfinished_tasks_do_not_finish() {
    let name = "the_end_of_main_ends_the_process_and_unfinished_tasks_do_not_finish";
    let main = |size| {
        let pool = pool(size);
        (0..size).for_each(|_| endless_task(&pool));
        queued_task(&pool).detach();
        println!("main is done");
    };
    program(name, main, |ended| {
        let ended = ended.well();
        assert!(ended.printed("main is done"));
        assert!(!ended.printed("a queued task ran"));
    });
}

/// SD-2.
#[test]
fn a_pool_that_is_never_dropped_does_not_hold_up_the_end() {
    let name = "a_pool_that_is_never_dropped_does_not_hold_up_the_end";
    let main = |size| {
        let pool = pool(size);
        endless_task(&pool);
        queued_task(&pool).detach();
        mem::forget(pool);
    };
    program(name, main, |ended| drop(ended.well()));
}

/// SD-2.
#[test]
fn shutdown_blocking_at_the_end_of_main_waits() {
    let name = "shutdown_blocking_at_the_end_of_main_waits";
    let main = |size| {
        let (pool, gate) = (pool(size), Gate::new());
        slow_task(&pool, &gate).detach();
        queued_task(&pool).detach();
        let ended = pool.shutdown(Shutdown::Drain);
        gate.open();
        println!("{} left", ended.result().unwrap().running.len());
    };
    program(name, main, |ended| {
        let ended = ended.well();
        assert!(ended.printed("the task is done") && ended.printed("a queued task ran"));
        assert!(ended.printed("0 left"));
    });
}

/// SD-2.
#[test]
fn an_awaited_shutdown_at_the_end_of_an_async_main_waits() {
    let name = "an_awaited_shutdown_at_the_end_of_an_async_main_waits";
    let main = |size| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (pool, gate) = (pool(size), Gate::new());
            slow_task(&pool, &gate).detach();
            queued_task(&pool).detach();
            let ended = pool.shutdown(Shutdown::Drain);
            gate.open();
            ended.await;
        });
    };
    program(name, main, |ended| {
        let ended = ended.well();
        assert!(ended.printed("the task is done") && ended.printed("a queued task ran"));
    });
}

/// SD-2.
#[test]
fn the_end_of_an_async_main_ends_the_process() {
    let name = "the_end_of_an_async_main_ends_the_process";
    let main = |size| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let pool = pool(size);
            endless_task(&pool);
            tokio::spawn(queued_task(&pool));
            println!("main is done");
        });
    };
    program(name, main, |ended| assert!(ended.well().printed("main is done")));
}

/// SD-6.
#[test]
fn a_shutdown_not_waited_for_does_not_hang_the_end() {
    let name = "a_shutdown_not_waited_for_does_not_hang_the_end";
    let main = |size| {
        let pool = pool(size);
        endless_task(&pool);
        drop(pool.shutdown(Shutdown::Drain));
        println!("main is done");
    };
    program(name, main, |ended| assert!(ended.well().printed("main is done")));
}

/// SD-6. The shutdown was not waited for, but the task is, by its future.
#[test]
fn the_running_task_completes_after_a_shutdown_not_waited_for() {
    let name = "the_running_task_completes_after_a_shutdown_not_waited_for";
    let main = |size| {
        let (pool, gate) = (pool(size), Gate::new());
        let running = slow_task(&pool, &gate);
        drop(pool.shutdown(Shutdown::Drain));
        drop(pool);
        gate.open();
        running.result().unwrap();
    };
    program(name, main, |ended| assert!(ended.well().printed("the task is done")));
}

/// SD-6.
#[test]
fn a_deadline_at_the_end_of_main_leaves_a_task_that_does_not_stop() {
    let name = "a_deadline_at_the_end_of_main_leaves_a_task_that_does_not_stop";
    let main = |size| {
        let pool = pool(size);
        endless_task(&pool);
        let ended = pool.shutdown(Shutdown::Drain).deadline(Duration::from_millis(10));
        println!("{} left", block_on(ended).running.len());
    };
    program(name, main, |ended| assert!(ended.well().printed("1 left")));
}

/// SD-17.
#[test]
fn a_shutdown_with_cancellation_at_once_after_submit_ends_cleanly() {
    let name = "a_shutdown_with_cancellation_at_once_after_submit_ends_cleanly";
    let main = |size| {
        // Few enough for a limit of 64 descriptors, if none has ended yet.
        for round in 0..5 {
            let pool = pool(size);
            let future = pool.submit(call!(square(round)));
            drop(pool.shutdown(Shutdown::CancelQueued));
            drop(pool);
            match future.result() {
                Ok(value) => assert_eq!(value, round * round),
                Err(Error::Cancelled) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        // The last one is in its first moments when `main` ends.
        let pool = pool(size);
        pool.submit(call!(square(3))).detach();
        drop(pool.shutdown(Shutdown::CancelQueued));
        println!("main is done");
    };
    program(name, main, |ended| assert!(ended.well().printed("main is done")));
}

/// SD-17. Pools whose processes have only just begun, or have not, harm nothing.
#[test]
fn the_end_of_main_among_starting_and_ending_processes_is_clean() {
    let name = "program_end::the_end_of_main_among_starting_and_ending_processes_is_clean";
    for attempt in 0..10 {
        let main = || {
            // Few enough for a limit of 64 descriptors, if none has ended yet.
            for _ in 0..=attempt / 2 {
                let pool = pool(2);
                pool.submit(call!(square(1))).detach();
                pool.submit(call!(square(2))).detach();
            }
        };
        if let Some(ended) = program::run(name, attempt, main) {
            ended.well();
        }
    }
}

static POOL: LazyLock<ProcessPoolExecutor> = LazyLock::new(|| builder(2).build().unwrap());

#[test]
fn a_pool_in_a_static_ends_with_the_process() {
    let name = "program_end::a_pool_in_a_static_ends_with_the_process";
    let main = || {
        assert_eq!(POOL.submit(call!(square(7))).result().unwrap(), 49);
        endless_task(&POOL);
        println!("main is done");
    };
    if let Some(ended) = program::run(name, 0, main) {
        assert!(ended.well().printed("main is done"));
    }
}

/// A worker that ends is not the end of the program.
#[test]
fn a_job_that_calls_exit_does_not_end_the_program() {
    fn leave() {
        println!("this is the last line of the worker");
        process::exit(3);
    }

    let name = "a_job_that_calls_exit_does_not_end_the_program";
    let main = |size| {
        let pool = pool(size);
        assert!(pool.submit(call!(leave())).result().is_err());
        println!("main is done");
    };
    program(name, main, |ended| {
        let ended = ended.well();
        assert!(ended.printed("this is the last line of the worker"));
        assert!(ended.printed("main is done"));
    });
}

/// The panic of `main` is the program's end, as it would be without a pool.
#[test]
fn a_panic_in_main_is_not_held_up_by_the_pool() {
    let name = "a_panic_in_main_is_not_held_up_by_the_pool";
    let main = |size| {
        let pool = pool(size);
        endless_task(&pool);
        panic!("main has had enough");
    };
    program(name, main, |ended| {
        assert_eq!(ended.status.code(), Some(101), "{}", ended.status);
        let said = |text: &str| text.contains("main has had enough");
        assert!(said(&ended.stderr) || said(&ended.stdout));
    });
}
