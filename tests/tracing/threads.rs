//! On threads.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use concurrent_futures::{Error, Shutdown, TaskFuture, ThreadPoolExecutor, task};
use tracing::{Level, debug, error_span};

use crate::recorder::{EventRecord, Heard, Manner, SpanRecord, below_root, heard, reentered};
use crate::support::{Counter, Gate, POOL_SIZES, occupy, pool, within_limit};

pub(crate) const TARGET: &str = "concurrent_futures";

/// Runs `test` below a root span of its own, with one worker and with several.
fn over_pools(test: impl Fn(&ThreadPoolExecutor, u64) + Send + 'static) {
    over_pools_in(Manner::Records, test);
}

fn over_pools_in(manner: Manner, test: impl Fn(&ThreadPoolExecutor, u64) + Send + 'static) {
    within_limit(move || {
        for workers in POOL_SIZES {
            below_root(manner, |root| test(&pool(workers), root));
        }
    });
}

/// Every span that was entered was left, and those of the crate are closed.
pub(crate) fn check_ended(heard: &Heard) {
    for span in heard.spans() {
        // The test is in the root.
        let is_root = span.metadata.name() == "root";
        assert_eq!(span.entered, span.exited + usize::from(is_root), "{span:#?}");
        assert!(span.closed || span.metadata.target() != TARGET, "{span:#?}");
    }
    for event in &heard.events {
        assert!(!event.is_parent_closed, "{event:#?}");
    }
}

pub(crate) fn check_event(event: &EventRecord, level: Level, span: &SpanRecord) {
    assert_eq!((&*event.target, event.level), (TARGET, level));
    assert_eq!(event.parent, Some(span.id));
    assert_eq!(event.fields["task"], span.fields["id"]);
}

#[test]
fn the_span_that_is_current_at_the_submission_is_the_jobs_parent() {
    over_pools(|pool, root| {
        let job = || {
            debug!("in the job");
            task::id().unwrap()
        };
        let outer = error_span!("submitter");
        let future = outer.in_scope(|| pool.task().label("thumb").submit(job));
        let id = future.result().unwrap();

        let heard = heard(root);
        let (submitter, span) = (heard.the("submitter"), heard.the("task"));
        assert_eq!(span.parent, Some(submitter.id));
        assert_eq!((span.metadata.target(), *span.metadata.level()), (TARGET, Level::DEBUG));
        assert_eq!((&*span.fields["id"], &*span.fields["label"]), (&*id.to_string(), "thumb"));
        assert!(span.fields["pool"].starts_with("pool-"), "{span:#?}");
        assert_eq!(heard.messages(span.id), ["started", "in the job", "finished"]);
        let (started, finished) = (heard.event("started"), heard.event("finished"));
        check_event(started, Level::DEBUG, span);
        check_event(finished, Level::DEBUG, span);
        assert_eq!(started.fields["queue_time"], finished.fields["queue_time"]);
        assert_eq!((&*started.fields["label"], &*finished.fields["label"]), ("thumb", "thumb"));
        assert!(finished.fields["run_time"].ends_with('s'));
        assert_eq!(span.entered, 1);
        check_ended(&heard);
    });
}

/// Also while the future is kept: the time of the span is that of the task.
#[test]
fn the_span_is_closed_when_the_result_can_be_seen() {
    over_pools(|pool, root| {
        let futures: Vec<TaskFuture<()>> = (0..20).map(|_| pool.submit(|| ())).collect();
        for future in &futures {
            while !future.is_done() {
                std::thread::yield_now();
            }
        }
        assert_eq!(heard(root).named("task").len(), 20);
        check_ended(&heard(root));
        drop(futures);
    });
}

#[test]
fn a_span_without_a_parent_is_a_root() {
    within_limit(|| {
        below_root(Manner::Records, |_root| ()); // so that there is a subscriber
        let parent = pool(1).submit(|| tracing::Span::current().id()).result().unwrap();
        let task = heard(parent.unwrap().into_u64());
        assert_eq!(task.the("task").parent, None);
    });
}

#[test]
fn an_async_body_is_in_its_span_at_each_poll() {
    over_pools(|pool, root| {
        let mut polls = 0;
        let future = pool.submit_future(poll_fn(move |cx| {
            polls += 1;
            debug!("poll {polls}");
            if polls < 3 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        }));
        future.result().unwrap();
        let heard = heard(root);
        let span = heard.the("task");
        assert_eq!(heard.messages(span.id), ["started", "poll 1", "poll 2", "poll 3", "finished"]);
        assert_eq!(span.entered, 3);
        check_ended(&heard);
    });
}

