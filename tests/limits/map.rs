//! Maps: the window, order, errors in their places, and every way in which a map can end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use concurrent_futures::{Error, Map, Shutdown, ThreadPoolExecutor, Unordered, task};
use futures::future::FusedFuture;
use futures::stream::FusedStream;
use futures::{Stream, StreamExt};

use crate::support::{Counter, Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, within_limit};
use crate::{Random, until_quiet};

const WORKERS: [usize; 3] = [1, 2, 4];

/// The message of a panic, or what else the error is.
fn message(error: &Error) -> String {
    match error {
        Error::Panicked(panicked) => panicked.message().to_owned(),
        other => format!("{other:?}"),
    }
}

/// Messages for errors, values for values.
fn shown<T>(results: impl IntoIterator<Item = Result<T, Error>>) -> Vec<Result<T, String>> {
    results.into_iter().map(|result| result.map_err(|error| message(&error))).collect()
}

/// An iterator of unknown length.
fn of_unknown_length<I: Iterator>(mut items: I) -> impl Iterator<Item = I::Item> {
    std::iter::from_fn(move || items.next())
}

/// An input without end, for maps without a window. A map that is to end and does not would take
/// all memory; it meets the end of this input instead, and the flag tells.
#[derive(Clone, Default)]
struct WithoutEnd(Arc<AtomicBool>);

impl WithoutEnd {
    fn items(&self) -> impl Iterator<Item = usize> + Send + use<> {
        let met = Arc::clone(&self.0);
        (0usize..).take_while(move |n| {
            let far = *n >= 50_000_000;
            met.fetch_or(far, SeqCst);
            !far
        })
    }

    fn assert_not_met(&self) {
        assert!(!self.0.load(SeqCst), "the map does not end");
    }
}

fn broken_pool(max_workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder()
        .max_workers(max_workers)
        .initializer(|| Err::<(), _>("no licence"))
        .build()
        .unwrap()
}

// ---- The window ----

/// How far an input is ahead of its consumer.
#[derive(Default)]
struct Lead {
    taken: AtomicUsize,
    /// An item in the consumer's hand counts until the next one is asked for.
    released: AtomicUsize,
    longest: AtomicUsize,
}

impl Lead {
    fn now(&self) -> usize {
        self.taken.load(SeqCst) - self.released.load(SeqCst)
    }
}

/// 0, 1, 2 and so on without end, watching its lead.
struct Endless {
    next: usize,
    lead: Arc<Lead>,
    random: Random,
}

impl Endless {
    fn new(lead: &Arc<Lead>, seed: u64) -> Self {
        Self { next: 0, lead: Arc::clone(lead), random: Random::new(seed) }
    }
}

impl Iterator for Endless {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.random.disturb();
        let taken = self.lead.taken.fetch_add(1, SeqCst) + 1;
        let lead = taken - self.lead.released.load(SeqCst);
        self.lead.longest.fetch_max(lead, SeqCst);
        self.next += 1;
        Some(self.next - 1)
    }
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    Fast,
    Slow,
    /// Stops now and then until the workers have nothing to do.
    Pausing,
}

/// Reads 40 results and watches the window.
async fn read_within_window(
    pool: &ThreadPoolExecutor,
    window: usize,
    chunk_size: Option<usize>,
    pace: Pace,
    ordered: bool,
    seed: u64,
) {
    let lead = Arc::new(Lead::default());
    let mut random = Random::new(seed + 1);
    let disturb = Mutex::new(Random::new(seed + 2));
    let function = move |n: usize| {
        let mut random = disturb.lock().unwrap().clone();
        random.disturb();
        disturb.lock().unwrap().below(9);
        2 * n
    };
    let mut map = pool.map(function, Endless::new(&lead, seed)).buffer_size(window);
    if let Some(n) = chunk_size {
        map = map.chunk_size(n);
    }
    let mut results = if ordered { map.enumerate().boxed() } else { map.unordered().boxed() };
    let case = format!("window {window}, {chunk_size:?}, {pace:?}, ordered {ordered}, seed {seed}");
    let mut seen = Vec::new();
    for round in 0..40 {
        if round > 0 {
            lead.released.fetch_add(1, SeqCst);
        }
        let (index, value) = results.next().await.unwrap();
        assert_eq!(value.unwrap(), 2 * index, "{case}");
        seen.push(index);
        match pace {
            Pace::Fast => {}
            Pace::Slow => {
                for _ in 0..random.below(20) {
                    tokio::task::yield_now().await;
                }
            }
            Pace::Pausing if random.below(4) == 0 => {
                until_quiet(pool);
                assert_eq!(lead.now(), window, "round {round} of {case}");
            }
            Pace::Pausing => {}
        }
    }
    let longest = lead.longest.load(SeqCst);
    assert!(longest <= window, "{longest} were out at a time: {case}");
    if ordered {
        assert_eq!(seen, (0..40).collect::<Vec<_>>(), "{case}");
    } else {
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 40, "{case}");
    }
}

#[test]
fn no_schedule_takes_more_than_the_window() {
    on_runtimes(|| async {
        let mut seed = 0;
        for workers in WORKERS {
            let pool = pool(workers);
            for window in [1, 2, 3, 7] {
                for chunk_size in [None, Some(1), Some(2), Some(1000)] {
                    for pace in [Pace::Fast, Pace::Slow, Pace::Pausing] {
                        for ordered in [true, true, false] {
                            seed += 1;
                            if seed % (72 / scaled(72)) as u64 != 0 {
                                continue; // a sample of them
                            }
                            read_within_window(&pool, window, chunk_size, pace, ordered, seed)
                                .await;
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn many_maps_at_a_time_keep_their_windows() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let reads = (0..scaled(20) as u64).map(|seed| {
                let pool = pool.clone();
                async move {
                    // The others keep the pool busy, so no reader may wait for it to be quiet.
                    let pace = if seed % 2 == 0 { Pace::Fast } else { Pace::Slow };
                    read_within_window(&pool, 2, None, pace, true, 1000 + seed).await;
                }
            });
            let reads: Vec<_> = reads.map(tokio::spawn).collect();
            for read in reads {
                read.await.unwrap();
            }
        }
    });
}

#[test]
fn a_window_is_filled_exactly_while_the_map_is_not_read() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for window in [1, 2, 3, 15, 16, 64, scaled(1000)] {
                for chunk_size in [None, Some(1), Some(7), Some(5000)] {
                    let lead = Arc::new(Lead::default());
                    let done = Counter::new();
                    let count = done.clone();
                    let mut map = pool
                        .map(move |_| count.add(), Endless::new(&lead, window as u64))
                        .buffer_size(window);
                    if let Some(n) = chunk_size {
                        map = map.chunk_size(n);
                    }
                    map = map.start();
                    done.wait_for(window);
                    until_quiet(&pool);
                    assert_eq!((lead.now(), done.get()), (window, window), "{chunk_size:?}");
                    drop(map);
                }
            }
        }
    });
}

