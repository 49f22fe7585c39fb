//! Options of tasks, on every executor: given to one task, to several, in a room that was waited for, and by
//! a job to what it submits itself.

use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{
    AnyExecutor, Call, Error, Executor, ExecutorService, Job, Label, Shutdown, StopToken,
    TaskOptions, ThreadPoolExecutor, call, task,
};

use crate::backend::{
    Closures, Held, LONG, Pool, SHORT, answer, assert_cancelled, assert_panicked, assert_timed_out,
    over_all_pools, over_closures, over_executors, over_pools, over_services,
};
use crate::support::{Counter, within_limit};

/// Returns whether it was asked to stop for its time limit.
fn until_stopped() -> bool {
    while !task::stop_requested() {
        thread::yield_now();
    }
    let token = task::stop_token();
    matches!(
        (task::checkpoint(), token.checkpoint()),
        (Err(Error::TimedOut { .. }), Err(Error::TimedOut { .. }))
    )
}

fn has_time_until() -> Option<Duration> {
    task::deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

#[test]
fn one_set_of_options_serves_many_tasks() {
    async fn check<E: Executor>(executor: E) {
        let options = TaskOptions::new().label("mine").timeout(LONG).queue_timeout(LONG).retries(1);
        for _ in 0..2 {
            let future = executor.submit_with(&options, call!(has_time_until()));
            assert_eq!(future.label(), Some("mine"));
            assert_eq!(future.handle().label(), Some("mine"));
            assert!(future.await.unwrap().unwrap() > LONG / 2);
        }
        let future =
            executor.task().label(String::from("made")).submit_call(call!(has_time_until()));
        assert_eq!(future.label(), Some("made"));
        assert_eq!(future.await.unwrap(), None);
    }
    over_executors!(check);
}

#[test]
fn a_job_past_its_time_limit_has_no_value() {
    async fn check<E: Executor>(executor: E) {
        let options = TaskOptions::new().timeout(SHORT);
        let slow = executor.submit_with(&options, call!(until_stopped()));
        assert_timed_out(&slow.await, SHORT, true);
        assert_eq!(executor.submit(call!(answer())).await.unwrap(), 42);
    }
    over_executors!(check);
}

#[test]
fn the_time_of_a_run_is_known_once_it_is_done() {
    fn sleep(micros: u64) {
        thread::sleep(Duration::from_micros(micros)); // what is measured
    }
    fn fail() {
        panic!("failed");
    }
    async fn check<E: Executor>(executor: E) {
        let future = executor.submit(call!(sleep(3_000)));
        let handle = future.handle();
        assert!(handle.run_time().is_none_or(|_| handle.is_done()));
        future.await.unwrap();
        assert!(handle.run_time().unwrap() >= Duration::from_millis(3));
        let labelled = executor.task().label("x").submit_call(call!(sleep(2_000)));
        let handle = labelled.handle();
        labelled.await.unwrap();
        assert!(handle.run_time().unwrap() >= Duration::from_millis(2));
        let failed = executor.submit(call!(fail()));
        let handle = failed.handle();
        assert!(failed.await.is_err());
        assert!(handle.run_time().is_some());
        let (completer, future) = concurrent_futures::TaskFuture::promise();
        completer.complete(Ok(7));
        assert_eq!(future.handle().run_time(), None);
    }
    over_executors!(check);
}

/// It has several polls, of which the last one alone is measured.
#[test]
fn the_time_of_an_async_job_is_not_known() {
    within_limit(|| {
        let future = ThreadPoolExecutor::new().submit_future(async { 7 });
        let handle = future.handle();
        assert_eq!(future.result().unwrap(), 7);
        assert_eq!(handle.run_time(), None);
    });
}

#[test]
fn what_has_not_run_has_no_time() {
    async fn check<P: Pool>(pool: P) {
        let held = P::held();
        let occupied = pool.occupy_all(&held);
        let running = occupied[0].handle();
        assert_eq!(running.run_time(), None);
        let queued = pool.submit(call!(answer()));
        assert!(queued.cancel());
        assert_eq!(queued.handle().run_time(), None);
        P::open(&held);
        for future in occupied {
            future.await.unwrap();
        }
        assert!(running.run_time().is_some());
    }
    over_all_pools!(check);
}

/// On threads and inline; a worker process is killed then.
#[test]
fn a_job_sees_that_its_time_limit_has_passed() {
    async fn check<E: Closures>(executor: E) {
        let (send, receive) = std::sync::mpsc::channel();
        let job = move || send.send(until_stopped()).unwrap();
        let future = executor.submit_job_with(&TaskOptions::new().timeout(SHORT), job);
        assert_timed_out(&future.await, SHORT, true);
        assert!(receive.recv().unwrap());
    }
    over_closures!(check);
}

#[test]
fn a_token_that_is_set_keeps_a_job_from_running() {
    async fn check<E: Executor>(executor: E) {
        let (source, token) = StopToken::new();
        let options = TaskOptions::new().stop_token(&token);
        assert_eq!(executor.submit_with(&options, call!(answer())).await.unwrap(), 42);
        source.stop();
        assert_cancelled(&executor.submit_with(&options, call!(answer())).await);
        let tried = executor.task().stop_token(&token).try_submit_call(call!(answer()));
        assert_cancelled(&tried.unwrap().await);
        let permit = executor.reserve().await.unwrap();
        assert_cancelled(&permit.task().stop_token(&token).submit_call(call!(answer())).await);
    }
    over_executors!(check);
}

#[test]
fn a_job_past_its_time_limit_has_failed_and_one_with_a_token_that_is_set_is_none() {
    async fn check<E: ExecutorService>(executor: E) {
        let options = TaskOptions::new().timeout(SHORT);
        assert!(executor.submit_with(&options, call!(until_stopped())).await.is_err());
        let (source, token) = StopToken::new();
        let options = TaskOptions::new().stop_token(&token);
        assert_eq!(executor.submit_with(&options, call!(answer())).await.unwrap(), 42);
        source.stop();
        assert_cancelled(&executor.submit_with(&options, call!(answer())).await);
        let now = executor.metrics();
        assert_eq!((now.submitted, now.completed, now.failed), (2, 1, 1));
    }
    over_services!(check);
}

#[test]
fn a_token_that_is_set_stops_a_job_that_runs() {
    async fn check<E: Closures>(executor: E) {
        let (source, token) = StopToken::new();
        let started = Counter::new();
        let stops = {
            let started = started.clone();
            thread::spawn(move || {
                started.wait_for(1);
                source.stop();
            })
        };
        let job = move || {
            started.add();
            until_stopped()
        };
        let future = executor.submit_job_with(&TaskOptions::new().stop_token(&token), job);
        assert!(!future.await.unwrap(), "not for a time limit");
        stops.join().unwrap();
    }
    over_closures!(check);
}

/// Inline the job is on the stack of the one that submits it.
#[test]
fn a_job_is_stopped_with_the_job_that_has_it_run_inline() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::new();
        let outer = pool.task().timeout(SHORT).submit(|| {
            let inline = concurrent_futures::InlineExecutor::new();
            inline.task().label("inner").timeout(LONG).submit(|| {
                while !task::stop_requested() {
                    thread::yield_now();
                }
            })
        });
        assert_timed_out(&outer.result(), SHORT, true);
    });
}

