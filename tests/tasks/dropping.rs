//! The drop rule: a task that has not started is withdrawn, one that has started runs on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, ReturnWhen, Shutdown, TaskFuture, as_completed, wait};
use futures::FutureExt;
use tokio::sync::oneshot;

use crate::support::{Counter, Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, within_limit};
use crate::tools::{Drops, occupy_all, soon};

/// `future`, which tells when it has been polled for the first time.
async fn telling<F: Future>(future: F, polled: oneshot::Sender<()>) -> F::Output {
    let (mut future, mut polled) = (pin!(future), Some(polled));
    poll_fn(|cx| {
        let poll = future.as_mut().poll(cx);
        if let Some(polled) = polled.take() {
            let _ = polled.send(());
        }
        poll
    })
    .await
}

#[test]
fn an_unstarted_task_is_withdrawn_and_its_closure_dropped_at_once_on_the_dropping_thread() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let (closures, runs) = (Drops::new(), Counter::new());
            let (captured, run) = (closures.value(), runs.clone());
            let future = pool.submit(move || {
                let _captured = captured;
                run.add();
            });
            assert_eq!(pool.metrics().queued, 1);
            drop(future);
            // All workers are still held, so nobody but this thread can have done it.
            closures.assert_here(1);
            assert_eq!((pool.metrics().queued, pool.metrics().cancelled), (0, 1));
            gate.open();
            for future in held {
                soon(future).unwrap();
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!((runs.get(), closures.count()), (0, 1));
        }
    });
}

#[test]
fn withdrawals_from_the_middle_leave_the_others_in_order() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy_all(&pool, &gate);
        let (order, closures) = (Arc::new(std::sync::Mutex::new(Vec::new())), Drops::new());
        // Enough for the queue to sweep its dead entries, more than once.
        let n = 10 * scaled(100);
        let mut futures: Vec<_> = (0..n)
            .map(|n| {
                let (order, captured) = (Arc::clone(&order), closures.value());
                Some(pool.submit(move || {
                    let _captured = captured;
                    order.lock().unwrap().push(n);
                }))
            })
            .collect();
        for (n, future) in futures.iter_mut().enumerate() {
            if n % 10 != 3 {
                *future = None;
            }
        }
        closures.assert_here(n - n / 10);
        assert_eq!(pool.metrics().queued, n / 10);
        gate.open();
        for future in futures.into_iter().flatten() {
            soon(future).unwrap();
        }
        let expected: Vec<_> = (0..n).filter(|n| n % 10 == 3).collect();
        assert_eq!(*order.lock().unwrap(), expected);
        assert_eq!(closures.count(), n);
        assert_eq!(pool.metrics().cancelled as usize, n - n / 10);
    });
}

#[test]
fn a_started_task_runs_on_and_its_result_is_dropped() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (gate, started) = (Gate::new(), Gate::new());
            let (closures, values) = (Drops::new(), Drops::new());
            let (captured, value) = (closures.value(), values.clone());
            let (inside, wait) = (started.clone(), gate.clone());
            let future = pool.submit(move || {
                let _captured = captured;
                inside.open();
                wait.wait();
                value.value()
            });
            started.wait();
            drop(future);
            assert_eq!((closures.count(), values.count()), (0, 0));
            gate.open();
            values.wait_for(1);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!((closures.count(), values.count()), (1, 1));
            assert_eq!((pool.metrics().completed, pool.metrics().cancelled), (1, 0));
        }
    });
}

#[test]
fn the_result_of_a_finished_task_is_dropped_with_its_future() {
    within_limit(|| {
        let pool = pool(1);
        let values = Drops::new();
        let value = values.clone();
        let future = pool.submit(move || value.value());
        // When a single worker has run a later task, the first has finished for good.
        soon(pool.submit(|| ())).unwrap();
        assert!(future.is_done());
        assert_eq!(values.count(), 0);
        drop(future);
        values.assert_here(1);
        assert_eq!((pool.metrics().completed, pool.metrics().cancelled), (2, 0));
    });
}

