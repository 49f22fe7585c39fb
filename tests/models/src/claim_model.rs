//! Claims: a task that was sent to a worker either starts there or is withdrawn. Also if the worker
//! dies, and though its slot is used again.
//!
//! Each model runs with the crate's claims and then with faults planted: a type that replaces one
//! operation. So it is known of each model that it finds them.

use loom::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::check;
use crate::local::claim::{Claim, STARTED, STOP, WITHDRAWN};
use crate::local::control_block::ControlBlock;

fn claim(block: &ControlBlock) -> Claim<'_> {
    Claim::new(block, 0)
}

/// The operations on the claim in slot 0, and the orders in which the pool and the worker use them.
trait Claims: 'static {
    fn issue(block: &ControlBlock) {
        claim(block).issue();
    }

    fn withdraw(block: &ControlBlock) -> bool {
        claim(block).withdraw()
    }

    fn ask_to_stop(block: &ControlBlock) {
        claim(block).ask_to_stop();
    }

    fn start(block: &ControlBlock) -> bool {
        claim(block).start()
    }

    /// The worker comes to the task.
    fn run(block: &ControlBlock, task: impl FnOnce()) {
        if Self::start(block) {
            task();
        }
    }

    /// Returns whether the task was withdrawn; otherwise it is asked to stop.
    fn cancel(block: &ControlBlock) -> bool {
        let is_withdrawn = Self::withdraw(block);
        if !is_withdrawn {
            Self::ask_to_stop(block);
        }
        is_withdrawn
    }

    /// Cancels task 1 if the slot is still its own, under the pool's lock.
    fn cancel_first(slot: &Mutex<u32>, block: &ControlBlock) {
        let task = slot.lock().unwrap();
        if *task == 1 {
            Self::cancel(block);
        }
    }

    /// Waits until the worker has replied to task 1, or has skipped it.
    fn wait_for_reply(replies: &AtomicUsize) {
        while replies.load(Acquire) < 1 {
            thread::yield_now();
        }
    }
}

struct Shipped;

impl Claims for Shipped {}

fn issued<C: Claims>() -> Arc<ControlBlock> {
    let block = Arc::new(ControlBlock::new());
    C::issue(&block);
    block
}

// ---- Faults that more than one model finds ----

struct LooksThenWithdraws;

impl Claims for LooksThenWithdraws {
    fn withdraw(block: &ControlBlock) -> bool {
        let has_started = claim(block).has_started();
        if !has_started {
            block.claims[0].store(WITHDRAWN, Release);
        }
        !has_started
    }
}

struct LooksThenStarts;

impl Claims for LooksThenStarts {
    fn start(block: &ControlBlock) -> bool {
        let is_free = block.claims[0].load(Acquire) == 0;
        if is_free {
            block.claims[0].store(STARTED, Release);
            block.started_at[0].store(7, Release);
        }
        is_free
    }
}

/// The pool takes a task back for which no start is noted, and leaves the claim as it is.
struct OnlyLooks;

impl Claims for OnlyLooks {
    fn withdraw(block: &ControlBlock) -> bool {
        !claim(block).has_started()
    }
}

struct KeepsTheStop;

impl Claims for KeepsTheStop {
    fn issue(block: &ControlBlock) {
        block.started_at[0].store(0, Release);
        block.claims[0].fetch_and(STOP, Release);
    }
}

// ---- Start ----

fn a_task_starts_or_is_withdrawn<C: Claims>() {
    let block = issued::<C>();
    let of_worker = Arc::clone(&block);
    let worker = thread::spawn(move || C::start(&of_worker));
    let is_withdrawn = C::withdraw(&block);
    let has_started = worker.join().unwrap();
    assert_ne!(has_started, is_withdrawn, "one of the two");
    assert_eq!(claim(&block).has_started(), has_started, "both know");
    assert_eq!(C::withdraw(&block), is_withdrawn, "that is final");
    assert_eq!(claim(&block).started_at().is_some(), has_started);
}

#[test]
fn start() {
    check(a_task_starts_or_is_withdrawn::<Shipped>);
}

#[test]
#[should_panic(expected = "one of the two")]
fn start_with_a_withdrawal_that_looks_first() {
    check(a_task_starts_or_is_withdrawn::<LooksThenWithdraws>);
}

#[test]
#[should_panic(expected = "one of the two")]
fn start_with_a_worker_that_looks_first() {
    check(a_task_starts_or_is_withdrawn::<LooksThenStarts>);
}

/// The pool looks at when a task began while the worker begins it: it sees nothing yet, or the time,
/// and not that of the task before.
fn the_time_of_the_start_is_never_half_there<C: Claims>() {
    let block = Arc::new(ControlBlock::new());
    // Of the claim's last task.
    block.claims[0].store(STARTED, Release);
    block.started_at[0].store(5, Release);
    C::issue(&block);
    let of_worker = Arc::clone(&block);
    let worker = thread::spawn(move || C::start(&of_worker));
    if let Some(time) = claim(&block).started_at() {
        assert_eq!(time.as_nanos(), 7, "it is this task's");
        assert!(claim(&block).has_started() && !C::withdraw(&block));
    }
    assert!(worker.join().unwrap(), "it is not started");
}

