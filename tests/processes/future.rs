//! FU: CPython's `test_future.py`, for what it says of futures whose task is in another process. What
//! becomes of futures made by hand is in `conformance`.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ProcessPoolExecutor, ReturnWhen, Shutdown, TaskFuture, call, wait,
};

use crate::over_pools;
use crate::support::{POOL_SIZES, within_limit};
use crate::tools::{Gate, LONG, assert_cancelled, assert_panicked, occupy_all, pool};

fn forty_two(gate: Gate) -> u32 {
    gate.wait();
    42
}

fn fail(gate: Gate) -> u32 {
    gate.wait();
    panic!("failed");
}

fn until_done(future: TaskFuture<u32>) -> TaskFuture<u32> {
    let mut sets = wait([future], ReturnWhen::AllCompleted).result();
    sets.done.pop().unwrap()
}

/// A future in each state; the gate ends those that are not done.
struct States {
    gate: Gate,
    pending: TaskFuture<u32>,
    running: TaskFuture<u32>,
    cancelled: TaskFuture<u32>,
    failed: TaskFuture<u32>,
    finished: TaskFuture<u32>,
    others: Vec<TaskFuture<u32>>,
}

impl States {
    fn new(pool: &ProcessPoolExecutor) -> Self {
        let open = Gate::new();
        open.open();
        let failed = until_done(pool.submit(call!(fail(open.clone()))));
        let finished = until_done(pool.submit(call!(forty_two(open.clone()))));
        let gate = Gate::new();
        let mut others = occupy_all(pool, &gate);
        let running = others.remove(0);
        let submit = || pool.submit(call!(forty_two(gate.clone())));
        let (pending, cancelled) = (submit(), submit());
        assert!(cancelled.cancel());
        Self { gate, pending, running, cancelled, failed, finished, others }
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

fn observe(future: &TaskFuture<u32>, seen: &Seen) {
    let seen = Arc::clone(seen);
    future.add_done_callback(move |result| {
        let text = match result {
            Ok(value) => value.to_string(),
            Err(Error::Panicked(panicked)) => panicked.message().to_owned(),
            Err(error) => format!("{error:?}").split(':').next().unwrap().to_owned(),
        };
        seen.lock().unwrap().push(text);
    });
}

fn take(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut *seen.lock().unwrap())
}

/// FU-1, FU-2, FU-3. Callbacks come before the future is seen as done.
#[test]
fn callbacks_added_before_the_end_run_with_it() {
    over_pools(|pool| {
        let gate = Gate::new();
        let occupied = occupy_all(pool, &gate);
        let (opened, seen) = (Gate::new(), Seen::default());
        opened.open();
        let value = pool.submit(call!(forty_two(opened.clone())));
        let failure = pool.submit(call!(fail(opened.clone())));
        let cancelled = pool.submit(call!(forty_two(opened.clone())));
        [&value, &failure, &cancelled].into_iter().for_each(|future| observe(future, &seen));
        assert_eq!(take(&seen), [""; 0]);

        assert!(cancelled.cancel());
        assert_eq!(take(&seen), ["Cancelled"]);
        gate.open();
        assert_eq!(until_done(value).result().unwrap(), 42);
        assert_panicked(&until_done(failure).result(), "failed");
        let mut texts = take(&seen);
        texts.sort();
        assert_eq!(texts, ["42", "failed"]);
        drop(occupied);
    });
}

/// FU-4.
#[test]
fn a_callback_that_panics_is_reported_and_the_others_run() {
    over_pools(|pool| {
        let (gate, seen) = (Gate::new(), Seen::default());
        let future = pool.submit(call!(forty_two(gate.clone())));
        observe(&future, &seen);
        future.add_done_callback(|_| panic!("a callback of a process task"));
        observe(&future, &seen);
        gate.open();
        assert_eq!(until_done(future).result().unwrap(), 42);
        assert_eq!(take(&seen), ["42", "42"]);
    });
}

/// FU-5, FU-6, FU-7.
#[test]
fn callbacks_added_after_the_end_run_at_once() {
    over_pools(|pool| {
        let (states, seen) = (States::new(pool), Seen::default());
        for (future, expected) in
            [(&states.finished, "42"), (&states.failed, "failed"), (&states.cancelled, "Cancelled")]
        {
            observe(future, &seen);
            assert_eq!(take(&seen), [expected]);
        }
        states.gate.open();
    });
}

/// FU-8.
#[test]
fn a_panic_of_a_callback_added_after_the_end_does_not_reach_the_caller() {
    over_pools(|pool| {
        let states = States::new(pool);
        states.finished.add_done_callback(|_| panic!("a callback of a process task"));
        states.gate.open();
    });
}

/// FU-9.
#[test]
fn the_debug_text_shows_the_state() {
    over_pools(|pool| {
        let states = States::new(pool);
        for (future, state) in [
            (&states.pending, "pending"),
            (&states.running, "running"),
            (&states.cancelled, "cancelled"),
            (&states.failed, "finished raised"),
            (&states.finished, "finished returned u32"),
        ] {
            let text = format!("{future:?}");
            assert!(text.contains(state), "{text}");
        }
        states.gate.open();
    });
}

/// FU-10.
#[test]
fn cancel_withdraws_a_pending_task_only() {
    over_pools(|pool| {
        let states = States::new(pool);
        for _ in 0..2 {
            assert!(states.cancelled.cancel() && states.pending.cancel());
            assert!(!states.failed.cancel() && !states.finished.cancel());
            // Its job does not look at the request.
            assert!(!states.running.cancel() && states.running.is_running());
        }
        assert_cancelled(&states.pending.result());
        assert_cancelled(&states.cancelled.result());
        states.gate.open();
        states.running.result().unwrap();
        assert_eq!(states.finished.result().unwrap(), 42);
        assert_panicked(&states.failed.result(), "failed");
    });
}

/// FU-11, FU-12, FU-13.
#[test]
fn is_cancelled_is_done_and_is_running_in_each_state() {
    fn of(future: &TaskFuture<u32>) -> [bool; 3] {
        [future.is_cancelled(), future.is_done(), future.is_running()]
    }
    over_pools(|pool| {
        let mut states = States::new(pool);
        assert_eq!(of(&states.pending), [false, false, false]);
        assert_eq!(of(&states.running), [false, false, true]);
        assert_eq!(of(&states.cancelled), [true, true, false]);
        assert_eq!(of(&states.failed), [false, true, false]);
        assert_eq!(of(&states.finished), [false, true, false]);
        states.gate.open();
        assert_eq!(of(&until_done(states.running)), [false, true, false]);
        // Taking the result does not change the state.
        drop((states.finished.result_timeout(LONG), states.cancelled.result_timeout(LONG)));
        assert_eq!(of(&states.finished), [false, true, false]);
        assert_eq!(of(&states.cancelled), [true, true, false]);
    });
}

/// FU-14, FU-17.
#[test]
fn result_timeout_gives_what_is_there() {
    over_pools(|pool| {
        let mut states = States::new(pool);
        for limit in [Duration::ZERO, Duration::from_millis(1)] {
            assert!(states.pending.result_timeout(limit).is_none());
            assert!(states.running.result_timeout(limit).is_none());
        }
        assert_cancelled(&states.cancelled.result_timeout(Duration::ZERO).unwrap());
        assert_panicked(&states.failed.result_timeout(Duration::ZERO).unwrap(), "failed");
        assert_eq!(states.finished.result_timeout(Duration::ZERO).unwrap().unwrap(), 42);
        // The two that were waited for in vain are still good.
        states.gate.open();
        assert!(states.running.result_timeout(LONG).unwrap().is_ok());
        assert_eq!(states.pending.result().unwrap(), 42);
        states.others.into_iter().for_each(|other| assert!(other.result().is_ok()));
    });
}

/// FU-15, FU-18. Whether the threads wait already when the end comes, or not.
#[test]
fn waiting_threads_are_released_by_the_value_and_by_the_error() {
    over_pools(|pool| {
        let gate = Gate::new();
        let occupied = occupy_all(pool, &gate);
        let value = pool.submit(call!(forty_two(gate.clone())));
        let failure = pool.submit(call!(fail(gate.clone())));
        let threads = [value, failure].map(|future| thread::spawn(move || future.result()));
        gate.open();
        let [value, failure] = threads.map(|thread| thread.join().unwrap());
        assert_eq!(value.unwrap(), 42);
        assert_panicked(&failure, "failed");
        drop(occupied);
    });
}

/// FU-16.
#[test]
fn a_waiting_thread_is_released_by_a_cancellation() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let occupied = occupy_all(&pool, &gate);
            let future = pool.submit(call!(forty_two(gate.clone())));
            let waiting = thread::spawn(move || future.result());
            let ended = pool.shutdown(Shutdown::CancelQueued);
            assert_cancelled(&waiting.join().unwrap());
            gate.open();
            assert_eq!(ended.result().unwrap().cancelled, 1);
            drop(occupied);
        }
    });
}