#[test]
fn a_room_that_was_waited_for_takes_a_task_with_options() {
    async fn check<P: Pool>(pool: P) {
        let options = TaskOptions::new().label("first").timeout(LONG);
        let first = pool.reserve().await.unwrap().task().options(&options);
        let first = first.submit_call(call!(has_time_until()));
        assert_eq!(first.label(), Some("first"));
        assert!(first.await.unwrap().is_some());
        let held = P::held();
        let occupied = pool.occupy_all(&held);
        let permit = pool.try_reserve().unwrap();
        let late = permit.task().label("late").queue_timeout(SHORT).submit_call(call!(answer()));
        assert_eq!(late.label(), Some("late"));
        assert_timed_out(&late.await, SHORT, false);
        P::open(&held);
        for task in occupied {
            assert_eq!(task.await.unwrap(), 42);
        }
    }
    over_all_pools!(check);
}

/// The room of a task that is not submitted, or not taken, is free again.
#[test]
fn no_room_is_lost_with_options() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let (source, token) = StopToken::new();
        source.stop();
        let permit = pool.try_reserve().unwrap();
        assert!(matches!(pool.try_reserve(), Err(Error::QueueFull { .. })));
        assert_cancelled(&permit.task().stop_token(&token).submit(|| 1).result());
        let permit = pool.try_reserve().unwrap();
        assert_eq!(permit.task().label("x").submit(|| 2).result().unwrap(), 2);
        let permit = pool.try_reserve().unwrap();
        assert_eq!(permit.submit_future(async { 3 }).result().unwrap(), 3);
        let permit = pool.try_reserve().unwrap();
        let waits = permit.task().timeout(SHORT).submit_future(std::future::pending::<()>());
        assert_timed_out(&waits.result(), SHORT, true);
        drop(pool.try_reserve().unwrap());
    });
}

