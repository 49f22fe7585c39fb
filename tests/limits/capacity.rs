//! The bounded queue: exact under any number of submitters, fair to those who wait for room, and
//! room that is taken is always given back.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use concurrent_futures::{Error, Permit, Shutdown, TaskFuture, ThreadPoolExecutor};
use futures::FutureExt;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

use crate::support::{
    CountDrops, Counter, Gate, POOL_SIZES, occupy, on_runtimes, scaled, within_limit,
};
use crate::{Random, until_quiet};

fn bounded(max_workers: usize, queue_capacity: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder()
        .max_workers(max_workers)
        .queue_capacity(queue_capacity)
        .build()
        .unwrap()
}

/// A bounded pool whose workers are held, until the gate is opened.
struct Held {
    pool: ThreadPoolExecutor,
    gate: Gate,
}

impl Held {
    fn new(max_workers: usize, queue_capacity: usize) -> Self {
        let held = Self { pool: bounded(max_workers, queue_capacity), gate: Gate::new() };
        (0..max_workers).for_each(|_| occupy(&held.pool, &held.gate).detach());
        held
    }

    /// How many more tasks the queue takes. They are withdrawn again.
    fn room(&self) -> usize {
        let mut taken = Vec::new();
        while let Ok(future) = self.pool.try_submit(|| ()) {
            taken.push(future);
        }
        taken.len()
    }

    fn fill(&self) -> Vec<TaskFuture<()>> {
        let mut futures = Vec::new();
        while let Ok(future) = self.pool.try_submit(|| ()) {
            futures.push(future);
        }
        futures
    }

    fn end(&self) {
        self.gate.open();
        self.pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }
}

// ---- Exactness ----

#[test]
fn submitters_at_the_same_time_get_exactly_the_capacity() {
    within_limit(|| {
        for workers in POOL_SIZES {
            for capacity in [1, 7, scaled(100)] {
                let held = Held::new(workers, capacity);
                for _ in 0..scaled(30) {
                    let (start, end) = (Arc::new(Barrier::new(8)), Arc::new(Barrier::new(9)));
                    let accepted = Arc::new(AtomicUsize::new(0));
                    let submitters: Vec<_> = (0..8)
                        .map(|n| {
                            let pool = held.pool.clone();
                            let (start, end) = (Arc::clone(&start), Arc::clone(&end));
                            let accepted = Arc::clone(&accepted);
                            std::thread::spawn(move || {
                                start.wait();
                                let mut futures = Vec::new();
                                for round in 0..capacity + 1 {
                                    let future = if (n + round) % 2 == 0 {
                                        pool.try_submit(|| ()).ok()
                                    } else {
                                        Some(pool.submit(|| ())).filter(|f| !f.is_done())
                                    };
                                    accepted.fetch_add(usize::from(future.is_some()), SeqCst);
                                    futures.extend(future);
                                }
                                end.wait(); // the futures live until all have counted
                            })
                        })
                        .collect();
                    end.wait();
                    assert_eq!(accepted.load(SeqCst), capacity);
                    for submitter in submitters {
                        submitter.join().unwrap();
                    }
                    assert_eq!(held.pool.metrics().queued, 0);
                    assert_eq!(held.room(), capacity, "the dropped futures gave their room back");
                }
                held.end();
            }
        }
    });
}

#[test]
fn never_more_than_the_capacity_waits_while_the_workers_run() {
    within_limit(|| {
        for workers in POOL_SIZES {
            for capacity in [1, 5, 32] {
                let pool = bounded(workers, capacity);
                let (accepted, started) = (Arc::new(AtomicUsize::new(0)), Counter::new());
                let submitters: Vec<_> = (0..8)
                    .map(|seed| {
                        let (pool, started) = (pool.clone(), started.clone());
                        let accepted = Arc::clone(&accepted);
                        std::thread::spawn(move || {
                            let mut random = Random::new(seed);
                            for _ in 0..scaled(300) {
                                let count = started.clone();
                                let submitted = pool.try_submit(move || count.add());
                                let Ok(future) = submitted else {
                                    random.disturb();
                                    continue;
                                };
                                future.detach();
                                let accepted = accepted.fetch_add(1, SeqCst) + 1;
                                // A task leaves the queue just before its first line.
                                let waiting = accepted.saturating_sub(started.get());
                                assert!(waiting <= capacity + workers, "{waiting}");
                                let queued = pool.metrics().queued;
                                assert!(queued <= capacity, "{queued}");
                            }
                        })
                    })
                    .collect();
                for submitter in submitters {
                    submitter.join().unwrap();
                }
                until_quiet(&pool);
                assert_eq!(accepted.load(SeqCst), started.get());
            }
        }
    });
}

