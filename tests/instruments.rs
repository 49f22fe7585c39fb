//! The feature `metrics`: after an export, a recorder knows the numbers that the pool has counted.

#![cfg(feature = "metrics")]

#[cfg(unix)]
#[path = "lifecycle/program.rs"]
mod program;
#[allow(unreachable_pub, reason = "each test binary includes it as a private module")]
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use concurrent_futures::{Metrics, Shutdown, ThreadPoolExecutor, export_metrics};
use futures::executor::block_on;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use support::{Gate, POOL_SIZES, occupy, within_limit};

/// The value of a counter or gauge, or the count and the sum of a histogram.
#[derive(Default)]
struct Value {
    number: Mutex<f64>,
    recorded: Mutex<(u64, f64)>,
}

impl CounterFn for Value {
    fn increment(&self, by: u64) {
        *self.number.lock().unwrap() += by as f64;
    }

    fn absolute(&self, _: u64) {
        panic!("nothing is counted in this way");
    }
}

impl GaugeFn for Value {
    fn increment(&self, by: f64) {
        *self.number.lock().unwrap() += by;
    }

    fn decrement(&self, by: f64) {
        *self.number.lock().unwrap() -= by;
    }

    fn set(&self, _: f64) {
        panic!("nothing is set");
    }
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        let mut recorded = self.recorded.lock().unwrap();
        *recorded = (recorded.0 + count as u64, recorded.1 + value * count as f64);
    }
}

/// Keeps all by name; every one has the same label.
#[derive(Clone, Default)]
struct Recorded {
    values: Arc<Mutex<BTreeMap<String, Arc<Value>>>>,
    units: Arc<Mutex<BTreeMap<String, Option<Unit>>>>,
}

impl Recorded {
    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<_> = key.labels().map(|label| (label.key(), label.value())).collect();
        assert_eq!(labels, [("pool", "seen")]);
        Arc::clone(self.values.lock().unwrap().entry(key.name().to_owned()).or_default())
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        self.units.lock().unwrap().insert(name.as_str().to_owned(), unit);
    }

    fn get(&self, name: &str) -> Arc<Value> {
        Arc::clone(&self.values.lock().unwrap()[&format!("concurrent_futures_{name}")])
    }

    fn number(&self, name: &str) -> f64 {
        *self.get(name).number.lock().unwrap()
    }

    fn numbers<const N: usize>(&self, names: [&str; N]) -> [f64; N] {
        names.map(|name| self.number(name))
    }

    /// How many durations were recorded, and their sum.
    fn recorded(&self, name: &str) -> (u64, Duration) {
        let (count, sum) = *self.get(name).recorded.lock().unwrap();
        (count, Duration::from_secs_f64(sum))
    }

    /// Exports, and compares with the pool's own numbers. Nothing else happens in the pool meanwhile.
    #[track_caller]
    fn assert_exported(&self, metrics: impl Fn() -> Metrics) {
        export_metrics();
        self.assert_knows(&metrics());
    }

    /// Compares without an export.
    #[track_caller]
    fn assert_knows(&self, metrics: &Metrics) {
        let counted = self.numbers([
            "tasks_submitted_total",
            "tasks_completed_total",
            "tasks_failed_total",
            "tasks_cancelled_total",
            "map_items_total",
            "workers_lost_total",
            "tasks_queued",
            "tasks_running",
            "workers",
        ]);
        let known = [
            metrics.submitted as f64,
            metrics.completed as f64,
            metrics.failed as f64,
            metrics.cancelled as f64,
            metrics.items as f64,
            metrics.workers_lost as f64,
            metrics.queued as f64,
            metrics.running as f64,
            metrics.workers as f64,
        ];
        assert_eq!(counted, known, "{metrics:?}");
        let left = (metrics.queued + metrics.running) as u64;
        let ended = metrics.completed + metrics.failed + metrics.cancelled;
        assert_eq!(metrics.submitted, ended + left);
        for (name, histogram) in
            [("queue_seconds", &metrics.queue_time), ("run_seconds", &metrics.run_time)]
        {
            let (count, sum) = self.recorded(name);
            assert_eq!(count, histogram.count(), "{name}");
            let off = sum.abs_diff(histogram.sum());
            // Each time is cut to nanoseconds.
            assert!(off <= Duration::from_micros(100), "{name}: {off:?} of {:?}", histogram.sum());
        }
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key))
    }
}

