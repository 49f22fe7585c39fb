//! One future.
//!
//! Made by hand, with `TaskFuture::promise`, by the inline executor, and by a pool. A future that
//! is made by hand is never running, and one of the inline executor is finished from the start.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Completer, Error, InlineExecutor, Shutdown, TaskFuture, ThreadPoolExecutor,
};
use futures::FutureExt;

use crate::backend::{
    Held, LONG, Pool, States, assert_cancelled, assert_panicked, assert_timed_out,
    end_during_the_wait, failed_task, finished_task, note_reports, over_pools, over_pools_async,
    reports, until_done,
};
use crate::support::{
    CountDrops, Counter, Gate, POOL_SIZES, on_runtimes, pool, scaled, within_limit,
};

/// Futures of every origin whose result is 42.
fn finished() -> Vec<TaskFuture<u32>> {
    let (completer, promised) = TaskFuture::promise();
    completer.complete(Ok(42));
    let mut futures = vec![promised, finished_task(&InlineExecutor::new())];
    futures.extend(POOL_SIZES.map(|max_workers| finished_task(&pool(max_workers))));
    futures
}

/// Futures of every origin that ended with an error, and the error's name.
fn failed() -> Vec<(TaskFuture<u32>, &'static str)> {
    let (completer, promised) = TaskFuture::promise();
    completer.complete(Err(Error::queue_full(7)));
    let mut futures = vec![(promised, "QueueFull")];
    futures.push((failed_task(&InlineExecutor::new()), "Panicked"));
    for max_workers in POOL_SIZES {
        futures.push((failed_task(&pool(max_workers)), "Panicked"));
    }
    let closed = pool(1);
    closed.shutdown_blocking(Shutdown::Drain).unwrap();
    futures.push((closed.submit(|| 42), "ShutDown"));
    futures
}

/// Futures of every origin that were cancelled.
fn cancelled() -> Vec<TaskFuture<u32>> {
    let (_completer, by_hand) = TaskFuture::promise();
    assert!(by_hand.cancel());
    let (_, dropped) = TaskFuture::promise();
    let mut futures = vec![by_hand, dropped];
    for max_workers in POOL_SIZES {
        let states = States::new(&pool(max_workers));
        futures.extend([states.cancelled, states.noticed]);
    }
    futures
}

fn name(result: &Result<u32, Error>) -> String {
    match result {
        Ok(value) => format!("{value}"),
        Err(error) => format!("{error:?}").split(':').next().unwrap().to_owned(),
    }
}

/// What a callback was called with, and where.
type Calls = mpsc::Receiver<(String, thread::ThreadId)>;

/// Adds a callback that tells of its calls.
fn observe(future: &TaskFuture<u32>) -> Calls {
    let (sender, calls) = mpsc::channel();
    future.add_done_callback(move |result| {
        sender.send((name(result), thread::current().id())).unwrap();
    });
    calls
}

