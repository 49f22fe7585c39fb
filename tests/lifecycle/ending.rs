//! The ends that a pool can come to: from outside and inside of its jobs, from several handles, with
//! a deadline, and with things that outlive its last handle.

use std::collections::HashSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, InlineExecutor, Shutdown, ShutdownReport, TaskFuture, ThreadPoolExecutor, task,
};
use futures::executor::block_on;

use crate::support::{
    CountDrops, Counter, Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, wakers_kept,
    within_limit,
};
use crate::threads::{at_thread_end, counted, counted_pool};

const NOW: Duration = Duration::ZERO;

/// Polls once, to see whether it is ready without waiting.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A job that runs until it is asked to stop, and then until it may.
fn until_stopped(started: &Counter, may: &Gate) -> impl FnOnce() -> bool + Send + use<> {
    let (started, may) = (started.clone(), may.clone());
    move || {
        started.add();
        while !task::stop_requested() {
            thread::yield_now();
        }
        may.wait();
        task::checkpoint().is_err()
    }
}

/// Waits until nothing is on a worker or waits for one.
fn until_quiet(pool: &ThreadPoolExecutor) {
    while pool.metrics().queued + pool.metrics().running > 0 {
        thread::yield_now();
    }
}

// ---- The last handle ----

#[test]
fn the_last_handle_may_be_dropped_inside_a_job_of_the_pool() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let ran = Counter::new();
            let (handed_over, handle) = mpsc::channel::<ThreadPoolExecutor>();
            let gate = Gate::new();
            let open = gate.clone();
            let future = pool.submit(move || {
                drop(handle.recv().unwrap());
                open.open();
                "still here"
            });
            let queued: Vec<_> = (0..10)
                .map(|_| {
                    let (ran, gate) = (ran.clone(), gate.clone());
                    pool.submit(move || {
                        gate.wait();
                        ran.add();
                    })
                })
                .collect();
            handed_over.send(pool).unwrap();
            assert_eq!(future.result().unwrap(), "still here");
            for future in queued {
                future.result().unwrap();
            }
            assert_eq!(ran.get(), 10);
            threads.ended.wait_for(threads.begun.get());
        }
    });
}

/// A closure's captures, a done-callback, a result and the closure of a withdrawn task: each of them
/// may be what holds the last handle.
#[test]
fn the_last_handle_may_be_dropped_by_what_a_task_leaves_behind() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let captured = pool.clone();
            let gate = Gate::new();
            let open = gate.clone();
            let job = move || {
                let _captured = captured; // dropped with the job's locals
                open.wait();
            };
            pool.submit(job).detach();
            drop(pool);
            gate.open();
            threads.ended.wait_for(1);

            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let busy = occupy(&pool, &gate);
            busy.add_done_callback(move |_| drop(pool));
            gate.open();
            busy.result().unwrap();
            threads.ended.wait_for(1);

            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let open = gate.clone();
            let inner = pool.clone();
            let returned = pool.submit(move || {
                open.wait();
                inner
            });
            drop(pool);
            returned.detach(); // its result, the handle, is dropped by the worker
            gate.open();
            threads.ended.wait_for(1);

            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let handle = pool.clone();
            let queued = pool.submit(move || drop(handle));
            drop(pool);
            assert!(queued.cancel()); // drops the closure here
            gate.open();
            threads.ended.wait_for(size);
            drop(busy);
        }
    });
}

#[test]
fn the_last_handle_may_be_dropped_inside_a_panicking_job() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let (handed_over, handle) = mpsc::channel::<ThreadPoolExecutor>();
            let future = pool.submit(move || {
                let _pool = handle.recv().unwrap();
                panic!("with the last handle on the stack");
            });
            let queued = pool.submit(|| 1);
            handed_over.send(pool).unwrap();
            assert!(matches!(future.result(), Err::<(), _>(Error::Panicked(_))));
            assert_eq!(queued.result().unwrap(), 1);
            threads.ended.wait_for(threads.begun.get());
        }
    });
}

/// If the drop waited, it would wait for ever: the gate is opened after it.
#[test]
fn dropping_the_last_handle_in_async_code_does_not_block() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let queued = pool.submit(|| 1);
            let task = tokio::spawn(async move {
                tokio::task::yield_now().await;
                drop(pool);
            });
            task.await.unwrap();
            gate.open();
            assert_eq!(queued.await.unwrap(), 1);
            for future in busy {
                future.await.unwrap();
            }
            threads.ended.wait_for(size);
        }
    });
}