#[test]
fn time_of_the_start() {
    check(the_time_of_the_start_is_never_half_there::<Shipped>);
}

struct KeepsTheTime;

impl Claims for KeepsTheTime {
    fn issue(block: &ControlBlock) {
        block.claims[0].store(0, Release);
    }
}

#[test]
#[should_panic(expected = "it is this task's")]
fn time_of_the_start_with_that_of_the_task_before() {
    check(the_time_of_the_start_is_never_half_there::<KeepsTheTime>);
}

struct KeepsTheWord;

impl Claims for KeepsTheWord {
    fn issue(block: &ControlBlock) {
        block.started_at[0].store(0, Release);
    }
}

#[test]
#[should_panic(expected = "it is not started")]
fn time_of_the_start_with_the_word_of_the_task_before() {
    check(the_time_of_the_start_is_never_half_there::<KeepsTheWord>);
}

// ---- Withdrawal ----

fn a_task_is_withdrawn_or_sees_that_it_is_asked_to_stop<C: Claims>() {
    let block = issued::<C>();
    let of_worker = Arc::clone(&block);
    let worker = thread::spawn(move || {
        let has_started = C::start(&of_worker);
        while has_started && !claim(&of_worker).is_asked_to_stop() {
            thread::yield_now();
        }
        has_started
    });
    let is_withdrawn = C::cancel(&block);
    assert_ne!(worker.join().unwrap(), is_withdrawn, "one of the two");
    assert_eq!(claim(&block).has_started(), !is_withdrawn, "a start is never forgotten");
}

#[test]
fn withdrawal() {
    check(a_task_is_withdrawn_or_sees_that_it_is_asked_to_stop::<Shipped>);
}

struct StopsFirst;

impl Claims for StopsFirst {
    fn cancel(block: &ControlBlock) -> bool {
        Self::ask_to_stop(block);
        Self::withdraw(block)
    }
}

#[test]
#[should_panic(expected = "one of the two")]
fn withdrawal_after_the_stop_request() {
    check(a_task_is_withdrawn_or_sees_that_it_is_asked_to_stop::<StopsFirst>);
}

struct StopReplacesStart;

impl Claims for StopReplacesStart {
    fn ask_to_stop(block: &ControlBlock) {
        block.claims[0].store(STOP, Release);
    }
}

#[test]
#[should_panic(expected = "a start is never forgotten")]
fn withdrawal_with_a_stop_request_that_replaces_the_start() {
    check(a_task_is_withdrawn_or_sees_that_it_is_asked_to_stop::<StopReplacesStart>);
}

/// An idle worker takes a task over from a busy one, which may come to it at that moment.
fn a_task_that_is_taken_over_runs_once<C: Claims>() {
    let (busy, runs) = (issued::<C>(), Arc::new(AtomicUsize::new(0)));
    let (block, ran) = (Arc::clone(&busy), Arc::clone(&runs));
    let first = thread::spawn(move || {
        C::run(&block, || {
            ran.fetch_add(1, AcqRel);
        });
    });
    if C::withdraw(&busy) {
        let (idle, ran) = (issued::<C>(), Arc::clone(&runs));
        let second = thread::spawn(move || {
            C::run(&idle, || {
                ran.fetch_add(1, AcqRel);
            });
        });
        second.join().unwrap();
    }
    first.join().unwrap();
    assert_eq!(runs.load(Acquire), 1, "it runs once");
}

#[test]
fn take_over() {
    check(a_task_that_is_taken_over_runs_once::<Shipped>);
}

#[test]
#[should_panic(expected = "it runs once")]
fn take_over_of_what_has_no_start_noted() {
    check(a_task_that_is_taken_over_runs_once::<OnlyLooks>);
}

#[test]
#[should_panic(expected = "it runs once")]
fn take_over_from_a_worker_that_looks_first() {
    check(a_task_that_is_taken_over_runs_once::<LooksThenStarts>);
}

// ---- Death ----

