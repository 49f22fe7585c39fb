//! DL: CPython's `test_deadlock.py`. Each must end with an error and never hang, and the pool goes on.
//!
//! DL-12, a result that ends the process where it is decoded: that is the caller's own process, which
//! no library can keep from a call of `exit`. What can be caught there, a panic, is in DL-11.

use std::process;

use concurrent_futures::{
    Buffer, CodecSide, Error, ParentPool, ProcessPoolExecutor, ReturnWhen, Shutdown, TaskFuture,
    call, wait,
};
use futures::StreamExt;
use futures::executor::block_on;
use rustix::process::{Signal, getpid, kill_process};
use serde::de::{Deserializer, Error as _};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use crate::over_pools;
use crate::support::{POOL_SIZES, within_limit};
use crate::tools::{
    Gate, Reports, assert_gone, assert_panicked, builder, end, family, hold, occupy_all, own_pid,
    pool, until_ended,
};

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;

/// What happens where a value is encoded or decoded.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Deed {
    Fail,
    Panic,
    Exit,
    Abort,
    Crash,
}

impl Deed {
    /// Does it, and returns only to fail.
    fn run(self) -> &'static str {
        match self {
            Deed::Fail => "out of paper",
            Deed::Panic => panic!("out of ink"),
            Deed::Exit => process::exit(3),
            Deed::Abort => process::abort(),
            Deed::Crash => {
                kill_process(getpid(), Signal::SEGV).unwrap();
                unreachable!("a signal that is not blocked comes before the call returns")
            }
        }
    }
}

/// What a deed that ends its process leaves to be read.
const ENDS: [(Deed, Option<i32>, Option<i32>); 3] = [
    (Deed::Exit, None, Some(3)),
    (Deed::Abort, Some(SIGABRT), None),
    (Deed::Crash, Some(SIGSEGV), None),
];

/// And one that does not.
const FAILURES: [(Deed, &str); 2] = [(Deed::Fail, "out of paper"), (Deed::Panic, "out of ink")];

/// Does its deed when it is encoded.
#[derive(Debug)]
struct WhenEncoded(Deed);

impl Serialize for WhenEncoded {
    fn serialize<S: Serializer>(&self, _into: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(self.0.run()))
    }
}

impl<'de> Deserialize<'de> for WhenEncoded {
    fn deserialize<D: Deserializer<'de>>(_from: D) -> Result<Self, D::Error> {
        unreachable!("it is never encoded")
    }
}

/// Does its deed when it is decoded on the other side: a value may be decoded where it is made, to
/// see whether that can be done at all.
#[derive(Debug)]
struct WhenDecoded {
    deed: Deed,
    made_in: u32,
}

impl WhenDecoded {
    fn new(deed: Deed) -> Self {
        Self { deed, made_in: process::id() }
    }
}

impl Serialize for WhenDecoded {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        (self.deed, self.made_in).serialize(into)
    }
}

impl<'de> Deserialize<'de> for WhenDecoded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (deed, made_in) = Deserialize::deserialize(from)?;
        if made_in == process::id() {
            return Ok(Self { deed, made_in });
        }
        Err(D::Error::custom(deed.run()))
    }
}

fn square(n: u64) -> u64 {
    n * n
}

fn take<T>(_argument: T) -> u32 {
    process::id()
}

fn encode(deed: Deed) -> WhenEncoded {
    WhenEncoded(deed)
}

fn decode(deed: Deed) -> WhenDecoded {
    WhenDecoded::new(deed)
}

#[track_caller]
fn assert_codec<T>(result: Result<T, Error>, side: CodecSide, type_name: &str, message: &str) {
    let Err(Error::Codec(codec)) = result else { panic!("{:?}", result.err()) };
    assert_eq!(codec.side, side);
    assert!(codec.type_name.ends_with(type_name), "{codec}");
    assert!(codec.message.contains(message), "{codec}");
}

