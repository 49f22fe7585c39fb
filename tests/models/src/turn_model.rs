//! The turn to read: one thread has it, and one that user code keeps is found out.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::turn::{Standby, Turn};

/// What only the thread may touch that has the turn.
struct Owned(Turn, loom::cell::UnsafeCell<u32>);

// SAFETY: that is what the model checks.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    fn read(&self) {
        // SAFETY: loom finds out a second access at the same time.
        self.1.with_mut(|count| unsafe { *count += 1 });
    }
}

#[test]
fn the_turn_is_one_threads_though_it_is_taken_over() {
    check(|| {
        let (turn, mut reading) = Turn::new();
        let owned = Arc::new(Owned(turn, loom::cell::UnsafeCell::new(0)));
        let of_standby = Arc::clone(&owned);
        let standby = thread::spawn(move || {
            let look = of_standby.0.look();
            let taken = of_standby.0.take_over(look);
            if taken.is_some() {
                of_standby.read();
            }
            taken.is_some()
        });
        let mut is_kept = true;
        for _ in 0..2 {
            owned.read();
            owned.0.leave(&mut reading);
            is_kept = owned.0.come_back(&mut reading);
            if !is_kept {
                break;
            }
        }
        if is_kept {
            owned.read();
        }
        assert_eq!(standby.join().unwrap(), !is_kept);
    });
}

/// The standby goes to sleep while user code is begun: it sees that, or is woken.
#[test]
fn user_code_is_never_left_unwatched() {
    check(|| {
        let (turn, mut reading) = Turn::new();
        turn.watch();
        let turn = Arc::new(turn);
        let of_standby = Arc::clone(&turn);
        let standby = thread::spawn(move || of_standby.stop_watching());
        let is_to_be_woken = turn.leave(&mut reading);
        let sleeps = standby.join().unwrap();
        assert!(is_to_be_woken || !sleeps);
    });
}

/// A thread was about to wake the standby, and comes late: that has taken over by itself, and runs user
/// code in its turn.
#[test]
fn user_code_is_watched_although_a_thread_wakes_a_standby_that_has_left() {
    check(|| {
        let (turn, mut reading) = Turn::new();
        let both = Arc::new((turn, Standby::none()));
        assert!(both.1.enlist(&both.0, || ()));
        both.0.leave(&mut reading);
        let look = both.0.look();
        let of_standby = Arc::clone(&both);
        let standby = thread::spawn(move || {
            let (turn, standby) = &*of_standby;
            let mut reading = standby.take_over(turn, look).expect("nobody else does");
            if turn.leave(&mut reading) {
                standby.wake(turn, |()| (), || Some(()));
            }
        });
        both.1.wake(&both.0, |()| (), || Some(()));
        standby.join().unwrap();
        assert!(both.1.take().is_some(), "nobody watches");
    });
}
