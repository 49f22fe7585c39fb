//! The counters are exact: what a future's end implies is counted when that end is seen.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use concurrent_futures::{InlineExecutor, Metrics, Shutdown, ThreadPoolExecutor};
use futures::executor::block_on;

use crate::support::{Counter, Gate, POOL_SIZES, on_runtimes, pool, scaled, within_limit};
use crate::tools::{occupy_all, soon};

fn ends(metrics: &Metrics) -> (u64, u64, u64) {
    (metrics.completed, metrics.failed, metrics.cancelled)
}

/// Threads, those without a task, waiting tasks, running tasks.
fn now(metrics: &Metrics) -> (usize, usize, usize, usize) {
    (metrics.workers, metrics.idle, metrics.queued, metrics.running)
}

#[test]
fn a_new_pool_has_counted_nothing_and_has_no_workers() {
    within_limit(|| {
        let metrics = pool(4).metrics();
        assert_eq!((ends(&metrics), now(&metrics)), ((0, 0, 0), (0, 0, 0, 0)));
        assert_eq!((metrics.queue_time.count(), metrics.run_time.count()), (0, 0));
        assert_eq!(metrics.run_time.sum(), Duration::ZERO);
        assert_eq!((metrics.run_time.mean(), metrics.run_time.quantile(0.5)), (None, None));
        assert_eq!(metrics.run_time.buckets().count(), 0);
    });
}

#[test]
fn each_awaited_task_is_counted_when_its_future_is_ready() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for n in 1..=scaled(300) as u64 {
                pool.submit(move || n).await.unwrap();
                let metrics = pool.metrics();
                assert_eq!((metrics.completed, metrics.run_time.count()), (n, n));
                assert_eq!(metrics.queue_time.count(), n);
                assert_eq!(now(&metrics), (1, 1, 0, 0), "the worker is free");
            }
        }
    });
}

#[test]
fn each_task_is_counted_whatever_shows_that_it_has_finished() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for n in 0..scaled(200) as u64 {
                // Seen by a thread that looks,
                let future = pool.submit(move || n);
                while !future.is_done() {
                    std::hint::spin_loop();
                }
                assert_eq!(pool.metrics().completed, 3 * n + 1);
                drop(future);
                // by one that blocks,
                soon(pool.submit(|| ())).unwrap();
                assert_eq!(pool.metrics().completed, 3 * n + 2);
                // and in a set.
                let mut done = concurrent_futures::as_completed([pool.submit(|| ())]);
                assert!(block_on(futures::StreamExt::next(&mut done)).is_some());
                assert_eq!(pool.metrics().completed, 3 * n + 3);
            }
        }
    });
}

#[test]
fn failures_and_withdrawals_are_counted_at_once() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let mut expected = (0, 0, 0);
            for _ in 0..20 {
                assert!(soon::<()>(pool.submit(|| panic!("counted"))).is_err());
                expected.1 += 1;
                assert_eq!(ends(&pool.metrics()), expected);

                let gate = Gate::new();
                let held = occupy_all(&pool, &gate);
                assert!(pool.submit(|| ()).cancel());
                drop(pool.submit(|| ()));
                drop(pool.submit_future(async {}));
                expected.2 += 3;
                assert_eq!(ends(&pool.metrics()), expected);
                let late = pool.task().queue_timeout(Duration::ZERO).submit(|| ());
                assert!(soon(late).is_err());
                expected.2 += 1;
                assert_eq!(ends(&pool.metrics()), expected);

                gate.open();
                held.into_iter().for_each(|future| soon(future).unwrap());
                expected.0 += workers as u64;
                assert_eq!(ends(&pool.metrics()), expected);

                let gate = Gate::new();
                let wait = gate.clone();
                let late = pool.task().timeout(Duration::ZERO).submit(move || wait.wait());
                assert!(soon(late).is_err());
                expected.1 += 1;
                assert_eq!(ends(&pool.metrics()), expected);
                gate.open();
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(ends(&pool.metrics()), expected);
        }
    });
}

#[test]
fn what_is_refused_is_not_counted() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let queued = pool.submit(|| ());
        assert!(soon(pool.submit(|| ())).is_err());
        assert!(pool.try_submit(|| ()).is_err());
        assert!(soon(pool.submit_future(async {})).is_err());
        assert_eq!((ends(&pool.metrics()), pool.metrics().queued), ((0, 0, 0), 1));
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
        soon(queued).unwrap();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert!(soon(pool.submit(|| ())).is_err());
        assert_eq!(ends(&pool.metrics()), (2, 0, 0));
    });
}

