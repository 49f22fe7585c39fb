//! IN: CPython's `test_init.py`.
//!
//! The initializer's error is not logged, as it is by Python: it is in the error of every future.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use concurrent_futures::{
    CodecSide, Error, Panicked, PortableError, ProcessPoolBuilder, ProcessPoolExecutor, Shutdown,
    call,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::program;
use crate::support::{POOL_SIZES, on_runtimes, within_limit};
use crate::tools::{
    Gate, Reports, assert_gone, builder, end, ended, hold, occupy, occupy_all, own_pid,
};

/// Set by the initializer, in the worker.
static SEAT: AtomicU32 = AtomicU32::new(0);

fn take_seat(seat: u32, taken: Reports) {
    SEAT.store(seat, SeqCst);
    taken.add(process::id());
}

fn seat() -> u32 {
    SEAT.load(SeqCst)
}

fn square(n: u64) -> u64 {
    n * n
}

/// A pool whose workers have seat 7.
fn seated(builder: ProcessPoolBuilder) -> (ProcessPoolExecutor, Reports) {
    let taken = Reports::new();
    (builder.initializer(call!(take_seat(7, taken.clone()))).build().unwrap(), taken)
}

/// IN-1.
#[test]
fn the_initializer_runs_once_in_each_worker_before_its_first_task() {
    fn seat_of_all(started: Reports, gate: Gate) -> u32 {
        hold(started, gate, 0);
        seat()
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, taken) = seated(builder(size));
            assert!(taken.get().is_empty(), "not before there is a task");
            let (started, gate) = (Reports::new(), Gate::new());
            let futures: Vec<_> = (0..10 * size)
                .map(|_| pool.submit(call!(seat_of_all(started.clone(), gate.clone()))))
                .collect();
            let workers: HashSet<u32> = started.wait_for(size).into_iter().collect();
            gate.open();
            for future in futures {
                assert_eq!(future.result().unwrap(), 7);
            }
            let initialized = taken.get();
            assert_eq!(initialized.len(), size);
            assert_eq!(workers, initialized.into_iter().collect());
            assert_eq!(SEAT.load(SeqCst), 0, "and not here");
            end(&pool);
        }
    });
}

/// IN-1.
#[test]
fn maps_see_the_effect_of_the_initializer() {
    fn each(_: u32) -> u32 {
        seat()
    }

    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, _taken) = seated(builder(size));
            assert_eq!(pool.map(each, 0..20).await.unwrap(), [7; 20]);
            ended(&pool).await;
        }
    });
}

/// IN-1.
#[test]
fn a_replacement_is_initialized_too() {
    within_limit(|| {
        for size in POOL_SIZES {
            // After its number of tasks.
            let (pool, taken) = seated(builder(size).max_tasks_per_worker(1));
            for _ in 0..5 {
                assert_eq!(pool.submit(call!(seat())).result().unwrap(), 7);
            }
            end(&pool);
            assert_eq!(taken.get().len(), 5);

            // After a crash.
            let (pool, taken) = seated(builder(size));
            let gate = Gate::new();
            for future in occupy_all(&pool, &gate) {
                assert!(future.kill());
            }
            assert_eq!(pool.submit(call!(seat())).result().unwrap(), 7);
            end(&pool);
            assert_eq!(taken.get().len(), size + 1);
        }
    });
}

/// IN-1. The initializer does not count as a task.
#[test]
fn the_initializer_does_not_use_up_the_tasks_of_a_worker() {
    within_limit(|| {
        let (pool, taken) = seated(builder(1).max_tasks_per_worker(2));
        let pid = || pool.submit(call!(own_pid())).result().unwrap();
        let pids = [pid(), pid(), pid(), pid()];
        assert_eq!((pids[0], pids[2]), (pids[1], pids[3]));
        assert_eq!(taken.get(), [pids[0], pids[2]]);
        end(&pool);
    });
}

fn no_licence(gate: Gate) -> Result<(), String> {
    gate.wait();
    Err("no licence for seat 7".to_owned())
}

/// A pool whose initializer fails once the gate is open.
fn doomed(builder: ProcessPoolBuilder) -> (ProcessPoolExecutor, Gate) {
    let gate = Gate::new();
    (builder.initializer(call!(no_licence(gate.clone()))).build().unwrap(), gate)
}

#[track_caller]
fn assert_no_licence(error: Error) {
    assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
    assert!(format!("{error:?}").contains("no licence for seat 7"), "{error:?}");
}

fn report(ran: Reports) {
    ran.add(0);
}

fn report_each((ran, n): (Reports, u32)) {
    ran.add(n);
}