#[test]
fn a_window_is_filled_again_when_the_consumer_pauses_after_some_items() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for window in [1, 2, 5, 15, 16, 64] {
                let lead = Arc::new(Lead::default());
                let map = pool.map(|n| n, Endless::new(&lead, 3)).buffer_size(window);
                let mut results = futures::executor::block_on_stream(map);
                for round in 0..3 * window {
                    if round > 0 {
                        lead.released.fetch_add(1, SeqCst);
                    }
                    assert_eq!(results.next().unwrap().unwrap(), round);
                    until_quiet(&pool);
                    assert_eq!(lead.now(), window, "window {window}, after item {round}");
                }
            }
        }
    });
}

#[test]
fn all_workers_are_busy_while_the_window_has_room() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for window in [workers, 2 * workers, usize::MAX] {
                let (gate, started) = (Gate::new(), Counter::new());
                let (wait, count) = (gate.clone(), started.clone());
                let map = pool
                    .map(
                        move |n: usize| {
                            count.add();
                            wait.wait();
                            n
                        },
                        0..4 * workers,
                    )
                    .buffer_size(window)
                    .start();
                started.wait_for(workers); // nobody has polled
                gate.open();
                assert_eq!(map.result().unwrap().len(), 4 * workers);
            }
        }
    });
}

#[test]
fn windows_of_all_sizes_give_all_results_in_order() {
    on_runtimes(|| async {
        let n = 57;
        let expected: Vec<usize> = (0..n).map(|n| n * n).collect();
        for workers in WORKERS {
            let pool = pool(workers);
            for window in [1, 2, n - 1, n, n + 1, 2 * n, usize::MAX] {
                for chunk_size in [None, Some(1), Some(4), Some(n), Some(usize::MAX)] {
                    let map = || {
                        let map = pool.map(|n| n * n, 0..n).buffer_size(window);
                        match chunk_size {
                            Some(chunk_size) => map.chunk_size(chunk_size),
                            None => map,
                        }
                    };
                    assert_eq!(map().await.unwrap(), expected);
                    let read: Vec<_> = map().map(Result::unwrap).collect().await;
                    assert_eq!(read, expected);
                    let mut read: Vec<_> = map().unordered().collect().await;
                    read.sort_by_key(|(index, _)| *index);
                    let read: Vec<_> = read.into_iter().map(|(_, result)| result).collect();
                    assert_eq!(shown(read), shown(expected.iter().map(|n| Ok(*n))));
                }
            }
        }
    });
}

#[test]
fn a_chunk_may_be_larger_than_any_input() {
    within_limit(|| {
        let pool = pool(2);
        // The upper bound of its length says nothing.
        let input = (0..u64::MAX).take_while(|n| *n < 10);
        let map = pool.map(|n| n, input).chunk_size(usize::MAX);
        assert_eq!(shown([map.result()]), [Ok((0..10).collect())]);
    });
}

#[test]
#[should_panic(expected = "buffer_size must be at least 1")]
fn a_window_of_zero_is_refused() {
    let _map = pool(1).map(|n| n, 0..3).buffer_size(0);
}

#[test]
#[should_panic(expected = "chunk_size must be at least 1")]
fn a_chunk_of_zero_is_refused() {
    let _map = pool(1).map(|n| n, 0..3).chunk_size(0);
}

// ---- The start ----

#[test]
fn a_map_does_nothing_before_its_first_poll() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let taken = Counter::new();
            let map = || {
                let taken = taken.clone();
                pool.map(|n: usize| n, (0..10).inspect(move |_| taken.add()))
            };
            let mut read = map().buffer_size(1);
            let mut unordered = map().unordered();
            let mut awaited = map().into_future();
            drop(map().chunk_size(2));
            until_quiet(&pool);
            assert_eq!(taken.get(), 0);
            assert_eq!(read.next().await.unwrap().unwrap(), 0);
            until_quiet(&pool);
            assert_eq!(taken.get(), 1);
            assert!(unordered.next().await.unwrap().1.is_ok());
            until_quiet(&pool);
            assert_eq!(taken.get(), 11);
            assert_eq!((&mut awaited).await.unwrap().len(), 10);
            assert!(FusedFuture::is_terminated(&awaited));
        }
    });
}

#[test]
fn a_map_that_has_not_started_when_its_pool_is_shut_down_is_refused() {
    on_runtimes(|| async {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            let pool = pool(1);
            let (mut read, awaited) = (pool.map(|n| n, 0..3), pool.map(|n| n, 0..3));
            let late = pool.map(|n| n, 0..3);
            pool.shutdown(how).await;
            assert!(matches!(read.next().await, Some(Err(Error::ShutDown))));
            assert!(read.next().await.is_none());
            assert!(matches!(awaited.await, Err(Error::ShutDown)));
            assert!(matches!(late.start().result(), Err(Error::ShutDown)));
        }
    });
}

#[test]
#[should_panic(expected = "the map has started: set its sizes and its label before `start`")]
fn a_window_after_the_start_is_refused() {
    let _map = pool(1).map(|n| n, 0..3).start().buffer_size(2);
}

#[test]
#[should_panic(expected = "the map has started: set its sizes and its label before `start`")]
fn a_chunk_size_after_the_first_poll_is_refused() {
    let mut map = pool(1).map(|n| n, 0..3);
    assert_eq!(futures::executor::block_on(map.next()).unwrap().unwrap(), 0);
    let _map = map.chunk_size(2);
}

#[test]
fn an_input_that_may_be_endless_is_taken_1024_items_ahead() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let taken = Counter::new();
            let (endless, bounded) = (taken.clone(), taken.clone());
            let endless = std::iter::repeat_with(move || endless.add());
            let mut map = pool.map(|()| (), endless).start().blocking();
            until_quiet(&pool);
            assert_eq!(taken.get(), 1_024);
            for read in 1..=3 {
                map.next().unwrap().unwrap();
                until_quiet(&pool);
                // What was read last is delivered with the next one.
                assert_eq!(taken.get(), 1_024 + read - 1);
            }
            drop(map);
            until_quiet(&pool);
            let before = taken.get();
            let all = (0..3_000).inspect(move |_| bounded.add());
            let map = pool.map(|n| n, all.filter(|n| n % 2 == 0)).start();
            until_quiet(&pool);
            assert_eq!(taken.get(), before + 3_000);
            assert_eq!(map.result().unwrap().len(), 1_500);
        }
    });
}

