//! The tokio runtime that jobs see, which may be another one than that which polls the pool's
//! futures, and which may end before the pool.

use std::io::Write;
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ReturnWhen, Shutdown, TaskFuture, TaskSet, ThreadPoolExecutor, as_completed, wait,
};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::program;
use crate::support::{Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, within_limit};

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A pool whose jobs see `runtime`, whatever runtime the caller is in.
fn pool_on(runtime: &Handle, max_workers: usize) -> ThreadPoolExecutor {
    let builder = ThreadPoolExecutor::builder().max_workers(max_workers);
    builder.runtime(runtime.clone()).build().unwrap()
}

/// The answer of a peer that upcases one line, asked over TCP.
async fn ask_over_tcp(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut peer = tokio::net::TcpStream::connect(address).await?;
    peer.write_all(b"question").await?;
    peer.shutdown().await?;
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Serves `count` of them, on a thread of its own.
fn upcasing_peer(count: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for _ in 0..count {
            let (mut client, _) = listener.accept().unwrap();
            let question = std::io::read_to_string(&client).unwrap();
            client.write_all(question.to_uppercase().as_bytes()).unwrap();
        }
    });
    address
}

// ---- Inside of a job ----

#[test]
#[cfg_attr(miri, ignore = "no network")]
fn a_job_may_block_on_io_of_the_runtime() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let address = upcasing_peer(1);
            let asked = pool.submit(move || Handle::current().block_on(ask_over_tcp(address)));
            assert_eq!(asked.await.unwrap().unwrap(), "QUESTION");

            let read = pool.submit(|| Handle::current().block_on(tokio::fs::read("Cargo.toml")));
            let text = String::from_utf8(read.await.unwrap().unwrap()).unwrap();
            assert!(text.contains("name = \"concurrent-futures\""));

            let slept = pool.submit(|| {
                Handle::current().block_on(async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let never = std::future::pending::<()>();
                    tokio::time::timeout(Duration::from_millis(1), never).await.is_err()
                })
            });
            assert!(slept.await.unwrap());
        }
    });
}

#[test]
fn a_job_may_spawn_on_the_runtime() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let here = Handle::current().id();
            let spawned = pool.submit(|| tokio::spawn(async { Handle::current().id() }));
            assert_eq!(spawned.await.unwrap().await.unwrap(), here);

            let waited = pool.submit(|| block_on(tokio::spawn(async { 5 })).unwrap());
            assert_eq!(waited.await.unwrap(), 5);

            let blocking = pool.submit(|| tokio::task::spawn_blocking(|| 6));
            assert_eq!(blocking.await.unwrap().await.unwrap(), 6);
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "no network")]
fn maps_async_tasks_callbacks_and_spares_see_the_runtime_too() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let here = Handle::current().id();

            let mapped = pool.map(|_| Handle::current().id(), 0..10).await.unwrap();
            assert!(mapped.iter().all(|id| *id == here));

            let address = upcasing_peer(1);
            let polled = pool.submit_future(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ask_over_tcp(address).await
            });
            assert_eq!(polled.await.unwrap().unwrap(), "QUESTION");

            let (sender, seen) = mpsc::channel();
            let gate = Gate::new();
            let open = gate.clone();
            let future = pool.submit(move || open.wait());
            future.add_done_callback(move |_| {
                let _ = sender.send(Handle::try_current().map(|handle| handle.id()));
            });
            gate.open();
            future.await.unwrap();
            assert_eq!(seen.recv().unwrap().unwrap(), here);

            let inner = pool.clone();
            let nested = pool.submit(move || {
                let task = inner.submit(|| Handle::current().id());
                Handle::current().block_on(task).unwrap()
            });
            assert_eq!(nested.await.unwrap(), here);
        }
    });
}

#[test]
fn the_initializer_sees_the_runtime() {
    on_runtimes(|| async {
        let (sender, seen) = mpsc::channel();
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .initializer(move || {
                let _ = sender.send(Handle::try_current().map(|handle| handle.id()));
            })
            .build()
            .unwrap();
        pool.submit(|| ()).await.unwrap();
        assert_eq!(seen.recv().unwrap().unwrap(), Handle::current().id());
    });
}