/// IN-2.
#[test]
fn queued_and_later_tasks_get_the_error_of_the_initializer() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, gate) = doomed(builder(size));
            let ran = Reports::new();
            let pending: Vec<_> =
                (0..50).map(|_| pool.submit(call!(report(ran.clone())))).collect();
            let items = ran.clone();
            let map = pool.map(report_each, (0..50).map(move |n| (items.clone(), n))).start();
            gate.open();

            for future in pending {
                assert_no_licence(future.result().unwrap_err());
            }
            assert_no_licence(map.result().unwrap_err());

            assert_no_licence(pool.submit(call!(square(3))).result().unwrap_err());
            let refused = pool.try_submit(call!(square(3))).unwrap_err();
            let (job, error) = refused.into_parts();
            assert_no_licence(error);
            assert_eq!(concurrent_futures::Job::run(job), 9, "the call comes back whole");
            let late = pool.task().label("late").submit(call!(square(3)));
            assert_no_licence(late.result().unwrap_err());
            assert_no_licence(futures::executor::block_on(pool.reserve()).unwrap_err());
            assert_no_licence(pool.map(square, 0..3).result().unwrap_err());

            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert!(ran.get().is_empty(), "no task ran");
            assert_eq!(pool.metrics().workers, 0);
            assert_no_licence(pool.submit(call!(square(3))).result().unwrap_err());
        }
    });
}

/// IN-2.
#[test]
fn awaited_tasks_and_permits_get_the_error_of_the_initializer() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, gate) = doomed(builder(size).queue_capacity(2));
            gate.open();
            let permit = pool.reserve().await.unwrap();
            assert_no_licence(pool.submit(call!(square(3))).await.unwrap_err());
            assert_no_licence(permit.submit(call!(square(3))).await.unwrap_err());
            assert_no_licence(pool.reserve().await.unwrap_err());
            assert_no_licence(pool.map(square, 0..3).await.unwrap_err());
            pool.shutdown(Shutdown::Drain).await;
        }
    });
}

/// IN-2.
#[test]
fn a_wait_for_room_ends_when_the_pool_breaks() {
    on_runtimes(|| async {
        let (pool, gate) = doomed(builder(1).queue_capacity(1));
        let pending = pool.submit(call!(square(3)));
        let queued = pool.submit(call!(square(3)));
        let mut room = Box::pin(pool.reserve());
        assert!(futures::poll!(&mut room).is_pending());
        gate.open();
        assert_no_licence(room.await.unwrap_err());
        assert_no_licence(pending.await.unwrap_err());
        let _refused_or_failed = queued.await.unwrap_err();
    });
}

/// IN-2.
#[test]
fn a_panic_of_the_initializer_breaks_the_pool() {
    fn no_device() {
        panic!("no device")
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let pool = builder(size).initializer(call!(no_device())).build().unwrap();
            for _ in 0..3 {
                let error = pool.submit(call!(square(3))).result().unwrap_err();
                assert!(format!("{error:?}").contains("no device"), "{error:?}");
                let Error::BrokenPool(broken) = error else { panic!("{error}") };
                let panicked = broken.cause().downcast_ref::<Panicked>().unwrap();
                assert_eq!(panicked.message(), "no device");
                assert!(panicked.location().unwrap().file().ends_with("init.rs"));
            }
        }
    });
}

/// IN-2. Workers that die one after the other before their first task do not go on for ever.
#[test]
fn an_initializer_that_ends_its_process_breaks_the_pool() {
    fn leave(begun: Reports) -> Result<(), String> {
        begun.add(process::id());
        process::exit(5)
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let begun = Reports::new();
            let pool = builder(size).initializer(call!(leave(begun.clone()))).build().unwrap();
            let futures: Vec<_> = (0..10).map(|n| pool.submit(call!(square(n)))).collect();
            for future in futures {
                let error = future.result().unwrap_err();
                assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
                assert!(format!("{error:?}").contains("exit code 5"), "{error:?}");
            }
            assert!(pool.submit(call!(square(3))).result().is_err());
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let begun = begun.get();
            assert!((5..size + 5).contains(&begun.len()), "{begun:?}");
            assert_gone(&begun);
        }
    });
}

/// What an initializer does that fails from the second time on.
fn only_once(mark: PathBuf) -> Result<(), &'static str> {
    File::create_new(mark).map(drop).map_err(|_| "no licence for seat 7")
}

/// IN-2.
#[test]
fn a_running_task_keeps_its_value_when_the_initializer_fails_in_a_later_worker() {
    within_limit(|| {
        let mark = std::env::temp_dir().join(format!("only-once-{}", process::id()));
        let pool = builder(2).initializer(call!(only_once(mark.clone()))).build().unwrap();
        let gate = Gate::new();
        let running = occupy(&pool, &gate);
        // Starts the second worker.
        assert_no_licence(pool.submit(call!(square(3))).result().unwrap_err());
        gate.open();
        running.result().unwrap();
        assert_no_licence(pool.submit(call!(square(3))).result().unwrap_err());
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        fs::remove_file(mark).unwrap();
    });
}

/// IN-2.
#[test]
fn an_initializer_argument_that_can_not_be_encoded_is_an_error_of_the_builder() {
    struct Never;

    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _into: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not for others"))
        }
    }

    impl<'de> Deserialize<'de> for Never {
        fn deserialize<D: serde::Deserializer<'de>>(_from: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }

    fn ready<T: DeserializeOwned>(_argument: T) {}

    within_limit(|| {
        for builder in
            [builder(1).initializer(call!(ready(Never))), builder(1).preload(call!(ready(Never)))]
        {
            let built = builder.build();
            let Err(Error::Codec(codec)) = built else { panic!("{built:?}") };
            assert_eq!(codec.side, CodecSide::EncodeArguments);
            assert!(codec.message.contains("not for others"), "{codec}");
        }
    });
}

