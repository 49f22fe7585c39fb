//! `cancel`, the stop request that a running job sees, and every way to end a task at every
//! moment of its life, with exact counts.

use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Shutdown, TaskFuture, ThreadPoolExecutor, task};
use futures::executor::block_on;

use crate::support::{Counter, Gate, POOL_SIZES, occupy, pool, scaled, within_limit};
use crate::tools::{Drops, eventually, occupy_all, soon};

#[test]
fn a_queued_task_is_withdrawn_at_once_on_the_cancelling_thread() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let _held = occupy_all(&pool, &gate);
            let (closures, runs) = (Drops::new(), Counter::new());
            let (captured, run) = (closures.value(), runs.clone());
            let future = pool.submit(move || {
                let _captured = captured;
                run.add();
            });
            assert!(!future.is_done() && !future.is_running() && !future.is_cancelled());
            assert!(future.cancel());
            closures.assert_here(1);
            assert!(future.is_done() && !future.is_running() && future.is_cancelled());
            assert_eq!((pool.metrics().queued, pool.metrics().cancelled), (0, 1));
            assert!(future.cancel(), "idempotent");
            assert_eq!(pool.metrics().cancelled, 1, "counted once");
            assert!(matches!(soon(future), Err(Error::Cancelled)));
            gate.open();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!((runs.get(), closures.count()), (0, 1));
        }
    });
}

#[test]
fn a_running_task_is_asked_to_stop() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (started, asked) = (Gate::new(), Gate::new());
            let (inside, wait) = (started.clone(), asked.clone());
            let future = pool.submit(move || {
                let before = (task::stop_requested(), task::checkpoint().is_ok());
                inside.open();
                wait.wait();
                let after = (task::stop_requested(), task::checkpoint());
                (before, after.0, matches!(after.1, Err(Error::Cancelled)))
            });
            started.wait();
            assert!(!future.cancel(), "it is running");
            assert!(!future.cancel(), "it still is");
            assert!(!future.is_done() && future.is_running() && !future.is_cancelled());
            asked.open();
            // The job's own value stays the result.
            assert_eq!(soon(future).unwrap(), ((false, true), true, true));
            assert_eq!((pool.metrics().completed, pool.metrics().cancelled), (1, 0));
        }
    });
}

#[test]
fn a_finished_task_stays_as_it_is() {
    within_limit(|| {
        let pool = pool(1);
        let (value, panicked) = (pool.submit(|| 7), pool.submit(|| panic!("seven")));
        soon(pool.submit(|| ())).unwrap();
        for _ in 0..2 {
            assert!(!value.cancel() && !panicked.cancel());
            assert!(!value.is_cancelled() && !panicked.is_cancelled());
            assert!(value.is_done() && panicked.is_done());
        }
        assert_eq!(soon(value).unwrap(), 7);
        assert!(matches!(soon::<()>(panicked), Err(Error::Panicked(_))));
        assert_eq!(pool.metrics().cancelled, 0);
    });
}

#[test]
fn a_cancelled_task_stays_cancelled_when_its_result_is_taken() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let mut future = pool.submit(|| 7);
        assert!(future.cancel());
        assert!(matches!(future.result_timeout(Duration::ZERO), Some(Err(Error::Cancelled))));
        assert!(future.cancel() && future.is_cancelled() && future.is_done());
        assert!(matches!(future.result_timeout(Duration::ZERO), Some(Err(Error::ResultTaken))));
        gate.open();
    });
}

#[test]
fn a_refused_task_was_not_cancelled() {
    within_limit(|| {
        let pool = pool(1);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        let future = pool.submit(|| 7);
        assert!(!future.cancel() && !future.is_cancelled() && future.is_done());
        assert!(matches!(soon(future), Err(Error::ShutDown)));
    });
}

#[test]
fn a_thread_that_waits_is_released_by_a_cancel() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let future = Arc::new(pool.submit(|| 7));
        let (completer, mut promise) = TaskFuture::<u32>::promise();
        future.add_done_callback(move |result| {
            completer.complete(Err(match result {
                Err(Error::Cancelled) => Error::Cancelled,
                _ => Error::ResultTaken,
            }));
        });
        let waiting = thread::spawn(move || promise.result_timeout(Duration::MAX));
        assert!(future.cancel());
        assert!(matches!(waiting.join().unwrap(), Some(Err(Error::Cancelled))));
        gate.open();
    });
}

