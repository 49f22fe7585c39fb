//! What every executor does.
//!
//! Over pools of threads and of processes, each with one worker and with several, and inline,
//! unless a test says why not; and by a job, over the executor that it belongs to. That one is not the job's
//! to end or to look into, so this leaves out what needs an `ExecutorService`. What takes a closure runs over the executors of this process; its
//! twin over processes is in `tests/processes`.

use std::future::ready;
use std::panic::{panic_any, resume_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, ExecutorService, ExecutorState, Map, ReturnWhen, Shutdown, ThreadPoolExecutor,
    TryMap, TryMapError, call, task, wait,
};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};

use crate::backend::{
    Closures, Held, LONG, Pool, SHORT, assert_panicked, assert_timed_out, over_all_pools,
    over_closures, over_executors, over_pools, over_pools_async, over_services, panic_text,
    until_done,
};
use crate::support::{Counter, POOL_SIZES, pool, scaled, within_limit};

/// Counts the items that are taken from an input.
fn counted<I: Iterator>(input: I, taken: Counter) -> impl Iterator<Item = I::Item> {
    input.inspect(move |_| taken.add())
}

/// Something that a job is bound to; counts its end.
struct Object(Counter);

impl Object {
    fn method(&self) {}
}

impl Drop for Object {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// All values of a map that is read as a stream.
async fn streamed<T>(mut map: Map<T>) -> Vec<T> {
    let mut values = Vec::new();
    while let Some(value) = map.next().await {
        values.push(value.unwrap());
    }
    values
}

fn power((base, exponent): (u64, u32)) -> u64 {
    base.pow(exponent)
}

fn text(n: u32) -> String {
    n.to_string()
}

fn sum_text((a, b): (u32, u32)) -> String {
    (a + b).to_string()
}

fn divide((a, b): (u32, u32)) -> (u32, u32) {
    (a / b, a % b)
}

const ITEMS: [(u32, u32); 5] = [(1, 2), (1, 3), (1, 0), (1, 5), (7, 2)];

fn try_divide((a, b): (u32, u32)) -> Result<(u32, u32), String> {
    a.checked_div(b).map(|quotient| (quotient, a % b)).ok_or_else(|| format!("{a} / {b}"))
}

/// EX-1.
#[test]
fn a_function_with_arguments_gives_its_value() {
    async fn check<E: Executor>(executor: E) {
        assert_eq!(executor.submit(call!(u64::pow(2, 8))).await.unwrap(), 256);
        assert_eq!(executor.submit(call!(u64::pow(2, 8))).result().unwrap(), 256);
    }
    over_executors!(check);
}

/// EX-1.
#[test]
fn a_closure_gives_its_value() {
    async fn check<E: Closures>(executor: E) {
        let (base, exponent) = (2u64, 8);
        assert_eq!(executor.submit_job(move || base.pow(exponent)).await.unwrap(), 256);
    }
    over_closures!(check);
}

/// EX-2. Leaving out the function is a compile error of `call!` and of `submit`.
#[test]
fn arguments_reach_the_function_unchanged() {
    fn list(job: u8, call: u8, function: u8, argument: u8, name: u8, value: u8) -> [u8; 6] {
        [job, call, function, argument, name, value]
    }
    fn argument(argument: u8) -> u8 {
        argument
    }
    fn nothing() -> u8 {
        7
    }
    async fn check<E: Executor>(executor: E) {
        // The names that `submit` and `call!` use themselves.
        let (job, call, function, name, value) = (1, 2, 3, 5, 6);
        let listed = executor.submit(call!(list(job, call, function, 4, name, value))).await;
        assert_eq!(listed.unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(executor.submit(call!(argument(value))).await.unwrap(), 6);
        assert_eq!(executor.submit(call!(nothing())).await.unwrap(), 7);

        // They are evaluated once, in order, at the call.
        let mut next = 0;
        let mut count = || {
            next += 1;
            next
        };
        let job = call!(list(count(), count(), count(), count(), count(), count()));
        assert_eq!(count(), 7);
        assert_eq!(executor.submit(job).await.unwrap(), [1, 2, 3, 4, 5, 6]);
    }
    over_executors!(check);
}

/// EX-3.
#[test]
fn a_map_over_two_inputs_equals_a_sequential_map() {
    async fn check<E: Executor>(executor: E) {
        let inputs = || (0..10u64).zip(0..10u32);
        let expected: Vec<u64> = inputs().map(power).collect();
        assert_eq!(executor.map(power, inputs()).await.unwrap(), expected);
        assert_eq!(executor.map(power, inputs()).result().unwrap(), expected);
        assert_eq!(streamed(executor.map(power, inputs())).await, expected);

        assert_eq!(executor.map(power, inputs()).chunk_size(3).await.unwrap(), expected);
        assert_eq!(streamed(executor.map(power, inputs()).chunk_size(3)).await, expected);

        // The shorter input ends both.
        assert_eq!(executor.map(power, (0..3).zip(2..)).await.unwrap(), [0, 1, 16]);
    }
    over_executors!(check);
}

#[test]
fn all_items_of_a_map_share_its_context() {
    fn scale(factors: &[u64; 3], n: usize) -> u64 {
        factors[n % factors.len()] * n as u64
    }
    async fn check<E: Executor>(executor: E) {
        let map = |factors: [u64; 3]| executor.map_with(factors, scale, 0..100);
        let [one, other] = [[2, 3, 5], [7, 11, 13]].map(|factors| {
            let expected: Vec<u64> = (0..100).map(|n| scale(&factors, n)).collect();
            (factors, expected)
        });

        assert_eq!(map(one.0).await.unwrap(), one.1);
        assert_eq!(map(one.0).chunk_size(7).result().unwrap(), one.1);
        assert_eq!(streamed(map(one.0).chunk_size(1).buffer_size(3)).await, one.1);

        // Two maps whose items come in turn.
        let (mut left, mut right) = (map(one.0).chunk_size(1), map(other.0).chunk_size(2));
        for n in 0..100 {
            assert_eq!(left.next().await.unwrap().unwrap(), one.1[n]);
            assert_eq!(right.next().await.unwrap().unwrap(), other.1[n]);
        }
        assert!(left.next().await.is_none() && right.next().await.is_none());

        assert!(executor.map_with(one.0, scale, 0..0).await.unwrap().is_empty());

        // An endless input, of which some is taken.
        let endless = executor.map_with(one.0, scale, 0..).buffer_size(8);
        assert_eq!(endless.take(100).map(Result::unwrap).collect::<Vec<_>>().await, one.1);
    }
    over_executors!(check);
}

#[test]
fn a_context_is_dropped_once_with_its_map() {
    async fn check<E: Closures>(executor: E) {
        let (dropped, object) = (Counter::new(), Object);
        let context = object(dropped.clone());
        let map = executor.map_context(context, |object, n: u32| (object.0.get(), n), 0..100);
        assert_eq!(map.await.unwrap(), (0..100).map(|n| (0, n)).collect::<Vec<_>>());
        // A driver that has found nothing more to do may still hold the map.
        dropped.wait_for(1);
        drop(executor.map_context(object(dropped.clone()), |_, n: u32| n, 0..100));
        dropped.wait_for(2);
        assert_eq!(dropped.get(), 2);
    }
    over_closures!(check);
}

#[test]
fn the_first_error_of_its_function_ends_a_try_map() {
    fn divided(pair: (u32, u32)) -> Result<(u32, u32), String> {
        Ok(divide(pair))
    }
    fn at_most_4(n: u32) -> Result<u32, String> {
        if n < 5 { Ok(n) } else { Err(format!("{n} is too much")) }
    }

    async fn check<E: Executor>(executor: E) {
        for chunk in [None, Some(1), Some(3), Some(100)] {
            let sized = |map: TryMap<_, _>| match chunk {
                None => map,
                Some(n) => map.chunk_size(n),
            };
            let map = |items: Vec<_>| sized(executor.try_map(try_divide, items));
            assert_eq!(map(vec![(7, 3), (8, 3)]).await.unwrap(), [(2, 1), (2, 2)]);
            assert_eq!(map(vec![]).await.unwrap(), []);

            let mut items = map(ITEMS.to_vec());
            assert_eq!(items.next().await.unwrap().unwrap(), (0, 1));
            assert_eq!(items.next().await.unwrap().unwrap(), (0, 1));
            let error = items.next().await.unwrap().unwrap_err();
            assert_eq!((error.index(), &*error.to_string()), (2, "item 2: 1 / 0"));
            assert!(matches!(error, TryMapError::Function { index: 2, .. }), "{error:?}");
            for _ in 0..3 {
                assert!(items.next().await.is_none());
                assert!(items.is_terminated());
            }

            let awaited = map(ITEMS.to_vec()).await.unwrap_err();
            assert_eq!((awaited.index(), awaited.into_error().unwrap()), (2, "1 / 0".to_owned()));
            assert_eq!(map(ITEMS.to_vec()).start().result().unwrap_err().index(), 2);
            let mut rows = map(ITEMS.to_vec()).blocking();
            assert_eq!(rows.by_ref().take(2).map(Result::unwrap).collect::<Vec<_>>(), [(0, 1); 2]);
            assert_eq!(rows.next().unwrap().unwrap_err().index(), 2);
            assert!(rows.next().is_none());

            // A panic ends it as well.
            match sized(executor.try_map(divided, ITEMS)).await.unwrap_err() {
                TryMapError::Task { index: 2, error, .. } => {
                    assert_panicked::<()>(&Err(error), "attempt to divide by zero");
                }
                other => panic!("{other:?}"),
            }
        }
        // Nothing else ends this one.
        let ended = executor.try_map(at_most_4, 0..).await.unwrap_err();
        assert_eq!(ended.to_string(), "item 5: 5 is too much");
    }
    over_executors!(check);
}

/// EX-4.
#[test]
fn an_item_that_fails_is_an_error_at_its_place() {
    async fn check<E: Executor>(executor: E) {
        for chunk in [None, Some(1), Some(3), Some(5), Some(100)] {
            let map = || match chunk {
                None => executor.map(divide, ITEMS),
                Some(n) => executor.map(divide, ITEMS).chunk_size(n),
            };
            let mut items = map();
            assert_eq!(items.next().await.unwrap().unwrap(), (0, 1));
            assert_eq!(items.next().await.unwrap().unwrap(), (0, 1));
            let error = items.next().await.unwrap();
            assert_panicked(&error, "attempt to divide by zero");
            assert_eq!(items.next().await.unwrap().unwrap(), (0, 1));
            assert!(!items.is_terminated());
            assert_eq!(items.next().await.unwrap().unwrap(), (3, 1));
            for _ in 0..3 {
                assert!(items.next().await.is_none());
                assert!(items.is_terminated());
            }

            let mut all: Vec<_> = map().unordered().collect().await;
            all.sort_by_key(|(index, _)| *index);
            let values: Vec<_> = all.iter().map(|(_, item)| item.as_ref().ok().copied()).collect();
            assert_eq!(values, [Some((0, 1)), Some((0, 1)), None, Some((0, 1)), Some((3, 1))]);

            // Awaited, the error is the answer.
            assert_panicked(&map().await, "attempt to divide by zero");
            assert_panicked(&map().result(), "attempt to divide by zero");
        }

        // A job's own error is a value, and ends nothing either.
        let all = executor.map(try_divide, ITEMS).chunk_size(3).await.unwrap();
        let error = Err("1 / 0".to_owned());
        assert_eq!(all, [Ok((0, 1)), Ok((0, 1)), error, Ok((0, 1)), Ok((3, 1))]);
    }
    over_executors!(check);
}

/// One map counts the same on all executors: its items, and no task.
#[test]
fn a_map_counts_its_items_and_no_task() {
    async fn check<E: ExecutorService>(executor: E) {
        let counts = || {
            let metrics = executor.metrics();
            let tasks = [metrics.submitted, metrics.completed, metrics.failed, metrics.cancelled];
            (tasks, metrics.items)
        };
        executor.submit(call!(power((2, 3)))).await.unwrap();
        let squares: Vec<_> = (0..1000).map(|n| (n, 2)).collect();
        executor.map(power, squares.clone()).await.unwrap();
        assert_eq!(counts(), ([1, 1, 0, 0], 1000));
        assert_eq!(executor.map(power, squares).chunk_size(7).unordered().count().await, 1000);
        assert_eq!(counts(), ([1, 1, 0, 0], 2000));
        // Values alone, as for tasks.
        for chunk in [1, 3, 5] {
            let items = executor.map(divide, ITEMS).chunk_size(chunk);
            assert_eq!(items.filter(|item| ready(item.is_err())).count().await, 1);
        }
        assert_eq!(counts(), ([1, 1, 0, 0], 2012));
        let report = executor.shutdown(Shutdown::Drain).await;
        assert_eq!((report.completed, report.failed, report.cancelled), (0, 0, 0));
    }
    over_services!(check);
}

/// EX-4.
#[test]
fn the_first_error_in_the_order_of_the_input_wins() {
    over_pools_async(|pool| async move {
        let early = Held::new();
        let (gate, failed) = (early.gate(), Counter::new());
        let job = move |n: u32| {
            if n == 0 {
                gate.wait(); // until the later item has failed
            }
            failed.add();
            panic!("item {n}")
        };
        let mut map = pool.map(job, 0..4u32).buffer_size(4).into_future();
        assert!(futures::poll!(&mut map).is_pending());
        early.open();
        assert_panicked::<Vec<()>>(&map.await, "item 0");
    });
}

/// EX-4.
#[test]
fn an_error_ends_a_map_that_is_awaited() {
    async fn check<E: Closures>(executor: E) {
        let freed = Counter::new();
        let (with_input, with_job) = (Object(freed.clone()), Object(freed.clone()));
        let input = (0..u64::MAX).inspect(move |_| with_input.method());
        let job = move |n| {
            with_job.method();
            assert_ne!(n, 3, "the fourth");
            n
        };
        let text = "assertion `left != right` failed: the fourth\n  left: 3\n right: 3";
        assert_panicked(&executor.map_closure(job, input).await, text);
        // Without end as the input is, it is gone, and so is the function.
        freed.wait_for(2);
        executor.shutdown(Shutdown::Drain).await;
    }
    over_closures!(check);
}

/// EX-5.
#[test]
fn a_timeout_error_of_a_task_is_not_that_of_the_map() {
    /// An error of the kind that the map's own limit gives, made by the job.
    fn wait_in_vain() -> Result<u32, Error> {
        Err(Error::timed_out(Duration::ZERO, false))
    }

    async fn check<E: Closures>(executor: E) {
        for limit in [None, Some(LONG)] {
            for chunk in [1, 3] {
                let job = |n: u32| match n {
                    1 => wait_in_vain(),
                    2 => panic_any(wait_in_vain().unwrap_err()),
                    n => Ok(n),
                };
                let mut map = executor.map_closure(job, 0..4).chunk_size(chunk);
                if let Some(limit) = limit {
                    map = map.timeout(limit);
                }
                assert_eq!(map.next().await.unwrap().unwrap().unwrap(), 0);
                assert_timed_out(&map.next().await.unwrap().unwrap(), Duration::ZERO, false);
                match map.next().await {
                    Some(Err(Error::Panicked(panicked))) => {
                        let error = *panicked.into_payload().downcast::<Error>().unwrap();
                        assert_timed_out::<()>(&Err(error), Duration::ZERO, false);
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(map.next().await.unwrap().unwrap().unwrap(), 3);
                assert!(map.next().await.is_none());
            }
        }
    }
    over_closures!(check);
}

/// A map of which two items are quick, one for each worker waits at a gate, and three come after
/// those.
struct Slow {
    map: Map<u32>,
    held: Held,
    taken: Counter,
    late: Counter,
    /// For each job that has left the gate, whether it was asked to stop.
    stopped: Arc<Mutex<Vec<bool>>>,
    input: Weak<()>,
}

impl Slow {
    fn new(pool: &ThreadPoolExecutor) -> Self {
        let held = Held::new();
        let (started, taken, late) = (Counter::new(), Counter::new(), Counter::new());
        let stopped = Arc::new(Mutex::new(Vec::new()));
        let input_lives = Arc::new(());
        let input = Arc::downgrade(&input_lives);
        let slow = 2..2 + u32::try_from(pool.max_workers()).unwrap();
        let items = (0..slow.end + 3).inspect(move |_| {
            let _lives = &input_lives;
        });
        let job = {
            let (started, late, gate) = (started.clone(), late.clone(), held.gate());
            let stopped = stopped.clone();
            move |n: u32| {
                if slow.contains(&n) {
                    started.add();
                    gate.wait();
                    stopped.lock().unwrap().push(task::stop_requested());
                } else if n >= slow.end {
                    late.add();
                }
                n
            }
        };
        let map = pool.map(job, counted(items, taken.clone())).start();
        // Each worker has got to a slow item, so the quick ones are done.
        started.wait_for(pool.max_workers());
        Self { map, held, taken, late, stopped, input }
    }
}

/// The rest is cancelled: the input is gone, what runs is asked to stop, nothing more starts.
async fn the_rest_is_cancelled(
    pool: &ThreadPoolExecutor,
    held: Held,
    (taken, late): (Counter, Counter),
    stopped: Arc<Mutex<Vec<bool>>>,
    input: Weak<()>,
) {
    assert!(input.upgrade().is_none());
    held.open();
    pool.shutdown(Shutdown::Drain).await;
    assert_eq!(*stopped.lock().unwrap(), vec![true; pool.max_workers()]);
    assert_eq!(taken.get(), 2 + pool.max_workers());
    assert_eq!(late.get(), 0);
}

/// EX-6. The inline executor computes an item while it is asked for, so no limit can pass
/// meanwhile.
#[test]
fn a_time_limit_ends_a_map_after_the_finished_items() {
    over_pools_async(|pool| async move {
        let Slow { map, held, taken, late, stopped, input } = Slow::new(&pool);
        let mut map = map.timeout(SHORT);
        assert_eq!(map.next().await.unwrap().unwrap(), 0);
        assert_eq!(map.next().await.unwrap().unwrap(), 1);
        assert_timed_out(&map.next().await.unwrap(), SHORT, true);
        for _ in 0..3 {
            assert!(map.next().await.is_none());
            assert!(map.is_terminated());
        }
        the_rest_is_cancelled(&pool, held, (taken, late), stopped, input).await;
    });
}

/// EX-6.
#[test]
fn a_time_limit_ends_an_unordered_map_after_the_finished_items() {
    over_pools_async(|pool| async move {
        let Slow { map, held, taken, late, stopped, input } = Slow::new(&pool);
        let mut map = map.unordered().timeout(SHORT);
        let mut quick = [map.next().await.unwrap(), map.next().await.unwrap()];
        quick.sort_by_key(|(index, _)| *index);
        assert_eq!(quick.map(|(index, item)| (index, item.unwrap())), [(0, 0), (1, 1)]);
        let (count, error) = map.next().await.unwrap();
        assert_eq!(count, 2);
        assert_timed_out(&error, SHORT, true);
        assert!(map.next().await.is_none());
        assert!(map.next().await.is_none());
        the_rest_is_cancelled(&pool, held, (taken, late), stopped, input).await;
    });
}

/// EX-6.
#[test]
fn a_time_limit_is_the_error_of_a_map_that_is_awaited() {
    over_pools_async(|pool| async move {
        let Slow { map, held, taken, late, stopped, input } = Slow::new(&pool);
        assert_timed_out(&map.timeout(SHORT).await, SHORT, true);
        the_rest_is_cancelled(&pool, held, (taken, late), stopped, input).await;
    });
}

/// EX-7. A map is closed by dropping it, so it can not be asked for a further item.
#[test]
fn a_map_dropped_after_its_first_item_takes_and_runs_nothing_more() {
    async fn check<E: Closures>(executor: E) {
        for chunk in [1, 3] {
            for unordered in [false, true] {
                let (taken, ran) = (Counter::new(), Counter::new());
                let job_ran = ran.clone();
                let job = move |n: u32| {
                    job_ran.add();
                    n
                };
                let map = executor.map_closure(job, counted(0.., taken.clone()));
                let mut map = map.chunk_size(chunk).buffer_size(chunk).start();
                ran.wait_for(chunk); // the window is full
                if unordered {
                    let mut map = map.unordered();
                    let (index, value) = map.next().await.unwrap();
                    assert_eq!(index, usize::try_from(value.unwrap()).unwrap());
                    drop(map);
                } else {
                    assert_eq!(map.next().await.unwrap().unwrap(), 0);
                    drop(map);
                }
                // A task behind whatever is left of the map.
                executor.submit(call!(u64::pow(2, 8))).await.unwrap();
                assert_eq!(taken.get(), chunk);
                assert_eq!(ran.get(), chunk);
            }
        }
    }
    over_closures!(check);
}

/// EX-7.
#[test]
fn dropping_a_map_ends_its_endless_input() {
    async fn check<E: Closures>(executor: E) {
        for chunk in [None, Some(3)] {
            let freed = Counter::new();
            let (with_input, with_job) = (Object(freed.clone()), Object(freed.clone()));
            let input = (0..u64::MAX).inspect(move |_| with_input.method());
            let job = move |n| {
                with_job.method();
                n
            };
            let mut map = executor.map_closure(job, input);
            if let Some(n) = chunk {
                map = map.chunk_size(n);
            }
            assert_eq!(map.next().await.unwrap().unwrap(), 0);
            drop(map);
            freed.wait_for(2); // the input and the function
        }
        // That the executor ends at all shows that nothing goes on.
        executor.shutdown(Shutdown::Drain).await;
    }
    over_closures!(check);
}

// EX-8: `buffer_size` takes a `usize`, so a window that is not an integer does not compile.

/// EX-9. A negative window does not compile either.
#[test]
fn a_window_of_zero_is_rejected() {
    async fn check<E: Executor>(executor: E) {
        let rule = "buffer_size must be at least 1, so that an item can be taken";
        let map = || executor.map(text, 0..3);
        assert_eq!(panic_text(|| map().buffer_size(0)), rule);
        assert_eq!(panic_text(|| map().unordered().buffer_size(0)), rule);
        let rule = "chunk_size must be at least 1";
        assert_eq!(panic_text(|| map().chunk_size(0)), rule);
        assert_eq!(panic_text(|| map().unordered().chunk_size(0)), rule);
        // Nothing is left of those maps.
        assert_eq!(map().buffer_size(1).await.unwrap(), ["0", "1", "2"]);
    }
    over_executors!(check);
}

/// EX-10.
#[test]
fn windows_of_all_sizes_give_all_results_in_order() {
    async fn check<E: Executor>(executor: E) {
        let n = scaled(100);
        let expected: Vec<_> = (0..n as u32).map(text).collect();
        for window in [1, 2, n, 2 * n] {
            let map = || executor.map(text, 0..n as u32).buffer_size(window);
            assert_eq!(map().await.unwrap(), expected);
            assert_eq!(map().result().unwrap(), expected);
            assert_eq!(streamed(map()).await, expected);
            assert_eq!(streamed(map().chunk_size(3)).await, expected);
            let mut unordered: Vec<_> = map().unordered().collect().await;
            unordered.sort_by_key(|(index, _)| *index);
            for (place, (index, value)) in unordered.into_iter().enumerate() {
                assert_eq!((index, &value.unwrap()), (place, &expected[place]));
            }
        }
    }
    over_executors!(check);
}

/// EX-11.
#[test]
fn windows_over_two_inputs_give_all_results_in_order() {
    async fn check<E: Executor>(executor: E) {
        let n = scaled(100);
        let inputs = || (0..n as u32).zip((1000..1000 + n as u32).rev());
        let expected: Vec<_> = inputs().map(sum_text).collect();
        for window in [1, 2, n, 2 * n] {
            let map = || executor.map(sum_text, inputs()).buffer_size(window);
            assert_eq!(map().await.unwrap(), expected);
            assert_eq!(streamed(map()).await, expected);
        }
    }
    over_executors!(check);
}

/// EX-12.
#[test]
fn an_endless_input_works_in_a_window_of_two() {
    async fn check<E: Executor>(executor: E) {
        let taken = Counter::new();
        let mut map = executor.map(text, counted(0.., taken.clone())).buffer_size(2);
        for count in 0..10 {
            assert_eq!(map.next().await.unwrap().unwrap(), count.to_string());
            // An item is delivered only when the next one is asked for.
            assert!(taken.get() <= count + 2, "{} at {count}", taken.get());
        }
    }
    over_executors!(check);
}

/// EX-13.
#[test]
fn two_endless_inputs_work_in_a_window_of_two() {
    async fn check<E: Executor>(executor: E) {
        let (left, right) = (Counter::new(), Counter::new());
        let inputs = counted(0.., left.clone()).zip(counted(10.., right.clone()));
        let mut map = executor.map(sum_text, inputs).buffer_size(2);
        for count in 0..10 {
            assert_eq!(map.next().await.unwrap().unwrap(), (10 + 2 * count).to_string());
            assert!(left.get() <= count + 2 && right.get() <= count + 2);
        }
    }
    over_executors!(check);
}

/// EX-13.
#[test]
fn a_window_of_two_is_full_when_the_executor_has_ended() {
    async fn check<E: ExecutorService>(executor: E) {
        let (left, right) = (Counter::new(), Counter::new());
        let inputs = counted(0.., left.clone()).zip(counted(10.., right.clone()));
        let mut map = executor.map(sum_text, inputs).buffer_size(2);
        for expected in ["10", "12", "14"] {
            assert_eq!(map.next().await.unwrap().unwrap(), expected);
        }
        executor.shutdown(Shutdown::Drain).await;
        assert_eq!((left.get(), right.get()), (4, 4));
    }
    over_services!(check);
}

/// EX-14.
#[test]
fn an_empty_input_is_finished_at_once() {
    async fn check<E: Executor>(executor: E) {
        for window in [1, 2, 200] {
            let map = || executor.map(text, 0..0).buffer_size(window);
            assert_eq!(map().await.unwrap(), [""; 0]);
            assert_eq!(map().result().unwrap(), [""; 0]);
            assert!(map().unordered().next().await.is_none());
            let mut items = map();
            assert!(items.next().await.is_none());
            assert!(items.is_terminated());
            assert!(items.next().now_or_never().unwrap().is_none());
        }
    }
    over_executors!(check);
}

/// EX-15. `map` always takes an input; the nearest to none at all is one that can never have an
/// item.
#[test]
fn no_input_is_finished_at_once() {
    async fn check<E: Executor>(executor: E) {
        for window in [1, 2, 200] {
            let mut items = executor.map(text, None).buffer_size(window);
            assert!(items.next().await.is_none());
            assert!(items.is_terminated());
            assert_eq!(executor.map(text, []).buffer_size(window).await.unwrap(), [""; 0]);
            let empty = std::iter::empty();
            assert_eq!(executor.map(text, empty).buffer_size(window).await.unwrap(), [""; 0]);
        }
    }
    over_executors!(check);
}

/// EX-16. Not inline: there an item is computed when it is asked for, and here none is.
#[test]
fn a_map_that_is_not_read_takes_exactly_its_window() {
    fn check(pool: &ThreadPoolExecutor, window: usize, chunk: Option<usize>) {
        let (taken, ran) = (Counter::new(), Counter::new());
        let job_ran = ran.clone();
        let job = move |_| job_ran.add();
        let map = pool.map(job, counted(0..10_000, taken.clone())).buffer_size(window);
        let map = match chunk {
            None => map,
            Some(n) => map.chunk_size(n),
        };
        let map = map.start();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((taken.get(), ran.get()), (window, window));
        drop(map);
        assert_eq!((taken.get(), ran.get()), (window, window));
    }
    within_limit(|| {
        for max_workers in POOL_SIZES {
            for window in [1, 2, 7, 100, scaled(1_000)] {
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
            for _ in 0..scaled(100) {
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

/// EX-18.
#[test]
fn the_executor_keeps_nothing_of_a_job() {
    fn call_method(object: Arc<Object>) {
        object.method();
    }

    async fn check<E: Closures>(executor: E) {
        let freed = Counter::new();
        let bound = || {
            let object = Arc::new(Object(freed.clone()));
            let weak = Arc::downgrade(&object);
            (object, weak)
        };
        // Nobody holds a future.
        let (object, weak) = bound();
        executor.submit_job(move || object.method()).detach();
        freed.wait_for(1);
        assert!(weak.upgrade().is_none());

        // A future with a callback, dropped.
        let (object, weak) = bound();
        executor.submit_job(move || object.method()).add_done_callback(|_| ());
        freed.wait_for(2);
        assert!(weak.upgrade().is_none());

        // A future is held and not read: with a value, with a panic.
        let (object, weak) = bound();
        let future = until_done(executor.submit_job(call!(call_method(object))));
        assert!(weak.upgrade().is_none());
        let (object, weak) = bound();
        let failed = until_done(executor.submit_job(move || {
            object.method();
            panic!("after the method");
        }));
        assert!(weak.upgrade().is_none());
        assert_eq!(freed.get(), 4);
        assert!(future.await.is_ok());
        assert_panicked::<()>(&failed.await, "after the method");
    }
    over_closures!(check);
}

/// EX-18.
#[test]
fn a_job_whose_future_was_dropped_is_freed_at_its_end() {
    over_pools(|pool| {
        let freed = Counter::new();
        let held = Held::new();
        let (started, gate) = (Counter::new(), held.gate());
        let object = Arc::new(Object(freed.clone()));
        let weak = Arc::downgrade(&object);
        let started_in_job = started.clone();
        let future = pool.submit(move || {
            started_in_job.add();
            gate.wait();
            object.method();
        });
        started.wait_for(1);
        drop(future);
        assert!(weak.upgrade().is_some());
        held.open();
        freed.wait_for(1);
        assert!(weak.upgrade().is_none());
    });
}

/// EX-19. A negative count does not compile: it is a `usize`.
#[test]
fn zero_workers_are_rejected() {
    within_limit(|| {
        let error = ThreadPoolExecutor::builder().max_workers(0).build().unwrap_err();
        let rule = "max_workers must be at least 1: a pool without workers runs nothing";
        assert_eq!(error.to_string(), rule);
    });
}

/// EX-20.
#[test]
fn a_result_of_a_map_is_freed_by_its_consumer() {
    async fn check<E: Closures>(executor: E) {
        let freed = Counter::new();
        for chunk in [1, 3, 10] {
            let before = freed.get();
            let job = {
                let freed = freed.clone();
                move |_| Arc::new(Object(freed.clone()))
            };
            let mut map = executor.map_closure(job, 0..10).chunk_size(chunk);
            let mut count = 0;
            while let Some(result) = map.next().await {
                let result = result.unwrap();
                let weak = Arc::downgrade(&result);
                drop(result);
                assert!(weak.upgrade().is_none());
                count += 1;
                assert_eq!(freed.get() - before, count);
            }
            assert_eq!(count, 10);
        }
    }
    over_closures!(check);
}

/// EX-20.
#[test]
fn results_that_are_not_taken_are_freed_with_the_map() {
    async fn check<E: Closures>(executor: E) {
        let (made, freed) = (Counter::new(), Counter::new());
        let job = {
            let (made, freed) = (made.clone(), freed.clone());
            move |_: u32| {
                made.add();
                Object(freed.clone())
            }
        };
        let mut map = executor.map_closure(job, 0..).chunk_size(2).buffer_size(8);
        drop(map.next().await.unwrap().unwrap());
        assert_eq!(freed.get(), 1);
        drop(map);
        executor.shutdown(Shutdown::Drain).await;
        assert_eq!(freed.get(), made.get());
    }
    over_closures!(check);
}

/// EX-20.
#[test]
fn a_result_that_comes_after_the_map_is_freed() {
    over_pools_async(|pool| async move {
        let (started, freed) = (Counter::new(), Counter::new());
        let held = Held::new();
        let job = {
            let (started, freed, gate) = (started.clone(), freed.clone(), held.gate());
            move |n: u32| {
                if n > 0 {
                    started.add();
                    gate.wait();
                }
                Object(freed.clone())
            }
        };
        let mut map = pool.map(job, 0..).buffer_size(1);
        drop(map.next().await.unwrap().unwrap());
        assert!(futures::poll!(map.next()).is_pending());
        started.wait_for(1);
        drop(map);
        assert_eq!(freed.get(), 1);
        held.open();
        pool.shutdown(Shutdown::Drain).await;
        assert_eq!(freed.get(), 2);
    });
}

#[derive(Debug, PartialEq)]
struct Empty;

impl std::fmt::Display for Empty {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl std::error::Error for Empty {}

type Boxed = Box<dyn std::error::Error + Send + Sync>;

fn fail(how: u32) {
    match how {
        0 => panic!(""),
        1 => panic_any(Empty),
        2 => panic_any(()),
        3 => panic_any(String::new()),
        4 => resume_unwind(Box::new(Empty)),
        _ => {}
    }
}

fn fail_with_nothing() -> Result<(), ()> {
    Err(())
}

/// EX-21.
#[test]
fn errors_that_look_empty_are_errors() {
    const NO_TEXT: &str = "the panic's payload is not a string";
    const MESSAGES: [&str; 5] = ["", NO_TEXT, NO_TEXT, "", NO_TEXT];

    async fn check<E: Executor>(executor: E) {
        for (how, message) in (0..).zip(MESSAGES) {
            let future = until_done(executor.submit(call!(fail(how))));
            let state = "state: finished raised Panicked }";
            assert!(format!("{future:?}").ends_with(state), "{future:?}");
            let mut parts = wait([future], ReturnWhen::FirstError).await;
            assert_panicked(&parts.done.remove(0).await, message);
        }

        for chunk in [1, 3] {
            let map = || executor.map(fail, 0..6).chunk_size(chunk);
            let mut items = map();
            for message in MESSAGES {
                assert_panicked(&items.next().await.unwrap(), message);
            }
            assert!(items.next().await.unwrap().is_ok());
            assert!(items.next().await.is_none());
            assert_panicked(&map().await, "");
        }

        let error = executor.submit(call!(fail_with_nothing())).await.unwrap();
        assert_eq!(error, Err(()));
    }
    over_executors!(check);
}

/// EX-21.
#[test]
fn errors_of_empty_types_keep_their_type() {
    async fn check<E: Closures>(executor: E) {
        match executor.submit(call!(fail(1))).await {
            Err(Error::Panicked(panicked)) => assert!(panicked.into_payload().is::<Empty>()),
            other => panic!("{other:?}"),
        }
        let error = executor.submit_job(|| Err::<u32, Empty>(Empty)).await.unwrap();
        assert_eq!(error, Err(Empty));
        let error = executor.submit_job(|| Err::<u32, Boxed>(Box::new(Empty))).await.unwrap();
        assert_eq!(error.unwrap_err().to_string(), "");
    }
    over_closures!(check);
}

#[test]
fn closed_is_ready_once_nothing_more_is_taken() {
    async fn check<E: ExecutorService>(executor: E) {
        let mut closed = executor.closed();
        assert!((&mut closed).now_or_never().is_none());
        assert_eq!(executor.submit(call!(u64::pow(2, 8))).await.unwrap(), 256);
        let waits = std::thread::spawn({
            let closed = executor.closed();
            || futures::executor::block_on(closed)
        });
        let report = executor.shutdown(Shutdown::Drain);
        closed.await;
        waits.join().unwrap();
        assert!(!matches!(executor.state(), ExecutorState::Open));
        executor.closed().await;
        report.await;
    }
    over_services!(check);
}

#[test]
fn closed_is_ready_when_the_last_handle_is_dropped() {
    async fn check<P: Pool>(pool: P) {
        let other = P::of(1);
        let held = P::held();
        let running = other.occupy_all(&held);
        let closed = other.closed();
        drop(other);
        closed.await;
        P::open(&held);
        for future in running {
            assert_eq!(future.await.unwrap(), 42);
        }
        drop(pool);
    }
    over_all_pools!(check);
}

#[test]
fn closed_is_ready_when_the_pool_breaks() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().initializer(|| Err("no licence")).build().unwrap();
        let closed = pool.closed();
        assert!(matches!(pool.submit(|| ()).result(), Err(Error::BrokenPool(_))));
        futures::executor::block_on(closed);
        assert!(matches!(pool.state(), ExecutorState::Broken(_)));
    });
}
