//! `submit_future`: async computations that the pool's workers poll.

use std::collections::HashSet;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use concurrent_futures::{Error, Shutdown, TaskFuture, ThreadPoolExecutor, task};
use futures::FutureExt;
use futures::executor::block_on;

use crate::support::{Counter, Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, within_limit};
use crate::tools::{Drops, Tracked, eventually, occupy_all, soon};

/// An async body under the test's control: pending until it is told to finish, it notes the
/// thread of every poll and keeps the waker of the last one.
#[derive(Clone, Default)]
struct Puppet(Arc<Strings>);

#[derive(Default)]
struct Strings {
    polls: Mutex<Vec<ThreadId>>,
    polled: Counter,
    waker: Mutex<Option<Waker>>,
    finish: Mutex<bool>,
    drops: Drops,
}

struct Body(Arc<Strings>, #[expect(dead_code, reason = "tells of its drop")] Tracked);

impl Puppet {
    fn new() -> Self {
        Self::default()
    }

    fn body(&self) -> Body {
        Body(Arc::clone(&self.0), self.0.drops.value())
    }

    fn polls(&self) -> usize {
        self.0.polled.get()
    }

    fn threads(&self) -> Vec<ThreadId> {
        self.0.polls.lock().unwrap().clone()
    }

    fn waker(&self) -> Waker {
        self.0.waker.lock().unwrap().clone().expect("it was polled")
    }

    /// The next poll is the last.
    fn finish(&self) {
        *self.0.finish.lock().unwrap() = true;
    }

    fn drops(&self) -> &Drops {
        &self.0.drops
    }

    /// Blocks until it was polled `n` times and no worker has it any more.
    fn until_suspended(&self, pool: &ThreadPoolExecutor, n: usize) {
        self.0.polled.wait_for(n);
        until_idle(pool);
    }
}

impl Future for Body {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        self.0.polls.lock().unwrap().push(thread::current().id());
        *self.0.waker.lock().unwrap() = Some(cx.waker().clone());
        let finish = *self.0.finish.lock().unwrap();
        self.0.polled.add();
        if finish { Poll::Ready(7) } else { Poll::Pending }
    }
}

/// Waits, by looking, until no worker has a task.
fn until_idle(pool: &ThreadPoolExecutor) {
    loop {
        let metrics = pool.metrics();
        if metrics.running == 0 && metrics.idle == metrics.workers {
            return;
        }
        thread::yield_now();
    }
}

/// Ready at its second poll.
async fn yielding() {
    tokio::task::yield_now().await;
}

// ---- Polls ----

#[test]
fn it_is_polled_on_the_workers_and_holds_none_while_it_waits() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool =
                ThreadPoolExecutor::builder().max_workers(workers).name("async").build().unwrap();
            let puppet = Puppet::new();
            let body = puppet.body();
            let future = pool.submit_future(async move {
                let before = thread::current().name().map(str::to_owned);
                let value = body.await;
                (before, value, thread::current().name().map(str::to_owned), task::id())
            });
            let id = future.id();
            puppet.until_suspended(&pool, 1);
            assert!(future.is_running() && !future.is_done());
            let metrics = pool.metrics();
            assert_eq!((metrics.running, metrics.queued, metrics.idle), (0, 0, metrics.workers));
            // All workers are free for others.
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());

            puppet.finish();
            puppet.waker().wake();
            let (before, value, after, inner_id) = soon(future).unwrap();
            assert!(before.unwrap().starts_with("async_") && after.unwrap().starts_with("async_"));
            assert_eq!((value, inner_id), (7, Some(id)));
            assert_eq!((puppet.polls(), puppet.drops().count()), (2, 1));
        }
    });
}

#[test]
fn a_body_that_is_ready_at_once_is_polled_once() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        puppet.finish();
        assert_eq!(soon(pool.submit_future(puppet.body())).unwrap(), 7);
        assert_eq!((puppet.polls(), puppet.drops().count()), (1, 1));
        let metrics = pool.metrics();
        assert_eq!((metrics.completed, metrics.queue_time.count()), (1, 1));
        assert_eq!(metrics.run_time.count(), 1);
    });
}