/// There was just one call, and it was with this result.
#[track_caller]
fn assert_called(calls: &Calls, expected: &str) -> thread::ThreadId {
    let (result, thread) = calls.try_recv().expect("the callback was called");
    assert_eq!(result, expected);
    // It has been dropped, so there won't be another call.
    assert_eq!(calls.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    thread
}

#[track_caller]
fn assert_not_called(calls: &Calls) {
    assert_eq!(calls.try_recv(), Err(mpsc::TryRecvError::Empty));
}

/// FU-1.
#[test]
fn a_callback_added_before_the_value_runs_with_it() {
    over_pools(|pool| {
        let (completer, future) = TaskFuture::promise();
        let calls = observe(&future);
        assert_not_called(&calls);
        completer.complete(Ok(5));
        assert_eq!(assert_called(&calls, "5"), thread::current().id());
        assert_eq!(future.result().unwrap(), 5);

        let states = States::new(pool);
        let (of_running, of_pending) = (observe(&states.running), observe(&states.pending));
        assert_not_called(&of_running);
        assert_not_called(&of_pending);
        states.held.open();
        // Whoever sees the future finished also sees what the callback did.
        assert_eq!(states.running.result().unwrap(), 42);
        assert_ne!(assert_called(&of_running, "42"), thread::current().id());
        assert_eq!(states.pending.result().unwrap(), 42);
        assert_ne!(assert_called(&of_pending, "42"), thread::current().id());
    });
}

/// FU-1.
#[test]
fn a_callback_runs_just_before_the_future_is_done() {
    /// Has a callback look at its own future.
    fn look(future: &Arc<TaskFuture<u32>>) -> Arc<Mutex<Option<bool>>> {
        let was_done = Arc::new(Mutex::new(None));
        let (inside, note) = (Arc::downgrade(future), was_done.clone());
        future.add_done_callback(move |_| {
            *note.lock().unwrap() = inside.upgrade().map(|future| future.is_done());
        });
        was_done
    }
    over_pools(|pool| {
        let (completer, future) = TaskFuture::promise();
        let future = Arc::new(future);
        let was_done = look(&future);
        completer.complete(Ok(5));
        assert_eq!(*was_done.lock().unwrap(), Some(false));
        assert!(future.is_done());

        let held = Held::new();
        let future = Arc::new(pool.occupy_all(&held).remove(0));
        let was_done = look(&future);
        let called = Counter::new();
        let last = called.clone();
        future.add_done_callback(move |_| last.add()); // after the one that looks
        held.open();
        called.wait_for(1);
        assert_eq!(*was_done.lock().unwrap(), Some(false));
    });
}

/// FU-2.
#[test]
fn a_callback_added_before_the_error_runs_with_it() {
    over_pools(|pool| {
        let (completer, future) = TaskFuture::promise();
        let calls = observe(&future);
        completer.complete(Err(Error::ShutDown));
        assert_eq!(assert_called(&calls, "ShutDown"), thread::current().id());
        assert!(matches!(future.result(), Err(Error::ShutDown)));

        let held = Held::new();
        let occupied = pool.occupy_all(&held);
        let failing = pool.submit(|| -> u32 { panic!("after the callback was added") });
        let calls = observe(&failing);
        assert_not_called(&calls);
        held.open();
        assert_panicked(&failing.result(), "after the callback was added");
        assert_ne!(assert_called(&calls, "Panicked"), thread::current().id());
        drop(occupied);
    });
}

/// FU-3.
#[test]
fn a_callback_added_before_the_cancellation_runs_with_it() {
    over_pools(|pool| {
        let (_completer, future) = TaskFuture::promise();
        let calls = observe(&future);
        assert!(future.cancel());
        assert_eq!(assert_called(&calls, "Cancelled"), thread::current().id());
        assert!(future.is_cancelled());

        let (completer, future) = TaskFuture::promise();
        let calls = observe(&future);
        drop(completer);
        assert_eq!(assert_called(&calls, "Cancelled"), thread::current().id());
        assert!(future.is_cancelled());

        let states = States::new(pool);
        let calls = observe(&states.pending);
        assert!(states.pending.cancel());
        assert_eq!(assert_called(&calls, "Cancelled"), thread::current().id());
        assert!(states.pending.is_cancelled());

        // A shutdown cancels as well, on the thread that asks for it.
        let queued = pool.submit(|| 42);
        let calls = observe(&queued);
        drop(pool.shutdown(Shutdown::CancelQueued));
        assert_eq!(assert_called(&calls, "Cancelled"), thread::current().id());
        assert!(queued.is_cancelled());
        states.held.open();
    });
}

/// FU-4.
#[test]
fn a_callback_that_panics_is_reported_and_the_others_run() {
    fn add_three(future: &TaskFuture<u32>, text: &'static str) -> Arc<Mutex<Vec<u32>>> {
        let order = Arc::new(Mutex::new(Vec::new()));
        let (first, last) = (order.clone(), order.clone());
        future.add_done_callback(move |_| first.lock().unwrap().push(1));
        future.add_done_callback(move |_| std::panic::panic_any(text));
        future.add_done_callback(move |_| last.lock().unwrap().push(3));
        order
    }

    note_reports();
    over_pools(|pool| {
        let before = reports("a callback by hand");
        let (completer, future) = TaskFuture::promise();
        let order = add_three(&future, "a callback by hand");
        completer.complete(Ok(5));
        assert_eq!(*order.lock().unwrap(), [1, 3]);
        assert_eq!(reports("a callback by hand"), before + 1);
        assert_eq!(future.result().unwrap(), 5);

        let before = reports("a callback of a pool");
        let states = States::new(pool);
        let workers = pool.metrics().workers;
        let order = add_three(&states.running, "a callback of a pool");
        states.held.open();
        assert_eq!(states.running.result().unwrap(), 42);
        assert_eq!(*order.lock().unwrap(), [1, 3]);
        assert_eq!(reports("a callback of a pool"), before + 1);
        // The worker lives, and the panic was not taken for the job's.
        assert_eq!(pool.submit(|| 42).result().unwrap(), 42);
        assert_eq!(pool.metrics().workers, workers);
        assert_eq!(pool.metrics().failed, 1); // that of `States`
    });
}

/// FU-5.
#[test]
fn a_callback_added_after_the_value_runs_at_once() {
    within_limit(|| {
        for future in finished() {
            let calls = observe(&future);
            assert_eq!(assert_called(&calls, "42"), thread::current().id());
            // As often as one likes, and the value stays.
            assert_eq!(assert_called(&observe(&future), "42"), thread::current().id());
            assert!(future.is_done());
            assert_eq!(future.result().unwrap(), 42);
        }
        // Once the value has been taken, the callback is told so.
        for mut future in finished() {
            assert_eq!(future.result_timeout(LONG).unwrap().unwrap(), 42);
            assert_eq!(assert_called(&observe(&future), "ResultTaken"), thread::current().id());
        }
    });
}

/// FU-6.
#[test]
fn a_callback_added_after_the_error_runs_at_once() {
    within_limit(|| {
        for (future, error) in failed() {
            assert_eq!(assert_called(&observe(&future), error), thread::current().id());
            assert_eq!(assert_called(&observe(&future), error), thread::current().id());
            assert_eq!(name(&future.result()), error);
        }
    });
}

/// FU-7.
#[test]
fn a_callback_added_after_the_cancellation_runs_at_once() {
    within_limit(|| {
        for future in cancelled() {
            assert_eq!(assert_called(&observe(&future), "Cancelled"), thread::current().id());
            assert_eq!(assert_called(&observe(&future), "Cancelled"), thread::current().id());
            assert!(future.is_cancelled());
            assert_cancelled(&future.result());
        }
    });
}

/// FU-8.
#[test]
fn a_panic_of_a_callback_added_after_the_end_does_not_reach_the_caller() {
    note_reports();
    within_limit(|| {
        for (count, future) in (1..).zip(finished()) {
            future.add_done_callback(|_| panic!("a callback after the end"));
            assert_eq!(reports("a callback after the end"), count);
            assert_eq!(assert_called(&observe(&future), "42"), thread::current().id());
            assert_eq!(future.result().unwrap(), 42);
        }
    });
}

fn debug_text<T>(future: &TaskFuture<T>, state: &str) -> String {
    let label = future.label().map(|label| format!(" label: {label:?},")).unwrap_or_default();
    format!("TaskFuture {{ id: {:?},{label} state: {state} }}", future.id())
}

#[track_caller]
fn assert_debug<T>(future: &TaskFuture<T>, state: &str) {
    assert_eq!(format!("{future:?}"), debug_text(future, state));
}

/// FU-9.
#[test]
fn the_debug_text_shows_the_state() {
    over_pools(|pool| {
        let mut states = States::new(pool);
        assert_debug(&states.pending, "pending");
        assert_debug(&states.running, "running");
        assert_debug(&states.cancelled, "cancelled");
        assert_debug(&states.noticed, "cancelled");
        assert_debug(&states.failed, "finished raised Panicked");
        assert_debug(&states.finished, "finished returned u32");
        states.held.open();
        let running = until_done(states.running);
        assert_debug(&running, "finished returned u32");
        // The state is still known when the result has been taken.
        assert!(states.finished.result_timeout(Duration::ZERO).unwrap().is_ok());
        assert_debug(&states.finished, "finished returned u32");
        assert!(states.cancelled.result_timeout(Duration::ZERO).unwrap().is_err());
        assert_debug(&states.cancelled, "cancelled");
        assert!(states.failed.result_timeout(Duration::ZERO).unwrap().is_err());
        assert_debug(&states.failed, "finished raised Panicked");

        let labelled = pool.task().label("thumb").submit(|| "text".to_owned());
        let id = labelled.id();
        let labelled = until_done(labelled);
        assert_eq!(
            format!("{labelled:?}"),
            format!(
                "TaskFuture {{ id: {id:?}, label: \"thumb\", \
                 state: finished returned alloc::string::String }}"
            )
        );
    });
}

/// FU-9.
#[test]
fn the_debug_text_shows_the_state_of_a_future_made_by_hand_or_inline() {
    within_limit(|| {
        let (completer, future) = TaskFuture::<u32>::promise();
        assert_debug(&future, "pending");
        completer.complete(Ok(42));
        assert_debug(&future, "finished returned u32");
        for future in finished() {
            assert_debug(&future, "finished returned u32");
        }
        for (future, error) in failed() {
            assert_debug(&future, &format!("finished raised {error}"));
        }
        for future in cancelled() {
            assert_debug(&future, "cancelled");
        }
    });
}

/// Has a callback note the debug text of its own future.
fn debug_inside(future: &Arc<TaskFuture<u32>>) -> mpsc::Receiver<String> {
    let (sender, texts) = mpsc::channel();
    let inside = Arc::downgrade(future);
    future.add_done_callback(move |_| {
        sender.send(format!("{:?}", inside.upgrade().unwrap())).unwrap();
    });
    texts
}

/// FU-9.
#[test]
fn the_debug_text_inside_of_a_callback_before_the_end_shows_no_end() {
    over_pools(|pool| {
        let (completer, future) = TaskFuture::promise();
        let future = Arc::new(future);
        let texts = debug_inside(&future);
        completer.complete(Ok(42));
        assert_eq!(texts.try_recv().unwrap(), debug_text(&future, "pending"));

        let states = States::new(pool);
        let future = Arc::new(states.running);
        let texts = debug_inside(&future);
        states.held.open();
        assert_eq!(texts.recv().unwrap(), debug_text(&future, "running"));
        // Keeps the future for the callback until it has looked.
        assert!(texts.recv().is_err());
    });
}

/// FU-9.
#[test]
fn the_debug_text_inside_of_a_callback_after_the_end_shows_the_end() {
    within_limit(|| {
        for future in finished().into_iter().map(Arc::new) {
            let text = debug_inside(&future).try_recv().unwrap();
            assert_eq!(text, debug_text(&future, "finished returned u32"));
        }
        for future in cancelled().into_iter().map(Arc::new) {
            let text = debug_inside(&future).try_recv().unwrap();
            assert_eq!(text, debug_text(&future, "cancelled"));
        }
        for (future, error) in failed() {
            let future = Arc::new(future);
            let text = debug_inside(&future).try_recv().unwrap();
            assert_eq!(text, debug_text(&future, &format!("finished raised {error}")));
        }
    });
}

/// FU-10.
#[test]
fn cancel_withdraws_a_pending_task_and_drops_its_job() {
    over_pools(|pool| {
        let held = Held::new();
        let occupied = pool.occupy_all(&held);
        let (drops, ran) = (CountDrops::default(), Counter::new());
        let (count, job_ran) = (drops.0.clone(), ran.clone());
        let pending = pool.submit(move || {
            let _drops = &drops;
            job_ran.add();
        });
        assert!(pending.cancel());
        assert!(pending.is_cancelled());
        // The job is dropped here and now, not when a worker comes to it.
        assert_eq!(count.load(SeqCst), 1);
        assert!(pending.cancel());
        held.open();
        occupied.into_iter().for_each(|future| assert_eq!(future.result().unwrap(), 42));
        pool.submit(|| ()).result().unwrap(); // a worker has been at its place in the queue
        assert!(pending.cancel());
        assert_cancelled(&pending.result());
        assert_eq!(ran.get(), 0);
        assert_eq!(pool.metrics().cancelled, 1);
    });
}

/// FU-10.
#[test]
fn cancel_changes_nothing_in_the_other_states() {
    over_pools(|pool| {
        let states = States::new(pool);
        assert!(!states.running.cancel());
        assert!(states.running.is_running() && !states.running.is_cancelled());
        assert!(states.cancelled.cancel() && states.cancelled.is_cancelled());
        assert!(states.noticed.cancel() && states.noticed.is_cancelled());
        states.held.open();
        assert_eq!(states.running.result().unwrap(), 42);
    });
    within_limit(|| {
        for future in finished() {
            assert!(!future.cancel() && !future.is_cancelled());
            assert_eq!(future.result().unwrap(), 42);
        }
        for (future, error) in failed() {
            assert!(!future.cancel() && !future.is_cancelled());
            assert_eq!(name(&future.result()), error);
        }
        for future in cancelled() {
            assert!(future.cancel() && future.cancel() && future.is_cancelled());
            assert_cancelled(&future.result());
        }
        let (completer, future) = TaskFuture::<u32>::promise();
        assert!(!completer.is_closed());
        assert!(future.cancel() && future.cancel() && future.is_cancelled());
        assert!(completer.is_closed());
    });
}

/// Every state, and whether it is `is_cancelled`, `is_done` and `is_running`.
fn each_state(pool: &ThreadPoolExecutor, check: impl Fn(&TaskFuture<u32>, [bool; 3])) {
    const PENDING: [bool; 3] = [false, false, false];
    const RUNNING: [bool; 3] = [false, false, true];
    const CANCELLED: [bool; 3] = [true, true, false];
    const FINISHED: [bool; 3] = [false, true, false];

    let states = States::new(pool);
    check(&states.pending, PENDING);
    check(&states.running, RUNNING);
    check(&states.cancelled, CANCELLED);
    check(&states.noticed, CANCELLED);
    check(&states.failed, FINISHED);
    check(&states.finished, FINISHED);
    states.held.open();
    check(&until_done(states.running), FINISHED);

    let (_completer, by_hand) = TaskFuture::promise();
    check(&by_hand, PENDING);
    finished().iter().for_each(|future| check(future, FINISHED));
    failed().iter().for_each(|(future, _)| check(future, FINISHED));
    cancelled().iter().for_each(|future| check(future, CANCELLED));
    // Taking the result does not change the state.
    for mut future in finished().into_iter().chain(failed().into_iter().map(|(future, _)| future)) {
        let _result = future.result_timeout(LONG);
        check(&future, FINISHED);
    }
    for mut future in cancelled() {
        assert_cancelled(&future.result_timeout(LONG).unwrap());
        check(&future, CANCELLED);
    }
}

/// FU-11.
#[test]
fn is_cancelled_in_the_cancelled_states_only() {
    over_pools(|pool| {
        each_state(pool, |future, [is_cancelled, _, _]| {
            assert_eq!(future.is_cancelled(), is_cancelled, "{future:?}");
        });
    });
}

/// FU-12.
#[test]
fn is_done_when_cancelled_or_finished() {
    over_pools(|pool| {
        each_state(pool, |future, [_, is_done, _]| {
            assert_eq!(future.is_done(), is_done, "{future:?}");
        });
    });
}

/// FU-13.
#[test]
fn is_running_while_running_only() {
    over_pools(|pool| {
        each_state(pool, |future, [_, _, is_running]| {
            assert_eq!(future.is_running(), is_running, "{future:?}");
        });
    });
}

/// FU-13.
#[test]
fn an_async_computation_runs_from_its_first_poll_on() {
    over_pools_async(|pool| async move {
        let held = Held::new();
        let occupied = pool.occupy_all(&held);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let polled = Gate::new();
        let first = polled.clone();
        let future = pool.submit_future(async move {
            first.open();
            receiver.await
        });
        assert!(!future.is_running());
        held.open();
        polled.wait();
        assert!(future.is_running());
        sender.send(42).unwrap();
        let future = until_done(future);
        assert!(!future.is_running());
        assert_eq!(future.await.unwrap(), Ok(42));
        drop(occupied);
    });
}

/// FU-14.
#[test]
fn result_timeout_of_zero_gives_what_is_there() {
    over_pools(|pool| {
        let mut states = States::new(pool);
        for _ in 0..2 {
            assert!(states.pending.result_timeout(Duration::ZERO).is_none());
            assert!(states.running.result_timeout(Duration::ZERO).is_none());
        }
        assert_cancelled(&states.cancelled.result_timeout(Duration::ZERO).unwrap());
        assert_cancelled(&states.noticed.result_timeout(Duration::ZERO).unwrap());
        assert_panicked(&states.failed.result_timeout(Duration::ZERO).unwrap(), "failed");
        assert_eq!(states.finished.result_timeout(Duration::ZERO).unwrap().unwrap(), 42);

        // A short wait in vain is no different.
        let limit = Duration::from_millis(1);
        assert!(states.pending.result_timeout(limit).is_none());
        assert!(states.running.result_timeout(limit).is_none());
        // The two that were waited for in vain are still good.
        states.held.open();
        assert_eq!(states.running.result_timeout(LONG).unwrap().unwrap(), 42);
        assert_eq!(states.pending.result().unwrap(), 42);

        // A result can be taken once.
        let again = states.finished.result_timeout(Duration::ZERO);
        assert!(matches!(again, Some(Err(Error::ResultTaken))), "{again:?}");
    });
    within_limit(|| {
        let (_completer, mut future) = TaskFuture::<u32>::promise();
        assert!(future.result_timeout(Duration::ZERO).is_none());
        for mut future in finished() {
            assert_eq!(future.result_timeout(Duration::ZERO).unwrap().unwrap(), 42);
        }
        for (mut future, error) in failed() {
            assert_eq!(name(&future.result_timeout(Duration::ZERO).unwrap()), error);
        }
        for mut future in cancelled() {
            assert_cancelled(&future.result_timeout(Duration::ZERO).unwrap());
        }
    });
}

/// FU-14.
#[test]
fn one_poll_gives_what_is_there() {
    over_pools_async(|pool| async move {
        let mut states = States::new(&pool);
        assert!((&mut states.pending).now_or_never().is_none());
        assert!((&mut states.running).now_or_never().is_none());
        assert_cancelled(&states.cancelled.now_or_never().unwrap());
        assert_cancelled(&states.noticed.now_or_never().unwrap());
        assert_panicked(&states.failed.now_or_never().unwrap(), "failed");
        assert_eq!(states.finished.now_or_never().unwrap().unwrap(), 42);
        states.held.open();
        assert_eq!(states.running.await.unwrap(), 42);
        assert_eq!(states.pending.await.unwrap(), 42);
    });
}

/// Has threads wait for futures made by hand, which `end` ends at about the same time, and checks
/// what the threads get.
fn release_threads<T: Send + 'static>(
    end: impl Fn(Completer<T>),
    check: impl Fn(Result<T, Error>) + Clone + Send + 'static,
) {
    for round in 0..scaled(300) {
        let (completer, mut future) = TaskFuture::promise();
        let (about_to_wait, check) = (Arc::new(Barrier::new(2)), check.clone());
        let here = about_to_wait.clone();
        let thread = thread::spawn(move || {
            here.wait();
            check(if round % 2 == 0 {
                future.result()
            } else {
                future.result_timeout(LONG).unwrap()
            });
        });
        about_to_wait.wait();
        end(completer);
        thread.join().unwrap();
    }
}

