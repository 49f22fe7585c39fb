//! TP: CPython's `test_thread_pool.py`.

use std::collections::HashSet;
use std::thread::{self, ThreadId};
use std::time::Duration;

use concurrent_futures::{Error, InlineExecutor, Shutdown, ThreadPoolExecutor};

use crate::support::{Counter, Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, within_limit};

/// TP-1.
#[test]
fn a_map_is_started_and_a_waiting_shutdown_runs_all_of_it() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let ran = Counter::new();
            let count = ran.clone();
            let map = pool.map(move |_| count.add(), 0..50).start();
            ran.wait_for(1); // nobody has polled it
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(ran.get(), 50);
            assert_eq!(map.result().unwrap().len(), 50);
        }
    });
}

/// TP-1.
#[test]
fn an_awaited_shutdown_runs_all_of_a_map() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let ran = Counter::new();
            let count = ran.clone();
            let map = pool.map(move |_| count.add(), 0..50).start();
            pool.shutdown(Shutdown::Drain).await;
            assert_eq!(ran.get(), 50);
            assert_eq!(map.await.unwrap().len(), 50);
        }
    });
}

/// TP-1. Inline, the others are computed when they are asked for; but what was accepted before a
/// shutdown that drains is not lost there either.
#[test]
fn an_inline_map_that_was_started_survives_a_shutdown_that_drains() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let ran = Counter::new();
        let count = ran.clone();
        let map = executor.map(move |_| count.add(), 0..50).start();
        assert_eq!(ran.get(), 1);
        executor.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(map.result().unwrap().len(), 50);
        assert_eq!(ran.get(), 50);
    });
}

/// TP-2.
#[test]
fn the_default_size_is_the_cpus_that_this_process_may_use() {
    assert_eq!(ThreadPoolExecutor::new().max_workers(), num_cpus::get());
    assert_eq!(ThreadPoolExecutor::default().max_workers(), num_cpus::get());
    assert_eq!(ThreadPoolExecutor::builder().build().unwrap().max_workers(), num_cpus::get());
    assert_eq!(pool(3).max_workers(), 3);
}

/// TP-3.
#[test]
fn sixty_blocking_tasks_start_no_more_threads_than_the_pool_has_workers() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            assert_eq!(pool.metrics().workers, 0, "no thread before there is a task");
            let (gate, started) = (Gate::new(), Counter::new());
            let futures: Vec<_> = (0..60)
                .map(|_| {
                    let (gate, started) = (gate.clone(), started.clone());
                    pool.submit(move || {
                        started.add();
                        gate.wait();
                        thread::current().id()
                    })
                })
                .collect();
            started.wait_for(size);
            let metrics = pool.metrics();
            assert_eq!((metrics.workers, metrics.queued), (size, 60 - size));
            gate.open();
            let threads: HashSet<ThreadId> =
                futures.into_iter().map(|future| future.result().unwrap()).collect();
            assert_eq!(threads.len(), size);
            assert_eq!(pool.metrics().workers, size);
        }
    });
}

/// TP-4.
#[test]
fn tasks_awaited_one_after_another_use_one_thread() {
    within_limit(|| {
        for size in POOL_SIZES {
            for _ in 0..scaled(100) {
                let pool = pool(size);
                let id = || pool.submit(|| thread::current().id()).result().unwrap();
                let threads = [id(), id(), id()];
                assert_eq!(threads, [threads[0]; 3]);
                assert_eq!(pool.metrics().workers, 1);
            }
        }
    });
}

/// TP-4.
#[test]
fn async_tasks_awaited_one_after_another_use_one_thread() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            for _ in 0..scaled(100) {
                let pool = pool(size);
                let mut threads = HashSet::new();
                for _ in 0..3 {
                    threads.insert(pool.submit(|| thread::current().id()).await.unwrap());
                    let polled = pool.submit_future(async { thread::current().id() });
                    threads.insert(polled.await.unwrap());
                }
                assert_eq!(threads.len(), 1);
                assert_eq!(pool.metrics().workers, 1);
            }
        }
    });
}

// TP-5 and TP-6: tests/fork.rs.

/// TP-7.
#[test]
fn a_map_with_a_time_limit_of_zero_on_a_saturated_pool_runs_nothing() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let ran = Counter::new();

            let count = ran.clone();
            let mut map = pool.map(move |_| count.add(), 0..5).timeout(Duration::ZERO);
            assert_timed_out(map.next().await.unwrap());
            assert!(map.next().await.is_none(), "nothing comes after it");

            let count = ran.clone();
            let awaited = pool.map(move |_| count.add(), 0..5).timeout(Duration::ZERO);
            assert_timed_out(awaited.await);

            let count = ran.clone();
            let mut unordered =
                pool.map(move |_| count.add(), 0..5).timeout(Duration::ZERO).unordered();
            let (index, result) = unordered.next().await.unwrap();
            assert_eq!(index, 0);
            assert_timed_out(result);
            assert!(unordered.next().await.is_none());

            gate.open();
            for future in busy {
                future.await.unwrap();
            }
            // The maps are still here: it is not their drop that stops them.
            pool.shutdown(Shutdown::Drain).await;
            assert_eq!(ran.get(), 0);
        }
    });
}

#[track_caller]
fn assert_timed_out<T>(result: Result<T, Error>) {
    match result {
        Err(Error::TimedOut { limit: Duration::ZERO, started: false, .. }) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a value, within no time"),
    }
}
