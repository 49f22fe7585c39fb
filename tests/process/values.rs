//! What a process is given, and what comes of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;

use concurrent_futures::ipc::SharedSlice;
use concurrent_futures::{
    Buffer, CodecSide, Error, ParentPool, Process, ReturnWhen, WorkerInfo, as_completed, call,
    task, wait,
};
use futures::FutureExt;
use rustix::thread::gettid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::assert_exit;
use crate::support::{on_runtimes, within_limit};
use crate::tools::{Gate, Reports, assert_cancelled, assert_panicked, hold, own_pid, parent_of};

fn describe(name: String, numbers: Vec<u32>, by_name: BTreeMap<String, f64>) -> String {
    format!("{name} {numbers:?} {by_name:?}")
}

/// PR-1.
#[test]
fn arguments_reach_the_function_and_its_value_comes_back() {
    on_runtimes(|| async {
        let by_name = BTreeMap::from([("half".to_owned(), 0.5)]);
        let process = Process::spawn(call!(describe("bob".to_owned(), vec![1, 2], by_name)));
        assert_eq!(process.await.unwrap(), "bob [1, 2] {\"half\": 0.5}");
    });
}

/// PR-2.
#[test]
fn it_runs_from_its_spawn_to_its_end_under_one_number() {
    on_runtimes(|| async {
        let gate = Gate::new();
        let started = Reports::new();
        let mut process = Process::spawn(call!(hold(started.clone(), gate.clone(), 7)));
        assert!(process.is_running());
        let pid = process.started().await.unwrap();
        assert_eq!(started.wait_for(1), [pid]);
        assert_eq!(process.pid(), Some(pid));
        assert!(process.is_running());
        gate.open();
        assert_eq!((&mut process).await.unwrap(), 7);
        let exit = process.join().await;
        assert_exit(&exit, Some(0), None);
        assert_eq!((exit.pid(), exit.stderr()), (Some(pid), ""));
        assert!(!process.is_running());
        assert_eq!(process.started().await.unwrap(), pid);
        assert_eq!(process.join().await, exit);
    });
}

/// PR-3, PR-17. It is a worker of no pool.
#[test]
fn the_function_runs_on_the_main_thread_and_belongs_to_no_pool() {
    fn surroundings() -> (u32, bool, bool, Option<String>, u32) {
        let thread = gettid().as_raw_nonzero().get().unsigned_abs();
        let (pool, worker) = (ParentPool::current(), WorkerInfo::current());
        let name = std::fs::read_to_string("/proc/self/comm").ok();
        (thread, pool.is_some(), worker.is_some(), name, parent_of(own_pid()).unwrap())
    }
    within_limit(|| {
        let process = Process::builder().name("a process").spawn(call!(surroundings()));
        let handle = process.handle();
        let (thread, has_pool, is_worker, name, parent) = process.result().unwrap();
        assert_eq!(Some(thread), handle.pid());
        assert!(!has_pool && !is_worker);
        assert_eq!(name.as_deref(), Some("a process\n"));
        assert_eq!(handle.name(), "a process");
        // Its parent is the process that forks for this one.
        assert_eq!(parent_of(parent), Some(own_pid()));
    });
}

/// PR-8. Not before.
#[test]
fn the_future_is_ready_when_the_function_has_ended() {
    within_limit(|| {
        let (started, gate) = (Reports::new(), Gate::new());
        let mut task = Process::spawn(call!(hold(started.clone(), gate.clone(), 1))).into_task();
        assert!(task.result_timeout(crate::tools::SHORT).is_none());
        gate.open();
        assert_eq!(task.result().unwrap(), 1);
    });
}

/// Counts its drops in this process. On the other side it is another one.
#[derive(Debug)]
struct Dropped;

static DROPS: AtomicUsize = AtomicUsize::new(0);

impl Drop for Dropped {
    fn drop(&mut self) {
        DROPS.fetch_add(1, SeqCst);
    }
}

impl Serialize for Dropped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Dropped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self)
    }
}

