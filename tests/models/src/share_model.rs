//! A share: every task that is put into it is taken once.

use loom::thread;

use crate::check;
use crate::core::share::OwnShare;
use crate::task_model::queued;

#[test]
fn each_task_is_taken_once_by_whoever() {
    check(|| {
        let mut own = OwnShare::new();
        let (first, _kept_first) = queued();
        let (second, _kept_second) = queued();
        let (third, _kept_third) = queued();
        own.fill([first, second].into_iter());
        let share = own.clone();
        let thief = thread::spawn(move || u32::from(share.take().is_some()));
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
fn what_is_left_is_dropped_with_the_share() {
    check(|| {
        let mut own = OwnShare::new();
        let (task, outcome) = queued();
        own.fill([task].into_iter());
        let share = own.clone();
        let other = thread::spawn(move || drop(share));
        drop(own);
        other.join().unwrap();
        drop(outcome);
    });
}