// ---- Which runtime ----

fn seen() -> Option<tokio::runtime::Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

/// Every way to submit, from the runtime that this is polled in.
async fn all_see_the_runtime_of(pool: &ThreadPoolExecutor) {
    let here = seen();
    assert!(here.is_some());
    assert_eq!(pool.submit(seen).await.unwrap(), here);
    assert_eq!(pool.try_submit(seen).ok().unwrap().await.unwrap(), here);
    assert_eq!(pool.reserve().await.unwrap().submit(seen).await.unwrap(), here);
    assert_eq!(pool.task().label("labelled").submit(seen).await.unwrap(), here);
    assert_eq!(pool.submit_future(async { seen() }).await.unwrap(), here);
    let mapped = pool.map(|_| seen(), 0..100).chunk_size(7).await.unwrap();
    assert!(mapped.iter().all(|seen| *seen == here));
    let inner = pool.clone();
    let nested = pool.submit(move || inner.submit(seen).result().unwrap());
    assert_eq!(nested.await.unwrap(), here);
}

#[test]
fn a_job_sees_the_runtime_of_its_submitter() {
    within_limit(|| {
        let (one, other) = (multi_thread(), multi_thread());
        for size in POOL_SIZES {
            let outside = pool(size);
            let inside = one.block_on(async move { pool(size) });
            for _ in 0..3 {
                for runtime in [&one, &other] {
                    for pool in [&outside, &inside] {
                        runtime.block_on(all_see_the_runtime_of(pool));
                    }
                }
                // Without one, that in which the pool was built.
                assert_eq!(outside.submit(seen).result().unwrap(), None);
                assert_eq!(inside.submit(seen).result().unwrap(), Some(one.handle().id()));
            }
        }
    });
}

#[test]
fn jobs_of_several_runtimes_that_alternate_see_their_own() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            thread::scope(|scope| {
                for _ in 0..3 {
                    let pool = pool.clone();
                    scope.spawn(move || {
                        let runtime = Builder::new_current_thread().build().unwrap();
                        let _entered = runtime.enter();
                        let jobs = (0..scaled(2_000)).map(|_| pool.submit(seen));
                        let here = Some(runtime.handle().id());
                        jobs.for_each(|job| assert_eq!(job.result().unwrap(), here));
                    });
                }
                for _ in 0..scaled(2_000) {
                    assert_eq!(pool.submit(seen).result().unwrap(), None);
                }
            });
        }
    });
}

/// As with `#[tokio::test]`s that share a pool: each has a runtime of its own, which ends with it.
#[test]
#[cfg_attr(miri, ignore = "no network")]
fn a_pool_in_a_static_serves_one_runtime_after_the_other() {
    static POOL: LazyLock<ThreadPoolExecutor> = LazyLock::new(|| pool(1));

    within_limit(|| {
        let mut last = None;
        for _ in 0..5 {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                assert_ne!(seen(), last);
                last = seen();
                let spawned = POOL.submit(|| tokio::spawn(async { seen() }));
                assert_eq!(spawned.await.unwrap().await.unwrap(), last);
                let address = upcasing_peer(1);
                let asked = POOL.submit(move || Handle::current().block_on(ask_over_tcp(address)));
                assert_eq!(asked.await.unwrap().unwrap(), "QUESTION");
                all_see_the_runtime_of(&POOL).await;
            });
        }
    });
}

#[test]
fn an_async_task_sees_its_runtime_at_each_poll() {
    within_limit(|| {
        let (one, other) = (multi_thread(), multi_thread());
        for size in POOL_SIZES {
            let pool = pool(size);
            let (sender, receiver) = futures::channel::oneshot::channel();
            let future = {
                let _entered = one.enter();
                pool.submit_future(async move { (seen(), receiver.await.unwrap(), seen()) })
            };
            while pool.metrics().queued + pool.metrics().running > 0 {
                thread::yield_now(); // until its first poll is over
            }
            // Polled again after a job of another runtime, which wakes it.
            let _entered = other.enter();
            let woken_by = pool.submit(move || {
                sender.send(()).unwrap();
                seen()
            });
            let woken_by = woken_by.result();
            assert_eq!(woken_by.unwrap(), Some(other.handle().id()));
            let here = Some(one.handle().id());
            assert_eq!(future.result().unwrap(), (here, (), here));
        }
    });
}

