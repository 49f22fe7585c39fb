//! Code of the user's that runs between tasks, on whatever thread: it may panic at every place where
//! it is called or dropped, and only its owner is harmed. The places are listed in
//! `src/core/README.md`; those that are not here are in `panics.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ReturnWhen, Shutdown, TaskFuture, ThreadPoolExecutor, as_completed, wait,
};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};

use crate::support::{Counter, Gate, occupy, pool, within_limit};
use crate::tools::{Bomb, BombChain, Wakes, eventually, soon};

/// A place's name, and what is tried there.
type Case<F> = (&'static str, F);
type MakeWaiter = fn(&ThreadPoolExecutor) -> Waiter;
type AfterGate = fn(&ThreadPoolExecutor, Gate);

/// Runs `mischief` on a pool of one worker whose queue is bounded. The worker must be the same
/// afterwards, the queue as large as before, and the pool must come to its end.
fn survived(place: &str, mischief: impl FnOnce(&ThreadPoolExecutor)) {
    println!("{place}");
    let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(4).build().unwrap();
    let worker = soon(pool.submit(|| thread::current().id())).unwrap();
    mischief(&pool);
    let room = block_on(pool.reserve()).unwrap();
    assert_eq!(soon(room.submit(|| thread::current().id())).unwrap(), worker, "{place}");
    let gate = Gate::new();
    let held = occupy(&pool, &gate);
    let queued: Vec<_> = (0..4).map(|n| pool.submit(move || n)).collect();
    assert!(pool.try_submit(|| 4).is_err(), "{place}");
    gate.open();
    soon(held).unwrap();
    for (n, future) in queued.into_iter().enumerate() {
        assert_eq!(soon(future).unwrap(), n, "{place}");
    }
    let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
    assert!(report.running.is_empty(), "{place}: {report:?}");
}

// ---- Wakers ----

/// What a test waits for, and what brings it about.
struct Waiter {
    poll: Box<dyn FnMut(&mut Context<'_>) -> bool>,
    bring_about: Box<dyn FnOnce()>,
}

impl Waiter {
    fn new<T>(
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T> + 'static,
        bring_about: impl FnOnce() + 'static,
    ) -> Self {
        let poll = Box::new(move |cx: &mut Context<'_>| poll(cx).is_ready());
        Self { poll, bring_about: Box::new(bring_about) }
    }

    fn is_ready(&mut self, wakes: &'static Wakes) -> bool {
        wakes.with_context(|cx| (self.poll)(cx))
    }

    /// Brings it about, and sees that the waker of the last poll is told.
    fn comes(mut self, place: &str) {
        let wakes = Wakes::new();
        assert!(!self.is_ready(wakes), "{place}");
        (self.bring_about)();
        eventually(|| wakes.wakes() > 0);
        while !wakes.with_context(|cx| (self.poll)(cx)) {
            thread::yield_now();
        }
    }
}

/// Everything that keeps a waker.
const WAITERS: [Case<MakeWaiter>; 8] = [
    ("a future", |pool| {
        let (mut future, gate) = gated(pool);
        Waiter::new(move |cx| future.poll_unpin(cx), move || gate.open())
    }),
    ("a future with a callback", |pool| {
        let (mut future, gate) = gated(pool);
        future.add_done_callback(|_| ());
        Waiter::new(move |cx| future.poll_unpin(cx), move || gate.open())
    }),
    ("as_completed", |pool| {
        let (future, gate) = gated(pool);
        let mut done = as_completed([future]);
        Waiter::new(move |cx| done.poll_next_unpin(cx), move || gate.open())
    }),
    ("wait", |pool| {
        let (future, gate) = gated(pool);
        let mut all = wait([future], ReturnWhen::AllCompleted);
        Waiter::new(move |cx| all.poll_unpin(cx), move || gate.open())
    }),
    ("a map", |pool| {
        let gate = Gate::new();
        let inside = gate.clone();
        let mut items = pool.map(move |()| inside.wait(), [()]);
        Waiter::new(move |cx| items.poll_next_unpin(cx), move || gate.open())
    }),
    ("reserve", |pool| {
        let gate = Gate::new();
        occupy(pool, &gate).detach();
        (0..4).for_each(|_| pool.submit(|| ()).detach());
        let pool = pool.clone();
        let mut room = Box::pin(async move { pool.reserve().await.map(drop) });
        Waiter::new(move |cx| room.poll_unpin(cx), move || gate.open())
    }),
    ("shutdown", |_| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        let gate = Gate::new();
        occupy(&pool, &gate).detach();
        let mut end = pool.shutdown(Shutdown::Drain);
        Waiter::new(move |cx| end.poll_unpin(cx), move || gate.open())
    }),
    ("a time limit", |_| {
        let (completer, future) = TaskFuture::<()>::promise();
        let limit = Duration::from_millis(if cfg!(miri) { 1_000 } else { 50 });
        let mut late = as_completed([future]).timeout(limit);
        let poll = move |cx: &mut Context<'_>| {
            let _not_done = &completer;
            late.poll_next_unpin(cx)
        };
        Waiter::new(poll, || ())
    }),
];

/// A task that ends when the gate opens.
fn gated(pool: &ThreadPoolExecutor) -> (TaskFuture<()>, Gate) {
    let gate = Gate::new();
    let inside = gate.clone();
    (pool.submit(move || inside.wait()), gate)
}

fn for_each_waiter(mischief: impl Fn(&str, Waiter) + Send + 'static) {
    within_limit(move || {
        for (place, waiter) in WAITERS {
            survived(place, |pool| mischief(place, waiter(pool)));
        }
    });
}

fn panics() {
    panic!("a waker");
}

#[test]
fn a_waker_that_panics_when_cloned_harms_the_poll_alone() {
    for_each_waiter(|place, mut waiter| {
        let polled = catch_unwind(AssertUnwindSafe(|| waiter.is_ready(Wakes::with_clone(panics))));
        assert!(polled.is_err(), "{place}: the panic is the poller's own");
        // An `async fn` that has panicked can't be polled again; it has given up its place.
        if place == "reserve" {
            drop(waiter.poll);
            (waiter.bring_about)();
        } else {
            waiter.comes(place);
        }
    });
}

#[test]
fn a_waker_that_panics_when_woken() {
    for_each_waiter(|place, mut waiter| {
        let wakes = Wakes::with_wake(panics);
        assert!(!waiter.is_ready(wakes), "{place}");
        (waiter.bring_about)();
        eventually(|| wakes.wakes() > 0);
        while !wakes.with_context(|cx| (waiter.poll)(cx)) {
            thread::yield_now();
        }
    });
}

#[test]
fn a_waker_that_panics_when_dropped_after_its_wake() {
    for_each_waiter(|place, mut waiter| {
        let wakes = Wakes::with_drop(panics);
        assert!(!waiter.is_ready(wakes), "{place}");
        (waiter.bring_about)();
        eventually(|| wakes.wakes() > 0);
        while !wakes.with_context(|cx| (waiter.poll)(cx)) {
            thread::yield_now();
        }
    });
}

#[test]
fn a_waker_that_panics_when_replaced_by_another() {
    for_each_waiter(|place, mut waiter| {
        let wakes = Wakes::with_drop(panics);
        assert!(!waiter.is_ready(wakes), "{place}");
        waiter.comes(place);
    });
}

#[test]
fn a_waker_that_panics_when_dropped_with_who_waits() {
    for_each_waiter(|place, mut waiter| {
        let wakes = Wakes::with_drop(panics);
        assert!(!waiter.is_ready(wakes), "{place}");
        let Waiter { poll, bring_about } = waiter;
        drop(poll);
        bring_about();
    });
}

#[test]
fn a_result_is_not_lost_with_a_waker_that_panics_when_replaced() {
    within_limit(|| {
        // The result comes between the polls, or while the second one replaces the waker.
        let (completer, mut future) = TaskFuture::promise();
        assert!(Wakes::with_drop(panics).poll(&mut future).is_pending());
        let completing = thread::spawn(move || completer.complete(Ok(7)));
        let wakes = Wakes::with_drop(panics);
        loop {
            if let Poll::Ready(seven) = wakes.poll(&mut future) {
                break assert_eq!(seven.unwrap(), 7);
            }
            thread::yield_now();
        }
        completing.join().unwrap();
    });
}

// ---- Values ----

/// Values of the user's, each where it is dropped by the crate.
const VALUES: [Case<fn(&ThreadPoolExecutor)>; 9] = [
    ("two results of a map that nobody has read", |pool| {
        let done = Gate::new();
        let tell = done.clone();
        let map = pool
            .map(
                move |n| {
                    if n == 2 {
                        tell.open();
                    }
                    Bomb("a map's result")
                },
                0..3,
            )
            .chunk_size(1)
            .buffer_size(3)
            .start();
        done.wait();
        drop(map);
    }),
    ("two items of a map that were not started", |pool| {
        let items: Vec<_> = (0..4).map(|_| Bomb("a map's item")).collect();
        drop(pool.map(std::mem::forget, items));
        let items: Vec<_> = (0..4).map(|_| Bomb("a map's item")).collect();
        drop(pool.map(std::mem::forget, items).start());
    }),
    ("a result and an item of the same map", |pool| {
        let (inside, gate) = (Gate::new(), Gate::new());
        let (tell, hold) = (inside.clone(), gate.clone());
        let f = move |item| {
            std::mem::forget::<Bomb>(item);
            tell.open();
            hold.wait();
            Bomb("a map's result")
        };
        let items: Vec<_> = (0..2).map(|_| Bomb("a map's item")).collect();
        let map = pool.map(f, items).chunk_size(2).buffer_size(2).start();
        inside.wait();
        drop(map);
        gate.open();
    }),
    ("the result of a detached task", |pool| pool.submit(|| Bomb("a detached result")).detach()),
    ("the payload of a detached task", |pool| {
        pool.submit(|| -> () { panic_any(BombChain) }).detach();
    }),
    ("the value of a promise that was cancelled", |_| {
        let (completer, future) = TaskFuture::promise();
        assert!(future.cancel());
        completer.complete(Ok(Bomb("a promised value")));
    }),
    ("what a callback has captured", |pool| {
        let bomb = Bomb("a callback's capture");
        let future = pool.submit(|| 7);
        future.add_done_callback(move |_| drop(bomb));
        assert_eq!(soon(future).unwrap(), 7);
    }),
    ("a hook for unobserved failures", |_| {
        let bomb = Bomb("a hook's capture");
        let pool = ThreadPoolExecutor::builder()
            .on_unobserved_failure(move |failure| {
                let _bomb = &bomb;
                panic!("a hook, of {failure}");
            })
            .build()
            .unwrap();
        pool.submit(|| panic!("unobserved")).detach();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }),
    ("an initializer's error", |_| {
        #[derive(Debug)]
        struct Explosive(Fuse);
        #[derive(Debug)]
        struct Fuse;
        impl Drop for Fuse {
            fn drop(&mut self) {
                panic!("an error explodes when dropped");
            }
        }
        impl std::fmt::Display for Explosive {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "no licence")
            }
        }
        impl std::error::Error for Explosive {}
        let pool = ThreadPoolExecutor::builder()
            .initializer(|| Err::<(), _>(Explosive(Fuse)))
            .build()
            .unwrap();
        assert!(matches!(soon(pool.submit(|| 7)), Err(Error::BrokenPool(_))));
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        drop(pool);
    }),
];