#[track_caller]
fn assert_lost<T>(result: Result<T, Error>, signal: Option<i32>, exit_code: Option<i32>) -> u32 {
    let Err(Error::WorkerLost(lost)) = result else { panic!("{:?}", result.err()) };
    assert_eq!((lost.signal, lost.exit_code), (signal, exit_code), "{lost}");
    lost.pid
}

/// The pool has lost nothing but what it was told to lose.
#[track_caller]
fn assert_usable(pool: &ProcessPoolExecutor) {
    assert_eq!(pool.submit(call!(square(7))).result().unwrap(), 49);
}

/// DL-1.
#[test]
fn an_argument_that_can_not_be_encoded_fails_its_task_alone() {
    over_pools(|pool| {
        for (deed, message) in FAILURES {
            let future = pool.submit(call!(take(WhenEncoded(deed))));
            assert!(future.is_done(), "it is encoded at the call");
            assert_codec(future.result(), CodecSide::EncodeArguments, "WhenEncoded,)", message);
            assert_usable(pool);
        }
        // In a map, the others are not to suffer for it.
        let map = pool
            .map(take::<Result<u32, WhenEncoded>>, [Ok(1), Err(WhenEncoded(Deed::Fail)), Ok(3)]);
        let results: Vec<_> = futures::executor::block_on(map.chunk_size(3).collect());
        let [first, second, third] = <[_; 3]>::try_from(results).unwrap();
        assert!(first.is_ok() && third.is_ok());
        assert_codec(second, CodecSide::EncodeArguments, "WhenEncoded>", "out of paper");
        assert_eq!(pool.metrics().queued, 0);
    });
}

/// DL-2.
#[test]
fn an_argument_that_ends_the_worker_while_it_is_decoded_loses_its_task() {
    over_pools(|pool| {
        let future = pool.submit(call!(take(WhenDecoded::new(Deed::Exit))));
        let pid = assert_lost(future.result(), None, Some(3));
        assert_ne!(pid, process::id());
        assert_usable(pool);
    });
}

/// DL-3. Ours differs: that task alone fails, and the worker goes on.
#[test]
fn an_argument_that_can_not_be_decoded_fails_its_task_alone() {
    over_pools(|pool| {
        for (deed, message) in FAILURES {
            // A single worker for the rest of this round.
            let gate = Gate::new();
            let others = occupy_all(pool, &gate);
            let future = pool.submit(call!(take(WhenDecoded::new(deed))));
            gate.open();
            assert_codec(future.result(), CodecSide::DecodeArguments, "WhenDecoded,)", message);
            others.into_iter().for_each(|future| assert_eq!(future.result().unwrap(), 42));
            let workers = pool.worker_pids();
            assert_eq!(workers.len(), pool.max_workers(), "none was lost");
            assert_usable(pool);
        }
    });
}

/// DL-4.
#[test]
fn an_argument_that_crashes_the_worker_while_it_is_decoded_loses_its_task() {
    over_pools(|pool| {
        for (deed, signal, code) in ENDS {
            let future = pool.submit(call!(take(WhenDecoded::new(deed))));
            assert_lost(future.result(), signal, code);
            assert_usable(pool);
        }
        // In a map it is one item.
        let items = [Ok(1), Err(WhenDecoded::new(Deed::Crash)), Ok(3)];
        let map = pool.map(take::<Result<u32, WhenDecoded>>, items).chunk_size(3);
        let results: Vec<_> = futures::executor::block_on(map.collect());
        let [first, second, third] = <[_; 3]>::try_from(results).unwrap();
        assert!(first.is_ok() && third.is_ok(), "{first:?} {third:?}");
        assert_lost(second, Some(SIGSEGV), None);
    });
}