#[test]
fn it_moves_to_another_worker_if_that_one_is_free() {
    within_limit(|| {
        let pool = pool(2);
        let puppet = Puppet::new();
        let future = pool.submit_future(puppet.body());
        puppet.until_suspended(&pool, 1);
        let first = puppet.threads()[0];
        // Hold both workers, each with its own gate, and let go of the one that has not had it.
        let held: Vec<_> = (0..2)
            .map(|_| {
                let gate = Gate::new();
                let (wait, (tell, told)) = (gate.clone(), mpsc::channel());
                let future = pool.submit(move || {
                    tell.send(thread::current().id()).unwrap();
                    wait.wait();
                });
                (told.recv().unwrap(), gate, future)
            })
            .collect();
        puppet.finish();
        puppet.waker().wake();
        assert_eq!(pool.metrics().queued, 1);
        let (other, same): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.0 != first);
        assert_eq!((other.len(), same.len()), (1, 1));
        other[0].1.open();
        assert_eq!(soon(future).unwrap(), 7);
        assert_eq!(puppet.threads(), [first, other[0].0]);
        same[0].1.open();
    });
}

#[test]
fn a_body_that_yields_ten_thousand_times_is_polled_once_for_each() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let polls = Counter::new();
            let poll = polls.clone();
            let yields = scaled(10_000);
            let mut left = yields;
            let future = pool.submit_future(poll_fn(move |cx| {
                poll.add();
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }));
            soon(future).unwrap();
            assert_eq!(polls.get(), yields + 1);
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.run_time.count()), (1, yields as u64 + 1));
            assert_eq!(metrics.queue_time.count(), 1);
        }
    });
}

#[test]
fn many_bodies_share_few_workers() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let futures: Vec<_> = (0..scaled(500))
                .map(|n| {
                    pool.submit_future(async move {
                        for _ in 0..n % 17 {
                            yielding().await;
                        }
                        n
                    })
                })
                .collect();
            for (n, future) in futures.into_iter().enumerate() {
                assert_eq!(soon(future).unwrap(), n);
            }
            assert!(pool.metrics().workers <= workers);
            assert_eq!(pool.metrics().completed, scaled(500) as u64);
        }
    });
}

#[test]
fn a_body_that_yields_lets_others_pass() {
    within_limit(|| {
        let pool = pool(1);
        let passed = Arc::new(AtomicBool::new(false));
        let pass = Arc::clone(&passed);
        // One worker, which would never get to the second task if the first kept it.
        let first = pool.submit_future(async move {
            while !passed.load(SeqCst) {
                yielding().await;
            }
        });
        soon(pool.submit(move || pass.store(true, SeqCst))).unwrap();
        soon(first).unwrap();
    });
}

// ---- Wakes ----

#[test]
fn a_wake_during_a_poll_leads_to_one_more_poll() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let polls = Counter::new();
            let (poll, first) = (polls.clone(), Arc::new(Mutex::new(None)));
            let keep = Arc::clone(&first);
            let future = pool.submit_future(poll_fn(move |cx| {
                poll.add();
                if keep.lock().unwrap().is_none() {
                    *keep.lock().unwrap() = Some(cx.waker().clone());
                    // However often, from wherever.
                    cx.waker().wake_by_ref();
                    cx.waker().wake_by_ref();
                    let waker = cx.waker().clone();
                    thread::spawn(move || waker.wake()).join().unwrap();
                }
                Poll::<()>::Pending
            }));
            polls.wait_for(2);
            // Whatever else was queued has been run when all workers are held.
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            assert_eq!((polls.get(), pool.metrics().queued), (2, 0));
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            assert!(future.cancel());
        }
    });
}

