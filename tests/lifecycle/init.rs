//! IN: CPython's `test_init.py`, and what else an initializer can do. IN-3 is for processes.

use std::cell::Cell;
use std::collections::HashSet;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::{fmt, io, thread};

use concurrent_futures::{
    Error, Executor, Panicked, Shutdown, TaskFuture, ThreadPoolExecutor, WorkerInfo, call,
};

use crate::support::{Counter, Gate, POOL_SIZES, occupy, on_runtimes, within_limit};

thread_local! {
    static SEAT: Cell<usize> = const { Cell::new(0) };
}

/// A pool whose workers are numbered from 1 by their initializer.
fn numbered(max_workers: usize) -> (ThreadPoolExecutor, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let inner = count.clone();
    let builder = ThreadPoolExecutor::builder()
        .max_workers(max_workers)
        .initializer(move || SEAT.set(inner.fetch_add(1, SeqCst) + 1));
    (builder.build().unwrap(), count)
}

/// IN-1.
#[test]
fn the_initializer_runs_once_in_each_worker_before_its_first_task() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, initialized) = numbered(size);
            assert_eq!(initialized.load(SeqCst), 0, "not before there is a task");
            let together = Arc::new(Barrier::new(size));
            let futures: Vec<_> = (0..10 * size)
                .map(|_| {
                    let together = together.clone();
                    pool.submit(move || {
                        together.wait(); // so that every worker has a part
                        SEAT.get()
                    })
                })
                .collect();
            let seen: HashSet<usize> = futures.into_iter().map(|f| f.result().unwrap()).collect();
            assert_eq!(seen, (1..=size).collect());
            assert_eq!(initialized.load(SeqCst), size);
        }
    });
}

/// IN-1.
#[test]
fn maps_and_async_tasks_see_the_effect_of_the_initializer() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, _) = numbered(size);
            let mapped = pool.map(|_| SEAT.get(), 0..20).await.unwrap();
            assert!(mapped.iter().all(|seat| (1..=size).contains(seat)), "{mapped:?}");
            let polled = pool.submit_future(async { SEAT.get() }).await.unwrap();
            assert!((1..=size).contains(&polled));
        }
    });
}

/// IN-1.
#[test]
fn a_spare_thread_is_initialized_too() {
    within_limit(|| {
        let (pool, initialized) = numbered(1);
        let inner = pool.clone();
        let seats = pool.submit(move || {
            // Waiting in a way that runs nothing in place takes a spare.
            let spare = futures::executor::block_on(inner.submit(|| SEAT.get())).unwrap();
            (SEAT.get(), spare)
        });
        assert_eq!(seats.result().unwrap(), (1, 2));
        assert_eq!(initialized.load(SeqCst), 2);
    });
}

#[derive(Clone, Debug, PartialEq)]
struct NoLicence(u32);

impl fmt::Display for NoLicence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no licence for seat {}", self.0)
    }
}

impl std::error::Error for NoLicence {}

/// A pool whose initializer fails once the gate is open.
fn doomed(max_workers: usize) -> (ThreadPoolExecutor, Gate) {
    let gate = Gate::new();
    let inner = gate.clone();
    let builder = ThreadPoolExecutor::builder().max_workers(max_workers).initializer(move || {
        inner.wait();
        Err::<(), _>(NoLicence(7))
    });
    (builder.build().unwrap(), gate)
}

#[track_caller]
fn assert_no_licence(error: Error) {
    let text = format!("{error:?}");
    assert!(text.contains("no licence for seat 7"), "{text}");
    let Error::BrokenPool(broken) = error else { panic!("{text}") };
    assert_eq!(broken.cause().downcast_ref(), Some(&NoLicence(7)));
}

