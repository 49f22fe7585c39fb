//! User code in this process that waits for what is still to be read: no pool waits with it.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use concurrent_futures::{Error, ParentPool, ProcessPoolExecutor, Shutdown, call};
use serde::{Deserialize, Deserializer, Serialize};

use crate::program::{self};
use crate::support::Counter;
use crate::tools::Reports;
use crate::tools::{Gate, builder, end, hold, occupy, pool};

/// The pool that user code submits to. In a worker there is none.
static POOL: OnceLock<ProcessPoolExecutor> = OnceLock::new();

fn double(n: u32) -> u32 {
    2 * n
}

/// As user code that is called where results arrive.
fn submit_and_wait(n: u32) -> u32 {
    match POOL.get() {
        Some(pool) => pool.submit(call!(double(n))).result().unwrap(),
        None => 2 * n,
    }
}

/// Submits a task at its end, and waits for it.
#[derive(Serialize, Deserialize)]
struct WaitsWhenDropped(u32);

static DROPS: AtomicUsize = AtomicUsize::new(0);

impl Drop for WaitsWhenDropped {
    fn drop(&mut self) {
        if POOL.get().is_some() {
            assert_eq!(submit_and_wait(self.0), 2 * self.0);
            DROPS.fetch_add(1, SeqCst);
        }
    }
}

fn held(started: Reports, gate: Gate, n: u32) -> WaitsWhenDropped {
    WaitsWhenDropped(hold(started, gate, n))
}

/// Submits a task while it is decoded, and waits for it.
#[derive(Debug, Serialize)]
struct WaitsWhenDecoded(u32);

impl<'de> Deserialize<'de> for WaitsWhenDecoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(|n| Self(submit_and_wait(n)))
    }
}

fn wrap(n: u32) -> WaitsWhenDecoded {
    WaitsWhenDecoded(n)
}

/// Runs `main` as a program, whose user code finds a pool of `workers`.
fn with_pool(name: &str, workers: usize, main: impl FnOnce(&ProcessPoolExecutor)) {
    let main = || {
        let pool = POOL.get_or_init(|| pool(workers));
        main(pool);
        end(pool);
    };
    if let Some(ended) = program::run(name, 0, main) {
        ended.well();
    }
}

/// Another pool is as it always is.
fn assert_goes_on(other: &ProcessPoolExecutor) {
    for n in 0..20 {
        assert_eq!(other.submit(call!(double(n))).result().unwrap(), 2 * n);
    }
}

#[test]
fn the_destructor_of_an_unwanted_result_waits_for_a_task() {
    let name = "reading::the_destructor_of_an_unwanted_result_waits_for_a_task";
    with_pool(name, 2, |pool| {
        let (started, gate) = (Reports::new(), Gate::new());
        for n in 0..2 {
            let future = pool.submit(call!(held(started.clone(), gate.clone(), n)));
            started.wait_for(n as usize + 1);
            drop(future);
        }
        gate.open();
        let other = builder(1).build().unwrap();
        assert_goes_on(&other);
        while DROPS.load(SeqCst) < 2 {
            thread::yield_now();
        }
        assert_goes_on(pool);
        end(&other);
    });
}

#[test]
fn a_result_waits_for_a_task_while_it_is_decoded() {
    let name = "reading::a_result_waits_for_a_task_while_it_is_decoded";
    with_pool(name, 2, |pool| {
        let all: Vec<_> = (0..50).map(|n| pool.submit(call!(wrap(n)))).collect();
        for (n, future) in (0..).zip(all) {
            assert_eq!(future.result().unwrap().0, 2 * n);
        }
        let items: Vec<_> = pool.map(wrap, 0..50).result().unwrap();
        assert!((0..).zip(items).all(|(n, item)| item.0 == 2 * n));
        assert_goes_on(pool);
    });
}

/// The first results of a batch wait for the last one of it.
#[test]
fn results_that_arrive_together_wait_for_each_other() {
    static LAST: OnceLock<Counter> = OnceLock::new();

    #[derive(Serialize)]
    struct Meets(bool);

    impl<'de> Deserialize<'de> for Meets {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let is_last = bool::deserialize(deserializer)?;
            if let Some(last) = LAST.get() {
                if is_last {
                    last.add();
                } else {
                    last.wait_for(1);
                }
            }
            Ok(Self(is_last))
        }
    }

    fn meets(is_last: bool) -> Meets {
        Meets(is_last)
    }

    let name = "reading::results_that_arrive_together_wait_for_each_other";
    with_pool(name, 1, |pool| {
        pool.submit(call!(meets(true))).result().unwrap(); // quick, so more than one is sent at a time
        LAST.get_or_init(Counter::new);
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let all: Vec<_> = (0..5).map(|n| pool.submit(call!(meets(n == 4)))).collect();
        gate.open();
        held.result().unwrap();
        assert!(all.into_iter().all(|future| future.result().is_ok()));
    });
}

