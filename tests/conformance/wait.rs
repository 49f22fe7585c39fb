//! `wait`.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use concurrent_futures::ReturnWhen::{AllCompleted, FirstCompleted, FirstError};
use concurrent_futures::task::TaskId;
use concurrent_futures::{
    Completer, DoneAndNotDone, Error, InlineExecutor, ReturnWhen, TaskFuture, ThreadPoolExecutor,
    wait,
};
use futures::FutureExt;

use crate::backend::{
    LONG, Pool, SHORT, States, assert_cancelled, assert_panicked, end_during_the_wait, failed_task,
    finished_task, over_all_pools, over_pools_async,
};
use crate::support::{Counter, Gate, on_runtimes, pool, scaled, within_limit};

const ALWAYS: [ReturnWhen; 3] = [FirstCompleted, FirstError, AllCompleted];

/// The places in the input of the futures in both parts.
fn places<T>(parts: &DoneAndNotDone<T>, ids: &[TaskId]) -> (Vec<usize>, Vec<usize>) {
    let place = |future: &TaskFuture<T>| {
        ids.iter().position(|id| *id == future.id()).expect("of the input")
    };
    let places: (Vec<_>, Vec<_>) =
        (parts.done.iter().map(place).collect(), parts.not_done.iter().map(place).collect());
    assert_eq!(places, (parts.done_indices.clone(), parts.not_done_indices.clone()));
    places
}

fn ids<T>(futures: &[TaskFuture<T>]) -> Vec<TaskId> {
    futures.iter().map(TaskFuture::id).collect()
}

/// Waits for futures that are as `return_when` says already.
#[track_caller]
fn wait_now<T>(futures: Vec<TaskFuture<T>>, return_when: ReturnWhen) -> DoneAndNotDone<T> {
    wait(futures, return_when).now_or_never().expect("the answer is there at the first poll")
}

/// WA-1. A `TaskFuture` is not `Clone` and `wait` takes it by value, so the same one can't be given
/// twice. What is left of this is that each comes back once.
#[test]
fn each_future_comes_back_once() {
    async fn check<P: Pool>(pool: P) {
        for when in ALWAYS {
            let states = States::new(&pool);
            let futures = vec![states.failed, states.pending, states.finished, states.running];
            let ids = ids(&futures);
            let parts = wait(futures, when).timeout(Duration::ZERO).await;
            assert_eq!(places(&parts, &ids), (vec![0, 2], vec![1, 3]));
            P::open(&states.held);
        }
        for when in ALWAYS {
            let parts = wait_now(Vec::<TaskFuture<u32>>::new(), when);
            assert_eq!((parts.done.len(), parts.not_done.len()), (0, 0));
        }
    }
    over_all_pools!(check);
}

/// WA-2.
#[test]
fn first_completed_returns_when_one_future_ends() {
    async fn check<P: Pool>(pool: P) {
        let (quick_gate, slow_gate) = (P::held(), P::held());
        let quick = pool.gated(&quick_gate);
        let slow = pool.gated(&slow_gate);
        let futures = vec![slow, quick];
        let ids = ids(&futures);
        let mut waiting = wait(futures, FirstCompleted);
        assert!(futures::poll!(&mut waiting).is_pending());
        P::open(&quick_gate);
        let mut parts = waiting.await;
        assert_eq!(places(&parts, &ids), (vec![1], vec![0]));
        assert_eq!(parts.done.remove(0).await.unwrap(), 42);
        assert!(!parts.not_done[0].is_done());
        P::open(&slow_gate);
        assert_eq!(parts.not_done.remove(0).await.unwrap(), 42);
    }
    over_all_pools!(check);
}

/// WA-2. Ours differs: a cancelled future is done at once, whether a worker has noticed or not.
#[test]
fn first_completed_counts_a_cancelled_future() {
    async fn check<P: Pool>(pool: P) {
        let states = States::new(&pool);
        let futures = vec![states.running, states.cancelled, states.pending];
        let ids = ids(&futures);
        let parts = wait_now(futures, FirstCompleted);
        assert_eq!(places(&parts, &ids), (vec![1], vec![0, 2]));
        assert!(parts.done[0].is_cancelled());

        // Also if it is cancelled during the wait, from a callback of another or elsewhere.
        let (completer, promised) = TaskFuture::<u32>::promise();
        let mut futures = parts.not_done;
        futures.push(promised);
        let mut waiting = wait(futures, FirstCompleted);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(completer);
        let parts = waiting.await;
        assert_eq!((parts.done.len(), parts.not_done.len()), (1, 2));
        assert!(parts.done[0].is_cancelled());
        P::open(&states.held);
    }
    over_all_pools!(check);
}

/// WA-3.
#[test]
fn first_completed_returns_all_that_are_done_already() {
    async fn check<P: Pool>(pool: P) {
        let states = States::new(&pool);
        let futures = vec![
            states.finished,
            states.pending,
            states.failed,
            states.running,
            states.cancelled,
            states.noticed,
        ];
        let ids = ids(&futures);
        let parts = wait_now(futures, FirstCompleted);
        assert_eq!(places(&parts, &ids), (vec![0, 2, 4, 5], vec![1, 3]));
        P::open(&states.held);

        let inline = InlineExecutor::new();
        let futures = vec![finished_task(&inline), failed_task(&inline)];
        let parts = wait_now(futures, FirstCompleted);
        assert_eq!((parts.done.len(), parts.not_done.len()), (2, 0));
    }
    over_all_pools!(check);
}