/// A worker is killed, and dies at any moment. What it has not begun is taken back at once, also while
/// it is still dying: it is what the pool has distrusted. What it had begun is lost.
fn a_task_of_a_dying_worker_is_taken_back_or_lost<C: Claims>() {
    let block = issued::<C>();
    let (killed, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let worker = {
        let (block, killed, runs) = (Arc::clone(&block), Arc::clone(&killed), Arc::clone(&runs));
        thread::spawn(move || {
            let is_alive = || killed.load(Acquire) == 0;
            if is_alive() {
                C::run(&block, || {
                    if is_alive() {
                        runs.fetch_add(1, AcqRel);
                    }
                });
            }
        })
    };
    killed.store(1, Release);
    let is_taken_back = C::withdraw(&block);
    if is_taken_back {
        runs.fetch_add(1, AcqRel); // elsewhere
    }
    worker.join().unwrap();
    let is_lost = claim(&block).has_started();
    assert!(runs.load(Acquire) <= 1, "it runs at most once");
    assert_ne!(is_taken_back, is_lost, "one of the two");
}

#[test]
fn death() {
    check(a_task_of_a_dying_worker_is_taken_back_or_lost::<Shipped>);
}

#[test]
#[should_panic(expected = "it runs at most once")]
fn death_with_what_has_no_start_noted_taken_back() {
    check(a_task_of_a_dying_worker_is_taken_back_or_lost::<OnlyLooks>);
}

struct RunsThenStarts;

impl Claims for RunsThenStarts {
    fn run(block: &ControlBlock, task: impl FnOnce()) {
        if block.claims[0].load(Acquire) == 0 {
            task();
        }
        Self::start(block);
    }
}

#[test]
#[should_panic(expected = "it runs at most once")]
fn death_with_a_start_that_is_noted_after_the_run() {
    check(a_task_of_a_dying_worker_is_taken_back_or_lost::<RunsThenStarts>);
}

// ---- Reuse of the slot, and a late stop request ----

/// Starts a worker with two tasks in the same slot, the second one after the reply to the first: the
/// counts of replies and of what was sent; whether each has started, the second one unasked to stop.
fn two_tasks<C: Claims>(
    block: &Arc<ControlBlock>,
) -> (Arc<AtomicUsize>, Arc<AtomicUsize>, thread::JoinHandle<(bool, bool)>) {
    let (replies, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
    let worker = {
        let (block, replies, sent) = (Arc::clone(block), Arc::clone(&replies), Arc::clone(&sent));
        // What the socket carries is known to its reader: here, by what is counted.
        thread::spawn(move || {
            let first = C::start(&block);
            replies.store(1, Release);
            while sent.load(Acquire) < 2 {
                thread::yield_now();
            }
            (first, !claim(&block).is_asked_to_stop() && C::start(&block))
        })
    };
    (replies, sent, worker)
}

fn a_claim_that_is_issued_again_knows_nothing_of_its_last_task<C: Claims>() {
    let block = issued::<C>();
    let (replies, sent, worker) = two_tasks::<C>(&block);
    let is_withdrawn = C::cancel(&block);
    C::wait_for_reply(&replies);
    C::issue(&block);
    let slot = claim(&block);
    assert_eq!((slot.has_started(), slot.started_at()), (false, None), "nothing is known of it");
    sent.store(2, Release);
    assert_eq!(worker.join().unwrap(), (!is_withdrawn, true), "each has its own claim");
}

#[test]
fn reuse() {
    check(a_claim_that_is_issued_again_knows_nothing_of_its_last_task::<Shipped>);
}

#[test]
#[should_panic(expected = "each has its own claim")]
fn reuse_with_the_stop_request_of_the_last_task() {
    check(a_claim_that_is_issued_again_knows_nothing_of_its_last_task::<KeepsTheStop>);
}

/// A task that was withdrawn gives its slot back at once: the worker has not skipped it yet.
struct WaitsForNoReply;

impl Claims for WaitsForNoReply {
    fn wait_for_reply(_: &AtomicUsize) {}
}

#[test]
#[should_panic(expected = "each has its own claim")]
fn reuse_before_the_worker_has_skipped_the_last_task() {
    check(a_claim_that_is_issued_again_knows_nothing_of_its_last_task::<WaitsForNoReply>);
}

/// The first task is cancelled while its reply is on the way, and its slot is used again.
fn a_late_stop_request_reaches_no_later_task<C: Claims>() {
    let block = issued::<C>();
    let (replies, sent, worker) = two_tasks::<C>(&block);
    // The number of its task, under the pool's lock.
    let slot = Arc::new(Mutex::new(1));
    let canceller = {
        let (slot, block) = (Arc::clone(&slot), Arc::clone(&block));
        thread::spawn(move || C::cancel_first(&slot, &block))
    };
    C::wait_for_reply(&replies);
    let mut task = slot.lock().unwrap();
    C::issue(&block);
    *task = 2;
    drop(task);
    sent.store(2, Release);
    let (_, second) = worker.join().unwrap();
    canceller.join().unwrap();
    assert!(second, "the second task is not to stop");
    assert!(!claim(&block).is_asked_to_stop(), "is not to stop");
}

#[test]
fn late_stop() {
    check(a_late_stop_request_reaches_no_later_task::<Shipped>);
}

/// The lock is released between the look at whose the slot is, and the request.
struct StopsAfterTheLock;

impl Claims for StopsAfterTheLock {
    fn cancel_first(slot: &Mutex<u32>, block: &ControlBlock) {
        let is_first = *slot.lock().unwrap() == 1;
        if is_first {
            Self::cancel(block);
        }
    }
}

#[test]
#[should_panic(expected = "is not to stop")]
fn late_stop_after_the_lock_was_released() {
    check(a_late_stop_request_reaches_no_later_task::<StopsAfterTheLock>);
}

#[test]
#[should_panic(expected = "is not to stop")]
fn late_stop_with_a_claim_that_keeps_it() {
    check(a_late_stop_request_reaches_no_later_task::<KeepsTheStop>);
}