/// As [`release_threads`], with the order certain: the end comes when the thread does wait. The
/// thread is the only worker of a pool, and it lends its place once it has gone to wait, so a
/// second job runs after that.
fn release_a_worker<T: Send + 'static>(
    end: impl Fn(Completer<T>) + Clone + Send + 'static,
    check: impl Fn(Result<T, Error>),
) {
    let pool = pool(1);
    for round in 0..scaled(50) {
        let (completer, mut future) = TaskFuture::promise();
        let waiting = pool.submit(move || {
            if round % 2 == 0 { future.result() } else { future.result_timeout(LONG).unwrap() }
        });
        let end = end.clone();
        pool.submit(move || end(completer)).detach();
        check(waiting.result().unwrap());
    }
}

/// As [`release_threads`], for an async task that waits.
fn release_tasks<T: Send + 'static>(
    end: impl Fn(Completer<T>) + Clone + Send + Sync + 'static,
    check: impl Fn(Result<T, Error>) + Clone + Send + Sync + 'static,
) {
    on_runtimes(move || {
        let (end, check) = (end.clone(), check.clone());
        async move {
            for _ in 0..scaled(100) {
                let (completer, mut future) = TaskFuture::promise();
                assert!(futures::poll!(&mut future).is_pending());
                let waiting = tokio::spawn(future);
                let end = end.clone();
                tokio::task::spawn_blocking(move || end(completer)).await.unwrap();
                check(waiting.await.unwrap());
            }
        }
    });
}