#[test]
fn under_gates_every_number_is_known() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gates: Vec<_> = (0..workers).map(|_| Gate::new()).collect();
            let mut held = Vec::new();
            for (n, gate) in gates.iter().enumerate() {
                assert_eq!(now(&pool.metrics()), (n, 0, 0, n));
                held.push(crate::support::occupy(&pool, gate));
            }
            assert_eq!(now(&pool.metrics()), (workers, 0, 0, workers));
            let queued: Vec<_> = (1..=5)
                .map(|n| {
                    let future = pool.submit(|| ());
                    assert_eq!(now(&pool.metrics()), (workers, 0, n, workers));
                    future
                })
                .collect();
            assert_eq!(ends(&pool.metrics()), (0, 0, 0));
            assert_eq!(pool.metrics().queue_time.count(), workers as u64);
            assert_eq!(pool.metrics().run_time.count(), 0);

            // One worker does all that is queued.
            gates[0].open();
            soon(held.remove(0)).unwrap();
            queued.into_iter().for_each(|future| soon(future).unwrap());
            let metrics = pool.metrics();
            assert_eq!(now(&metrics), (workers, 1, 0, workers - 1));
            assert_eq!((ends(&metrics), metrics.run_time.count()), ((6, 0, 0), 6));

            gates.iter().for_each(Gate::open);
            held.into_iter().for_each(|future| soon(future).unwrap());
            assert_eq!(now(&pool.metrics()), (workers, workers, 0, 0));
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let metrics = pool.metrics();
            assert_eq!(now(&metrics), (0, 0, 0, 0));
            // What the workers have counted outlives them.
            let all = workers as u64 + 5;
            assert_eq!((ends(&metrics), metrics.run_time.count()), ((all, 0, 0), all));
            assert_eq!(metrics.queue_time.count(), all);
        }
    });
}

#[test]
fn a_job_sees_itself_and_its_neighbours() {
    within_limit(|| {
        let pool = pool(2);
        let barrier = Arc::new(Barrier::new(2));
        let jobs: Vec<_> = (0..2)
            .map(|_| {
                let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
                pool.clone().submit(move || {
                    barrier.wait(); // both run
                    let seen = now(&pool.metrics());
                    barrier.wait(); // both have looked
                    seen
                })
            })
            .collect();
        for job in jobs {
            assert_eq!(soon(job).unwrap(), (2, 0, 0, 2));
        }
    });
}

#[test]
fn a_job_that_waits_counts_as_running_and_its_spare_as_a_worker() {
    within_limit(|| {
        let pool = pool(1);
        // In place: two tasks on one worker.
        let inner = pool.clone();
        let in_place = pool.submit(move || {
            let pool = inner.clone();
            inner.submit(move || now(&pool.metrics())).result().unwrap()
        });
        assert_eq!(soon(in_place).unwrap(), (1, 0, 0, 2));
        assert_eq!(ends(&pool.metrics()), (2, 0, 0));

        // Elsewhere: the job waits with a limit, and a spare runs what it waits for.
        let inner = pool.clone();
        let elsewhere = pool.submit(move || {
            let pool = inner.clone();
            let mut future = inner.submit(move || (now(&pool.metrics()), thread::current().id()));
            let seen = future.result_timeout(Duration::from_secs(60)).unwrap().unwrap();
            (seen, thread::current().id())
        });
        let ((seen, spare), waiting) = soon(elsewhere).unwrap();
        assert_eq!(seen, (2, 0, 0, 2));
        assert_ne!(spare, waiting);
        let metrics = pool.metrics();
        assert_eq!((ends(&metrics), metrics.run_time.count()), ((4, 0, 0), 4));
    });
}

#[test]
fn nothing_that_spares_have_counted_is_lost_when_they_retire() {
    fn sum(pool: &ThreadPoolExecutor, n: u64, tasks: &Counter) -> u64 {
        if n < 2 {
            return n;
        }
        let half = |n: u64| {
            tasks.add();
            let (inner, tasks) = (pool.clone(), tasks.clone());
            pool.submit(move || sum(&inner, n, &tasks))
        };
        let (mut less, mut least) = (half(n - 1), half(n - 2));
        let limit = Duration::from_secs(60); // such a wait never runs the task in place
        less.result_timeout(limit).unwrap().unwrap() + least.result_timeout(limit).unwrap().unwrap()
    }

    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let tasks = Counter::new();
            let (inner, count) = (pool.clone(), tasks.clone());
            assert_eq!(soon(pool.submit(move || sum(&inner, 9, &count))).unwrap(), 34);
            let all = tasks.get() as u64 + 1;
            let metrics = pool.metrics();
            assert_eq!(ends(&metrics), (all, 0, 0));
            assert_eq!((metrics.run_time.count(), metrics.queue_time.count()), (all, all));
            assert_eq!((metrics.queued, metrics.running), (0, 0));
            // The spares go, and the sums stay.
            while pool.metrics().workers > workers {
                thread::yield_now();
            }
            let metrics = pool.metrics();
            assert_eq!((ends(&metrics), metrics.run_time.count()), ((all, 0, 0), all));
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let metrics = pool.metrics();
            assert_eq!((ends(&metrics), metrics.queue_time.count()), ((all, 0, 0), all));
        }
    });
}