#[test]
fn the_last_handle_may_be_dropped_inside_an_async_task_of_the_pool() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let (hand_over, handle) = tokio::sync::oneshot::channel::<ThreadPoolExecutor>();
            let future = pool.submit_future(async move {
                drop(handle.await.unwrap());
                tokio::task::yield_now().await; // and is queued again after the close
                5
            });
            hand_over.send(pool).unwrap();
            assert_eq!(future.await.unwrap(), 5);
            threads.ended.wait_for(threads.begun.get());
        }
    });
}

// A pool in a `static`, and at the end of `main`: tests/program_end.rs.

// ---- What outlives the last handle ----

#[test]
fn a_map_outlives_the_last_handle() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let awaited = pool.map(|x| x * x, 0..100).start();
            let mut stream = pool.map(|x| x + 1, 0..).buffer_size(4);
            assert_eq!(stream.next().await.unwrap().unwrap(), 1);
            drop(pool);
            assert_eq!(awaited.await.unwrap()[99], 99 * 99);
            for expected in 2..50 {
                assert_eq!(stream.next().await.unwrap().unwrap(), expected);
            }
            drop(stream); // it was what kept the pool open
            threads.ended.wait_for(threads.begun.get());
        }
    });
}

#[test]
fn a_permit_outlives_the_last_handle() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, threads) =
                counted(ThreadPoolExecutor::builder().max_workers(size).queue_capacity(2));
            let permit = pool.reserve().await.unwrap();
            let unused = pool.reserve().await.unwrap();
            drop(pool);
            assert_eq!(permit.submit(|| 8).await.unwrap(), 8);
            drop(unused);
            threads.ended.wait_for(1);
        }
    });
}

#[test]
fn a_shutdown_future_outlives_the_last_handle() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy = occupy(&pool, &gate);
            let mut ended = pool.shutdown(Shutdown::Drain);
            drop(pool);
            assert!(futures::poll!(&mut ended).is_pending());
            gate.open();
            assert_eq!(ended.await.completed, 1);
            busy.await.unwrap();
        }
    });
}

#[test]
fn a_future_outlives_its_pool() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let future = pool.submit(|| 1);
            let other = pool.submit(|| 2);
            let ended = pool.shutdown(Shutdown::Drain);
            drop(pool);
            ended.await;
            assert_eq!(future.await.unwrap(), 1);
            assert!(!other.cancel(), "it has finished");
            assert_eq!(other.result().unwrap(), 2);
        }
    });
}

// ---- Shutdown ----

#[test]
fn shutdowns_from_several_clones_at_the_same_time_get_the_same_report() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let queued: Vec<_> = (0..20).map(|_| pool.submit(|| ())).collect();
            queued[0].cancel(); // before the first shutdown: not in its report
            let first = pool.shutdown(Shutdown::Drain);
            queued[1].cancel();

            let blocking: Vec<_> = (0..4)
                .map(|_| {
                    let pool = pool.clone();
                    thread::spawn(move || pool.shutdown_blocking(Shutdown::Drain).unwrap())
                })
                .collect();
            let spawned: Vec<_> = (0..4)
                .map(|_| {
                    let pool = pool.clone();
                    tokio::spawn(async move { pool.shutdown(Shutdown::Drain).await })
                })
                .collect();
            tokio::task::yield_now().await;
            gate.open();

            let report = first.await;
            assert_eq!(report.completed as usize, size + 18);
            assert_eq!((report.failed, report.cancelled, report.queued), (0, 1, 0));
            assert!(report.running.is_empty());
            for other in spawned {
                assert_eq!(other.await.unwrap(), report);
            }
            for other in blocking {
                assert_eq!(other.join().unwrap(), report);
            }
            // Afterwards, and as often as one likes.
            for how in [Shutdown::Drain, Shutdown::CancelQueued, Shutdown::Drain] {
                assert_eq!(pool.shutdown(how).await, report);
                assert_eq!(pool.shutdown_blocking(how).unwrap(), report);
            }
            drop(busy);
        }
    });
}

/// The end is not announced while another thread still withdraws what was queued.
#[test]
fn a_report_counts_what_another_shutdown_is_about_to_cancel() {
    /// The first closure that is dropped lets the pool's only thread end, and waits until it has.
    struct LetEnd(Gate, Counter);
    impl Drop for LetEnd {
        fn drop(&mut self) {
            self.0.open();
            self.1.wait_for(1);
        }
    }
    /// The others take a while.
    struct Yield;
    impl Drop for Yield {
        fn drop(&mut self) {
            thread::yield_now();
        }
    }

    within_limit(|| {
        let more = scaled(5_000) as u64;
        let (pool, threads) = counted_pool(1);
        let gate = Gate::new();
        let busy = occupy(&pool, &gate);
        let first = LetEnd(gate, threads.ended);
        let mut queued = vec![pool.submit(move || drop(first))];
        queued.extend((0..more).map(|_| {
            let captured = Yield;
            pool.submit(move || drop(captured))
        }));
        let drain = pool.shutdown(Shutdown::Drain);
        let other = thread::spawn(move || block_on(drain));
        let report = pool.shutdown_blocking(Shutdown::CancelQueued).unwrap();
        assert_eq!((report.completed, report.cancelled), (1, more + 1));
        assert_eq!(other.join().unwrap(), report);
        drop((busy, queued));
    });
}

