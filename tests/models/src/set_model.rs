//! A completion set: the consumer gets every member once, and never sleeps while there is one.

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;
use std::future::poll_fn;

use crate::check;
use crate::core::set::{CompletionSet, WakeAt};

#[test]
fn the_consumer_gets_every_member_once() {
    check(|| {
        let set = Arc::new(CompletionSet::new(2, WakeAt::Any));
        let workers = [0, 1].map(|index| {
            let set = Arc::clone(&set);
            thread::spawn(move || set.finished(index, false))
        });
        let mut all = Vec::new();
        while all.len() < 2 {
            block_on(poll_fn(|cx| set.poll(cx.waker(), &mut all)));
        }
        all.sort();
        assert_eq!(all, [0, 1]);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

fn waits_for(wake_at: WakeAt, failed: [bool; 2]) {
    check(move || {
        let set = Arc::new(CompletionSet::new(2, wake_at));
        let workers = [0, 1].map(|index| {
            let set = Arc::clone(&set);
            thread::spawn(move || set.finished(index, failed[index]))
        });
        block_on(poll_fn(|cx| set.poll_over(cx.waker())));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn a_wait_for_all_ends_with_the_last() {
    waits_for(WakeAt::All, [false, true]);
}

#[test]
fn a_wait_for_the_first_ends_with_any() {
    waits_for(WakeAt::First, [false, false]);
}

#[test]
fn a_wait_for_a_failure_ends_with_it_or_with_the_last() {
    waits_for(WakeAt::Failure, [false, true]);
    waits_for(WakeAt::Failure, [false, false]);
}
