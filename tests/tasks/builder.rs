//! How a pool is made, and what the values of this crate show of themselves.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, InlineExecutor, ReturnWhen, Shutdown, TaskFuture, ThreadPoolBuilder, ThreadPoolExecutor,
    as_completed, call, task, wait,
};
use futures::executor::block_on;

use crate::support::{Gate, occupy, pool, scaled, within_limit};
use crate::tools::{occupy_all, soon};

fn text(built: Result<ThreadPoolExecutor, Error>) -> String {
    built.expect_err("it makes no sense").to_string()
}

#[test]
fn values_without_sense_are_refused_and_the_text_names_the_setting_and_the_rule() {
    let builder = ThreadPoolExecutor::builder;
    assert_eq!(
        text(builder().max_workers(0).build()),
        "max_workers must be at least 1: a pool without workers runs nothing"
    );
    assert_eq!(
        text(builder().stack_size(0).build()),
        "stack_size must be at least 1: a thread needs a stack"
    );
    let too_large = text(builder().queue_capacity(usize::MAX).build());
    assert!(too_large.starts_with("queue_capacity must be at most "), "{too_large}");
    assert!(too_large.contains("leave it out for a queue without bound"), "{too_large}");
    for prefix in ["\0", "a\0b", "end\0"] {
        assert_eq!(text(builder().name(prefix).build()), "name must not contain a NUL byte");
    }
}

#[test]
fn the_largest_queue_that_is_allowed_works() {
    within_limit(|| {
        let largest = tokio::sync::Semaphore::MAX_PERMITS;
        let pool = ThreadPoolExecutor::builder().queue_capacity(largest).build().unwrap();
        assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        assert!(ThreadPoolExecutor::builder().queue_capacity(largest + 1).build().is_err());
    });
}

#[test]
fn the_defaults_are_the_documented_ones() {
    within_limit(|| {
        for pool in [
            ThreadPoolExecutor::new(),
            ThreadPoolExecutor::default(),
            ThreadPoolExecutor::builder().build().unwrap(),
            ThreadPoolBuilder::default().build().unwrap(),
        ] {
            assert_eq!(pool.max_workers(), num_cpus());
            assert_eq!(pool.metrics().workers, 0, "no thread before there is a task");
            let name = soon(pool.submit(|| thread::current().name().map(str::to_owned)));
            let name = name.unwrap().unwrap();
            let number = name.strip_prefix("pool-").unwrap().strip_suffix("_0").unwrap();
            assert!(number.parse::<usize>().is_ok(), "{name}");
        }
    });
}

/// The CPUs that this process may use: `std` looks at affinity and cgroup quotas as well.
fn num_cpus() -> usize {
    thread::available_parallelism().unwrap().get()
}

#[test]
fn no_two_pools_have_the_same_default_name() {
    within_limit(|| {
        let name = |pool: &ThreadPoolExecutor| {
            soon(pool.submit(|| thread::current().name().map(str::to_owned))).unwrap().unwrap()
        };
        let pools: Vec<_> = (0..10).map(|_| pool(1)).collect();
        let mut names: Vec<_> = pools.iter().map(name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 10);
    });
}

#[test]
fn workers_are_named_by_the_prefix_and_their_number() {
    within_limit(|| {
        let prefix = String::from("ünder_");
        let pool = ThreadPoolExecutor::builder().max_workers(3).name(prefix).build().unwrap();
        let gate = Gate::new();
        let jobs: Vec<_> = (0..3)
            .map(|_| {
                let wait = gate.clone();
                pool.submit(move || {
                    wait.wait();
                    thread::current().name().map(str::to_owned)
                })
            })
            .collect();
        gate.open();
        let mut names: Vec<_> = jobs.into_iter().map(|job| soon(job).unwrap().unwrap()).collect();
        names.sort();
        names.dedup();
        // A job that ended early may have left its worker for the next.
        assert!(names.iter().all(|name| ["ünder__0", "ünder__1", "ünder__2"].contains(&&**name)));

        // An empty one is a prefix as well.
        let nameless = ThreadPoolExecutor::builder().max_workers(1).name("").build().unwrap();
        let name = soon(nameless.submit(|| thread::current().name().map(str::to_owned)));
        assert_eq!(name.unwrap().as_deref(), Some("_0"));
    });
}