/// PR-11.
#[test]
fn arguments_are_dropped_by_the_spawn() {
    fn take(_: Dropped) {}
    within_limit(|| {
        let process = Process::spawn(call!(take(Dropped)));
        assert_eq!(DROPS.load(SeqCst), 1);
        process.result().unwrap();
        let refused = Process::builder().name("\0").spawn(call!(take(Dropped)));
        assert_eq!(DROPS.load(SeqCst), 2);
        refused.result().unwrap_err();
    });
}

/// PR-18.
#[test]
fn processes_are_waited_for_as_a_set() {
    on_runtimes(|| async {
        let (started, gates) = (Reports::new(), [Gate::new(), Gate::new()]);
        let spawn = |gate: &Gate| Process::spawn(call!(hold(started.clone(), gate.clone(), 5)));
        let mut done = as_completed(gates.each_ref().map(spawn).map(Process::into_task));
        for at in [1, 0] {
            gates[at].open();
            let (index, value) = done.next().await.unwrap();
            assert_eq!((index, value.unwrap()), (at, 5));
        }
        let processes = [Gate::new(), Gate::new()];
        let tasks = processes.each_ref().map(spawn).map(Process::into_task);
        processes[1].open();
        let split = wait(tasks, ReturnWhen::FirstCompleted).await;
        assert_eq!((split.done.len(), split.not_done.len()), (1, 1));
        let (sender, called) = mpsc::channel();
        let task = Process::spawn(call!(u64::pow(2, 10))).into_task();
        task.add_done_callback(move |value| drop(sender.send(value.clone())));
        drop(task);
        assert_eq!(called.recv().unwrap().unwrap(), 1024);
    });
}

#[test]
fn a_panic_is_the_error_of_the_value() {
    fn panic() {
        panic!("boom");
    }
    within_limit(|| {
        let process = Process::spawn(call!(panic()));
        assert_exit(&process.join_blocking(), Some(101), None);
        assert_panicked(&process.result(), "boom");
    });
}

#[derive(Debug)]
struct Stubborn(bool);

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { Err(serde::ser::Error::custom("no")) } else { serializer.serialize_unit() }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("never"))
    }
}

#[test]
fn what_can_not_be_encoded_or_decoded_is_an_error_on_its_side() {
    fn take(_: Stubborn) {}
    fn give(fails: bool) -> Stubborn {
        Stubborn(fails)
    }
    fn side<T: std::fmt::Debug>(value: Result<T, Error>) -> CodecSide {
        match value {
            Err(Error::Codec(error)) => error.side,
            other => panic!("{other:?}"),
        }
    }
    within_limit(|| {
        let unsent = Process::spawn(call!(take(Stubborn(true))));
        let exit = unsent.join_blocking();
        assert_eq!((exit.pid(), exit.code(), exit.signal()), (None, None, None));
        assert!(!unsent.is_running() && exit.usage().is_none());
        assert_eq!(side(unsent.result()), CodecSide::EncodeArguments);

        let unread = Process::spawn(call!(take(Stubborn(false))));
        assert_exit(&unread.join_blocking(), Some(1), None);
        assert_eq!(side(unread.result()), CodecSide::DecodeArguments);

        let unreturned = Process::spawn(call!(give(true)));
        assert_exit(&unreturned.join_blocking(), Some(1), None);
        assert_eq!(side(unreturned.result()), CodecSide::EncodeResult);

        let untaken = Process::spawn(call!(give(false)));
        assert_exit(&untaken.join_blocking(), Some(0), None);
        assert_eq!(side(untaken.result()), CodecSide::DecodeResult);
    });
}

#[test]
fn large_values_and_handles_travel() {
    fn double(numbers: Buffer<u64>, shared: SharedSlice<u64>) -> (Buffer<u64>, SharedSlice<u64>) {
        (numbers.iter().map(|n| 2 * n).collect(), shared.slice(1..))
    }
    within_limit(|| {
        let numbers: Buffer<u64> = (0..1 << 20).collect();
        let shared = SharedSlice::new([1, 2, 3]).unwrap();
        let process = Process::spawn(call!(double(numbers, shared)));
        let (doubled, rest) = process.result().unwrap();
        assert!((0..1 << 20).zip(&doubled[..]).all(|(n, twice)| 2 * n == *twice));
        assert_eq!(rest[..], [2, 3]);
    });
}