/// DL-5.
#[test]
fn a_function_that_crashes_loses_its_task() {
    fn crash() {
        Deed::Crash.run();
    }

    /// With a fault of its own, and not just the signal of one.
    fn dereference_null() -> u8 {
        // SAFETY: there is none; the fault is what the test is about.
        unsafe { std::ptr::null::<u8>().read_volatile() }
    }

    over_pools(|pool| {
        assert_lost(pool.submit(call!(crash())).result(), Some(SIGSEGV), None);
        assert_usable(pool);
        assert_lost(pool.submit(call!(dereference_null())).result(), Some(SIGSEGV), None);
        assert_usable(pool);
    });
}

/// DL-6. Ours differs: the worker really ends.
#[test]
fn a_function_that_calls_exit_loses_its_task_with_the_exit_code() {
    fn exit(code: i32) {
        process::exit(code);
    }

    over_pools(|pool| {
        for code in [0, 1, 42, 255] {
            assert_lost(pool.submit(call!(exit(code))).result(), None, Some(code));
            assert_usable(pool);
        }
        // Also in a thread of the task's.
        fn exit_elsewhere() {
            let _ = std::thread::spawn(|| process::exit(5)).join();
        }
        assert_lost(pool.submit(call!(exit_elsewhere())).result(), None, Some(5));
        assert_usable(pool);
    });
}

/// DL-7.
#[test]
fn a_function_that_fails_or_panics_gives_its_error() {
    fn fail() -> Result<(), String> {
        Err("the job's own".to_owned())
    }

    fn panics() {
        panic!("in the job");
    }

    over_pools(|pool| {
        let own = pool.submit(call!(fail())).result().unwrap();
        assert_eq!(own, Err("the job's own".to_owned()));
        assert_panicked(&pool.submit(call!(panics())).result(), "in the job");
        assert_usable(pool);
    });
}

/// DL-8, DL-9.
#[test]
fn a_result_that_ends_the_worker_while_it_is_encoded_loses_its_task() {
    over_pools(|pool| {
        for (deed, signal, code) in ENDS {
            assert_lost(pool.submit(call!(encode(deed))).result(), signal, code);
            assert_usable(pool);
            let map = pool.map(encode, [deed]);
            assert_lost(map.result(), signal, code);
        }
    });
}

/// DL-10.
#[test]
fn a_result_that_can_not_be_encoded_fails_its_task_alone() {
    over_pools(|pool| {
        for (deed, message) in FAILURES {
            let future = pool.submit(call!(encode(deed)));
            assert_codec(future.result(), CodecSide::EncodeResult, "WhenEncoded", message);
            assert_usable(pool);
        }
        // In a map it is one item.
        fn each(n: u32) -> Result<u32, WhenEncoded> {
            if n == 1 { Err(WhenEncoded(Deed::Panic)) } else { Ok(n) }
        }
        let map = pool.map(each, 0..3).chunk_size(3);
        let results: Vec<_> = futures::executor::block_on(map.collect());
        let [first, second, third] = <[_; 3]>::try_from(results).unwrap();
        assert!(first.is_ok() && third.is_ok());
        assert_codec(second, CodecSide::EncodeResult, "WhenEncoded>", "out of ink");
    });
}

/// DL-11. Ours differs: that task alone fails.
#[test]
fn a_result_that_can_not_be_decoded_fails_its_task_alone() {
    over_pools(|pool| {
        for (deed, message) in FAILURES {
            let future = pool.submit(call!(decode(deed)));
            assert_codec(future.result(), CodecSide::DecodeResult, "WhenDecoded", message);
            // What reads the results lives on.
            assert_usable(pool);
            let map = pool.map(decode, [deed]);
            assert_codec(map.result(), CodecSide::DecodeResult, "WhenDecoded", message);
            assert_usable(pool);
        }
    });
}