#[test]
fn wakes_while_it_waits_for_a_worker_lead_to_one_poll() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        let future = pool.submit_future(puppet.body());
        puppet.until_suspended(&pool, 1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        for _ in 0..10 {
            puppet.waker().wake();
            puppet.waker().wake_by_ref();
        }
        assert_eq!((pool.metrics().queued, puppet.polls()), (1, 1));
        gate.open();
        soon(held).unwrap();
        puppet.until_suspended(&pool, 2);
        soon(pool.submit(|| ())).unwrap();
        assert_eq!((pool.metrics().queued, puppet.polls()), (0, 2));
        assert!(future.cancel());
    });
}

#[test]
fn wakes_from_many_threads_lose_nothing() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for _ in 0..scaled(200) {
                let puppet = Puppet::new();
                let future = pool.submit_future(puppet.body());
                puppet.0.polled.wait_for(1);
                thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| (0..20).for_each(|_| puppet.waker().wake()));
                    }
                    scope.spawn(|| {
                        puppet.finish();
                        puppet.waker().wake();
                    });
                });
                assert_eq!(soon(future).unwrap(), 7);
                assert!(puppet.polls() >= 2);
                assert_eq!(puppet.drops().count(), 1);
            }
        }
    });
}

#[test]
fn a_wake_after_the_end_does_nothing() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        puppet.finish();
        let finished = pool.submit_future(puppet.body());
        assert_eq!(soon(finished).unwrap(), 7);
        let late = puppet.waker();
        late.wake_by_ref();
        soon(pool.submit(|| ())).unwrap();
        assert_eq!((puppet.polls(), puppet.drops().count()), (1, 1));

        let puppet = Puppet::new();
        let cancelled = pool.submit_future(puppet.body());
        puppet.until_suspended(&pool, 1);
        assert!(cancelled.cancel());
        puppet.waker().wake();
        soon(pool.submit(|| ())).unwrap();
        assert_eq!((puppet.polls(), puppet.drops().count()), (1, 1));

        // Not even when the pool is gone.
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        drop(pool);
        puppet.waker().wake();
        late.wake();
        assert_eq!(puppet.polls(), 1);
    });
}

// ---- Cancel and drop ----

#[test]
fn cancelled_while_it_waits_it_is_dropped_at_once() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let puppet = Puppet::new();
            let future = pool.submit_future(puppet.body());
            puppet.until_suspended(&pool, 1);
            assert!(future.cancel());
            puppet.drops().assert_here(1);
            assert!(future.is_cancelled() && future.is_done() && !future.is_running());
            assert!(future.cancel(), "idempotent");
            assert!(matches!(soon(future), Err(Error::Cancelled)));
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed, metrics.cancelled), (0, 0, 1));
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(puppet.polls(), 1);
        }
    });
}

#[test]
fn cancelled_while_it_waits_for_its_second_poll_it_is_dropped_at_once() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        let future = pool.submit_future(puppet.body());
        puppet.until_suspended(&pool, 1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        puppet.waker().wake();
        assert_eq!(pool.metrics().queued, 1);
        assert!(future.cancel());
        puppet.drops().assert_here(1);
        assert_eq!((pool.metrics().queued, pool.metrics().cancelled), (0, 1));
        gate.open();
        soon(held).unwrap();
        soon(pool.submit(|| ())).unwrap();
        assert_eq!(puppet.polls(), 1);
    });
}

#[test]
fn cancelled_before_its_first_poll_it_is_dropped_at_once() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let _held = occupy(&pool, &gate);
        let (cancelled, dropped) = (Puppet::new(), Puppet::new());
        let future = pool.submit_future(cancelled.body());
        assert!(!future.is_running());
        assert!(future.cancel());
        cancelled.drops().assert_here(1);
        drop(pool.submit_future(dropped.body()));
        dropped.drops().assert_here(1);
        assert_eq!((pool.metrics().queued, pool.metrics().cancelled), (0, 2));
        gate.open();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((cancelled.polls(), dropped.polls()), (0, 0));
    });
}

