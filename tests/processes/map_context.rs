//! The context of a map in worker processes: what each of them is sent, and for how long it keeps it.

use std::collections::BTreeSet;
use std::process;

use concurrent_futures::{Buffer, CodecSide, Error, ProcessPoolExecutor, call};
use futures::StreamExt;
use futures::executor::block_on;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::over_pools;
use crate::support::within_limit;
use crate::tools::{Gate, Reports, builder, end, pool, until_ended};

/// Tells in which process it is decoded and dropped.
#[derive(Serialize)]
struct Told {
    decoded: Reports,
    dropped: Reports,
    value: u32,
}

impl Told {
    fn new(value: u32) -> (Self, Reports, Reports) {
        let (decoded, dropped) = (Reports::new(), Reports::new());
        (Self { decoded: decoded.clone(), dropped: dropped.clone(), value }, decoded, dropped)
    }
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            decoded: Reports,
            dropped: Reports,
            value: u32,
        }
        let Plain { decoded, dropped, value } = Plain::deserialize(deserializer)?;
        decoded.add(process::id());
        Ok(Self { decoded, dropped, value })
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.dropped.add(process::id());
    }
}

fn own_process(told: &Told, n: u32) -> (u32, u32) {
    (process::id(), told.value + n)
}

#[test]
fn each_worker_decodes_a_context_once_and_drops_it_with_the_map() {
    over_pools(|pool| {
        let (told, decoded, dropped) = Told::new(100);
        let mut map = pool.map_with(told, own_process, 0..200).chunk_size(1).buffer_size(20);
        // The program's own, as soon as it is encoded.
        assert_eq!(dropped.wait_for(1), [process::id()]);
        let mut ran = BTreeSet::new();
        for n in 0..200 {
            let (pid, sum) = block_on(map.next()).unwrap().unwrap();
            assert_eq!(sum, 100 + n);
            ran.insert(pid);
        }
        assert_eq!(dropped.get().len(), 1, "the map is still there");
        drop(map);
        let mut dropped = dropped.wait_for(1 + ran.len()).split_off(1);
        let mut decoded = decoded.get();
        dropped.sort_unstable();
        decoded.sort_unstable();
        let ran: Vec<u32> = ran.into_iter().collect();
        assert_eq!((decoded, dropped), (ran.clone(), ran));
    });
}

#[test]
fn a_map_that_is_dropped_while_it_runs_takes_its_context_with_it() {
    fn wait(told: &(Told, Gate, Reports), _: u32) {
        told.2.add(process::id());
        told.1.wait();
    }
    over_pools(|pool| {
        let (told, decoded, dropped) = Told::new(0);
        let (gate, started) = (Gate::new(), Reports::new());
        let context = (told, gate.clone(), started.clone());
        let map = pool.map_with(context, wait, 0..).chunk_size(1).start();
        started.wait_for(pool.max_workers());
        drop(map);
        gate.open();
        dropped.wait_for(1 + decoded.get().len());
        assert_eq!(decoded.get().len(), pool.max_workers());
        // Nothing is left of it that would be in the way of another one.
        let (told, _decoded, _dropped) = Told::new(1);
        let sums = pool.map_with(told, own_process, [1]).result().unwrap();
        assert_eq!(sums[0].1, 2);
    });
}

#[test]
fn a_map_that_is_not_started_sends_nothing() {
    over_pools(|pool| {
        let (told, decoded, _dropped) = Told::new(0);
        drop(pool.map_with(told, own_process, 0..10));
        pool.submit(call!(process::id())).result().unwrap();
        assert!(decoded.get().is_empty());
    });
}

#[test]
fn a_worker_in_place_of_a_lost_one_is_sent_the_context_again() {
    fn die_at_7_and_13(told: &Told, n: u32) -> u32 {
        if n == 7 || n == 13 {
            process::abort();
        }
        told.value + n
    }
    over_pools(|pool| {
        for chunk in [1, 5, 20] {
            let (told, decoded, _dropped) = Told::new(50);
            let map = pool.map_with(told, die_at_7_and_13, 0..20).chunk_size(chunk);
            let results: Vec<_> = block_on(map.collect());
            assert_eq!(results.len(), 20);
            for (n, result) in (0..).zip(results) {
                match result {
                    Ok(value) => assert_eq!(value, 50 + n),
                    Err(Error::WorkerLost(lost)) => assert!(n == 7 || n == 13, "{n}: {lost}"),
                    Err(error) => panic!("{n}: {error}"),
                }
            }
            let decoded = decoded.get();
            let different: BTreeSet<_> = decoded.iter().collect();
            assert_eq!(decoded.len(), different.len());
            assert!(decoded.len() <= pool.max_workers() + 2, "{decoded:?}");
        }
    });
}

#[test]
fn workers_that_are_recycled_are_sent_the_context_again() {
    within_limit(|| {
        let pool = builder(2).max_tasks_per_worker(3).build().unwrap();
        let (told, decoded, dropped) = Told::new(9);
        let sums = pool.map_with(told, own_process, 0..30).chunk_size(1).result().unwrap();
        for (n, (_, sum)) in (0..).zip(&sums) {
            assert_eq!(*sum, 9 + n);
        }
        let ran: BTreeSet<_> = sums.iter().map(|(pid, _)| *pid).collect();
        assert!(ran.len() >= 10);
        let decoded: Vec<_> = decoded.get();
        assert_eq!(decoded.len(), ran.len());
        // At the end of their processes, if not before.
        end(&pool);
        assert_eq!(dropped.get().len(), 1 + ran.len());
    });
}

struct NotEncoded;

impl Serialize for NotEncoded {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not this one"))
    }
}

