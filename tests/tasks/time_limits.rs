//! Time limits. Nothing here has a tokio runtime; the limits hold all the same.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{
    Error, ReturnWhen, Shutdown, TaskFuture, ThreadPoolExecutor, Unfinished, as_completed, task,
    wait,
};
use futures::StreamExt;
use futures::executor::block_on;

use crate::support::{Counter, Gate, POOL_SIZES, occupy, pool, scaled, within_limit};
use crate::tools::{Drops, eventually, occupy_all, soon};

/// A limit that is meant to pass.
const SHORT: Duration = Duration::from_millis(1);
/// A limit that is not meant to pass.
const LONG: Duration = Duration::from_secs(3600);

#[track_caller]
fn assert_timed_out<T>(result: Result<T, Error>, its_limit: Duration, has_started: bool) {
    match result {
        Err(Error::TimedOut { limit, started, .. }) => {
            assert_eq!((limit, started), (its_limit, has_started));
        }
        Err(other) => panic!("not a time limit: {other:?}"),
        Ok(_) => panic!("not a time limit but a value"),
    }
}

// ---- Of a run ----

#[test]
fn at_the_limit_the_future_ends_and_the_job_is_asked_to_stop() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (gate, values, closures) = (Gate::new(), Drops::new(), Drops::new());
            let (wait, value, captured) = (gate.clone(), values.clone(), closures.value());
            let (tell, told) = mpsc::channel();
            let submitted = Instant::now();
            let future = pool.task().timeout(SHORT).submit(move || {
                let _captured = captured;
                let deadline = task::deadline();
                while !task::stop_requested() {
                    thread::yield_now();
                }
                let is_late = deadline.is_some_and(|at| Instant::now() >= at);
                tell.send((deadline, is_late, task::checkpoint().is_err())).unwrap();
                wait.wait();
                value.value()
            });
            assert_timed_out(soon(future), SHORT, true);
            let (deadline, is_late, checked) = told.recv().unwrap();
            assert!(deadline.unwrap() >= submitted + SHORT && is_late && checked);
            // The job still runs and holds its worker; the failure is counted already.
            let metrics = pool.metrics();
            assert_eq!((metrics.failed, metrics.running, closures.count()), (1, 1, 0));
            gate.open();
            values.wait_for(1);
            // The worker is free, and the late value counts for nothing.
            assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed, metrics.cancelled), (1, 1, 0));
            assert_eq!((values.count(), closures.count()), (1, 1));
        }
    });
}

#[test]
fn who_is_asked_to_stop_by_the_limit_is_too_late_to_succeed() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for n in 0..scaled(300) as u64 {
                // It returns at the very moment that it is asked to.
                let limit = Duration::from_micros(n % 50);
                let future = pool.task().timeout(limit).submit(|| {
                    while !task::stop_requested() {
                        std::hint::spin_loop();
                    }
                });
                assert_timed_out(soon(future), limit, true);
            }
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed), (0, scaled(300) as u64));
        }
    });
}

#[test]
fn a_job_that_panics_after_its_limit_has_timed_out() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let wait = gate.clone();
        let future = pool.task().timeout(SHORT).submit(move || {
            wait.wait();
            panic!("too late");
        });
        assert_timed_out::<()>(soon(future), SHORT, true);
        gate.open();
        soon(pool.submit(|| ())).unwrap();
        let metrics = pool.metrics();
        assert_eq!((metrics.completed, metrics.failed), (1, 1));
    });
}

#[test]
fn a_limit_that_does_not_pass_changes_nothing_and_leaves_nothing() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let before = Instant::now();
            let limited = pool.task().timeout(LONG).queue_timeout(LONG);
            let (value, deadline, asked) =
                soon(limited.submit(|| (7, task::deadline(), task::stop_requested()))).unwrap();
            assert_eq!((value, asked), (7, false));
            let deadline = deadline.unwrap();
            assert!(before + LONG <= deadline && deadline <= Instant::now() + LONG);
            // Without a limit on the run there is no deadline.
            assert_eq!(soon(pool.submit(task::deadline)).unwrap(), None);
            let limited = pool.task().queue_timeout(LONG);
            assert_eq!(soon(limited.submit(task::deadline)).unwrap(), None);
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed, metrics.cancelled), (3, 0, 0));
        }
    });
}