#[test]
fn cancelled_while_it_is_polled_it_ends_at_its_next_wait() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (inside, gate, drops) = (Gate::new(), Gate::new(), Drops::new());
            let (tell, wait, captured) = (inside.clone(), gate.clone(), drops.value());
            let (sender, asked) = mpsc::channel();
            let future = pool.submit_future(async move {
                let _captured = captured;
                tell.open();
                wait.wait();
                sender.send(task::stop_requested()).unwrap();
                pending::<()>().await;
                sender.send(true).unwrap(); // it does not get here
            });
            inside.wait();
            assert!(!future.cancel(), "it is being polled");
            assert!(!future.is_done() && future.is_running());
            assert_eq!(drops.count(), 0);
            gate.open();
            assert!(matches!(soon(future), Err(Error::Cancelled)));
            assert_eq!(drops.count(), 1);
            assert_eq!(asked.iter().collect::<Vec<_>>(), [true]);
            assert_eq!((pool.metrics().cancelled, pool.metrics().completed), (1, 0));
        }
    });
}

#[test]
fn cancelled_in_its_last_poll_it_has_its_value() {
    within_limit(|| {
        let pool = pool(1);
        let (inside, gate) = (Gate::new(), Gate::new());
        let (tell, wait) = (inside.clone(), gate.clone());
        let future = pool.submit_future(async move {
            tell.open();
            wait.wait();
            task::checkpoint().is_err()
        });
        inside.wait();
        assert!(!future.cancel());
        gate.open();
        assert!(soon(future).unwrap());
        assert_eq!((pool.metrics().cancelled, pool.metrics().completed), (0, 1));
    });
}

#[test]
fn two_threads_that_cancel_a_waiting_body_hear_the_same() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            for _ in 0..scaled(500) {
                let puppet = Puppet::new();
                let future = pool.submit_future(puppet.body());
                puppet.until_suspended(&pool, 1);
                let start = std::sync::Barrier::new(3);
                thread::scope(|scope| {
                    let cancel = || {
                        start.wait();
                        future.cancel()
                    };
                    let other = scope.spawn(cancel);
                    scope.spawn(|| {
                        start.wait();
                        puppet.waker().wake();
                    });
                    let (one, two) = (cancel(), other.join().unwrap());
                    // A poll that the wake has led to may be under way; then nobody was told yes.
                    assert!(one == two || puppet.polls() > 1, "{one} {two}");
                });
                assert!(matches!(soon(future), Err(Error::Cancelled)));
                assert_eq!(puppet.drops().count(), 1);
            }
            assert_eq!(pool.metrics().cancelled, scaled(500) as u64);
        }
    });
}

#[test]
fn its_future_dropped_before_the_first_poll_withdraws_and_later_lets_it_run() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (puppet, values) = (Puppet::new(), Drops::new());
            let (body, value) = (puppet.body(), values.clone());
            let future = pool.submit_future(async move {
                body.await;
                value.value()
            });
            puppet.until_suspended(&pool, 1);
            drop(future);
            assert_eq!((puppet.drops().count(), pool.metrics().cancelled), (0, 0));
            // Also when it is in the queue again.
            puppet.finish();
            puppet.waker().wake();
            values.wait_for(1);
            assert_eq!((puppet.polls(), puppet.drops().count()), (2, 1));
            // The worker counts it once it has dropped what nobody wants.
            eventually(|| pool.metrics().completed == 1);
        }
    });
}

#[test]
fn its_future_dropped_while_it_waits_for_its_second_poll_lets_it_run() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        let future = pool.submit_future(puppet.body());
        puppet.until_suspended(&pool, 1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        puppet.finish();
        puppet.waker().wake();
        drop(future);
        assert_eq!(puppet.drops().count(), 0);
        gate.open();
        soon(held).unwrap();
        puppet.drops().wait_for(1);
        assert_eq!(puppet.polls(), 2);
    });
}