/// What the preloaded function has left in the process that workers are forked from.
static LOADED: OnceLock<String> = OnceLock::new();

fn load(text: String) -> Result<(), PortableError> {
    if text.is_empty() {
        Err(NotThere)?;
    }
    LOADED.set(text).map_err(|_| "it was loaded before")?;
    Ok(())
}

fn loaded() -> Option<String> {
    LOADED.get().cloned()
}

#[derive(Debug)]
struct NotThere;

impl std::fmt::Display for NotThere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is nothing to load")
    }
}

impl std::error::Error for NotThere {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static CAUSE: OnceLock<std::fmt::Error> = OnceLock::new();
        Some(CAUSE.get_or_init(|| std::fmt::Error))
    }
}

/// IN-5.
#[test]
fn a_preloaded_call_runs_with_its_arguments_before_all_workers() {
    within_limit(|| {
        for size in POOL_SIZES {
            let builder = builder(size).preload(call!(load("told".to_owned())));
            let pool = builder.max_tasks_per_worker(1).build().unwrap();
            for _ in 0..3 {
                assert_eq!(pool.submit(call!(loaded())).result().unwrap().as_deref(), Some("told"));
            }
            assert_eq!(loaded(), None, "and not here");
            end(&pool);
        }
    });
}

/// IN-5.
#[test]
fn the_failure_of_a_preloaded_call_breaks_the_pool_and_is_told() {
    fn no_device() {
        panic!("no device")
    }

    within_limit(|| {
        let failing = builder(1).preload(call!(load(String::new()))).build().unwrap();
        let panicking = builder(1).preload(call!(no_device())).build().unwrap();
        let failed = format!("the preloaded function failed: {NotThere}: {}", std::fmt::Error);
        for (pool, text) in [(failing, &*failed), (panicking, "no device")] {
            let error = pool.submit(call!(loaded())).result().unwrap_err();
            assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
            assert!(format!("{error:?}").ends_with(text), "{error:?}");
            assert!(pool.submit(call!(loaded())).result().is_err());
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

/// What there is of this process: its descriptors, its threads, its children, and objects in shared
/// memory, which belong to no process.
fn belongings() -> Vec<Vec<String>> {
    let names = |directory: &str| {
        let entries = fs::read_dir(directory).map(|entries| {
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        });
        entries.unwrap_or_default()
    };
    let mut descriptors: Vec<String> = names("/proc/self/fd");
    descriptors.retain(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok());
    let threads: Vec<String> = names("/proc/self/task");
    let children = threads.iter().flat_map(|thread| {
        let children = fs::read_to_string(format!("/proc/self/task/{thread}/children"));
        let children = children.unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    let mut all = vec![descriptors, children.collect(), threads, names("/dev/shm")];
    all.iter_mut().for_each(|names| names.sort());
    all
}

/// Runs `use_pools` as a program, after which the program has what it had before.
fn leaves_nothing(name: &str, use_pools: impl Fn()) {
    let main = || {
        let before = belongings();
        use_pools();
        // A thread is on the system's list for a moment after it has been joined, and nobody tells
        // when it is not.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while belongings() != before && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(belongings(), before);
    };
    if let Some(ended) = program::run(name, 0, main) {
        ended.well();
    }
}

/// IN-3.
#[test]
fn nothing_is_left_of_a_pool_whose_initializer_has_failed() {
    leaves_nothing("init::nothing_is_left_of_a_pool_whose_initializer_has_failed", || {
        for size in POOL_SIZES {
            let (pool, gate) = doomed(builder(size));
            let pending: Vec<_> = (0..10).map(|n| pool.submit(call!(square(n)))).collect();
            gate.open();
            for future in pending {
                assert_no_licence(future.result().unwrap_err());
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

/// IN-3.
#[test]
fn nothing_is_left_of_a_pool_that_has_worked() {
    leaves_nothing("init::nothing_is_left_of_a_pool_that_has_worked", || {
        for size in POOL_SIZES {
            let (pool, _taken) = seated(builder(size).max_tasks_per_worker(30));
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let map = pool.map(square, 0..1_000).start();
            let futures: Vec<_> = (0..100).map(|n| pool.submit(call!(square(n)))).collect();
            assert!(held[0].kill());
            gate.open();
            assert_eq!(map.result().unwrap().len(), 1_000);
            for (n, future) in (0..).zip(futures) {
                assert_eq!(future.result().unwrap(), n * n);
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

/// IN-3.
#[test]
fn nothing_is_left_of_a_pool_that_was_ended_by_force() {
    leaves_nothing("init::nothing_is_left_of_a_pool_that_was_ended_by_force", || {
        for size in POOL_SIZES {
            let (pool, _taken) = seated(builder(size));
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let queued = pool.submit(call!(square(3)));
            pool.kill_workers().result().unwrap();
            drop((held, queued));
        }
    });
}