#[test]
fn outside_of_a_job_there_is_no_request_to_stop() {
    within_limit(|| {
        assert!(!task::stop_requested());
        assert!(task::checkpoint().is_ok());
        assert_eq!((task::id(), task::deadline()), (None, None));
    });
}

#[test]
fn a_stop_request_is_for_one_task_and_not_for_the_next_on_its_worker() {
    within_limit(|| {
        let pool = pool(1);
        let (gate, started) = (Gate::new(), Gate::new());
        let (inside, wait) = (started.clone(), gate.clone());
        let stopped = pool.submit(move || {
            inside.open();
            wait.wait();
            task::stop_requested()
        });
        let next = pool.submit(task::stop_requested);
        started.wait();
        assert!(!stopped.cancel());
        gate.open();
        assert!(soon(stopped).unwrap());
        assert!(!soon(next).unwrap());
    });
}

#[test]
fn a_task_run_in_place_has_its_own_stop_request_and_its_own_id() {
    within_limit(|| {
        let pool = pool(1);
        let (gate, started) = (Gate::new(), Gate::new());
        let (inside, wait, inner_pool) = (started.clone(), gate.clone(), pool.clone());
        let outer = pool.submit(move || {
            inside.open();
            wait.wait();
            let inner = inner_pool.submit(|| (task::stop_requested(), task::id()));
            let inner_id = inner.id();
            let seen = inner.result().unwrap();
            (seen, inner_id, task::stop_requested(), task::id())
        });
        started.wait();
        let outer_id = outer.id();
        assert!(!outer.cancel());
        gate.open();
        let ((inner_asked, inner_saw), inner_id, outer_asked, outer_saw) = soon(outer).unwrap();
        assert!(!inner_asked && outer_asked);
        assert_eq!((inner_saw, outer_saw), (Some(inner_id), Some(outer_id)));
        assert_ne!(inner_id, outer_id);
    });
}

#[test]
fn a_job_may_cancel_itself() {
    within_limit(|| {
        let pool = pool(1);
        let (gate, myself) = (Gate::new(), Arc::new(OnceLock::<TaskFuture<(bool, bool)>>::new()));
        let (wait, me) = (gate.clone(), Arc::clone(&myself));
        let (tell, told) = mpsc::channel();
        let future = pool.submit(move || {
            wait.wait();
            let said = me.get().unwrap().cancel();
            tell.send((said, task::stop_requested())).unwrap();
            (said, task::stop_requested())
        });
        assert!(myself.set(future).is_ok());
        gate.open();
        assert_eq!(told.recv(), Ok((false, true)));
    });
}

#[test]
fn a_callback_may_cancel_others_and_itself() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let other = Arc::new(pool.submit(|| 1));
        let first = Arc::new(pool.submit(|| 2));
        let (tell, told) = mpsc::channel();
        let (in_callback, itself) = (Arc::clone(&other), Arc::downgrade(&first));
        first.add_done_callback(move |_| {
            // It will not run, which is what the answer says.
            let itself = itself.upgrade().is_some_and(|future| future.cancel());
            tell.send((in_callback.cancel(), itself)).unwrap();
        });
        assert!(first.cancel());
        assert_eq!(told.recv(), Ok((true, true)));
        assert!(other.is_cancelled() && first.is_cancelled());
        assert_eq!(pool.metrics().cancelled, 2);
        gate.open();
    });
}

#[test]
fn two_threads_that_cancel_a_queued_task_hear_the_same() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let closures = Drops::new();
        for round in 1..=scaled(2_000) {
            let captured = closures.value();
            let future = pool.submit(move || drop(captured));
            let start = Barrier::new(2);
            thread::scope(|scope| {
                let cancel = || {
                    start.wait();
                    future.cancel()
                };
                let other = scope.spawn(cancel);
                assert!(cancel());
                assert!(other.join().unwrap());
            });
            assert!(future.is_cancelled());
            assert_eq!((closures.count(), pool.metrics().cancelled), (round, round as u64));
        }
        gate.open();
    });
}