#[test]
fn a_body_that_can_not_be_woken_any_more_has_ended() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let drops = Drops::new();
            let captured = drops.value();
            // It leaves its waker nowhere, and its future is gone: it is not to be reached.
            pool.submit_future(async move {
                let _captured = captured;
                pending::<()>().await;
            })
            .detach();
            drops.wait_for(1);
            // So the pool has nothing to wait for.
            let end = pool.shutdown(Shutdown::Drain).deadline(Duration::from_secs(10));
            let report = block_on(end);
            assert_eq!((report.queued, report.running.len()), (0, 0));
            assert_eq!(pool.metrics().workers, 0, "the pool does not end");
            let metrics = pool.metrics();
            assert_eq!(metrics.completed + metrics.failed + metrics.cancelled, 1, "{metrics:?}");
        }
    });
}

// ---- Waiting for it, and for others in it ----

#[test]
fn a_job_may_wait_for_it_on_the_only_worker() {
    within_limit(|| {
        let pool = pool(1);
        let inner = pool.clone();
        let outer = pool.submit(move || {
            // Ready at once, after a yield, and after it has waited for another.
            let once = inner.submit_future(async { 1 }).result().unwrap();
            let twice = inner.submit_future(async { yielding().map(|()| 2).await }).result();
            let pool = inner.clone();
            let other = inner.submit_future(async move { pool.submit(|| 3).await.unwrap() });
            (once, twice.unwrap(), other.result().unwrap())
        });
        assert_eq!(soon(outer).unwrap(), (1, 2, 3));
    });
}

#[test]
fn a_job_that_waits_for_a_suspended_one_lets_a_spare_poll_it() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        let (inner, body) = (pool.clone(), puppet.body());
        let outer = pool.submit(move || {
            let here = thread::current().id();
            (inner.submit_future(body).result().unwrap(), here)
        });
        puppet.0.polled.wait_for(1);
        puppet.finish();
        puppet.waker().wake();
        let (value, outer_thread) = soon(outer).unwrap();
        assert_eq!(value, 7);
        let threads = puppet.threads();
        assert_eq!(threads.len(), 2);
        assert_ne!(threads[1], outer_thread, "its thread was waiting");
    });
}

#[test]
fn bodies_that_await_tasks_of_their_own_pool_need_no_spare() {
    fn sum(pool: ThreadPoolExecutor, n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
        Box::pin(async move {
            if n < 2 {
                return n;
            }
            let less = pool.submit_future(sum(pool.clone(), n - 1));
            let least = pool.submit_future(sum(pool.clone(), n - 2));
            less.await.unwrap() + least.await.unwrap()
        })
    }

    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let names = Arc::new(Mutex::new(HashSet::new()));
            let (seen, inner) = (Arc::clone(&names), pool.clone());
            let (n, fibonacci_of_n) = if cfg!(miri) { (6, 8) } else { (12, 144) };
            let fibonacci = pool.submit_future(async move {
                let value = sum(inner, n).await;
                seen.lock().unwrap().insert(thread::current().id());
                value
            });
            assert_eq!(soon(fibonacci).unwrap(), fibonacci_of_n);
            assert!(pool.metrics().workers <= workers);
            assert_eq!(pool.metrics().queued, 0);
        }
    });
}

#[test]
fn it_may_use_the_runtime_that_the_pool_was_built_in() {
    on_runtimes(|| async {
        let pool = pool(1);
        let (client, mut server) = tokio::io::duplex(16);
        let echo = pool.submit_future(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut client = client;
            client.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            client.read_exact(&mut answer).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let spawned = tokio::spawn(async { 1 }).await.unwrap();
            (answer, spawned, thread::current().name().map(str::to_owned))
        });
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut question = [0; 4];
        server.read_exact(&mut question).await.unwrap();
        server.write_all(&question).await.unwrap();
        let (answer, spawned, name) = echo.await.unwrap();
        assert_eq!((&answer, spawned), (b"ping", 1));
        assert!(name.unwrap().starts_with("pool-"));
    });
}