#[test]
fn a_job_that_runs_in_place_sees_its_own_runtime_and_gives_the_other_one_back() {
    within_limit(|| {
        let (one, other) = (multi_thread(), multi_thread());
        let pool = pool(1);
        let (hand_over, handed_over) = mpsc::channel();
        let outer = {
            let _entered = one.enter();
            pool.submit(move || {
                let inner: TaskFuture<_> = handed_over.recv().unwrap();
                let before = seen();
                (before, inner.result().unwrap(), seen(), thread::current().id())
            })
        };
        let inner = {
            let _entered = other.enter();
            pool.submit(|| (seen(), thread::current().id()))
        };
        hand_over.send(inner).unwrap();
        let (before, (inside, inner_thread), after, outer_thread) = outer.result().unwrap();
        assert_eq!(inner_thread, outer_thread, "in place");
        let (one, other) = (Some(one.handle().id()), Some(other.handle().id()));
        assert_eq!((before, inside, after), (one, other, one));
    });
}

/// A thread can't leave a runtime, so it does not run in place.
#[test]
fn a_job_that_was_submitted_outside_of_a_runtime_sees_none_also_if_another_job_waits_for_it() {
    within_limit(|| {
        let runtime = multi_thread();
        let pool = pool(1);
        let (hand_over, handed_over) = mpsc::channel();
        let outer = {
            let _entered = runtime.enter();
            pool.submit(move || {
                let inner: TaskFuture<_> = handed_over.recv().unwrap();
                (inner.result().unwrap(), seen())
            })
        };
        hand_over.send(pool.submit(seen)).unwrap();
        assert_eq!(outer.result().unwrap(), (None, Some(runtime.handle().id())));
    });
}

/// The worker can't leave its runtime in order then.
#[test]
fn a_job_that_leaks_a_guard_of_a_runtime_costs_no_worker() {
    within_limit(|| {
        let (one, other) = (multi_thread(), multi_thread());
        for size in POOL_SIZES {
            let pool = one.block_on(async { pool(size) });
            for runtime in [&one, &other, &one, &other] {
                let _entered = runtime.enter();
                let leaks = pool.submit(|| {
                    let handle: &'static Handle = Box::leak(Box::new(Handle::current()));
                    std::mem::forget(handle.enter());
                });
                leaks.result().unwrap();
                assert_eq!(pool.submit(seen).result().unwrap(), Some(runtime.handle().id()));
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(pool.metrics().completed, 8);
        }
    });
}

#[test]
fn without_a_runtime_jobs_see_none() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            assert_eq!(pool.submit(seen).result().unwrap(), None);
            let polled = pool.submit_future(async { seen() });
            assert_eq!(polled.result().unwrap(), None);
            // A job that asks for one all the same fails, and it alone.
            let asks = pool.submit(|| drop(tokio::spawn(async {})));
            let Err(Error::Panicked(panicked)) = asks.result() else { panic!("no runtime") };
            assert!(panicked.message().contains("no reactor running"), "{panicked}");
            assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "no network")]
fn the_builder_can_name_another_runtime() {
    on_runtimes(|| async {
        let (handle, stop) = runtime_on_a_thread();
        for size in POOL_SIZES {
            let pool = pool_on(&handle, size);
            assert_ne!(handle.id(), Handle::current().id());
            let seen = pool.submit(|| Handle::current().id()).await.unwrap();
            assert_eq!(seen, handle.id());
            let address = upcasing_peer(1);
            let asked = pool.submit(move || Handle::current().block_on(ask_over_tcp(address)));
            assert_eq!(asked.await.unwrap().unwrap(), "QUESTION");
            let spawned = pool.submit(|| tokio::spawn(async { Handle::current().id() }));
            assert_eq!(spawned.await.unwrap().await.unwrap(), handle.id());
        }
        stop();
    });
}