/// Whatever submitters do to a full queue, no room is lost and none is won.
#[test]
fn room_is_neither_lost_nor_won_in_a_crowd() {
    fn one_of_all(
        pool: &ThreadPoolExecutor,
        random: &mut Random,
        kept: &mut Vec<TaskFuture<()>>,
        permits: &mut Vec<Permit<ThreadPoolExecutor>>,
    ) {
        match random.below(9) {
            0 => kept.push(pool.submit(|| ())),
            1 => kept.extend(pool.try_submit(|| ()).ok()),
            2 => drop(pool.submit(|| ())),
            3 => drop(kept.pop().map(|future| future.cancel())),
            4 => permits.extend(pool.reserve().now_or_never().and_then(Result::ok)),
            5 => drop(permits.pop()),
            6 => kept.extend(permits.pop().map(|permit| permit.submit(|| ()))),
            7 => kept.push(pool.task().queue_timeout(Duration::from_micros(30)).submit(|| ())),
            _ => kept.push(pool.submit_future(async {})),
        }
    }

    within_limit(|| {
        for workers in POOL_SIZES {
            for capacity in [1, 3, 10] {
                let held = Held::new(workers, capacity);
                for seed in 0..scaled(8) as u64 {
                    let submitters: Vec<_> = (0..4)
                        .map(|thread| {
                            let pool = held.pool.clone();
                            std::thread::spawn(move || {
                                let mut random = Random::new(4 * seed + thread);
                                let (mut kept, mut permits) = (Vec::new(), Vec::new());
                                for _ in 0..scaled(100) {
                                    one_of_all(&pool, &mut random, &mut kept, &mut permits);
                                }
                            })
                        })
                        .collect();
                    for submitter in submitters {
                        submitter.join().unwrap();
                    }
                    // A task that expires gives its room back on the timer's thread, perhaps only
                    // now. Room that is lost never comes.
                    loop {
                        let room = held.room();
                        assert!(room <= capacity, "{room} instead of {capacity}, seed {seed}");
                        if room == capacity {
                            break;
                        }
                        std::thread::yield_now();
                    }
                }
                held.end();
            }
        }
    });
}

// ---- Refusals ----

#[test]
fn try_submit_hands_the_very_job_back() {
    within_limit(|| {
        let held = Held::new(1, 1);
        let token = Arc::new(5);
        let inside = Arc::clone(&token);
        let job = move || inside;
        let queued = held.pool.submit(|| ());
        let refused = held.pool.try_submit(job).unwrap_err();
        assert!(matches!(refused.error(), Error::QueueFull { capacity: 1, .. }));
        assert_eq!(Arc::strong_count(&token), 2);
        let job = refused.into_job();
        let inside = job();
        assert!(Arc::ptr_eq(&token, &inside));
        drop(inside);

        // Also with options, and again when there is room.
        let inside = Arc::clone(&token);
        let refused = held.pool.task().label("second").try_submit(move || inside).unwrap_err();
        let (job, error) = refused.into_parts();
        assert!(matches!(error, Error::QueueFull { .. }));
        assert!(queued.cancel());
        let accepted = held.pool.try_submit(job).unwrap();
        held.gate.open();
        assert!(Arc::ptr_eq(&token, &accepted.result().unwrap()));

        // And by a pool that is shut down.
        held.end();
        let inside = Arc::clone(&token);
        let refused = held.pool.try_submit(move || inside).unwrap_err();
        assert!(matches!(refused.error(), Error::ShutDown));
        assert!(Arc::ptr_eq(&token, &refused.into_job()()));
        assert_eq!(Arc::strong_count(&token), 1);
    });
}

