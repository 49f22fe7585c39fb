//! A local queue: every task that is put into it is taken once.

use loom::thread;

use crate::check;
use crate::core::local_queue::OwnLocalQueue;
use crate::task_model::queued;

#[test]
fn each_task_is_taken_once_by_its_owner_or_a_thief() {
    check(|| {
        let mut own = OwnLocalQueue::new();
        let (first, _kept_first) = queued();
        let (second, _kept_second) = queued();
        let (third, _kept_third) = queued();
        own.fill([first, second].into_iter());
        let queue = own.clone();
        let thief = thread::spawn(move || u32::from(queue.take().is_some()));
        let mut taken = u32::from(own.take().is_some());
        own.fill([third].into_iter());
        taken += thief.join().unwrap();
        while own.take().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 3);
    });
}

#[test]
fn what_is_left_is_dropped_with_the_queue() {
    check(|| {
        let mut own = OwnLocalQueue::new();
        let (task, outcome) = queued();
        own.fill([task].into_iter());
        let queue = own.clone();
        let other = thread::spawn(move || drop(queue));
        drop(own);
        other.join().unwrap();
        drop(outcome);
    });
}