#[test]
fn the_limit_of_a_run_does_not_count_the_wait() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let limited = pool.task().timeout(SHORT).submit(task::deadline);
        // Another limit of that length passes meanwhile.
        let other = pool.task().queue_timeout(SHORT).submit(|| ());
        assert_timed_out(soon(other), SHORT, false);
        assert!(!limited.is_done());
        let opened = Instant::now();
        gate.open();
        soon(held).unwrap();
        match soon(limited) {
            Ok(deadline) => assert!(deadline.unwrap() >= opened + SHORT),
            late => assert_timed_out(late, SHORT, true), // a slow machine
        }
    });
}

#[test]
fn a_task_run_in_place_has_its_own_limit() {
    within_limit(|| {
        let pool = pool(1);
        let inner = pool.clone();
        let outer = pool.task().timeout(LONG).submit(move || {
            let before = task::deadline();
            let free = inner.submit(task::deadline).result().unwrap();
            let late = inner.task().timeout(SHORT).submit(|| {
                while !task::stop_requested() {
                    thread::yield_now();
                }
            });
            let late = late.result();
            (before, free, late, task::stop_requested(), task::deadline())
        });
        let (before, free, late, asked, after) = soon(outer).unwrap();
        assert!(before.is_some() && before == after && !asked);
        assert_eq!(free, None);
        assert_timed_out(late, SHORT, true);
    });
}

#[test]
fn a_callback_hears_of_the_limit() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let wait = gate.clone();
        let future = pool.task().timeout(SHORT).submit(move || wait.wait());
        let (tell, told) = mpsc::channel();
        future.add_done_callback(move |result| {
            tell.send(matches!(result, Err(Error::TimedOut { started: true, .. }))).unwrap();
        });
        drop(future);
        assert_eq!(told.recv(), Ok(true));
        assert!(told.recv().is_err(), "called once");
        gate.open();
    });
}

// ---- In the queue ----

#[test]
fn a_task_that_waits_too_long_never_runs() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let (closures, runs) = (Drops::new(), Counter::new());
            let (captured, run) = (closures.value(), runs.clone());
            let future = pool.task().queue_timeout(SHORT).submit(move || {
                let _captured = captured;
                run.add();
            });
            assert!(matches!(pool.metrics().queued, 0 | 1));
            assert_timed_out(soon(future), SHORT, false);
            // All workers are still held.
            assert_eq!((closures.count(), pool.metrics().queued), (1, 0));
            assert_eq!((pool.metrics().cancelled, pool.metrics().failed), (1, 0));
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!((runs.get(), closures.count()), (0, 1));
        }
    });
}

#[test]
fn an_unobserved_task_that_waits_too_long_is_withdrawn_as_well() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let (closures, bodies) = (Drops::new(), Drops::new());
        let captured = closures.value();
        let limited = || pool.task().queue_timeout(SHORT);
        limited().submit(move || drop(captured)).detach();
        closures.wait_for(1);
        let captured = bodies.value();
        limited().submit_future(async move { drop(captured) }).detach();
        bodies.wait_for(1);
        // Counted by the timer, after the drop, and nobody has a future to see it by.
        eventually(|| pool.metrics().cancelled == 2);
        gate.open();
        soon(held).unwrap();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((pool.metrics().cancelled, pool.metrics().completed), (2, 1));
    });
}

#[test]
fn the_limit_of_the_wait_gives_its_room_back() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let late = pool.task().queue_timeout(SHORT).submit(|| 7);
        let permit = block_on(pool.reserve()).unwrap(); // waits for that
        assert_timed_out(soon(late), SHORT, false);
        let next = permit.submit(|| 8);
        gate.open();
        soon(held).unwrap();
        assert_eq!(soon(next).unwrap(), 8);
    });
}

#[test]
fn a_task_that_has_started_is_past_the_limit_of_its_wait() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let limit = Duration::from_millis(20);
            let future = loop {
                let (started, wait) = (Arc::new(AtomicBool::new(false)), gate.clone());
                let tell = Arc::clone(&started);
                let future = pool.task().queue_timeout(limit).submit(move || {
                    tell.store(true, SeqCst);
                    wait.wait();
                    task::stop_requested()
                });
                // An idle worker starts it in time, but no clock promises that.
                while !started.load(SeqCst) && !future.is_done() {
                    thread::yield_now();
                }
                if started.load(SeqCst) {
                    break future;
                }
            };
            // The same limit, begun later, passes; so this one has passed as well.
            assert_timed_out(elsewhere_in_the_queue(limit), limit, false);
            assert!(!future.is_done());
            gate.open();
            assert!(!soon(future).unwrap());
        }
    });
}

