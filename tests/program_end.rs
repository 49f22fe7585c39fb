//! The end of a program that has a pool: SD-2, SD-6 and SD-17 of `docs/behaviours.md`. Each test
//! runs itself again as a program and looks at its exit code and at what it printed.
//!
//! Python joins its workers when the interpreter ends. In Rust the end of `main` ends the process;
//! so it is here, and the documentation of `ThreadPoolExecutor` says so: what has not finished by
//! then does not finish, nothing hangs, nothing is printed, and the exit code is that of `main`. A
//! program that wants its tasks done waits, for the futures or with a shutdown.

#[path = "lifecycle/program.rs"]
mod program;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "support/mod.rs"]
mod support;

use std::sync::LazyLock;
use std::time::Duration;

use concurrent_futures::{Error, Shutdown, TaskFuture, ThreadPoolExecutor};
use futures::executor::block_on;

use support::{Gate, POOL_SIZES, occupy, pool};

/// Runs until the pool takes no more tasks, then says so. So it outlasts the beginning of the
/// shutdown, whatever the schedule.
fn slow_task(pool: &ThreadPoolExecutor) -> TaskFuture<()> {
    let started = Gate::new();
    let (inner, inside) = (pool.clone(), started.clone());
    let future = pool.submit(move || {
        inside.open();
        while !matches!(inner.submit(|| ()).result(), Err(Error::ShutDown)) {
            std::thread::yield_now();
        }
        println!("the task is done");
    });
    started.wait();
    future
}

/// A job that never ends.
fn endless_task(pool: &ThreadPoolExecutor) {
    occupy(pool, &Gate::new()).detach();
}

fn program(name: &str, main: impl Fn(usize) + Copy, check: impl Fn(program::Ended)) {
    for size in POOL_SIZES {
        if let Some(ended) = program::run(name, size, || main(size)) {
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
        pool.submit(|| println!("a queued task ran")).detach();
        pool.submit_future(std::future::pending::<()>()).detach();
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
        pool.submit(|| ()).detach();
        std::mem::forget(pool);
    };
    program(name, main, |ended| drop(ended.well()));
}

/// SD-2.
#[test]
fn shutdown_blocking_at_the_end_of_main_waits() {
    let name = "shutdown_blocking_at_the_end_of_main_waits";
    let main = |size| {
        let pool = pool(size);
        slow_task(&pool).detach();
        pool.submit(|| println!("a queued task ran")).detach();
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        println!("{} left", report.running.len());
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
            let pool = pool(size);
            slow_task(&pool).detach();
            pool.submit(|| println!("a queued task ran")).detach();
            pool.shutdown(Shutdown::Drain).await;
        });
    };
    program(name, main, |ended| {
        let ended = ended.well();
        assert!(ended.printed("the task is done") && ended.printed("a queued task ran"));
    });
}

/// SD-2. The runtime of `#[tokio::main]` is dropped at its end; a pool whose jobs see it is not
/// waited for.
#[test]
#[cfg(feature = "tokio")]
fn the_end_of_an_async_main_ends_the_process() {
    let name = "the_end_of_an_async_main_ends_the_process";
    let main = |size| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let pool = pool(size);
            endless_task(&pool);
            pool.submit(|| {
                tokio::runtime::Handle::current().block_on(std::future::pending::<()>())
            })
            .detach();
            tokio::spawn(pool.submit(|| println!("a queued task ran")));
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
        let pool = pool(size);
        let running = slow_task(&pool);
        drop(pool.shutdown(Shutdown::Drain));
        drop(pool);
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
        for round in 0..100 {
            let pool = pool(size);
            let future = pool.submit(move || round);
            drop(pool.shutdown(Shutdown::CancelQueued));
            drop(pool);
            match future.result() {
                Ok(value) => assert_eq!(value, round),
                Err(Error::Cancelled) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        // The last one is in its first moments when `main` ends.
        let pool = pool(size);
        pool.submit(|| ()).detach();
        drop(pool.shutdown(Shutdown::CancelQueued));
        println!("main is done");
    };
    program(name, main, |ended| assert!(ended.well().printed("main is done")));
}

/// SD-17. A thread that starts while the process ends, and one that ends then, harm nothing.
#[test]
fn the_end_of_main_among_starting_and_ending_threads_is_clean() {
    let name = "the_end_of_main_among_starting_and_ending_threads_is_clean";
    for attempt in 0..20 {
        let main = || {
            for _ in 0..=attempt {
                let pool = pool(2);
                pool.submit(|| ()).detach();
                pool.submit(|| ()).detach();
            }
        };
        if let Some(ended) = program::run(name, attempt, main) {
            ended.well();
        }
    }
}

static POOL: LazyLock<ThreadPoolExecutor> = LazyLock::new(ThreadPoolExecutor::new);

#[test]
fn a_pool_in_a_static_ends_with_the_process() {
    let name = "a_pool_in_a_static_ends_with_the_process";
    let main = || {
        assert_eq!(POOL.submit(|| 6 * 7).result().unwrap(), 42);
        endless_task(&POOL);
        POOL.submit(|| ()).detach();
        println!("main is done");
    };
    if let Some(ended) = program::run(name, 0, main) {
        assert!(ended.well().printed("main is done"));
    }
}

#[test]
fn a_pool_in_a_static_can_be_shut_down() {
    let name = "a_pool_in_a_static_can_be_shut_down";
    let main = || {
        slow_task(&POOL).detach();
        POOL.shutdown_blocking(Shutdown::Drain).unwrap();
        assert!(matches!(POOL.submit(|| ()).result(), Err(Error::ShutDown)));
    };
    if let Some(ended) = program::run(name, 0, main) {
        assert!(ended.well().printed("the task is done"));
    }
}

/// A job may end the process, with the exit code that it says, while others run and wait.
#[test]
fn a_job_may_end_the_process() {
    let name = "a_job_may_end_the_process";
    let main = |size| {
        let pool = pool(size);
        let exits = pool.submit(|| std::process::exit(3));
        pool.submit(|| ()).detach();
        let never: Result<(), Error> = exits.result();
        unreachable!("{never:?}");
    };
    program(name, main, |ended| {
        assert_eq!(ended.status.code(), Some(3), "{}\n{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stderr, "");
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
        assert!(
            ended.stderr.contains("main has had enough")
                || ended.stdout.contains("main has had enough")
        );
    });
}