#[test]
fn submit_on_a_full_queue_gives_a_future_that_has_failed() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            let held = Held::new(workers, 2);
            let queued = held.fill();
            assert_eq!(queued.len(), 2);

            let drops = Arc::new(AtomicUsize::new(0));
            let inside = CountDrops(Arc::clone(&drops));
            let future = held.pool.submit(move || drop(inside));
            assert!(future.is_done());
            assert_eq!(drops.load(SeqCst), 1, "the job is dropped at once");
            assert!(matches!(future.await, Err(Error::QueueFull { capacity: 2, .. })));

            let inside = CountDrops(Arc::clone(&drops));
            let future = held.pool.submit_future(async move { drop(inside) });
            assert_eq!(drops.load(SeqCst), 2);
            assert!(matches!(future.await, Err(Error::QueueFull { capacity: 2, .. })));

            let future = held.pool.task().label("third").submit(|| ());
            assert!(matches!(future.await, Err(Error::QueueFull { capacity: 2, .. })));
            assert_eq!(held.pool.metrics().cancelled, 0, "it was never accepted");

            held.gate.open();
            for future in queued {
                future.await.unwrap();
            }
        }
    });
}

// ---- Room is given back ----

#[test]
fn a_task_that_starts_gives_its_room_back() {
    within_limit(|| {
        let pool = bounded(1, 1);
        for _ in 0..scaled(100) {
            let (started, gate) = (Gate::new(), Gate::new());
            let (inside, wait) = (started.clone(), gate.clone());
            let first = pool.try_submit(move || {
                inside.open();
                wait.wait();
            });
            started.wait();
            let second = pool.try_submit(|| ());
            assert!(matches!(
                pool.try_submit(|| ()).map_err(|refused| refused.into_parts().1),
                Err(Error::QueueFull { .. })
            ));
            gate.open();
            first.unwrap().result().unwrap();
            second.unwrap().result().unwrap();
        }
    });
}

#[test]
fn a_task_that_leaves_the_queue_gives_its_room_back() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let held = Held::new(workers, 3);
            let others: Vec<_> = (0..2).map(|_| held.pool.submit(|| ())).collect();
            for _ in 0..scaled(50) {
                let cancelled = held.pool.try_submit(|| ()).unwrap();
                assert_eq!(held.room(), 0);
                assert!(cancelled.cancel());
                assert_eq!(held.room(), 1, "cancelled");
                assert!(cancelled.cancel());
                drop(cancelled);
                assert_eq!(held.room(), 1, "a second time gives nothing");

                drop(held.pool.try_submit(|| ()).unwrap());
                assert_eq!(held.room(), 1, "dropped");

                let task = held.pool.submit_future(async {});
                assert_eq!(held.room(), 0);
                assert!(task.cancel());
                assert_eq!(held.room(), 1, "an async task, cancelled");

                let mut late =
                    held.pool.task().queue_timeout(Duration::from_micros(50)).submit(|| ());
                let outcome = late.result_timeout(Duration::from_secs(3600));
                assert!(matches!(outcome, Some(Err(Error::TimedOut { started: false, .. }))));
                assert_eq!(held.room(), 1, "expired");
            }
            drop(others);
            assert_eq!(held.room(), 3);
            held.end();
        }
    });
}

#[test]
fn a_task_that_is_run_in_place_gives_its_room_back() {
    within_limit(|| {
        let pool = bounded(1, 1);
        let inner = pool.clone();
        let job = pool.submit(move || {
            for _ in 0..scaled(50) {
                let innermost = inner.clone();
                let child = inner.try_submit(move || {
                    // It has started, so there is room for one again.
                    let grandchild = innermost.try_submit(|| 3).unwrap();
                    assert!(innermost.try_submit(|| ()).is_err());
                    grandchild.result().unwrap()
                });
                let child = child.unwrap();
                assert!(inner.try_submit(|| ()).is_err());
                assert_eq!(child.result().unwrap(), 3);
            }
        });
        job.result().unwrap();
        until_quiet(&pool);
        assert_eq!(pool.metrics().workers, 1, "all of it ran in place");
    });
}

#[test]
fn an_async_task_takes_room_only_until_its_first_poll() {
    within_limit(|| {
        let pool = bounded(1, 1);
        let suspended: Vec<_> = (0..10)
            .map(|_| {
                let polled = Gate::new();
                let inside = polled.clone();
                let task = pool.submit_future(async move {
                    inside.open();
                    std::future::pending::<()>().await;
                });
                assert!(!task.is_done(), "there was room");
                polled.wait();
                task
            })
            .collect();
        // Ten are under way, and the queue takes one.
        until_quiet(&pool);
        assert!(pool.try_submit(|| ()).is_ok());
        for task in suspended {
            task.cancel();
        }
    });
}