#[test]
fn all_of_a_long_input_without_a_known_end_may_be_awaited_after_the_start() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let n = scaled(5_000);
            let input = || {
                let mut left = 0..n;
                std::iter::from_fn(move || left.next())
            };
            let expected: Vec<_> = (0..n).collect();
            assert_eq!(pool.map(|n| n, input()).await.unwrap(), expected);
            assert_eq!(pool.map(|n| n, input()).start().await.unwrap(), expected);
            assert_eq!(pool.map(|n| n, input()).buffer_size(2).start().await.unwrap(), expected);
            let mut begun = pool.map(|n| n, input());
            assert_eq!(begun.next().await.unwrap().unwrap(), 0);
            assert_eq!(begun.await.unwrap(), expected[1..]);
        }
    });
}

#[test]
fn the_first_error_in_the_order_of_the_input_ends_a_try_map() {
    within_limit(|| {
        for workers in [2, 4] {
            let pool = pool(workers);
            let (failed, ran) = (Gate::new(), Counter::new());
            let (open, wait, count) = (failed.clone(), failed.clone(), ran.clone());
            let function = move |n: usize| {
                count.add();
                match n {
                    0 => wait.wait(), // until a later one has failed
                    1 => open.open(),
                    _ => return Ok(n),
                }
                Err(n)
            };
            let error = pool.try_map(function, 0..).chunk_size(1).result().unwrap_err();
            assert_eq!(error.into_error().unwrap(), 0);
            until_quiet(&pool);
            let before = ran.get();
            until_quiet(&pool);
            assert_eq!(ran.get(), before, "the rest runs on");
        }
    });
}

// ---- What a map is to others ----

/// With all of the `futures` crate in scope.
#[test]
fn a_map_is_a_stream_and_its_future_a_future() {
    use futures::prelude::*;

    on_runtimes(|| async {
        let pool = pool(2);
        let sum =
            pool.map(|n| n, 0..10).map(Result::unwrap).fold(0, |sum, n| async move { sum + n });
        assert_eq!(sum.await, 45);
        let all = pool.map(|n| n, 0..10).into_future().map(|all| all.unwrap().len());
        assert_eq!(all.await, 10);
        let (one, two) = futures::join!(
            pool.map(|n| n, 0..3).into_future(),
            pool.map(|n| n + 1, 0..3).into_future()
        );
        assert_eq!((one.unwrap(), two.unwrap()), (vec![0, 1, 2], vec![1, 2, 3]));
        let mut selected = pool.map(|n| n, 0..3).into_future();
        let first = futures::select! {
            all = selected => all.unwrap().len(),
            () = future::pending() => 0,
        };
        assert_eq!(first, 3);
        assert!(selected.is_terminated());
    });
}

#[test]
fn a_map_tells_how_many_results_are_left() {
    on_runtimes(|| async {
        let pool = pool(2);
        let mut known = pool.map(|n: i32| n, 0..3);
        assert_eq!(known.size_hint(), (3, Some(3)));
        known.next().await.unwrap().unwrap();
        assert_eq!(known.size_hint(), (2, Some(2)));
        assert_eq!(known.unordered().size_hint(), (2, Some(2)));
        let of_unknown = pool.map(|n: i32| n, (0..3).filter(|n| *n != 1));
        assert_eq!(of_unknown.size_hint(), (0, Some(3)));
        let mut rows = of_unknown.blocking();
        assert_eq!(rows.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(rows.size_hint(), (0, Some(0)));
        assert_eq!(pool.map(|n: i32| n, 0..).size_hint(), (usize::MAX, None));

        // An error that ends the map stands for all that is left.
        let limited = pool.map(|n: i32| n, 0..3).timeout(Duration::from_secs(3600));
        assert_eq!(limited.size_hint(), (1, Some(3)));
        assert_eq!(limited.unordered().size_hint(), (1, Some(3)));
        let mut tried = pool.try_map(Err::<i32, i32>, 0..3);
        assert_eq!(tried.size_hint(), (1, Some(3)));
        assert_eq!(tried.next().await.unwrap().unwrap_err().index(), 0);
        assert_eq!(tried.size_hint(), (0, Some(0)));
    });
}

#[test]
fn a_map_is_iterated_by_blocking_also_inside_of_a_job() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let all = scaled(2_000);
            let rows =
                |pool: &ThreadPoolExecutor| pool.map(|n| 2 * n, 0..all).buffer_size(7).blocking();
            let expected: Vec<_> = (0..all).map(|n| 2 * n).collect();
            assert_eq!(rows(&pool).map(Result::unwrap).collect::<Vec<_>>(), expected);
            let inner = pool.clone();
            let in_job = pool.submit(move || {
                let mut indices: Vec<_> = inner.map(|n| n, 0..all).unordered().blocking().collect();
                indices.sort_unstable_by_key(|(index, _)| *index);
                (indices.len(), inner.map(|n| 2 * n, 0..all).blocking().map(Result::unwrap).sum())
            });
            assert_eq!(in_job.result().unwrap(), (all, expected.iter().sum::<usize>()));
            // What is not iterated over is not lost.
            let mut rows = rows(&pool);
            assert_eq!(rows.next().unwrap().unwrap(), 0);
            assert_eq!(rows.into_inner().result().unwrap(), expected[1..]);
        }
    });
}

// ---- Errors in their places ----

#[test]
fn a_panicking_item_leaves_its_neighbours_unharmed() {
    on_runtimes(|| async {
        let function = |n: usize| {
            assert!(n % 3 != 1, "item {n}");
            n
        };
        let expected: Vec<_> =
            (0..20).map(|n| if n % 3 == 1 { Err(format!("item {n}")) } else { Ok(n) }).collect();
        for workers in WORKERS {
            let pool = pool(workers);
            for window in [1, 3, usize::MAX] {
                for chunk_size in [None, Some(1), Some(2), Some(7), Some(50)] {
                    let map = || {
                        let map = pool.map(function, 0..20).buffer_size(window);
                        match chunk_size {
                            Some(chunk_size) => map.chunk_size(chunk_size),
                            None => map,
                        }
                    };
                    let read: Vec<_> = map().collect().await;
                    assert_eq!(shown(read), expected, "{window}, {chunk_size:?}");

                    let mut read: Vec<_> = map().unordered().collect().await;
                    read.sort_by_key(|(index, _)| *index);
                    assert!(read.iter().enumerate().all(|(n, (index, _))| n == *index));
                    let read: Vec<_> = read.into_iter().map(|(_, result)| result).collect();
                    assert_eq!(shown(read), expected, "unordered, {window}, {chunk_size:?}");

                    assert_eq!(message(&map().await.unwrap_err()), "item 1");
                }
            }
        }
    });
}

/// Panics in place of item `at`, and counts what is asked of it after that.
struct Failing {
    next: usize,
    at: usize,
    asked_again: Counter,
}