/// Waits in the waker, for a task of the pool.
struct WaitsWhenWoken(Counter);

impl Wake for WaitsWhenWoken {
    fn wake(self: Arc<Self>) {
        assert_eq!(submit_and_wait(4), 8);
        self.0.add();
    }
}

#[test]
fn a_waker_waits_for_a_task() {
    with_pool("reading::a_waker_waits_for_a_task", 1, |pool| {
        let gate = Gate::new();
        let mut future = occupy(pool, &gate);
        let woken = Counter::new();
        let waker = Waker::from(Arc::new(WaitsWhenWoken(woken.clone())));
        let pinned = std::pin::Pin::new(&mut future);
        assert!(pinned.poll(&mut Context::from_waker(&waker)).is_pending());
        gate.open();
        woken.wait_for(1);
        future.result().unwrap();
    });
}

/// Room in the queue is given to a waker that asks the pool how it is.
#[test]
fn a_waker_that_gets_room_uses_the_pool() {
    struct Looks(Counter, Mutex<Option<ProcessPoolExecutor>>);

    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let pool = self.1.lock().unwrap().take();
            if let Some(pool) = pool {
                assert_eq!(pool.metrics().workers, 1);
                self.0.add();
            }
        }
    }

    let name = "reading::a_waker_that_gets_room_uses_the_pool";
    let main = || {
        let pool = builder(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let queued = pool.submit(call!(double(3)));
        let woken = Counter::new();
        let looks = Looks(woken.clone(), Mutex::new(Some(pool.clone())));
        let waker = Waker::from(Arc::new(looks));
        let mut reserved = Box::pin(pool.reserve());
        let first = reserved.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(first.is_pending());
        gate.open();
        woken.wait_for(1);
        held.result().unwrap();
        assert_eq!(queued.result().unwrap(), 6);
        let second = reserved.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(second, Poll::Ready(Ok(_))));
        drop((second, reserved));
        end(&pool);
    };
    if let Some(ended) = program::run(name, 0, main) {
        ended.well();
    }
}

#[test]
fn the_end_of_the_pool_can_not_be_waited_for_while_a_result_of_it_is_decoded() {
    #[derive(Serialize)]
    struct Ends(u32);

    impl<'de> Deserialize<'de> for Ends {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let n = u32::deserialize(deserializer)?;
            if let Some(pool) = POOL.get() {
                let refused = pool.shutdown_blocking(Shutdown::Drain);
                assert!(matches!(refused, Err(Error::WouldDeadlock)), "{refused:?}");
            }
            Ok(Self(n))
        }
    }

    fn ends() -> Ends {
        Ends(5)
    }

    let name = "reading::the_end_of_the_pool_can_not_be_waited_for_while_a_result_of_it_is_decoded";
    with_pool(name, 1, |pool| {
        assert_eq!(pool.submit(call!(ends())).result().unwrap().0, 5);
        assert_goes_on(pool);
    });
}

/// In a worker: the answer to a call that a task has submitted waits for another one.
#[test]
fn an_answer_in_a_worker_waits_for_another_one() {
    #[derive(Serialize)]
    struct Nests(u32);

    impl<'de> Deserialize<'de> for Nests {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let n = u32::deserialize(deserializer)?;
            match ParentPool::current() {
                Some(pool) => Ok(Self(pool.submit(call!(double(n))).result().unwrap())),
                None => Ok(Self(n)),
            }
        }
    }

    fn inner() -> Nests {
        Nests(21)
    }

    fn outer() -> u32 {
        let pool = ParentPool::current().unwrap();
        pool.submit(call!(inner())).result().unwrap().0
    }

    crate::support::within_limit(|| {
        let pool = pool(1);
        assert_eq!(pool.submit(call!(outer())).result().unwrap(), 42);
        end(&pool);
    });
}

#[test]
fn inputs_that_block_do_not_hold_up_other_maps() {
    crate::within_limit(|| {
        let pool = pool(1);
        let (items, input) = mpsc::channel::<u32>();
        let input = Arc::new(Mutex::new(input));
        // One more than there can be threads for maps.
        let blocked: Vec<_> = (0..=thread::available_parallelism().unwrap().get())
            .map(|_| {
                let input = Arc::clone(&input);
                pool.map(double, std::iter::from_fn(move || input.lock().unwrap().recv().ok()))
                    .buffer_size(1)
                    .start()
            })
            .collect();
        let other = pool.map(double, (0..100).filter(|n| n % 2 == 0));
        assert_eq!(other.result().unwrap().len(), 50);
        drop(items);
        for map in blocked {
            assert!(map.result().unwrap().is_empty());
        }
        end(&pool);
    });
}
