//! The window, the order, and what is dropped when, on two threads.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::task::Waker;

use super::apply::{Computed, Here};
use super::crew::AfterChunk;
use super::elsewhere::{Elsewhere, Remote, Results};
use super::*;
use crate::future::TaskFuture;
use crate::label::Label;
use crate::sync::{Condvar, Mutex};

type Driver = Box<dyn FnOnce() + Send>;

/// Two threads; they end with the last clone.
#[derive(Clone)]
struct Threads {
    drivers: Sender<Driver>,
    /// Drivers that have not ended.
    left: Arc<(Mutex<usize>, Condvar)>,
}

impl Default for Threads {
    fn default() -> Self {
        let (drivers, receiver) = channel::<Driver>();
        let receiver = Arc::new(Mutex::new(receiver));
        let left = Arc::<(Mutex<usize>, Condvar)>::default();
        for _ in 0..2 {
            let (receiver, left) = (Arc::clone(&receiver), Arc::clone(&left));
            std::thread::spawn(move || {
                loop {
                    let next = receiver.lock().recv();
                    let Ok(driver) = next else { return };
                    driver();
                    *left.0.lock() -= 1;
                    left.1.notify_all();
                }
            });
        }
        Self { drivers, left }
    }
}

impl Threads {
    fn map<A, R, I, F>(&self, f: F, input: I) -> Map<R>
    where
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        Map::new(self.clone(), Here::new(f), input.into_iter())
    }

    /// Until no driver runs.
    fn join(&self) {
        let mut left = self.left.0.lock();
        while *left > 0 {
            left = self.left.1.wait(left);
        }
    }
}

impl Crew for Threads {
    fn size(&self) -> usize {
        2
    }

    fn check_open(&self) -> Result<(), Error> {
        Ok(())
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>, _label: Option<&Label>) -> TaskFuture<()> {
        *self.left.0.lock() += 1;
        self.drivers.send(driver).unwrap();
        TaskFuture::ready(Ok(()))
    }

    fn after_chunk(&self) -> AfterChunk {
        AfterChunk::GoOn
    }

    fn refusal(&self) -> Error {
        Error::Cancelled
    }

    fn may_help(&self) -> bool {
        false
    }
}

fn poll_once<T>(map: &mut MapFuture<T>) -> Poll<Result<Vec<T>, Error>> {
    Pin::new(map).poll(&mut Context::from_waker(Waker::noop()))
}

fn poll_next<T>(map: &mut Map<T>) -> Poll<Option<Result<T, Error>>> {
    Pin::new(map).poll_next(&mut Context::from_waker(Waker::noop()))
}

fn next<T>(map: &mut Map<T>) -> Option<T> {
    map.next_blocking().transpose().unwrap()
}

/// The size of a map, `n` as a rule.
const fn scaled(n: usize) -> usize {
    let small = n.div_ceil(50);
    if !cfg!(miri) {
        n
    } else if small < 30 {
        small
    } else {
        30
    }
}

#[test]
fn results_of_known_number_are_gathered_in_one_place() {
    for n in [0, 1, 2, 63, scaled(5_000), scaled(100_001)] {
        for chunk in [None, Some(1_000)] {
            let crew = Threads::default();
            let all = |map: Map<usize>| {
                let map = match chunk {
                    Some(n) => map.chunk_size(n),
                    None => map,
                };
                let all = map.result().unwrap();
                assert!(all.iter().copied().eq((0..n).map(|n| 2 * n)));
                all.capacity()
            };
            // A copy into a `Vec` that grows would leave it with room.
            assert_eq!(all(crew.map(|n| 2 * n, 0..n)), n);
            assert_eq!(all(crew.map(|n| 2 * n, (0..n).collect::<Vec<_>>())), n);
            assert_eq!(all(crew.map(|n| 2 * n, 0..n).buffer_size(7)), n);
            all(crew.map(|n| 2 * n, (0..n).filter(|_| true)));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "chunks become long where an item takes no time")]
fn shares_that_were_given_back_keep_their_place() {
    let crew = Threads::default();
    // Quick at first, so the chunks get long; then each takes more than the time of a chunk.
    let f = |n: usize| {
        if n > 20_000 && n % 100 == 0 {
            std::thread::sleep(Duration::from_micros(600));
        }
        n
    };
    let all = crew.map(f, 0..40_000).result().unwrap();
    assert!(all.iter().copied().eq(0..40_000));
    assert_eq!(all.capacity(), 40_000);
}

#[test]
fn a_map_may_be_read_in_both_ways() {
    let crew = Threads::default();
    let n = scaled(1_000);
    let mut map = crew.map(|n| n, 0..n);
    assert_eq!([next(&mut map), next(&mut map)], [Some(0), Some(1)]);
    assert!(map.result().unwrap().into_iter().eq(2..n));
}

#[test]
fn known_items_stay_within_the_window() {
    let all = scaled(1_000);
    for window in [1, 2, 7, 100] {
        for by_vec in [false, true] {
            let crew = Threads::default();
            let computed = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&computed);
            let f = move |_: usize| count.fetch_add(1, SeqCst);
            let map = if by_vec {
                crew.map(f, (0..all).collect::<Vec<_>>())
            } else {
                crew.map(f, 0..all)
            };
            let mut map = map.buffer_size(window);
            for delivered in 0..all {
                assert!(next(&mut map).is_some());
                if delivered % 50 == 0 {
                    crew.join();
                    let most = (delivered + window).min(all);
                    assert_eq!(computed.load(SeqCst), most, "{window}, {delivered}");
                }
                assert!(computed.load(SeqCst) <= delivered + window);
            }
            assert!(next(&mut map).is_none());
        }
    }
}