/// A pool that is made where the recorder is the current one; it is used elsewhere.
fn seen(workers: usize, capacity: usize) -> (ThreadPoolExecutor, Recorded) {
    let recorded = Recorded::default();
    let builder =
        ThreadPoolExecutor::builder().max_workers(workers).queue_capacity(capacity).name("seen");
    let pool = metrics::with_local_recorder(&recorded, || builder.build().unwrap());
    (pool, recorded)
}

/// Has one test run at a time: an export is of all pools, and of two at the same time one may return while
/// the other one is still telling.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks until it is so; nothing tells of it.
fn eventually(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

#[test]
fn the_names_and_units_are_those_of_the_guide() {
    let _alone = alone();
    let (_pool, recorded) = seen(1, 1);
    let guide = include_str!("../docs/guide/observability.md");
    let units = recorded.units.lock().unwrap();
    assert_eq!(units.len(), 11);
    for (name, unit) in &*units {
        let unit = match unit {
            Some(Unit::Seconds) => "seconds",
            Some(Unit::Count) if name.ends_with("workers") || name.contains("workers_lost") => {
                "workers"
            }
            Some(Unit::Count) if name.contains("items") => "items",
            Some(Unit::Count) => "tasks",
            other => panic!("{name} has the unit {other:?}"),
        };
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        assert!(row.is_some_and(|row| row.contains(&format!("| {unit} |"))), "{name}: {row:?}");
    }
    // And the other way round.
    let rows = guide.lines().filter(|line| line.starts_with("| `concurrent_futures_"));
    assert_eq!(rows.count(), units.len());
    let registered: Vec<_> = recorded.values.lock().unwrap().keys().cloned().collect();
    assert_eq!(registered, units.keys().cloned().collect::<Vec<_>>());
}

#[test]
fn threads_tell_what_they_count() {
    let _alone = alone();
    within_limit(|| {
        for workers in POOL_SIZES {
            let (pool, recorded) = seen(workers, 10);
            recorded.assert_exported(|| pool.metrics());
            for n in 0..100 {
                assert_eq!(pool.submit(move || n).result().unwrap(), n);
                recorded.assert_exported(|| pool.metrics());
            }
            assert!(pool.submit(|| panic!("counted")).result().is_err());
            recorded.assert_exported(|| pool.metrics());
            pool.map(|n| n, 0..100).result().unwrap();
            assert_eq!(pool.metrics().items, 100);
            // Its jobs are not done with its last result.
            eventually(|| pool.metrics().running + pool.metrics().queued == 0);
            recorded.assert_exported(|| pool.metrics());

            let gate = Gate::new();
            let held: Vec<_> = (0..workers).map(|_| occupy(&pool, &gate)).collect();
            recorded.assert_exported(|| pool.metrics());
            let queued: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
            assert!(pool.submit(|| ()).result().is_err()); // refused, and not counted
            recorded.assert_exported(|| pool.metrics());
            assert_eq!(recorded.numbers(["tasks_queued", "tasks_running"]), [10.0, workers as f64]);
            let mut queued = queued.into_iter();
            drop(queued.next());
            assert!(queued.next().unwrap().cancel());
            recorded.assert_exported(|| pool.metrics());
            assert!(pool.task().queue_timeout(Duration::ZERO).submit(|| ()).result().is_err());
            drop(pool.submit_future(async {}));
            assert!(pool.submit_future(async {}).cancel());
            recorded.assert_exported(|| pool.metrics());
            gate.open();
            held.into_iter().for_each(|future| future.result().unwrap());
            queued.for_each(|future| assert!(future.result().is_ok()));
            recorded.assert_exported(|| pool.metrics());

            let gate = Gate::new();
            let wait = gate.clone();
            let late = pool.task().timeout(Duration::ZERO).submit(move || wait.wait());
            assert!(late.result().is_err());
            export_metrics();
            assert_eq!(recorded.number("tasks_failed_total"), 2.0);
            gate.open();
            eventually(|| pool.metrics().running == 0);

            // An async task waits between its polls, and is stopped while it waits.
            let (end, future) = concurrent_futures::TaskFuture::promise();
            let task = pool.submit_future(async move { future.await.unwrap() });
            eventually(|| pool.dump().suspended.len() == 1);
            end.complete(Ok(7));
            assert_eq!(task.result().unwrap(), 7);
            let task = pool.submit_future(std::future::pending::<()>());
            eventually(|| pool.dump().suspended.len() == 1);
            assert!(task.cancel());

            let squares = pool.map(|n: u64| n * n, 0..1_000).result().unwrap();
            assert_eq!(squares.len(), 1_000);
            eventually(|| pool.metrics().running == 0 && pool.metrics().queued == 0);
            recorded.assert_exported(|| pool.metrics());

            let gate = Gate::new();
            let held: Vec<_> = (0..workers).map(|_| occupy(&pool, &gate)).collect();
            let (one, other) = (pool.submit(|| ()), pool.submit_future(async {}));
            let end = pool.shutdown(Shutdown::CancelQueued);
            gate.open();
            held.into_iter().for_each(|future| future.result().unwrap());
            assert!(one.result().is_err() && other.result().is_err());
            end.result().unwrap(); // and the threads are gone
            recorded.assert_knows(&pool.metrics());
            assert_eq!(recorded.numbers(["workers", "tasks_queued", "tasks_running"]), [0.0; 3]);
            assert_eq!(recorded.number("workers_lost_total"), 0.0);
        }
    });
}

#[test]
fn nothing_is_told_between_two_exports() {
    let _alone = alone();
    within_limit(|| {
        let (pool, recorded) = seen(1, 1);
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        eventually(|| pool.metrics().running == 0);
        export_metrics();
        let known = recorded.number("tasks_submitted_total");
        for n in 0..100 {
            assert_eq!(pool.submit(move || n).result().unwrap(), n);
        }
        assert_eq!(recorded.number("tasks_submitted_total"), known);
        eventually(|| pool.metrics().running == 0);
        recorded.assert_exported(|| pool.metrics());
    });
}

#[test]
fn a_pool_that_goes_without_a_shutdown_is_told_in_full() {
    let _alone = alone();
    within_limit(|| {
        for workers in POOL_SIZES {
            let (pool, recorded) = seen(workers, 1_000);
            let futures: Vec<_> = (0..100).map(|n| pool.submit(move || n)).collect();
            drop(pool);
            futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
            // By the last of its workers.
            eventually(|| recorded.number("tasks_completed_total") == 100.0);
            eventually(|| recorded.recorded("run_seconds").0 == 100);
            assert_eq!(recorded.numbers(["workers", "tasks_queued", "tasks_running"]), [0.0; 3]);
        }
    });
}

#[test]
fn exports_from_many_threads_add_up() {
    let _alone = alone();
    within_limit(|| {
        let (pool, recorded) = seen(2, 10_000);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..200).for_each(|_| export_metrics()));
            }
            for n in 0..2_000_u32 {
                assert_eq!(pool.submit(move || n).result().unwrap(), n);
            }
        });
        eventually(|| pool.metrics().running == 0);
        recorded.assert_exported(|| pool.metrics());
    });
}