/// Counted when it is withdrawn, not when its callbacks have run: the pool may end before that.
#[test]
fn a_report_counts_a_task_whose_cancellation_still_runs_callbacks() {
    within_limit(|| {
        let (pool, threads) = counted_pool(1);
        let gate = Gate::new();
        let busy = occupy(&pool, &gate);
        let queued = pool.submit(|| ());
        let drain = pool.shutdown(Shutdown::Drain);
        let (reported, report) = mpsc::channel();
        queued.add_done_callback(move |_| {
            gate.open();
            threads.ended.wait_for(1); // nothing is left to run, so the pool ends
            let _ = reported.send(block_on(drain));
        });
        assert!(queued.cancel());
        let early = report.recv().unwrap();
        assert_eq!((early.completed, early.cancelled), (1, 1));
        assert_eq!(pool.shutdown_blocking(Shutdown::Drain).unwrap(), early);
        drop(busy);
    });
}

/// The same for an async task that is cancelled while it waits.
#[test]
fn a_report_counts_an_async_task_that_is_being_cancelled() {
    within_limit(|| {
        let pool = pool(1);
        let waits = pool.submit_future(std::future::pending::<()>());
        until_quiet(&pool);
        let drain = pool.shutdown(Shutdown::Drain);
        let other = thread::spawn(move || block_on(drain));
        // Takes a while, in which a pool that has ended too early is seen.
        waits.add_done_callback(|_| (0..scaled(5_000)).for_each(|_| thread::yield_now()));
        assert!(waits.cancel());
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(report.cancelled, 1);
        assert_eq!(other.join().unwrap(), report);
    });
}

/// The report of an executor that has ended and had nothing to do.
fn nothing_done() -> ShutdownReport {
    let mut report = ShutdownReport::default();
    report.ended = true;
    report
}

#[test]
fn inline_every_shutdown_gets_the_same_report() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        executor.submit(|| 1).result().unwrap();
        let clone = executor.clone();
        let report = executor.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(report, nothing_done(), "the count begins at the shutdown");
        assert_eq!(clone.shutdown_blocking(Shutdown::CancelQueued).unwrap(), report);
        assert_eq!(block_on(clone.shutdown(Shutdown::Drain).deadline(NOW)), report);
    });
}

/// The worker of the inline executor is the caller, and it does not wait.
#[test]
fn inline_a_shutdown_inside_of_a_job_is_ready() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let inner = executor.clone();
        let future = executor.submit(move || {
            let report = block_on(inner.shutdown(Shutdown::Drain));
            (report, inner.submit(|| ()).result())
        });
        let (report, late) = future.result().unwrap();
        assert_eq!(report.completed, 0);
        assert!(matches!(late, Err(Error::ShutDown)));
        assert_eq!(executor.shutdown_blocking(Shutdown::Drain).unwrap().completed, 1);
    });
}

#[test]
fn a_second_shutdown_tightens_the_first_and_never_loosens_it() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let dropped = CountDrops::default();
            let count = dropped.0.clone();
            let ran = Counter::new();
            let inner = ran.clone();
            let queued = pool.submit(move || {
                let _dropped = dropped;
                inner.add();
            });

            let drain = pool.shutdown(Shutdown::Drain);
            assert!(!queued.is_done(), "it is to run first");
            let tightened = pool.clone().shutdown(Shutdown::CancelQueued);
            assert!(queued.is_cancelled());
            assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1, "its closure is gone");
            let loosened = pool.shutdown(Shutdown::Drain);
            assert!(queued.is_cancelled());

            gate.open();
            let report = drain.await;
            assert_eq!((report.completed as usize, report.cancelled), (size, 1));
            assert_eq!(tightened.await, report);
            assert_eq!(loosened.await, report);
            assert!(matches!(queued.await, Err(Error::Cancelled)));
            assert_eq!(ran.get(), 0);
            drop(busy);
        }
    });
}