/// FU-15.
#[test]
fn a_waiting_thread_is_released_by_the_value() {
    within_limit(|| {
        release_threads(|completer| completer.complete(Ok(5)), |got| assert_eq!(got.unwrap(), 5));
        release_a_worker(|completer| completer.complete(Ok(5)), |got| assert_eq!(got.unwrap(), 5));
    });
    over_pools(|pool| {
        for _ in 0..scaled(100) {
            let states = States::new(pool);
            let opener = thread::spawn(move || states.held.open());
            assert_eq!(states.pending.result().unwrap(), 42);
            assert_eq!(states.running.result().unwrap(), 42);
            opener.join().unwrap();
        }
    });
}

/// FU-15.
#[test]
fn a_value_at_any_moment_of_the_wait_releases_the_thread() {
    within_limit(|| {
        end_during_the_wait(
            |completer| completer.complete(Ok(5)),
            |future| assert_eq!(future.result().unwrap(), 5),
        );
        end_during_the_wait(
            |completer| completer.complete(Ok(5)),
            |mut future| assert_eq!(future.result_timeout(LONG).unwrap().unwrap(), 5),
        );
    });
}

/// FU-15.
#[test]
fn a_waiting_async_task_is_released_by_the_value() {
    release_tasks(|completer| completer.complete(Ok(5)), |got| assert_eq!(got.unwrap(), 5));
}