impl Iterator for Failing {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.next > self.at {
            self.asked_again.add();
        }
        self.next += 1;
        assert!(self.next - 1 != self.at, "the input failed");
        Some(self.next - 1)
    }
}

#[test]
fn an_input_that_panics_ends_the_map_in_its_place() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            for at in [0, 1, 2, 6, 40] {
                for (window, chunk_size) in
                    [(1, 1), (2, 1), (2, 5), (usize::MAX, 1), (usize::MAX, 4), (usize::MAX, 100)]
                {
                    let asked_again = Counter::new();
                    let input = Failing { next: 0, at, asked_again: asked_again.clone() };
                    let mut map = pool.map(|n| n, input).buffer_size(window).chunk_size(chunk_size);
                    for n in 0..at {
                        assert!(!map.is_terminated());
                        assert_eq!(map.next().await.unwrap().unwrap(), n);
                    }
                    let error = map.next().await.unwrap().unwrap_err();
                    assert_eq!(message(&error), "the input failed");
                    for _ in 0..3 {
                        assert!(map.next().await.is_none());
                        assert!(map.is_terminated());
                    }
                    assert_eq!(asked_again.get(), 0);

                    let input = Failing { next: 0, at, asked_again: asked_again.clone() };
                    let error = pool.map(|n| n, input).chunk_size(chunk_size).await.unwrap_err();
                    assert_eq!(message(&error), "the input failed");

                    let input = Failing { next: 0, at, asked_again: asked_again.clone() };
                    let unordered = pool.map(|n| n, input).chunk_size(chunk_size).unordered();
                    let mut read: Vec<_> = unordered.collect().await;
                    read.sort_by_key(|(index, _)| *index);
                    assert_eq!(read.len(), at + 1);
                    assert_eq!(read[at].0, at);
                    assert_eq!(message(read[at].1.as_ref().unwrap_err()), "the input failed");
                }
            }
            // The pool lives, with its workers.
            assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
            assert!(pool.metrics().workers <= workers);
        }
    });
}

#[test]
fn an_input_that_panics_when_asked_for_its_length_ends_the_map() {
    struct Unsure;

    impl Iterator for Unsure {
        type Item = usize;

        fn next(&mut self) -> Option<usize> {
            Some(1)
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            panic!("no idea")
        }
    }

    within_limit(|| {
        let pool = pool(2);
        let mut read = futures::executor::block_on_stream(pool.map(|n| n, Unsure));
        assert_eq!(message(&read.next().unwrap().unwrap_err()), "no idea");
        assert!(read.next().is_none());
        assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
    });
}

#[test]
fn awaited_the_first_error_in_the_order_of_the_input_wins() {
    on_runtimes(|| async {
        let pool = pool(2);
        let (first, blocked, rest) = (Gate::new(), Gate::new(), Gate::new());
        let started = Counter::new();
        let function = {
            let (first, blocked, rest) = (first.clone(), blocked.clone(), rest.clone());
            let started = started.clone();
            move |n: usize| {
                started.add();
                match n {
                    0 => {
                        first.wait();
                        panic!("item 0");
                    }
                    5 => panic!("item 5"),
                    6.. => {
                        blocked.open();
                        rest.wait();
                    }
                    _ => {}
                }
                n
            }
        };
        let map = pool.map(function, 0..1000).chunk_size(1);
        let map = tokio::spawn(map.into_future());
        let wait = tokio::task::spawn_blocking(move || {
            blocked.wait(); // so item 5 has failed
            first.open();
        });
        wait.await.unwrap();
        assert_eq!(message(&map.await.unwrap().unwrap_err()), "item 0");
        rest.open();
        until_quiet(&pool);
        // 0 to 6, and one more that the worker of item 0 may have begun. None of the others.
        assert!(started.get() <= 8, "{}", started.get());
    });
}

#[test]
fn awaited_an_error_ends_a_map_over_an_endless_input() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            for at in [0, 1, scaled(1000)] {
                let input = WithoutEnd::default();
                let map = pool.map(move |n| assert!(n != at, "item {at}"), input.items());
                assert_eq!(message(&map.await.unwrap_err()), format!("item {at}"));
                until_quiet(&pool); // so the input is not pulled any more
                input.assert_not_met();
            }
        }
    });
}

// ---- Inputs ----

#[test]
fn an_empty_input_is_finished_at_once() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let empty = || std::iter::empty::<u32>();
            assert_eq!(pool.map(|n| n, empty()).await.unwrap(), []);
            assert_eq!(pool.map(|n| n, of_unknown_length(empty())).await.unwrap(), []);
            assert!(pool.map(|n| n, empty()).buffer_size(1).next().await.is_none());
            assert!(pool.map(|n| n, empty()).chunk_size(3).unordered().next().await.is_none());
            let with_limit = pool.map(|n| n, empty()).timeout(Duration::from_secs(3600));
            assert!(with_limit.collect::<Vec<_>>().await.is_empty());
        }
    });
}

#[test]
fn the_length_of_the_input_need_not_be_known() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let n = scaled(10_000) as u64;
            let expected: Vec<_> = (0..n).filter(|n| n % 3 == 0).collect();
            assert_eq!(pool.map(|n| n, (0..n).filter(|n| n % 3 == 0)).await.unwrap(), expected);
            assert_eq!(pool.map(|n| n, expected.clone()).await.unwrap(), expected);
            assert_eq!(
                pool.map(|n| n, of_unknown_length(expected.clone().into_iter())).await.unwrap(),
                expected
            );
            let (sender, receiver) = mpsc::channel();
            let map = pool.map(|n| n, receiver);
            let items = expected.clone();
            std::thread::spawn(move || items.into_iter().try_for_each(|n| sender.send(n)));
            assert_eq!(map.await.unwrap(), expected);
        }
    });
}

#[test]
fn items_and_results_may_have_no_size() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let calls = Counter::new();
            let count = calls.clone();
            let n = scaled(5000);
            let map = pool.map(move |()| count.add(), std::iter::repeat_n((), n));
            assert_eq!(map.await.unwrap().len(), n);
            assert_eq!(calls.get(), n);
            let mut endless = pool.map(|()| (), std::iter::repeat(())).buffer_size(3);
            for _ in 0..scaled(100) {
                endless.next().await.unwrap().unwrap();
            }
        }
    });
}

#[test]
fn an_input_may_block_until_another_task_of_the_pool_has_run() {
    within_limit(|| {
        for workers in [2, 4] {
            let pool = pool(workers);
            let (asked, gate) = (Gate::new(), Gate::new());
            let (inside, wait) = (asked.clone(), gate.clone());
            let input = (0..100).inspect(move |n| {
                if *n == 50 {
                    inside.open();
                    wait.wait();
                }
            });
            let map = pool.map(|n| n, input).start();
            asked.wait(); // the input holds a worker now
            pool.submit(move || gate.open()).result().unwrap();
            assert_eq!(map.result().unwrap(), (0..100).collect::<Vec<_>>());
        }
    });
}