#[test]
fn an_awaited_map_is_woken_by_an_error_before_its_end() {
    let crew = Threads::default();
    let stuck = Arc::new(Mutex::new(()));
    let held = stuck.lock();
    let wait = Arc::clone(&stuck);
    let f = move |n: usize| match n {
        0..5 => n,
        5 => panic!("five"),
        _ => {
            drop(wait.lock());
            n
        }
    };
    let error = crew.map(f, 0..scaled(1_000)).chunk_size(1).result().unwrap_err();
    assert!(error.to_string().contains("five"), "{error}");
    drop(held);
    crew.join();
}

/// Counts how many there are.
struct Tracked(Arc<AtomicUsize>);

impl Tracked {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn known_items_and_their_results_are_dropped_once_however_the_map_ends() {
    let (all, middle) = (scaled(500), scaled(333));
    for ending in 0..6 {
        for chunk in [None, Some(1), Some(70)] {
            let crew = Threads::default();
            let (items, results) = (Arc::default(), Arc::default());
            let input: Vec<_> = (0..all).map(|n| (n, Tracked::new(&items))).collect();
            let make = Arc::clone(&results);
            let f = move |(n, _): (usize, Tracked)| {
                assert!(ending < 4 || n != middle, "in the middle");
                Tracked::new(&make)
            };
            let mut map = crew.map(f, input);
            if let Some(n) = chunk {
                map = map.chunk_size(n);
            }
            match ending {
                0 => drop(map),
                1 => drop(poll_once(&mut map.into_future())),
                2 => {
                    let _ = poll_next(&mut map);
                    drop(poll_once(&mut map.into_future()));
                }
                3 => assert_eq!(map.result().unwrap().len(), all),
                4 => assert!(map.result().is_err()),
                _ => {
                    (0..middle).for_each(|_| drop(next(&mut map)));
                    drop(map);
                }
            }
            crew.join();
            let left = (items.load(SeqCst), results.load(SeqCst));
            assert_eq!(left, (0, 0), "{ending}, {chunk:?}");
        }
    }
}

/// Computes an item at once, or on another thread, or forgets it.
struct Forgetful;

impl Remote<usize, usize> for Forgetful {
    fn compute(&self, items: Vec<usize>, results: Results<usize>) -> Option<Computed<usize>> {
        let [n] = items[..] else { panic!("one at a time") };
        let step = move |mut results: Results<usize>| {
            results.push(Ok(2 * n));
            results.finish(None)
        };
        match n {
            3 => drop(results.into_job(step)),
            5 => drop(std::thread::spawn(results.into_job(step))),
            _ => return step(results),
        }
        None
    }

    fn stop(&self) {}
}

#[test]
fn a_step_that_is_dropped_fails_its_items() {
    let map = Map::new(Threads::default(), Elsewhere(Forgetful), 0..8).chunk_size(1);
    let map = map.buffer_size(usize::MAX);
    let is_cancelled = |error| matches!(error, Error::Cancelled);
    let all: Vec<_> = map.blocking().map(|result| result.map_err(is_cancelled)).collect();
    let expected = (0..8).map(|n| if n == 3 { Err(true) } else { Ok(2 * n) });
    assert!(all.iter().copied().eq(expected), "{all:?}");
}

/// Computes at once, and does not say in what time. Has the length of the longest chunk.
struct Timeless(Arc<AtomicUsize>);

impl Remote<usize, usize> for Timeless {
    fn compute(&self, items: Vec<usize>, mut results: Results<usize>) -> Option<Computed<usize>> {
        self.0.fetch_max(items.len(), SeqCst);
        items.into_iter().for_each(|n| results.push(Ok(n)));
        results.finish(None)
    }

    fn stop(&self) {}
}

#[test]
fn chunks_do_not_grow_by_times_that_are_not_known() {
    let longest = Arc::default();
    let remote = Elsewhere(Timeless(Arc::clone(&longest)));
    let n = scaled(500);
    let all = Map::new(Threads::default(), remote, 0..n).result().unwrap();
    assert!(all.into_iter().eq(0..n));
    assert_eq!(longest.load(SeqCst), 1);
}
