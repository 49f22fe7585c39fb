//! A set that grows while its results are taken, and handles of tasks whose futures were moved away.

use std::thread;
use std::time::Duration;

use concurrent_futures::{Completer, Error, TaskFuture, TaskSet, as_completed, task};
use futures::Stream;
use futures::executor::block_on;
use futures::stream::FusedStream;
use tokio_test::{assert_pending, assert_ready};

use crate::support::{Gate, POOL_SIZES, occupy, pool, scaled, within_limit};
use crate::tools::{Wakes, soon};

fn promises(count: usize) -> (Vec<Option<Completer<usize>>>, Vec<TaskFuture<usize>>) {
    (0..count).map(|_| TaskFuture::promise()).map(|(end, future)| (Some(end), future)).unzip()
}

fn complete(completers: &mut [Option<Completer<usize>>], index: usize) {
    completers[index].take().unwrap().complete(Ok(index));
}

#[test]
fn results_come_in_the_order_in_which_tasks_end_with_their_keys() {
    let (mut completers, futures) = promises(4);
    let mut set: TaskSet<_, _> = ["a", "b", "c", "d"].into_iter().zip(futures).collect();
    assert_eq!((set.len(), set.size_hint()), (4, (4, Some(4))));
    for index in [2, 0, 3, 1] {
        complete(&mut completers, index);
    }
    let keys = std::iter::from_fn(|| set.next_blocking().map(|(key, value)| (key, value.unwrap())));
    assert!(keys.eq([("c", 2), ("a", 0), ("d", 3), ("b", 1)]));
    assert!(set.is_empty() && set.is_terminated());
}

/// The set is moved to a larger one with members that are done, are pending, and end meanwhile.
#[test]
fn a_set_that_grows_loses_nothing_and_keeps_the_order() {
    let count = 200;
    let (mut completers, futures) = promises(count);
    let mut set = TaskSet::new();
    let wakes = Wakes::new();
    let mut futures = futures.into_iter().enumerate();
    for (key, future) in futures.by_ref().take(10) {
        set.push(key, future);
    }
    assert_pending!(wakes.poll(&mut set.next()));
    let order = [7, 3, 9];
    order.iter().for_each(|index| complete(&mut completers, *index));
    assert_eq!(wakes.wakes(), 1);
    set.extend(futures);
    assert_eq!(set.len(), count);
    for key in order {
        assert_eq!(assert_ready!(wakes.poll(&mut set.next())).unwrap().0, key);
    }
    assert_pending!(wakes.poll(&mut set.next()));
    complete(&mut completers, 0); // a member from before
    assert_eq!(wakes.wakes(), 2);
    assert_eq!(assert_ready!(wakes.poll(&mut set.next())).unwrap().0, 0);
    let others: Vec<_> = (1..count).filter(|index| !order.contains(index)).rev().collect();
    others.iter().for_each(|index| complete(&mut completers, *index));
    let keys: Vec<_> = std::iter::from_fn(|| set.try_next().map(|(key, _)| key)).collect();
    assert_eq!(keys, others);
    assert!(set.try_next().is_none() && set.is_empty());
}

#[test]
fn a_set_grows_while_its_tasks_end_on_other_threads() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for _ in 0..scaled(20) {
                let mut set = TaskSet::new();
                let mut seen = vec![0_u32; 300];
                for key in 0..seen.len() {
                    set.push(key, pool.submit(move || key));
                    if key % 7 == 0 {
                        while let Some((key, value)) = set.try_next() {
                            assert_eq!(value.unwrap(), key);
                            seen[key] += 1;
                        }
                    }
                }
                block_on(async {
                    while let Some((key, value)) = set.next().await {
                        assert_eq!(value.unwrap(), key);
                        seen[key] += 1;
                    }
                });
                assert!(seen.iter().all(|times| *times == 1));
            }
        }
    });
}

#[test]
fn an_empty_set_is_over_until_it_is_given_a_task() {
    let mut set = TaskSet::<u32, usize>::default();
    assert!(set.is_terminated() && block_on(set.next()).is_none());
    assert!(set.next_blocking().is_none() && set.try_next().is_none());
    assert!(block_on(set.next_timeout(Duration::from_secs(3600))).unwrap().is_none());
    let (completer, future) = TaskFuture::promise();
    set.push(7, future);
    assert!(!set.is_terminated());
    completer.complete(Ok(8));
    let (key, value) = block_on(async {
        futures::select! {
            item = set.next() => item.unwrap(),
            complete => unreachable!("it has a task"),
        }
    });
    assert_eq!((key, value.unwrap()), (7, 8));
}

