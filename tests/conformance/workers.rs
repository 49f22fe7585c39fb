//! IN, WI: what a worker begins and ends with, and what its code knows of it: alike on both pools.
//!
//! The tools are those of processes, which are files: on threads they do as well.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;
use std::sync::OnceLock;

use concurrent_futures::{
    Call, Error, Executor, ExecutorService, InitializerOutcome, InlineExecutor, Panicked, Portable,
    PortableError, ProcessPoolBuilder, ProcessPoolExecutor, Shutdown, ThreadPoolBuilder,
    ThreadPoolExecutor, WorkerInfo, call,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};

use crate::backend::Pool;
use crate::processes::{self as tools, Gate, Reports};
use crate::support::{POOL_SIZES, within_limit};

/// The builders, with what both have.
trait Builder: Clone + fmt::Debug {
    type Pool: Pool + Clone;

    fn of(max_workers: usize) -> Self;
    fn name(self, name: &str) -> Self;
    fn initializer<A, R>(self, initializer: Call<A, R>) -> Self
    where
        A: Portable + Clone + Sync,
        R: InitializerOutcome + 'static;
    fn finalizer<A: Portable + Clone + Sync>(self, finalizer: Call<A, ()>) -> Self;
    fn build(self) -> Self::Pool;
}

impl Builder for ThreadPoolBuilder {
    type Pool = ThreadPoolExecutor;

    fn of(max_workers: usize) -> Self {
        ThreadPoolExecutor::builder().max_workers(max_workers)
    }

    fn name(self, name: &str) -> Self {
        self.name(name)
    }

    fn initializer<A, R>(self, initializer: Call<A, R>) -> Self
    where
        A: Portable + Clone + Sync,
        R: InitializerOutcome + 'static,
    {
        let (function, arguments) = initializer.into_parts();
        self.initializer(move || function(arguments.clone()))
    }

    fn finalizer<A: Portable + Clone + Sync>(self, finalizer: Call<A, ()>) -> Self {
        let (function, arguments) = finalizer.into_parts();
        self.finalizer(move || function(arguments.clone()))
    }

    fn build(self) -> ThreadPoolExecutor {
        self.build().unwrap()
    }
}

impl Builder for ProcessPoolBuilder {
    type Pool = ProcessPoolExecutor;

    fn of(max_workers: usize) -> Self {
        tools::builder(max_workers)
    }

    fn name(self, name: &str) -> Self {
        self.name(name)
    }

    fn initializer<A, R>(self, initializer: Call<A, R>) -> Self
    where
        A: Portable + Clone + Sync,
        R: InitializerOutcome + 'static,
    {
        self.initializer(initializer)
    }

    fn finalizer<A: Portable + Clone + Sync>(self, finalizer: Call<A, ()>) -> Self {
        self.finalizer(finalizer)
    }

    fn build(self) -> ProcessPoolExecutor {
        self.build().unwrap()
    }
}

/// Runs `fn check<B: Builder>(max_workers: usize)` over both builders, with one worker and with several.
macro_rules! over_builders {
    ($check:ident) => {
        within_limit(|| {
            for max_workers in POOL_SIZES {
                $check::<ThreadPoolBuilder>(max_workers);
                $check::<ProcessPoolBuilder>(max_workers);
            }
        })
    };
}

fn drain(pool: &impl Pool) {
    let report = pool.shutdown(Shutdown::Drain).result().unwrap();
    assert_eq!(report.running, []);
}

/// Which part of a worker's life has reported, above the worker's index.
const BEGIN: u32 = 1000;
const TASK: u32 = 2000;
const END: u32 = 3000;

fn report(what: u32, reports: Reports) {
    reports.add(what + index());
}

/// Reports, and goes on when the gate is open.
fn hold(what: u32, reports: Reports, gate: Gate) {
    report(what, reports);
    gate.wait();
}