/// WA-4.
#[test]
fn first_error_returns_when_one_future_fails() {
    async fn check<P: Pool>(pool: P) {
        let (error_gate, slow_gate) = (P::held(), P::held());
        let value = finished_task(&pool);
        let error = pool.gated_failure(&error_gate);
        let slow = pool.gated(&slow_gate);
        let futures = vec![slow, error, value];
        let ids = ids(&futures);
        let mut waiting = wait(futures, FirstError);
        // A value is no reason to come back.
        assert!(futures::poll!(&mut waiting).is_pending());
        P::open(&error_gate);
        let mut parts = waiting.await;
        assert_eq!(places(&parts, &ids), (vec![1, 2], vec![0]));
        assert_panicked(&parts.done.remove(0).await, "failed");
        assert_eq!(parts.done.remove(0).await.unwrap(), 42);
        P::open(&slow_gate);
        assert_eq!(parts.not_done.remove(0).await.unwrap(), 42);
    }
    over_all_pools!(check);
}

/// WA-4.
#[test]
fn the_job_s_own_error_and_a_cancellation_are_no_first_error() {
    on_runtimes(|| async {
        let (mut completers, mut futures) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let (completer, future) = TaskFuture::<Result<u32, String>>::promise();
            completers.push(completer);
            futures.push(future);
        }
        let mut completers = completers.into_iter();
        let mut complete = |result| completers.next().unwrap().complete(result);
        let mut waiting = tokio_test::task::spawn(wait(futures, FirstError));
        assert!(waiting.poll().is_pending());
        complete(Ok(Err("the job's own".to_owned())));
        assert!(!waiting.is_woken());
        complete(Err(Error::Cancelled));
        assert!(!waiting.is_woken());
        assert!(waiting.poll().is_pending());
        complete(Err(Error::timed_out(SHORT, true)));
        assert!(waiting.is_woken());
        let parts = waiting.await;
        assert_eq!((parts.done.len(), parts.not_done.len()), (3, 1));
    });
}

/// WA-5. Ours differs: of the cancelled futures, both are done.
#[test]
fn first_error_leaves_pending_and_running_futures_in_not_done() {
    async fn check<P: Pool>(pool: P) {
        let states = States::new(&pool);
        let (completer, failing) = TaskFuture::promise();
        let futures = vec![
            states.running,
            states.noticed,
            states.cancelled,
            states.finished,
            states.pending,
            failing,
        ];
        let ids = ids(&futures);
        let mut waiting = wait(futures, FirstError);
        assert!(futures::poll!(&mut waiting).is_pending());
        completer.complete(Err(Error::ShutDown));
        let parts = waiting.await;
        assert_eq!(places(&parts, &ids), (vec![1, 2, 3, 5], vec![0, 4]));
        P::open(&states.held);
    }
    over_all_pools!(check);
}

/// WA-6.
#[test]
fn first_error_returns_at_once_if_one_has_failed() {
    async fn check<P: Pool>(pool: P) {
        let states = States::new(&pool);
        let futures = vec![states.running, states.failed, states.finished, states.pending];
        let ids = ids(&futures);
        let parts = wait_now(futures, FirstError);
        assert_eq!(places(&parts, &ids), (vec![1, 2], vec![0, 3]));
        P::open(&states.held);

        let inline = InlineExecutor::new();
        let futures = vec![TaskFuture::promise().1, failed_task(&inline)];
        assert!(futures[0].is_cancelled()); // its completer is gone
        let parts = wait_now(futures, FirstError);
        assert_eq!((parts.done.len(), parts.not_done.len()), (2, 0));
    }
    over_all_pools!(check);
}

/// WA-7.
#[test]
fn all_completed_waits_for_every_future() {
    async fn check<P: Pool>(pool: P) {
        let states = States::new(&pool);
        let total = 6 + states.others.len();
        let mut futures = vec![
            states.running,
            states.cancelled,
            states.noticed,
            states.failed,
            states.finished,
            states.pending,
        ];
        futures.extend(states.others);
        let ids = ids(&futures);
        let mut waiting = wait(futures, AllCompleted);
        assert!(futures::poll!(&mut waiting).is_pending());
        P::open(&states.held);
        let parts = waiting.await;
        assert_eq!(places(&parts, &ids), ((0..total).collect(), vec![]));
        for (place, future) in parts.done.into_iter().enumerate() {
            match (place, future.await) {
                (1 | 2, result) => assert_cancelled(&result),
                (3, result) => assert_panicked(&result, "failed"),
                (_, result) => assert_eq!(result.unwrap(), 42),
            }
        }

        let inline = InlineExecutor::new();
        let futures = vec![finished_task(&inline), failed_task(&inline)];
        let parts = wait_now(futures, AllCompleted);
        assert_eq!((parts.done.len(), parts.not_done.len()), (2, 0));
    }
    over_all_pools!(check);
}

