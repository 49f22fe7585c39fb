//! What stays in memory: nothing, once the work is done or withdrawn.
//!
//! The allocator counts for the whole process, so the tests of this binary run one at a time.

#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::pin::Pin;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use concurrent_futures::{Shutdown, TaskFuture, ThreadPoolExecutor, as_completed};
use futures::Stream;
use futures::executor::{block_on, block_on_stream};

use crate::support::{CountDrops, Counter, Gate, POOL_SIZES, occupy, pool, within_limit};

/// Counts the bytes that are allocated now, and the most there were.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: isize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every method passes its arguments on to `System` unchanged and returns what that
// returns; the counting touches two atomics and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `at` came from `alloc` above with this layout, hence from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What may be left over: the spare capacity of collections, and what the harness does meanwhile.
const SLACK: isize = 64 * 1024;

fn live() -> isize {
    LIVE.load(SeqCst)
}

/// Runs a test while no other one allocates.
fn alone(test: impl FnOnce() + Send + 'static) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    within_limit(test);
}

/// Runs `work` twice, first to warm up, and tells what the second time left behind and what it
/// needed at most.
fn left_by(mut work: impl FnMut()) -> (isize, isize) {
    work();
    let before = live();
    PEAK.store(before, SeqCst);
    work();
    (live() - before, PEAK.load(SeqCst) - before)
}

/// Lets the workers drop what they still hold of tasks whose results are there already: they do
/// so before they take the next task.
fn until_settled(pool: &ThreadPoolExecutor) {
    let meeting = Counter::new();
    let tasks: Vec<_> = (0..pool.max_workers())
        .map(|_| {
            let (meeting, all) = (meeting.clone(), pool.max_workers());
            pool.submit(move || {
                meeting.add();
                meeting.wait_for(all);
            })
        })
        .collect();
    for task in tasks {
        task.result().unwrap();
    }
}

#[track_caller]
fn assert_nothing_left((left, most): (isize, isize), limit: isize) {
    assert!(left <= SLACK, "{left} bytes stayed, {most} at most");
    assert!(most <= limit, "{most} bytes at most, {left} stayed");
}

// ---- Withdrawn work ----

#[test]
fn a_million_submitted_and_dropped_futures_leave_nothing() {
    alone(|| {
        for waiting in [0, 100] {
            let (pool, gate) = (pool(1), Gate::new());
            let held = occupy(&pool, &gate);
            // What stays in the queue all the time does not keep the others in it.
            let kept: Vec<_> = (0..waiting).map(|n| pool.submit(move || n)).collect();
            let left = left_by(|| {
                let drops = Arc::new(AtomicUsize::new(0));
                for n in 0..500_000 {
                    let inside = CountDrops(Arc::clone(&drops));
                    let future = pool.submit(move || drop(inside));
                    if n % 2 == 0 {
                        assert!(future.cancel());
                        assert_eq!(drops.load(SeqCst), n + 1, "dropped with the cancellation");
                    }
                    drop(future);
                    assert_eq!(drops.load(SeqCst), n + 1, "dropped with the future");
                }
                assert_eq!(Arc::strong_count(&drops), 1);
            });
            assert_eq!(pool.metrics().queued, waiting);
            assert_eq!(pool.metrics().cancelled, 1_000_000);
            gate.open();
            held.result().unwrap();
            for (n, future) in kept.into_iter().enumerate() {
                assert_eq!(future.result().unwrap(), n);
            }
            assert_nothing_left(left, SLACK);
        }
    });
}

#[test]
fn many_submitted_and_dropped_at_a_time_leave_nothing() {
    alone(|| {
        let (pool, gate) = (pool(1), Gate::new());
        let held = occupy(&pool, &gate);
        let left = left_by(|| {
            let futures: Vec<_> = (0..200_000).map(|n| pool.submit(move || n)).collect();
            drop(futures);
        });
        assert_nothing_left(left, isize::MAX);
        gate.open();
        held.result().unwrap();
    });
}