#[test]
fn two_threads_that_cancel_a_promise_hear_the_same() {
    within_limit(|| {
        let (completer, future) = TaskFuture::<()>::promise();
        let (inside, gate) = (Gate::new(), Gate::new());
        let (tell, wait) = (inside.clone(), gate.clone());
        // Holds the first cancel up where it has won and is not through.
        future.add_done_callback(move |_| {
            tell.open();
            wait.wait();
        });
        thread::scope(|scope| {
            let first = scope.spawn(|| future.cancel());
            inside.wait();
            let second = future.cancel();
            gate.open();
            assert!(first.join().unwrap());
            assert!(future.is_cancelled());
            assert!(second, "it was withdrawn");
        });
        assert!(completer.is_closed());
    });
}

#[test]
fn cancelling_and_completing_a_promise_at_once_has_one_winner() {
    within_limit(|| {
        let values = Drops::new();
        for round in 1..=scaled(2_000) {
            let (completer, future) = TaskFuture::promise();
            let start = Barrier::new(2);
            let value = values.value();
            let said = thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    completer.complete(Ok(value));
                });
                start.wait();
                future.cancel()
            });
            assert_eq!(said, future.is_cancelled());
            match soon(future) {
                Ok(_) => assert!(!said),
                Err(error) => assert!(said && matches!(error, Error::Cancelled)),
            }
            assert_eq!(values.count(), round);
        }
    });
}

// ---- Every job, every moment, every action ----

#[derive(Clone, Copy, Debug, PartialEq)]
enum Job {
    Returns,
    Panics,
    /// Returns once a gate opens, which is the last thing that happens.
    Blocks,
}

/// When the action comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Queued,
    Running,
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Cancel,
    Drop,
    Detach,
    Await,
    /// Adds a callback, then drops the future.
    Callback,
}

/// What `cancel` says, and whether the job runs.
#[derive(Clone, Copy, Debug)]
struct Expected {
    cancelled: bool,
    runs: usize,
}

const RUNS: Expected = Expected { cancelled: false, runs: 1 };
const IS_WITHDRAWN: Expected = Expected { cancelled: true, runs: 0 };

/// The table is the same for every job: what it does is not known before it runs.
const TABLE: [(Action, [(Moment, Expected); 3]); 5] = {
    use Moment::{Finished, Queued, Running};
    [
        (Action::Cancel, [(Queued, IS_WITHDRAWN), (Running, RUNS), (Finished, RUNS)]),
        (Action::Drop, [(Queued, IS_WITHDRAWN), (Running, RUNS), (Finished, RUNS)]),
        (Action::Detach, [(Queued, RUNS), (Running, RUNS), (Finished, RUNS)]),
        (Action::Await, [(Queued, RUNS), (Running, RUNS), (Finished, RUNS)]),
        (Action::Callback, [(Queued, RUNS), (Running, RUNS), (Finished, RUNS)]),
    ]
};

#[test]
fn every_action_at_every_moment_of_every_job_has_exact_counts() {
    within_limit(|| {
        for workers in POOL_SIZES {
            for job in [Job::Returns, Job::Panics, Job::Blocks] {
                for (action, row) in TABLE {
                    for (moment, expected) in row {
                        run_case(workers, job, action, moment, expected);
                    }
                }
            }
        }
    });
}