/// What becomes of a task that waits for `limit` on a pool of its own.
fn elsewhere_in_the_queue(limit: Duration) -> Result<(), Error> {
    let pool = pool(1);
    let gate = Gate::new();
    let held = occupy(&pool, &gate);
    let late = soon(pool.task().queue_timeout(limit).submit(|| ()));
    gate.open();
    soon(held).unwrap();
    late
}

#[test]
fn both_limits_hold_for_one_task() {
    within_limit(|| {
        let pool = pool(1);
        let both = || pool.task().timeout(SHORT).queue_timeout(LONG);
        let spin = || {
            while !task::stop_requested() {
                thread::yield_now();
            }
        };
        assert_timed_out(soon(both().submit(spin)), SHORT, true);
        let body = std::future::pending::<()>();
        assert_timed_out(soon(both().submit_future(body)), SHORT, true);

        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let both = pool.task().timeout(LONG).queue_timeout(SHORT);
        assert_timed_out(soon(both.submit(|| ())), SHORT, false);
        gate.open();
        soon(held).unwrap();
    });
}

#[test]
fn a_body_polled_twice_at_once_keeps_the_limit_of_its_run() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for n in 0..scaled(300) as u64 {
                // In the queue again before its submission has come back to the caller.
                let future = pool.task().timeout(SHORT).queue_timeout(LONG).submit_future(
                    std::future::poll_fn(move |cx| {
                        (0..n % 100).for_each(|_| std::hint::spin_loop());
                        cx.waker().wake_by_ref();
                        std::task::Poll::<()>::Pending
                    }),
                );
                assert_timed_out(soon(future), SHORT, true);
            }
        }
    });
}

// ---- Of a blocking wait ----

#[test]
fn after_a_limited_wait_the_future_is_as_before() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (gate, started) = (Gate::new(), Gate::new());
            let (wait, tell) = (gate.clone(), started.clone());
            let mut future = pool.submit(move || {
                tell.open();
                wait.wait();
                (7, task::stop_requested())
            });
            started.wait();
            for limit in [SHORT, Duration::ZERO, SHORT] {
                assert!(future.result_timeout(limit).is_none());
                assert!(!future.is_done() && future.is_running());
            }
            gate.open();
            assert_eq!(future.result_timeout(LONG).unwrap().unwrap(), (7, false));
            assert!(matches!(future.result_timeout(LONG), Some(Err(Error::ResultTaken))));
        }
    });
}

#[test]
fn a_limited_wait_for_what_is_not_done_has_no_result() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let mut held = occupy(&pool, &gate);
        let mut queued = pool.submit(|| 7);
        let (_completer, mut promise) = TaskFuture::<()>::promise();
        for limit in [Duration::ZERO, SHORT] {
            assert!(held.result_timeout(limit).is_none());
            assert!(queued.result_timeout(limit).is_none());
            assert!(promise.result_timeout(limit).is_none());
        }
        gate.open();
        held.result_timeout(LONG).unwrap().unwrap();
        assert_eq!(queued.result_timeout(LONG).unwrap().unwrap(), 7);
    });
}

#[test]
fn a_limited_wait_inside_of_a_job_lets_others_run() {
    within_limit(|| {
        let pool = pool(1);
        let inner = pool.clone();
        let outer = pool.submit(move || {
            let gate = Gate::new();
            let wait = gate.clone();
            // The only worker waits here, so a spare runs this:
            let mut blocked = inner.submit(move || wait.wait());
            let late = blocked.result_timeout(SHORT);
            gate.open();
            blocked.result_timeout(LONG).unwrap().unwrap();
            late
        });
        assert!(soon(outer).unwrap().is_none());
    });
}

#[test]
fn a_task_that_ended_by_its_own_limit_is_done_after_a_limited_wait() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let wait = gate.clone();
        let mut future = pool.task().timeout(SHORT).submit(move || wait.wait());
        assert_timed_out(future.result_timeout(LONG).unwrap(), SHORT, true);
        gate.open();
    });
}

