//! Polls and wake-ups, one at a time: who is woken, how often, and what is done to a waker.

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Completer, Error, ReturnWhen, TaskFuture, ThreadPoolExecutor, as_completed, wait,
};
use futures::executor::{block_on, block_on_stream};
use futures::stream::FusedStream;
use futures::{FutureExt, Stream, StreamExt};
use tokio_test::{assert_pending, assert_ready, task};

use crate::support::{Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, within_limit};
use crate::tools::{Wakes, occupy_all, soon};

fn promises<T: Send + 'static>(n: usize) -> (Vec<Completer<T>>, Vec<TaskFuture<T>>) {
    (0..n).map(|_| TaskFuture::promise()).unzip()
}

// ---- One future ----

#[test]
fn a_pending_future_is_woken_exactly_once() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let wait = gate.clone();
            let mut future = task::spawn(pool.submit(move || {
                wait.wait();
                7
            }));
            assert_pending!(future.poll());
            assert!(!future.is_woken());
            gate.open();
            while !future.is_woken() {
                thread::yield_now();
            }
            assert_eq!(assert_ready!(future.poll()).unwrap(), 7);
            assert_eq!(future.waker_ref_count(), 1, "no clone is left");
        }
    });
}

#[test]
fn a_future_polled_with_one_waker_keeps_one_clone_of_it() {
    within_limit(|| {
        let (completer, mut future) = TaskFuture::promise();
        let wakes = Wakes::new();
        for _ in 0..100 {
            assert_pending!(wakes.poll(&mut future));
        }
        assert_eq!((wakes.clones(), wakes.held(), wakes.wakes()), (1, 1, 0));
        completer.complete(Ok(7));
        assert_eq!((wakes.clones(), wakes.held(), wakes.wakes()), (1, 0, 1));
        assert_eq!(assert_ready!(wakes.poll(&mut future)).unwrap(), 7);
        assert_eq!((wakes.clones(), wakes.wakes()), (1, 1));
    });
}

#[test]
fn only_the_waker_of_the_last_poll_is_woken() {
    within_limit(|| {
        let (completer, mut future) = TaskFuture::promise();
        let all: Vec<_> = (0..10).map(|_| Wakes::new()).collect();
        for wakes in &all {
            assert_pending!(wakes.poll(&mut future));
        }
        // Back to one that was there before:
        assert_pending!(all[3].poll(&mut future));
        let held: Vec<_> = all.iter().map(|wakes| wakes.held()).collect();
        assert_eq!(held, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        completer.complete(Ok(7));
        let woken: Vec<_> = all.iter().map(|wakes| wakes.wakes()).collect();
        assert_eq!(woken, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(assert_ready!(all[0].poll(&mut future)).unwrap(), 7);
    });
}

#[test]
fn a_finished_future_is_ready_at_its_first_poll_and_touches_no_waker() {
    within_limit(|| {
        let pool = pool(1);
        let mut future = pool.submit(|| 7);
        soon(pool.submit(|| ())).unwrap();
        let wakes = Wakes::new();
        assert_eq!(assert_ready!(wakes.poll(&mut future)).unwrap(), 7);
        assert_eq!((wakes.clones(), wakes.wakes()), (0, 0));
        // A refused one as well.
        drop(pool.shutdown_blocking(concurrent_futures::Shutdown::Drain));
        let mut refused = pool.submit(|| 7);
        assert!(matches!(wakes.poll(&mut refused), Poll::Ready(Err(Error::ShutDown))));
        assert_eq!((wakes.clones(), wakes.wakes()), (0, 0));
    });
}

#[test]
fn a_result_is_there_once_and_asking_again_is_an_error_and_no_panic() {
    within_limit(|| {
        let pool = pool(1);
        let wakes = Wakes::new();
        let mut future = pool.submit(|| 7);
        soon(pool.submit(|| ())).unwrap();
        assert_eq!(assert_ready!(wakes.poll(&mut future)).unwrap(), 7);
        for _ in 0..2 {
            assert!(matches!(wakes.poll(&mut future), Poll::Ready(Err(Error::ResultTaken))));
            let again = future.result_timeout(Duration::from_secs(1));
            assert!(matches!(again, Some(Err(Error::ResultTaken))));
        }
        assert!(future.is_done() && !future.is_cancelled() && !future.is_running());
        let (tell, told) = mpsc::channel();
        future.add_done_callback(move |result| {
            tell.send(matches!(result, Err(Error::ResultTaken))).unwrap();
        });
        assert_eq!(told.recv(), Ok(true));
        assert!(matches!(future.result(), Err(Error::ResultTaken)));

        let mut future = pool.submit(|| 8);
        assert_eq!(future.result_timeout(Duration::from_secs(60)).unwrap().unwrap(), 8);
        assert!(matches!(block_on(future), Err(Error::ResultTaken)));
    });
}

#[test]
fn dropping_a_pending_future_drops_its_waker() {
    within_limit(|| {
        let (completer, mut future) = TaskFuture::<()>::promise();
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut future));
        drop(future);
        assert_eq!((wakes.held(), wakes.wakes()), (0, 0));
        completer.complete(Ok(()));
        assert_eq!(wakes.wakes(), 0);
    });
}