/// FU-16. `result` takes the future, so it can not be cancelled meanwhile by its handle, but by its
/// completer or by a shutdown of its pool.
#[test]
fn a_waiting_thread_is_released_by_a_cancellation() {
    within_limit(|| {
        release_threads::<u32>(drop, |got| assert_cancelled(&got));
        release_a_worker::<u32>(drop, |got| assert_cancelled(&got));
        for max_workers in POOL_SIZES {
            for _ in 0..scaled(50) {
                let closing = pool(max_workers);
                let states = States::new(&closing);
                let elsewhere = pool(1);
                let waiting = elsewhere.submit(move || states.pending.result());
                let handle = closing.clone();
                // Runs when the first job lends its worker's place, as it waits.
                elsewhere.submit(move || drop(handle.shutdown(Shutdown::CancelQueued))).detach();
                assert_cancelled(&waiting.result().unwrap());
                states.held.open();
                assert_eq!(states.running.result().unwrap(), 42);
            }
        }
    });
}

/// FU-16.
#[test]
fn a_waiting_async_task_is_released_by_a_cancellation() {
    release_tasks::<u32>(drop, |got| assert_cancelled(&got));
}

/// FU-17. There is no method `exception`: the error is that of the result.
#[test]
fn result_timeout_of_zero_gives_the_error_that_is_there() {
    over_pools(|pool| {
        fn error(future: &mut TaskFuture<u32>) -> Option<Error> {
            future.result_timeout(Duration::ZERO).unwrap().err()
        }
        let mut states = States::new(pool);
        assert!(states.pending.result_timeout(Duration::ZERO).is_none());
        assert!(states.running.result_timeout(Duration::ZERO).is_none());
        assert!(matches!(error(&mut states.cancelled), Some(Error::Cancelled)));
        assert!(matches!(error(&mut states.noticed), Some(Error::Cancelled)));
        match error(&mut states.failed) {
            Some(Error::Panicked(panicked)) => {
                assert_eq!(panicked.message(), "failed");
                assert!(panicked.location().unwrap().file().ends_with("backend.rs"));
            }
            other => panic!("{other:?}"),
        }
        assert!(error(&mut states.finished).is_none());
        states.held.open();
    });
}