// ---- Of sets, maps and shutdowns, on a plain executor ----

#[test]
fn as_completed_yields_what_has_finished_and_then_the_limit() {
    within_limit(|| {
        for workers in POOL_SIZES {
            for limit in [Duration::ZERO, SHORT] {
                let pool = pool(workers);
                let gate = Gate::new();
                let finished: Vec<_> = (0..2).map(|n| pool.submit(move || n)).collect();
                while !finished.iter().all(TaskFuture::is_done) {
                    thread::yield_now();
                }
                let _held = occupy_all(&pool, &gate);
                let queued = (2..5).map(|n| pool.submit(move || n));
                let mut stream = as_completed(finished.into_iter().chain(queued)).timeout(limit);
                let first = block_on(stream.next()).unwrap().unwrap();
                let second = block_on(stream.next()).unwrap().unwrap();
                assert_eq!((first.0, first.1.unwrap()), (0, 0));
                assert_eq!((second.0, second.1.unwrap()), (1, 1));
                let late: Unfinished = block_on(stream.next()).unwrap().unwrap_err();
                assert_eq!((late.unfinished, late.total), (3, 5));
                assert_eq!(late.to_string(), "3 (of 5) futures unfinished");
                assert!(block_on(stream.next()).is_none());
                gate.open();
            }
        }
    });
}

#[test]
fn wait_comes_back_at_its_limit_with_what_there_is() {
    within_limit(|| {
        for limit in [Duration::ZERO, SHORT] {
            let pool = pool(1);
            let finished = pool.submit(|| 7);
            soon(pool.submit(|| ())).unwrap();
            let gate = Gate::new();
            let _held = occupy(&pool, &gate);
            let queued = pool.submit(|| 8);
            let all = wait([finished, queued], ReturnWhen::AllCompleted).timeout(limit);
            let mut parts = block_on(all);
            assert_eq!((parts.done.len(), parts.not_done.len()), (1, 1));
            assert_eq!(soon(parts.done.remove(0)).unwrap(), 7);
            // Blocking as well.
            let again = wait(parts.not_done, ReturnWhen::FirstCompleted).timeout(limit).result();
            assert_eq!((again.done.len(), again.not_done.len()), (0, 1));
            gate.open();
            let left = again.not_done.into_iter().next().unwrap();
            assert_eq!(soon(left).unwrap(), 8);
        }
    });
}

#[test]
fn a_map_ends_at_its_limit() {
    within_limit(|| {
        for limit in [Duration::ZERO, SHORT] {
            let pool = pool(1);
            let gate = Gate::new();
            let (started, wait) = (Gate::new(), gate.clone());
            let tell = started.clone();
            let function = move |n: u32| {
                if n == 1 {
                    tell.open();
                    wait.wait();
                }
                n
            };
            let map = pool.map(function, 0..4).buffer_size(8).timeout(limit).start();
            started.wait();
            let items: Vec<_> = map.blocking().collect();
            assert_eq!(items.len(), 2, "{items:?}");
            assert_eq!(*items[0].as_ref().unwrap(), 0);
            let late = items.into_iter().nth(1).unwrap();
            assert_timed_out(late, limit, true);
            gate.open();
            assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        }
    });
}

#[test]
fn a_shutdown_comes_back_at_its_deadline() {
    within_limit(|| {
        for limit in [Duration::ZERO, SHORT] {
            for workers in POOL_SIZES {
                let pool = pool(workers);
                let (gate, asked) = (Gate::new(), Arc::new(AtomicBool::new(false)));
                let (started, wait, saw) = (Gate::new(), gate.clone(), Arc::clone(&asked));
                let tell = started.clone();
                let running = pool.task().label("long").submit(move || {
                    tell.open();
                    wait.wait();
                    saw.store(task::stop_requested(), SeqCst);
                });
                started.wait();
                let others: Vec<_> = (1..workers).map(|_| occupy(&pool, &gate)).collect();
                let queued = pool.submit(|| 7);
                let report = block_on(pool.shutdown(Shutdown::Drain).deadline(limit));
                assert_eq!((report.completed, report.failed, report.cancelled), (0, 0, 1));
                assert_eq!((report.queued, report.running.len()), (0, workers));
                let long = report.running.iter().find(|task| task.label.is_some()).unwrap();
                assert_eq!((long.id, long.label.as_deref()), (running.id(), Some("long")));
                assert!(matches!(soon(queued), Err(Error::Cancelled)));
                gate.open();
                soon(running).unwrap();
                others.into_iter().for_each(|future| soon(future).unwrap());
                assert!(asked.load(SeqCst), "what runs is asked to stop");
                let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
                assert_eq!((report.completed, report.cancelled), (workers as u64, 1));
                assert!(report.running.is_empty());
            }
        }
    });
}