impl<'de> Deserialize<'de> for NotEncoded {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[test]
fn a_context_that_can_not_be_encoded_is_the_error_of_the_map() {
    over_pools(|pool| {
        let map = || pool.map_with(NotEncoded, |_, n: u64| n, 0..);
        let is_right = |error: Error| match error {
            Error::Codec(error) => {
                assert_eq!(error.side, CodecSide::EncodeArguments);
                assert!(error.to_string().contains("NotEncoded"), "{error}");
                assert!(error.to_string().contains("not this one"), "{error}");
            }
            other => panic!("{other}"),
        };
        is_right(map().result().unwrap_err());
        let mut stream = map();
        is_right(block_on(stream.next()).unwrap().unwrap_err());
        assert!(block_on(stream.next()).is_none());
    });
}

/// It can be decoded in the program itself only.
#[derive(Serialize)]
struct NotDecoded(u32);

impl<'de> Deserialize<'de> for NotDecoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => Err(D::Error::custom("not in this place")),
            _ => panic!("not in this way"),
        }
    }
}

#[test]
fn a_context_that_can_not_be_decoded_is_the_error_of_each_item() {
    over_pools(|pool| {
        for (how, text) in [(0, "not in this place"), (1, "not in this way")] {
            let map = pool.map_with(NotDecoded(how), |_, n: u64| n, 0..50).chunk_size(8);
            let results: Vec<_> = block_on(map.collect());
            assert_eq!(results.len(), 50);
            for result in results {
                let Err(Error::Codec(error)) = result else { panic!("{result:?}") };
                assert_eq!(error.side, CodecSide::DecodeArguments);
                assert!(error.to_string().contains(text), "{error}");
                assert!(error.to_string().contains("NotDecoded"), "{error}");
            }
        }
        assert_eq!(pool.metrics().workers_lost, 0);
    });
}

/// Where the numbers lie in the worker, and their sum.
fn place_and_sum(numbers: &Buffer<f64>, _: u32) -> (u32, usize, f64) {
    (process::id(), numbers.as_ptr().addr(), numbers.iter().sum())
}

#[test]
fn a_large_buffer_lies_in_each_worker_once() {
    within_limit(|| {
        let pool = pool(2);
        let numbers: Buffer<f64> = vec![0.5; 8 << 20].into();
        let results = pool.map_with(numbers, place_and_sum, 0..12).chunk_size(1).result().unwrap();
        let places: BTreeSet<_> = results.iter().map(|(pid, place, _)| (*pid, *place)).collect();
        let pids: BTreeSet<_> = places.iter().map(|(pid, _)| *pid).collect();
        assert_eq!(places.len(), pids.len());
        assert!(results.iter().all(|(.., sum)| *sum == f64::from(4 << 20)));
        end(&pool);
    });
}

#[test]
fn an_idle_worker_that_is_killed_takes_its_context_with_it() {
    fn own(told: &Told, _: u32) -> u32 {
        process::id() + told.value
    }
    within_limit(|| {
        let pool = pool(1);
        let (told, decoded, _dropped) = Told::new(0);
        let mut map = pool.map_with(told, own, 0..).chunk_size(1).buffer_size(1);
        let mut next = || block_on(map.next()).unwrap();
        let first = next().unwrap();
        kill_process(Pid::from_raw(first as i32).unwrap(), Signal::KILL).unwrap();
        until_ended(first);
        // The chunk that is on its way may be lost; those behind it go to another worker.
        let second = (0..4).find_map(|_| next().ok().filter(|pid| *pid != first)).unwrap();
        assert_eq!(decoded.wait_for(2), [first, second]);
        drop(map);
        end(&pool);
    });
}

#[test]
fn maps_of_several_threads_have_their_own_contexts() {
    fn sum(a: &u64, b: u64) -> u64 {
        a + b
    }
    fn check(pool: &ProcessPoolExecutor, context: u64) {
        let sums = pool.map_with(context, sum, 0..50).chunk_size(1).result().unwrap();
        assert!(sums.into_iter().eq(context..context + 50));
    }
    over_pools(|pool| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || (0..10).for_each(|n| check(pool, 1000 * thread + 100 * n)));
            }
        });
    });
}

/// Panics where it is decoded, or where it is dropped.
#[derive(Serialize)]
struct Bomb {
    when_decoded: bool,
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            when_decoded: bool,
        }
        let Plain { when_decoded } = Plain::deserialize(deserializer)?;
        assert!(!when_decoded, "on purpose, when decoded");
        Ok(Self { when_decoded })
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose, when dropped");
    }
}

#[test]
fn a_context_that_panics_harms_no_worker() {
    fn with_bomb(_: &Bomb, n: u32) -> (u32, u32) {
        (process::id(), n)
    }

    fn own_pid() -> u32 {
        process::id()
    }

    within_limit(|| {
        let pool = builder(1).env("RUST_BACKTRACE", "0").build().unwrap();
        let worker = pool.submit(call!(own_pid())).result().unwrap();
        let map = pool.map_with(Bomb { when_decoded: false }, with_bomb, 0..3);
        assert_eq!(map.result().unwrap(), [(worker, 0), (worker, 1), (worker, 2)]);
        let map = pool.map_with(Bomb { when_decoded: true }, with_bomb, 0..3);
        let error = map.result().unwrap_err();
        assert!(
            matches!(error, Error::Codec(_)) && error.to_string().contains("on purpose"),
            "{error}"
        );
        assert_eq!(pool.submit(call!(own_pid())).result().unwrap(), worker);
        assert_eq!(pool.metrics().workers_lost, 0);
        end(&pool);
    });
}