#[test]
fn dropping_the_future_of_a_shutdown_does_not_stop_it() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let busy = occupy(&pool, &gate);
            let mut polled = pool.shutdown(Shutdown::Drain);
            assert!(futures::poll!(&mut polled).is_pending());
            drop(polled);
            gate.open();
            busy.await.unwrap();
            threads.ended.wait_for(1);
        }
    });
}

/// A wait with a limit from outside, again and again, as in `select!`.
#[test]
fn a_shutdown_future_can_be_polled_by_changing_wakers() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let busy = occupy(&pool, &gate);
        let mut ended = pool.shutdown(Shutdown::Drain);
        for _ in 0..100 {
            let mut task = tokio_test::task::spawn(&mut ended);
            assert!(task.poll().is_pending());
        }
        let mut last = tokio_test::task::spawn(&mut ended);
        assert!(last.poll().is_pending());
        gate.open();
        busy.result().unwrap();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert!(last.is_woken());
        assert_eq!(tokio_test::assert_ready!(last.poll()).completed, 1);
    });
}

// ---- Maps ----

#[test]
fn a_map_of_a_pool_that_cancels_what_is_queued_ends_with_cancelled() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            // Its workers wait in the queue.
            let shut = pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&shut, &gate)).collect();
            let map = shut.map(|x| x, 0..10).start();
            let ended = shut.shutdown(Shutdown::CancelQueued);
            gate.open();
            ended.await;
            assert!(matches!(map.await, Err(Error::Cancelled)));
            drop(busy);

            // Its workers wait for the consumer to make room.
            let shut = pool(size);
            let mut map = shut.map(|x| x, 0..).buffer_size(1);
            assert_eq!(map.next().await.unwrap().unwrap(), 0);
            shut.shutdown(Shutdown::CancelQueued).await;
            let error = map.next().await.unwrap().unwrap_err();
            assert!(matches!(error, Error::Cancelled), "{error:?}");
            assert!(map.next().await.is_none());
        }
    });
}

/// As far as the window allows; the pool has ended by then and comes back for it.
#[test]
fn a_map_with_a_window_goes_on_after_a_shutdown_that_drains() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let mut map = pool.map(|x| x, 0..20).buffer_size(3).start();
            pool.shutdown(Shutdown::Drain).await;
            for expected in 0..20 {
                assert_eq!(map.next().await.unwrap().unwrap(), expected);
            }
            assert!(map.next().await.is_none());
            drop((map, pool));
            threads.ended.wait_for(threads.begun.get());
        }
    });
}

// ---- A deadline ----

async fn escalates(pool: &ThreadPoolExecutor, size: usize, limit: Duration) {
    let suspended = pool.submit_future(std::future::pending::<()>());
    until_quiet(pool);
    let (started, may_end) = (Counter::new(), Gate::new());
    let stuck: Vec<TaskFuture<bool>> = (0..size)
        .map(|n| {
            let job = until_stopped(&started, &may_end);
            pool.task().label(format!("stuck {n}")).submit(job)
        })
        .collect();
    started.wait_for(size);
    let ran = Counter::new();
    let count = ran.clone();
    let queued = pool.submit(move || count.add());
    let unpolled = pool.submit_future(std::future::pending::<()>());

    let report = pool.shutdown(Shutdown::Drain).deadline(limit).await;

    let withdrawn = [suspended, queued, unpolled];
    assert!(withdrawn.iter().all(TaskFuture::is_cancelled), "{withdrawn:?}");
    assert_eq!((report.cancelled, report.completed, report.queued), (3, 0, 0));
    assert_eq!(report.running.len(), size);
    for future in &stuck {
        let running = report.running.iter().find(|running| running.id == future.id()).unwrap();
        assert_eq!(running.label.as_deref(), future.label());
        assert!(running.elapsed > Duration::ZERO);
    }
    may_end.open();
    for future in stuck {
        assert!(future.await.unwrap(), "the job saw the request, and its checkpoint did");
    }
    for future in withdrawn {
        assert!(matches!(future.await, Err(Error::Cancelled)));
    }
    // The executor still ends.
    let last = pool.shutdown(Shutdown::Drain).await;
    assert_eq!((last.completed as usize, last.cancelled), (size, 3));
    assert!(last.running.is_empty());
    assert_eq!(ran.get(), 0);
}

#[test]
fn a_deadline_escalates() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            for limit in [NOW, Duration::from_millis(20)] {
                escalates(&pool(size), size, limit).await;
            }
        }
    });
}

#[test]
fn a_deadline_needs_no_runtime() {
    within_limit(|| {
        for size in POOL_SIZES {
            for limit in [NOW, Duration::from_millis(20)] {
                block_on(escalates(&pool(size), size, limit));
            }
        }
    });
}