#[test]
fn a_blocking_wait_that_ends_early_leaves_no_waker_and_a_future_that_works() {
    within_limit(|| {
        let (completer, mut future) = TaskFuture::promise();
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut future));
        let limit = Duration::from_millis(1);
        for _ in 0..3 {
            assert!(future.result_timeout(limit).is_none());
        }
        // It was polled by the wait, so by the rule of futures the earlier waker is forgotten.
        assert_eq!(wakes.held(), 0);
        assert_pending!(wakes.poll(&mut future));
        completer.complete(Ok(7));
        assert_eq!(wakes.wakes(), 1);
        assert_eq!(soon(future).unwrap(), 7);
    });
}

#[test]
fn a_cancel_wakes_who_waits() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let mut future = pool.submit(|| 7);
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut future));
        assert!(future.cancel());
        assert_eq!(wakes.wakes(), 1);
        assert!(matches!(wakes.poll(&mut future), Poll::Ready(Err(Error::Cancelled))));
        gate.open();
    });
}

#[test]
fn a_future_may_be_polled_on_one_thread_after_another() {
    within_limit(|| {
        let (completer, future) = TaskFuture::promise();
        let mut future = Some(future);
        let all: Vec<_> = (0..5).map(|_| Wakes::new()).collect();
        for wakes in &all {
            let mut moved = future.take().unwrap();
            let wakes: &'static Wakes = wakes;
            let back = thread::spawn(move || {
                assert_pending!(wakes.poll(&mut moved));
                moved
            });
            future = Some(back.join().unwrap());
        }
        completer.complete(Ok(7));
        let woken: Vec<_> = all.iter().map(|wakes| wakes.wakes()).collect();
        assert_eq!(woken, [0, 0, 0, 0, 1]);
        assert_eq!(soon(future.unwrap()).unwrap(), 7);
    });
}

#[test]
fn tasks_that_move_between_threads_get_all_results() {
    within_limit(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        let pool = pool(2);
        runtime.block_on(async {
            let tasks: Vec<_> = (0..64u32)
                .map(|n| {
                    let pool = pool.clone();
                    tokio::spawn(async move {
                        let mut threads = std::collections::HashSet::new();
                        for m in 0..scaled(50).max(10) as u32 {
                            // Pending at least once, in most rounds, and polled elsewhere after.
                            let future = pool.submit(move || {
                                thread::yield_now();
                                n + m
                            });
                            threads.insert(thread::current().id());
                            assert_eq!(future.await.unwrap(), n + m);
                        }
                        threads.len()
                    })
                })
                .collect();
            let mut moved = 0;
            for task in tasks {
                moved += usize::from(task.await.unwrap() > 1);
            }
            assert!(moved > 0, "no task has moved, so this has tested nothing");
        });
    });
}

#[test]
fn wakes_and_polls_that_race_lose_nothing() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for n in 0..scaled(5_000) {
                let future = pool.submit(move || n);
                // The first poll falls before, into and after the run.
                for _ in 0..n % 64 {
                    std::hint::spin_loop();
                }
                assert_eq!(block_on(future).unwrap(), n);
            }
        }
    });
}

// ---- select, join, other executors ----

#[test]
fn select_prefers_as_it_is_told() {
    on_runtimes(|| async {
        let pool = pool(1);
        let (mut first, mut second) = (pool.submit(|| 1), pool.submit(|| 2));
        pool.submit(|| ()).await.unwrap(); // by now both have finished
        let winner = tokio::select! {
            biased;
            n = &mut second => n.unwrap(),
            n = &mut first => n.unwrap(),
        };
        assert_eq!(winner, 2);
        let winner = tokio::select! {
            biased;
            n = &mut first => n.unwrap(),
            n = &mut second => n.unwrap(),
        };
        assert_eq!(winner, 1);
        // Both results are taken now.
        let taken = tokio::select! {
            biased;
            n = &mut second => n,
            n = &mut first => n,
        };
        assert!(matches!(taken, Err(Error::ResultTaken)));
    });
}

