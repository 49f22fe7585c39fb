//! The end of a pool: what was accepted runs or is withdrawn, once; the workers find that nothing
//! more can come; and each waiter for the end is woken by it, and not before.
//!
//! To loom, a waiter or a worker that is left asleep is a deadlock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Wake, Waker};
use std::time::Duration;

use loom::future::block_on;

use crate::core::extra::Options;
use crate::core::outcome::Outcome;
use crate::error::Error;
use crate::lifecycle::Accepting;
use crate::shutdown::{Closing, Shutdown};
use crate::sync::thread::ONE;
use crate::task_model::{Counts, Value, drop_future, wait};
use crate::test_pool::TestPool;
use crate::{check, check_with};

const HOW: [Shutdown; 2] = [Shutdown::Drain, Shutdown::CancelQueued];

/// Whether a task ran. It must be known, now that its pool has ended.
fn ran(submitted: Result<Outcome<Value>, Error>) -> bool {
    match submitted {
        Err(refused) => {
            assert!(matches!(refused, Error::ShutDown));
            false
        }
        Ok(mut outcome) => {
            assert!(outcome.is_done());
            let result = outcome.take();
            assert!(matches!(result, Ok(_) | Err(Error::Cancelled)));
            result.is_ok()
        }
    }
}

fn tasks_were_submitted_before(how: Shutdown, workers: usize) {
    let pool = TestPool::new(workers);
    let submitted = [pool.submit(), pool.submit()];
    let report = pool.shutdown(how).result().unwrap();
    let ran = submitted.into_iter().map(ran).filter(|ran| *ran).count();
    assert!(ran == 2 || how == Shutdown::CancelQueued);
    assert_eq!(Counts::get(&pool.counts.ran), ran);
    assert_eq!(report.cancelled, 2 - ran as u64);
    // What ran before the shutdown is not in its report.
    assert!(report.completed <= ran as u64);
    pool.ended();
}

#[test]
fn tasks_were_submitted_to_one_worker() {
    for how in HOW {
        check_with(3, move || tasks_were_submitted_before(how, 1));
    }
}

#[test]
fn tasks_were_submitted_to_two_workers() {
    for how in HOW {
        check(move || tasks_were_submitted_before(how, 2));
    }
}

#[test]
fn a_task_is_submitted_meanwhile() {
    for how in HOW {
        check_with(3, move || {
            let pool = TestPool::new(1);
            let meanwhile = pool.meanwhile(|pool| pool.submit());
            let report = pool.shutdown(how).result().unwrap();
            let submitted = meanwhile.join().unwrap();
            let accepted = submitted.is_ok();
            let ran = ran(submitted);
            assert!(ran || !accepted || how == Shutdown::CancelQueued);
            assert_eq!(Counts::get(&pool.counts.ran), usize::from(ran));
            assert_eq!(report.cancelled, u64::from(accepted && !ran));
            pool.ended();
        });
    }
}

/// They are enough for the worker to take two at once. What it has not started is withdrawn too.
#[test]
fn tasks_are_in_a_local_queue() {
    check_with(3, || {
        let pool = TestPool::new(1);
        let submitted = [pool.submit(), pool.submit(), pool.submit()];
        let end = pool.shutdown(Shutdown::CancelQueued);
        let is_left = |task: &&Result<Outcome<_>, _>| task.as_ref().is_ok_and(|t| !t.is_done());
        assert!(submitted.iter().filter(is_left).count() <= 1, "but for the one that it starts");
        end.result().unwrap();
        let ran = submitted.into_iter().map(ran).filter(|ran| *ran).count();
        assert_eq!(Counts::get(&pool.counts.ran), ran);
        pool.ended();
    });
}

/// Nothing but the end wakes a worker that has nothing to do.
#[test]
fn a_worker_is_idle() {
    for how in HOW {
        check(move || {
            let pool = TestPool::new(1);
            let Ok(mut outcome) = pool.submit() else { panic!("the pool is open") };
            assert!(wait(&mut outcome).is_ok());
            pool.shutdown(how).result().unwrap();
            drop(outcome);
            pool.ended();
        });
    }
}

/// A worker whose idle time is over ends, or finds the task that comes meanwhile: no task waits for a worker
/// that has gone.
#[test]
fn a_worker_ends_for_want_of_tasks() {
    check(|| {
        let pool = TestPool::with(1, |config| config.idle_timeout = Some(Duration::ZERO));
        let Ok(first) = pool.submit() else { panic!("the pool is open") };
        let Ok(mut second) = pool.submit() else { panic!("the pool is open") };
        assert!(wait(&mut second).is_ok());
        let Ok(mut third) = pool.submit() else { panic!("the pool is open") };
        assert!(wait(&mut third).is_ok());
        drop((first, second, third));
        pool.end();
    });
}

/// What a withdrawn task leaves in the queue does not hold up the end.
#[test]
fn a_future_is_dropped_meanwhile() {
    for how in HOW {
        check(move || {
            let pool = TestPool::new(1);
            let Ok(outcome) = pool.submit() else { panic!("the pool is open") };
            let meanwhile = pool.meanwhile(move |_| drop_future(outcome));
            pool.shutdown(how).result().unwrap();
            meanwhile.join().unwrap();
            pool.ended();
        });
    }
}

/// Both hear of the end, and are told the same.
#[test]
fn two_threads_shut_down() {
    for how in HOW {
        check(move || {
            let pool = TestPool::new(1);
            let submitted = pool.submit();
            let meanwhile = pool.meanwhile(move |pool| pool.shutdown(how).result().unwrap());
            let report = pool.shutdown(Shutdown::Drain).result().unwrap();
            assert_eq!(report, meanwhile.join().unwrap());
            assert!(ran(submitted) || how == Shutdown::CancelQueued);
            pool.ended();
        });
    }
}