/// A job that does not look at the request is left behind, and named.
#[test]
fn a_deadline_names_what_was_left_running() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let gate = Gate::new();
            let (started, asked) = (Gate::new(), Gate::new());
            let (inside, open, seen) = (started.clone(), gate.clone(), asked.clone());
            let deaf = pool.task().label("deaf").submit(move || {
                inside.open();
                open.wait();
                if task::stop_requested() {
                    seen.open();
                }
            });
            started.wait();
            let report = pool.shutdown(Shutdown::Drain).deadline(Duration::from_millis(5)).await;
            let [left] = &report.running[..] else { panic!("{report:?}") };
            assert_eq!(left.id, deaf.id());
            assert_eq!(left.label.as_deref(), Some("deaf"));
            assert_eq!((report.completed, report.cancelled), (0, 0));

            // As often as one likes; it is still there.
            let again = pool.shutdown(Shutdown::Drain).deadline(NOW).await;
            assert_eq!(again.running.len(), 1);
            let blocking = pool.shutdown(Shutdown::Drain).deadline(NOW).result().unwrap();
            assert_eq!(blocking.running.len(), 1);

            gate.open();
            deaf.await.unwrap();
            asked.wait();
            let last = pool.shutdown(Shutdown::Drain).await;
            assert_eq!((last.completed, last.running.len()), (1, 0));
        }
    });
}

/// A nested wait, in place and with a spare: both tasks are on a worker, both are named and asked.
#[test]
fn a_deadline_names_a_job_that_waits_for_another() {
    within_limit(|| {
        for in_place in [true, false] {
            let pool = pool(1);
            let (started, may_end) = (Counter::new(), Gate::new());
            let (handle, job) = (pool.clone(), until_stopped(&started, &may_end));
            let outer = pool.task().label("outer").submit(move || {
                let inner = handle.task().label("inner").submit(job);
                let result = if in_place { inner.result() } else { block_on(inner) };
                result.unwrap() && task::stop_requested()
            });
            started.wait_for(1);
            let report = pool.shutdown(Shutdown::Drain).deadline(NOW).result().unwrap();
            let labels: HashSet<_> =
                report.running.iter().filter_map(|task| task.label.as_deref()).collect();
            assert_eq!(labels, HashSet::from(["outer", "inner"]));
            may_end.open();
            assert!(outer.result().unwrap());
            assert_eq!(pool.shutdown_blocking(Shutdown::Drain).unwrap().completed, 2);
        }
    });
}

#[test]
fn a_deadline_that_is_not_reached_changes_nothing() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let asked = pool.submit(task::stop_requested);
            let queued: Vec<_> = (0..20).map(|n| pool.submit(move || n)).collect();
            let report = pool.shutdown(Shutdown::Drain).deadline(Duration::MAX).await;
            assert_eq!(report.cancelled, 0);
            assert!(report.running.is_empty());
            assert!(!asked.await.unwrap());
            for (n, future) in queued.into_iter().enumerate() {
                assert_eq!(future.await.unwrap(), n);
            }
        }
    });
}

#[test]
fn a_deadline_stops_a_map() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (started, may_end) = (Counter::new(), Gate::new());
            let (count, gate) = (started.clone(), may_end.clone());
            let job = move |_| until_stopped(&count, &gate)();
            let map = pool.map(job, 0..).chunk_size(1).buffer_size(3 * size).start();
            started.wait_for(size);
            let report = pool.shutdown(Shutdown::Drain).deadline(NOW).await;
            assert_eq!((report.queued, report.running.len()), (0, size));
            may_end.open();
            pool.shutdown(Shutdown::Drain).await;
            assert!(started.get() <= 3 * size, "only what the window allowed");
            drop(map);
        }
    });
}

/// The input never ends and the window does not stop it, so the shutdown must. The results have no
/// size, so that a map that is not stopped does not fill the memory.
#[test]
fn a_shutdown_that_cancels_stops_a_map_without_limits() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let awaited = pool.map(drop, 0u64..).buffer_size(usize::MAX).start();
            let mut stream = pool.map(drop, 0u64..).buffer_size(usize::MAX);
            stream.next().await.unwrap().unwrap();
            pool.shutdown(Shutdown::CancelQueued).await;
            assert!(matches!(awaited.await, Err(Error::Cancelled)));
            // What was computed is delivered first.
            let error = loop {
                if let Err(error) = stream.next().await.unwrap() {
                    break error;
                }
            };
            assert!(matches!(error, Error::Cancelled), "{error:?}");
            assert!(stream.next().await.is_none());
        }
    });
}

