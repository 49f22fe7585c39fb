//! What the tests share. Included with `#[path]`, since each test binary is a crate of its own.

#![allow(dead_code, reason = "no test binary uses all of it")]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, LazyLock, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use concurrent_futures::{ShutdownFuture, ThreadPoolExecutor};

/// No test takes this long unless it hangs. (Under Miri time is counted by what is executed.)
const HANG: Duration = Duration::from_secs(if cfg!(miri) { 3600 } else { 120 });

/// Every test of a pool runs with one worker and with several.
pub const POOL_SIZES: [usize; 2] = [1, 4];

/// The size of a test, as a number of rounds, items or tasks: `n`, or a small part of it where each
/// takes very long. That is so under Miri, and where the variable `TEST_SCALE` has a divisor, for
/// tools that watch every access to memory.
pub fn scaled(n: usize) -> usize {
    static DIVISOR: LazyLock<usize> = LazyLock::new(|| match std::env::var("TEST_SCALE") {
        Ok(divisor) => divisor.parse().expect("TEST_SCALE is a number"),
        Err(_) => 1,
    });
    n.div_ceil(if cfg!(miri) { 50 } else { *DIVISOR })
}

pub fn pool(max_workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().max_workers(max_workers).build().unwrap()
}

/// Runs a test on a thread of its own, so that a hang is a failure and not a hang.
pub fn within_limit(test: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _ended = ended; // dropped at the end, panic or not
        test();
    });
    if end.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the test hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs an async test with a limit, on a multi-thread and on a current-thread tokio runtime.
pub fn on_runtimes<F, Fut>(test: F)
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    within_limit(move || {
        let multi = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        // Spawned, so that it is polled by workers and may move between them.
        multi.block_on(async { tokio::spawn(test()).await.unwrap() });
        let current = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        current.block_on(test());
    });
}

/// Closed until it is opened, then open for ever.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Blocks until the gate is open.
    pub fn wait(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

/// A counter that can be waited on.
#[derive(Clone, Default)]
pub struct Counter(Arc<(Mutex<usize>, Condvar)>);

impl Counter {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    pub fn get(&self) -> usize {
        *self.0.0.lock().unwrap()
    }

    /// Blocks until the count has reached `n`.
    pub fn wait_for(&self, n: usize) {
        let mut count = self.0.0.lock().unwrap();
        while *count < n {
            count = self.0.1.wait(count).unwrap();
        }
    }
}

/// Counts how many of its clones and itself were dropped.
#[derive(Default)]
pub struct CountDrops(pub Arc<AtomicUsize>);

impl Drop for CountDrops {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Polls `end` with wakers that are new each time; how many of them are kept afterwards. The last one
/// is given back.
pub fn wakers_kept(end: &mut ShutdownFuture) -> (usize, Arc<Counter>) {
    struct Counting(Arc<Counter>);
    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.add();
        }
    }
    let mut wakers = Vec::new();
    let woken = Arc::new(Counter::new());
    for _ in 0..1_000 {
        let waker = Arc::new(Counting(Arc::clone(&woken)));
        wakers.push(Arc::downgrade(&waker));
        let polled = Pin::new(&mut *end).poll(&mut Context::from_waker(&Waker::from(waker)));
        assert!(polled.is_pending());
    }
    (wakers.iter().filter(|waker| waker.strong_count() > 0).count(), woken)
}

/// Occupies one worker of `pool` until the gate is opened. Returns when the job runs.
pub fn occupy(pool: &ThreadPoolExecutor, gate: &Gate) -> concurrent_futures::TaskFuture<()> {
    let started = Gate::new();
    let (inside, gate) = (started.clone(), gate.clone());
    let future = pool.submit(move || {
        inside.open();
        gate.wait();
    });
    started.wait();
    future
}