/// What a map goes on with after the close runs, also if the worker that was there has retired.
#[test]
fn work_goes_on() {
    check_with(3, || {
        let pool = TestPool::new(1);
        let submitted = pool.submit();
        pool.pool.close(Shutdown::Drain);
        let Ok(mut outcome) = pool.go_on() else { panic!("it is accepted") };
        assert!(wait(&mut outcome).is_ok());
        drop((submitted, outcome));
        pool.end();
    });
}

/// A suspended body is in no queue, and the pool does not end before it has.
#[test]
fn an_async_body_is_suspended() {
    check(|| {
        let pool = TestPool::new(1);
        let submitted = pool.submit_async(Options::default());
        pool.shutdown(Shutdown::Drain).result().unwrap();
        assert!(ran(submitted));
        pool.ended();
    });
}

/// One wait is given up at once, with all that it waits for; so the other comes to its end.
#[test]
fn the_deadline_comes() {
    check(|| {
        let pool = TestPool::new(1);
        let submitted = pool.submit_async(Options::default());
        let end = pool.shutdown(Shutdown::Drain);
        pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO).result().unwrap();
        end.result().unwrap();
        drop(submitted);
        pool.ended();
    });
}

/// The worker leaves at once, and a suspended body is ended by the thread that breaks the pool.
#[test]
fn the_pool_breaks_with_a_suspended_body() {
    // Four threads: more interruptions would take minutes.
    check_with(1, || {
        let pool = TestPool::new(1);
        let Ok(outcome) = pool.submit_async(Options::default()) else { panic!("it is open") };
        let meanwhile = pool.meanwhile(|pool| pool.pool.break_with("broken".into()));
        pool.shutdown(Shutdown::Drain).result().unwrap();
        assert!(outcome.is_done());
        meanwhile.join().unwrap();
        drop(outcome);
        pool.ended();
    });
}

/// Asks again when it is woken.
struct Listener {
    pool: Arc<TestPool>,
    woken: AtomicUsize,
    too_early: AtomicUsize,
}

impl Wake for Listener {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Relaxed);
        if self.pool.ending().poll_ended(&mut None, Waker::noop()).is_pending() {
            self.too_early.fetch_add(1, Relaxed);
        }
    }
}

#[test]
fn who_waits_is_woken_once_and_not_before() {
    for how in HOW {
        check_with(3, move || {
            let pool = TestPool::new(1);
            let submitted = pool.submit();
            let listener = Arc::new(Listener {
                pool: Arc::clone(&pool),
                woken: AtomicUsize::new(0),
                too_early: AtomicUsize::new(0),
            });
            pool.pool.close(how);
            let polled = pool.ending().poll_ended(&mut None, &Waker::from(Arc::clone(&listener)));
            pool.shutdown(how).result().unwrap();
            assert_eq!(listener.woken.load(Relaxed), usize::from(polled.is_pending()));
            assert_eq!(listener.too_early.load(Relaxed), 0);
            drop((submitted, listener));
            pool.ended();
        });
    }
}

/// What was accepted ends with the cause.
fn breaks(pool: fn() -> Arc<TestPool>) {
    check_with(3, move || {
        let pool = pool();
        let meanwhile = pool.meanwhile(|pool| pool.submit());
        let report = pool.shutdown(Shutdown::Drain).result().unwrap();
        assert_eq!(report.queued, 0);
        match meanwhile.join().unwrap() {
            Ok(mut outcome) => {
                assert!(outcome.is_done());
                assert!(matches!(outcome.take(), Err(Error::BrokenPool(_))));
            }
            Err(refused) => assert!(matches!(refused, Error::ShutDown)),
        }
        pool.ended();
    });
}

/// A shutdown that has ended finds no finalizer at work, and one has run for each worker.
#[test]
fn the_finalizer_runs_before_the_end() {
    check_with(3, || {
        let counts: [Arc<AtomicUsize>; 3] = Default::default();
        let [initialized, begun, ended] = counts.clone();
        let pool = TestPool::with(2, |config| {
            config.initializer = Some(Arc::new(move || {
                initialized.fetch_add(1, Relaxed);
                Ok(())
            }));
            config.finalizer = Some(Arc::new(move || {
                begun.fetch_add(1, Relaxed);
                loom::thread::yield_now();
                ended.fetch_add(1, Relaxed);
            }));
        });
        let submitted = [pool.submit(), pool.submit()];
        // Without a join, which would wait for it as well.
        block_on(pool.shutdown(Shutdown::Drain));
        let [initialized, begun, ended] = counts.map(|count| count.load(Relaxed));
        assert_eq!((begun, ended), (initialized, initialized));
        assert!(submitted.into_iter().map(ran).all(|ran| ran));
        pool.end();
    });
}

#[test]
fn the_initializer_fails() {
    breaks(|| {
        TestPool::with(1, |config| {
            config.initializer = Some(Arc::new(|| Err("not today".into())));
        })
    });
}

/// The pool may be broken by then, and the one that was refused be the last to go.
#[test]
fn the_initializer_fails_and_the_system_refuses_the_second_thread() {
    check_with(2, || {
        let pool = TestPool::with(2, |config| {
            config.name = ONE.into();
            config.initializer = Some(Arc::new(|| Err("not today".into())));
        });
        let first = pool.submit();
        let meanwhile = pool.meanwhile(|pool| pool.shutdown(Shutdown::Drain).result().unwrap());
        let second = pool.submit();
        meanwhile.join().unwrap();
        drop((first, second));
        pool.ended();
    });
}

#[test]
fn the_system_refuses_a_thread() {
    breaks(|| TestPool::with(1, |config| config.stack_size = usize::MAX));
}