#[test]
fn a_function_that_runs_sees_a_stop_request() {
    fn until_stopped(started: Reports) -> bool {
        started.add(0);
        while !task::stop_requested() {
            std::thread::yield_now();
        }
        true
    }
    within_limit(|| {
        let started = Reports::new();
        let process = Process::spawn(call!(until_stopped(started.clone()))).into_task();
        started.wait_for(1);
        assert!(process.is_running());
        assert!(!process.cancel());
        assert!(process.result().unwrap());
    });
}

#[test]
fn a_task_that_is_killed_is_cancelled_and_its_process_ended() {
    within_limit(|| {
        let (started, gate) = (Reports::new(), Gate::new());
        let process = Process::spawn(call!(hold(started.clone(), gate.clone(), 1)));
        let handle = process.handle();
        let task = process.into_task();
        started.wait_for(1);
        assert!(task.kill() && task.is_cancelled());
        assert_cancelled(&task.result());
        assert_exit(&handle.join_blocking(), None, Some(9));
    });
}

/// Awaits broken off again and again lose nothing.
#[test]
fn awaiting_can_be_broken_off() {
    on_runtimes(|| async {
        let (started, gate) = (Reports::new(), Gate::new());
        let mut process = Process::spawn(call!(hold(started.clone(), gate.clone(), 3)));
        for _ in 0..100 {
            let _ = futures::poll!(&mut process);
            let _ = futures::poll!(std::pin::pin!(process.started()));
            let _ = futures::poll!(std::pin::pin!(process.join()));
        }
        gate.open();
        let (value, exit) = {
            let handle = process.handle();
            tokio::join!(process, async move { handle.join().await })
        };
        assert_eq!((value.unwrap(), exit.code()), (3, Some(0)));
    });
}

/// It is known to have started before anything of the function is seen; that is there before the value, and
/// this before the end.
#[test]
fn start_output_value_and_end_come_in_this_order() {
    within_limit(|| {
        for round in 0..20 {
            let (seen, gate) = (Reports::new(), Gate::new());
            let (sender, told) = mpsc::channel();
            let process = Process::spawn(call!(hold(seen.clone(), gate.clone(), round)));
            let handle = process.handle();
            let task = process.into_task();
            let (of_value, reports) = (handle.clone(), seen.clone());
            task.add_done_callback(move |value| {
                let value = *value.as_ref().unwrap();
                let _ = sender.send((value, reports.get().len(), of_value.is_running()));
            });
            drop(task);
            let pid = seen.wait_for(1)[0];
            assert_eq!(handle.started().now_or_never().unwrap().unwrap(), pid);
            gate.open();
            assert_eq!(handle.join_blocking().pid(), Some(pid));
            assert_eq!(told.try_recv().unwrap(), (round, 1, true));
        }
    });
}

/// Also where what is told of the value takes long, so that another thread reads on.
#[test]
fn the_end_is_not_told_before_a_callback_of_the_value_has_come_back() {
    within_limit(|| {
        let (done, is_done) = mpsc::channel::<()>();
        let (started, gate) = (Reports::new(), Gate::new());
        let process = Process::spawn(call!(hold(started.clone(), gate.clone(), 1)));
        let handle = process.handle();
        let task = process.into_task();
        let (called, in_callback) = mpsc::channel();
        task.add_done_callback(move |_| {
            called.send(()).unwrap();
            let _ = is_done.recv();
        });
        gate.open();
        in_callback.recv().unwrap();
        let pid = handle.pid().unwrap();
        crate::tools::until_ended(pid);
        // Others are told of theirs meanwhile.
        assert!(Process::spawn(call!(own_pid())).result().unwrap() > 0);
        assert!(handle.is_running());
        drop(done);
        assert_eq!(handle.join_blocking().code(), Some(0));
    });
}