/// DL-13.
#[test]
fn a_worker_that_crashes_during_a_waiting_shutdown_does_not_hang_it() {
    fn crash(started: Reports, gate: Gate) {
        hold(started, gate, 0);
        Deed::Crash.run();
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (started, gate) = (Reports::new(), Gate::new());
            let crashing = pool.submit(call!(crash(started.clone(), gate.clone())));
            let queued: Vec<_> = (0..9).map(|n| pool.submit(call!(square(n)))).collect();
            started.wait_for(1);
            let family = family(&pool);
            let ended = pool.shutdown(Shutdown::Drain);
            gate.open();
            ended.result().unwrap();
            assert_lost(crashing.result(), Some(SIGSEGV), None);
            // What was accepted runs all the same.
            for (n, future) in (0..).zip(queued) {
                assert_eq!(future.result().unwrap(), n * n);
            }
            assert_gone(&family);
        }
    });
}

/// DL-14.
#[test]
fn a_shutdown_right_after_an_argument_that_can_not_be_encoded_ends_the_workers() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let pid = pool.submit(call!(own_pid())).result().unwrap();
            let future = pool.submit(call!(take(WhenEncoded(Deed::Fail))));
            drop(pool.shutdown(Shutdown::Drain));
            drop(pool);
            assert_codec(future.result(), CodecSide::EncodeArguments, "WhenEncoded,)", "paper");
            until_ended(pid);
        }
    });
}

/// Much more than a socket takes.
const LARGE: usize = 4 << 20;

/// A text, since that is encoded in one piece.
fn large() -> String {
    "7".repeat(LARGE)
}

/// DL-15.
#[test]
fn workers_that_crash_while_large_arguments_are_under_way_block_no_writer() {
    fn crash(_first: u8, _text: String) {
        Deed::Crash.run();
    }

    fn length(text: String) -> usize {
        text.len()
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let futures: Vec<_> =
                (0..3 * size).map(|_| pool.submit(call!(crash(0, large())))).collect();
            let good: Vec<_> = (0..3 * size).map(|_| pool.submit(call!(length(large())))).collect();
            for future in futures {
                assert_lost(future.result(), Some(SIGSEGV), None);
            }
            for future in good {
                assert_eq!(future.result().unwrap(), LARGE);
            }
            end(&pool);
        }
    });
}

/// DL-15. Tasks are sent ahead to a worker that is quick, and one of these fills its socket when it
/// dies. With several workers it would not be sure which one has what in front of it.
#[test]
fn a_worker_that_is_killed_while_a_large_argument_is_under_way_blocks_no_writer() {
    fn wait_with(started: Reports, gate: Gate, text: String) -> usize {
        hold(started, gate, 0);
        text.len()
    }

    within_limit(|| {
        for _ in 0..5 {
            let pool = pool(1);
            let (first, gate, started) = (Gate::new(), Gate::new(), Reports::new());
            let submit =
                |text: String| pool.submit(call!(wait_with(started.clone(), gate.clone(), text)));
            let occupied = occupy_all(&pool, &first);
            let quick: Vec<_> = (0..50).map(|_| pool.submit(call!(square(3)))).collect();
            let held = submit(String::new());
            let queued: Vec<_> = (0..3).map(|_| submit(large())).collect();
            first.open();
            let pid = started.wait_for(1)[0];
            assert!(held.kill());
            until_ended(pid);
            gate.open();
            for future in queued {
                assert_eq!(future.result().unwrap(), LARGE);
            }
            quick.into_iter().for_each(|future| assert_eq!(future.result().unwrap(), 9));
            drop((occupied, held));
            end(&pool);
        }
    });
}

/// DL-15. Results larger than the socket takes, of workers that the parent reads from no more.
#[test]
fn a_worker_that_is_killed_while_it_writes_a_large_result_hangs_nothing() {
    fn result(started: Reports) -> String {
        started.add(process::id());
        large()
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let started = Reports::new();
            let futures: Vec<TaskFuture<String>> =
                (0..8 * size).map(|_| pool.submit(call!(result(started.clone())))).collect();
            started.wait_for(1);
            let ended = pool.kill_workers();
            for future in futures {
                match future.result() {
                    Ok(text) => assert_eq!(text, large()),
                    Err(Error::WorkerLost(lost)) => assert_eq!(lost.signal, Some(SIGKILL)),
                    Err(Error::Cancelled) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            ended.result().unwrap();
            assert_gone(&started.get());
        }
    });
}

