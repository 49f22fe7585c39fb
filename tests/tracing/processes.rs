//! Across processes: the workers' subscribers send what the jobs tell to the one of this process.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use concurrent_futures::{Error, ParentPool, ProcessPoolExecutor, Shutdown, call};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, debug, error, error_span, info, trace, warn};

use crate::recorder::{EventRecord, Manner, below_root, heard, of_no_span};
use crate::support::within_limit;
use crate::threads::{TARGET, check_ended, check_event};

/// Runs `test` below a root span of its own, with a pool of one worker whose name is `name`.
fn over_processes(
    name: &'static str,
    test: impl FnOnce(&ProcessPoolExecutor, u64) + Send + 'static,
) {
    within_limit(move || {
        below_root(Manner::Records, |root| {
            let builder = ProcessPoolExecutor::builder().max_workers(1).name(name);
            let pool = builder.build().unwrap();
            test(&pool, root);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            check_ended(&heard(root));
        });
    });
}

/// It comes from a job in that process.
fn check_record(event: &EventRecord, level: Level, pid: u32) {
    assert_eq!((&*event.target, event.level), ("concurrent_futures::worker", level));
    assert_eq!(event.fields["pid"], pid.to_string());
    assert_eq!(event.fields["target"], "tracing::processes");
    assert!(event.fields["file"].ends_with("tests/tracing/processes.rs"), "{event:#?}");
    assert!(event.fields["line"].parse::<u32>().is_ok_and(|line| line > 20), "{event:#?}");
}

fn tells(n: u32) -> u32 {
    error!("one");
    warn!(n, text = "quoted", "two");
    info!(target: "tracing::processes", value = ?Some(n), "three {}", n + 1);
    debug!(n);
    trace!("five");
    process::id()
}

#[test]
fn what_a_job_tells_in_its_process_is_below_its_span() {
    over_processes("told", |pool, root| {
        let submitter = error_span!("submitter");
        let options = pool.task().label("teller");
        let pid = submitter.in_scope(|| options.submit(call!(tells(1)))).result().unwrap();
        let heard = heard(root);
        let span = heard.the("task");
        assert_eq!(span.parent, Some(heard.the("submitter").id));
        assert_eq!((&*span.fields["label"], &*span.fields["pool"]), ("teller", "told"));
        let messages = heard.messages(span.id);
        let told = ["one", "two n=1 text=\"quoted\"", "three 2 value=Some(1)", " n=1", "five"];
        assert_eq!(messages[..1], ["started"]);
        assert_eq!(messages[1..6], told);
        assert_eq!(messages[6..], ["finished"]);
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        for (event, level) in heard.events[1..6].iter().zip(levels) {
            check_record(event, level, pid);
        }
        check_event(heard.event("started"), Level::DEBUG, span);
        check_event(heard.event("finished"), Level::DEBUG, span);
        assert!(span.closed);
        // Nobody runs in it here.
        assert_eq!(span.entered, 0);
    });
}

#[test]
fn tasks_of_one_worker_are_told_apart() {
    over_processes("apart", |pool, root| {
        let tasks: Vec<_> = (0..20).map(|n| (n, pool.submit(call!(tells(n))))).collect();
        let ids: Vec<_> = tasks.into_iter().map(|(n, task)| (n, task.result())).collect();
        let heard = heard(root);
        let spans = heard.named("task");
        for ((n, pid), span) in ids.into_iter().zip(spans) {
            pid.unwrap();
            assert_eq!(heard.messages(span.id)[4], format!(" n={n}"));
            assert_eq!(heard.messages(span.id).len(), 7);
        }
    });
}

fn item(n: u32) -> u32 {
    info!("item {n}");
    n
}

#[test]
fn items_of_a_map_are_below_its_span() {
    over_processes("mapped", |pool, root| {
        let items = error_span!("caller").in_scope(|| pool.map(item, 0..30));
        assert_eq!(items.result().unwrap().len(), 30);
        let heard = heard(root);
        let span = heard.the("map");
        assert_eq!(span.parent, Some(heard.the("caller").id));
        let mut messages = heard.messages(span.id);
        messages.sort_unstable();
        messages.dedup();
        assert_eq!(messages.len(), 30);
        assert!(heard.named("task").is_empty());
    });
}

fn panics() {
    info!("before");
    panic!("no such luck");
}

#[test]
fn a_panic_in_the_process_is_a_failure() {
    over_processes("panics", |pool, root| {
        pool.submit(call!(panics())).result().unwrap_err();
        let heard = heard(root);
        let (span, failed) = (heard.the("task"), heard.event("failed"));
        check_event(failed, Level::WARN, span);
        assert!(failed.fields["error"].contains("no such luck"));
        assert_eq!(heard.messages(span.id), ["started", "before", "failed"]);
    });
}

fn dies() {
    info!("last words");
    process::abort();
}

