//! EX: what every executor does, as far as a job has to report to its test. The others, which are
//! plain calls, run over all executors in `tests/conformance/executor.rs`: EX-1 to EX-3, EX-8 to
//! EX-15, and parts of EX-4 and EX-21.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use concurrent_futures::{Buffer, Error, Map, ProcessPoolExecutor, Shutdown, call, task};
use futures::FutureExt;
use futures::stream::FusedStream;
use serde::{Deserialize, Serialize};

use crate::over_pools_async;
use crate::support::{Counter, POOL_SIZES, within_limit};
use crate::tools::{
    Gate, LONG, Reports, SHORT, assert_panicked, assert_timed_out, end, hold, occupy_all, pool,
};

/// Counts the items that are taken from an input.
fn counted<I: Iterator>(input: I, taken: Counter) -> impl Iterator<Item = I::Item> {
    input.inspect(move |_| taken.add())
}

/// Counts its end, in the process of the test.
struct Object(Counter);

impl Object {
    fn method(&self) {}
}

impl Drop for Object {
    fn drop(&mut self) {
        self.0.add();
    }
}

fn text(n: u32) -> String {
    n.to_string()
}

fn square(n: u64) -> u64 {
    n * n
}

/// Reports each call of a map's function.
fn reported((n, ran): (u32, Reports)) -> u32 {
    ran.add(n);
    n
}

/// EX-4.
#[test]
fn the_first_error_in_the_order_of_the_input_wins() {
    fn job((n, gate, failed): (u32, Gate, Reports)) {
        if n == 0 {
            gate.wait(); // until a later item has failed, if there is a worker for it
        }
        failed.add(n);
        panic!("item {n}")
    }

    over_pools_async(|pool| async move {
        let (gate, failed) = (Gate::new(), Reports::new());
        let tools = (gate.clone(), failed.clone());
        let items = (0..4).map(move |n| (n, tools.0.clone(), tools.1.clone()));
        let mut map = pool.map(job, items).buffer_size(4).chunk_size(1).into_future();
        assert!(futures::poll!(&mut map).is_pending());
        failed.wait_for(pool.max_workers().min(2) - 1);
        gate.open();
        assert_panicked(&map.await, "item 0");
    });
}

/// EX-4.
#[test]
fn an_error_ends_a_map_that_is_awaited() {
    fn job(n: u64) -> u64 {
        assert_ne!(n, 3, "the fourth");
        n
    }

    over_pools_async(|pool| async move {
        let freed = Counter::new();
        let with_input = Object(freed.clone());
        let input = (0..u64::MAX).inspect(move |_| with_input.method());
        let text = "assertion `left != right` failed: the fourth\n  left: 3\n right: 3";
        assert_panicked(&pool.map(job, input).await, text);
        // Without end as the input is, it is gone.
        freed.wait_for(1);
        pool.shutdown(Shutdown::Drain).await;
    });
}

/// EX-5.
#[test]
fn a_timeout_error_of_a_task_is_not_that_of_the_map() {
    /// An error of the kind that the map's own limit gives, made by the job.
    fn wait_in_vain() -> Error {
        Error::timed_out(Duration::ZERO, false)
    }

    fn job(n: u32) -> Result<u32, String> {
        match n {
            1 => Err(wait_in_vain().to_string()),
            2 => panic!("{}", wait_in_vain()),
            n => Ok(n),
        }
    }

    over_pools_async(|pool| async move {
        let text = wait_in_vain().to_string();
        for limit in [None, Some(LONG)] {
            for chunk in [1, 3] {
                let mut map = pool.map(job, 0..4).chunk_size(chunk);
                if let Some(limit) = limit {
                    map = map.timeout(limit);
                }
                assert_eq!(map.next().await.unwrap().unwrap(), Ok(0));
                assert_eq!(map.next().await.unwrap().unwrap(), Err(text.clone()));
                assert_panicked(&map.next().await.unwrap(), &text);
                assert_eq!(map.next().await.unwrap().unwrap(), Ok(3));
                assert!(map.next().await.is_none());
            }
        }
    });
}