#[test]
fn pools_of_one_name_add_up() {
    let _alone = alone();
    within_limit(|| {
        let recorded = Recorded::default();
        let make = || ThreadPoolExecutor::builder().max_workers(1).name("seen").build();
        let pools = metrics::with_local_recorder(&recorded, || [make().unwrap(), make().unwrap()]);
        for (pool, count) in pools.iter().zip([3, 4]) {
            (0..count).for_each(|n| assert_eq!(pool.submit(move || n).result().unwrap(), n));
        }
        eventually(|| pools.iter().all(|pool| pool.metrics().running == 0));
        export_metrics();
        assert_eq!(recorded.numbers(["tasks_completed_total", "workers"]), [7.0, 2.0]);
        let [one, _other] = pools;
        one.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(recorded.numbers(["tasks_completed_total", "workers"]), [7.0, 1.0]);
    });
}

#[test]
fn a_recorder_may_look_at_the_pool() {
    let _alone = alone();
    /// Asks the pool for its metrics with every call, which takes the pool's lock, and exports them.
    #[derive(Clone, Default)]
    struct Asks(Arc<Mutex<Option<ThreadPoolExecutor>>>);

    impl Asks {
        fn ask(&self) {
            let pool = self.0.lock().unwrap().clone();
            drop(pool.map(|pool| pool.metrics()));
            export_metrics();
        }
    }

    impl CounterFn for Asks {
        fn increment(&self, _: u64) {
            self.ask();
        }

        fn absolute(&self, _: u64) {}
    }

    impl GaugeFn for Asks {
        fn increment(&self, _: f64) {
            self.ask();
        }

        fn decrement(&self, _: f64) {
            self.ask();
        }

        fn set(&self, _: f64) {}
    }

    impl HistogramFn for Asks {
        fn record(&self, _: f64) {
            self.ask();
        }
    }

    impl Recorder for Asks {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(self.clone()))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::new(self.clone()))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::new(self.clone()))
        }
    }

    within_limit(|| {
        let asks = Asks::default();
        let pool = metrics::with_local_recorder(&asks, || support::pool(1));
        *asks.0.lock().unwrap() = Some(pool.clone());
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        drop(pool.submit(|| ()));
        let cancelled = pool.submit(|| ());
        let end = pool.shutdown(Shutdown::CancelQueued);
        assert!(cancelled.is_cancelled());
        export_metrics();
        gate.open();
        held.result().unwrap();
        block_on(end);
        asks.0.lock().unwrap().take();
    });
}