#[test]
fn a_value_that_panics_when_dropped() {
    within_limit(|| {
        for (place, mischief) in VALUES {
            survived(place, mischief);
        }
    });
}

// ---- Payloads ----

/// A payload that counts those of its kind.
struct Counted;

static PAYLOADS: AtomicUsize = AtomicUsize::new(0);

impl Counted {
    fn new() -> Self {
        PAYLOADS.fetch_add(1, SeqCst);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        PAYLOADS.fetch_sub(1, SeqCst);
    }
}

/// Panics when dropped, with a payload that is worth counting.
struct Throws;

impl Drop for Throws {
    fn drop(&mut self) {
        panic_any(Counted::new());
    }
}

#[test]
fn the_payload_of_a_destructor_that_panics_is_dropped() {
    within_limit(|| {
        survived("payloads", |pool| {
            pool.submit(|| Throws).detach();
            let throws = Throws;
            soon(pool.submit_future(std::future::poll_fn(move |_| {
                let _throws = &throws;
                Poll::Ready(())
            })))
            .unwrap();
            let future = pool.submit(|| ());
            future.add_done_callback(|_| panic_any(Counted::new()));
            soon(future).unwrap();
        });
        assert_eq!(PAYLOADS.load(SeqCst), 0, "payloads were leaked");
    });
}