#[test]
fn a_shutdown_with_a_deadline_may_be_waited_for_by_blocking() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let report = pool.shutdown(Shutdown::Drain).deadline(SHORT).result().unwrap();
        assert_eq!((report.running.len(), report.completed), (1, 0));
        gate.open();
        soon(held).unwrap();
        let report = pool.shutdown(Shutdown::Drain).deadline(LONG).result().unwrap();
        assert_eq!((report.running.len(), report.completed), (0, 1));
    });
}

// ---- Extremes ----

#[test]
fn limits_of_zero_are_limits() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let zero = Duration::ZERO;
            let (gate, runs) = (Gate::new(), Counter::new());
            let (wait, run) = (gate.clone(), runs.clone());
            // It starts, for the limit counts from there.
            let started = pool.task().timeout(zero).submit(move || {
                run.add();
                wait.wait();
            });
            assert_timed_out(soon(started), zero, true);
            let held: Vec<_> = (1..workers).map(|_| occupy(&pool, &gate)).collect();
            let run = runs.clone();
            let queued = pool.task().queue_timeout(zero).submit(move || run.add());
            assert_timed_out(soon(queued), zero, false);
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(runs.get(), 1);
        }
    });
}

#[test]
fn limits_beyond_the_clock_never_come() {
    within_limit(|| {
        for limit in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 62)] {
            let pool = pool(2);
            let limited = || pool.task().timeout(limit).queue_timeout(limit);
            let (value, deadline) = soon(limited().submit(|| (7, task::deadline()))).unwrap();
            assert_eq!(value, 7);
            assert!(deadline.unwrap() > Instant::now() + LONG);
            assert_eq!(soon(limited().submit_future(async { 8 })).unwrap(), 8);
            let job = |n: u32| pool.submit(move || n);
            assert_eq!(job(9).result_timeout(limit).unwrap().unwrap(), 9);

            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let mut done = tokio_test::task::spawn(as_completed([job(1)]).timeout(limit));
            let mut all =
                tokio_test::task::spawn(wait([job(2)], ReturnWhen::AllCompleted).timeout(limit));
            let mut map = tokio_test::task::spawn(pool.map(|n: u32| n, 3..4).timeout(limit));
            let mut unordered = pool.map(|n: u32| n, 4..5).unordered().timeout(limit);
            assert!(done.poll_next().is_pending());
            assert!(all.poll().is_pending());
            assert!(map.poll_next().is_pending());
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            let first = block_on(done.next()).unwrap().unwrap().1.unwrap();
            let third = block_on(map.next()).unwrap().unwrap();
            let fourth = block_on(unordered.next()).unwrap().1.unwrap();
            assert_eq!((first, third, fourth), (1, 3, 4));
            assert_eq!(block_on(all.into_inner()).done.len(), 1);
            let report = block_on(pool.shutdown(Shutdown::Drain).deadline(limit));
            assert!(report.running.is_empty());
        }
    });
}

#[test]
fn many_limits_all_pass_and_none_too_early() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let (tell, told) = mpsc::channel();
        // The long ones first, so that each later one is the next; and some at the same time.
        let earliest: Vec<_> = (0..40)
            .map(|n| {
                let (limit, tell) = (Duration::from_millis(5 * (20 - n / 2)), tell.clone());
                let earliest = Instant::now() + limit;
                let future = pool.task().queue_timeout(limit).submit(|| ());
                future.add_done_callback(move |_| tell.send((n as usize, Instant::now())).unwrap());
                drop(future); // detached
                earliest
            })
            .collect();
        drop(tell);
        let mut passed: Vec<_> = told.iter().collect();
        for (n, at) in &passed {
            assert!(*at >= earliest[*n], "limit {n} has passed too early");
        }
        passed.sort_unstable();
        let all: Vec<_> = passed.iter().map(|(n, _)| *n).collect();
        assert_eq!(all, Vec::from_iter(0..40));
        gate.open();
        soon(held).unwrap();
    });
}