#[test]
fn withdrawn_tasks_with_options_and_async_tasks_leave_nothing() {
    alone(|| {
        let (pool, gate) = (pool(1), Gate::new());
        let held = occupy(&pool, &gate);
        let hour = Duration::from_secs(3600);
        let left = left_by(|| {
            for _ in 0..100_000 {
                let task = pool.task().label("x").timeout(hour).queue_timeout(hour);
                drop(task.submit(|| ()));
                drop(pool.submit_future(async {}));
                let (completer, promise) = TaskFuture::<()>::promise();
                drop((completer, promise));
            }
        });
        assert_nothing_left(left, SLACK);
        gate.open();
        held.result().unwrap();
    });
}

#[test]
fn futures_with_callbacks_leave_nothing_however_they_end() {
    alone(|| {
        let pool = pool(1);
        let left = left_by(|| {
            let told = Counter::new();
            let watched = |future: TaskFuture<u32>| {
                let told = told.clone();
                future.add_done_callback(move |_| told.add());
                future
            };
            for _ in 0..1_000 {
                let gate = Gate::new();
                let held = occupy(&pool, &gate);
                let cancelled = watched(pool.submit(|| 1));
                assert!(cancelled.cancel());
                let timed_out = watched(pool.task().queue_timeout(Duration::ZERO).submit(|| 2));
                assert!(timed_out.result().is_err());
                let running = pool.task().timeout(Duration::ZERO);
                let running = watched(running.submit_future(std::future::pending()));
                gate.open();
                assert!(running.result().is_err());
                held.result().unwrap();
                drop(watched(pool.submit(|| 3)));
                watched(pool.submit(|| 4)).result().unwrap();
                let (completer, promise) = TaskFuture::promise();
                assert!(watched(promise).cancel());
                drop(completer);
                let (completer, promise) = TaskFuture::promise();
                let promise = watched(promise);
                drop(completer);
                assert!(promise.result().is_err());
            }
            told.wait_for(7_000);
            until_settled(&pool);
        });
        assert_nothing_left(left, 16 << 20);
    });
}

#[test]
fn maps_that_were_dropped_before_they_began_leave_nothing() {
    alone(|| {
        let (pool, gate) = (pool(1), Gate::new());
        let held = occupy(&pool, &gate);
        let left = left_by(|| {
            for _ in 0..20_000 {
                drop(pool.map(|n| n, 0..10).buffer_size(4));
            }
        });
        let queued = pool.metrics().queued;
        gate.open();
        held.result().unwrap();
        assert_nothing_left(left, SLACK);
        assert_eq!(queued, 0, "nothing waits for a worker any more");
    });
}

#[test]
fn waits_for_room_that_were_given_up_leave_nothing() {
    alone(|| {
        let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let queued = pool.submit(|| ());
        let left = left_by(|| {
            for _ in 0..100_000 {
                let mut reserve = tokio_test::task::spawn(pool.reserve());
                assert!(reserve.poll().is_pending());
            }
        });
        assert_nothing_left(left, SLACK);
        gate.open();
        held.result().unwrap();
        queued.result().unwrap();
    });
}

// ---- Work that was done ----

/// Has a million tasks wait at the same time, then run, and looks at what the idle pool keeps.
///
/// `hand_in` opens the gate when all of them wait.
fn a_million_at_a_time(hand_in: impl Fn(&ThreadPoolExecutor, &Arc<AtomicUsize>, &Gate)) {
    const N: usize = 1_000_000;
    for workers in POOL_SIZES {
        let pool = pool(workers);
        until_settled(&pool); // so all workers are there before and after
        let before = live();
        let gate = Gate::new();
        let held: Vec<_> = (0..workers).map(|_| occupy(&pool, &gate)).collect();
        let drops = Arc::new(AtomicUsize::new(0));
        hand_in(&pool, &drops, &gate);
        for job in held {
            job.result().unwrap();
        }
        until_settled(&pool);
        assert_eq!(drops.load(SeqCst), N);
        drop((gate, drops));
        let left = live() - before;
        assert!(left <= SLACK, "the idle pool keeps {left} bytes");
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }
}

#[test]
fn a_million_completed_tasks_leave_nothing() {
    alone(|| {
        a_million_at_a_time(|pool, drops, gate| {
            let inside = || CountDrops(Arc::clone(drops));
            let submit = |inside: CountDrops| pool.submit(move || inside);
            let futures: Vec<_> = (0..1_000_000).map(|_| submit(inside())).collect();
            assert_eq!(pool.metrics().queued, futures.len());
            gate.open();
            for future in futures {
                drop(block_on(future).unwrap());
            }
        });
    });
}