/// DL-16.
#[test]
fn a_hundred_submissions_before_the_workers_are_there_all_complete() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let map = pool.map(square, 0..100).chunk_size(1).start();
            let futures: Vec<_> = (0..100).map(|n| pool.submit(call!(square(n)))).collect();
            let expected: Vec<_> = (0..100).map(square).collect();
            assert_eq!(map.result().unwrap(), expected);
            let parts = wait(futures, ReturnWhen::AllCompleted).result();
            let squares: Vec<_> =
                parts.done.into_iter().map(|future| future.result().unwrap()).collect();
            assert_eq!(squares, expected);
            end(&pool);
        }
    });
}

// ---- Results that are too long ----

fn words(count: usize) -> (u32, Vec<u64>) {
    (own_pid(), vec![u64::MAX; count])
}

fn bytes(count: usize) -> (u32, Buffer<u8>) {
    (own_pid(), vec![5; count].into())
}

fn sum_nested(count: usize) -> Result<usize, String> {
    let pool = ParentPool::current().unwrap();
    let sum = pool.submit(call!(length(vec![5; count].into()))).result();
    sum.map_err(|error| error.to_string())
}

fn length(bytes: Buffer<u8>) -> usize {
    bytes.len()
}

fn assert_too_long<T: std::fmt::Debug>(outcome: Result<T, Error>, limit: usize) {
    let Err(Error::Codec(error)) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(error.side, CodecSide::DecodeResult);
    let text = format!("bytes is longer than `max_result_size`, {limit} bytes");
    assert!(error.message.starts_with("a result of ") && error.message.ends_with(&text), "{error}");
}

/// On both sides of the limit, in the body and beside it. The worker goes on.
#[test]
fn a_result_that_is_longer_than_the_limit_fails_alone() {
    const LIMIT: usize = 200_000;
    within_limit(|| {
        let pool = builder(1).max_result_size(LIMIT as u64).build().unwrap();
        let pid = pool.submit(call!(own_pid())).result().unwrap();
        for count in [LIMIT, 3 * LIMIT, 20 * LIMIT] {
            let too_long = pool.submit(call!(words(count)));
            let beside = pool.submit(call!(bytes(count)));
            let next = pool.submit(call!(bytes(LIMIT - 1_000)));
            assert_too_long(too_long.result(), LIMIT);
            assert_too_long(beside.result(), LIMIT);
            let (sent_by, bytes) = next.result().unwrap();
            assert_eq!((sent_by, &bytes[..]), (pid, &[5; LIMIT - 1_000][..]));
        }
        assert_eq!(pool.submit(call!(words(LIMIT / 20))).result().unwrap().1.len(), LIMIT / 20);
        // Of a map, the item alone.
        let sizes = [10, 2 * LIMIT, 20, LIMIT, 30];
        let items = block_on(pool.map(bytes, sizes).collect::<Vec<_>>());
        for (size, item) in sizes.into_iter().zip(items) {
            match item {
                Ok((_, bytes)) => assert_eq!((bytes.len(), size < LIMIT), (size, true)),
                error => assert_too_long(error, LIMIT),
            }
        }
        // What a worker submits goes the same way.
        assert_eq!(pool.submit(call!(sum_nested(100_000))).result().unwrap(), Ok(100_000));
        let refused = pool.submit(call!(sum_nested(2 * LIMIT))).result().unwrap().unwrap_err();
        assert!(refused.contains("`max_result_size`"), "{refused}");
        end(&pool);
    });
}
