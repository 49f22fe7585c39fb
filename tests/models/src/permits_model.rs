//! Room in a bounded queue: a task gives its room back once, whatever ends its wait for a worker,
//! and whatever tries to at the same time.
//!
//! The double of the semaphore counts: it fails the model as soon as room is given back twice, and
//! when it goes with the pool, if room was not given back.

use std::sync::Arc;
use std::time::Duration;

use loom::future::block_on;

use crate::check;
use crate::core::cell::TaskRef;
use crate::core::extra::Options;
use crate::error::Error;
use crate::lifecycle::Accepting;
use crate::shutdown::{Closing, Shutdown};
use crate::task_model::drop_future;
use crate::test_pool::TestPool;

const LIMIT: Duration = Duration::from_secs(1);

/// A pool with one worker, and room for one task in its queue.
fn bounded() -> Arc<TestPool> {
    TestPool::with(1, |config| config.queue_capacity = Some(1))
}

/// What a worker may meet when it is about to start a task.
type Rival = fn(&TestPool, &TaskRef);

fn drop_future_of(_: &TestPool, task: &TaskRef) {
    task.runnable().withdraw_unstarted();
}

fn cancel(_: &TestPool, task: &TaskRef) {
    task.runnable().cancel();
}

fn let_wait_too_long(_: &TestPool, task: &TaskRef) {
    task.runnable().queued_too_long(LIMIT);
}

fn withdraw_all(pool: &TestPool, _: &TaskRef) {
    pool.pool.close(Shutdown::CancelQueued);
}

fn escalate(pool: &TestPool, _: &TaskRef) {
    pool.ending().escalate();
}

fn break_down(pool: &TestPool, _: &TaskRef) {
    pool.pool.break_with("broken".into());
}

/// Has `rival` meet a worker and each of the `others`.
fn meets(rival: Rival, others: &[Rival]) {
    for &other in others {
        check(move || {
            let pool = bounded();
            let options = Options { queue_timeout: Some(LIMIT), ..Options::default() };
            let Ok(outcome) = pool.submit_with(options) else { panic!("there is room") };
            let task = outcome.task().clone();
            let meanwhile = pool.meanwhile(move |pool| other(pool, &task));
            rival(&pool, outcome.task());
            meanwhile.join().unwrap();
            drop_future(outcome);
            pool.end();
        });
    }
}

#[test]
fn a_future_is_dropped() {
    meets(drop_future_of, &[cancel, let_wait_too_long, withdraw_all, escalate, break_down]);
}

#[test]
fn a_task_is_cancelled() {
    meets(cancel, &[cancel, let_wait_too_long, withdraw_all, escalate, break_down]);
}

#[test]
fn a_task_has_waited_too_long() {
    meets(let_wait_too_long, &[withdraw_all, escalate, break_down]);
}

#[test]
fn a_shutdown_withdraws_what_waits() {
    meets(withdraw_all, &[withdraw_all, escalate, break_down]);
}

#[test]
fn a_shutdown_comes_to_its_deadline() {
    meets(escalate, &[escalate, break_down]);
}

#[test]
fn a_pool_breaks() {
    meets(break_down, &[break_down]);
}

/// Has `rival` meet a body that a worker claims twice: only the first time is its start.
fn meets_an_async_body(rival: Rival) {
    check(move || {
        let pool = bounded();
        let options = Options { timeout: Some(LIMIT), ..Options::default() };
        let Ok(outcome) = pool.submit_async(options) else { panic!("there is room") };
        rival(&pool, outcome.task());
        drop_future(outcome);
        pool.end();
    });
}

#[test]
fn an_async_body_is_cancelled() {
    meets_an_async_body(cancel);
}

#[test]
fn an_async_body_runs_too_long() {
    meets_an_async_body(|_, task| {
        // The run starts that clock.
        if task.header().state.look().is_started() {
            task.runnable().ran_too_long(LIMIT);
        }
    });
}

#[test]
fn an_async_body_meets_the_deadline_of_a_shutdown() {
    meets_an_async_body(escalate);
}

#[test]
fn a_refused_task_gives_its_room_back() {
    for how in [Shutdown::Drain, Shutdown::CancelQueued] {
        check(move || {
            let pool = bounded();
            let meanwhile = pool.meanwhile(|pool| match pool.submit() {
                Ok(outcome) => drop_future(outcome),
                Err(error) => assert!(matches!(error, Error::ShutDown)),
            });
            pool.pool.close(how);
            meanwhile.join().unwrap();
            pool.end();
        });
    }
}

/// A task that starts wakes who waits for its room.
#[test]
fn room_is_handed_on() {
    check(|| {
        let pool = bounded();
        let Ok(first) = pool.submit() else { panic!("there is room") };
        block_on(pool.pool.wait_for_room()).unwrap();
        let second = pool.submit_into_room(Options::default());
        assert!(second.is_ok());
        drop((first, second));
        pool.end();
    });
}

#[test]
fn room_comes_while_the_pool_closes() {
    for how in [Shutdown::Drain, Shutdown::CancelQueued] {
        check(move || {
            let pool = bounded();
            let Ok(outcome) = pool.submit() else { panic!("there is room") };
            let meanwhile = pool.meanwhile(|pool| {
                if block_on(pool.pool.wait_for_room()).is_ok() {
                    pool.pool.free_room(); // as a permit that is dropped
                }
            });
            pool.pool.close(how);
            meanwhile.join().unwrap();
            drop_future(outcome);
            pool.end();
        });
    }
}

/// The end of the pool wakes who waits for room that does not come.
#[test]
fn no_room_comes_while_the_pool_closes() {
    check(|| {
        let pool = bounded();
        pool.pool.take_room().unwrap(); // as a permit that is held
        let meanwhile = pool.meanwhile(|pool| block_on(pool.pool.wait_for_room()));
        pool.pool.close(Shutdown::Drain);
        assert!(matches!(meanwhile.join().unwrap(), Err(Error::ShutDown)));
        pool.pool.free_room();
        pool.end();
    });
}
