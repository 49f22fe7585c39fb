//! Waiting for a task from beside its future.

use std::future::pending;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, InlineExecutor, TaskFuture, TaskHandle, ThreadPoolExecutor, wait};
use concurrent_futures::{ReturnWhen, UnobservedFailure};
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::{FusedFuture, join_all};

use crate::support::{Gate, POOL_SIZES, occupy, pool, within_limit};
use crate::tools::{Drops, Wakes, soon};

type Threads = Vec<thread::JoinHandle<()>>;

/// Waits for the task on `threads` threads.
fn waiting(handle: &TaskHandle, threads: usize) -> Threads {
    let wait = |handle: TaskHandle| {
        block_on(join_all([handle.done(), handle.done()]));
        assert!(handle.is_done());
    };
    (0..threads)
        .map(|_| {
            thread::spawn({
                let handle = handle.clone();
                move || wait(handle)
            })
        })
        .collect()
}

#[test]
fn many_wait_for_a_task_whose_result_goes_elsewhere() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for _ in 0..50 {
                let gate = Gate::new();
                let future = occupy(&pool, &gate);
                let handle = future.handle();
                let threads = waiting(&handle, 4);
                assert!(handle.done().now_or_never().is_none());
                gate.open();
                soon(future).unwrap();
                threads.into_iter().for_each(|thread| thread.join().unwrap());
                assert!(handle.done().now_or_never().is_some());
            }
        }
    });
}

#[test]
fn who_waits_is_told_of_every_end() {
    within_limit(|| {
        let pool = pool(1);
        let ends: [fn(&ThreadPoolExecutor) -> Threads; 5] = [
            |pool| {
                let gate = Gate::new();
                let _held = occupy(pool, &gate);
                let future = pool.submit(|| ());
                let threads = waiting(&future.handle(), 2);
                drop(future); // withdrawn
                gate.open();
                threads
            },
            |pool| {
                let gate = Gate::new();
                let inside = gate.clone();
                let future = pool.submit(move || inside.wait());
                let threads = waiting(&future.handle(), 2);
                future.detach();
                gate.open();
                threads
            },
            |pool| {
                let gate = Gate::new();
                let inside = gate.clone();
                let future = pool.submit(move || {
                    inside.wait();
                    panic!("for the test")
                });
                future.add_done_callback(|_: &Result<(), Error>| ());
                let threads = waiting(&future.handle(), 2);
                gate.open();
                let _ = soon(future);
                threads
            },
            |pool| {
                let future = pool.submit_future(pending::<()>());
                let threads = waiting(&future.handle(), 2);
                future.cancel();
                threads
            },
            |pool| {
                let limit = Duration::from_millis(1);
                let gate = Gate::new();
                let inside = gate.clone();
                let future = pool.task().timeout(limit).submit(move || inside.wait());
                let threads = waiting(&future.handle(), 2);
                let _ = soon(future);
                gate.open();
                threads
            },
        ];
        for end in ends {
            end(&pool).into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn a_wait_races_with_the_end() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for round in 0..300_u32 {
                let future = pool.submit(move || (0..round).for_each(|_| std::hint::spin_loop()));
                let handle = future.handle();
                let future = match round % 3 {
                    0 => Some(future),
                    1 => {
                        future.detach();
                        None
                    }
                    _ => {
                        future.add_done_callback(|_| ());
                        None
                    }
                };
                block_on(handle.done());
                assert!(handle.is_done() && future.is_none_or(|future| future.result().is_ok()));
            }
        }
    });
}

#[test]
fn a_promise_and_a_finished_task_have_an_end_too() {
    let (completer, future) = TaskFuture::promise();
    let wakes = Wakes::new();
    let mut done = future.handle().done();
    assert!(wakes.poll(&mut done).is_pending() && !done.is_terminated());
    completer.complete(Ok(7));
    assert_eq!(wakes.wakes(), 1);
    assert!(wakes.poll(&mut done).is_ready() && done.is_terminated());
    assert_eq!(future.result().unwrap(), 7);
    let inline = InlineExecutor::new().submit(|| 1);
    assert!(inline.handle().done().now_or_never().is_some());
}

#[test]
fn a_wait_that_is_dropped_leaves_nothing_behind() {
    let (completer, future) = TaskFuture::promise();
    let (handle, wakes) = (future.handle(), Wakes::new());
    let mut stays = handle.done();
    assert!(wakes.poll(&mut stays).is_pending());
    for _ in 0..3 {
        let mut goes = handle.done();
        assert!(wakes.poll(&mut goes).is_pending() && wakes.poll(&mut goes).is_pending());
        drop(goes);
        assert_eq!(wakes.held(), 1);
    }
    completer.complete(Ok(()));
    assert_eq!((wakes.wakes(), wakes.held()), (1, 0));
    drop(future);
}

#[test]
fn a_wait_has_no_part_in_the_result() {
    within_limit(|| {
        let failures = Arc::new(Mutex::new(0));
        let count = Arc::clone(&failures);
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .on_unobserved_failure(move |_: &UnobservedFailure<'_>| *count.lock().unwrap() += 1)
            .build()
            .unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let drops = Drops::new();
        let value = drops.value();
        let queued = pool.submit(move || drop(value));
        let waits = queued.handle().done();
        let threads = waiting(&queued.handle(), 1);
        drop(queued); // is withdrawn all the same
        drops.assert_here(1);
        block_on(waits);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // A failure that is not taken is told of.
        let failing = pool.submit(|| panic!("for the test"));
        let handle = failing.handle();
        let threads = waiting(&handle, 1);
        failing.detach();
        gate.open();
        soon(held).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*failures.lock().unwrap(), 1);
    });
}

#[test]
fn the_future_itself_is_woken_beside_those_who_wait() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let mut future = occupy(&pool, &gate);
        let wakes = Wakes::new();
        assert!(wakes.poll(&mut future).is_pending());
        // The waker moves to the watchers, and is found there.
        let threads = waiting(&future.handle(), 2);
        while future.handle().done().now_or_never().is_some() {}
        gate.open();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        wakes.until_woken(1);
        assert!(wakes.poll(&mut future).is_ready());
        // And the set that a future is in.
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let handle = held.handle();
        let all = thread::spawn(move || wait([held], ReturnWhen::AllCompleted).result());
        let threads = waiting(&handle, 2);
        gate.open();
        assert_eq!(all.join().unwrap().done.len(), 1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_shared_task_has_a_handle() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let shared = pool.submit(|| 7).shared();
        let handle = shared.handle();
        assert_eq!(handle.id(), shared.id());
        let (tell, told) = mpsc::channel();
        let waits = handle.clone();
        let thread = thread::spawn(move || {
            block_on(waits.done());
            tell.send(()).unwrap();
        });
        assert!(handle.cancel() && shared.is_done() && handle.is_cancelled());
        told.recv().unwrap();
        thread.join().unwrap();
        assert!(matches!(shared.clone().result(), Err(Error::Cancelled)));
        assert!(shared.cancel(), "idempotent");
        gate.open();
        soon(held).unwrap();
    });
}