/// A runtime may not be dropped in async code, so it lives on a thread until it is stopped.
fn runtime_on_a_thread() -> (Handle, impl FnOnce()) {
    let runtime = multi_thread();
    let handle = runtime.handle().clone();
    (handle, move || runtime.shutdown_background())
}

// ---- A runtime that ends before the pool ----

#[test]
fn jobs_run_on_after_their_runtime_has_ended() {
    within_limit(|| {
        for size in POOL_SIZES {
            let runtime = multi_thread();
            let pool = pool_on(runtime.handle(), size);
            assert!(pool.submit(|| Handle::try_current().is_ok()).result().unwrap());
            drop(runtime);

            assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
            assert_eq!(pool.map(|x| x * 2, 0..50).result().unwrap()[49], 98);
            let polled = pool.submit_future(async { 2 });
            assert_eq!(polled.result().unwrap(), 2);
            let inner = pool.clone();
            let nested = pool.submit(move || inner.submit(|| 3).result().unwrap());
            assert_eq!(nested.result().unwrap(), 3);
            assert_eq!(pool.shutdown_blocking(Shutdown::Drain).unwrap().failed, 0);
        }
    });
}

/// Started after the end of the runtime, the first worker enters it all the same.
#[test]
fn a_worker_may_start_after_the_runtime_has_ended() {
    within_limit(|| {
        for size in POOL_SIZES {
            let runtime = multi_thread();
            let pool = pool_on(runtime.handle(), size);
            drop(runtime);
            assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
            assert_eq!(pool.map(|x| x, 0..20).result().unwrap().len(), 20);
        }
    });
}

#[test]
#[cfg_attr(miri, ignore = "no network")]
fn what_a_job_asks_of_an_ended_runtime_fails_that_job_alone() {
    within_limit(|| {
        for size in POOL_SIZES {
            let runtime = multi_thread();
            let pool = pool_on(runtime.handle(), size);
            drop(runtime);

            let spawned = pool.submit(|| tokio::spawn(async { 1 }));
            let joined = block_on(spawned.result().unwrap());
            assert!(joined.unwrap_err().is_cancelled());

            let sleeps = pool.submit(|| {
                Handle::current().block_on(tokio::time::sleep(Duration::from_millis(1)));
            });
            let Err(Error::Panicked(panicked)) = sleeps.result() else { panic!("it slept") };
            assert!(panicked.message().contains("shutdown"), "{panicked}");

            let address = upcasing_peer(0);
            let asks = pool.submit(move || Handle::current().block_on(ask_over_tcp(address)));
            // tokio may answer with an I/O error as well as with a panic.
            assert!(!matches!(asks.result(), Ok(Ok(_))));

            let polled = pool.submit_future(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
            });
            assert!(matches!(polled.result(), Err(Error::Panicked(_))));

            assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
            assert_eq!(pool.metrics().workers, 1, "no worker was lost");
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

/// It waits for I/O while the runtime ends: the wait ends too.
#[test]
#[cfg_attr(miri, ignore = "no network")]
fn a_runtime_that_ends_under_a_waiting_job_ends_the_wait() {
    within_limit(|| {
        for size in POOL_SIZES {
            let runtime = multi_thread();
            let pool = pool_on(runtime.handle(), size);
            let (sender, listening) = mpsc::channel();
            let waits = pool.submit(move || {
                Handle::current().block_on(async move {
                    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
                    let mut accept = Box::pin(listener.accept());
                    assert!(futures::poll!(&mut accept).is_pending());
                    let _ = sender.send(());
                    accept.await.map(drop)
                })
            });
            listening.recv().unwrap();
            drop(runtime);
            assert!(!matches!(waits.result(), Ok(Ok(()))));
            assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
        }
    });
}

/// The pool's own futures and limits need no runtime, so they work on when theirs has ended.
#[test]
fn the_end_of_the_runtime_does_not_touch_time_limits() {
    within_limit(|| {
        for size in POOL_SIZES {
            let runtime = multi_thread();
            let pool = pool_on(runtime.handle(), size);
            drop(runtime);
            let gate = Gate::new();
            let open = gate.clone();
            let limited = pool.task().timeout(Duration::from_millis(1)).submit(move || open.wait());
            let error = block_on(limited).unwrap_err();
            assert!(matches!(error, Error::TimedOut { started: true, .. }));
            gate.open();
            let ended = pool.shutdown(Shutdown::Drain).deadline(Duration::from_secs(60));
            assert!(block_on(ended).running.is_empty());
        }
    });
}

/// A runtime that is dropped while jobs of its pool run does not wait for them.
#[test]
fn the_pool_does_not_keep_its_runtime() {
    within_limit(|| {
        for size in POOL_SIZES {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let pool = runtime.block_on(async move { pool(size) });
            let gate = Gate::new();
            let busy = crate::support::occupy(&pool, &gate);
            drop(runtime);
            gate.open();
            busy.result().unwrap();
            assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
        }
    });
}

/// The other way round: the pool ends first, inside of its runtime.
#[test]
fn the_runtime_goes_on_after_the_pool() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (spawned, answer) = pool
                .submit(|| {
                    let (sender, answer) = tokio::sync::oneshot::channel();
                    let spawned = tokio::spawn(async move {
                        tokio::task::yield_now().await;
                        let _ = sender.send(7);
                    });
                    (spawned, answer)
                })
                .await
                .unwrap();
            pool.shutdown(Shutdown::Drain).await;
            drop(pool);
            spawned.await.unwrap();
            assert_eq!(answer.await.unwrap(), 7);
        }
    });
}