fn index() -> u32 {
    WorkerInfo::current().unwrap().index() as u32
}

fn worker_of_item(_: u32) -> (usize, String) {
    let worker = WorkerInfo::current().unwrap();
    (worker.index(), worker.pool_name().to_owned())
}

fn is_inside() -> bool {
    WorkerInfo::current().is_some()
}

/// The reports of each worker, in order.
fn lives(reports: &Reports) -> BTreeMap<u32, Vec<u32>> {
    let mut lives = BTreeMap::<_, Vec<_>>::new();
    for report in reports.get() {
        lives.entry(report % 1000).or_default().push(report - report % 1000);
    }
    lives
}

/// WI-1, IN-4.
#[test]
fn a_worker_has_one_index_from_its_initializer_to_its_finalizer() {
    fn check<B: Builder>(max_workers: usize) {
        let (reports, gate) = (Reports::new(), Gate::new());
        let pool = B::of(max_workers)
            .initializer(call!(report(BEGIN, reports.clone())))
            .finalizer(call!(report(END, reports.clone())))
            .build();
        let tasks: Vec<_> = (0..max_workers)
            .map(|_| pool.submit(call!(hold(TASK, reports.clone(), gate.clone()))))
            .collect();
        reports.wait_for(2 * max_workers);
        gate.open();
        tasks.into_iter().for_each(|task| task.result().unwrap());
        drain(&pool);
        let all = (0..max_workers as u32).map(|index| (index, vec![BEGIN, TASK, END]));
        assert_eq!(lives(&reports), all.collect());
    }
    over_builders!(check);
}

/// WI-1.
#[test]
fn a_worker_knows_its_pool() {
    fn check<B: Builder>(max_workers: usize) {
        let pool = B::of(max_workers).name("render").build();
        assert!(pool.submit(call!(is_inside())).result().unwrap());
        let indices: HashSet<_> = (0..max_workers).collect();
        for (index, name) in pool.map(worker_of_item, 0..100).result().unwrap() {
            assert!(indices.contains(&index), "{index}");
            assert_eq!(name, "render");
        }
        drain(&pool);
    }
    over_builders!(check);
}

/// WI-1.
#[test]
fn there_is_no_worker_outside_of_pools_and_in_the_inline_executor() {
    assert_eq!(WorkerInfo::current(), None);
    let inline = InlineExecutor::new();
    assert!(!Executor::submit(&inline, call!(is_inside())).result().unwrap());
    // A job that it runs on a worker is on that worker.
    let pool = ThreadPoolExecutor::new();
    let nested = pool.submit(move || Executor::submit(&inline, call!(is_inside())).result());
    assert!(nested.result().unwrap().unwrap());
}

/// WI-2. Also between the last task and the end of the finalizer.
#[test]
fn no_two_workers_have_an_index_at_the_same_time() {
    /// Waits for a task of its own pool, for which the pool starts a spare.
    fn nest(reports: Reports, gate: Gate) {
        let child = call!(hold(TASK, reports, gate));
        concurrent_futures::AnyExecutor::current().unwrap().submit(child).result().unwrap();
    }

    fn check<B: Builder>(max_workers: usize) {
        let (reports, gate) = (Reports::new(), Gate::new());
        let pool = B::of(max_workers).build();
        let tasks: Vec<_> = (0..max_workers)
            .map(|_| pool.submit(call!(nest(reports.clone(), gate.clone()))))
            .collect();
        let mut indices = reports.wait_for(max_workers);
        gate.open();
        tasks.into_iter().for_each(|task| task.result().unwrap());
        drain(&pool);
        // The children, on spares or in place, have different workers.
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), max_workers, "{indices:?}");
        let places = TASK..TASK + 2 * max_workers as u32;
        assert!(indices.iter().all(|index| places.contains(index)), "{indices:?}");
    }
    over_builders!(check);
}

