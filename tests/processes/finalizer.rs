//! IN-4: which worker processes run the finalizer. What does not depend on the kind of pool is in
//! `conformance`.

use std::mem;
use std::process;
use std::time::Duration;

use concurrent_futures::{
    CodecSide, Error, ParentPool, ProcessPoolExecutor, Shutdown, WorkerInfo, call,
};
use serde::{Deserialize, Serialize, Serializer};

use crate::program;
use crate::support::{POOL_SIZES, within_limit};
use crate::tools::{Gate, LONG, Reports, builder, end, lost, occupy_all, own_pid, until_ended};

/// The finalizer: reports its process.
fn ended(ends: Reports) {
    ends.add(process::id());
}

/// Reports, and ends when the gate is open.
fn hold(ends: Reports, gate: Gate) {
    ended(ends);
    gate.wait();
}

fn own_index() -> usize {
    WorkerInfo::current().unwrap().index()
}

fn crash() {
    process::abort()
}

/// IN-4.
#[test]
fn a_worker_that_ends_before_its_pool_runs_the_finalizer() {
    within_limit(|| {
        for size in POOL_SIZES {
            let ends = Reports::new();
            // After its number of tasks.
            let finalizer = call!(ended(ends.clone()));
            let pool = builder(size).max_tasks_per_worker(1).finalizer(finalizer).build().unwrap();
            let mut pids: Vec<_> =
                (0..3).map(|_| pool.submit(call!(own_pid())).result().unwrap()).collect();
            let mut seen = ends.wait_for(3);
            pids.sort_unstable();
            seen.sort_unstable();
            assert_eq!(seen, pids);
            end(&pool);

            // When it has been idle for long.
            let ends = Reports::new();
            let finalizer = call!(ended(ends.clone()));
            let builder = builder(size).idle_timeout(Duration::ZERO).finalizer(finalizer);
            let pool = builder.build().unwrap();
            let pid = pool.submit(call!(own_pid())).result().unwrap();
            assert_eq!(ends.wait_for(1), [pid]);
            end(&pool);
            assert_eq!(ends.get(), [pid]);
        }
    });
}

/// IN-4.
#[test]
fn a_worker_that_is_ended_by_force_runs_no_finalizer() {
    const ENDS: [fn(&ProcessPoolExecutor); 2] =
        [|pool| drop(pool.kill_workers()), |pool| drop(pool.terminate_workers(LONG))];

    within_limit(|| {
        for size in POOL_SIZES {
            let ends = Reports::new();
            let build = || builder(size).finalizer(call!(ended(ends.clone()))).build().unwrap();
            for end_by_force in ENDS {
                let pool = build();
                let gate = Gate::new();
                let held = occupy_all(&pool, &gate);
                end_by_force(&pool);
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
                held.into_iter().for_each(|task| drop(lost(task.result())));
                // And if they are idle.
                let pool = build();
                let gate = Gate::new();
                let held = occupy_all(&pool, &gate);
                gate.open();
                held.into_iter().for_each(|task| assert_eq!(task.result().unwrap(), 42));
                end_by_force(&pool);
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
            }

            let pool = build();
            lost(pool.submit(call!(crash())).result());
            let gate = Gate::new();
            let mut held = occupy_all(&pool, &gate);
            assert!(held.remove(0).kill());
            gate.open();
            held.into_iter().for_each(|task| assert_eq!(task.result().unwrap(), 42));
            assert_eq!(ends.get(), []);
            end(&pool);
            assert_eq!(ends.get().len(), size - 1, "the other workers do");
        }
    });
}

/// IN-4. The program ends with the pool open: the workers see the end of their sockets, and are killed.
#[test]
fn the_end_of_the_program_runs_no_finalizer() {
    const NAME: &str = "finalizer::the_end_of_the_program_runs_no_finalizer";
    let main = || {
        let ends = Reports::new();
        let finalizer = call!(says_so());
        let pool = builder(2).finalizer(finalizer).build().unwrap();
        pool.submit(call!(ended(ends.clone()))).result().unwrap();
        println!("main is done");
        mem::forget(pool);
    };
    fn says_so() {
        println!("the finalizer ran");
    }

    if let Some(ended) = program::run(NAME, 0, main) {
        let ended = ended.well();
        assert!(ended.printed("main is done"));
        assert!(!ended.printed("the finalizer ran"));
    }
}