fn run_case(workers: usize, job: Job, action: Action, moment: Moment, expected: Expected) {
    let case = format!("{job:?}, {action:?}, {moment:?}, {workers} workers");
    let pool = pool(workers);
    let hold = Gate::new();
    let held = if moment == Moment::Queued { occupy_all(&pool, &hold) } else { Vec::new() };

    let (closures, values, payloads) = (Drops::new(), Drops::new(), Drops::new());
    let (started, go, runs) = (Gate::new(), Gate::new(), Counter::new());
    let future = {
        let (captured, value, payload) = (closures.value(), values.clone(), payloads.clone());
        let (started, go, runs) = (started.clone(), go.clone(), runs.clone());
        pool.submit(move || {
            let _captured = captured;
            runs.add();
            started.open();
            go.wait();
            match job {
                Job::Panics => panic_any(payload.value()),
                Job::Returns | Job::Blocks => value.value(),
            }
        })
    };
    match moment {
        Moment::Queued if job != Job::Blocks => go.open(),
        Moment::Queued => {}
        Moment::Running => started.wait(),
        Moment::Finished => {
            go.open();
            while !future.is_done() {
                thread::yield_now();
            }
        }
    }

    // Opens everything that is still closed, in the order of the task's life.
    let release = || {
        hold.open();
        go.open();
    };
    let (mut taken, mut seen_by_callback) = (None, None);
    match action {
        Action::Cancel => {
            assert_eq!(future.cancel(), expected.cancelled, "{case}");
            assert_eq!(future.is_cancelled(), expected.cancelled, "{case}");
            if expected.cancelled {
                closures.assert_here(1);
            }
            release();
            taken = Some(soon(future));
        }
        Action::Drop => {
            drop(future);
            if expected.cancelled {
                closures.assert_here(1);
            }
            release();
        }
        Action::Detach => {
            future.detach();
            release();
        }
        Action::Await => {
            let mut task = tokio_test::task::spawn(future);
            let polled = task.poll();
            assert_eq!(polled.is_ready(), moment == Moment::Finished, "{case}");
            release();
            taken = Some(match polled {
                std::task::Poll::Ready(result) => result,
                std::task::Poll::Pending => block_on(task.into_inner()),
            });
        }
        Action::Callback => {
            let (tell, told) = mpsc::channel();
            future.add_done_callback(move |result| {
                tell.send(result.is_ok()).unwrap();
            });
            drop(future);
            release();
            seen_by_callback = Some(told);
        }
    }

    pool.shutdown_blocking(Shutdown::Drain).unwrap(); // all threads are gone
    drop(held);
    if let Some(told) = seen_by_callback {
        let seen: Vec<_> = told.into_iter().collect();
        assert_eq!(seen, [job != Job::Panics], "called once: {case}");
    }
    if let Some(result) = taken {
        let is_right = match &result {
            Ok(_) => job != Job::Panics && !expected.cancelled,
            Err(Error::Panicked(_)) => job == Job::Panics && !expected.cancelled,
            Err(Error::Cancelled) => expected.cancelled,
            Err(_) => false,
        };
        assert!(is_right, "{case}: {:?}", result.as_ref().err());
        let kept = usize::from(expected.runs == 1);
        assert_eq!(values.count() + payloads.count() + kept, expected.runs, "{case}");
    }
    let (returned, panicked) = if job == Job::Panics { (0, 1) } else { (1, 0) };
    assert_eq!(runs.get(), expected.runs, "{case}");
    assert_eq!(closures.count(), 1, "{case}");
    assert_eq!(values.count(), returned * expected.runs, "{case}");
    assert_eq!(payloads.count(), panicked * expected.runs, "{case}");

    let holders = if moment == Moment::Queued { workers } else { 0 };
    let metrics = pool.metrics();
    let counted = (metrics.completed, metrics.failed, metrics.cancelled);
    let expected = (
        (holders + returned * expected.runs) as u64,
        (panicked * expected.runs) as u64,
        u64::from(expected.cancelled),
    );
    assert_eq!(counted, expected, "{case}");
    assert_eq!((metrics.queued, metrics.running, metrics.workers), (0, 0, 0), "{case}");
}

// ---- Races against the start ----

/// A job, with all that is known of it.
struct Racer {
    future: TaskFuture<crate::tools::Tracked>,
    ran: Arc<AtomicUsize>,
}

fn racers(
    pool: &ThreadPoolExecutor,
    n: usize,
    closures: &Drops,
    values: &Drops,
) -> (Vec<Racer>, Vec<Arc<AtomicUsize>>) {
    let racer = |_| {
        let ran = Arc::new(AtomicUsize::new(0));
        let (captured, value, run) = (closures.value(), values.clone(), Arc::clone(&ran));
        let future = pool.submit(move || {
            let _captured = captured;
            run.fetch_add(1, SeqCst);
            value.value()
        });
        Racer { future, ran }
    };
    let racers: Vec<_> = (0..n).map(racer).collect();
    let ran = racers.iter().map(|racer| Arc::clone(&racer.ran)).collect();
    (racers, ran)
}