/// FU-18.
#[test]
fn a_waiting_thread_is_released_by_the_error() {
    fn fail(completer: Completer<u32>) {
        completer.complete(Err(Error::queue_full(7)));
    }
    fn check(got: Result<u32, Error>) {
        assert!(matches!(got, Err(Error::QueueFull { capacity: 7, .. })), "{got:?}");
    }
    within_limit(|| {
        release_threads(fail, check);
        release_a_worker(fail, check);
    });
    release_tasks(fail, check);
    over_pools(|pool| {
        for _ in 0..scaled(50) {
            let held = Held::new();
            let gate = held.gate();
            let failing = pool.submit(move || -> u32 {
                gate.wait();
                std::panic::resume_unwind(Box::new("raised")) // without a report
            });
            let opener = thread::spawn(move || held.open());
            assert_panicked(&failing.result(), "raised");
            opener.join().unwrap();
        }
    });
}

// FU-19, FU-20: `Completer::complete` takes the completer, so a second completion does not
// compile; a doctest of `Completer` shows that. What is left is an end from two sides: the first
// one stays, and the value of the second one is dropped.

/// FU-19.
#[test]
fn a_value_after_a_cancellation_is_dropped() {
    within_limit(|| {
        let drops = CountDrops::default();
        let count = drops.0.clone();
        let (completer, future) = TaskFuture::promise();
        assert!(future.cancel());
        completer.complete(Ok(drops));
        assert_eq!(count.load(SeqCst), 1);
        assert!(future.is_cancelled());
        assert!(matches!(future.result(), Err(Error::Cancelled)));
    });
}

