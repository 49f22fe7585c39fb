//! Workers without a task: those that end after a while, and those that stay.

use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Shutdown, ThreadPoolBuilder, ThreadPoolExecutor};

use crate::support::{Counter, Gate, POOL_SIZES, occupy, scaled, within_limit};

fn builder(max_workers: usize) -> ThreadPoolBuilder {
    ThreadPoolExecutor::builder().max_workers(max_workers)
}

/// Has all workers of a pool started at the same time, and then idle.
fn start_all(pool: &ThreadPoolExecutor) {
    let gate = Gate::new();
    let busy: Vec<_> = (0..pool.max_workers()).map(|_| occupy(pool, &gate)).collect();
    gate.open();
    busy.into_iter().for_each(|busy| busy.result().unwrap());
}

fn until_workers_are(pool: &ThreadPoolExecutor, count: usize) {
    while pool.metrics().workers != count {
        thread::yield_now();
    }
}

#[test]
fn an_idle_worker_ends_after_a_while_and_another_one_takes_its_place() {
    within_limit(|| {
        for size in POOL_SIZES {
            for limit in [Duration::ZERO, Duration::from_millis(5)] {
                let pool = builder(size).idle_timeout(limit).build().unwrap();
                start_all(&pool);
                until_workers_are(&pool, 0);
                let id = || thread::current().id();
                let first = pool.submit(id).result().unwrap();
                until_workers_are(&pool, 0);
                assert_ne!(pool.submit(id).result().unwrap(), first);
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
                assert_eq!(pool.metrics().completed, size as u64 + 2);
            }
        }
    });
}

/// Each worker ends as soon as it can.
#[test]
fn no_task_is_lost_to_a_worker_that_ends() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = builder(size).idle_timeout(Duration::ZERO).build().unwrap();
            thread::scope(|scope| {
                for _ in 0..2 {
                    let pool = pool.clone();
                    scope.spawn(move || {
                        for n in 0..scaled(1_000) {
                            assert_eq!(pool.submit(move || n).result().unwrap(), n);
                        }
                        let inner = pool.clone();
                        let nested = pool.submit(move || inner.submit(|| 7).result().unwrap());
                        assert_eq!(nested.result().unwrap(), 7);
                    });
                }
            });
            let squares = pool.map(|n| n * n, 0..1_000_u32).chunk_size(1);
            assert!(squares.result().unwrap().into_iter().eq((0..1_000).map(|n| n * n)));
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

#[test]
fn a_limit_without_end_ends_no_worker() {
    within_limit(|| {
        let pool = builder(2).idle_timeout(Duration::MAX).build().unwrap();
        start_all(&pool);
        for n in 0..100 {
            assert_eq!(pool.submit(move || n).result().unwrap(), n);
        }
        assert_eq!(pool.metrics().workers, 2);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn build_starts_the_smallest_number_of_workers_and_does_not_wait_for_them() {
    within_limit(|| {
        let (begun, gate) = (Counter::new(), Gate::new());
        let (begins, open) = (begun.clone(), gate.clone());
        let builder = builder(4).min_workers(3).initializer(move || {
            begins.add();
            open.wait();
        });
        let pool = builder.build().unwrap();
        begun.wait_for(3);
        assert_eq!((pool.metrics().workers, pool.metrics().submitted), (3, 0));
        gate.open();
        // They are counted on: no fourth one starts for a task.
        assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
        assert_eq!(pool.metrics().workers, 3);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(begun.get(), 3);
    });
}

#[test]
fn the_smallest_number_of_workers_stays() {
    within_limit(|| {
        let pool = builder(4).min_workers(2).idle_timeout(Duration::ZERO).build().unwrap();
        for _ in 0..scaled(200) {
            start_all(&pool);
            while pool.metrics().workers > 2 {
                assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
                thread::yield_now();
            }
            assert_eq!(pool.metrics().workers, 2);
        }
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(pool.metrics().workers, 0);
    });
}

#[test]
fn the_smallest_number_of_workers_is_none_above_the_largest() {
    let pool = builder(2).min_workers(2).build().unwrap();
    assert_eq!(pool.metrics().workers, 2);
    match builder(2).min_workers(3).build() {
        Err(error @ Error::InvalidSetting { setting: "min_workers", .. }) => {
            assert!(error.to_string().contains("at most max_workers, which is 2"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let more = ThreadPoolExecutor::builder().min_workers(num_cpus() + 1).build();
    assert!(matches!(more, Err(Error::InvalidSetting { setting: "min_workers", .. })));
}

fn num_cpus() -> usize {
    ThreadPoolExecutor::new().max_workers()
}