#[test]
fn an_input_may_wait_for_tasks_of_its_own_pool() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let inner = pool.clone();
            let input = (0..50).map(move |n| inner.submit(move || n + 1).result().unwrap());
            let map = pool.map(|n| 2 * n, input).chunk_size(4);
            assert_eq!(map.result().unwrap(), (1..51).map(|n| 2 * n).collect::<Vec<_>>());
        }
    });
}

// ---- Options ----

#[test]
fn options_may_come_in_any_order() {
    let hour = Duration::from_secs(3600);
    on_runtimes(move || async move {
        for workers in WORKERS {
            let pool = pool(workers);
            let all = scaled(200);
            let map = || pool.map(|n: usize| n + 1, 0..all);
            let unordered: [Unordered<usize>; 12] = [
                map().unordered(),
                map().unordered().buffer_size(3).chunk_size(2).timeout(hour),
                map().unordered().timeout(hour).buffer_size(3).chunk_size(2),
                map().unordered().chunk_size(2).timeout(hour).buffer_size(3),
                map().buffer_size(3).unordered().chunk_size(2).timeout(hour),
                map().buffer_size(3).timeout(hour).unordered().chunk_size(2),
                map().chunk_size(2).unordered().buffer_size(3).timeout(hour),
                map().chunk_size(2).buffer_size(3).unordered().timeout(hour),
                map().timeout(hour).unordered().chunk_size(2).buffer_size(3),
                map().timeout(hour).chunk_size(2).buffer_size(3).unordered(),
                map().timeout(hour).buffer_size(3).chunk_size(2).unordered(),
                map().chunk_size(64).unordered().buffer_size(1),
            ];
            for (case, unordered) in unordered.into_iter().enumerate() {
                let mut read: Vec<_> =
                    unordered.map(|(index, value)| (index, value.unwrap())).collect().await;
                read.sort_unstable();
                let expected: Vec<_> = (0..all).map(|n| (n, n + 1)).collect();
                assert_eq!(read, expected, "case {case}");
            }
            let ordered: [Map<usize>; 6] = [
                map().buffer_size(3).chunk_size(2).timeout(hour),
                map().buffer_size(3).timeout(hour).chunk_size(2),
                map().chunk_size(2).buffer_size(3).timeout(hour),
                map().chunk_size(2).timeout(hour).buffer_size(3),
                map().timeout(hour).buffer_size(3).chunk_size(2),
                map().timeout(hour).chunk_size(2).buffer_size(3),
            ];
            for ordered in ordered {
                assert_eq!(ordered.await.unwrap(), (1..all + 1).collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn unordered_yields_what_is_there_while_an_earlier_item_is_stuck() {
    on_runtimes(|| async {
        let pool = pool(2);
        let gate = Gate::new();
        let wait = gate.clone();
        let function = move |n: usize| {
            if n == 0 {
                wait.wait();
            }
            n
        };
        let mut results = pool.map(function, 0..50).chunk_size(1).unordered();
        for n in 1..50 {
            assert_eq!(results.next().await.map(|(index, _)| index), Some(n));
        }
        gate.open();
        assert_eq!(results.next().await.map(|(index, _)| index), Some(0));
        assert!(results.next().await.is_none());
        assert!(results.is_terminated());
    });
}

// ---- Time limits ----

/// A map whose items from 3 on are stuck, all workers being stuck in one.
struct Stuck {
    map: Map<usize>,
    gate: Gate,
    started: Counter,
}

impl Stuck {
    fn new(pool: &ThreadPoolExecutor, limit: Duration) -> Self {
        let (gate, started, stuck) = (Gate::new(), Counter::new(), Counter::new());
        let (wait, count, count_stuck) = (gate.clone(), started.clone(), stuck.clone());
        let function = move |n: usize| {
            count.add();
            if n >= 3 {
                count_stuck.add();
                wait.wait();
            }
            n
        };
        let map = pool.map(function, 0..100).chunk_size(1).timeout(limit).start();
        stuck.wait_for(pool.max_workers());
        Self { map, gate, started }
    }
}

#[test]
fn a_time_limit_ends_the_map_after_the_results_that_are_there() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            for limit in [Duration::ZERO, Duration::from_millis(5)] {
                let Stuck { mut map, gate, started } = Stuck::new(&pool, limit);
                for n in 0..3 {
                    assert_eq!(map.next().await.unwrap().unwrap(), n);
                }
                let error = map.next().await.unwrap().unwrap_err();
                assert!(
                    matches!(error, Error::TimedOut { limit: l, started: true, .. } if l == limit),
                    "{error:?}"
                );
                for _ in 0..3 {
                    assert!(map.next().await.is_none());
                    assert!(map.is_terminated());
                }
                gate.open();
                until_quiet(&pool);
                // The items behind it never run, although the map is still held.
                assert_eq!(started.get(), 3 + workers);
            }
        }
    });
}

#[test]
fn a_time_limit_ends_an_unordered_map_with_the_count_as_index() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let Stuck { map, gate, started } = Stuck::new(&pool, Duration::ZERO);
            let mut results = map.unordered();
            for n in 0..3 {
                let (index, result) = results.next().await.unwrap();
                assert_eq!((index, result.unwrap()), (n, n));
            }
            let (index, result) = results.next().await.unwrap();
            assert_eq!(index, 3);
            assert!(matches!(result, Err(Error::TimedOut { .. })));
            assert!(results.next().await.is_none());
            gate.open();
            until_quiet(&pool);
            assert_eq!(started.get(), 3 + workers);
        }
    });
}

#[test]
fn a_time_limit_ends_an_awaited_map() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for limit in [Duration::ZERO, Duration::from_millis(5)] {
                let Stuck { map, gate, started } = Stuck::new(&pool, limit);
                assert!(matches!(map.result(), Err(Error::TimedOut { .. })));
                gate.open();
                until_quiet(&pool);
                assert_eq!(started.get(), 3 + workers);
            }
        }
    });
}

#[test]
fn a_time_limit_of_zero_on_a_saturated_pool_says_that_nothing_started() {
    on_runtimes(|| async {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let ran = Counter::new();
        let count = ran.clone();
        let mut map = pool.map(move |_| count.add(), 0..10).timeout(Duration::ZERO);
        let error = map.next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::TimedOut { started: false, .. }), "{error:?}");
        assert!(map.next().await.is_none());
        gate.open();
        held.await.unwrap();
        until_quiet(&pool);
        assert_eq!(ran.get(), 0);
    });
}