#[test]
fn a_map_takes_no_room() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            let held = Held::new(workers, 1);
            let map = held.pool.map(|n| n, 0..100).buffer_size(50).start();
            assert_eq!(held.room(), 1);
            let queued = held.fill();
            let second = held.pool.map(|n| n, 0..100).start(); // the queue is full
            held.gate.open();
            assert_eq!(map.await.unwrap().len(), 100);
            assert_eq!(second.await.unwrap().len(), 100);
            for future in queued {
                future.await.unwrap();
            }
            let held = Held { pool: held.pool, gate: Gate::new() };
            (0..workers).for_each(|_| occupy(&held.pool, &held.gate).detach());
            assert_eq!(held.room(), 1);
            held.gate.open();
        }
    });
}

// ---- Waiting for room ----

#[test]
fn reserve_is_first_come_first_served() {
    within_limit(|| {
        let held = Held::new(1, 5);
        let queued = held.fill();
        let mut waiters: Vec<_> = (0..5).map(|_| spawn(held.pool.reserve())).collect();
        for waiter in &mut waiters {
            assert_pending!(waiter.poll());
        }
        let mut permits = Vec::new();
        for (turn, future) in queued.into_iter().enumerate() {
            assert!(future.cancel());
            let woken: Vec<_> = waiters.iter().map(|waiter| waiter.is_woken()).collect();
            assert_eq!(woken.iter().filter(|woken| **woken).count(), 1);
            assert!(woken[0], "turn {turn}: the one who has waited longest is woken");
            // Before it gets to it, others try to be faster.
            assert!(held.pool.try_submit(|| ()).is_err());
            let mut late = spawn(held.pool.reserve());
            assert_pending!(late.poll());
            for waiter in &mut waiters[1..] {
                assert_pending!(waiter.poll());
            }
            permits.push(assert_ready!(waiters.remove(0).poll()).unwrap());
        }
        assert_eq!(permits.len(), 5);
        drop(permits);
        assert_eq!(held.room(), 5);
        held.end();
    });
}

#[test]
fn a_waiter_that_is_dropped_loses_nothing() {
    within_limit(|| {
        let held = Held::new(1, 1);
        let mut queued = held.fill();

        // Before it is its turn: the others move up.
        let mut first = spawn(held.pool.reserve());
        let mut second = spawn(held.pool.reserve());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        drop(first);
        assert!(queued.remove(0).cancel());
        assert!(second.is_woken());
        let permit = assert_ready!(second.poll()).unwrap();

        // Woken, and dropped before it takes the room: the next one gets it.
        let mut third = spawn(held.pool.reserve());
        let mut fourth = spawn(held.pool.reserve());
        assert_pending!(third.poll());
        assert_pending!(fourth.poll());
        drop(permit);
        assert!(third.is_woken() && !fourth.is_woken());
        drop(third);
        assert!(fourth.is_woken());
        let permit = assert_ready!(fourth.poll()).unwrap();
        drop(permit);

        // Woken, dropped, and nobody else waits: the room is free.
        let queued = held.fill();
        let mut last = spawn(held.pool.reserve());
        assert_pending!(last.poll());
        drop(queued);
        assert!(last.is_woken());
        assert_eq!(held.room(), 0);
        drop(last);
        assert_eq!(held.room(), 1);

        // Never polled: it has taken nothing.
        drop(spawn(held.pool.reserve()));
        assert_eq!(held.room(), 1);
        held.end();
    });
}

#[test]
fn a_permit_holds_its_room_until_it_is_used_or_dropped() {
    within_limit(|| {
        let held = Held::new(1, 2);
        let first = held.pool.reserve().now_or_never().unwrap().unwrap();
        assert_eq!(held.room(), 1);
        let second = held.pool.reserve().now_or_never().unwrap().unwrap();
        assert_eq!(held.room(), 0);
        assert!(held.pool.reserve().now_or_never().is_none());
        drop(first);
        assert_eq!(held.room(), 1);
        let future = second.submit(|| 7);
        assert_eq!(held.room(), 1, "the task has the room of the permit, not another");
        assert!(future.cancel());
        assert_eq!(held.room(), 2);
        let used = held.pool.reserve().now_or_never().unwrap().unwrap().submit(|| 8);
        held.gate.open();
        assert_eq!(used.result().unwrap(), 8);
    });
}