#[test]
fn a_million_detached_tasks_leave_nothing() {
    alone(|| {
        a_million_at_a_time(|pool, drops, gate| {
            for _ in 0..1_000_000 {
                let inside = CountDrops(Arc::clone(drops));
                pool.submit(move || drop(inside)).detach();
            }
            gate.open();
        });
    });
}

#[test]
fn a_million_items_go_through_a_window_in_flat_memory() {
    alone(|| {
        const N: u64 = 1_000_000; // a byte of each would be eight times what may be left
        let pool = pool(2);
        let square = |n: u64| n * n;
        let warm_up = pool.map(square, 0..100_000).buffer_size(1024);
        assert_eq!(block_on_stream(warm_up).count(), 100_000);
        let before = live();
        PEAK.store(before, SeqCst);
        let squares = pool.map(square, 0..N).buffer_size(1024);
        let mut expected = 0;
        for result in block_on_stream(squares) {
            assert_eq!(result.unwrap(), expected * expected);
            expected += 1;
        }
        assert_eq!(expected, N);
        // An item takes 16 bytes on its way in, and 8 on its way out.
        let most = PEAK.load(SeqCst) - before;
        assert!(most <= 2 * SLACK, "{most} bytes");
        until_settled(&pool);
        let left = live() - before;
        assert!(left <= SLACK, "{left} bytes");
    });
}

#[test]
fn pools_that_come_and_go_leave_nothing() {
    alone(|| {
        let left = left_by(|| {
            for round in 0..100 {
                let pool = pool(1 + round % 4);
                let inner = pool.clone();
                let futures: Vec<_> = (0..20)
                    .map(|n| {
                        let inner = inner.clone();
                        pool.submit(move || inner.submit(move || n).result().unwrap())
                    })
                    .collect();
                drop(inner);
                for (_, value) in block_on_stream(as_completed(futures)) {
                    value.unwrap();
                }
                assert_eq!(pool.map(|n| n, 0..50).result().unwrap().len(), 50);
                drop(pool.map(|n| n, 0..));
                drop(pool.task().timeout(Duration::from_secs(3600)).submit(|| ()));
                let how = if round % 2 == 0 { Shutdown::Drain } else { Shutdown::CancelQueued };
                pool.shutdown_blocking(how).unwrap();
            }
        });
        assert_nothing_left(left, isize::MAX);
    });
}

// ---- What a completion costs ----

/// A waker that counts what is done to it and its clones.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_completion_costs_one_wake_and_no_visit_to_the_others() {
    alone(|| {
        const N: usize = 100_000;
        let (completers, futures): (Vec<_>, Vec<_>) =
            (0..N).map(|_| TaskFuture::<usize>::promise()).unzip();
        let mut done = as_completed(futures);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let mut poll = || Pin::new(&mut done).poll_next(&mut cx);

        assert!(poll().is_pending());
        for (n, completer) in completers.into_iter().enumerate() {
            let allocated = live();
            completer.complete(Ok(n));
            assert_eq!(wakes.0.load(SeqCst), n + 1, "one wake for each completion");
            let polled = poll();
            assert!(
                matches!(polled, Poll::Ready(Some((index, Ok(value)))) if (index, value) == (n, n))
            );
            if n + 1 < N {
                assert!(poll().is_pending());
            }
            assert!(live() <= allocated + SLACK);
            // One clone for the stream that waits, none for each future.
            assert!(Arc::strong_count(&wakes) <= 3);
        }
        assert!(matches!(poll(), Poll::Ready(None)));
        assert_eq!(wakes.0.load(SeqCst), N);
    });
}