// ---- Dropping a map ----

#[test]
fn dropping_a_map_that_waits_for_a_worker_drops_all_of_it_at_once() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let held: Vec<_> = (0..workers).map(|_| occupy(&pool, &gate)).collect();
            let ran = Counter::new();
            let (input, captured) = (Arc::new(()), Arc::new(()));
            let of_input = Arc::downgrade(&input);
            let of_function = Arc::downgrade(&captured);
            let count = ran.clone();
            let function = move |_: Arc<()>| {
                count.add();
                Arc::clone(&captured)
            };
            let map = pool.map(function, std::iter::repeat(input)).buffer_size(100);
            assert!(of_input.upgrade().is_some() && of_function.upgrade().is_some());
            drop(map);
            assert!(of_input.upgrade().is_none(), "the input outlives the map");
            assert!(of_function.upgrade().is_none(), "the function outlives the map");
            gate.open();
            for future in held {
                future.result().unwrap();
            }
            until_quiet(&pool);
            assert_eq!(ran.get(), 0);
        }
    });
}

#[test]
fn dropping_a_map_drops_its_unread_results_at_once() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for read in [0, 1, 5] {
                let token = Arc::new(());
                let result = Arc::downgrade(&token);
                let make = token.clone();
                let map = pool.map(move |_| Arc::clone(&make), 0..).buffer_size(8).start();
                let mut results = map.blocking();
                for _ in 0..read {
                    results.next().unwrap().unwrap();
                }
                until_quiet(&pool);
                assert_eq!(result.strong_count(), 2 + 8 - usize::from(read > 0), "{read}");
                drop(results);
                assert_eq!(result.strong_count(), 1);
            }
        }
    });
}

#[test]
fn dropping_a_map_asks_running_items_to_stop_and_starts_no_others() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for chunk_size in [None, Some(1), Some(10)] {
                let (started, stopped) = (Counter::new(), Counter::new());
                let (input, captured) = (Arc::new(()), Arc::new(()));
                let of_input: Weak<()> = Arc::downgrade(&input);
                let of_function = Arc::downgrade(&captured);
                let (count, count_stopped) = (started.clone(), stopped.clone());
                let function = move |_: usize| {
                    let _ = &captured;
                    count.add();
                    while !task::stop_requested() {
                        std::thread::yield_now();
                    }
                    count_stopped.add();
                };
                let items = (0..1000).inspect(move |_| drop(Arc::clone(&input)));
                let map = pool.map(function, items).buffer_size(100);
                let map = match chunk_size {
                    Some(n) => map.chunk_size(n),
                    None => map,
                };
                let map = map.start();
                started.wait_for(workers);
                assert_eq!(stopped.get(), 0);
                drop(map);
                // All workers are inside of items, so none holds the input.
                assert!(of_input.upgrade().is_none(), "the input outlives the map");
                stopped.wait_for(workers);
                until_quiet(&pool);
                assert!(of_function.upgrade().is_none(), "the function outlives the map");
                assert_eq!(started.get(), workers);
            }
        }
    });
}

#[test]
fn dropping_a_map_while_its_input_is_pulled_drops_the_input_when_it_returns() {
    within_limit(|| {
        let pool = pool(2);
        let (asked, gate, ran) = (Gate::new(), Gate::new(), Counter::new());
        let token = Arc::new(());
        let of_input = Arc::downgrade(&token);
        let (inside, wait, count) = (asked.clone(), gate.clone(), ran.clone());
        let input = std::iter::from_fn(move || {
            let _ = &token;
            inside.open();
            wait.wait();
            Some(())
        });
        let map = pool.map(move |()| count.add(), input).start();
        asked.wait();
        drop(map);
        gate.open();
        until_quiet(&pool);
        assert!(of_input.upgrade().is_none());
        assert_eq!(ran.get(), 0);
    });
}

#[test]
fn a_next_that_is_dropped_loses_nothing_and_only_the_last_waker_counts() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let wait = gate.clone();
        let function = move |n: usize| {
            wait.wait();
            n
        };
        let mut map = pool.map(function, 0..10);
        for _ in 0..3 {
            let mut next = tokio_test::task::spawn(map.next());
            assert!(next.poll().is_pending());
            drop(next);
        }
        let mut first = tokio_test::task::spawn(());
        let mut second = tokio_test::task::spawn(());
        assert!(first.enter(|cx, _| map.poll_next_unpin(cx)).is_pending());
        assert!(second.enter(|cx, _| map.poll_next_unpin(cx)).is_pending());
        gate.open();
        until_quiet(&pool);
        assert!(!first.is_woken());
        assert!(second.is_woken());
        let read: Vec<_> = map.blocking().map(Result::unwrap).collect();
        assert_eq!(read, (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn a_map_keeps_its_pool_open() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let mut map = pool.map(|n| n, 0..100).buffer_size(2);
            drop(pool);
            for n in 0..100 {
                assert_eq!(map.next().await.unwrap().unwrap(), n);
            }
            assert!(map.next().await.is_none());
        }
    });
}

// ---- Inside of jobs ----

#[test]
fn a_map_can_be_waited_for_anywhere() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            let all = scaled(300) as u32;
            let expected: Vec<_> = (0..all).map(|n| n * n).collect();
            let square = |n: u32| n * n;
            assert_eq!(pool.map(square, 0..all).result().unwrap(), expected);

            let inner = pool.clone();
            let in_job = pool.submit(move || inner.map(square, 0..all).result());
            assert_eq!(in_job.result().unwrap().unwrap(), expected);

            let inner = pool.clone();
            let in_job = pool.submit(move || {
                futures::executor::block_on(inner.map(square, 0..all).into_future())
            });
            assert_eq!(in_job.result().unwrap().unwrap(), expected);

            let inner = pool.clone();
            let in_job = pool.submit(move || {
                let map = inner.map(square, 0..all).buffer_size(3);
                map.blocking().map(Result::unwrap).collect::<Vec<_>>()
            });
            assert_eq!(in_job.result().unwrap(), expected);
        }
    });
}

const WIDTH: u64 = if cfg!(miri) { 2 } else { 6 };

/// Maps in maps, as deep as said.
fn sum(pool: &ThreadPoolExecutor, depth: u32, blocking: bool) -> u64 {
    if depth == 0 {
        return 1;
    }
    let inner = pool.clone();
    let map = pool.map(move |_| sum(&inner, depth - 1, blocking), 0..WIDTH);
    let parts =
        if blocking { map.result() } else { futures::executor::block_on(map.into_future()) };
    parts.unwrap().into_iter().sum()
}

