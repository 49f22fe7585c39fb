//! The tokio runtime that jobs see, which may be another one than that which polls the pool's
//! futures, and which may end before the pool.

use std::io::Write;
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Shutdown, ThreadPoolExecutor, as_completed};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::support::{Gate, POOL_SIZES, on_runtimes, pool, within_limit};

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

#[test]
fn the_default_is_the_runtime_in_whose_context_the_pool_was_built() {
    within_limit(|| {
        let (one, other) = (multi_thread(), multi_thread());
        for size in POOL_SIZES {
            let pool = one.block_on(async move { pool(size) });
            // Submitted from outside, and from another runtime: it is the pool's that counts.
            let id = || Handle::current().id();
            assert_eq!(pool.submit(id).result().unwrap(), one.handle().id());
            let from_other = other.block_on(async { pool.submit(id).await.unwrap() });
            assert_eq!(from_other, one.handle().id());

            let _inside = other.enter();
            let entered = ThreadPoolExecutor::new();
            assert_eq!(entered.submit(id).result().unwrap(), other.handle().id());
        }
    });
}

#[test]
fn without_a_runtime_jobs_see_none() {
    within_limit(|| {
        let runtime = multi_thread();
        for size in POOL_SIZES {
            let pool = pool(size);
            let is_none = || Handle::try_current().is_err();
            assert!(pool.submit(is_none).result().unwrap());
            // Nor does the runtime of whoever submits leak in.
            assert!(runtime.block_on(async { pool.submit(is_none).await.unwrap() }));
            let polled = pool.submit_future(async move { is_none() });
            assert!(runtime.block_on(polled).unwrap());
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