/// Runs `main` in a forked child, and waits for its end.
#[cfg(unix)]
#[track_caller]
fn in_a_child(main: impl FnOnce()) {
    // SAFETY: the child has a copy of this thread and of all memory. It may find a lock held for ever;
    // that is what the test is about, and the alarm ends a child that hangs.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: without a handler the signal ends the process.
            unsafe { libc::alarm(20) };
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(main));
            // SAFETY: ends the process, and runs nothing of the parent's on the way.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the place is valid.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "256 is a failed assertion, less a signal");
        }
    }
}

/// A program, so that no thread of another test starts or ends while it forks.
#[cfg(unix)]
#[test]
fn a_forked_child_exports_its_own_pools_alone() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    let use_a_pool = || {
        let (pool, recorded) = seen(1, 10);
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        eventually(|| pool.metrics().running == 0);
        recorded.assert_exported(|| pool.metrics());
    };
    let test = move || {
        let (pool, recorded) = seen(1, 10);
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        eventually(|| pool.metrics().running == 0);
        export_metrics();
        // The parent has not exported these yet.
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        eventually(|| pool.metrics().running == 0);
        let child = || {
            export_metrics();
            drop(pool.shutdown(Shutdown::Drain));
            drop(pool.clone());
            assert_eq!(recorded.numbers(["tasks_submitted_total", "workers"]), [1.0, 1.0]);
            use_a_pool();
            in_a_child(use_a_pool);
        };
        in_a_child(child);
        recorded.assert_exported(|| pool.metrics());
        // It may fork while another thread has the list of all pools, which it has most of the time if
        // there are none.
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        drop(pool);
        let (begun, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    export_metrics();
                    begun.store(true, SeqCst);
                }
            });
            eventually(|| begun.load(SeqCst));
            for _ in 0..30 {
                let forked = std::panic::catch_unwind(|| in_a_child(use_a_pool));
                is_over.fetch_or(forked.is_err(), SeqCst);
                forked.unwrap();
            }
            is_over.store(true, SeqCst);
        });
    };
    let name = "a_forked_child_exports_its_own_pools_alone";
    if let Some(ended) = program::run(name, 0, || within_limit(test)) {
        ended.well();
    }
}