/// IN-4.
#[test]
fn a_shutdown_waits_for_the_finalizers() {
    fn check<B: Builder>(max_workers: usize) {
        let (reports, gate) = (Reports::new(), Gate::new());
        let pool =
            B::of(max_workers).finalizer(call!(hold(END, reports.clone(), gate.clone()))).build();
        let held = B::Pool::held();
        let tasks = pool.occupy_all(&held);
        B::Pool::open(&held);
        tasks.into_iter().for_each(|task| assert_eq!(task.result().unwrap(), 42));
        let mut end = pool.shutdown(Shutdown::Drain);
        reports.wait_for(max_workers);
        assert!((&mut end).now_or_never().is_none(), "they run");
        gate.open();
        end.result().unwrap();
        assert_eq!(lives(&reports).len(), max_workers);
        assert_eq!(reports.get().len(), max_workers);
    }
    over_builders!(check);
}

/// IN-4.
#[test]
fn finalizers_run_when_the_last_handle_is_dropped() {
    fn check<B: Builder>(max_workers: usize) {
        let reports = Reports::new();
        let pool = B::of(max_workers).finalizer(call!(report(END, reports.clone()))).build();
        let held = B::Pool::held();
        let tasks = pool.occupy_all(&held);
        drop(pool);
        B::Pool::open(&held);
        tasks.into_iter().for_each(|task| assert_eq!(task.result().unwrap(), 42));
        assert_eq!(reports.wait_for(max_workers).len(), max_workers);
    }
    over_builders!(check);
}

/// IN-4.
#[test]
fn a_worker_whose_initializer_has_failed_runs_no_finalizer() {
    fn refuse() -> Result<(), &'static str> {
        Err("no licence")
    }

    fn check<B: Builder>(max_workers: usize) {
        let reports = Reports::new();
        let builder = B::of(max_workers).finalizer(call!(report(END, reports.clone())));
        let pool = builder.initializer(call!(refuse())).build();
        let failed = pool.submit(call!(is_inside())).result();
        assert!(matches!(failed, Err(Error::BrokenPool(_))), "{failed:?}");
        drain(&pool);
        assert!(reports.get().is_empty());
    }
    over_builders!(check);
}

/// IN-4.
#[test]
fn a_finalizer_that_panics_harms_nothing() {
    fn fail(reports: Reports) {
        report(END, reports);
        panic!("on purpose")
    }

    fn check<B: Builder>(max_workers: usize) {
        let reports = Reports::new();
        let pool = B::of(max_workers).finalizer(call!(fail(reports.clone()))).build();
        let held = B::Pool::held();
        let tasks = pool.occupy_all(&held);
        B::Pool::open(&held);
        tasks.into_iter().for_each(|task| assert_eq!(task.result().unwrap(), 42));
        drain(&pool);
        let metrics = pool.metrics();
        let counts = (metrics.completed, metrics.failed, metrics.workers_lost, metrics.workers);
        assert_eq!(counts, (max_workers as u64, 0, 0, 0));
        assert_eq!(reports.get().len(), max_workers);
    }
    over_builders!(check);
}

/// An error with a cause.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NoLicence(u32);

impl fmt::Display for NoLicence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no licence for seat {}", self.0)
    }
}

impl std::error::Error for NoLicence {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static CAUSE: OnceLock<io::Error> = OnceLock::new();
        Some(CAUSE.get_or_init(|| io::Error::other("they are sold out")))
    }
}