#[test]
fn the_histograms_hold_what_was_measured() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let queued = pool.submit(|| ());
        // Time passes while it waits and while the first one runs; a wait elsewhere measures it.
        let least = Duration::from_millis(5);
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        assert!(never.recv_timeout(least).is_err());
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
        soon(queued).unwrap();
        let metrics = pool.metrics();
        for histogram in [&metrics.queue_time, &metrics.run_time] {
            assert_eq!(histogram.count(), 2);
            // One of the two took that long: the upper half.
            assert!(histogram.quantile(1.0).unwrap() >= least, "{histogram:?}");
            assert!(histogram.sum() >= least);
            assert_eq!(histogram.mean(), Some(histogram.sum() / 2));
            let buckets: Vec<_> = histogram.buckets().collect();
            assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 2);
            assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0), "{buckets:?}");
            assert_eq!(buckets.last().map(|(bound, _)| *bound), histogram.quantile(1.0));
            assert_eq!(buckets.first().map(|(bound, _)| *bound), histogram.quantile(0.0));
            // An upper bound, and at most a quarter too high.
            assert!(histogram.quantile(1.0).unwrap() <= histogram.sum() * 5 / 4);
            // Out of range is clamped.
            assert_eq!(histogram.quantile(7.0), histogram.quantile(1.0));
            assert_eq!(histogram.quantile(-7.0), histogram.quantile(0.0));
            assert!(histogram.quantile(f64::NAN).is_some());
        }
    });
}

#[test]
fn a_snapshot_does_not_change() {
    within_limit(|| {
        let pool = pool(1);
        let before = pool.metrics();
        soon(pool.submit(|| ())).unwrap();
        let after = pool.metrics();
        let copy = after.clone();
        soon(pool.submit(|| ())).unwrap();
        assert_eq!((before.completed, after.completed, copy.completed), (0, 1, 1));
        assert_eq!((before.run_time.count(), copy.run_time.count()), (0, 1));
        assert_eq!(pool.metrics().completed, 2);
    });
}

#[test]
fn all_clones_count_to_the_same_place() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            thread::scope(|scope| {
                for _ in 0..4 {
                    let clone = pool.clone();
                    scope.spawn(move || {
                        for _ in 0..scaled(100) {
                            soon(clone.submit(|| ())).unwrap();
                        }
                    });
                }
            });
            let metrics = pool.metrics();
            let all = 4 * scaled(100) as u64;
            assert_eq!((ends(&metrics), metrics.run_time.count()), ((all, 0, 0), all));
            assert!(metrics.workers <= workers);
        }
    });
}

#[test]
fn the_sums_of_a_pool_that_works_never_go_back() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let all = scaled(3_000);
            let clone = pool.clone();
            let submitting = thread::spawn(move || {
                for n in 0..all {
                    let future = clone.submit(move || n);
                    if n % 3 == 0 {
                        let _ = future.cancel();
                    }
                    future.detach();
                }
            });
            let mut last = (0, 0, 0);
            while !submitting.is_finished() {
                let metrics = pool.metrics();
                let (completed, failed, cancelled) = ends(&metrics);
                assert!(completed >= last.0 && failed >= last.1 && cancelled >= last.2);
                assert!(metrics.workers <= workers && metrics.running <= workers);
                assert!(completed + cancelled <= all as u64 && metrics.queued <= all);
                last = (completed, failed, cancelled);
            }
            submitting.join().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let (completed, failed, cancelled) = ends(&pool.metrics());
            assert_eq!((completed + cancelled, failed), (all as u64, 0));
        }
    });
}

#[test]
fn the_report_of_a_shutdown_counts_from_its_beginning() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            (0..3).for_each(|_| soon(pool.submit(|| ())).unwrap());
            assert!(soon::<()>(pool.submit(|| panic!("before"))).is_err());
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let (_kept, bad) = (pool.submit(|| ()), pool.submit(|| panic!("after")));
            let withdrawn = pool.submit(|| ());
            let first = pool.shutdown(Shutdown::Drain);
            assert!(withdrawn.cancel());
            let second = pool.shutdown(Shutdown::Drain);
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            assert!(soon::<()>(bad).is_err());
            let (first, second) = (block_on(first), block_on(second));
            assert_eq!(first, second, "all who wait for it get the same");
            let counts = (first.completed, first.failed, first.cancelled);
            assert_eq!(counts, (workers as u64 + 1, 1, 1));
            assert_eq!((first.queued, first.running.len()), (0, 0));
            assert_eq!(ends(&pool.metrics()), (workers as u64 + 4, 2, 1));
        }
    });
}

#[test]
fn the_inline_executor_counts_as_well() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let inner = executor.clone();
        let seen = soon(executor.submit(move || now(&inner.metrics()))).unwrap();
        assert_eq!(seen, (0, 0, 0, 1), "the job itself");
        assert!(soon::<()>(executor.submit(|| panic!("inline"))).is_err());
        let metrics = executor.metrics();
        assert_eq!((ends(&metrics), now(&metrics)), ((1, 1, 0), (0, 0, 0, 0)));
        assert_eq!((metrics.run_time.count(), metrics.queue_time.count()), (2, 2));
        assert_eq!(metrics.queue_time.sum(), Duration::ZERO);
        let report = executor.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((report.completed, report.failed), (0, 0), "from its beginning");
    });
}