#[test]
fn a_detached_task_runs_whatever_its_state_was() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let (values, runs) = (Drops::new(), Counter::new());
            let (value, run) = (values.clone(), runs.clone());
            // Queued:
            pool.submit(move || {
                run.add();
                value.value()
            })
            .detach();
            assert_eq!(pool.metrics().queued, 1);
            // Running:
            held.into_iter().for_each(TaskFuture::detach);
            gate.open();
            values.wait_for(1);
            assert_eq!(runs.get(), 1);
            // Finished:
            let value = values.clone();
            let finished = pool.submit(move || value.value());
            let tell = Gate::new();
            let told = tell.clone();
            finished.add_done_callback(move |_| tell.open());
            told.wait();
            finished.detach();
            values.wait_for(2);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(values.count(), 2);
            assert_eq!(pool.metrics().cancelled, 0);
        }
    });
}

#[test]
fn a_future_with_a_callback_is_detached_when_dropped() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let _held = occupy_all(&pool, &gate);
            let (values, seen) = (Drops::new(), Counter::new());
            let (value, see) = (values.clone(), seen.clone());
            let future = pool.submit(move || value.value());
            future.add_done_callback(move |result| {
                assert!(result.is_ok());
                see.add();
            });
            drop(future);
            assert_eq!((pool.metrics().queued, pool.metrics().cancelled), (1, 0));
            gate.open();
            values.wait_for(1);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!((seen.get(), values.count()), (1, 1));
        }
    });
}

#[test]
fn a_tokio_timeout_withdraws() {
    on_runtimes(|| async {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let (closures, runs) = (Drops::new(), Counter::new());
        let (captured, run) = (closures.value(), runs.clone());
        let future = pool.submit(move || {
            let _captured = captured;
            run.add();
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), future).await.is_err());
        closures.assert_here(1); // not awaited since the drop, so still on that thread
        gate.open();
        held.await.unwrap();
        assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
        assert_eq!((runs.get(), pool.metrics().cancelled), (0, 1));
    });
}

#[test]
fn a_lost_select_withdraws_what_it_owns_and_leaves_what_it_borrows() {
    on_runtimes(|| async {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let (owned, borrowed) = (Drops::new(), Drops::new());
        let (in_owned, in_borrowed) = (owned.value(), borrowed.value());
        let future = pool.submit(move || drop(in_owned));
        let mut kept = pool.submit(move || drop(in_borrowed));
        tokio::select! {
            biased;
            _ = future => unreachable!("the worker is held"),
            _ = &mut kept => unreachable!("the worker is held"),
            () = std::future::ready(()) => {}
        }
        owned.assert_here(1);
        assert_eq!(borrowed.count(), 0);
        assert_eq!((pool.metrics().queued, pool.metrics().cancelled), (1, 1));
        gate.open();
        held.await.unwrap();
        kept.await.unwrap();
        assert_eq!((owned.count(), borrowed.count()), (1, 1));
    });
}

#[test]
fn aborting_the_tokio_task_that_awaits_withdraws() {
    on_runtimes(|| async {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let (closures, runs) = (Drops::new(), Counter::new());
        let (captured, run) = (closures.value(), runs.clone());
        let future = pool.submit(move || {
            let _captured = captured;
            run.add();
        });
        let (tell, polled) = oneshot::channel();
        let waiting = tokio::spawn(telling(future, tell));
        polled.await.unwrap();
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(closures.count(), 1);
        gate.open();
        held.await.unwrap();
        assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
        assert_eq!((runs.get(), pool.metrics().cancelled), (0, 1));
    });
}