#[test]
fn a_limited_wait_leaves_the_set_as_it_was() {
    within_limit(|| {
        let (mut completers, futures) = promises(2);
        let mut set: TaskSet<_, _> = futures.into_iter().enumerate().collect();
        for limit in [Duration::ZERO, Duration::from_millis(1)] {
            let late = block_on(set.next_timeout(limit)).unwrap_err();
            assert_eq!((late.unfinished, late.total), (2, 2));
        }
        complete(&mut completers, 1);
        let item = block_on(set.next_timeout(Duration::from_secs(3600))).unwrap();
        assert_eq!(item.unwrap().0, 1);
        assert_eq!(set.len(), 1);
    });
}

#[test]
fn a_set_can_be_cancelled_detached_and_taken_apart() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let of_five =
            || (0..5).map(|key| (key, pool.submit(move || key))).collect::<TaskSet<_, _>>();

        let mut set = of_five();
        set.cancel_all();
        while let Some((_, result)) = set.next_blocking() {
            assert!(matches!(result, Err(Error::Cancelled)));
        }
        drop(of_five());
        assert_eq!(pool.metrics().queued, 0, "withdrawn with the set");

        let mut set = of_five();
        set.detach_all();
        assert_eq!((set.len(), pool.metrics().queued), (0, 5));
        let left: Vec<_> = of_five().into_futures().collect();
        gate.open();
        soon(held).unwrap();
        for (key, future) in left {
            assert_eq!(soon(future).unwrap(), key);
        }
        assert_eq!(pool.metrics().completed, 1 + 5 + 5);
    });
}

#[test]
fn a_job_that_waits_for_a_set_lends_its_place() {
    within_limit(|| {
        let pool = pool(1);
        let inner = pool.clone();
        let job = pool.submit(move || {
            let mut set: TaskSet<_, _> = (0..9).map(|n| (n, inner.submit(move || n * n))).collect();
            let mut sum = 0;
            while let Some((n, square)) = set.next_blocking() {
                assert_eq!(square.unwrap(), n * n);
                sum += n * n;
            }
            sum
        });
        assert_eq!(soon(job).unwrap(), 204);
    });
}

#[test]
fn the_rest_of_as_completed_can_be_taken_back() {
    let (mut completers, futures) = promises(3);
    let mut done = as_completed(futures);
    complete(&mut completers, 1);
    assert_eq!(block_on(done.next()).unwrap().0, 1);
    assert_eq!((done.len(), done.is_empty()), (2, false));
    let mut left: Vec<_> = done.into_futures().collect();
    assert!(left.iter().map(|(index, _)| *index).eq([0, 2]));
    complete(&mut completers, 2);
    assert_eq!(left.pop().unwrap().1.result().unwrap(), 2);
}

#[test]
fn a_handle_cancels_a_task_whose_future_is_elsewhere() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let mut set = TaskSet::new();
        let queued = set.push("queued", pool.task().label("thumb").submit(|| ()));
        assert_eq!(
            (queued.label(), queued.is_done(), queued.is_running()),
            (Some("thumb"), false, false)
        );
        let other = queued.clone();
        assert!(thread::spawn(move || other.cancel()).join().unwrap());
        assert!(queued.is_done() && queued.is_cancelled() && queued.cancel());
        assert!(matches!(set.next_blocking(), Some(("queued", Err(Error::Cancelled)))));
        gate.open();
        soon(held).unwrap();

        let started = Gate::new();
        let tell = started.clone();
        let future = pool.submit(move || {
            tell.open();
            while !task::stop_requested() {
                thread::yield_now();
            }
        });
        let handle = future.handle();
        assert_eq!(handle.id(), future.id());
        let waiting = thread::spawn(move || future.result());
        started.wait();
        assert!(handle.is_running() && !handle.cancel());
        waiting.join().unwrap().unwrap();
        assert!(handle.is_done() && !handle.is_running() && !handle.is_cancelled());
        assert!(!handle.cancel() && !handle.kill());
    });
}

/// As where one task polls the set and another one fills it, with a lock around.
#[test]
fn a_consumer_that_waits_is_woken_by_what_is_pushed_meanwhile() {
    for first in [1, 16] {
        let (mut completers, futures) = promises(first + 1);
        let mut futures = futures.into_iter().enumerate();
        let mut set: TaskSet<_, _> = futures.by_ref().take(first).collect();
        let wakes = Wakes::new();
        assert_pending!(wakes.poll(&mut set.next()));
        let (key, last) = futures.next().unwrap();
        set.push(key, last); // which the set has no place for
        assert_eq!(wakes.wakes(), 1);
        assert_pending!(wakes.poll(&mut set.next()));
        complete(&mut completers, 0);
        assert_eq!(wakes.wakes(), 2);
        assert_eq!(assert_ready!(wakes.poll(&mut set.next())).unwrap().0, 0);

        assert_pending!(wakes.poll(&mut set.next()));
        let (completer, done) = TaskFuture::promise();
        completer.complete(Ok(9));
        set.push(usize::MAX, done);
        assert_eq!(wakes.wakes(), 3);
        assert_eq!(assert_ready!(wakes.poll(&mut set.next())).unwrap().0, usize::MAX);
    }
}