/// A map of which two items are quick, and all others wait at a gate.
struct Slow {
    map: Map<u32>,
    job: SlowJob,
    taken: Counter,
    input: Weak<()>,
}

/// What its items carry.
#[derive(Clone, Serialize, Deserialize)]
struct SlowJob {
    quick: Reports,
    started: Reports,
    gate: Gate,
    stopped: Reports,
}

impl SlowJob {
    fn run((n, job): (u32, SlowJob)) -> u32 {
        if n < 2 {
            job.quick.add(n);
        } else {
            hold(job.started, job.gate, n);
            job.stopped.add(u32::from(task::stop_requested()));
        }
        n
    }
}

impl Slow {
    fn new(pool: &ProcessPoolExecutor) -> Self {
        let taken = Counter::new();
        let input_lives = Arc::new(());
        let input = Arc::downgrade(&input_lives);
        let job = SlowJob {
            quick: Reports::new(),
            started: Reports::new(),
            gate: Gate::new(),
            stopped: Reports::new(),
        };
        let item = job.clone();
        let items = (0..u32::MAX).map(move |n| {
            let _lives = &input_lives;
            if n == 2 {
                item.quick.wait_for(2); // a slow one does not get in their way
            }
            (n, item.clone())
        });
        let items = counted(items, taken.clone());
        let map = pool.map(SlowJob::run, items).chunk_size(1).start();
        Self { map, job, taken, input }
    }

    /// The rest is cancelled: the input is gone, what runs is asked to stop, nothing more starts.
    async fn the_rest_is_cancelled(
        pool: ProcessPoolExecutor,
        job: SlowJob,
        taken: Counter,
        input: Weak<()>,
    ) {
        assert!(input.upgrade().is_none());
        job.gate.open();
        pool.shutdown(Shutdown::Drain).await;
        assert_eq!(job.stopped.get(), vec![1; pool.max_workers()]);
        assert_eq!(job.started.get().len(), pool.max_workers());
        // One item in each worker's hands and one on the way, besides the quick ones.
        assert!(taken.get() <= 2 + 2 * pool.max_workers(), "{}", taken.get());
    }
}

/// EX-6.
#[test]
fn a_time_limit_ends_a_map_after_the_finished_items() {
    over_pools_async(|pool| async move {
        let Slow { mut map, job, taken, input } = Slow::new(&pool);
        assert_eq!(map.next().await.unwrap().unwrap(), 0);
        assert_eq!(map.next().await.unwrap().unwrap(), 1);
        job.started.wait_for(pool.max_workers());
        let mut map = map.timeout(SHORT);
        assert_timed_out(&map.next().await.unwrap(), SHORT, true);
        for _ in 0..3 {
            assert!(map.next().await.is_none());
            assert!(map.is_terminated());
        }
        Slow::the_rest_is_cancelled(pool, job, taken, input).await;
    });
}

/// EX-6.
#[test]
fn a_time_limit_ends_an_unordered_map_after_the_finished_items() {
    over_pools_async(|pool| async move {
        let Slow { map, job, taken, input } = Slow::new(&pool);
        let mut map = map.unordered();
        let mut quick = [map.next().await.unwrap(), map.next().await.unwrap()];
        quick.sort_by_key(|(index, _)| *index);
        assert_eq!(quick.map(|(index, item)| (index, item.unwrap())), [(0, 0), (1, 1)]);
        job.started.wait_for(pool.max_workers());
        let mut map = map.timeout(SHORT);
        let (count, error) = map.next().await.unwrap();
        assert_eq!(count, 2);
        assert_timed_out(&error, SHORT, true);
        assert!(map.next().await.is_none());
        Slow::the_rest_is_cancelled(pool, job, taken, input).await;
    });
}

/// EX-6.
#[test]
fn a_time_limit_is_the_error_of_a_map_that_is_awaited() {
    over_pools_async(|pool| async move {
        let Slow { map, job, taken, input } = Slow::new(&pool);
        job.started.wait_for(pool.max_workers());
        assert_timed_out(&map.timeout(SHORT).await, SHORT, true);
        Slow::the_rest_is_cancelled(pool, job, taken, input).await;
    });
}