#[test]
fn select_in_a_loop_loses_no_result() {
    on_runtimes(|| async {
        let pool = pool(2);
        let gate = Gate::new();
        let wait = gate.clone();
        let mut slow = pool.submit(move || {
            wait.wait();
            100
        });
        let mut quick_ones = 0;
        let slow = loop {
            let mut quick = pool.submit(|| 1);
            tokio::select! {
                n = &mut slow => break n.unwrap(),
                n = &mut quick => quick_ones += n.unwrap(),
            }
            if quick_ones == 20 {
                gate.open();
            }
        };
        assert!(slow == 100 && quick_ones >= 20);
    });
}

#[test]
fn the_macros_and_combinators_of_futures_work() {
    within_limit(|| {
        let pool = pool(2);
        let job = |n: u32| pool.submit(move || n);
        let all = block_on(futures::future::try_join_all((0..10).map(job))).unwrap();
        assert_eq!(all, Vec::from_iter(0..10));
        let (one, two) = block_on(async { futures::join!(job(1), job(2)) });
        assert_eq!((one.unwrap(), two.unwrap()), (1, 2));
        let selected = block_on(async {
            let (mut first, mut never) = (job(3).fuse(), futures::future::pending::<()>());
            futures::select! {
                n = first => n.unwrap(),
                () = never => unreachable!("it is never ready"),
            }
        });
        assert_eq!(selected, 3);
        let mapped = job(4).map(|n| n.unwrap() + 1).shared();
        assert_eq!((block_on(mapped.clone()), block_on(mapped)), (5, 5));
        let unordered: futures::stream::FuturesUnordered<_> = (0..10).map(job).collect();
        let sum: u32 = block_on(unordered.map(|n| n.unwrap()).collect::<Vec<_>>()).iter().sum();
        assert_eq!(sum, 45);
        let buffered = futures::stream::iter(0..10).map(job).buffered(3);
        let all: Vec<_> = block_on_stream(Box::pin(buffered)).map(|n| n.unwrap()).collect();
        assert_eq!(all, Vec::from_iter(0..10));
    });
}

// ---- as_completed ----

#[test]
fn as_completed_wakes_once_for_a_batch() {
    within_limit(|| {
        let (completers, futures) = promises(10);
        let mut done = as_completed(futures);
        let wakes = Wakes::new();
        assert_pending!(wakes.poll_next(&mut done));
        for (n, completer) in completers.into_iter().enumerate().rev() {
            completer.complete(Ok(n));
        }
        assert_eq!(wakes.wakes(), 1);
        for n in (0..10).rev() {
            let (index, value) = assert_ready!(wakes.poll_next(&mut done)).unwrap();
            assert_eq!((index, value.unwrap()), (n, n));
        }
        assert!(assert_ready!(wakes.poll_next(&mut done)).is_none());
        assert_eq!((wakes.clones(), wakes.wakes()), (1, 1));
    });
}

#[test]
fn as_completed_keeps_one_clone_of_its_waker_however_many_futures_there_are() {
    within_limit(|| {
        let all = scaled(1_000);
        let (mut completers, futures) = promises(all);
        let mut done = as_completed(futures);
        let wakes = Wakes::new();
        // Polling never visits the unfinished ones: they would want wakers of their own.
        for _ in 0..100 {
            assert_pending!(wakes.poll_next(&mut done));
        }
        assert_eq!((wakes.clones(), wakes.held()), (1, 1));
        for n in 1..=all {
            completers.pop().unwrap().complete(Ok(n));
            assert_eq!(wakes.wakes(), n);
            let (index, value) = assert_ready!(wakes.poll_next(&mut done)).unwrap();
            assert_eq!((index, value.unwrap()), (all - n, n));
            if n < all {
                assert_pending!(wakes.poll_next(&mut done));
                assert_eq!((wakes.clones(), wakes.held()), (n + 1, 1));
            }
        }
    });
}