#[test]
fn limits_work_again_after_a_time_without_any() {
    within_limit(|| {
        for _ in 0..3 {
            assert_timed_out(elsewhere_in_the_queue(SHORT), SHORT, false);
            // Longer than the timer's thread lingers; it may or may not have ended.
            let (_keep, never) = mpsc::channel::<()>();
            let _ = never.recv_timeout(Duration::from_millis(130));
        }
    });
}

#[test]
fn user_code_that_blocks_at_a_limit_does_not_hold_up_the_limits_of_others() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let blocked = Gate::new();
        let (inside, wait) = (Gate::new(), blocked.clone());
        let tell = inside.clone();
        let first = pool.task().queue_timeout(SHORT).submit(|| ());
        first.add_done_callback(move |_| {
            tell.open();
            wait.wait();
        });
        inside.wait();
        // Somebody else's limit, while the callback of the first one takes its time.
        let mut second = pool.task().queue_timeout(SHORT).submit(|| ());
        let result = second.result_timeout(Duration::from_secs(10));
        blocked.open();
        gate.open();
        soon(held).unwrap();
        assert_timed_out(result.expect("its limit has not come"), SHORT, false);
    });
}

#[test]
fn a_cancel_after_the_limit_of_the_wait_has_not_cancelled_the_task() {
    /// Holds up the thread that drops it.
    struct Slow(Gate, Gate);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.open();
            self.1.wait();
        }
    }

    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        // The limit has withdrawn the task, and drops the job.
        let (inside, end) = (Gate::new(), Gate::new());
        let slow = Slow(inside.clone(), end.clone());
        let waits = pool.task().queue_timeout(SHORT).submit(move || drop(slow));
        inside.wait();
        assert!(!waits.is_done() && !waits.cancel());
        end.open();
        assert_timed_out(soon(waits), SHORT, false);
        gate.open();
        soon(held).unwrap();
        let ends = pool.metrics();
        assert_eq!((ends.completed, ends.failed, ends.cancelled), (1, 0, 1));
    });
}

#[test]
fn a_cancel_after_the_limit_of_the_run_has_not_cancelled_the_task() {
    within_limit(|| {
        let pool = pool(1);
        // The limit has ended the future, and runs its callbacks, while the body is still suspended.
        let (inside, end) = (Gate::new(), Gate::new());
        let (tell, hold) = (inside.clone(), end.clone());
        let runs = pool.task().timeout(SHORT).submit_future(std::future::pending::<()>());
        runs.add_done_callback(move |_| {
            tell.open();
            hold.wait();
        });
        inside.wait();
        assert!(!runs.is_done() && !runs.cancel());
        end.open();
        assert_timed_out(soon(runs), SHORT, true);
        let ends = pool.metrics();
        assert_eq!((ends.completed, ends.failed, ends.cancelled), (0, 1, 0));
    });
}

#[test]
fn labels_are_shown() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let wait = gate.clone();
        let future = pool.task().label("thumb").timeout(LONG).submit(move || wait.wait());
        assert_eq!(future.label(), Some("thumb"));
        let text = format!("{future:?}");
        assert!(text.contains("label: \"thumb\""), "{text}");
        assert!(text.contains(&format!("{:?}", future.id())), "{text}");
        let options = format!("{:?}", pool.task().label("thumb").queue_timeout(SHORT));
        assert!(options.contains("thumb") && options.contains("1ms"), "{options}");
        let plain = pool.submit(|| ());
        assert_eq!(plain.label(), None);
        assert!(!format!("{plain:?}").contains("label"));
        gate.open();
        soon(future).unwrap();
        let body = pool.task().label(String::from("body")).submit_future(async {});
        assert_eq!(body.label(), Some("body"));
        soon(body).unwrap();
    });
}

#[test]
fn the_texts_tell_the_limit_and_the_stage() {
    let text = |started| Error::timed_out(SHORT, started).to_string();
    assert!(text(true).contains("1ms passed while the task was running"), "{}", text(true));
    assert!(text(false).contains("1ms passed before the task started"), "{}", text(false));
}