/// EX-7. A map is closed by dropping it, so it can not be asked for a further item.
#[test]
fn a_map_dropped_after_its_first_item_takes_and_runs_nothing_more() {
    over_pools_async(|pool| async move {
        for chunk in [1, 3] {
            for unordered in [false, true] {
                let (taken, ran) = (Counter::new(), Reports::new());
                let report = ran.clone();
                let items = counted((0..).map(move |n| (n, report.clone())), taken.clone());
                let map = pool.map(reported, items).chunk_size(chunk).buffer_size(chunk).start();
                ran.wait_for(chunk); // the window is full
                if unordered {
                    let mut map = map.unordered();
                    let (index, value) = map.next().await.unwrap();
                    assert_eq!(index, usize::try_from(value.unwrap()).unwrap());
                    drop(map);
                } else {
                    let mut map = map;
                    assert_eq!(map.next().await.unwrap().unwrap(), 0);
                    drop(map);
                }
                // Tasks behind whatever is left of the map.
                let gate = Gate::new();
                let behind = occupy_all(&pool, &gate);
                assert_eq!(taken.get(), chunk);
                assert_eq!(ran.get().len(), chunk);
                drop((gate, behind));
            }
        }
    });
}

/// EX-7.
#[test]
fn dropping_a_map_ends_its_endless_input() {
    over_pools_async(|pool| async move {
        for chunk in [None, Some(3)] {
            let freed = Counter::new();
            let with_input = Object(freed.clone());
            let input = (0..u64::MAX).inspect(move |_| with_input.method());
            let mut map = pool.map(square, input);
            if let Some(n) = chunk {
                map = map.chunk_size(n);
            }
            assert_eq!(map.next().await.unwrap().unwrap(), 0);
            drop(map);
            freed.wait_for(1); // the input
        }
        // That the pool ends at all shows that nothing goes on.
    });
}

/// EX-16.
#[test]
fn a_map_that_is_not_read_takes_exactly_its_window() {
    fn check(pool: &ProcessPoolExecutor, window: usize, chunk: Option<usize>) {
        let (taken, ran) = (Counter::new(), Reports::new());
        let report = ran.clone();
        let items = counted((0..10_000).map(move |n| (n, report.clone())), taken.clone());
        let map = pool.map(reported, items).buffer_size(window);
        let map = match chunk {
            None => map,
            Some(n) => map.chunk_size(n),
        };
        let map = map.start();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((taken.get(), ran.get().len()), (window, window));
        drop(map);
        assert_eq!((taken.get(), ran.get().len()), (window, window));
    }
    within_limit(|| {
        for max_workers in POOL_SIZES {
            for window in [1, 2, 7, 100, 1_000] {
                for chunk in [None, Some(1), Some(3), Some(100)] {
                    check(&pool(max_workers), window, chunk);
                }
            }
        }
    });
}

/// EX-17.
#[test]
fn a_blocking_shutdown_right_after_a_map_returns() {
    fn check(max_workers: usize, how: Shutdown) {
        let pool = pool(max_workers);
        let map = pool.map(text, vec![2; max_workers + 1]).start();
        pool.shutdown_blocking(how).unwrap();
        assert_eq!(pool.metrics().workers, 0);
        match (how, map.into_future().now_or_never()) {
            // There is nothing left to compute.
            (Shutdown::Drain, Some(Ok(all))) => assert_eq!(all, vec!["2"; max_workers + 1]),
            // Some workers may have been quicker than the shutdown, or all.
            (Shutdown::CancelQueued, Some(Ok(all))) => {
                assert_eq!(all, vec!["2"; max_workers + 1]);
            }
            (Shutdown::CancelQueued, Some(Err(Error::Cancelled | Error::ShutDown))) => {}
            (how, other) => panic!("{how:?}: {other:?}"),
        }
    }
    within_limit(|| {
        for max_workers in POOL_SIZES {
            for _ in 0..20 {
                check(max_workers, Shutdown::Drain);
                check(max_workers, Shutdown::CancelQueued);
            }
        }
    });
}

