//! IN: CPython's `test_init.py`.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use concurrent_futures::{Error, Shutdown, TaskFuture, call};

use crate::support::{POOL_SIZES, within_limit};
use crate::tools::{Gate, Reports, builder, end, occupy_all};

static SEEN: AtomicU32 = AtomicU32::new(0);

fn remember(n: u32) -> Result<(), String> {
    SEEN.store(n, SeqCst);
    Ok(())
}

fn seen() -> u32 {
    SEEN.load(SeqCst)
}

#[test]
fn in_1_the_initializer_runs_in_every_worker_before_any_task() {
    within_limit(|| {
        for max_workers in POOL_SIZES {
            let pool = builder(max_workers).initializer(remember, 42).build().unwrap();
            // All workers at the same time.
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let queued: Vec<TaskFuture<u32>> =
                (0..2 * max_workers).map(|_| pool.submit(call!(seen()))).collect();
            gate.open();
            assert!(held.into_iter().all(|future| future.result().is_ok()));
            assert!(queued.into_iter().all(|future| future.result().unwrap() == 42));
            end(&pool);
        }
        assert_eq!(seen(), 0, "not here");
    });
}

fn refuse(text: String) -> Result<(), String> {
    Err(text)
}

fn panic_with(text: String) -> Result<(), String> {
    panic!("{text}")
}

#[track_caller]
fn assert_broken<T: std::fmt::Debug>(outcome: &Result<T, Error>, text: &str) {
    let Err(Error::BrokenPool(cause)) = outcome else { panic!("{outcome:?}") };
    assert!(cause.to_string().contains(text), "{cause}");
}

#[test]
fn in_2_a_failing_initializer_breaks_the_pool_with_its_error() {
    within_limit(|| {
        for max_workers in POOL_SIZES {
            for initializer in [refuse, panic_with] {
                let text = "there is no database";
                let pool =
                    builder(max_workers).initializer(initializer, text.to_owned()).build().unwrap();
                let first: Vec<_> = (0..5).map(|_| pool.submit(call!(seen()))).collect();
                first.into_iter().for_each(|future| assert_broken(&future.result(), text));
                // From now on it is refused at once, and the call comes back.
                let refused = pool.try_submit(call!(seen())).unwrap_err();
                assert_broken::<()>(&Err(refused.into_parts().1), text);
                assert_broken(&pool.map(u64::from, [1u32, 2]).result(), text);
                end(&pool);
            }
        }
    });
}

fn exit(code: i32) -> Result<(), String> {
    process::exit(code)
}

#[test]
fn an_initializer_that_ends_its_worker_breaks_the_pool_after_some_tries() {
    within_limit(|| {
        for max_workers in POOL_SIZES {
            let pool = builder(max_workers).initializer(exit, 3).build().unwrap();
            assert_broken(&pool.submit(call!(seen())).result(), "exit code 3");
            end(&pool);
        }
    });
}

fn report(to: Reports) -> Result<(), String> {
    to.add(process::id());
    Ok(())
}

#[test]
fn a_worker_that_replaces_another_one_is_initialized_too() {
    within_limit(|| {
        let reports = Reports::new();
        let pool =
            builder(1).max_tasks_per_child(1).initializer(report, reports.clone()).build().unwrap();
        let workers: Vec<u32> =
            (0..3).map(|_| pool.submit(call!(process::id())).result().unwrap()).collect();
        assert_eq!(reports.wait_for(3), workers);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}