#[test]
fn completions_that_come_together_cost_one_wake() {
    alone(|| {
        const N: usize = 100_000;
        let (pool, gate) = (pool(2), Gate::new());
        let held = [occupy(&pool, &gate), occupy(&pool, &gate)];
        let futures: Vec<_> = (0..N).map(|n| pool.submit(move || n)).collect();
        let mut done = as_completed(futures);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut done).poll_next(&mut cx).is_pending());
        gate.open();
        for job in held {
            job.result().unwrap();
        }
        while pool.metrics().completed < N as u64 + 2 {
            std::thread::yield_now();
        }
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(wakes.0.load(SeqCst), 1);
        for _ in 0..N {
            assert!(matches!(
                Pin::new(&mut done).poll_next(&mut cx),
                Poll::Ready(Some((index, Ok(value)))) if index == value
            ));
        }
        assert!(matches!(Pin::new(&mut done).poll_next(&mut cx), Poll::Ready(None)));
        assert_eq!(wakes.0.load(SeqCst), 1);
    });
}

#[test]
fn polls_and_wakes_are_no_more_than_completions() {
    alone(|| {
        const N: usize = 100_000;
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let mut done = as_completed((0..N).map(|n| pool.submit(move || n)));
            let wakes = Arc::new(Wakes::default());
            let (mut polls, mut pending, mut yielded) = (0, 0, 0);
            // Polled from an executor of our own, so that every wake and poll is counted.
            let thread = std::thread::current();
            let counting = Arc::clone(&wakes);
            let waker = futures::task::waker(Arc::new(Unpark { thread, wakes: counting }));
            let mut cx = Context::from_waker(&waker);
            loop {
                let woken = wakes.0.load(SeqCst);
                polls += 1;
                match Pin::new(&mut done).poll_next(&mut cx) {
                    Poll::Ready(Some((index, value))) => {
                        assert_eq!(index, value.unwrap());
                        yielded += 1;
                    }
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        pending += 1;
                        while wakes.0.load(SeqCst) == woken {
                            std::thread::park();
                        }
                    }
                }
            }
            assert_eq!(yielded, N);
            let woken = wakes.0.load(SeqCst);
            assert!(woken <= pending, "{woken} wakes for {pending} polls that had to wait");
            assert_eq!(polls, N + pending + 1);
            assert!(pending <= N);
        }
    });
}

struct Unpark {
    thread: std::thread::Thread,
    wakes: Arc<Wakes>,
}

impl futures::task::ArcWake for Unpark {
    fn wake_by_ref(this: &Arc<Self>) {
        this.wakes.0.fetch_add(1, SeqCst);
        this.thread.unpark();
    }
}

// ---- A burst that is over ----

/// What a table may keep is room for a thousand entries.
const ROOM: isize = 1 << 20;

#[cfg(all(feature = "process", target_os = "linux"))]
#[test]
fn a_burst_on_processes_leaves_no_room_for_another_one() {
    use concurrent_futures::{ProcessPoolExecutor, call};

    fn square(n: u64) -> u64 {
        n * n
    }

    alone(|| {
        let pool = ProcessPoolExecutor::builder().max_workers(2).build().unwrap();
        let burst = |count: u64| {
            let all: Vec<_> = (0..count).map(|n| pool.submit(call!(square(n)))).collect();
            for (n, future) in (0..).zip(all) {
                assert_eq!(future.result().unwrap(), n * n);
            }
        };
        burst(1000);
        let before = live();
        burst(100_000);
        // Also if they are withdrawn.
        drop((0..100_000).map(|n| pool.submit(call!(square(n)))).collect::<Vec<_>>());
        burst(1000);
        let left = live() - before;
        assert!(left <= ROOM, "{left} bytes stayed");
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn a_burst_on_threads_leaves_no_room_for_another_one() {
    alone(|| {
        let pool = pool(2);
        let burst = |count: usize| {
            let gate = Gate::new();
            let held: Vec<_> = (0..2).map(|_| occupy(&pool, &gate)).collect();
            let all: Vec<_> = (0..count).map(|n| pool.submit(move || n)).collect();
            gate.open();
            held.into_iter().for_each(|held| held.result().unwrap());
            block_on_stream(as_completed(all)).for_each(|(_, outcome)| assert!(outcome.is_ok()));
        };
        burst(1000);
        let before = live();
        burst(500_000);
        let suspended: Vec<_> =
            (0..200_000).map(|_| pool.submit_future(std::future::pending::<()>())).collect();
        until_settled(&pool);
        drop(suspended);
        until_settled(&pool);
        burst(1000);
        let left = live() - before;
        assert!(left <= ROOM, "{left} bytes stayed");
    });
}