/// WI-2.
#[test]
fn a_worker_that_runs_the_finalizer_keeps_its_index_and_leaves_its_place() {
    within_limit(|| {
        let (ends, gate) = (Reports::new(), Gate::new());
        let finalizer = call!(hold(ends.clone(), gate.clone()));
        let pool = builder(1).max_tasks_per_worker(1).finalizer(finalizer).build().unwrap();
        assert_eq!(pool.submit(call!(own_index())).result().unwrap(), 0);
        let first = ends.wait_for(1)[0];
        assert_eq!(pool.submit(call!(own_index())).result().unwrap(), 1);
        ends.wait_for(2);
        gate.open();
        until_ended(first);
        // Until the pool has been told of both.
        while !pool.dump().workers.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(pool.submit(call!(own_index())).result().unwrap(), 0);
        end(&pool);
        assert_eq!(ends.get().len(), 3);
    });
}

/// IN-4.
#[test]
fn a_finalizer_that_ends_its_process_harms_nothing() {
    fn die(ends: Reports) {
        ended(ends);
        process::abort()
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let ends = Reports::new();
            let finalizer = call!(die(ends.clone()));
            let pool = builder(size).max_tasks_per_worker(1).finalizer(finalizer).build().unwrap();
            // More than the failed starts that break a pool.
            for _ in 0..8 {
                pool.submit(call!(own_pid())).result().unwrap();
            }
            end(&pool);
            assert_eq!(pool.metrics().workers_lost, 0);
            assert_eq!(ends.get().len(), 8);
        }
    });
}

/// IN-4. A thread of the worker reads the socket then.
#[test]
fn a_worker_whose_tasks_have_submitted_some_runs_the_finalizer() {
    fn nest() -> u32 {
        ParentPool::current().unwrap().submit(call!(own_pid())).result().unwrap()
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let ends = Reports::new();
            let finalizer = call!(ended(ends.clone()));
            let pool = builder(size).finalizer(finalizer).build().unwrap();
            pool.submit(call!(nest())).result().unwrap();
            end(&pool);
            // The one that waited, and its spare.
            assert_eq!(ends.get().len(), 2);
        }
    });
}

/// Can be encoded, or decoded, or neither.
struct Half<const ENCODES: bool>;

impl<const ENCODES: bool> Serialize for Half<ENCODES> {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        if ENCODES {
            into.serialize_unit()
        } else {
            Err(serde::ser::Error::custom("not for others"))
        }
    }
}

impl<'de, const ENCODES: bool> Deserialize<'de> for Half<ENCODES> {
    fn deserialize<D: serde::Deserializer<'de>>(_from: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("from nowhere"))
    }
}

/// IN-4.
#[test]
fn arguments_that_can_not_be_encoded_are_an_error_of_the_builder_others_are_reported() {
    fn takes<const ENCODES: bool>(_argument: Half<ENCODES>) {}

    let name = "finalizer::arguments_that_can_not_be_encoded_are_an_error_of_the_builder_others_are_reported";
    let main = || {
        let built = builder(1).finalizer(call!(takes(Half::<false>))).build();
        let Err(Error::Codec(codec)) = built else { panic!("{built:?}") };
        assert_eq!(codec.side, CodecSide::EncodeArguments);
        assert!(codec.message.contains("not for others"), "{codec}");

        let pool = builder(1).finalizer(call!(takes(Half::<true>))).build().unwrap();
        pool.submit(call!(own_pid())).result().unwrap();
        end(&pool);
    };
    if let Some(ended) = program::run(name, 0, main) {
        assert!(ended.status.success(), "{}", ended.stderr);
        let is_reported =
            ended.stderr.starts_with("concurrent-futures: the finalizer did not run: ");
        assert!(is_reported && ended.stderr.ends_with(": from nowhere\n"), "{}", ended.stderr);
    }
}