#[test]
fn a_panic_is_a_failure() {
    over_pools(|pool, root| {
        pool.submit(|| -> () { panic!("no such luck") }).result().unwrap_err();
        let heard = heard(root);
        let (span, failed) = (heard.the("task"), heard.event("failed"));
        check_event(failed, Level::WARN, span);
        assert!(failed.fields["error"].contains("no such luck"), "{failed:#?}");
        assert_eq!(heard.messages(span.id), ["started", "failed"]);
        check_ended(&heard);
    });
}

#[test]
fn a_task_that_is_cancelled_never_starts() {
    over_pools(|pool, root| {
        let gate = Gate::new();
        let running: Vec<_> = (0..pool.max_workers()).map(|_| occupy(pool, &gate)).collect();
        error_span!("cancelled").in_scope(|| assert!(pool.submit(|| ()).cancel()));
        error_span!("dropped").in_scope(|| drop(pool.submit(|| ())));
        gate.open();
        running.into_iter().for_each(|future| future.result().unwrap());

        let heard = heard(root);
        for name in ["cancelled", "dropped"] {
            let span = heard.child(heard.the(name).id);
            assert_eq!(heard.messages(span.id), ["cancelled"]);
            assert_eq!(span.entered, 0);
            let event = heard.events.iter().find(|event| event.parent == Some(span.id));
            check_event(event.unwrap(), Level::DEBUG, span);
        }
        check_ended(&heard);
    });
}

/// A body that is dropped in the middle.
#[test]
fn an_async_body_that_is_cancelled_has_started() {
    over_pools(|pool, root| {
        let polled = Gate::new();
        let seen = polled.clone();
        let future = pool.submit_future(poll_fn(move |_| {
            seen.open();
            Poll::<()>::Pending
        }));
        polled.wait();
        while !future.cancel() && !future.is_cancelled() {
            std::thread::yield_now();
        }
        assert!(matches!(future.result(), Err(Error::Cancelled)));
        let heard = heard(root);
        assert_eq!(heard.messages(heard.the("task").id), ["started", "cancelled"]);
        check_ended(&heard);
    });
}

#[test]
fn a_task_that_is_out_of_time_has_failed_and_its_span_lasts_as_long_as_its_job() {
    over_pools(|pool, root| {
        let (gate, ended) = (Gate::new(), Counter::new());
        let (closed, count) = (gate.clone(), ended.clone());
        let job = move || {
            closed.wait();
            debug!("it goes on");
            count.add();
        };
        let limit = Duration::from_millis(1);
        let future = pool.task().timeout(limit).submit(job);
        while !future.is_done() {
            std::thread::yield_now();
        }
        assert!(!heard(root).the("task").closed);
        gate.open();
        ended.wait_for(1);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();

        let heard = heard(root);
        let (span, failed) = (heard.the("task"), heard.event("failed"));
        check_event(failed, Level::WARN, span);
        assert_eq!(heard.messages(span.id), ["started", "failed", "it goes on"]);
        check_ended(&heard);
        future.result().unwrap_err();
    });
}

#[test]
fn a_task_that_waits_too_long_has_failed() {
    over_pools(|pool, root| {
        let gate = Gate::new();
        let running: Vec<_> = (0..pool.max_workers()).map(|_| occupy(pool, &gate)).collect();
        let limit = Duration::from_millis(1);
        error_span!("late").in_scope(|| {
            pool.task().queue_timeout(limit).submit(|| ()).result().unwrap_err();
        });
        gate.open();
        running.into_iter().for_each(|future| future.result().unwrap());
        let heard = heard(root);
        let span = heard.child(heard.the("late").id);
        assert_eq!(heard.messages(span.id), ["failed"]);
        check_ended(&heard);
    });
}

#[test]
fn a_refused_job_leaves_no_trace_but_a_closed_span() {
    over_pools(|pool, root| {
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert!(matches!(pool.submit(|| ()).result(), Err(Error::ShutDown)));
        let heard = heard(root);
        assert_eq!(heard.messages(heard.the("task").id), [""; 0]);
        check_ended(&heard);
    });
}

/// The worker is in the outer job's span again when the inner one has run in its place.
#[test]
fn a_job_that_waits_for_another_is_its_parent() {
    over_pools(|pool, root| {
        let handle = pool.clone();
        let outer = pool.task().label("outer").submit(move || {
            let inner = handle.task().label("inner").submit(|| debug!("inside"));
            inner.result().unwrap();
            debug!("outside");
        });
        outer.result().unwrap();
        let heard = heard(root);
        let tasks = heard.named("task");
        let (outer, inner) = (tasks[0], tasks[1]);
        assert_eq!((&*outer.fields["label"], &*inner.fields["label"]), ("outer", "inner"));
        assert_eq!((outer.parent, inner.parent), (Some(root), Some(outer.id)));
        assert_eq!(heard.messages(inner.id), ["started", "inside", "finished"]);
        assert_eq!(heard.messages(outer.id), ["started", "outside", "finished"]);
        check_ended(&heard);
    });
}