/// EX-17.
#[test]
fn an_awaited_shutdown_right_after_a_map_returns() {
    over_pools_async(|pool| async move {
        let map = pool.map(text, vec![2; pool.max_workers() + 1]).start();
        pool.shutdown(Shutdown::Drain).await;
        let all = map.into_future().now_or_never().unwrap(); // there is nothing left to compute
        assert_eq!(all.unwrap(), vec!["2"; pool.max_workers() + 1]);
    });
}

/// An argument that its test can watch as long as it is in the test's process.
#[derive(Clone, Serialize, Deserialize)]
struct Bound {
    #[serde(skip)]
    here: Option<Arc<()>>,
}

impl Bound {
    fn new() -> (Self, Weak<()>) {
        let here = Arc::new(());
        let weak = Arc::downgrade(&here);
        (Self { here: Some(here) }, weak)
    }

    fn method(self) {
        assert!(self.here.is_none(), "it is in another process");
    }
}

/// EX-18. The arguments are bytes from the call on, so the object is freed even before the task
/// runs. The copy that the worker has is that of PP-7.
#[test]
fn the_executor_keeps_nothing_of_a_call() {
    over_pools_async(|pool| async move {
        let gate = Gate::new();
        let occupied = occupy_all(&pool, &gate);
        let mut futures = Vec::new();
        for _ in 0..2 {
            let (object, weak) = Bound::new();
            pool.submit(call!(Bound::method(object))).detach();
            assert!(weak.upgrade().is_none());

            let (object, weak) = Bound::new();
            pool.submit(call!(Bound::method(object))).add_done_callback(|_| ());
            assert!(weak.upgrade().is_none());

            let (object, weak) = Bound::new();
            futures.push(pool.submit(call!(Bound::method(object))));
            assert!(weak.upgrade().is_none());
            gate.open(); // the second time there are idle workers
        }
        for future in futures {
            future.await.unwrap();
        }
        drop(occupied);
    });
}

/// EX-18.
#[test]
fn a_map_keeps_nothing_of_its_items() {
    #[derive(Serialize, Deserialize)]
    struct Item {
        #[serde(skip)]
        here: Option<Object>,
    }

    fn job(item: Item) {
        assert!(item.here.is_none());
    }

    over_pools_async(|pool| async move {
        for chunk in [1, 3] {
            let freed = Counter::new();
            let object = freed.clone();
            let items = (0..10).map(move |_| Item { here: Some(Object(object.clone())) });
            let mut map = pool.map(job, items).chunk_size(chunk);
            while let Some(result) = map.next().await {
                result.unwrap();
            }
            freed.wait_for(10); // while the map is still there
            drop(map);
        }
    });
}

/// EX-18. The call is made before the pool refuses it.
#[test]
fn a_refused_call_is_freed() {
    over_pools_async(|pool| async move {
        pool.shutdown(Shutdown::Drain).await;
        let (object, weak) = Bound::new();
        let future = pool.submit(call!(Bound::method(object)));
        assert!(weak.upgrade().is_none());
        assert!(matches!(future.await, Err(Error::ShutDown)));
    });
}

/// EX-19. A negative count does not compile: it is a `usize`.
#[test]
fn zero_workers_are_rejected() {
    within_limit(|| {
        let error = ProcessPoolExecutor::builder().max_workers(0).build().unwrap_err();
        let rule = "max_workers must be at least 1: a pool without workers runs nothing";
        assert_eq!(error.to_string(), rule);
    });
}

/// A result that tells, by two counters of its test, how often it was made and freed here.
macro_rules! counted_result {
    ($name:ident, $made:ident, $freed:ident) => {
        static $made: AtomicUsize = AtomicUsize::new(0);
        static $freed: AtomicUsize = AtomicUsize::new(0);

        #[derive(Debug, Serialize)]
        struct $name(u32);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let n = u32::deserialize(from)?;
                $made.fetch_add(1, SeqCst);
                Ok(Self(n))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                $freed.fetch_add(1, SeqCst);
            }
        }
    };
}