#[test]
fn maps_in_maps_in_maps_end_on_any_number_of_workers() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for blocking in [true, false] {
                assert_eq!(sum(&pool, 4, blocking), WIDTH.pow(4));
                let inner = pool.clone();
                let in_job = pool.submit(move || sum(&inner, 3, blocking));
                assert_eq!(in_job.result().unwrap(), WIDTH.pow(3));
            }
        }
    });
}

#[test]
fn a_long_map_does_not_shut_out_other_tasks() {
    within_limit(|| {
        for workers in WORKERS {
            let pool = pool(workers);
            for chunk_size in [None, Some(1), Some(64)] {
                let begun = Counter::new();
                let count = begun.clone();
                let map = pool.map(move |()| count.add(), std::iter::repeat(()));
                let map = match chunk_size {
                    Some(n) => map.chunk_size(n),
                    None => map,
                };
                let map = map.buffer_size(1_000_000).start();
                begun.wait_for(100);
                for n in 0..20 {
                    assert_eq!(pool.submit(move || n).result().unwrap(), n);
                }
                let second = pool.map(|n| n, 0..100);
                assert_eq!(second.result().unwrap().len(), 100);
                drop(map);
            }
        }
    });
}

// ---- The end of the pool ----

#[test]
fn a_drain_completes_maps_that_were_started() {
    on_runtimes(|| async {
        for workers in WORKERS {
            // Nobody has polled it.
            let pool = pool(workers);
            let map = pool.map(|n| n, 0..100).start();
            let report = pool.shutdown(Shutdown::Drain).await;
            assert_eq!((report.queued, report.running.len()), (0, 0));
            assert_eq!(map.await.unwrap(), (0..100).collect::<Vec<_>>());
        }
        for workers in WORKERS {
            // Its window lets it go on only as it is read.
            let pool = pool(workers);
            let mut map = pool.map(|n| n, 0..100).buffer_size(3);
            assert_eq!(map.next().await.unwrap().unwrap(), 0);
            let shutdown = pool.shutdown(Shutdown::Drain);
            for n in 1..50 {
                assert_eq!(map.next().await.unwrap().unwrap(), n);
            }
            shutdown.await;
            for n in 50..100 {
                assert_eq!(map.next().await.unwrap().unwrap(), n);
            }
            assert!(map.next().await.is_none());
        }
    });
}

#[test]
fn a_drained_map_goes_on_however_often_the_workers_end() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            // With this window each item is work that comes when the workers have nothing to do
            // and end; it must not count on one that does.
            let all = scaled(2_000);
            let mut map = pool.map(|n| n, 0..all).buffer_size(1).start();
            drop(pool.shutdown(Shutdown::Drain));
            for n in 0..all {
                assert_eq!(map.next().await.unwrap().unwrap(), n);
            }
            assert!(map.next().await.is_none());
        }
    });
}

#[test]
fn cancel_queued_ends_a_map_that_has_not_begun() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let held: Vec<_> = (0..workers).map(|_| occupy(&pool, &gate)).collect();
            let mut map = pool.map(|n| n, 0..100).start();
            let mut unordered = pool.map(|n| n, 0..100).unordered().start();
            let awaited = pool.map(|n| n, 0..100).start();
            let shutdown = pool.shutdown(Shutdown::CancelQueued);
            assert!(matches!(map.next().await, Some(Err(Error::Cancelled))));
            assert!(map.next().await.is_none() && map.is_terminated());
            assert!(matches!(unordered.next().await, Some((0, Err(Error::Cancelled)))));
            assert!(unordered.next().await.is_none());
            assert!(matches!(awaited.await, Err(Error::Cancelled)));
            gate.open();
            shutdown.await;
            drop(held);
        }
    });
}

/// Reads to the end: how many values there were, and the error behind them.
async fn read_to_error(mut map: Map<usize>) -> (usize, Option<Error>) {
    let mut values = 0;
    while let Some(result) = map.next().await {
        match result {
            Ok(value) => assert_eq!(value, values),
            Err(error) => {
                assert!(map.next().await.is_none());
                return (values, Some(error));
            }
        }
        values += 1;
    }
    (values, None)
}

#[test]
fn cancel_queued_ends_a_map_that_runs() {
    on_runtimes(|| async {
        for workers in WORKERS {
            for window in [1, 2, 7, 64, usize::MAX] {
                let pool = pool(workers);
                let input = WithoutEnd::default();
                let mut map = pool.map(drop, input.items()).buffer_size(window);
                map.next().await.unwrap().unwrap();
                let shutdown = pool.shutdown(Shutdown::CancelQueued);
                // Only the shutdown can end the map.
                let mut error = None;
                while let Some(result) = map.next().await {
                    assert!(error.is_none(), "a result after the error");
                    error = result.err();
                }
                input.assert_not_met();
                assert!(matches!(error, Some(Error::Cancelled | Error::ShutDown)), "{error:?}");
                shutdown.await;
            }
        }
    });
}

#[test]
fn a_deadline_ends_a_map_without_end() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let begun = Counter::new();
            let count = begun.clone();
            let input = WithoutEnd::default();
            let map = pool.map(move |_| count.add(), input.items()).buffer_size(usize::MAX);
            let map = map.start();
            begun.wait_for(10);
            pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO).await;
            pool.shutdown(Shutdown::Drain).await; // the end itself
            input.assert_not_met();
            assert_eq!(pool.metrics().workers, 0);
            drop(map);
        }
    });
}

#[test]
fn a_pool_that_ends_while_several_drivers_run_keeps_count_of_them() {
    within_limit(|| {
        for _ in 0..scaled(20) {
            let pool = pool(4);
            let (gate, started) = (Gate::new(), Counter::new());
            let (wait, count) = (gate.clone(), started.clone());
            let function = move |n: usize| {
                count.add();
                wait.wait();
                n
            };
            let map = pool.map(function, 0..100).chunk_size(1).buffer_size(2).start();
            started.wait_for(2); // two drivers at work; what is read makes room for two more
            drop(pool.shutdown(Shutdown::CancelQueued));
            gate.open();
            let (values, error) = futures::executor::block_on(read_to_error(map));
            assert!(values >= 2, "what ran when the shutdown came is delivered: {values}");
            assert!(matches!(error, Some(Error::Cancelled | Error::ShutDown)), "{error:?}");
            let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(report.failed, 0, "a driver panicked");
        }
    });
}

#[test]
fn a_map_handed_in_after_the_shutdown_is_refused() {
    on_runtimes(|| async {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            for workers in POOL_SIZES {
                let pool = pool(workers);
                pool.submit(|| ()).await.unwrap();
                pool.shutdown(how).await;
                let ran = Counter::new();
                let count = ran.clone();
                let function = move |n: usize| {
                    count.add();
                    n
                };
                let mut map = pool.map(function.clone(), 0..10);
                let first = map.next().await;
                assert!(matches!(first, Some(Err(Error::ShutDown))), "{how:?}: {first:?}");
                assert!(map.next().await.is_none());
                assert!(matches!(pool.map(function, 0..10).await, Err(Error::ShutDown)));
                assert_eq!(ran.get(), 0);
            }
        }
    });
}