/// IN-2. Text, `Debug` and causes are the error's own.
#[test]
fn the_error_of_an_initializer_is_the_same_on_both_pools() {
    fn with_cause(seat: u32) -> Result<(), NoLicence> {
        Err(NoLicence(seat))
    }
    fn portable(seat: u32) -> Result<(), PortableError> {
        Err(NoLicence(seat))?
    }
    fn text(seat: u32) -> Result<(), String> {
        Err(NoLicence(seat).to_string())
    }
    fn boxed(seat: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err(NoLicence(seat))?
    }

    /// The texts of the cause and of its cause.
    fn outcome<B: Builder, R: InitializerOutcome + 'static>(call: Call<(u32,), R>) -> Vec<String> {
        let pool = B::of(1).initializer(call).build();
        let Err(Error::BrokenPool(broken)) = pool.submit(call!(is_inside())).result() else {
            panic!("it is not broken")
        };
        let cause = broken.cause();
        let mut texts = vec![cause.to_string(), format!("{cause:?}")];
        texts.extend(cause.source().map(ToString::to_string));
        texts
    }

    fn check<B: Builder>(_: usize) {
        let whole = ["no licence for seat 7", "NoLicence(7)", "they are sold out"];
        assert_eq!(outcome::<B, _>(call!(with_cause(7))), whole);
        assert_eq!(outcome::<B, _>(call!(portable(7))), whole);
        assert_eq!(outcome::<B, _>(call!(boxed(7))), whole);
        assert_eq!(outcome::<B, _>(call!(text(7))), [whole[0], &format!("{:?}", whole[0])]);
    }
    over_builders!(check);
}

/// IN-2.
#[test]
fn an_initializer_may_return_nothing_or_panic() {
    fn panics() {
        panic!("no device")
    }

    fn check<B: Builder>(max_workers: usize) {
        let pool = B::of(max_workers).initializer(call!(ready())).build();
        assert!(pool.submit(call!(is_inside())).result().unwrap());
        drain(&pool);
        let pool = B::of(max_workers).initializer(call!(panics())).build();
        let Err(Error::BrokenPool(broken)) = pool.submit(call!(is_inside())).result() else {
            panic!("it is not broken")
        };
        let panicked = broken.cause().downcast_ref::<Panicked>().unwrap();
        assert_eq!(panicked.message(), "no device");
        drain(&pool);
    }

    fn ready() {}
    over_builders!(check);
}

/// Both have all settings.
#[test]
fn a_clone_of_a_builder_makes_a_pool_of_its_own() {
    fn check<B: Builder>(max_workers: usize) {
        let reports = Reports::new();
        let builder = B::of(max_workers)
            .name("twin")
            .initializer(call!(report(BEGIN, reports.clone())))
            .finalizer(call!(report(END, reports.clone())));
        let pools = [builder.clone().build(), builder.build()];
        for pool in &pools {
            let (_, name) = pool.submit(call!(worker_of_item(0))).result().unwrap();
            assert_eq!((name.as_str(), pool.max_workers()), ("twin", max_workers));
            drain(pool);
        }
        let reports = reports.get();
        let count = |part| reports.iter().filter(|report| **report / 1000 * 1000 == part).count();
        assert_eq!((count(BEGIN), count(END)), (2, 2));
    }
    over_builders!(check);
}

/// WI-1.
#[test]
fn the_threads_of_a_worker_process_belong_to_it_and_a_nested_pool_counts_before_it() {
    fn seen() -> [Option<String>; 3] {
        let name = || WorkerInfo::current().map(|worker| worker.pool_name().to_owned());
        let pool = ThreadPoolExecutor::builder().name("inner").build().unwrap();
        [name(), std::thread::spawn(name).join().unwrap(), pool.submit(name).result().unwrap()]
    }

    within_limit(|| {
        let names = |names: [Option<&str>; 3]| names.map(|name| name.map(str::to_owned));
        let processes = tools::builder(1).name("outer").build().unwrap();
        let expected = names([Some("outer"), Some("outer"), Some("inner")]);
        assert_eq!(processes.submit(call!(seen())).result().unwrap(), expected);
        let threads = ThreadPoolExecutor::builder().name("outer").build().unwrap();
        let expected = names([Some("outer"), None, Some("inner")]);
        assert_eq!(threads.submit(seen).result().unwrap(), expected);
    });
}