#[test]
fn a_deadline_stops_a_map_without_limits() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let started = Counter::new();
            let count = started.clone();
            let map = pool.map(move |_| count.add(), 0..).buffer_size(usize::MAX).start();
            started.wait_for(size);
            pool.shutdown(Shutdown::Drain).deadline(Duration::from_millis(1)).await;
            pool.shutdown(Shutdown::Drain).await;
            drop(map);
        }
    });
}

/// A future that has dropped its waker can't be woken. It must not keep the pool.
#[test]
fn an_async_task_that_can_not_be_woken_does_not_outlive_its_handles() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let dropped = CountDrops::default();
            let count = dropped.0.clone();
            let polled = Gate::new();
            let inside = polled.clone();
            let forgotten = pool.submit_future(async move {
                let _dropped = dropped;
                inside.open();
                std::future::pending::<()>().await;
            });
            polled.wait();
            until_quiet(&pool);
            forgotten.detach(); // it is suspended, and this was the last that knew of it
            pool.shutdown(Shutdown::Drain).deadline(NOW).result().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
            assert_eq!(threads.ended.get(), threads.begun.get());
        }
    });
}

/// The same with a destructor that panics: it runs on a worker, which lives on.
#[test]
fn a_panicking_destructor_of_a_task_that_can_not_be_woken_costs_no_worker() {
    struct Panics(Gate);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.open();
            panic!("in a destructor");
        }
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (started, go_on, dropped) = (Gate::new(), Gate::new(), Gate::new());
            let panics = Panics(dropped.clone());
            let (inside, open) = (started.clone(), go_on.clone());
            let forgotten = pool.submit_future(async move {
                let _panics = panics;
                inside.open();
                open.wait();
                std::future::pending::<()>().await;
            });
            started.wait();
            forgotten.detach(); // so that the worker that suspends it is the last that knows of it
            go_on.open();
            dropped.wait();
            assert_eq!(pool.submit(|| 1).result().unwrap(), 1);
            assert_eq!(pool.metrics().workers, 1);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

// ---- While somebody waits for room ----

#[test]
fn a_wait_for_room_ends_with_the_shutdown() {
    on_runtimes(|| async {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            let pool =
                ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
            let gate = Gate::new();
            let busy = occupy(&pool, &gate);
            let queued = pool.submit(|| 1);
            assert!(matches!(pool.submit(|| 2).await, Err(Error::QueueFull { capacity: 1, .. })));
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let pool = pool.clone();
                    tokio::spawn(async move { pool.reserve().await.map(drop) })
                })
                .collect();
            let mut polled = Box::pin(pool.reserve());
            assert!(futures::poll!(&mut polled).is_pending());

            let ended = pool.shutdown(how);
            // Before there is room: the gate is closed.
            assert!(matches!(polled.await, Err(Error::ShutDown)));
            for waiter in waiting {
                assert!(matches!(waiter.await.unwrap(), Err(Error::ShutDown)));
            }
            assert!(matches!(pool.submit(|| 2).await, Err(Error::ShutDown)), "not that it is full");
            gate.open();
            ended.await;
            busy.await.unwrap();
            assert_eq!(queued.await.is_ok(), how == Shutdown::Drain);
        }
    });
}

// ---- From inside ----

#[test]
fn shutdown_blocking_inside_an_own_job_is_refused_and_the_pool_stays_usable() {
    on_runtimes(|| async {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            for size in POOL_SIZES {
                let pool = pool(size);
                let refused = |result: Result<ShutdownReport, Error>| match result {
                    Err(error @ Error::WouldDeadlock) => {
                        assert!(error.to_string().contains("own pool"), "{error}");
                    }
                    other => panic!("{other:?}"),
                };

                let inner = pool.clone();
                refused(pool.submit(move || inner.shutdown_blocking(how)).await.unwrap());

                let inner = pool.clone();
                let polled = pool.submit_future(async move { inner.shutdown_blocking(how) });
                refused(polled.await.unwrap());

                let inner = pool.clone();
                let mapped = pool.map(move |_| inner.shutdown_blocking(how), 0..3);
                mapped.await.unwrap().into_iter().for_each(refused);

                // A job that runs in place on the stack of another, and one on a spare.
                let (outer, inner) = (pool.clone(), pool.clone());
                let nested = pool.submit(move || {
                    outer.submit(move || inner.shutdown_blocking(how)).result().unwrap()
                });
                refused(nested.await.unwrap());
                let (outer, inner) = (pool.clone(), pool.clone());
                let nested = pool
                    .submit(move || block_on(outer.submit(move || inner.shutdown_blocking(how))));
                refused(nested.await.unwrap().unwrap());

                // A callback runs on the worker as well.
                let gate = Gate::new();
                let busy = occupy(&pool, &gate);
                let answer = Arc::new(Mutex::new(None));
                let (inner, slot) = (pool.clone(), answer.clone());
                busy.add_done_callback(move |_| {
                    *slot.lock().unwrap() = Some(inner.shutdown_blocking(how));
                });
                gate.open();
                busy.await.unwrap();
                refused(answer.lock().unwrap().take().unwrap());

                assert_eq!(pool.submit(|| 6 * 7).await.unwrap(), 42, "it is still open");
                assert_eq!(pool.map(|x| x, 0..3).await.unwrap(), [0, 1, 2]);
                pool.shutdown(how).await;
            }
        }
    });
}