/// What a job gives to its own submissions holds as if the program had given it.
#[test]
fn a_job_gives_options_to_what_it_submits() {
    fn slow() -> bool {
        until_stopped()
    }
    fn outer(max_workers: usize) -> (Option<String>, Outcomes) {
        let executor = AnyExecutor::current().expect("it is a job");
        let options = TaskOptions::new().label("inner").timeout(SHORT);
        let future = executor.submit_with(&options, call!(slow()));
        let label = future.label().map(str::to_owned);
        let timed_out = future.result().map_err(|error| describe(&error));
        let options = TaskOptions::new().timeout(LONG);
        let limit = executor.submit_with(&options, call!(has_time_until())).result();
        let limit = limit.map(|limit| limit.is_some_and(|limit| limit > LONG / 2));
        // It holds the only worker, and does not lend it out.
        let too_late = (max_workers == 1).then(|| {
            let future = executor.task().queue_timeout(SHORT).submit(call!(answer()));
            while !future.is_done() {
                thread::yield_now();
            }
            future.result().map_err(|error| describe(&error))
        });
        (label, (timed_out, limit.map_err(|error| describe(&error)), too_late))
    }
    type Outcomes = (Result<bool, String>, Result<bool, String>, Option<Result<u32, String>>);
    fn describe(error: &Error) -> String {
        match error {
            Error::TimedOut { limit, started, .. } => format!("{limit:?} {started}"),
            other => format!("{other:?}"),
        }
    }
    async fn check<P: Pool>(pool: P) {
        let max_workers = pool.max_workers();
        let (label, (timed_out, limit, too_late)) =
            pool.submit(call!(outer(max_workers))).await.unwrap();
        assert_eq!(label.as_deref(), Some("inner"));
        assert_eq!(timed_out, Err("20ms true".to_owned()));
        assert_eq!(limit, Ok(true));
        assert_eq!(too_late, (max_workers == 1).then(|| Err("20ms false".to_owned())));
    }
    over_all_pools!(check);
}

/// The label of what was given none is the path in `call!`.
#[test]
fn a_call_is_labelled_by_its_function() {
    async fn check<P: Pool>(pool: P) {
        let held = P::held();
        let occupied = pool.occupy_all(&held);
        let futures = [
            pool.submit(call!(self::answer())),
            pool.submit_with(&TaskOptions::new().timeout(LONG), call!(u32::pow(2, 5))),
            pool.task().label("mine").submit_call(call!(answer())),
            pool.submit(Call::new(|()| 7, ())),
        ];
        let labels = futures.each_ref().map(|future| future.label());
        assert_eq!(labels, [Some("self::answer"), Some("u32::pow"), Some("mine"), None]);
        let permit = pool.try_reserve().unwrap();
        assert_eq!(permit.submit_call(call!(answer())).label(), Some("answer"));
        let text = pool.dump().to_string();
        assert!(text.contains("\"self::answer\""), "{text}");
        P::open(&held);
        for future in occupied.into_iter().chain(futures) {
            future.await.unwrap();
        }
    }
    over_all_pools!(check);
}

