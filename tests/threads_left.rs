//! After a pool has ended, the process has the threads that it had before.
//!
//! One test, since it counts all threads of the process, and other tests have threads of their own.

#![cfg(target_os = "linux")]

#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use concurrent_futures::{
    ReturnWhen, Shutdown, TaskFuture, ThreadPoolBuilder, ThreadPoolExecutor, as_completed, task,
    wait,
};
use futures::executor::block_on;

use support::{Counter, Gate, POOL_SIZES, occupy, within_limit};

/// The number and the name of each thread of this process.
fn threads() -> io::Result<BTreeMap<u32, String>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().parse().map_err(io::Error::other)?;
        // One that ends just now has no name any more.
        if let Ok(name) = fs::read_to_string(entry.path().join("comm")) {
            threads.insert(id, name.trim_end().to_owned());
        }
    }
    Ok(threads)
}

/// Waits until the process has no threads but `before`, and tells which there are if that does not
/// come about. The system takes a thread off its list a moment after it has been joined, and
/// does not tell when, so this looks again and again.
fn left_over(before: &BTreeMap<u32, String>) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let mut now = threads().unwrap();
        now.retain(|id, _| !before.contains_key(id));
        if now.is_empty() || Instant::now() > end {
            return now.into_values().collect();
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn builder(max_workers: usize) -> ThreadPoolBuilder {
    ThreadPoolExecutor::builder().max_workers(max_workers).name("left")
}

fn pool(max_workers: usize) -> ThreadPoolExecutor {
    builder(max_workers).build().unwrap()
}

/// Has all workers of the pool started.
fn start_all(pool: &ThreadPoolExecutor) {
    let gate = Gate::new();
    let busy: Vec<_> = (0..pool.max_workers()).map(|_| occupy(pool, &gate)).collect();
    assert_eq!(pool.metrics().workers, pool.max_workers());
    gate.open();
    block_on(wait(busy, ReturnWhen::AllCompleted));
}

/// Submits both halves and waits for them.
fn fib(pool: &ThreadPoolExecutor, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = (pool.clone(), pool.clone());
    let a = pool.submit(move || fib(&a, n - 1));
    let b = pool.submit(move || fib(&b, n - 2));
    a.result().unwrap() + b.result().unwrap()
}

/// As `fib`, waiting in a way that runs nothing in place, so that every wait takes a spare.
fn fib_with_spares(pool: &ThreadPoolExecutor, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = (pool.clone(), pool.clone());
    let a = pool.submit(move || fib_with_spares(&a, n - 1));
    let b = pool.submit(move || fib_with_spares(&b, n - 2));
    block_on(a).unwrap() + block_on(b).unwrap()
}

type Story = (&'static str, fn(usize));

/// How a pool can be used and come to its end. Each leaves nothing behind.
const STORIES: &[Story] = &[
    ("a pool that was never used", |size| drop(pool(size))),
    ("a blocking shutdown", |size| {
        let pool = pool(size);
        start_all(&pool);
        let futures: Vec<_> = (0..100).map(|n| pool.submit(move || n)).collect();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        drop(futures);
    }),
    ("a blocking shutdown that cancels", |size| {
        let pool = pool(size);
        start_all(&pool);
        (0..100).for_each(|n| pool.submit(move || n).detach());
        pool.shutdown_blocking(Shutdown::CancelQueued).unwrap();
    }),
    ("an awaited shutdown", |size| {
        let pool = pool(size);
        start_all(&pool);
        block_on(pool.shutdown(Shutdown::Drain));
    }),
    ("a shutdown that nobody waits for", |size| {
        let pool = pool(size);
        start_all(&pool);
        (0..100).for_each(|n| pool.submit(move || n).detach());
        drop(pool.shutdown(Shutdown::Drain));
    }),
    ("a pool dropped while it is idle", |size| {
        let pool = pool(size);
        start_all(&pool);
    }),
    ("a pool dropped while it is busy", |size| {
        let pool = pool(size);
        let gate = Gate::new();
        let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
        (0..100).for_each(|n| pool.submit(move || n).detach());
        drop(pool);
        gate.open();
        drop(busy);
    }),
    ("a pool dropped in its own job", |size| {
        let pool = pool(size);
        start_all(&pool);
        let inner = pool.clone();
        let gate = Gate::new();
        let open = gate.clone();
        let last = pool.submit(move || {
            open.wait();
            drop(inner);
        });
        drop(pool);
        gate.open();
        last.result().unwrap();
    }),
    ("spares of nested waits, some in place", |size| {
        let pool = pool(size);
        let inner = pool.clone();
        assert_eq!(pool.submit(move || fib(&inner, 12)).result().unwrap(), 144);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }),
    ("spares for every nested wait", |size| {
        let pool = pool(size);
        let inner = pool.clone();
        assert_eq!(pool.submit(move || fib_with_spares(&inner, 8)).result().unwrap(), 21);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }),
    ("spares of a pool that is dropped", |size| {
        let pool = pool(size);
        let inner = pool.clone();
        assert_eq!(pool.submit(move || fib_with_spares(&inner, 8)).result().unwrap(), 21);
    }),
    ("an initializer that fails", |size| {
        let pool = builder(size).initializer(|| Err::<(), _>("no")).build().unwrap();
        let futures: Vec<_> = (0..20).map(|_| pool.submit(|| ())).collect();
        futures.into_iter().for_each(|future| assert!(future.result().is_err()));
        // Still held: a broken pool needs no shutdown to let its threads go.
        let broken = pool.clone();
        drop(pool);
        while broken.metrics().workers > 0 {
            thread::yield_now();
        }
    }),
    ("an initializer that panics", |size| {
        let pool = builder(size).initializer(|| -> () { panic!("no") }).build().unwrap();
        assert!(pool.submit(|| ()).result().is_err());
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }),
    ("jobs that panic", |size| {
        let pool = pool(size);
        start_all(&pool);
        for _ in 0..10 {
            assert!(pool.submit(|| -> () { panic!("no") }).result().is_err());
        }
        assert_eq!(pool.metrics().workers, size, "a panic costs no worker");
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }),
    ("a map that is read to its end", |size| {
        let pool = pool(size);
        assert_eq!(pool.map(|n| n, 0..1_000).result().unwrap().len(), 1_000);
    }),
    ("an endless map that is dropped", |size| {
        let pool = pool(size);
        let mut map = pool.map(|n| n, 0..).buffer_size(8);
        assert!(block_on(map.next()).is_some());
        drop(pool);
        drop(map);
    }),
    ("as_completed and wait, left halfway", |size| {
        let pool = pool(size);
        let futures = |pool: &ThreadPoolExecutor| -> Vec<TaskFuture<i32>> {
            (0..50).map(|n| pool.submit(move || n)).collect()
        };
        let mut done = as_completed(futures(&pool));
        assert!(block_on(done.next()).is_some());
        drop(done);
        drop(block_on(wait(futures(&pool), ReturnWhen::FirstCompleted)));
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }),
    ("async tasks, one of them cancelled while it waits", |size| {
        let pool = pool(size);
        let polled = pool.submit_future(async { 1 });
        let waits = pool.submit_future(std::future::pending::<()>());
        assert_eq!(polled.result().unwrap(), 1);
        waits.cancel();
        assert!(waits.result().is_err());
    }),
    ("a deadline that has to ask", |size| {
        let pool = pool(size);
        let started = Counter::new();
        let inside = started.clone();
        let asked = pool.submit(move || {
            inside.add();
            while !task::stop_requested() {
                thread::yield_now();
            }
        });
        started.wait_for(1);
        let waits = pool.submit_future(std::future::pending::<()>());
        pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO).result().unwrap();
        asked.result().unwrap();
        assert!(waits.is_cancelled());
    }),
    // The thread that keeps time limits belongs to no pool, and ends when there are none.
    ("time limits", |size| {
        let pool = pool(size);
        let limit = Duration::from_secs(3_600);
        let quick = pool.task().timeout(limit).queue_timeout(limit).submit(|| 1);
        assert_eq!(quick.result().unwrap(), 1);
        let gate = Gate::new();
        let open = gate.clone();
        let late = pool.task().timeout(Duration::from_millis(1)).submit(move || open.wait());
        assert!(late.result().is_err());
        gate.open();
    }),
    ("submitters that meet a shutdown", |size| {
        for _ in 0..20 {
            let pool = pool(size);
            let submitted = Counter::new();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while let Ok(future) = pool.try_submit(|| ()) {
                            future.detach();
                            submitted.add();
                        }
                    });
                }
                submitted.wait_for(10);
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
            });
        }
    }),
    ("an async task that nobody can wake", |size| {
        let pool = pool(size);
        let polled = Gate::new();
        let inside = polled.clone();
        let forgotten = pool.submit_future(async move {
            inside.open();
            std::future::pending::<()>().await;
        });
        polled.wait();
        forgotten.detach();
    }),
];

#[test]
fn no_thread_is_left_when_a_pool_has_ended() {
    within_limit(|| {
        let before = threads().unwrap();
        let here = pool(1);
        here.submit(|| ()).result().unwrap();
        let mut now = threads().unwrap();
        now.retain(|id, _| !before.contains_key(id));
        assert!(now.into_values().eq(["left_0"]), "a thread that is there is seen");
        drop(here);
        assert_eq!(left_over(&before), [""; 0]);

        let mut failures = Vec::new();
        for size in POOL_SIZES {
            for (story, tell) in STORIES {
                let before = threads().unwrap();
                tell(size);
                let left = left_over(&before);
                if !left.is_empty() {
                    failures.push(format!("{story}, {size} workers: {left:?}"));
                }
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    });
}