#[test]
fn dropping_a_set_withdraws_its_unstarted_tasks() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let mut held = occupy_all(&pool, &gate);
            let closures = Drops::new();
            let queue = |n: usize| -> Vec<_> {
                (0..n)
                    .map(|_| {
                        let captured = closures.value();
                        pool.submit(move || drop(captured))
                    })
                    .collect()
            };
            // One that runs is among them, and stays.
            let mut set = queue(3);
            set.push(held.pop().unwrap());
            let mut done = as_completed(set);
            assert!(futures::StreamExt::next(&mut done).now_or_never().is_none());
            drop(done);
            closures.assert_here(3);

            let mut waiting = wait(queue(2), ReturnWhen::AllCompleted);
            assert!((&mut waiting).now_or_never().is_none());
            drop(waiting);
            closures.assert_here(5);

            drop(wait(queue(2), ReturnWhen::FirstError)); // never polled
            closures.assert_here(7);

            let late = as_completed(queue(2)).timeout(Duration::ZERO);
            let items: Vec<_> = futures::executor::block_on_stream(late).collect();
            assert_eq!(items.len(), 1);
            assert_eq!(items[0].as_ref().unwrap_err().to_string(), "2 (of 2) futures unfinished");
            closures.assert_here(9);

            assert_eq!(pool.metrics().cancelled, 9);
            gate.open();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(pool.metrics().completed, workers as u64);
        }
    });
}

#[test]
fn a_panic_of_the_owner_withdraws() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let closures = Drops::new();
        let captured = closures.value();
        let future = pool.submit(move || drop(captured));
        let owner = thread::spawn(move || {
            let _future = future;
            panic!("the owner of a future");
        });
        assert!(owner.join().is_err());
        assert_eq!((closures.count(), pool.metrics().cancelled), (1, 1));
        gate.open();
    });
}

#[test]
fn the_closure_of_a_withdrawn_task_may_use_the_pool_in_its_drop() {
    /// Submits a job, and looks at the metrics, when dropped.
    struct SubmitsOnDrop(concurrent_futures::ThreadPoolExecutor, Counter);

    impl Drop for SubmitsOnDrop {
        fn drop(&mut self) {
            let ran = self.1.clone();
            self.0.submit(move || ran.add()).detach();
            let _ = self.0.metrics();
        }
    }

    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let ran = Counter::new();
        let captured = SubmitsOnDrop(pool.clone(), ran.clone());
        drop(pool.submit(move || drop(captured)));
        let captured = SubmitsOnDrop(pool.clone(), ran.clone());
        let future = pool.submit(move || drop(captured));
        assert!(future.cancel());
        gate.open();
        ran.wait_for(2);
    });
}

#[test]
fn futures_may_outlive_their_pool() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let values = Drops::new();
        let (kept_value, dropped_value) = (values.clone(), values.value());
        let kept = pool.submit(move || kept_value.value());
        let dropped = pool.submit(move || drop(dropped_value));
        drop(pool); // accepted tasks still run
        drop(dropped);
        values.assert_here(1);
        gate.open();
        soon(held).unwrap();
        drop(soon(kept).unwrap());
        assert_eq!(values.count(), 2);
    });
}

#[test]
fn the_memory_of_a_job_is_free_when_its_result_is_there() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let shared = Arc::new(());
            let captured = Arc::clone(&shared);
            let future = pool.submit(move || drop(captured));
            while !future.is_done() {
                thread::yield_now();
            }
            // The future still exists, its closure does not.
            assert_eq!(Arc::strong_count(&shared), 1);
            drop(future);
        }
    });
}

#[test]
fn a_dropped_promise_leaves_nothing_behind() {
    within_limit(|| {
        let values = Drops::new();
        let (completer, future) = TaskFuture::promise();
        drop(future);
        assert!(completer.is_closed());
        completer.complete(Ok(values.value()));
        values.assert_here(1);

        let (completer, future) = TaskFuture::<()>::promise();
        drop(completer);
        assert!(future.is_cancelled());
        assert!(matches!(soon(future), Err(Error::Cancelled)));

        // With a callback the future is detached: the completer is not told to stop.
        let (completer, future) = TaskFuture::promise();
        let (tell, told) = mpsc::channel();
        future.add_done_callback(move |result| tell.send(result.is_ok()).unwrap());
        drop(future);
        completer.complete(Ok(values.value()));
        assert_eq!(told.recv(), Ok(true));
        values.assert_here(2);
    });
}