#[test]
fn a_lost_worker_is_told_of_and_so_is_the_one_that_takes_its_place() {
    over_processes("mortal", |pool, root| {
        let pid = pool.submit(call!(tells(1))).result().unwrap();
        let lost = error_span!("lost").in_scope(|| pool.submit(call!(dies())).result());
        assert!(matches!(lost, Err(Error::WorkerLost(_))));
        pool.submit(call!(tells(2))).result().unwrap();

        let heard = heard(root);
        let span = heard.child(heard.the("lost").id);
        assert_eq!(heard.messages(span.id), ["started", "last words", "failed"]);
        let events = of_no_span();
        let is_this = |event: &&EventRecord| {
            event.message == "worker lost" && event.fields["how"].contains(&pid.to_string())
        };
        let lost = events.iter().find(is_this).unwrap();
        assert_eq!((&*lost.target, lost.level), (TARGET, Level::WARN));
        assert!(lost.fields["how"].contains("SIGABRT"), "{lost:#?}");
        let is_of_pool =
            |event: &&EventRecord| event.fields.get("pool").is_some_and(|p| p == "mortal");
        let replaced: Vec<_> = events.iter().filter(is_of_pool).collect();
        assert_eq!(replaced.len(), 1);
        assert_eq!((&*replaced[0].message, replaced[0].level), ("worker replaced", Level::INFO));
    });
}

fn waits() {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_task_that_is_killed_is_cancelled() {
    over_processes("killed", |pool, root| {
        let running = pool.submit(call!(waits()));
        while !running.is_running() {
            std::thread::yield_now();
        }
        let queued = error_span!("queued").in_scope(|| pool.submit(call!(waits())));
        assert!(queued.cancel());
        assert!(running.kill());
        let heard = heard(root);
        assert_eq!(heard.messages(heard.named("task")[0].id), ["started", "cancelled"]);
        let span = heard.child(heard.the("queued").id);
        assert_eq!(heard.messages(span.id), ["cancelled"]);
    });
}

fn outer() {
    let pool = ParentPool::current().unwrap();
    pool.submit(call!(tells(5))).result().unwrap();
    info!("outside");
}

#[test]
fn what_a_worker_submits_belongs_to_its_task() {
    over_processes("nested", |pool, root| {
        pool.submit(call!(outer())).result().unwrap();
        let heard = heard(root);
        let messages = heard.messages(heard.the("task").id);
        assert_eq!(messages.len(), 8, "{messages:?}");
        assert_eq!((messages[4], messages[6], messages[7]), (" n=5", "outside", "finished"));
    });
}

fn tells_much() {
    info!("{}", "long ".repeat(100_000));
}

#[test]
fn a_long_event_is_cut() {
    over_processes("long", |pool, root| {
        pool.submit(call!(tells_much())).result().unwrap();
        let heard = heard(root);
        let messages = heard.messages(heard.the("task").id);
        assert_eq!(messages[1].len(), 8 * 1024);
        assert!(messages[1].starts_with("long long "));
    });
}

/// Only counts.
struct Own;

static OWN: AtomicUsize = AtomicUsize::new(0);

impl Subscriber for Own {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        OWN.fetch_add(1, Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn install_own() -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(Own)
}

fn counts() -> usize {
    info!("for the worker's own subscriber");
    OWN.load(Relaxed)
}

#[test]
fn a_subscriber_of_the_initializer_is_used_instead() {
    within_limit(|| {
        below_root(Manner::Records, |root| {
            let builder = ProcessPoolExecutor::builder().initializer(call!(install_own()));
            let pool = builder.max_workers(1).build().unwrap();
            assert_eq!(pool.submit(call!(counts())).result().unwrap(), 1);
            assert_eq!(pool.submit(call!(counts())).result().unwrap(), 2);
            let heard = heard(root);
            for span in heard.named("task") {
                assert_eq!(heard.messages(span.id), ["started", "finished"]);
            }
        });
    });
}

fn adds() {
    info!("the initializer's"); // nobody listens yet
}

#[test]
fn an_event_of_the_initializer_that_has_no_listener_is_dropped() {
    within_limit(|| {
        below_root(Manner::Records, |root| {
            let builder = ProcessPoolExecutor::builder().initializer(call!(adds())).max_workers(1);
            let pool = builder.build().unwrap();
            pool.submit(call!(tells(1))).result().unwrap();
            let heard = heard(root);
            assert_eq!(heard.messages(heard.the("task").id).len(), 7);
        });
    });
}

#[test]
fn a_subscriber_that_panics_harms_no_pool_of_processes() {
    within_limit(|| {
        below_root(Manner::Panics, |_root| {
            let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
            pool.submit(call!(tells(1))).result().unwrap();
            assert_eq!(pool.map(item, 0..10).result().unwrap().len(), 10);
            pool.submit(call!(panics())).result().unwrap_err();
            pool.submit(call!(dies())).result().unwrap_err();
            pool.submit(call!(tells(1))).result().unwrap();
            let running = pool.submit(call!(waits()));
            assert!(running.kill());
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        });
    });
}