#[test]
fn a_map_on_a_broken_pool_ends_with_the_cause() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            let pool = broken_pool(workers);
            // At first the pool does not know yet that it will break, then it does.
            for _ in 0..3 {
                let mut map = pool.map(|n| n, 0..10);
                let error = map.next().await.unwrap().unwrap_err();
                assert!(
                    matches!(&error, Error::BrokenPool(cause)
                    if cause.cause().to_string() == "no licence"),
                    "{error:?}"
                );
                assert!(map.next().await.is_none() && map.is_terminated());
            }
            assert!(matches!(pool.map(|n| n, 0..10).await, Err(Error::BrokenPool(_))));
        }
    });
}

// ---- Accounts ----

/// Counts what is made and what is dropped.
#[derive(Clone, Default)]
struct Ledger(Arc<(AtomicUsize, AtomicUsize)>);

impl Ledger {
    fn make(&self) -> Tracked {
        self.0.0.fetch_add(1, SeqCst);
        Tracked(self.clone())
    }
}

struct Tracked(Ledger);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.0.1.fetch_add(1, SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Awaited,
    ReadAll,
    ReadAllUnordered,
    Unread,
    HalfRead,
    ItemPanics,
    ItemPanicsAwaited,
    InputPanics,
    TimeLimit,
    CancelQueued,
    Broken,
}

const ENDINGS: [Ending; 11] = [
    Ending::Awaited,
    Ending::ReadAll,
    Ending::ReadAllUnordered,
    Ending::Unread,
    Ending::HalfRead,
    Ending::ItemPanics,
    Ending::ItemPanicsAwaited,
    Ending::InputPanics,
    Ending::TimeLimit,
    Ending::CancelQueued,
    Ending::Broken,
];

async fn end_and_count(ending: Ending, workers: usize, chunk_size: Option<usize>, window: usize) {
    let (items, results) = (Ledger::default(), Ledger::default());
    let pool = if ending == Ending::Broken { broken_pool(workers) } else { pool(workers) };
    let (make_item, make_result) = (items.clone(), results.clone());
    let input = (0..60).map(move |n| {
        assert!(ending != Ending::InputPanics || n != 30, "input");
        (n, make_item.make())
    });
    let item_panics = matches!(ending, Ending::ItemPanics | Ending::ItemPanicsAwaited);
    let function = move |(n, _item): (usize, Tracked)| {
        assert!(!item_panics || n % 7 != 6, "item");
        make_result.make()
    };
    let mut map = pool.map(function, input).buffer_size(window);
    if let Some(n) = chunk_size {
        map = map.chunk_size(n);
    }
    match ending {
        Ending::Awaited | Ending::ItemPanicsAwaited | Ending::Broken => drop(map.await),
        Ending::ReadAll | Ending::InputPanics | Ending::ItemPanics => {
            drop(map.collect::<Vec<_>>().await);
        }
        Ending::ReadAllUnordered => drop(map.unordered().collect::<Vec<_>>().await),
        Ending::Unread => drop(map),
        Ending::HalfRead => {
            for _ in 0..30 {
                assert!(map.next().await.unwrap().is_ok());
            }
            drop(map);
        }
        Ending::TimeLimit => {
            drop(map.timeout(Duration::from_micros(50)).collect::<Vec<_>>().await);
        }
        Ending::CancelQueued => {
            map.next().await.unwrap().unwrap();
            drop(pool.shutdown(Shutdown::CancelQueued));
            drop(map.collect::<Vec<_>>().await);
        }
    }
    pool.shutdown(Shutdown::Drain).await;
    for (what, ledger) in [("items", items), ("results", results)] {
        let (made, dropped) = (ledger.0.0.load(SeqCst), ledger.0.1.load(SeqCst));
        assert_eq!(made, dropped, "{what}: {ending:?}, {workers}, {chunk_size:?}, {window}");
        if matches!(ending, Ending::Awaited | Ending::ReadAll | Ending::ReadAllUnordered) {
            assert_eq!(made, 60, "{what}: {ending:?}");
        }
    }
}

#[test]
fn every_item_and_every_result_is_dropped_once_however_the_map_ends() {
    on_runtimes(|| async {
        for ending in ENDINGS {
            for workers in WORKERS {
                for chunk_size in [None, Some(1), Some(7)] {
                    for window in [2, 16, usize::MAX] {
                        end_and_count(ending, workers, chunk_size, window).await;
                    }
                }
            }
        }
    });
}

#[test]
fn after_the_end_there_is_nothing_for_ever() {
    on_runtimes(|| async {
        for workers in WORKERS {
            let pool = pool(workers);
            let mut map = pool.map(|n| n, 0..5);
            let mut unordered = pool.map(|n| n, 0..5).unordered();
            for _ in 0..5 {
                assert!(!map.is_terminated() && !unordered.is_terminated());
                assert!(map.next().await.is_some() && unordered.next().await.is_some());
            }
            for _ in 0..5 {
                assert!(map.next().await.is_none() && unordered.next().await.is_none());
                assert!(map.is_terminated() && unordered.is_terminated());
            }
        }
    });
}

// ---- Chunks by default ----

/// Runs a map of `quick` instant items and then `slow` ones; those meet on all workers.
fn slow_items_meet(workers: usize, quick: usize, slow: usize, length_is_known: bool) {
    let pool = pool(workers);
    let arrived = Counter::new();
    let function = move |n: usize| {
        if n >= quick {
            arrived.add();
            arrived.wait_for(workers);
        }
    };
    let items = 0..quick + slow;
    let map = if length_is_known {
        pool.map(function, items)
    } else {
        pool.map(function, of_unknown_length(items))
    };
    assert_eq!(map.result().unwrap().len(), quick + slow);
}

#[test]
fn slow_items_run_on_all_workers_at_the_same_time() {
    within_limit(|| {
        for workers in WORKERS {
            for length_is_known in [true, false] {
                for slow in [workers, 4 * workers, 100] {
                    slow_items_meet(workers, 0, slow, length_is_known);
                }
            }
        }
    });
}

#[test]
fn slow_items_behind_quick_ones_run_on_all_workers_at_the_same_time() {
    within_limit(|| {
        for workers in WORKERS {
            for slow in [1, 100, 1000].map(|n| scaled(n).next_multiple_of(workers)) {
                slow_items_meet(workers, scaled(10_000), slow, true);
            }
        }
    });
}