#[test]
fn a_permit_used_after_the_shutdown_says_so() {
    on_runtimes(|| async {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            let pool = bounded(1, 3);
            let (unused, used) = (pool.reserve().await.unwrap(), pool.reserve().await.unwrap());
            // Permits are no tasks: the pool does not wait for them.
            pool.shutdown(how).await;
            let drops = Arc::new(AtomicUsize::new(0));
            let inside = CountDrops(Arc::clone(&drops));
            let future = used.submit(move || drop(inside));
            assert_eq!(drops.load(SeqCst), 1);
            assert!(matches!(future.await, Err(Error::ShutDown)));
            drop(unused);
            assert!(matches!(pool.reserve().await, Err(Error::ShutDown)));
        }
    });
}

#[test]
fn a_shutdown_wakes_all_who_wait_for_room() {
    within_limit(|| {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            let held = Held::new(1, 1);
            let queued = held.fill();
            let mut waiters: Vec<_> = (0..3).map(|_| spawn(held.pool.reserve())).collect();
            for waiter in &mut waiters {
                assert_pending!(waiter.poll());
            }
            drop(held.pool.shutdown(how));
            for waiter in &mut waiters {
                assert!(waiter.is_woken());
                assert!(matches!(assert_ready!(waiter.poll()), Err(Error::ShutDown)));
            }
            drop(queued);
            held.end();
        }
    });
}

#[test]
fn a_pool_that_breaks_wakes_all_who_wait_for_room() {
    within_limit(|| {
        let gate = Gate::new();
        let wait = gate.clone();
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .queue_capacity(1)
            .initializer(move || {
                wait.wait();
                Err::<(), _>("no licence")
            })
            .build()
            .unwrap();
        let queued = pool.submit(|| ());
        let mut waiter = spawn(Box::pin(pool.reserve()));
        assert_pending!(waiter.poll());
        gate.open();
        assert!(matches!(queued.result(), Err(Error::BrokenPool(_))));
        let outcome = futures::executor::block_on(waiter.into_inner());
        assert!(matches!(outcome, Err(Error::BrokenPool(_))));
    });
}

#[test]
fn reserve_on_an_unbounded_queue_is_ready_at_once() {
    within_limit(|| {
        let pool = crate::support::pool(1);
        let permits: Vec<_> =
            (0..scaled(1000)).map(|_| pool.reserve().now_or_never().unwrap()).collect();
        for (n, permit) in permits.into_iter().enumerate() {
            assert_eq!(permit.unwrap().submit(move || n).result().unwrap(), n);
        }
    });
}

#[test]
fn all_who_wait_for_room_get_through() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            for capacity in [1, 4] {
                let pool = bounded(workers, capacity);
                let clients: Vec<_> = (0..scaled(200))
                    .map(|n| {
                        let pool = pool.clone();
                        tokio::spawn(async move {
                            let mut sum = 0;
                            for m in 0..10 {
                                let permit = pool.reserve().await.unwrap();
                                sum += permit.submit(move || n + m).await.unwrap();
                            }
                            sum
                        })
                    })
                    .collect();
                for (n, client) in clients.into_iter().enumerate() {
                    assert_eq!(client.await.unwrap(), 10 * n + 45);
                }
            }
        }
    });
}