/// WA-8.
#[test]
fn a_time_limit_is_no_error() {
    async fn check<P: Pool>(pool: P) {
        for limit in [Duration::ZERO, SHORT] {
            for when in [FirstError, AllCompleted] {
                let states = States::new(&pool);
                let futures =
                    vec![states.pending, states.finished, states.running, states.cancelled];
                let ids = ids(&futures);
                let mut parts = wait(futures, when).timeout(limit).await;
                assert_eq!(places(&parts, &ids), (vec![1, 3], vec![0, 2]));
                // The others are still good.
                P::open(&states.held);
                assert_eq!(parts.not_done.remove(0).await.unwrap(), 42);
                assert_eq!(parts.not_done.remove(0).await.unwrap(), 42);
            }
            let (_completer, future) = TaskFuture::<u32>::promise();
            let parts = wait([future], FirstCompleted).timeout(limit).result();
            assert_eq!((parts.done.len(), parts.not_done.len()), (0, 1));
        }
        // A limit that is not reached changes nothing.
        let held = P::held();
        let mut waiting = wait([pool.gated(&held)], AllCompleted).timeout(LONG);
        assert!(futures::poll!(&mut waiting).is_pending());
        P::open(&held);
        assert_eq!(waiting.await.done.len(), 1);
    }
    over_all_pools!(check);
}

/// 100 jobs that end at the same instant, when the gate opens; the last but one fails.
fn released_together(pool: &ThreadPoolExecutor, gate: &Gate) -> Vec<TaskFuture<usize>> {
    let started = Counter::new();
    let futures = (0..100)
        .map(|n| {
            let (started, gate) = (started.clone(), gate.clone());
            pool.submit(move || {
                started.add();
                gate.wait();
                if n == 98 {
                    std::panic::resume_unwind(Box::new(())); // without a report
                }
                n
            })
        })
        .collect();
    started.wait_for(pool.max_workers().min(100));
    futures
}

fn check_released(parts: &DoneAndNotDone<usize>, when: ReturnWhen) {
    assert_eq!(parts.done.len() + parts.not_done.len(), 100);
    match when {
        FirstCompleted => assert_ne!(parts.done.len(), 0),
        FirstError => {
            assert!(parts.done.iter().any(|future| format!("{future:?}").contains("raised")))
        }
        _ => assert_eq!(parts.done.len(), 100),
    }
}

/// WA-9.
#[test]
fn no_wake_up_is_lost_when_a_hundred_jobs_end_at_once() {
    within_limit(|| {
        for max_workers in [1, 4, 100] {
            let pool = pool(max_workers);
            let together = Arc::new(Barrier::new(2));
            for round in 0..scaled(60).max(3) {
                let when = ALWAYS[round % 3];
                let gate = Gate::new();
                let futures = released_together(&pool, &gate);
                // The wait registers its futures while they end.
                let opener = {
                    let (together, gate) = (together.clone(), gate.clone());
                    thread::spawn(move || {
                        together.wait();
                        gate.open();
                    })
                };
                together.wait();
                check_released(&wait(futures, when).result(), when);
                opener.join().unwrap();
            }
        }
    });
}

/// WA-9.
#[test]
fn no_wake_up_of_an_async_wait_is_lost_when_a_hundred_jobs_end_at_once() {
    over_pools_async(|pool| async move {
        for round in 0..scaled(60).max(3) {
            let when = ALWAYS[round % 3];
            let gate = Gate::new();
            let futures = released_together(&pool, &gate);
            let opener = tokio::task::spawn_blocking(move || gate.open());
            check_released(&wait(futures, when).await, when);
            opener.await.unwrap();
        }
    });
}

/// WA-9.
#[test]
fn no_wake_up_is_lost_when_a_hundred_futures_are_completed_at_once() {
    const THREADS: usize = 10;

    within_limit(|| {
        for round in 0..scaled(300).max(3) {
            let when = ALWAYS[round % 3];
            let (mut completers, futures): (Vec<_>, Vec<_>) =
                (0..100).map(|_| TaskFuture::promise()).unzip();
            let together = Barrier::new(THREADS + 1);
            thread::scope(|scope| {
                for n in 0..THREADS {
                    let mine = completers.split_off(completers.len() - 100 / THREADS);
                    let together = &together;
                    scope.spawn(move || {
                        together.wait();
                        for completer in mine {
                            completer.complete(if n == 5 { Err(Error::ShutDown) } else { Ok(n) });
                        }
                    });
                }
                together.wait();
                check_released(&wait(futures, when).result(), when);
            });
        }
    });
}

/// WA-9.
#[test]
fn no_wake_up_is_lost_when_the_last_future_ends_during_the_wait() {
    within_limit(|| {
        for when in ALWAYS {
            end_during_the_wait(
                |completer: Completer<()>| completer.complete(Err(Error::ShutDown)),
                |future| assert_eq!(wait([future], when).result().done.len(), 1),
            );
        }
    });
}