#[test]
fn the_number_of_a_worker_that_has_gone_is_used_again() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).name("reused").build().unwrap();
        for _ in 0..scaled(50) {
            let inner = pool.clone();
            let names = pool.submit(move || {
                let spare = |pool: &ThreadPoolExecutor| {
                    let name = || thread::current().name().map(str::to_owned).unwrap();
                    // A wait with a limit never runs the task in place.
                    pool.submit(name).result_timeout(Duration::from_secs(60)).unwrap().unwrap()
                };
                [spare(&inner), spare(&inner)]
            });
            for name in soon(names).unwrap() {
                let number = name.strip_prefix("reused_").unwrap();
                // The one that waits, its spare, and one that has not yet noticed its retirement.
                assert!(number.parse::<usize>().unwrap() <= 2, "{name}");
            }
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "stacks are not those of the system")]
fn the_stack_is_as_large_as_asked_for() {
    /// Uses about `kib` KiB of stack.
    fn deep(kib: usize) -> usize {
        let frame = std::hint::black_box([0u8; 1024]);
        if kib == 0 { 0 } else { 1 + deep(kib - 1) + usize::from(frame[kib % 1024]) }
    }

    within_limit(|| {
        let pool =
            ThreadPoolExecutor::builder().max_workers(1).stack_size(64 << 20).build().unwrap();
        // Far more than the default of 2 MiB.
        assert_eq!(soon(pool.submit(|| deep(16 << 10))).unwrap(), 16 << 10);
    });
}

#[test]
#[cfg_attr(miri, ignore = "stacks are not those of the system")]
fn a_stack_that_the_system_refuses_breaks_the_pool_and_says_why() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().stack_size(1 << 60).build().unwrap();
        let error = soon(pool.submit(|| 7)).unwrap_err();
        assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
        assert!(format!("{error:?}").contains("refused to start a worker thread"), "{error:?}");
        assert_eq!(pool.metrics().workers, 0);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn a_builder_can_be_used_again() {
    within_limit(|| {
        let builder = ThreadPoolExecutor::builder().max_workers(2).name("twin");
        let (one, two) = (builder.clone().build().unwrap(), builder.build().unwrap());
        soon(one.submit(|| ())).unwrap();
        assert_eq!((one.max_workers(), two.max_workers()), (2, 2));
        // Two pools, not one.
        assert_eq!((one.metrics().completed, two.metrics().completed), (1, 0));
        one.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(soon(two.submit(|| 7)).unwrap(), 7);
    });
}

#[test]
fn the_last_of_several_settings_counts() {
    let pool = ThreadPoolExecutor::builder().max_workers(0).max_workers(3).build().unwrap();
    assert_eq!(pool.max_workers(), 3);
}

// ---- Debug ----

#[track_caller]
fn shown(value: &impl Debug) -> String {
    // The pretty form goes through the same code with other separators.
    assert!(!format!("{value:#?}").is_empty());
    format!("{value:?}")
}

/// Everything public, while the pool is busy with this very job or with others.
fn show_everything(pool: &ThreadPoolExecutor) {
    let limit = Duration::from_secs(60);
    let (completer, promise) = TaskFuture::<u8>::promise();
    assert!(shown(&promise).contains("pending"));
    assert!(shown(&completer).starts_with("Completer"));
    assert!(shown(pool).starts_with("ThreadPoolExecutor"));
    assert!(shown(&pool.metrics()).starts_with("Metrics"));
    assert!(shown(&pool.metrics().run_time).starts_with("Histogram"));
    assert!(shown(&ThreadPoolExecutor::builder().initializer(|| ())).contains("initializer"));
    assert!(shown(&pool.task().label("a")).contains("\"a\""));
    assert!(shown(&call!(u64::pow(2, 3))).contains("(2, 3)"));
    assert!(shown(&block_on(pool.reserve()).unwrap()).starts_with("Permit"));
    assert!(shown(&InlineExecutor::new()).starts_with("InlineExecutor"));
    let map = pool.map(|n: u8| n, 0..3);
    assert!(shown(&map).starts_with("Map"));
    assert!(shown(&map.unordered().timeout(limit)).starts_with("Unordered"));
    let set = || [pool.submit(|| 1)];
    assert!(shown(&as_completed(set())).contains("total: 1"));
    assert!(shown(&as_completed(set()).timeout(limit)).contains("60s"));
    let mut waiting = wait(set(), ReturnWhen::AllCompleted);
    assert!(shown(&waiting).contains("AllCompleted"));
    waiting = waiting.timeout(limit);
    assert!(shown(&waiting).starts_with("Wait"));
    let task = pool.submit(|| 1);
    assert!(shown(&task).contains(&format!("{:?}", task.id())));
    assert_eq!(shown(&task.id()), format!("TaskId({})", task.id()));
    for how in [Shutdown::Drain, Shutdown::CancelQueued] {
        assert!(!shown(&how).is_empty());
    }
}