/// FU-19.
#[test]
fn a_cancellation_after_a_value_is_refused() {
    within_limit(|| {
        let (completer, future) = TaskFuture::promise();
        completer.complete(Ok(5));
        assert!(!future.cancel());
        assert_debug(&future, "finished returned i32");
        assert_eq!(future.result().unwrap(), 5);
    });
}

/// FU-19.
#[test]
fn of_a_value_and_a_cancellation_one_wins() {
    within_limit(|| {
        for _ in 0..scaled(2_000) {
            let drops = CountDrops::default();
            let count = drops.0.clone();
            let (completer, future) = TaskFuture::promise();
            let calls = Arc::new(AtomicUsize::new(0));
            let called = calls.clone();
            future.add_done_callback(move |_| {
                called.fetch_add(1, SeqCst);
            });
            let together = Arc::new(Barrier::new(2));
            let there = together.clone();
            let other = thread::spawn(move || {
                there.wait();
                completer.complete(Ok(drops));
            });
            together.wait();
            let cancelled = future.cancel();
            match future.result() {
                Ok(value) => {
                    assert!(!cancelled);
                    assert_eq!(count.load(SeqCst), 0);
                    drop(value);
                }
                Err(Error::Cancelled) => assert!(cancelled),
                Err(other) => panic!("{other:?}"),
            }
            other.join().unwrap();
            assert_eq!(count.load(SeqCst), 1);
            assert_eq!(calls.load(SeqCst), 1);
        }
    });
}