#[test]
fn as_completed_wakes_the_last_poller_only() {
    within_limit(|| {
        let (completers, futures) = promises(2);
        let mut done = as_completed(futures);
        let (first, second) = (Wakes::new(), Wakes::new());
        assert_pending!(first.poll_next(&mut done));
        assert_pending!(second.poll_next(&mut done));
        assert_eq!((first.held(), second.held()), (0, 1));
        completers.into_iter().for_each(|completer| completer.complete(Ok(())));
        assert_eq!((first.wakes(), second.wakes()), (0, 1));
    });
}

#[test]
fn as_completed_takes_a_future_over_from_its_earlier_waker() {
    within_limit(|| {
        let (completer, mut future) = TaskFuture::promise();
        let (earlier, wakes) = (Wakes::new(), Wakes::new());
        assert_pending!(earlier.poll(&mut future));
        let mut done = as_completed([future]);
        assert_eq!(earlier.held(), 0);
        assert_pending!(wakes.poll_next(&mut done));
        completer.complete(Ok(7));
        assert_eq!((earlier.wakes(), wakes.wakes()), (0, 1));
    });
}

#[test]
fn as_completed_knows_its_size_and_its_end() {
    within_limit(|| {
        let pool = pool(1);
        let mut done = as_completed((0..3).map(|n| pool.submit(move || n)));
        for left in (1..=3).rev() {
            assert_eq!((done.size_hint(), done.is_terminated()), ((left, Some(left)), false));
            assert!(block_on(done.next()).is_some());
        }
        for _ in 0..2 {
            assert_eq!((done.size_hint(), done.is_terminated()), ((0, Some(0)), true));
            assert!(block_on(done.next()).is_none());
        }
        let mut none = as_completed(Vec::<TaskFuture<()>>::new());
        assert!(none.is_terminated());
        assert!(assert_ready!(Wakes::new().poll_next(&mut none)).is_none());
        // Usable where a fused stream is asked for.
        let mut done = as_completed([pool.submit(|| 7)]);
        let first = block_on(async {
            futures::select! {
                item = done.next() => item,
                complete => None,
            }
        });
        assert_eq!(first.unwrap().1.unwrap(), 7);
    });
}

#[test]
fn as_completed_with_a_limit_ends_once() {
    within_limit(|| {
        let (completers, futures) = promises::<u32>(2);
        let mut done = as_completed(futures).timeout(Duration::ZERO);
        assert!(!done.is_terminated());
        let wakes = Wakes::new();
        let late = assert_ready!(wakes.poll_next(&mut done)).unwrap().unwrap_err();
        assert_eq!((late.unfinished, late.total), (2, 2));
        assert!(completers.iter().all(Completer::is_closed), "what is left is dropped");
        for _ in 0..2 {
            assert!(done.is_terminated());
            assert!(assert_ready!(wakes.poll_next(&mut done)).is_none());
        }
        drop(done);
        assert_eq!((wakes.held(), wakes.wakes()), (0, 0));
    });
}

#[test]
fn as_completed_loses_no_item_when_next_is_dropped() {
    within_limit(|| {
        let (completers, futures) = promises(3);
        let mut done = as_completed(futures);
        for (n, completer) in completers.into_iter().enumerate() {
            assert!(done.next().now_or_never().is_none());
            completer.complete(Ok(n));
            assert_eq!(done.next().now_or_never().unwrap().unwrap().1.unwrap(), n);
        }
        assert!(done.next().now_or_never().unwrap().is_none());
    });
}

#[test]
fn as_completed_under_many_workers_yields_each_once() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let all = scaled(5_000);
            let futures: Vec<_> = (0..all).map(|n| pool.submit(move || n)).collect();
            let mut seen: Vec<_> = block_on_stream(as_completed(futures))
                .map(|(index, value)| {
                    assert_eq!(index, value.unwrap());
                    index
                })
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, Vec::from_iter(0..all));
        }
    });
}

// ---- wait ----

#[test]
fn wait_for_all_wakes_when_the_last_has_finished() {
    within_limit(|| {
        let (mut completers, futures) = promises(3);
        let mut all = wait(futures, ReturnWhen::AllCompleted);
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut all));
        completers.pop().unwrap().complete(Ok(7));
        drop(completers.pop()); // an error is an end like others
        assert_eq!(wakes.wakes(), 0);
        assert_pending!(wakes.poll(&mut all));
        completers.pop().unwrap().complete(Ok(8));
        assert_eq!(wakes.wakes(), 1);
        let parts = assert_ready!(wakes.poll(&mut all));
        assert_eq!((parts.done.len(), parts.not_done.len()), (3, 0));
        drop(all);
        assert_eq!(wakes.held(), 0);
    });
}

