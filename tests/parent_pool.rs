//! Tasks that submit to the pool that they belong to, from within its workers.

#![cfg(all(feature = "process", target_os = "linux"))]

#[path = "support/mod.rs"]
#[allow(unreachable_pub, reason = "other test binaries use it as well")]
mod support;
#[path = "processes/tools.rs"]
mod tools;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use concurrent_futures::{
    Error, ParentPool, ProcessPoolBuilder, ProcessPoolExecutor, Shutdown, call, task,
};
use rustix::process::{Resource, getrlimit};
use support::{POOL_SIZES, within_limit};
use tools::{Gate, Reports};

/// Checks something on a pool of each size, and that the pool ends.
fn on_pools(check: impl Fn(&ProcessPoolExecutor) + Send + 'static) {
    within_limit(move || {
        for max_workers in POOL_SIZES {
            let pool = ProcessPoolExecutor::builder().max_workers(max_workers).build().unwrap();
            check(&pool);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

fn parent() -> ParentPool {
    ParentPool::current().expect("this is a worker")
}

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn there_is_none_outside_of_workers() {
    assert!(ParentPool::current().is_none());
}

fn sum_in_halves(numbers: Vec<u64>) -> u64 {
    if numbers.len() < 10 {
        return numbers.iter().sum();
    }
    let (left, right) = numbers.split_at(numbers.len() / 2);
    let left = parent().submit(call!(sum_in_halves(left.to_vec())));
    sum_in_halves(right.to_vec()) + left.result().unwrap()
}

#[test]
fn a_task_waits_for_others_with_one_worker_too() {
    on_pools(|pool| {
        let sum = pool.submit(call!(sum_in_halves((1..=100).collect())));
        assert_eq!(sum.result().unwrap(), 5050);
    });
}

fn fibonacci(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (left, right) = (call!(fibonacci(n - 1)), call!(fibonacci(n - 2)));
    let (left, right) = (parent().submit(left), parent().submit(right));
    left.result().unwrap() + right.result().unwrap()
}

fn ready() {}

/// What changes how workers come and go.
#[test]
fn nested_tasks_end_with_whatever_settings() {
    let settings: [fn(ProcessPoolBuilder) -> ProcessPoolBuilder; 4] = [
        |builder| builder.initializer(call!(ready())),
        |builder| builder.max_tasks_per_worker(1),
        |builder| builder.idle_timeout(Duration::ZERO),
        |builder| builder.initializer(call!(ready())).max_tasks_per_worker(2),
    ];
    within_limit(move || {
        for set in settings {
            for max_workers in POOL_SIZES {
                let builder = ProcessPoolExecutor::builder().max_workers(max_workers);
                let pool = set(builder).build().unwrap();
                let others: Vec<_> = (0..10).map(|n| pool.submit(call!(square(n)))).collect();
                let nested: Vec<_> = (0..2).map(|_| pool.submit(call!(fibonacci(6)))).collect();
                let squares = pool.map(square, 0..20).start();
                for nested in nested {
                    assert_eq!(nested.result().unwrap(), 8);
                }
                assert_eq!(squares.result().unwrap()[19], 19 * 19);
                for (n, other) in (0..).zip(others) {
                    assert_eq!(other.result().unwrap(), n * n);
                }
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
            }
        }
    });
}

#[test]
fn nested_tasks_take_at_most_a_process_for_each_level_and_place() {
    within_limit(|| {
        // A worker costs the pool two descriptors. (Deeper ones are in the scheduler's own tests, `nesting`.)
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let (n, value, bound) = if limit >= 256 { (11, 89, 20) } else { (9, 34, 16) };
        let pool = Arc::new(ProcessPoolExecutor::builder().max_workers(2).build().unwrap());
        let (seen, most) = (Arc::clone(&pool), Arc::new(AtomicUsize::new(0)));
        let (is_done, largest) = (Arc::new(AtomicBool::new(false)), Arc::clone(&most));
        let until = Arc::clone(&is_done);
        let watch = std::thread::spawn(move || {
            while !until.load(SeqCst) {
                largest.fetch_max(seen.metrics().workers, SeqCst);
                std::thread::yield_now();
            }
        });
        assert_eq!(pool.submit(call!(fibonacci(n))).result().unwrap(), value);
        is_done.store(true, SeqCst);
        watch.join().unwrap();
        let most = most.load(SeqCst);
        assert!((3..=bound).contains(&most), "{most} processes");
    });
}

/// Waits for another task of the pool while it is encoded, decoded and dropped, in a worker.
struct Waits(u64);

fn wait_in_worker() {
    if let Some(pool) = ParentPool::current() {
        // In a way that the worker does not know.
        assert_eq!(futures::executor::block_on(pool.submit(call!(square(3)))).unwrap(), 9);
    }
}

impl serde::Serialize for Waits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        wait_in_worker();
        serializer.serialize_u64(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Waits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        wait_in_worker();
        u64::deserialize(deserializer).map(Self)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        wait_in_worker();
    }
}

fn handed_on(waits: Waits) -> Waits {
    waits
}

#[test]
fn what_encodes_decodes_and_drops_values_may_wait_for_others_too() {
    on_pools(|pool| {
        assert_eq!(pool.submit(call!(handed_on(Waits(7)))).result().unwrap().0, 7);
        let all = pool.map(handed_on, [Waits(1), Waits(2)]).result().unwrap();
        assert_eq!(all.iter().map(|waits| waits.0).collect::<Vec<_>>(), [1, 2]);
    });
}

fn process_and_childs_process() -> (u32, u32) {
    let child = parent().submit(call!(std::process::id()));
    (std::process::id(), child.result().unwrap())
}

#[test]
fn the_task_that_is_waited_for_runs_in_another_process() {
    on_pools(|pool| {
        let (own, other) = pool.submit(call!(process_and_childs_process())).result().unwrap();
        assert_ne!(own, other);
        assert_ne!(own, std::process::id());
    });
}

fn sum_of_squares(n: u64) -> Result<u64, String> {
    let squares = parent().map(square, 0..n).result().map_err(|error| error.to_string())?;
    Ok(squares.into_iter().sum())
}

#[test]
fn a_task_may_map_over_its_own_pool() {
    on_pools(|pool| {
        let sum = pool.submit(call!(sum_of_squares(10_000))).result().unwrap();
        assert_eq!(sum, Ok((0..10_000).map(square).sum()));
    });
}

fn scale(factor: &u64, n: u64) -> u64 {
    factor * n
}

fn sums_of_scaled(factors: Vec<u64>) -> Result<Vec<u64>, String> {
    // All at once, so that their chunks come to the workers in turn.
    let map = |factor| parent().map_with(factor, scale, 0..100).chunk_size(3).start();
    let maps: Vec<_> = factors.into_iter().map(map).collect();
    let sum = |map: concurrent_futures::Map<u64>| Ok(map.result()?.into_iter().sum());
    let sums: Result<_, Error> = maps.into_iter().map(sum).collect();
    sums.map_err(|error| error.to_string())
}

#[test]
fn the_pool_counts_the_items_of_a_task_s_map() {
    on_pools(|pool| {
        pool.submit(call!(sum_of_squares(1000))).result().unwrap().unwrap();
        let metrics = pool.metrics();
        assert_eq!((metrics.submitted, metrics.completed, metrics.items), (1, 1, 1000));
    });
}

#[test]
fn maps_of_a_task_have_their_own_contexts() {
    on_pools(|pool| {
        // Workers count their contexts alike, and so do several tasks.
        let tasks: Vec<_> =
            (0..4).map(|n| pool.submit(call!(sums_of_scaled(vec![n, n + 10, n + 20])))).collect();
        for (n, task) in (0..).zip(tasks) {
            let expected = [n, n + 10, n + 20].map(|factor| factor * 4950).to_vec();
            assert_eq!(task.result().unwrap(), Ok(expected));
        }
    });
}

fn sums_by_maps_below((base, levels): &(u64, u32), n: u64) -> u64 {
    match levels {
        0 => base + n,
        _ => {
            let below = (base + n, levels - 1);
            parent().map_with(below, sums_by_maps_below, 0..3).result().unwrap().iter().sum()
        }
    }
}

#[test]
fn maps_with_contexts_may_be_nested() {
    on_pools(|pool| {
        let sums = pool.map_with((100, 2), sums_by_maps_below, 0..3).result().unwrap();
        // Nine times base and item, and the items of both levels below.
        assert_eq!(sums, [0, 1, 2].map(|n| 9 * (100 + n) + 18));
    });
}

fn die_at_7((base, _): &(u64, Vec<u8>), n: u64) -> u64 {
    if n == 7 { std::process::abort() } else { base + n }
}

fn map_of_fatal(size: usize) -> Vec<Result<u64, String>> {
    use futures::StreamExt;
    let results = parent().map_with((1000, vec![1; size]), die_at_7, 0..20).chunk_size(4);
    let results = results.map(|result| result.map_err(|error| error.to_string()));
    futures::executor::block_on(results.collect())
}

#[test]
fn a_lost_worker_does_not_cost_its_map_the_context() {
    on_pools(|pool| {
        for size in [0, 100_000] {
            let results = pool.submit(call!(map_of_fatal(size))).result().unwrap();
            assert_eq!(results.len(), 20);
            for (n, result) in (0..).zip(results) {
                match result {
                    Ok(value) => assert_eq!(value, 1000 + n),
                    Err(text) => {
                        assert!((4..8).contains(&n) && text.contains("SIGABRT"), "{n}: {text}")
                    }
                }
            }
        }
    });
}

/// Tells when it is dropped.
#[derive(serde::Serialize, serde::Deserialize)]
struct Told(Reports);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.add(std::process::id());
    }
}

fn wait_with((started, gate, _): &(Reports, Gate, Told), _: u32) {
    started.add(std::process::id());
    gate.wait();
}

fn map_until_killed(started: Reports, gate: Gate, dropped: Reports) {
    let context = (started.clone(), gate, Told(dropped));
    let _ = parent().map_with(context, wait_with, 0..50).chunk_size(1).result();
}

#[test]
fn a_task_that_is_lost_leaves_its_maps_chunks_with_their_context() {
    within_limit(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(2).build().unwrap();
        let (started, gate, dropped) = (Reports::new(), Gate::new(), Reports::new());
        let task = call!(map_until_killed(started.clone(), gate.clone(), dropped.clone()));
        let task = pool.submit(task);
        started.wait_for(2);
        assert_eq!(dropped.wait_for(1).len(), 1, "where it was encoded");
        // Two chunks for each place, of which two run.
        while pool.metrics().queued < 2 {
            std::thread::yield_now();
        }
        assert!(task.kill());
        let before = started.get().len();
        gate.open();
        // They run all the same. With the last one the workers are told.
        assert!(started.wait_for(before + 1).len() > before);
        let dropped = dropped.wait_for(3);
        assert!(dropped[1..].iter().all(|pid| *pid != dropped[0]));
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

fn in_context(waits: &Waits, n: u64) -> u64 {
    waits.0 + n
}

#[test]
fn a_context_may_wait_for_others_while_it_is_decoded_and_dropped() {
    on_pools(|pool| {
        for n in 0..5 {
            let sums = pool.map_with(Waits(n), in_context, 0..4).chunk_size(1).result().unwrap();
            assert!(sums.into_iter().eq(n..n + 4));
            // Behind the drop.
            assert_eq!(pool.submit(call!(square(7))).result().unwrap(), 49);
        }
    });
}

fn abort() {
    std::process::abort()
}

/// Its results are sent in several messages.
fn long_or_fatal(n: u64) -> Vec<u8> {
    match n {
        5 => panic!("five"),
        7 => std::process::abort(),
        _ => vec![n as u8; 100_000],
    }
}

/// Of each item: how long its result is, or the error.
fn map_of_long_and_fatal() -> Vec<Result<usize, String>> {
    use futures::StreamExt;
    let results = parent().map(long_or_fatal, 0..10).chunk_size(10);
    let results =
        results.map(|result| result.map(|it| it.len()).map_err(|error| error.to_string()));
    futures::executor::block_on(results.collect())
}

#[test]
fn an_item_of_its_map_fails_or_is_lost_alone() {
    on_pools(|pool| {
        let results = pool.submit(call!(map_of_long_and_fatal())).result().unwrap();
        assert_eq!(results.len(), 10);
        for (n, result) in results.into_iter().enumerate() {
            match (n, result) {
                (5, Err(text)) => assert!(text.contains("five"), "{text}"),
                (7, Err(text)) => assert!(text.contains("SIGABRT"), "{text}"),
                (_, result) => assert_eq!(result, Ok(100_000), "{n}"),
            }
        }
    });
}

fn panic_with_seven() {
    panic!("seven")
}

fn errors_of_children() -> (String, String) {
    let text = |result: Result<(), Error>| result.unwrap_err().to_string();
    let pool = parent();
    (
        text(pool.submit(call!(abort())).result()),
        text(pool.submit(call!(panic_with_seven())).result()),
    )
}

#[test]
fn errors_arrive_as_they_are() {
    on_pools(|pool| {
        let (lost, panicked) = pool.submit(call!(errors_of_children())).result().unwrap();
        assert!(lost.contains("SIGABRT"), "{lost}");
        assert!(panicked.contains("seven"), "{panicked}");
        assert!(panicked.contains(file!()), "{panicked}");
    });
}

fn until_asked_to_stop(started: Reports) -> u32 {
    started.add(1);
    while !task::stop_requested() {
        std::thread::yield_now();
    }
    7
}

fn cancels_what_can_not_have_started() -> (bool, bool) {
    // The only other worker is this one, and it does not wait.
    let future = parent().submit(call!(square(3)));
    (future.cancel(), matches!(future.result(), Err(Error::Cancelled)))
}

#[test]
fn a_task_that_has_not_started_is_withdrawn() {
    within_limit(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
        let cancelled = pool.submit(call!(cancels_what_can_not_have_started()));
        assert_eq!(cancelled.result().unwrap(), (true, true));
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

fn cancels_what_runs(started: Reports, runs: Gate) -> (bool, Result<u32, String>) {
    let future = parent().submit(call!(until_asked_to_stop(started)));
    runs.wait();
    let cancelled = future.cancel();
    (cancelled, future.result().map_err(|error| error.to_string()))
}

#[test]
fn a_task_that_runs_is_asked_to_stop() {
    within_limit(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(2).build().unwrap();
        let (started, runs) = (Reports::new(), Gate::new());
        let cancels = pool.submit(call!(cancels_what_runs(started.clone(), runs.clone())));
        started.wait_for(1);
        runs.open();
        let (cancelled, result) = cancels.result().unwrap();
        assert_eq!((cancelled, result), (false, Ok(7)));
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

fn drops_what_it_submits() {
    let pool = parent();
    for n in 0..100 {
        drop(pool.submit(call!(square(n))));
    }
}

#[test]
fn what_is_dropped_leaves_no_task_behind() {
    on_pools(|pool| {
        pool.submit(call!(drops_what_it_submits())).result().unwrap();
        assert_eq!(pool.submit(call!(square(5))).result().unwrap(), 25);
    });
}

fn submits_after_the_shutdown() -> String {
    // The pool is closed while this runs; then the call is refused.
    loop {
        if let Err(error) = parent().submit(call!(square(1))).result() {
            return error.to_string();
        }
    }
}

#[test]
fn a_closed_pool_refuses_its_tasks_too() {
    on_pools(|pool| {
        let refused = pool.submit(call!(submits_after_the_shutdown()));
        while !refused.is_running() {
            std::thread::yield_now();
        }
        drop(pool.shutdown(Shutdown::Drain));
        assert_eq!(refused.result().unwrap(), Error::ShutDown.to_string());
    });
}