/// `shutdown(..)` is a call that begins; its future can't be waited for there.
#[test]
fn waiting_for_a_shutdown_future_inside_an_own_job_is_refused() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let inner = pool.clone();
            let future = pool.submit(move || inner.shutdown(Shutdown::Drain).result());
            assert!(matches!(future.result().unwrap(), Err(Error::WouldDeadlock)));
            assert!(matches!(pool.submit(|| ()).result(), Err(Error::ShutDown)), "it has begun");
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

#[track_caller]
fn assert_lists_itself(report: &ShutdownReport, id: task::TaskId, label: &str) {
    let itself = report.running.iter().find(|running| running.id == id);
    let itself = itself.unwrap_or_else(|| panic!("{report:?}"));
    assert_eq!(itself.label.as_deref(), Some(label));
}

#[test]
fn a_shutdown_awaited_inside_an_own_job_is_ready_at_once_and_lists_that_job() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            // In an async task.
            let shut = pool(size);
            let inner = shut.clone();
            let future = shut.task().label("async").submit_future(async move {
                let first = poll_once(inner.shutdown(Shutdown::Drain));
                assert!(first.is_ready());
                (task::id().unwrap(), inner.shutdown(Shutdown::Drain).await)
            });
            let (id, report) = future.await.unwrap();
            assert_lists_itself(&report, id, "async");
            assert_eq!(shut.shutdown(Shutdown::Drain).await.completed, 1);

            // In a plain job, by an executor that blocks.
            let shut = pool(size);
            let inner = shut.clone();
            let future = shut
                .task()
                .label("plain")
                .submit(move || (task::id().unwrap(), block_on(inner.shutdown(Shutdown::Drain))));
            let (id, report) = future.await.unwrap();
            assert_lists_itself(&report, id, "plain");
            shut.shutdown(Shutdown::Drain).await;

            // The same with the runtime that the job sees, and with a deadline far away.
            #[cfg(feature = "tokio")]
            {
                let shut = pool(size);
                let inner = shut.clone();
                let future = shut.task().label("runtime").submit(move || {
                    let ended = inner.shutdown(Shutdown::Drain).deadline(Duration::MAX);
                    (task::id().unwrap(), tokio::runtime::Handle::current().block_on(ended))
                });
                let (id, report) = future.await.unwrap();
                assert_lists_itself(&report, id, "runtime");
                shut.shutdown(Shutdown::Drain).await;
            }
        }
    });
}

/// What waits behind that job is in the report, and still runs.
#[test]
fn a_shutdown_inside_an_own_job_lists_what_is_queued() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let (inner, open) = (pool.clone(), gate.clone());
        let future = pool.submit(move || {
            open.wait();
            block_on(inner.shutdown(Shutdown::Drain))
        });
        let queued: Vec<_> = (0..5).map(|n| pool.submit(move || n)).collect();
        gate.open();
        let report = future.result().unwrap();
        assert_eq!((report.queued, report.running.len()), (5, 1));
        for (n, future) in queued.into_iter().enumerate() {
            assert_eq!(future.result().unwrap(), n);
        }
        assert_eq!(pool.shutdown_blocking(Shutdown::Drain).unwrap().completed, 6);
    });
}

#[test]
fn a_job_may_shut_another_pool_down_and_wait_for_it() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let outer = pool(size);
            let (inner, threads) = counted_pool(size);
            let queued: Vec<_> = (0..20).map(|n| inner.submit(move || n)).collect();
            let future = outer.submit(move || {
                let report = inner.shutdown_blocking(Shutdown::Drain);
                (report.unwrap(), inner.submit(|| ()).result())
            });
            let (report, late) = future.await.unwrap();
            assert!(report.running.is_empty());
            assert!(matches!(late, Err(Error::ShutDown)));
            assert_eq!(threads.ended.get(), threads.begun.get());
            for (n, future) in queued.into_iter().enumerate() {
                assert!(future.is_done());
                assert_eq!(future.await.unwrap(), n);
            }
            assert_eq!(outer.submit(|| 1).await.unwrap(), 1);
        }
    });
}