#[test]
fn debug_neither_blocks_nor_panics() {
    within_limit(|| {
        let pool = pool(2);
        show_everything(&pool);
        // Inside of a job, with the other worker held.
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let inner = pool.clone();
        soon(pool.submit(move || show_everything(&inner))).unwrap();
        // With all held.
        let inner_gate = Gate::new();
        let all_held = occupy(&pool, &inner_gate);
        show_everything(&pool);
        inner_gate.open();
        soon(all_held).unwrap();
        // While others use the pool's locks all the time.
        let clone = pool.clone();
        let busy = thread::spawn(move || {
            for n in 0..scaled(2_000) {
                drop(clone.submit(move || n));
            }
        });
        while !busy.is_finished() {
            show_everything(&pool);
        }
        busy.join().unwrap();
        gate.open();
        soon(held).unwrap();
        let mut end = pool.shutdown(Shutdown::Drain).deadline(Duration::from_secs(60));
        assert!(shown(&end).contains("60s"));
        let report = block_on(&mut end);
        assert!(shown(&report).starts_with("ShutdownReport"));
        show_nothing_new(&pool);
    });
}

/// A closed pool can be shown as well.
fn show_nothing_new(pool: &ThreadPoolExecutor) {
    assert!(shown(pool).starts_with("ThreadPoolExecutor"));
    assert!(shown(&pool.submit(|| 1)).contains("finished raised ShutDown"));
    assert!(shown(&pool.try_submit(|| 1).unwrap_err()).contains("ShutDown"));
}

#[test]
fn debug_of_a_future_tells_its_state() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate).pop().unwrap();
        let (queued, cancelled) = (pool.submit(|| 1u8), pool.submit(|| 1u8));
        let panics = pool.submit(|| panic!("shown"));
        assert!(cancelled.cancel());
        let state = |future: &dyn Debug| {
            let text = format!("{future:?}");
            let (_, state) = text.split_once("state: ").unwrap();
            state.trim_end_matches([' ', '}']).to_owned()
        };
        assert_eq!(state(&held), "running");
        assert_eq!(state(&queued), "pending");
        assert_eq!(state(&cancelled), "cancelled");
        gate.open();
        soon(held).unwrap();
        soon(pool.submit(|| ())).unwrap();
        assert_eq!(state(&queued), "finished returned u8");
        assert_eq!(state(&panics), "finished raised Panicked");
        drop::<TaskFuture<()>>(panics);
    });
}

#[test]
fn debug_of_a_future_works_in_its_own_callback_and_job() {
    within_limit(|| {
        use std::sync::{Arc, OnceLock, mpsc};

        let pool = pool(1);
        let (gate, myself) = (Gate::new(), Arc::new(OnceLock::<TaskFuture<()>>::new()));
        let (tell, told) = mpsc::channel();
        let (wait, in_job, in_callback) = (gate.clone(), Arc::clone(&myself), Arc::clone(&myself));
        let also_tell = tell.clone();
        let future = pool.submit(move || {
            wait.wait();
            tell.send(format!("{:?} {:?}", in_job.get().unwrap(), task::id())).unwrap();
        });
        future.add_done_callback(move |result| {
            also_tell.send(format!("{:?} {result:?}", in_callback.get().unwrap())).unwrap();
        });
        assert!(myself.set(future).is_ok());
        gate.open();
        assert!(told.recv().unwrap().contains("running"));
        assert!(told.recv().unwrap().ends_with("Ok(())"));
    });
}