// ---- On a worker, between two tasks ----

/// Waits for a task of the pool when it is dropped.
struct WaitsInDrop(ThreadPoolExecutor, Gate);

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        assert_eq!(waits(&self.0), 7);
        self.1.open();
    }
}

/// Blocks this thread in a way that the pool does not know.
fn waits(pool: &ThreadPoolExecutor) -> u32 {
    block_on(pool.submit(|| 7)).unwrap()
}

/// What a worker runs of the user's once a body has ended. Each opens the gate when it has waited
/// for a task of the same pool.
const AFTER_THE_BODY: [Case<AfterGate>; 9] = [
    ("the result of a detached task", |pool, done| {
        let (inner, gate) = (pool.clone(), Gate::new());
        let hold = gate.clone();
        let job = move || {
            hold.wait();
            WaitsInDrop(inner, done)
        };
        pool.submit(job).detach();
        gate.open();
    }),
    ("the result of a task whose future is dropped meanwhile", |pool, done| {
        let (inner, inside, gate) = (pool.clone(), Gate::new(), Gate::new());
        let (tell, hold) = (inside.clone(), gate.clone());
        let future = pool.submit(move || {
            tell.open();
            hold.wait();
            WaitsInDrop(inner, done)
        });
        inside.wait();
        drop(future);
        gate.open();
    }),
    ("the result of a task that is late", |pool, done| {
        let (inner, gate) = (pool.clone(), Gate::new());
        let hold = gate.clone();
        let late = pool.task().timeout(Duration::from_millis(1)).submit(move || {
            hold.wait();
            WaitsInDrop(inner, done)
        });
        assert!(matches!(late.result(), Err(Error::TimedOut { started: true, .. })));
        gate.open();
    }),
    ("the payload of a detached task", |pool, done| {
        let (inner, gate) = (pool.clone(), Gate::new());
        let hold = gate.clone();
        let job = move || -> () {
            hold.wait();
            panic_any(WaitsInDrop(inner, done))
        };
        pool.submit(job).detach();
        gate.open();
    }),
    ("the result of an async task", |pool, done| {
        let inner = pool.clone();
        pool.submit_future(async move { WaitsInDrop(inner, done) }).detach();
    }),
    ("the body of an async task", |pool, done| {
        let waits = WaitsInDrop(pool.clone(), done);
        pool.submit_future(std::future::poll_fn(move |_| {
            let _waits = &waits;
            Poll::Ready(())
        }))
        .detach();
    }),
    ("a callback", |pool, done| {
        let inner = pool.clone();
        let (future, gate) = gated(pool);
        future.add_done_callback(move |_| {
            assert_eq!(waits(&inner), 7);
            done.open();
        });
        gate.open();
    }),
    ("the result of a task with a callback", |pool, done| {
        let (inner, gate) = (pool.clone(), Gate::new());
        let hold = gate.clone();
        let future = pool.submit(move || {
            hold.wait();
            WaitsInDrop(inner, done)
        });
        future.add_done_callback(|_| ());
        drop(future);
        gate.open();
    }),
    ("a waker", |pool, done| {
        struct WaitsInWake(ThreadPoolExecutor, Gate);
        impl std::task::Wake for WaitsInWake {
            fn wake(self: std::sync::Arc<Self>) {
                assert_eq!(waits(&self.0), 7);
                self.1.open();
            }
        }
        let (mut future, gate) = gated(pool);
        let waker = std::sync::Arc::new(WaitsInWake(pool.clone(), done.clone())).into();
        assert!(future.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        gate.open();
        done.wait(); // the future keeps its waker until then
    }),
];

#[test]
fn what_runs_after_a_body_may_wait_for_the_same_pool() {
    within_limit(|| {
        for workers in [1, 2, 4] {
            for (place, start) in AFTER_THE_BODY {
                println!("{place}, {workers} workers");
                let pool = pool(workers);
                let done = Gate::new();
                start(&pool, done.clone());
                done.wait();
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
            }
        }
    });
}

#[test]
fn a_worker_in_a_slow_destructor_or_callback_is_not_counted_on() {
    /// Holds up its worker when it is dropped.
    struct Slow(Counter, Gate);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.add();
            self.1.wait();
        }
    }

    within_limit(|| {
        let pool = pool(5);
        let (inside, gate) = (Counter::new(), Gate::new());
        let slow = || Slow(inside.clone(), gate.clone());
        let (result, held) = (slow(), Gate::new());
        let hold = held.clone();
        let job = move || {
            hold.wait();
            result
        };
        pool.submit(job).detach();
        held.open();
        inside.wait_for(1);
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        let (callback, held) = (slow(), Gate::new());
        let hold = held.clone();
        let future = pool.submit(move || hold.wait());
        future.add_done_callback(move |_| drop(callback));
        held.open();
        inside.wait_for(2);
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        let body = slow();
        pool.submit_future(async move { drop(body) }).detach();
        inside.wait_for(3);
        assert_eq!(pool.submit(|| 7).result().unwrap(), 7);
        // Of an async body that is asked to stop while it is polled.
        let (callback, polled, held) = (slow(), Gate::new(), Gate::new());
        let (tell, hold) = (polled.clone(), held.clone());
        let stopped = pool.submit_future(std::future::poll_fn(move |_| {
            tell.open();
            hold.wait();
            Poll::<()>::Pending
        }));
        stopped.add_done_callback(move |_| drop(callback));
        polled.wait();
        assert!(!stopped.cancel(), "it is polled");
        held.open();
        inside.wait_for(4);
        assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        gate.open();
    });
}

