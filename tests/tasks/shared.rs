//! A task whose result many await, and a promise whose result is not wanted any more.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, TaskFuture, ThreadPoolExecutor};
use futures::executor::block_on;
use tokio_test::{assert_pending, assert_ready};

use crate::support::{Gate, POOL_SIZES, occupy, pool, scaled, within_limit};
use crate::tools::{Wakes, soon};

#[test]
fn all_clones_get_the_result_of_one_run() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let runs = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&runs);
            let task = pool.submit(move || count.fetch_add(1, SeqCst).to_string()).shared();
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let task = task.clone();
                    thread::spawn(move || if n % 2 == 0 { block_on(task) } else { task.result() })
                })
                .collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap().unwrap(), "0");
            }
            assert!(task.is_done());
            assert_eq!(task.result().unwrap(), "0", "and again");
            assert_eq!(runs.load(SeqCst), 1);
        }
    });
}

#[test]
fn a_clone_that_waits_for_a_queued_task_runs_it_in_place() {
    within_limit(|| {
        let pool = pool(1);
        let inner = pool.clone();
        let job = pool.submit(move || {
            let task = inner.submit(|| thread::current().id()).shared();
            (task.clone().result().unwrap(), thread::current().id())
        });
        let (ran, waited) = soon(job).unwrap();
        assert_eq!(ran, waited);
    });
}

#[test]
fn each_clone_that_waits_is_woken_once() {
    let (completer, future) = TaskFuture::promise();
    let first = future.shared();
    let mut clones = vec![first.clone(), first.clone(), first];
    let wakes: Vec<_> = clones.iter().map(|_| Wakes::new()).collect();
    for _ in 0..3 {
        for (clone, wakes) in clones.iter_mut().zip(&wakes) {
            assert_pending!(wakes.poll(clone));
            assert_eq!(wakes.held(), 1, "the last waker counts");
        }
    }
    drop(clones.remove(0));
    assert_eq!(wakes[0].held(), 0);
    completer.complete(Ok(7));
    assert_eq!(wakes.iter().map(|wakes| wakes.wakes()).collect::<Vec<_>>(), [0, 1, 1]);
    for (clone, wakes) in clones.iter_mut().zip(&wakes[1..]) {
        assert_eq!(assert_ready!(wakes.poll(clone)).unwrap(), 7);
        assert_eq!(wakes.held(), 0);
    }
}

#[test]
fn an_error_is_shared_as_well() {
    within_limit(|| {
        let pool = pool(1);
        let task = pool.submit(|| -> u32 { panic!("for all") }).shared();
        for clone in [task.clone(), task] {
            let error = clone.result().unwrap_err();
            assert!(error.is_panic() && error.to_string().ends_with("for all"), "{error}");
        }
    });
}

#[test]
fn the_last_clone_withdraws_the_task() {
    within_limit(|| {
        let pool: ThreadPoolExecutor = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let task = pool.submit(|| ()).shared();
        let clone = task.clone();
        drop(task);
        assert_eq!(pool.metrics().queued, 1);
        drop(clone);
        assert_eq!(pool.metrics().queued, 0);

        let task = pool.submit(|| ()).shared();
        assert!(task.cancel() && task.clone().cancel() && task.is_done());
        assert!(matches!(task.result(), Err(Error::Cancelled)));
        assert!(task.cancel(), "it has ended so");
        gate.open();
        soon(held).unwrap();
        let task = pool.submit(|| 7).shared();
        assert_eq!(task.result().unwrap(), 7);
        assert!(!task.cancel());
    });
}

/// The ways to give a promise's future up, and those that do not.
#[test]
fn a_completer_is_told_when_the_result_is_not_wanted_any_more() {
    let ends: [fn(TaskFuture<u32>); 3] =
        [drop, |future| assert!(future.cancel()), |future| assert!(future.kill())];
    for end in ends {
        let (mut completer, future) = TaskFuture::promise();
        let wakes = Wakes::new();
        let mut closed = completer.closed();
        assert_pending!(wakes.poll(&mut closed));
        assert_pending!(wakes.poll(&mut closed));
        assert_eq!(wakes.held(), 1);
        end(future);
        assert_eq!((wakes.wakes(), wakes.held()), (1, 0));
        assert_ready!(wakes.poll(&mut closed));
        drop(closed);
        assert!(completer.is_closed());
        block_on(completer.closed());
        completer.complete(Ok(7)); // to nobody
    }
    let goes_on: [fn(TaskFuture<u32>); 2] = [
        |future| {
            future.add_done_callback(|result| assert!(matches!(result, Ok(7))));
            drop(future);
        },
        TaskFuture::detach,
    ];
    for go_on in goes_on {
        let (completer, future) = TaskFuture::promise();
        go_on(future);
        assert!(!completer.is_closed());
        completer.complete(Ok(7));
    }
}

/// The poll that finds the result may have held the task's waker just when the task ended.
#[test]
fn a_clone_is_woken_also_if_another_one_is_polled_at_the_end() {
    within_limit(|| {
        for round in 0..scaled(5_000) {
            let (completer, future) = TaskFuture::promise();
            let (mut polls, mut waits) = (future.shared(), Wakes::new());
            let mut clone = polls.clone();
            assert_pending!(waits.poll(&mut clone));
            let end = thread::spawn(move || completer.complete(Ok(7)));
            while Wakes::new().poll(&mut polls).is_pending() {}
            end.join().unwrap();
            assert_eq!(waits.wakes(), 1, "round {round}");
            waits = Wakes::new();
            assert_eq!(assert_ready!(waits.poll(&mut clone)).unwrap(), 7);
        }
    });
}

#[test]
fn several_threads_may_block_on_one_clone() {
    within_limit(|| {
        let (completer, future) = TaskFuture::promise();
        let shared = future.shared();
        assert!(shared.result_timeout(Duration::from_millis(1)).is_none());
        thread::scope(|scope| {
            let (sender, waiting) = mpsc::channel();
            let waits = || {
                let (shared, sender) = (&shared, sender.clone());
                scope.spawn(move || {
                    sender.send(()).unwrap();
                    shared.result().unwrap()
                })
            };
            let threads = [waits(), waits(), waits()];
            (0..3).for_each(|_| waiting.recv().unwrap());
            // So that they are within; were one of them late, it would find the result.
            assert!(shared.result_timeout(Duration::from_millis(50)).is_none());
            completer.complete(Ok(7));
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 7));
        });
        assert_eq!(shared.result_timeout(Duration::ZERO).unwrap().unwrap(), 7);
    });
}