#[test]
fn cancels_and_drops_that_race_with_the_start_leave_exact_accounts() {
    const EACH: usize = 32;

    within_limit(|| {
        let rounds = scaled(150);
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (closures, values) = (Drops::new(), Drops::new());
            let mut all_ran = Vec::new();
            let mut cancels = 0;
            for _ in 0..rounds {
                let (cancelled, ran) = racers(&pool, EACH, &closures, &values);
                all_ran.extend(ran);
                let (dropped, ran) = racers(&pool, EACH, &closures, &values);
                all_ran.extend(ran);
                // From the end for two of them, so that they meet the workers and each other.
                let cancel = |racer: &Racer| racer.future.cancel();
                let (said, also_said) = thread::scope(|scope| {
                    let dropping = scope.spawn(|| dropped.into_iter().rev().for_each(drop));
                    let other = scope.spawn(|| cancelled.iter().rev().map(cancel).collect());
                    let said: Vec<bool> = cancelled.iter().map(cancel).collect();
                    let also_said: Vec<bool> = other.join().unwrap();
                    dropping.join().unwrap();
                    (said, also_said)
                });
                for ((racer, said), also) in
                    cancelled.into_iter().zip(said).zip(also_said.into_iter().rev())
                {
                    assert_eq!(said, also, "both hear the same");
                    assert_eq!(said, racer.future.is_cancelled());
                    let result = soon(racer.future);
                    assert_eq!(said, matches!(result, Err(Error::Cancelled)));
                    assert_eq!(racer.ran.load(SeqCst), usize::from(!said));
                    cancels += usize::from(said);
                }
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();

            let submitted = 2 * rounds * EACH;
            let runs: usize = all_ran.iter().map(|ran| ran.load(SeqCst)).sum();
            let metrics = pool.metrics();
            assert!(all_ran.iter().all(|ran| ran.load(SeqCst) <= 1));
            assert_eq!(runs + metrics.cancelled as usize, submitted);
            assert_eq!((metrics.completed as usize, metrics.failed), (runs, 0));
            assert!(metrics.cancelled as usize >= cancels);
            assert_eq!(metrics.queue_time.count() as usize, runs);
            assert_eq!((closures.count(), values.count()), (submitted, runs));
            assert_eq!((metrics.queued, metrics.running), (0, 0));
        }
    });
}

#[test]
fn ends_of_every_kind_that_race_leave_exact_accounts() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (bodies, submitted) = (Drops::new(), Counter::new());
            for round in 0..scaled(300) {
                // A limit that comes before, while and after the task runs.
                let limit = Duration::from_micros(round as u64 % 60);
                let yielding = |yields: usize| {
                    submitted.add();
                    let captured = bodies.value();
                    async move {
                        let _captured = captured;
                        for _ in 0..yields {
                            tokio::task::yield_now().await;
                        }
                    }
                };
                let spinning = || {
                    submitted.add();
                    let captured = bodies.value();
                    move || {
                        let _captured = captured;
                        (0..50).for_each(|_| std::hint::spin_loop());
                    }
                };
                let task = || pool.task().timeout(limit).queue_timeout(limit);
                let cancelled = [
                    pool.submit_future(yielding(20)),
                    task().submit_future(yielding(20)),
                    task().submit(spinning()),
                ];
                let dropped = [
                    pool.submit_future(yielding(20)),
                    task().submit_future(yielding(20)),
                    task().submit(spinning()),
                ];
                let waited = [
                    pool.submit_future(yielding(20)),
                    task().submit_future(yielding(20)),
                    task().submit(spinning()),
                ];
                thread::scope(|scope| {
                    scope.spawn(|| {
                        for future in &cancelled {
                            let _ = future.cancel();
                        }
                    });
                    scope.spawn(|| dropped.map(drop));
                    for future in waited {
                        let result = soon(future);
                        let in_time = matches!(result, Ok(()) | Err(Error::TimedOut { .. }));
                        assert!(in_time, "nobody cancelled it: {result:?}");
                    }
                });
                for future in cancelled {
                    let _ = soon(future);
                }
            }
            let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert!(report.running.is_empty() && report.queued == 0);
            let ended = |metrics: &concurrent_futures::Metrics| {
                (metrics.completed + metrics.failed + metrics.cancelled) as usize
            };
            // The timer may still be busy with one whose future was dropped.
            eventually(|| ended(&pool.metrics()) >= submitted.get());
            eventually(|| bodies.count() >= submitted.get());
            let metrics = pool.metrics();
            assert_eq!((ended(&metrics), bodies.count()), (submitted.get(), submitted.get()));
            assert_eq!((metrics.queued, metrics.running), (0, 0));
        }
    });
}