#[cfg(all(feature = "process", target_os = "linux"))]
mod processes {
    use concurrent_futures::{ProcessPoolExecutor, call};

    use super::*;

    fn square(n: u64) -> u64 {
        n * n
    }

    fn crash() {
        std::process::abort();
    }

    fn panics() {
        panic!("counted");
    }

    fn wait_for(path: std::path::PathBuf) {
        while path.exists() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn processes_tell_what_they_count() {
        let _alone = alone();
        within_limit(|| {
            let recorded = Recorded::default();
            let builder = ProcessPoolExecutor::builder()
                .max_workers(1)
                .name("seen")
                .env("RUST_BACKTRACE", "0");
            let pool = metrics::with_local_recorder(&recorded, || builder.build().unwrap());
            for n in 0..50 {
                assert_eq!(pool.submit(call!(square(n))).result().unwrap(), n * n);
            }
            recorded.assert_exported(|| pool.metrics());
            assert!(pool.submit(call!(panics())).result().is_err());
            recorded.assert_exported(|| pool.metrics());
            assert!(pool.submit(call!(crash())).result().is_err());
            export_metrics();
            assert_eq!(recorded.number("workers_lost_total"), 1.0);
            assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);

            let closed = std::env::temp_dir().join(format!("seen-{}", std::process::id()));
            std::fs::write(&closed, "").unwrap();
            let held = pool.submit(call!(wait_for(closed.clone())));
            eventually(|| held.is_running());
            let queued: Vec<_> = (0..10).map(|n| pool.submit(call!(square(n)))).collect();
            let names = ["tasks_queued", "tasks_running", "workers"];
            export_metrics();
            assert_eq!(recorded.numbers(names), [10.0, 1.0, 1.0]);
            drop(queued);
            export_metrics();
            assert_eq!(recorded.numbers(names), [0.0, 1.0, 1.0]);
            assert_eq!(recorded.number("tasks_cancelled_total"), 10.0);
            std::fs::remove_file(&closed).unwrap();
            held.result().unwrap();
            let squares = pool.map(square, 0..1_000).result().unwrap();
            assert_eq!(squares.len(), 1_000);
            block_on(pool.shutdown(Shutdown::Drain));
            let metrics = pool.metrics();
            // A lost task was on a worker, which could not say for how long.
            assert_eq!(metrics.failed, 2);
            recorded.assert_knows(&metrics);
        });
    }
}

/// A recorder of which everything panics, for a pool that must not mind.
struct Broken;

impl Drop for Broken {
    fn drop(&mut self) {
        panic!("a handle of the recorder");
    }
}

impl CounterFn for Broken {
    fn increment(&self, _: u64) {
        panic!("a counter");
    }

    fn absolute(&self, _: u64) {
        panic!("a counter");
    }
}

impl GaugeFn for Broken {
    fn increment(&self, _: f64) {
        panic!("a gauge");
    }

    fn decrement(&self, _: f64) {
        panic!("a gauge");
    }

    fn set(&self, _: f64) {
        panic!("a gauge");
    }
}

impl HistogramFn for Broken {
    fn record(&self, _: f64) {
        panic!("a histogram");
    }
}

impl Recorder for Broken {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Broken))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Broken))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Broken))
    }
}

#[test]
fn a_recorder_that_panics_harms_no_task() {
    let _alone = alone();
    within_limit(|| {
        let broken = std::mem::ManuallyDrop::new(Broken);
        let pool = metrics::with_local_recorder(&*broken, || {
            ThreadPoolExecutor::builder().max_workers(1).queue_capacity(2).build().unwrap()
        });
        for n in 0..5 {
            export_metrics();
            assert_eq!(block_on(pool.submit(move || n)).unwrap(), n);
            assert_eq!(block_on(pool.submit_future(async move { n })).unwrap(), n);
        }
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        assert!(pool.submit(|| ()).cancel());
        gate.open();
        block_on(held).unwrap();
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((report.completed, report.cancelled), (0, 0), "all was done before");
        assert_eq!((pool.metrics().completed, pool.metrics().cancelled), (11, 1));
    });
}