/// IN-2.
#[test]
fn queued_and_later_tasks_get_the_error_of_the_initializer() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, gate) = doomed(size);
            let ran = Counter::new();
            let pending: Vec<TaskFuture<()>> = (0..50)
                .map(|_| {
                    let ran = ran.clone();
                    pool.submit(move || ran.add())
                })
                .collect();
            let polled = pool.submit_future(std::future::pending::<()>());
            let count = ran.clone();
            let map = pool.map(move |_| count.add(), 0..50).start();
            gate.open();

            for future in pending {
                assert_no_licence(future.result().unwrap_err());
            }
            assert_no_licence(polled.result().unwrap_err());
            assert_no_licence(map.result().unwrap_err());

            assert_no_licence(pool.submit(|| ()).result().unwrap_err());
            let refused = pool.try_submit(|| 5).unwrap_err();
            let (job, error) = refused.into_parts();
            assert_no_licence(error);
            assert_eq!(job(), 5);
            assert_no_licence(pool.submit_future(async {}).result().unwrap_err());
            assert_no_licence(pool.task().label("late").submit(|| ()).result().unwrap_err());
            assert_no_licence(futures::executor::block_on(pool.reserve()).unwrap_err());
            assert_no_licence(pool.map(|x| x, 0..3).result().unwrap_err());
            let as_trait = Executor::submit(&pool, call!(u32::pow(2, 3)));
            assert_no_licence(as_trait.result().unwrap_err());

            assert_eq!(ran.get(), 0, "no task ran");
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(pool.metrics().workers, 0);
            assert_no_licence(pool.submit(|| ()).result().unwrap_err());
        }
    });
}

/// IN-2.
#[test]
fn awaited_tasks_and_permits_get_the_error_of_the_initializer() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let builder = ThreadPoolExecutor::builder()
                .max_workers(size)
                .queue_capacity(2)
                .initializer(|| Err::<(), _>(NoLicence(7)));
            let pool = builder.build().unwrap();
            let permit = pool.reserve().await.unwrap();
            assert_no_licence(pool.submit(|| ()).await.unwrap_err());
            assert_no_licence(permit.submit(|| ()).await.unwrap_err());
            assert_no_licence(pool.submit(|| ()).await.unwrap_err());
            assert_no_licence(pool.reserve().await.unwrap_err());
            assert_no_licence(pool.map(|x| x, 0..3).await.unwrap_err());
            pool.shutdown(Shutdown::Drain).await;
        }
    });
}

/// IN-2.
#[test]
fn a_wait_for_room_ends_when_the_pool_breaks() {
    on_runtimes(|| async {
        let gate = Gate::new();
        let inner = gate.clone();
        let builder =
            ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).initializer(move || {
                inner.wait();
                Err::<(), _>(NoLicence(7))
            });
        let pool = builder.build().unwrap();
        let pending = pool.submit(|| ());
        let mut room = Box::pin(pool.reserve());
        assert!(futures::poll!(&mut room).is_pending());
        gate.open();
        assert_no_licence(room.await.unwrap_err());
        assert_no_licence(pending.await.unwrap_err());
    });
}

/// IN-2.
#[test]
fn a_panic_of_the_initializer_breaks_the_pool() {
    within_limit(|| {
        for size in POOL_SIZES {
            let builder = ThreadPoolExecutor::builder()
                .max_workers(size)
                .initializer(|| -> () { panic!("no device") });
            let pool = builder.build().unwrap();
            for _ in 0..3 {
                let error = pool.submit(|| ()).result().unwrap_err();
                assert!(format!("{error:?}").contains("no device"), "{error:?}");
                let Error::BrokenPool(broken) = error else { panic!("{error}") };
                let panicked = broken.cause().downcast_ref::<Panicked>().unwrap();
                assert_eq!(panicked.message(), "no device");
                assert!(panicked.location().unwrap().file().ends_with("init.rs"));
            }
        }
    });
}

/// IN-2.
#[test]
fn a_running_task_keeps_its_value_when_the_initializer_fails_in_a_later_worker() {
    within_limit(|| {
        let first = AtomicUsize::new(0);
        let builder = ThreadPoolExecutor::builder().max_workers(2).initializer(move || {
            if first.fetch_add(1, SeqCst) == 0 { Ok(()) } else { Err(NoLicence(7)) }
        });
        let pool = builder.build().unwrap();
        let gate = Gate::new();
        let running = occupy(&pool, &gate);
        // Starts the second worker.
        assert_no_licence(pool.submit(|| ()).result().unwrap_err());
        gate.open();
        running.result().unwrap();
        assert_no_licence(pool.submit(|| ()).result().unwrap_err());
    });
}