// ---- Who polls ----

/// All the futures of the crate, polled by the caller.
async fn awaits_everything(pool: &ThreadPoolExecutor) {
    assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
    assert_eq!(pool.submit_future(async { 2 }).await.unwrap(), 2);
    assert_eq!(pool.map(|x| x + 1, 0..5).await.unwrap(), [1, 2, 3, 4, 5]);
    let mut rows = pool.map(|x| x * x, 0..).buffer_size(2);
    assert_eq!(rows.next().await.unwrap().unwrap(), 0);
    let futures: Vec<_> = (0..10).map(|n| pool.submit(move || n)).collect();
    let mut done = as_completed(futures).collect::<Vec<_>>().await;
    done.sort_by_key(|(index, _)| *index);
    for (index, result) in done {
        assert_eq!(result.unwrap(), index);
    }
    let permit = pool.reserve().await.unwrap();
    assert_eq!(permit.submit(|| 3).await.unwrap(), 3);
    drop(rows);
}

#[test]
fn futures_are_awaited_from_another_runtime_than_the_pool_was_built_in() {
    on_runtimes(|| async {
        let (handle, stop) = runtime_on_a_thread();
        for size in POOL_SIZES {
            let pool = pool_on(&handle, size);
            awaits_everything(&pool).await;
            pool.shutdown(Shutdown::Drain).deadline(Duration::from_secs(60)).await;
        }
        stop();
    });
}

#[test]
fn futures_are_awaited_without_tokio() {
    within_limit(|| {
        let runtime = multi_thread();
        for size in POOL_SIZES {
            for pool in [pool(size), pool_on(runtime.handle(), size)] {
                block_on(awaits_everything(&pool));
                block_on(pool.shutdown(Shutdown::Drain).deadline(Duration::from_secs(60)));
            }
        }
    });
}

/// A future that has begun to wait on one runtime is carried to another, then to none.
#[test]
fn a_future_may_move_between_runtimes_while_it_waits() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let open = gate.clone();
            let mut future = pool.submit(move || {
                open.wait();
                9
            });
            for _ in 0..2 {
                let runtime = multi_thread();
                let begun = runtime.block_on(async move {
                    assert!(futures::poll!(&mut future).is_pending());
                    let carried = tokio::spawn(async move {
                        assert!((&mut future).now_or_never().is_none());
                        Some(future)
                    });
                    carried.await.unwrap()
                });
                future = begun.unwrap();
            }
            gate.open();
            assert_eq!(block_on(future).unwrap(), 9);
        }
    });
}