#[test]
fn waiters_that_give_up_do_not_hold_up_the_others() {
    on_runtimes(|| async {
        for workers in POOL_SIZES {
            let pool = bounded(workers, 1);
            let clients: Vec<_> = (0..200u64)
                .map(|n| {
                    let pool = pool.clone();
                    tokio::spawn(async move {
                        let mut random = Random::new(n);
                        for _ in 0..10 {
                            {
                                // Polled a few times at most, then given up or used.
                                let mut reserve = pin!(pool.reserve());
                                for _ in 0..random.below(3) {
                                    let polled = futures::poll!(reserve.as_mut());
                                    if let Poll::Ready(permit) = polled {
                                        drop(permit.unwrap().submit(|| ()));
                                        break;
                                    }
                                    tokio::task::yield_now().await;
                                }
                            }
                            let permit = pool.reserve().await.unwrap();
                            permit.submit(|| ()).await.unwrap();
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
            let permit = pool.reserve().await.unwrap();
            assert!(pool.try_submit(|| ()).is_err());
            drop(permit);
        }
    });
}

// ---- A queue without room ----

/// The number of tasks that a pool takes at this moment.
fn free(pool: &ThreadPoolExecutor) -> usize {
    let permits = std::iter::from_fn(|| pool.try_reserve().ok());
    permits.collect::<Vec<_>>().len()
}

fn until_free(pool: &ThreadPoolExecutor) {
    while free(pool) == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn without_room_a_task_is_taken_only_by_a_free_worker() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let held = Held::new(workers, 0);
            assert_eq!(free(&held.pool), 0);
            let refused = held.pool.submit(|| ()).result().unwrap_err();
            assert!(matches!(refused, Error::QueueFull { capacity: 0, .. }));
            assert!(refused.to_string().starts_with("no worker is free;"), "{refused}");
            let mut waits = spawn(held.pool.reserve());
            assert_pending!(waits.poll());
            held.gate.open();
            while !waits.is_woken() {
                std::thread::yield_now();
            }
            let permit = assert_ready!(waits.poll()).unwrap();
            assert_eq!(permit.submit(|| 7).result().unwrap(), 7);
            until_quiet(&held.pool);
            assert_eq!(free(&held.pool), workers);
            held.end();
        }
    });
}

/// A result that is there has its worker free: the next submission is never refused.
#[test]
fn without_room_one_task_follows_the_other() {
    within_limit(|| {
        let pool = bounded(1, 0);
        for n in 0..scaled(10_000) {
            assert_eq!(pool.submit(move || n).result().unwrap(), n);
        }
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn without_room_a_worker_is_free_again_however_its_task_ends() {
    within_limit(|| {
        let pool = bounded(1, 0);
        let limit = Duration::from_millis(5);
        let until_stopped = || while !concurrent_futures::task::stop_requested() {};

        assert!(pool.submit(|| panic!("fails")).result().is_err());
        assert_eq!(free(&pool), 1);

        // The time limit ends the future, and the job has the worker until it returns.
        let (gate, started) = (Gate::new(), Counter::new());
        let (wait, begun) = (gate.clone(), started.clone());
        let slow = pool.task().timeout(limit).submit(move || {
            begun.add();
            wait.wait();
        });
        started.wait_for(1);
        assert!(matches!(slow.result(), Err(Error::TimedOut { .. })));
        assert_eq!(free(&pool), 0);
        gate.open();
        until_quiet(&pool);
        assert_eq!(free(&pool), 1);

        assert!(pool.task().timeout(limit).submit(until_stopped).result().is_err());
        until_quiet(&pool);
        assert_eq!(free(&pool), 1);

        assert_eq!(pool.submit_future(async { 5 }).result().unwrap(), 5);
        assert_eq!(free(&pool), 1);

        // Between two polls it holds no worker, and its room all the same.
        let (sender, receiver) = futures::channel::oneshot::channel::<u8>();
        let waits = pool.submit_future(receiver);
        until_quiet(&pool);
        assert_eq!(free(&pool), 0);
        sender.send(3).unwrap();
        assert_eq!(waits.result().unwrap(), Ok(3));
        assert_eq!(free(&pool), 1);

        let pending = pool.submit_future(std::future::pending::<()>());
        until_quiet(&pool);
        assert_eq!(free(&pool), 0);
        assert!(pending.cancel());
        assert_eq!(free(&pool), 1);

        let pending = pool.task().timeout(limit).submit_future(std::future::pending::<()>());
        assert!(matches!(pending.result(), Err(Error::TimedOut { .. })));
        until_free(&pool); // The result comes first, and then the body is dropped.

        // Nothing can wake it any more.
        pool.submit_future(std::future::pending::<()>()).detach();
        until_free(&pool);

        // One that is cancelled while it is polled.
        let (gate, started) = (Gate::new(), Counter::new());
        let (wait, begun) = (gate.clone(), started.clone());
        let polled = pool.submit_future(async move {
            begun.add();
            wait.wait();
            std::future::pending::<()>().await;
        });
        started.wait_for(1);
        assert!(!polled.cancel());
        assert_eq!(free(&pool), 0);
        gate.open();
        assert!(matches!(polled.result(), Err(Error::Cancelled)));
        assert_eq!(free(&pool), 1);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

/// A task that waits for another one has its room meanwhile.
#[test]
fn without_room_a_job_of_the_only_worker_submits_nothing_to_its_own_pool() {
    within_limit(|| {
        let pool = bounded(1, 0);
        let own = pool.clone();
        let inner = pool.submit(move || own.submit(|| 1).result()).result().unwrap();
        assert!(matches!(inner, Err(Error::QueueFull { .. })));
        assert_eq!(free(&pool), 1);
    });
}