#[test]
fn wait_for_the_first_wakes_at_the_first() {
    within_limit(|| {
        let (mut completers, futures) = promises(3);
        let mut first = wait(futures, ReturnWhen::FirstCompleted);
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut first));
        completers.pop().unwrap().complete(Ok(7));
        assert_eq!(wakes.wakes(), 1);
        completers.pop().unwrap().complete(Ok(8));
        assert_eq!(wakes.wakes(), 1);
        let parts = assert_ready!(wakes.poll(&mut first));
        // The answer holds what has finished by then, in the order of the input.
        assert_eq!((parts.done.len(), parts.not_done.len()), (2, 1));
        let values: Vec<_> = parts.done.into_iter().map(|future| soon(future).unwrap()).collect();
        assert_eq!(values, [8, 7]);
        // The one that is left works as if nobody had waited for it.
        let mut left = parts.not_done.into_iter().next().unwrap();
        let other = Wakes::new();
        assert_pending!(other.poll(&mut left));
        completers.pop().unwrap().complete(Ok(9));
        assert_eq!((wakes.wakes(), other.wakes()), (1, 1));
        assert_eq!(soon(left).unwrap(), 9);
    });
}

#[test]
fn wait_for_an_error_wakes_at_an_error_only() {
    within_limit(|| {
        let (mut completers, futures) = promises(4);
        let mut failed = wait(futures, ReturnWhen::FirstError);
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut failed));
        completers.pop().unwrap().complete(Ok(7));
        drop(completers.pop()); // cancelled, which is no error here
        assert_eq!(wakes.wakes(), 0);
        assert_pending!(wakes.poll(&mut failed));
        let late = Error::timed_out(Duration::ZERO, true);
        completers.pop().unwrap().complete(Err(late));
        assert_eq!(wakes.wakes(), 1);
        let parts = assert_ready!(wakes.poll(&mut failed));
        assert_eq!((parts.done.len(), parts.not_done.len()), (3, 1));

        // Without any error, when all have finished.
        let (completers, futures) = promises(2);
        let mut failed = wait(futures, ReturnWhen::FirstError);
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut failed));
        completers.into_iter().for_each(|completer| completer.complete(Ok(7)));
        assert_eq!(wakes.wakes(), 1);
        assert_eq!(assert_ready!(wakes.poll(&mut failed)).done.len(), 2);
    });
}

#[test]
fn wait_is_ready_at_once_if_its_condition_holds() {
    within_limit(|| {
        let wakes = Wakes::new();
        let finished = || {
            let (completer, future) = TaskFuture::promise();
            completer.complete(Ok(7));
            future
        };
        let (_completer, pending) = TaskFuture::promise();
        let parts =
            assert_ready!(wakes.poll(&mut wait([pending, finished()], ReturnWhen::FirstCompleted)));
        assert_eq!((parts.done.len(), parts.not_done.len()), (1, 1));
        for when in [ReturnWhen::FirstCompleted, ReturnWhen::FirstError, ReturnWhen::AllCompleted] {
            let none = assert_ready!(wakes.poll(&mut wait(Vec::<TaskFuture<()>>::new(), when)));
            assert!(none.done.is_empty() && none.not_done.is_empty());
            let all = assert_ready!(wakes.poll(&mut wait([finished(), finished()], when)));
            assert_eq!((all.done.len(), all.not_done.len()), (2, 0));
        }
        assert_eq!((wakes.held(), wakes.wakes()), (0, 0));
    });
}

#[test]
fn wait_wakes_the_last_poller_only() {
    within_limit(|| {
        let (completers, futures) = promises(2);
        let mut all = wait(futures, ReturnWhen::AllCompleted);
        let (first, second) = (Wakes::new(), Wakes::new());
        assert_pending!(first.poll(&mut all));
        assert_pending!(second.poll(&mut all));
        assert_eq!((first.held(), second.held()), (0, 1));
        completers.into_iter().for_each(|completer| completer.complete(Ok(())));
        assert_eq!((first.wakes(), second.wakes()), (0, 1));
    });
}

#[test]
fn a_wait_polled_after_its_end_is_empty_and_does_not_panic() {
    within_limit(|| {
        let (completer, future) = TaskFuture::promise();
        completer.complete(Ok(7));
        let mut all = wait([future], ReturnWhen::AllCompleted);
        let wakes = Wakes::new();
        assert_eq!(assert_ready!(wakes.poll(&mut all)).done.len(), 1);
        let again = assert_ready!(wakes.poll(&mut all));
        assert!(again.done.is_empty() && again.not_done.is_empty());
    });
}

