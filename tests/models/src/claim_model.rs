//! Claims: a task that was sent to a worker either starts there or is withdrawn.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use loom::thread;

use crate::check;
use crate::local::claim::Claim;
use crate::local::control_block::ControlBlock;

#[test]
fn a_task_starts_or_is_withdrawn() {
    check(|| {
        let block = Arc::new(ControlBlock::new());
        Claim::new(&block, 0).issue();
        let of_worker = Arc::clone(&block);
        let worker = thread::spawn(move || Claim::new(&of_worker, 0).start());
        let slot = Claim::new(&block, 0);
        let is_withdrawn = slot.withdraw();
        assert_eq!(slot.has_started(), !is_withdrawn);
        assert_eq!(worker.join().unwrap(), !is_withdrawn);
        assert_eq!(slot.withdraw(), is_withdrawn, "that is final");
        assert_eq!(slot.started_at().is_some(), !is_withdrawn);
    });
}

/// As `cancel` does it.
#[test]
fn what_can_not_be_withdrawn_sees_that_it_is_asked_to_stop() {
    check(|| {
        let block = Arc::new(ControlBlock::new());
        Claim::new(&block, 0).issue();
        let of_worker = Arc::clone(&block);
        let worker = thread::spawn(move || {
            let slot = Claim::new(&of_worker, 0);
            if !slot.start() {
                return false;
            }
            while !slot.is_asked_to_stop() {
                thread::yield_now();
            }
            true
        });
        let slot = Claim::new(&block, 0);
        let is_withdrawn = slot.withdraw();
        if !is_withdrawn {
            slot.ask_to_stop();
        }
        assert_eq!(worker.join().unwrap(), !is_withdrawn);
    });
}

/// The pool looks at when a task began while the worker begins it: it sees nothing yet, or the time,
/// and not that of the task before.
#[test]
fn the_time_of_the_start_is_never_half_there() {
    check(|| {
        let block = Arc::new(ControlBlock::new());
        block.started_at[0].store(5, Release); // of the claim's last task
        Claim::new(&block, 0).issue();
        let of_worker = Arc::clone(&block);
        let worker = thread::spawn(move || Claim::new(&of_worker, 0).start());
        let slot = Claim::new(&block, 0);
        if let Some(time) = slot.started_at() {
            assert_eq!(time.as_nanos(), 7);
            assert!(slot.has_started() && !slot.withdraw());
        }
        assert!(worker.join().unwrap() || slot.withdraw());
    });
}

/// An idle worker takes a task over from a busy one, which may come to it at that moment.
#[test]
fn a_task_that_is_taken_over_runs_once() {
    check(|| {
        let busy = Arc::new(ControlBlock::new());
        let runs = Arc::new(AtomicUsize::new(0));
        Claim::new(&busy, 0).issue();
        let (block, ran) = (Arc::clone(&busy), Arc::clone(&runs));
        let first = thread::spawn(move || {
            if Claim::new(&block, 0).start() {
                ran.fetch_add(1, AcqRel);
            }
        });
        if Claim::new(&busy, 0).withdraw() {
            let idle = Arc::new(ControlBlock::new());
            Claim::new(&idle, 0).issue();
            let ran = Arc::clone(&runs);
            let second = thread::spawn(move || {
                assert!(Claim::new(&idle, 0).start());
                ran.fetch_add(1, AcqRel);
            });
            second.join().unwrap();
        }
        first.join().unwrap();
        assert_eq!(runs.load(Acquire), 1);
    });
}

/// A claim is issued again when the reply to its task is there; what the socket carries is known to
/// its reader.
#[test]
fn a_claim_that_is_issued_again_knows_nothing_of_its_last_task() {
    check(|| {
        let block = Arc::new(ControlBlock::new());
        Claim::new(&block, 0).issue();
        let (replies, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
        let worker = {
            let (block, replies, sent) =
                (Arc::clone(&block), Arc::clone(&replies), Arc::clone(&sent));
            thread::spawn(move || {
                let slot = Claim::new(&block, 0);
                let first = slot.start();
                replies.store(1, Release);
                while sent.load(Acquire) < 2 {
                    thread::yield_now();
                }
                (first, !slot.is_asked_to_stop() && slot.start())
            })
        };
        let slot = Claim::new(&block, 0);
        let is_withdrawn = slot.withdraw();
        if !is_withdrawn {
            slot.ask_to_stop();
        }
        while replies.load(Acquire) < 1 {
            thread::yield_now();
        }
        slot.issue();
        assert_eq!((slot.has_started(), slot.started_at()), (false, None));
        sent.store(2, Release);
        assert_eq!(worker.join().unwrap(), (!is_withdrawn, true));
    });
}