/// The waiting job lends its place: a task of the outer pool can bring about what it waits for.
#[test]
fn a_job_that_waits_for_another_pools_end_holds_no_place() {
    within_limit(|| {
        let (outer, inner) = (pool(1), pool(1));
        let gate = Gate::new();
        let busy = occupy(&inner, &gate);
        let shut = inner.clone();
        let first = outer.submit(move || shut.shutdown_blocking(Shutdown::Drain).unwrap());
        let second = outer.submit(move || gate.open());
        second.result().unwrap();
        assert_eq!(first.result().unwrap().completed, 1);
        busy.result().unwrap();
    });
}

// ---- Odd moments ----

/// A worker's last act is the drop of its thread-locals; a handle may be among them.
#[test]
fn the_last_handle_may_be_dropped_by_a_workers_thread_local() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let handle = pool.clone();
            pool.submit(move || at_thread_end(move || drop(handle))).result().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            drop(pool);
            assert_eq!(threads.ended.get(), threads.begun.get());
        }
    });
}

/// Submitters in full swing: each task is either accepted, and runs, or refused. None is lost.
#[test]
fn a_shutdown_among_busy_submitters_loses_nothing() {
    within_limit(|| {
        for size in POOL_SIZES {
            for _ in 0..scaled(20) {
                let (pool, threads) = counted_pool(size);
                let ran = Counter::new();
                let submitted = Counter::new();
                let submitters: Vec<_> = (0..3)
                    .map(|_| {
                        let (pool, ran, submitted) = (pool.clone(), ran.clone(), submitted.clone());
                        thread::spawn(move || {
                            let mut accepted = 0;
                            loop {
                                let ran = ran.clone();
                                match pool.try_submit(move || ran.add()) {
                                    Ok(future) => future.detach(),
                                    Err(refused) => {
                                        assert!(matches!(refused.error(), Error::ShutDown));
                                        return accepted;
                                    }
                                }
                                accepted += 1;
                                submitted.add();
                            }
                        })
                    })
                    .collect();
                submitted.wait_for(50);
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
                let ran_by_then = ran.get();
                let accepted: usize = submitters.into_iter().map(|s| s.join().unwrap()).sum();
                assert_eq!(ran_by_then, accepted);
                assert_eq!(threads.ended.get(), threads.begun.get());
            }
        }
    });
}

/// A spare that is one too many retires, and so may the worker that it stood in for: not both, or
/// what is submitted at that moment waits for ever.
#[test]
fn a_task_submitted_while_a_spare_retires_is_not_lost() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            for _ in 0..scaled(5_000) {
                let inner = pool.clone();
                let outer = pool.submit(move || {
                    block_on(inner.submit(|| ())).unwrap(); // takes a spare
                    inner.submit(|| 7)
                });
                let last = outer.result().unwrap();
                // Not `result`: it is the workers that must see to it.
                assert_eq!(block_on(last).unwrap(), 7);
            }
        }
    });
}

/// Polled by hand, once the end has come: no executor is needed to read the report.
#[test]
fn the_report_is_there_for_a_later_poll() {
    within_limit(|| {
        let pool = pool(1);
        let mut ended = pool.shutdown(Shutdown::Drain);
        let ready = Pin::new(&mut ended).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(ready, Poll::Ready(nothing_done()), "no thread was ever started");
    });
}

// ---- Those who wait ----

#[test]
fn a_shutdown_keeps_one_waker_for_each_future() {
    within_limit(|| {
        let (pool, gate) = (pool(1), Gate::new());
        let busy = occupy(&pool, &gate);
        let mut ends = [pool.shutdown(Shutdown::Drain), pool.shutdown(Shutdown::Drain)];
        let (kept, given_up) = wakers_kept(&mut ends[1]);
        assert_eq!(kept, 1);
        let [mut end, other] = ends;
        drop(other);
        assert_eq!(Arc::strong_count(&given_up), 1, "no waker is left of a dropped future");
        let (kept, woken) = wakers_kept(&mut end);
        assert_eq!(kept, 1);
        gate.open();
        busy.result().unwrap();
        woken.wait_for(1);
        block_on(end);
        assert_eq!((woken.get(), given_up.get()), (1, 0));
    });
}