// ---- map ----

#[test]
fn a_map_wakes_its_consumer_and_ends_once() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let mut map = pool.map(|n: u32| n + 1, 0..1);
            assert!(!map.is_terminated());
            let (first, second) = (Wakes::new(), Wakes::new());
            assert_pending!(first.poll_next(&mut map));
            assert_pending!(second.poll_next(&mut map));
            assert_eq!((first.held(), second.held()), (0, 1));
            gate.open();
            second.until_woken(1);
            assert_eq!(first.wakes(), 0);
            assert_eq!(block_on(map.next()).unwrap().unwrap(), 1);
            for _ in 0..2 {
                assert!(block_on(map.next()).is_none());
                assert!(map.is_terminated());
            }
            assert!(block_on(map.into_future()).unwrap().is_empty());
            drop(held);

            let mut unordered = pool.map(|n: u32| n + 1, 0..2).unordered();
            assert!(!unordered.is_terminated());
            assert_eq!(block_on(unordered.by_ref().count()), 2);
            assert!(unordered.is_terminated());
        }
    });
}

// ---- reserve, shutdown ----

#[test]
fn one_room_wakes_one_who_waits_for_it() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let queued = pool.submit(|| 7);
        let (first, second) = (Wakes::new(), Wakes::new());
        let (mut one, mut two) = (Box::pin(pool.reserve()), Box::pin(pool.reserve()));
        assert_pending!(first.poll(&mut one));
        assert_pending!(second.poll(&mut two));
        assert!(queued.cancel());
        assert_eq!((first.wakes(), second.wakes()), (1, 0));
        // Given up before it is used: the next in line gets it.
        drop(one);
        assert_eq!((first.wakes(), second.wakes()), (1, 1));
        let permit = assert_ready!(second.poll(&mut two)).unwrap();
        let future = permit.submit(|| 8);
        gate.open();
        soon(held).unwrap();
        assert_eq!(soon(future).unwrap(), 8);
    });
}

#[test]
fn the_end_of_a_pool_wakes_all_who_wait_for_it() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let how = concurrent_futures::Shutdown::Drain;
        let wakes: Vec<_> = (0..3).map(|_| Wakes::new()).collect();
        let mut ends: Vec<_> = wakes.iter().map(|_| pool.shutdown(how)).collect();
        for (end, wakes) in ends.iter_mut().zip(&wakes) {
            for _ in 0..10 {
                assert_pending!(wakes.poll(end));
            }
            assert_eq!(wakes.held(), 1);
        }
        gate.open();
        soon(held).unwrap();
        for (mut end, wakes) in ends.into_iter().zip(wakes) {
            wakes.until_woken(1);
            assert_eq!(assert_ready!(wakes.poll(&mut end)).completed, 1);
            assert_eq!((wakes.wakes(), wakes.held()), (1, 0));
        }
    });
}

// ---- Where it is polled ----

#[test]
fn futures_work_on_any_executor() {
    fn check(run: impl Fn(&ThreadPoolExecutor, Arc<Gate>) -> u32) {
        for workers in POOL_SIZES {
            assert_eq!(run(&pool(workers), Arc::default()), 7);
        }
    }

    async fn seven(pool: &ThreadPoolExecutor, gate: Arc<Gate>) -> u32 {
        let wait = Arc::clone(&gate);
        let future = pool.submit(move || {
            wait.wait();
            7
        });
        let mut future = pin!(future);
        assert!(futures::poll!(&mut future).is_pending());
        gate.open();
        future.await.unwrap()
    }

    within_limit(|| {
        check(|pool, gate| block_on(seven(pool, gate)));
        check(|pool, gate| tokio_test::block_on(seven(pool, gate)));
        check(|pool, gate| {
            let mut local = futures::executor::LocalPool::new();
            local.run_until(seven(pool, gate))
        });
        check(|pool, gate| {
            let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
            current.block_on(seven(pool, gate))
        });
        check(|pool, gate| {
            let multi = tokio::runtime::Builder::new_multi_thread().build().unwrap();
            let pool = pool.clone();
            let spawned = multi.spawn(async move { seven(&pool, gate).await });
            multi.block_on(spawned).unwrap()
        });
        check(|pool, gate| {
            let local = tokio::task::LocalSet::new();
            let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
            local.block_on(&current, seven(pool, gate))
        });
    });
}