/// IN-2. The spare that a waiting job needs can't start: the wait ends, it does not hang.
#[test]
fn a_wait_inside_of_a_job_ends_when_its_spare_fails() {
    within_limit(|| {
        let first = AtomicUsize::new(0);
        let builder = ThreadPoolExecutor::builder().max_workers(1).initializer(move || {
            if first.fetch_add(1, SeqCst) == 0 { Ok(()) } else { Err(NoLicence(7)) }
        });
        let pool = builder.build().unwrap();
        let inner = pool.clone();
        let outer = pool.submit(move || futures::executor::block_on(inner.submit(|| 1)));
        assert_no_licence(outer.result().unwrap().unwrap_err());
    });
}

/// IN-4, WI-2.
#[test]
fn a_spare_that_is_not_needed_any_more_runs_the_finalizer() {
    within_limit(|| {
        let (ends, gate) = (Counter::new(), Gate::new());
        let (inner, closed) = (ends.clone(), gate.clone());
        let builder = ThreadPoolExecutor::builder().max_workers(1).finalizer(move || {
            inner.add();
            closed.wait();
        });
        let pool = builder.build().unwrap();
        let index = || WorkerInfo::current().unwrap().index();
        // A task whose end needs a spare; one of the two workers is one too many after it.
        let needs_spare = || {
            let (completer, awaited) = TaskFuture::promise();
            let waits = pool.submit(move || (index(), awaited.result().unwrap()));
            pool.submit(move || completer.complete(Ok(index()))).detach();
            waits.result().unwrap()
        };
        let (first, spare) = needs_spare();
        assert_eq!((first, spare), (0, 1));
        ends.wait_for(1);
        // While it runs, it keeps its index.
        let (first, spare) = needs_spare();
        assert!(first < 2 && spare == 2, "{first}, {spare}");
        ends.wait_for(2);
        gate.open();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(ends.get(), 3);
    });
}

#[test]
fn an_initializer_may_return_nothing_or_any_error() {
    within_limit(|| {
        let build = ThreadPoolExecutor::builder;
        build().initializer(|| ()).build().unwrap().submit(|| ()).result().unwrap();
        build()
            .initializer(|| Ok::<_, NoLicence>(()))
            .build()
            .unwrap()
            .submit(|| ())
            .result()
            .unwrap();
        let by_text = build().initializer(|| Err::<(), _>("by text")).build().unwrap();
        let error = by_text.submit(|| ()).result().unwrap_err();
        assert!(format!("{error:?}").contains("by text"), "{error:?}");
        let by_box = build()
            .initializer(|| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
                Err(io::Error::other(NoLicence(7)))?;
                Ok(())
            })
            .build()
            .unwrap();
        let Err(Error::BrokenPool(broken)) = by_box.submit(|| ()).result() else { panic!() };
        let source = broken.cause().downcast_ref::<io::Error>().unwrap();
        assert!(source.get_ref().is_some_and(|inner| inner.is::<NoLicence>()));
        assert!(source.source().is_none(), "io::Error shows its inner error itself");
    });
}

/// It runs on a worker, which can't wait for its own end.
#[test]
fn shutdown_blocking_in_the_initializer_is_refused() {
    within_limit(|| {
        let handle = Arc::new(std::sync::OnceLock::<ThreadPoolExecutor>::new());
        let (answer, answers) = std::sync::mpsc::channel();
        let inner = Arc::downgrade(&handle); // else the pool would keep itself
        let builder = ThreadPoolExecutor::builder().max_workers(1).initializer(move || {
            let handle = inner.upgrade().unwrap();
            while handle.get().is_none() {
                thread::yield_now();
            }
            let pool = handle.get().unwrap();
            let _ = answer.send(pool.shutdown_blocking(Shutdown::Drain));
        });
        let pool = builder.build().unwrap();
        handle.set(pool.clone()).unwrap();
        let future = pool.submit(|| 1);
        assert!(matches!(answers.recv().unwrap(), Err(Error::WouldDeadlock)));
        assert_eq!(future.result().unwrap(), 1);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}