/// EX-20.
#[test]
fn a_result_of_a_map_is_freed_by_its_consumer() {
    counted_result!(Value, MADE, FREED);

    over_pools_async(|pool| async move {
        for chunk in [1, 3, 10] {
            let before = FREED.load(SeqCst);
            let mut map = pool.map(Value, 0..10).chunk_size(chunk);
            let mut count = 0;
            while let Some(result) = map.next().await {
                drop(result.unwrap());
                count += 1;
                assert_eq!(FREED.load(SeqCst) - before, count);
            }
            assert_eq!((count, MADE.load(SeqCst)), (10, FREED.load(SeqCst)));
        }
    });
}

/// EX-20.
#[test]
fn results_that_are_not_taken_are_freed_with_the_map() {
    counted_result!(Value, MADE, FREED);

    over_pools_async(|pool| async move {
        let before = FREED.load(SeqCst);
        let mut map = pool.map(Value, 0..).chunk_size(2).buffer_size(8);
        drop(map.next().await.unwrap().unwrap());
        assert_eq!(FREED.load(SeqCst), before + 1);
        drop(map);
        pool.shutdown(Shutdown::Drain).await;
        assert_eq!(FREED.load(SeqCst), MADE.load(SeqCst));
    });
}

/// EX-20.
#[test]
fn a_result_that_comes_after_the_map_is_freed() {
    counted_result!(Value, MADE, FREED);

    fn job((n, started, gate): (u32, Reports, Gate)) -> Value {
        if n > 0 {
            hold(started, gate, n);
        }
        Value(n)
    }

    over_pools_async(|pool| async move {
        let (started, gate) = (Reports::new(), Gate::new());
        let tools = (started.clone(), gate.clone());
        let items = (0..).map(move |n| (n, tools.0.clone(), tools.1.clone()));
        let mut map = pool.map(job, items).buffer_size(1);
        drop(map.next().await.unwrap().unwrap());
        assert!(futures::poll!(map.next()).is_pending());
        started.wait_for(1);
        drop(map);
        gate.open();
        pool.shutdown(Shutdown::Drain).await;
        assert_eq!(FREED.load(SeqCst), MADE.load(SeqCst));
    });
}

// EX-21, of types that look empty: what panics elsewhere arrives as a text, and a job's own error is
// a value like any other; both are in `tests/conformance/executor.rs`.

#[test]
fn a_pool_is_ended_without_leaving_anything() {
    // What `over_pools` relies on.
    within_limit(|| {
        let pool = pool(2);
        let gate = Gate::new();
        let occupied = occupy_all(&pool, &gate);
        let family = crate::tools::family(&pool);
        assert_eq!(family.len(), 3);
        assert!(family.iter().all(|pid| crate::tools::is_there(*pid)));
        gate.open();
        end(&pool);
        drop(occupied);
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable, Serialize, Deserialize)]
#[repr(C)]
struct Pixel {
    color: [u8; 4],
    weight: f32,
}

#[test]
fn plain_structs_go_to_a_worker_and_back_in_a_buffer() {
    fn inverted(pixels: Buffer<Pixel>) -> Buffer<Pixel> {
        pixels
            .iter()
            .map(|pixel| Pixel { color: pixel.color.map(|part| !part), ..*pixel })
            .collect()
    }
    within_limit(|| {
        let pool = pool(1);
        for count in [0, 3, 100_000] {
            let pixels: Buffer<Pixel> =
                (0..count).map(|n: u32| Pixel { color: n.to_le_bytes(), weight: 0.5 }).collect();
            let inverse = pool.submit(call!(inverted(pixels.clone()))).result().unwrap();
            assert_eq!(inverse.len(), pixels.len());
            let are_right = inverse.iter().zip(&pixels).all(|(there, here)| {
                there.weight == 0.5 && there.color == here.color.map(|part| !part)
            });
            assert!(are_right);
        }
        end(&pool);
    });
}