#[test]
fn a_worker_that_runs_a_task_in_place_in_a_waker_is_not_counted_on() {
    struct RunsInPlace(ThreadPoolExecutor, Gate, Gate);

    impl std::task::Wake for RunsInPlace {
        fn wake(self: std::sync::Arc<Self>) {
            let (inside, end) = (self.1.clone(), self.2.clone());
            let task = self.0.submit(move || {
                inside.open();
                end.wait();
            });
            task.result().unwrap();
        }
    }

    within_limit(|| {
        let pool = pool(2);
        let (inside, end) = (Gate::new(), Gate::new());
        let (mut future, held) = gated(&pool);
        let waker = RunsInPlace(pool.clone(), inside.clone(), end.clone());
        let waker = std::sync::Arc::new(waker).into();
        assert!(future.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        held.open();
        inside.wait();
        assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        end.open();
    });
}

#[test]
fn a_worker_in_a_slow_waker_is_not_counted_on_for_long() {
    struct Slow(Gate, Gate);

    impl std::task::Wake for Slow {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.open();
            self.1.wait();
        }
    }

    within_limit(|| {
        let pool = pool(4);
        let (inside, gate) = (Gate::new(), Gate::new());
        let (mut future, held) = gated(&pool);
        let waker = std::sync::Arc::new(Slow(inside.clone(), gate.clone())).into();
        assert!(future.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        held.open();
        inside.wait();
        // Longer than the pool takes it for the end of a task. Nothing else happens in the pool.
        thread::sleep(Duration::from_millis(200));
        assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        gate.open();
    });
}