#[test]
fn the_tasks_of_a_map_have_its_label() {
    over_pools(|pool| {
        let (held, started) = (Held::new(), Counter::new());
        let (gate, begun) = (held.gate(), started.clone());
        let map = pool.map(
            move |n: u32| {
                begun.add();
                gate.wait();
                n
            },
            0..8,
        );
        let map = map.chunk_size(1).label("rows").start();
        started.wait_for(pool.max_workers());
        let text = pool.dump().to_string();
        assert_eq!(text.matches("\"rows\"").count(), pool.max_workers(), "{text}");
        held.open();
        assert_eq!(map.result().unwrap().len(), 8);
    });
}

/// Whether it is told at once or gives the call back, and nothing of the room is kept.
#[test]
fn a_call_with_options_is_refused_as_one_without() {
    async fn check<E: ExecutorService>(executor: E) {
        let permit = executor.reserve().await.unwrap();
        executor.shutdown(Shutdown::Drain).await;
        let options = TaskOptions::new().label("late").timeout(LONG).retries(1);
        let future = executor.submit_with(&options, call!(answer()));
        assert!(matches!(future.await, Err(Error::ShutDown)));
        let refused = executor.task().options(&options).try_submit_call(call!(answer()));
        let refused = refused.unwrap_err();
        assert!(matches!(refused.error(), Error::ShutDown));
        assert_eq!(refused.into_job().run(), 42);
        let future = permit.task().options(&options).submit_call(call!(answer()));
        assert!(matches!(future.await, Err(Error::ShutDown)));
        assert_eq!(executor.metrics().submitted, 0);
    }
    over_services!(check);
}

#[test]
fn a_full_queue_refuses_a_call_with_options() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let held = Held::new();
        let (gate, started) = (held.gate(), Counter::new());
        let begun = started.clone();
        let running = pool.submit(move || {
            begun.add();
            gate.wait();
        });
        started.wait_for(1);
        let options = TaskOptions::new().label("thumb").queue_timeout(LONG);
        let queued = pool.submit_with(&options, || 1);
        let full = pool.submit_with(&options, || 2).result();
        assert!(matches!(full, Err(Error::QueueFull { capacity: 1, .. })));
        let refused = pool.task().options(&options).try_submit(|| 3).unwrap_err();
        assert!(matches!(refused.error(), Error::QueueFull { .. }));
        assert_eq!(refused.into_job()(), 3);
        drop(queued); // its room is free again
        let queued = pool.submit_with(&options, || 4);
        held.open();
        assert_eq!(queued.result().unwrap(), 4);
        running.result().unwrap();
    });
}

#[test]
fn a_job_with_options_may_panic() {
    fn fail() -> u32 {
        panic!("failed")
    }
    async fn check<E: Executor>(executor: E) {
        let options = TaskOptions::new().label("fails").timeout(LONG);
        assert_panicked(&executor.submit_with(&options, call!(fail())).await, "failed");
        assert_eq!(executor.submit_with(&options, call!(answer())).await.unwrap(), 42);
    }
    over_executors!(check);
}

/// Nobody polls, and no runtime is there.
#[test]
fn options_hold_for_a_task_that_was_detached() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let future = pool.task().timeout(SHORT).submit(until_stopped);
        let handle = future.handle();
        future.detach();
        assert_eq!(pool.submit(answer).result().unwrap(), 42); // the worker is free again
        assert!(handle.is_done());
    });
}

#[test]
fn labels_are_compared_by_their_text() {
    let labels: [Label; 4] = [
        "a".into(),
        String::from("a").into(),
        std::sync::Arc::<str>::from("a").into(),
        std::borrow::Cow::Borrowed("a").into(),
    ];
    assert!(labels.iter().all(|label| *label == "a" && *label == labels[0] && label.len() == 1));
    assert_eq!(Label::default(), "");
    let other = Label::from("b");
    assert!(labels[0] < other);
    assert_eq!(format!("{:>3}|{:?}", labels[1], labels[2]), "  a|\"a\"");
}