/// FU-19.
#[test]
fn a_value_after_the_time_limit_is_dropped() {
    over_pools(|pool| {
        let limit = Duration::from_millis(1);
        let held = Held::new();
        let (gate, drops) = (held.gate(), CountDrops::default());
        let count = drops.0.clone();
        let mut future = until_done(pool.task().timeout(limit).submit(move || {
            gate.wait();
            drops
        }));
        held.open();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(count.load(SeqCst), 1);
        let got = future.result_timeout(LONG).unwrap().map(drop);
        assert_timed_out(&got, limit, true);
    });
}

/// FU-20.
#[test]
fn an_error_after_a_cancellation_is_dropped() {
    within_limit(|| {
        let (completer, future) = TaskFuture::<u32>::promise();
        assert!(future.cancel());
        completer.complete(Err(Error::ShutDown));
        assert_cancelled(&future.result());
    });
}

/// FU-20.
#[test]
fn a_cancellation_after_an_error_is_refused() {
    within_limit(|| {
        let (completer, future) = TaskFuture::<u32>::promise();
        completer.complete(Err(Error::ShutDown));
        assert!(!future.cancel());
        assert_debug(&future, "finished raised ShutDown");
        assert!(matches!(future.result(), Err(Error::ShutDown)));
    });
}

/// FU-20.
#[test]
fn a_panic_after_the_time_limit_is_dropped() {
    over_pools(|pool| {
        let limit = Duration::from_millis(1);
        let held = Held::new();
        let gate = held.gate();
        let future = until_done(pool.task().timeout(limit).submit(move || -> u32 {
            gate.wait();
            panic!("after the time limit")
        }));
        // The future is finished, although the job is not.
        assert!(future.is_done() && !future.is_running());
        assert!(!future.cancel() && !future.is_cancelled());
        held.open();
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(report.failed, 0); // counted at the limit, before the shutdown began
        assert_debug(&future, "finished raised TimedOut");
        assert_timed_out(&future.result(), limit, true);
        assert_eq!(pool.metrics().failed, 1);
    });
}