#[test]
fn a_map_is_one_span_for_all_of_its_chunks() {
    over_pools(|pool, root| {
        let input = (0..40).inspect(|n| debug!("takes {n}"));
        let map = error_span!("caller").in_scope(|| pool.map(|n| debug!("item {n}"), input));
        map.chunk_size(5).result().unwrap();
        let heard = heard(root);
        let span = heard.the("map");
        assert_eq!(span.parent, Some(heard.the("caller").id));
        assert_eq!((span.metadata.target(), *span.metadata.level()), (TARGET, Level::DEBUG));
        let messages = heard.messages(span.id);
        for n in 0..40 {
            assert!(messages.contains(&&*format!("item {n}")));
            assert!(messages.contains(&&*format!("takes {n}")));
        }
        assert_eq!(messages.len(), 80);
        // Eight chunks at least; each is taken and computed.
        assert!(span.entered >= 16, "{span:#?}");
        assert!(heard.named("task").is_empty());
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        check_ended(&self::heard(root));
    });
}

#[test]
fn where_a_filter_wants_no_spans_of_the_crate_jobs_run_in_the_submitters() {
    over_pools_in(Manner::FiltersSpans, |pool, root| {
        let outer = error_span!("submitter");
        outer.in_scope(|| {
            pool.submit(|| debug!("in the job")).result().unwrap();
            pool.map(|n| debug!("item {n}"), 0..1).result().unwrap();
        });
        let heard = heard(root);
        assert!(heard.named("task").is_empty() && heard.named("map").is_empty());
        let messages = heard.messages(heard.the("submitter").id);
        assert_eq!(messages, ["started", "in the job", "finished", "item 0"]);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        check_ended(&self::heard(root));
    });
}

#[test]
fn a_subscriber_that_panics_harms_nothing() {
    over_pools_in(Manner::Panics, |pool, _root| {
        assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
        assert_eq!(pool.submit_future(async { 2 }).result().unwrap(), 2);
        pool.submit(|| -> () { panic!("the job") }).result().unwrap_err();
        let gate = Gate::new();
        let running: Vec<_> = (0..pool.max_workers()).map(|_| occupy(pool, &gate)).collect();
        assert!(pool.submit(|| ()).cancel());
        gate.open();
        running.into_iter().for_each(|future| future.result().unwrap());
        let metrics = pool.metrics();
        assert_eq!((metrics.failed, metrics.cancelled), (1, 1));
        assert_eq!(pool.map(|n| n, 0..3).result().unwrap(), [0, 1, 2]);
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(report.running.len() + report.queued, 0);
    });
}

#[test]
fn a_subscriber_may_use_a_pool() {
    over_pools_in(Manner::Submits, |pool, root| {
        pool.submit(|| debug!("in the job")).result().unwrap();
        reentered().submit(|| debug!("in the job")).result().unwrap();
        // Behind all that was submitted in these calls.
        reentered().submit(|| ()).result().unwrap();
        let heard = heard(root);
        // What it submits in a call from a pool is not traced, or there would be no end.
        assert!(heard.named("task").len() < 10, "{heard:#?}");
        check_ended(&heard);
    });
}

/// Where a hook is set, the hook gets it instead.
#[test]
fn an_unobserved_failure_is_told_of() {
    over_pools(|pool, root| {
        let task = pool.task().label("lost");
        let future = task.submit(|| -> () { panic!("no such luck") });
        while !future.is_done() {
            std::thread::yield_now();
        }
        drop(future); // on this thread, so below the root
        let heard = heard(root);
        let unobserved = heard.event("failure unobserved");
        assert_eq!((&*unobserved.target, unobserved.level), (TARGET, Level::WARN));
        assert_eq!(unobserved.parent, Some(root));
        assert!(unobserved.fields["label"].contains("lost"), "{unobserved:#?}");
        assert!(unobserved.fields["error"].contains("no such luck"), "{unobserved:#?}");

        let quiet = ThreadPoolExecutor::builder().on_unobserved_failure(|_| ()).build().unwrap();
        drop(quiet.submit(|| -> () { panic!("a hook hears of it") }));
        quiet.shutdown_blocking(Shutdown::Drain).unwrap();
        let told: Vec<_> = crate::recorder::heard(root)
            .events
            .into_iter()
            .filter(|event| event.message == "failure unobserved")
            .collect();
        assert_eq!(told.len(), 1);
    });
}