// ---- The end of the pool ----

#[test]
fn a_draining_shutdown_waits_for_suspended_bodies() {
    within_limit(|| {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            for workers in POOL_SIZES {
                let pool = pool(workers);
                let puppet = Puppet::new();
                let future = pool.submit_future(puppet.body());
                puppet.until_suspended(&pool, 1);
                let mut end = tokio_test::task::spawn(pool.shutdown(how));
                assert!(end.poll().is_pending());
                // It has started, so neither kind of shutdown withdraws it.
                assert!(!future.is_done());
                puppet.finish();
                puppet.waker().wake();
                assert_eq!(soon(future).unwrap(), 7);
                let report = block_on(end.into_inner());
                assert_eq!((report.completed, report.cancelled), (1, 0));
                assert_eq!((puppet.polls(), puppet.drops().count()), (2, 1));
            }
        }
    });
}

#[test]
fn a_shutdown_withdraws_bodies_that_were_not_polled() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let puppet = Puppet::new();
        let future = pool.submit_future(puppet.body());
        let end = pool.shutdown(Shutdown::CancelQueued);
        puppet.drops().assert_here(1);
        assert!(future.is_cancelled());
        gate.open();
        soon(held).unwrap();
        let report = block_on(end);
        assert_eq!((report.completed, report.cancelled, puppet.polls()), (1, 1, 0));
    });
}

#[test]
fn the_deadline_of_a_shutdown_drops_suspended_bodies() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let puppets: Vec<_> = (0..3).map(|_| Puppet::new()).collect();
            let futures: Vec<_> =
                puppets.iter().map(|puppet| pool.submit_future(puppet.body())).collect();
            for puppet in &puppets {
                puppet.until_suspended(&pool, 1);
            }
            let report = block_on(pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO));
            assert_eq!((report.completed, report.cancelled), (0, 3));
            assert!(report.running.is_empty());
            for (puppet, future) in puppets.iter().zip(futures) {
                assert!(matches!(soon(future), Err(Error::Cancelled)));
                assert_eq!((puppet.polls(), puppet.drops().count()), (1, 1));
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(pool.metrics().workers, 0);
        }
    });
}

#[test]
fn the_deadline_of_a_shutdown_withdraws_bodies_that_wait_for_a_worker_again() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        let future = pool.submit_future(puppet.body());
        puppet.until_suspended(&pool, 1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        puppet.waker().wake();
        assert_eq!(pool.metrics().queued, 1);
        let report = block_on(pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO));
        assert!(matches!(soon(future), Err(Error::Cancelled)));
        assert_eq!((report.cancelled, report.running.len()), (1, 1));
        assert_eq!(report.queued, 0, "it has ended, so it is not left in the queue");
        assert_eq!(pool.metrics().queued, 0);
        gate.open();
        soon(held).unwrap();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(puppet.polls(), 1);
    });
}