/// A runtime that is shut down takes the tasks with it that wait for the pool; their futures are
/// dropped, and what had not started is withdrawn.
#[test]
fn a_runtime_that_ends_withdraws_what_its_tasks_waited_for() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| crate::support::occupy(&pool, &gate)).collect();
            let runtime = multi_thread();
            let handle = pool.clone();
            runtime.spawn(async move {
                let waiting = handle.submit(|| ());
                drop(handle);
                waiting.await
            });
            while pool.metrics().queued == 0 {
                thread::yield_now();
            }
            drop(runtime);
            assert_eq!(pool.metrics().queued, 0);
            assert_eq!(pool.metrics().cancelled, 1);
            gate.open();
            drop(busy);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

/// A panic of the runtime's thread is not the pool's.
#[test]
fn a_panic_of_the_task_that_waits_leaves_the_pool_alone() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let inner = pool.clone();
            let panics = AssertUnwindSafe(async move {
                let value = inner.submit(|| 1).await.unwrap();
                assert_eq!(value, 2, "the task's own assertion");
            });
            assert!(panics.catch_unwind().await.is_err());
            assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
        }
    });
}

/// Waits in all ways for what does not come in time, and gives the lines of the waits.
fn wait_in_vain() -> Vec<u32> {
    const LIMIT: Duration = Duration::from_millis(2);
    let (pool, held) = (pool(1), Gate::new());
    let occupied = occupy(&pool, &held);
    let late = || pool.task().queue_timeout(LIMIT).submit(|| 1);
    let (_completer, mut never) = TaskFuture::<u32>::promise();
    let map = || pool.map(|n| n, 0..9).timeout(LIMIT);
    let tried = pool.try_map(Ok::<u32, ()>, 0..9).timeout(LIMIT);
    let first = line!();
    assert!(late().result().is_err());
    assert!(never.result_timeout(LIMIT).is_none());
    assert_eq!(wait([never], ReturnWhen::AllCompleted).timeout(LIMIT).result().not_done.len(), 1);
    assert!(late().shared().result().is_err());
    assert!(TaskSet::from_iter([((), late())]).next_blocking().unwrap().1.is_err());
    assert!(map().result().is_err());
    assert!(map().blocking().next().unwrap().is_err());
    assert!(map().unordered().blocking().next().unwrap().1.is_err());
    assert!(tried.result().is_err());
    let last = line!();
    held.open();
    occupied.detach();
    (first + 1..last).collect()
}

#[test]
fn a_wait_that_blocks_a_task_of_tokio_is_reported_once_for_each_line() {
    let name = "runtime::a_wait_that_blocks_a_task_of_tokio_is_reported_once_for_each_line";
    let main = || {
        wait_in_vain();
        let runtime = multi_thread();
        runtime.block_on(runtime.spawn_blocking(wait_in_vain)).unwrap();
        pool_on(runtime.handle(), 1).submit(wait_in_vain).result().unwrap();
        eprintln!("none so far");
        // Many times, since a limit may have passed before its wait begins.
        let mut lines = Vec::new();
        for _ in 0..20 {
            lines = runtime.block_on(runtime.spawn(async { wait_in_vain() })).unwrap();
        }
        println!("lines {lines:?}");
        // What is there blocks nothing.
        let (completer, done) = TaskFuture::promise();
        completer.complete(Ok(1));
        runtime.block_on(async { done.result() }).unwrap();
    };
    let Some(ended) = program::run(name, 0, main) else { return };
    assert!(ended.status.success(), "{}", ended.stderr);
    let reports = ended.stderr.strip_prefix("none so far\n").expect(&ended.stderr);
    let reported = reports.lines().map(|report| {
        let place = report.strip_prefix("concurrent-futures: tests/lifecycle/runtime.rs:");
        let (line, rest) = place.expect(report).split_once(':').unwrap();
        assert!(rest.contains(" blocks a thread while tokio polls a future on it"), "{report}");
        line.parse().unwrap()
    });
    let mut reported: Vec<u32> = reported.collect();
    reported.sort_unstable();
    if cfg!(debug_assertions) {
        assert_eq!(reported.len(), 9);
        assert!(ended.printed(&format!("lines {reported:?}")), "{reported:?}\n{}", ended.stdout);
    } else {
        assert_eq!(reported, []);
    }
}