#[test]
fn a_body_that_is_polled_at_the_deadline_ends_at_its_next_wait() {
    within_limit(|| {
        let pool = pool(1);
        let (inside, gate, drops) = (Gate::new(), Gate::new(), Drops::new());
        let (tell, wait, captured) = (inside.clone(), gate.clone(), drops.value());
        let future = pool.task().label("stubborn").submit_future(async move {
            let _captured = captured;
            tell.open();
            wait.wait();
            assert!(task::stop_requested());
            pending::<()>().await;
        });
        inside.wait();
        let report = block_on(pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO));
        assert_eq!(report.running.len(), 1);
        assert_eq!(report.running[0].label.as_deref(), Some("stubborn"));
        assert_eq!(report.running[0].id, future.id());
        gate.open();
        assert!(matches!(soon(future), Err(Error::Cancelled)));
        assert_eq!(drops.count(), 1);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn a_pool_that_is_dropped_finishes_its_bodies() {
    within_limit(|| {
        let pool = pool(1);
        let puppet = Puppet::new();
        let future = pool.submit_future(puppet.body());
        puppet.until_suspended(&pool, 1);
        drop(pool);
        puppet.waker().wake();
        puppet.0.polled.wait_for(2);
        puppet.finish();
        puppet.waker().wake();
        assert_eq!(soon(future).unwrap(), 7);
    });
}

// ---- Time limits ----

#[test]
fn out_of_time_while_it_waits_it_is_dropped() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let puppet = Puppet::new();
            let limit = Duration::from_millis(1);
            let future = pool.task().timeout(limit).submit_future(puppet.body());
            match soon(future) {
                Err(Error::TimedOut { limit: passed, started: true, .. }) => {
                    assert_eq!(passed, limit)
                }
                other => panic!("{other:?}"),
            }
            puppet.drops().wait_for(1);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed, metrics.cancelled), (0, 1, 0));
            assert_eq!((puppet.polls(), puppet.drops().count()), (1, 1));
        }
    });
}

#[test]
fn out_of_time_while_it_is_polled_it_ends_at_its_next_wait() {
    within_limit(|| {
        let pool = pool(1);
        let (gate, drops) = (Gate::new(), Drops::new());
        let (wait, captured) = (gate.clone(), drops.value());
        let future = pool.task().timeout(Duration::ZERO).submit_future(async move {
            let _captured = captured;
            wait.wait();
            pending::<()>().await;
        });
        assert!(matches!(soon(future), Err(Error::TimedOut { started: true, .. })));
        assert_eq!((drops.count(), pool.metrics().running), (0, 1));
        gate.open();
        drops.wait_for(1);
        soon(pool.submit(|| ())).unwrap();
        let metrics = pool.metrics();
        assert_eq!((metrics.completed, metrics.failed, metrics.cancelled), (1, 1, 0));
    });
}

#[test]
fn a_body_that_is_never_at_rest_runs_out_of_time_and_is_not_cancelled() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            // The limit comes at every moment between two polls.
            for n in 0..scaled(300) as u64 {
                let limit = Duration::from_micros(n % 50);
                let restless = poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                });
                let future = pool.task().timeout(limit).submit_future(restless);
                let result = soon(future);
                let is_late = matches!(result, Err(Error::TimedOut { started: true, .. }));
                assert!(is_late, "round {n}: {result:?}");
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let metrics = pool.metrics();
            assert_eq!(
                (metrics.completed, metrics.failed, metrics.cancelled),
                (0, scaled(300) as u64, 0)
            );
        }
    });
}

#[test]
fn a_promise_is_awaited_like_a_task() {
    within_limit(|| {
        let pool = pool(1);
        let (completer, promise) = TaskFuture::promise();
        let waiting = pool.submit_future(promise);
        while !waiting.is_running() {
            thread::yield_now();
        }
        completer.complete(Ok(7));
        assert_eq!(soon(waiting).unwrap().unwrap(), 7);
    });
}

#[test]
fn its_waker_may_be_cloned_any_number_of_times() {
    within_limit(|| {
        let pool = pool(1);
        let (tell, told) = std::sync::mpsc::channel();
        let mut polls = 0;
        let future = pool.submit_future(std::future::poll_fn(move |cx| {
            polls += 1;
            let _ = tell.send(cx.waker().clone());
            if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
        }));
        let waker = told.recv().unwrap();
        let clones: Vec<_> = (0..scaled(10_000)).map(|_| waker.clone()).collect();
        std::thread::scope(|scope| {
            for clones in clones.chunks(scaled(100)) {
                let clones = clones.to_vec();
                scope.spawn(move || clones.into_iter().for_each(Waker::wake));
            }
        });
        assert_eq!(soon(future).unwrap(), 2);
    });
}
