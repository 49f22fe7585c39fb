//! Panics of user code, wherever it runs: each is reported, the worker lives on with its thread,
//! and no other task is harmed.

use std::any::Any;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Completer, Error, InlineExecutor, Panicked, ReturnWhen, Shutdown, TaskFuture,
    ThreadPoolExecutor, as_completed, wait,
};
use futures::executor::block_on;

use crate::support::{Counter, Gate, occupy, pool, within_limit};
use crate::tools::{Bomb, BombChain, Drops, Wakes, soon};

/// Runs `mischief` on a pool of one worker, and sees that the worker outlives it, alone and on
/// the same thread, and that tasks before and after it are not harmed.
fn survived(mischief: impl FnOnce(&ThreadPoolExecutor) + Send + 'static) {
    within_limit(|| {
        let pool = pool(1);
        let worker = soon(pool.submit(|| thread::current().id())).unwrap();
        let before: Vec<_> = (0..3).map(|n| pool.submit(move || n)).collect();
        mischief(&pool);
        let after: Vec<_> = (3..6).map(|n| pool.submit(move || n)).collect();
        for (n, neighbour) in before.into_iter().chain(after).enumerate() {
            assert_eq!(soon(neighbour).unwrap(), n);
        }
        assert_eq!(soon(pool.submit(|| thread::current().id())).unwrap(), worker);
        let metrics = pool.metrics();
        assert_eq!((metrics.workers, metrics.idle), (1, 1));
        assert_eq!((metrics.queued, metrics.running), (0, 0));
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert!(report.running.is_empty());
        assert_eq!(pool.metrics().workers, 0);
    });
}

#[track_caller]
fn panicked<T>(result: Result<T, Error>) -> Panicked {
    match result {
        Err(Error::Panicked(panicked)) => *panicked,
        Err(other) => panic!("not a panic: {other:?}"),
        Ok(_) => panic!("not a panic but a value"),
    }
}

// ---- In a job ----

#[test]
fn the_message_the_place_and_the_payload_of_a_panic_reach_the_caller() {
    survived(|pool| {
        let line = line!() + 1;
        let literal = panicked::<()>(soon(pool.submit(|| panic!("a literal"))));
        assert_eq!(literal.message(), "a literal");
        let at = literal.location().unwrap();
        assert_eq!((at.file(), at.line()), (file!(), line));
        let code = include_str!("panics.rs").lines().nth(line as usize - 1).unwrap();
        assert!(code[at.column() as usize - 1..].starts_with("panic!(\"a literal\")"), "{at}");
        assert_eq!(at.to_string(), format!("{}:{line}:{}", file!(), at.column()));
        assert_eq!(literal.to_string(), format!("the job panicked at {at}: a literal"));
        assert_eq!(*literal.into_payload().downcast::<&str>().unwrap(), "a literal");

        let n = 7;
        let formatted = panicked::<()>(soon(pool.submit(move || panic!("number {n}"))));
        assert_eq!(formatted.message(), "number 7");
        assert_eq!(*formatted.into_payload().downcast::<String>().unwrap(), "number 7");

        let line = line!() + 1;
        let other = panicked::<()>(soon(pool.submit(|| panic_any(42u8))));
        assert_eq!(other.message(), "the panic's payload is not a string");
        assert_eq!(other.location().unwrap().line(), line);
        assert_eq!(*other.into_payload().downcast::<u8>().unwrap(), 42);
    });
}

#[test]
fn the_error_shows_the_panic() {
    survived(|pool| {
        let error = soon::<()>(pool.submit(|| panic!("a literal"))).unwrap_err();
        let Error::Panicked(panicked) = &error else { panic!("{error:?}") };
        assert_eq!(error.to_string(), panicked.to_string());
        let shown = format!("{error:?}");
        assert!(shown.contains("a literal") && shown.contains(file!()), "{shown}");
        // The text says it all; a chain of sources would repeat it.
        assert!(error.source().is_none());
    });
}

#[test]
fn a_panic_inside_of_std_is_placed_where_it_was_called() {
    survived(|pool| {
        let line = line!() + 1;
        let index = panicked(soon(pool.submit(|| Vec::<u8>::new()[std::hint::black_box(3)])));
        assert_eq!(index.location().unwrap().line(), line);
        assert!(index.message().contains("the len is 0 but the index is 3"), "{index}");
        let line = line!() + 1;
        let unwrap = panicked(soon(pool.submit(|| "x".parse::<u8>().unwrap())));
        assert_eq!(unwrap.location().unwrap().line(), line);
        assert_eq!(unwrap.location().unwrap().file(), file!());
    });
}

#[test]
fn resumed_unwinding_has_no_place() {
    survived(|pool| {
        let resumed = panicked::<()>(soon(pool.submit(|| resume_unwind(Box::new("resumed")))));
        assert_eq!((resumed.message(), resumed.location()), ("resumed", None));
        assert_eq!(resumed.to_string(), "the job panicked: resumed");
    });
}

#[test]
fn the_payload_can_be_raised_again() {
    survived(|pool| {
        let first = panicked::<()>(soon(pool.submit(|| panic!("passed on"))));
        let again = catch_unwind(AssertUnwindSafe(|| resume_unwind(first.into_payload())));
        assert_eq!(*again.unwrap_err().downcast::<&str>().unwrap(), "passed on");
    });
}

#[test]
fn a_panic_that_the_job_caught_itself_is_not_reported_as_its_end() {
    /// Panics and catches it while it is dropped.
    struct CatchesInDrop;

    impl Drop for CatchesInDrop {
        fn drop(&mut self) {
            let inner = catch_unwind(|| panic!("inner"));
            assert!(inner.is_err());
        }
    }

    survived(|pool| {
        let caught = soon(pool.submit(|| catch_unwind(|| panic!("inner")).is_err()));
        assert!(caught.unwrap());

        let line = line!() + 3;
        let outer = panicked::<()>(soon(pool.submit(|| {
            let _catches = CatchesInDrop;
            panic!("outer");
        })));
        assert_eq!(outer.message(), "outer");
        // Not knowing the place is allowed, a wrong one is not.
        if let Some(at) = outer.location() {
            assert_eq!(at.line(), line, "the place of another panic: {outer}");
        }
    });
}

#[test]
fn a_place_is_not_taken_from_an_earlier_panic_of_the_same_job() {
    survived(|pool| {
        let later = panicked::<()>(soon(pool.submit(|| {
            assert!(catch_unwind(|| panic!("inner")).is_err());
            resume_unwind(Box::new("later"));
        })));
        assert_eq!(later.message(), "later");
        assert_eq!(later.location(), None, "the place of another panic");
    });
}

#[test]
fn a_panic_in_a_nested_job_is_the_nested_jobs() {
    survived(|pool| {
        let inner_pool = pool.clone();
        let outer = pool.submit(move || {
            let inner = inner_pool.submit(|| panic!("inner"));
            let inner = panicked::<()>(inner.result());
            assert_eq!(inner.message(), "inner");
            panic!("outer");
        });
        let line = line!() - 2;
        let outer = panicked::<()>(soon(outer));
        assert_eq!((outer.message(), outer.location().unwrap().line()), ("outer", line));
    });
}

#[test]
fn panics_are_counted_as_failures() {
    survived(|pool| {
        for n in 1..=3 {
            assert!(soon::<()>(pool.submit(|| panic!("counted"))).is_err());
            assert_eq!(pool.metrics().failed, n);
        }
        assert_eq!(pool.metrics().cancelled, 0);
    });
}

#[test]
fn every_worker_of_a_pool_survives_many_panics() {
    within_limit(|| {
        let pool = pool(4);
        let gate = Gate::new();
        let held = crate::tools::occupy_all(&pool, &gate);
        let futures: Vec<TaskFuture<()>> =
            (0..64).map(|n| pool.submit(move || panic!("panic {n}"))).collect();
        gate.open();
        for (n, future) in futures.into_iter().enumerate() {
            assert_eq!(panicked(soon(future)).message(), format!("panic {n}"));
        }
        held.into_iter().for_each(|future| soon(future).unwrap());
        assert_eq!((pool.metrics().workers, pool.metrics().failed), (4, 64));
    });
}

// ---- In a drop ----

#[test]
fn a_closure_that_panics_when_dropped_after_its_run() {
    survived(|pool| {
        let bomb = Bomb("a capture");
        let run = panicked(soon(pool.submit(move || {
            let _bomb = &bomb;
        })));
        assert_eq!(run.message(), "a capture explodes when dropped");
        assert_eq!(pool.metrics().failed, 1);
    });
}

#[test]
fn a_closure_that_panics_when_withdrawn() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let armed = || {
            let bomb = Bomb("a withdrawn capture");
            move || drop(bomb)
        };
        let cancelled = pool.submit(armed());
        assert!(cancelled.cancel());
        assert!(matches!(soon(cancelled), Err(Error::Cancelled)));
        drop(pool.submit(armed()));
        let late = pool.task().queue_timeout(Duration::ZERO).submit(armed());
        assert!(matches!(soon(late), Err(Error::TimedOut { started: false, .. })));
        // Limits still work after one has met a panic.
        let next = pool.task().queue_timeout(Duration::from_millis(1)).submit(|| ());
        assert!(matches!(soon(next), Err(Error::TimedOut { started: false, .. })));
        assert_eq!((pool.metrics().queued, pool.metrics().cancelled), (0, 4));
        gate.open();
        soon(held).unwrap();
    });
}

#[test]
fn a_closure_that_panics_when_refused() {
    within_limit(|| {
        let full = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&full, &gate);
        let waiting = full.submit(|| 1);
        let bomb = Bomb("a refused capture");
        let refused = full.submit(move || drop(bomb));
        assert!(matches!(soon(refused), Err(Error::QueueFull { capacity: 1, .. })));
        gate.open();
        soon(held).unwrap();
        assert_eq!(soon(waiting).unwrap(), 1);

        full.shutdown_blocking(Shutdown::Drain).unwrap();
        let (bomb, other) = (Bomb("a refused capture"), Bomb("a refused body"));
        assert!(matches!(soon(full.submit(move || drop(bomb))), Err(Error::ShutDown)));
        let body = async move { drop(other) };
        assert!(matches!(soon(full.submit_future(body)), Err(Error::ShutDown)));
    });
}

#[test]
fn closures_that_panic_when_a_shutdown_withdraws_them() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let futures: Vec<_> = (0..5)
            .map(|_| {
                let bomb = Bomb("a capture at the end");
                pool.submit(move || drop(bomb))
            })
            .collect();
        let report = pool.shutdown(Shutdown::CancelQueued);
        for future in futures {
            assert!(matches!(soon(future), Err(Error::Cancelled)));
        }
        gate.open();
        soon(held).unwrap();
        assert_eq!(block_on(report).cancelled, 5);
    });
}

#[test]
fn a_payload_that_panics_when_dropped() {
    survived(|pool| {
        drop(panicked::<()>(soon(pool.submit(|| panic_any(Bomb("a payload"))))));
        // A payload whose drop panics with a payload whose drop panics, and so on.
        drop(panicked::<()>(soon(pool.submit(|| panic_any(BombChain)))));
        // Unobserved: the worker drops it.
        let (gate, started) = (Gate::new(), Gate::new());
        let (wait, inside) = (gate.clone(), started.clone());
        let unobserved = pool.submit(move || {
            inside.open();
            wait.wait();
            panic_any(BombChain)
        });
        started.wait();
        drop::<TaskFuture<()>>(unobserved);
        gate.open();
        // Given away: the caller's from then on.
        let payload = panicked::<()>(soon(pool.submit(|| panic_any(Bomb("a payload")))));
        let payload: Box<dyn Any + Send> = payload.into_payload();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(payload))).is_err());
    });
}

#[test]
fn a_result_that_panics_when_dropped_unobserved() {
    survived(|pool| {
        let armed = |gate: &Gate| {
            let gate = gate.clone();
            move || {
                gate.wait();
                Bomb("a result")
            }
        };
        // Dropped by the worker:
        let gate = Gate::new();
        pool.submit(armed(&gate)).detach();
        gate.open();
        // Dropped with its future:
        let future = pool.submit(armed(&gate));
        soon(pool.submit(|| ())).unwrap();
        assert!(future.is_done());
        drop(future);
        // Detached when it was there already:
        let future = pool.submit(armed(&gate));
        soon(pool.submit(|| ())).unwrap();
        future.detach();
        // With a callback:
        let future = pool.submit(armed(&gate));
        future.add_done_callback(|_| ());
        drop(future);
        // Too late:
        let gate = Gate::new();
        let late = pool.task().timeout(Duration::ZERO).submit(armed(&gate));
        assert!(matches!(soon(late), Err(Error::TimedOut { started: true, .. })));
        gate.open();
        // Of a promise that nobody waits for:
        let (completer, future) = TaskFuture::promise();
        assert!(future.cancel());
        completer.complete(Ok(Bomb("a result")));
        let (completer, future) = TaskFuture::promise();
        drop(future);
        completer.complete(Ok(Bomb("a result")));
    });
}

// ---- In a callback ----

#[test]
fn a_callback_that_panics_harms_nothing() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let future = pool.submit(|| 7);
        let called = Counter::new();
        for n in 0..4 {
            let called = called.clone();
            future.add_done_callback(move |result| {
                called.add();
                match n {
                    0 => panic!("a callback of {result:?}"),
                    1 => panic_any(BombChain),
                    _ => {}
                }
            });
        }
        let bomb = Bomb("a callback's capture");
        future.add_done_callback(move |_| drop(bomb));
        gate.open();
        soon(held).unwrap();
        assert_eq!(soon(future).unwrap(), 7);
        assert_eq!(called.get(), 4);
    });
}

#[test]
fn a_callback_that_panics_at_once_does_not_reach_the_caller() {
    survived(|pool| {
        let future = pool.submit(|| 7);
        soon(pool.submit(|| ())).unwrap();
        let called = Counter::new();
        let (first, second) = (called.clone(), called.clone());
        future.add_done_callback(move |_| {
            first.add();
            panic!("a late callback");
        });
        future.add_done_callback(move |_| second.add());
        assert_eq!(called.get(), 2);
        assert_eq!(soon(future).unwrap(), 7);

        let mut taken = pool.submit(|| 8);
        assert_eq!(taken.result_timeout(Duration::from_secs(60)).unwrap().unwrap(), 8);
        let third = called.clone();
        taken.add_done_callback(move |result| {
            assert!(matches!(result, Err(Error::ResultTaken)));
            third.add();
            panic!("a callback without a result");
        });
        assert_eq!(called.get(), 3);
    });
}

#[test]
fn a_callback_that_panics_in_a_cancel_does_not_reach_the_caller() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let future = pool.submit(|| 7);
        future.add_done_callback(|_| panic!("a callback of a cancelled task"));
        assert!(future.cancel());
        assert!(matches!(soon(future), Err(Error::Cancelled)));
        let (completer, promise) = TaskFuture::promise();
        promise.add_done_callback(|_| panic!("a callback of a promise"));
        completer.complete(Ok(8));
        assert_eq!(soon(promise).unwrap(), 8);
        let (completer, promise) = TaskFuture::<()>::promise();
        promise.add_done_callback(|_| panic!("a callback of a broken promise"));
        drop::<Completer<_>>(completer);
        assert!(matches!(soon(promise), Err(Error::Cancelled)));
        gate.open();
        soon(held).unwrap();
    });
}

// ---- In a waker ----

fn explode() {
    panic!("a waker");
}

#[test]
fn a_waker_that_panics_when_woken_by_a_result() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let wakes = Wakes::with_wake(explode);
        let mut future = pool.submit(|| 7);
        assert!(wakes.poll(&mut future).is_pending());
        let mut all = as_completed([pool.submit(|| 8)]);
        assert!(wakes.poll_next(&mut all).is_pending());
        let mut waiting = wait([pool.submit(|| 9)], ReturnWhen::AllCompleted);
        assert!(wakes.poll(&mut waiting).is_pending());
        gate.open();
        soon(held).unwrap();
        wakes.until_woken(3);
        assert_eq!(soon(future).unwrap(), 7);
        assert_eq!(block_on(all.next()).unwrap().1.unwrap(), 8);
        assert_eq!(block_on(waiting).done.len(), 1);
        assert_eq!((wakes.wakes(), wakes.held()), (3, 0));
    });
}

#[test]
fn a_waker_that_panics_when_woken_by_a_map() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let wakes = Wakes::with_wake(explode);
        let mut map = pool.map(|n: u32| n + 1, 0..3);
        assert!(wakes.poll_next(&mut map).is_pending());
        gate.open();
        soon(held).unwrap();
        wakes.until_woken(1);
        assert_eq!(map.result().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn a_waker_that_panics_when_woken_by_a_time_limit() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let wakes = Wakes::with_wake(explode);
        let limit = Duration::from_millis(1);
        let mut all = as_completed([pool.submit(|| 8)]).timeout(limit);
        if wakes.poll_next(&mut all).is_pending() {
            wakes.until_woken(1);
            assert!(matches!(wakes.poll_next(&mut all), Poll::Ready(Some(Err(_)))));
        }
        // The limits of others come all the same.
        let late = pool.task().queue_timeout(limit).submit(|| ());
        assert!(matches!(soon(late), Err(Error::TimedOut { .. })));
        gate.open();
        soon(held).unwrap();
    });
}

#[test]
fn a_waker_that_panics_when_woken_by_a_cancel() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let wakes = Wakes::with_wake(explode);
        let mut future = pool.submit(|| 7);
        assert!(wakes.poll(&mut future).is_pending());
        assert!(future.cancel());
        assert_eq!(wakes.wakes(), 1);
        assert!(matches!(wakes.poll(&mut future), Poll::Ready(Err(Error::Cancelled))));
        gate.open();
        soon(held).unwrap();
    });
}

#[test]
fn a_waker_that_panics_when_dropped() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let wakes = Wakes::with_drop(explode);
        let mut future = pool.submit(|| 7);
        assert!(wakes.poll(&mut future).is_pending());
        drop(future); // withdraws the task and drops the waker's clone
        assert_eq!((wakes.clones(), wakes.held()), (1, 0));
        let mut future = pool.submit(|| 8);
        assert!(wakes.poll(&mut future).is_pending());
        future.detach();
        assert_eq!((wakes.clones(), wakes.held()), (2, 0));
        gate.open();
        soon(held).unwrap();
    });
}

#[test]
fn a_replaced_waker_that_panics_when_dropped_leaves_a_future_that_works() {
    survived(|pool| {
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let (bad, good) = (Wakes::with_drop(explode), Wakes::new());
        let mut future = pool.submit(|| 7);
        assert!(bad.poll(&mut future).is_pending());
        // It is the poller's own waker, so the poller may hear of it.
        let _ = catch_unwind(AssertUnwindSafe(|| assert!(good.poll(&mut future).is_pending())));
        assert_eq!(bad.held(), 0);
        gate.open();
        soon(held).unwrap();
        good.until_woken(1);
        assert!(matches!(good.poll(&mut future), Poll::Ready(Ok(7))));
    });
}

/// A pool of one worker with one place in its queue, both taken, and the job in the queue.
fn full() -> (ThreadPoolExecutor, Gate, TaskFuture<()>, TaskFuture<i32>) {
    let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(1).build().unwrap();
    let gate = Gate::new();
    let held = occupy(&pool, &gate);
    let queued = pool.submit(|| 7);
    (pool, gate, held, queued)
}

#[test]
fn a_waker_that_panics_when_the_worker_makes_room() {
    within_limit(|| {
        let (pool, gate, held, queued) = full();
        let wakes = Wakes::with_wake(explode);
        let mut reserve = Box::pin(pool.reserve());
        assert!(wakes.poll(&mut reserve).is_pending());
        gate.open();
        soon(held).unwrap();
        assert_eq!(soon(queued).unwrap(), 7, "its worker is not harmed");
        assert_eq!(wakes.wakes(), 1);
        let permit = block_on(reserve).unwrap();
        assert_eq!(soon(permit.submit(|| 8)).unwrap(), 8);
        assert_eq!(pool.metrics().workers, 1);
    });
}

#[test]
fn a_waker_that_panics_when_a_cancel_makes_room() {
    within_limit(|| {
        let (pool, gate, _held, queued) = full();
        let wakes = Wakes::with_wake(explode);
        let mut reserve = Box::pin(pool.reserve());
        assert!(wakes.poll(&mut reserve).is_pending());
        // Whether or not the panic reaches this thread, the task must end.
        let said = catch_unwind(AssertUnwindSafe(|| queued.cancel()));
        assert!(queued.is_cancelled(), "the task has not ended");
        assert!(said.is_ok_and(|said| said), "somebody else's waker");
        gate.open();
    });
}

#[test]
fn a_waker_that_panics_when_the_pool_is_closed() {
    within_limit(|| {
        let (pool, gate, held, queued) = full();
        let wakes = Wakes::with_wake(explode);
        let other = pool.clone();
        // Others who wait, before it and after it in the line, are told all the same.
        let good = [Wakes::new(), Wakes::new()];
        let mut first = Box::pin(other.reserve());
        assert!(good[0].poll(&mut first).is_pending());
        let mut reserve = Box::pin(other.reserve());
        assert!(wakes.poll(&mut reserve).is_pending());
        let mut last = Box::pin(other.reserve());
        assert!(good[1].poll(&mut last).is_pending());
        let closed = catch_unwind(AssertUnwindSafe(|| pool.shutdown(Shutdown::CancelQueued)));
        assert!(queued.is_done(), "the task has not ended");
        assert!(matches!(soon(queued), Err(Error::Cancelled)));
        gate.open();
        soon(held).unwrap();
        let report = block_on(closed.expect("somebody else's waker"));
        assert_eq!(report.cancelled, 1);
        assert_eq!((good[0].wakes(), good[1].wakes()), (1, 1));
        assert!(matches!(block_on(first), Err(Error::ShutDown)));
        assert!(matches!(block_on(last), Err(Error::ShutDown)));
    });
}

#[test]
fn a_waker_that_panics_at_the_end_of_the_pool() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let wakes = Wakes::with_wake(explode);
        let mut first = pool.shutdown(Shutdown::Drain);
        assert!(wakes.poll(&mut first).is_pending());
        let mut second = tokio_test::task::spawn(pool.shutdown(Shutdown::Drain));
        assert!(second.poll().is_pending());
        gate.open();
        soon(held).unwrap();
        assert_eq!(block_on(second.into_inner()).completed, 1);
        wakes.until_woken(1);
        assert!(wakes.poll(&mut first).is_ready());
    });
}

// ---- In an initializer ----

#[test]
fn an_initializer_that_panics_breaks_its_pool_and_says_why() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .initializer(|| {
                if thread::current().name().is_some() {
                    panic!("no licence");
                }
            })
            .build()
            .unwrap();
        let line = line!() - 5;
        for _ in 0..2 {
            let error = soon(pool.submit(|| 7)).unwrap_err();
            let Error::BrokenPool(broken) = &error else { panic!("{error:?}") };
            let cause = broken.cause().downcast_ref::<Panicked>().unwrap();
            assert_eq!(cause.message(), "no licence");
            assert_eq!(cause.location().unwrap().line(), line);
            assert!(format!("{error:?}").contains("no licence"), "{error:?}");
        }
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((report.completed, report.queued), (0, 0));
        assert_eq!((pool.metrics().workers, pool.metrics().running), (0, 0));
    });
}

#[test]
fn an_initializer_whose_payload_panics_when_dropped_breaks_its_pool_only() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .initializer(|| -> Result<(), std::io::Error> { panic_any(BombChain) })
            .build()
            .unwrap();
        assert!(matches!(soon(pool.submit(|| 7)), Err(Error::BrokenPool(_))));
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        drop(pool);
    });
}

#[test]
fn an_initializer_that_panics_when_dropped() {
    within_limit(|| {
        let bomb = Bomb("an initializer");
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .initializer(move || {
                let _bomb = &bomb;
            })
            .build()
            .unwrap();
        assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        drop(pool); // nothing reaches the owner of the pool
    });
}

#[test]
fn a_finalizer_that_panics_when_dropped() {
    within_limit(|| {
        let bomb = Bomb("a finalizer");
        let finalizer = move || {
            let _bomb = &bomb;
        };
        let pool =
            ThreadPoolExecutor::builder().max_workers(1).finalizer(finalizer).build().unwrap();
        assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        drop(pool); // nothing reaches the owner of the pool
    });
}

// ---- In a map ----

/// An iterator over 0, 1, 2 that panics when dropped.
struct BombInput(std::ops::Range<u32>, #[expect(dead_code, reason = "dropped")] Bomb);

impl Iterator for BombInput {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0.next()
    }
}

#[test]
fn a_maps_input_that_panics_when_dropped() {
    survived(|pool| {
        let input = || BombInput(0..3, Bomb("an input"));
        // At its end:
        assert_eq!(pool.map(|n| n + 1, input()).result().unwrap(), [1, 2, 3]);
        // With its map, when nothing was taken but the first item:
        drop(pool.map(|n| n + 1, input()));
        // By a worker that has it in its hands:
        let (inside, gate) = (Gate::new(), Gate::new());
        let (tell, wait) = (inside.clone(), gate.clone());
        let held = input().inspect(move |_| {
            tell.open();
            wait.wait();
        });
        let map = pool.map(|n| n + 1, held).start();
        inside.wait();
        drop(map);
        gate.open();
    });
}

#[test]
fn a_maps_function_that_panics_when_dropped() {
    survived(|pool| {
        let function = || {
            let bomb = Bomb("a map's function");
            move |n: u32| {
                let _bomb = &bomb;
                n + 1
            }
        };
        assert_eq!(pool.map(function(), 0..3).result().unwrap(), [1, 2, 3]);
        drop(pool.map(function(), 0..3));
        let map = pool.map(function(), 0..3).unordered();
        assert_eq!(futures::executor::block_on_stream(map).count(), 3);
    });
}

#[test]
fn a_maps_context_that_panics_when_dropped() {
    survived(|pool| {
        let add = |_: &Bomb, n: u32| n + 1;
        assert_eq!(pool.map_with(Bomb("a context"), add, 0..3).result().unwrap(), [1, 2, 3]);
        drop(pool.map_with(Bomb("a context"), add, 0..3));
        // Beside a function that panics, too, when it is dropped.
        let bomb = Bomb("a map's function");
        let add = move |_: &Bomb, n: u32| {
            let _bomb = &bomb;
            n + 1
        };
        assert_eq!(pool.map_with(Bomb("a context"), add, 0..3).result().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn a_maps_function_that_panics() {
    survived(|pool| {
        let line = line!() + 1;
        let f = |n: u32| if n == 1 { panic!("item {n}") } else { n };
        let one = panicked(pool.map(f, 0..3).result());
        assert_eq!((one.message(), one.location().unwrap().line()), ("item 1", line));
        let map = pool.map(f, 0..3).chunk_size(3);
        let items: Vec<_> = futures::executor::block_on_stream(map).collect();
        assert!(matches!(items[..], [Ok(0), Err(Error::Panicked(_)), Ok(2)]), "{items:?}");
        // With a payload that panics when dropped:
        let worse = pool.map(|_| -> u32 { panic_any(BombChain) }, 0..3);
        drop(panicked(worse.result()));
    });
}

#[test]
fn a_maps_input_that_panics() {
    survived(|pool| {
        let input = || (0..3).map(|n| if n == 1 { panic!("input {n}") } else { n });
        assert_eq!(panicked(pool.map(|n| n, input()).result()).message(), "input 1");
        let items: Vec<_> = futures::executor::block_on_stream(pool.map(|n| n, input())).collect();
        assert!(matches!(items[..], [Ok(0), Err(Error::Panicked(_))]), "{items:?}");
    });
}

#[test]
fn a_maps_result_that_panics_when_dropped() {
    survived(|pool| {
        // One result at a time: two in one vector would abort in any Rust program.
        let gate = Gate::new();
        let (wait, tell) = (gate.clone(), Gate::new());
        let inside = tell.clone();
        let map = pool.map(
            move |()| {
                tell.open();
                wait.wait();
                Bomb("a map's result")
            },
            [()],
        );
        let map = map.start();
        inside.wait();
        drop(map); // the worker drops the result
        gate.open();
        soon(pool.submit(|| ())).unwrap();

        let mut finished = pool.map(|()| Bomb("a map's result"), [()]);
        let wakes = Wakes::new();
        match wakes.poll_next(&mut finished) {
            Poll::Pending => wakes.until_woken(1),
            Poll::Ready(Some(Ok(bomb))) => std::mem::forget(bomb),
            Poll::Ready(_) => unreachable!("there is one item"),
        }
        drop(finished); // this thread does
    });
}

// ---- In an async body ----

/// Ready after one wake, or never; panics when dropped.
struct BombBody {
    waits: bool,
    _bomb: Bomb,
}

impl Future for BombBody {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<u32> {
        if self.waits { Poll::Pending } else { Poll::Ready(7) }
    }
}

fn body(waits: bool) -> BombBody {
    BombBody { waits, _bomb: Bomb("an async body") }
}

/// Waits until the task behind `future` has been polled and is suspended.
fn until_suspended(pool: &ThreadPoolExecutor, future: &TaskFuture<u32>) {
    while !future.is_running() || pool.metrics().running > 0 {
        thread::yield_now();
    }
}

#[test]
fn an_async_body_that_panics_when_dropped() {
    survived(|pool| {
        // After its value:
        assert_eq!(soon(pool.submit_future(body(false))).unwrap(), 7);
        // Cancelled while it waits:
        let waiting = pool.submit_future(body(true));
        until_suspended(pool, &waiting);
        assert!(waiting.cancel());
        assert!(matches!(soon(waiting), Err(Error::Cancelled)));
        // Cancelled, and dropped, before its first poll:
        let gate = Gate::new();
        let held = occupy(pool, &gate);
        let queued = pool.submit_future(body(true));
        assert!(queued.cancel());
        drop(pool.submit_future(body(true)));
        gate.open();
        soon(held).unwrap();
        // Out of time while it waits:
        let late = pool.task().timeout(Duration::from_millis(1)).submit_future(body(true));
        assert!(matches!(soon(late), Err(Error::TimedOut { started: true, .. })));
    });
}

#[test]
fn an_async_body_that_panics_when_dropped_and_can_not_be_woken() {
    // Nobody holds its waker or its future, so it goes when its worker lets go of it.
    survived(|pool| pool.submit_future(body(true)).detach());
}

#[test]
fn an_async_body_that_panics_when_dropped_at_the_end_of_the_pool() {
    within_limit(|| {
        let pool = pool(1);
        let waiting = pool.submit_future(body(true));
        until_suspended(&pool, &waiting);
        let report = block_on(pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO));
        assert_eq!(report.cancelled, 1);
        assert!(matches!(soon(waiting), Err(Error::Cancelled)));
    });
}

#[test]
fn an_async_body_that_panics_in_a_poll() {
    survived(|pool| {
        let line = line!() + 1;
        let first = panicked::<()>(soon(pool.submit_future(async { panic!("first poll") })));
        assert_eq!((first.message(), first.location().unwrap().line()), ("first poll", line));

        let drops = Drops::new();
        let captured = drops.value();
        let second = pool.submit_future(async move {
            let _captured = captured;
            tokio::task::yield_now().await;
            panic!("second poll");
        });
        assert_eq!(panicked::<()>(soon(second)).message(), "second poll");
        assert_eq!(drops.count(), 1);

        // The drop of the body, after the panic of its poll, is a panic of its own.
        let bomb = Bomb("a body that has panicked");
        let both = pool.submit_future(poll_fn(move |_| -> Poll<()> {
            let _bomb = &bomb;
            panic!("before the drop");
        }));
        assert_eq!(panicked::<()>(soon(both)).message(), "before the drop");
        assert_eq!(pool.metrics().failed, 3);
    });
}

#[test]
fn a_body_that_awaits_a_panicked_task_gets_its_error() {
    survived(|pool| {
        let inner_pool = pool.clone();
        let outer = pool.submit_future(async move {
            panicked::<()>(inner_pool.submit(|| panic!("inner")).await).message().to_owned()
        });
        assert_eq!(soon(outer).unwrap(), "inner");
    });
}

// ---- On the inline executor ----

#[test]
fn the_inline_executor_catches_what_a_pool_catches() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let line = line!() + 1;
        let job = panicked::<()>(soon(executor.submit(|| panic!("inline"))));
        assert_eq!((job.message(), job.location().unwrap().line()), ("inline", line));
        drop(panicked::<()>(soon(executor.submit(|| panic_any(BombChain)))));
        drop(executor.submit(|| Bomb("an inline result")));
        let bomb = Bomb("an inline capture");
        assert_eq!(
            panicked(soon(executor.submit(move || drop(bomb)))).message(),
            "an inline capture explodes when dropped"
        );
        let future = executor.submit(|| 7);
        future.add_done_callback(|_| panic!("an inline callback"));
        assert_eq!(soon(future).unwrap(), 7);
        drop(executor.map(|n| n, BombInput(0..3, Bomb("an inline input"))));
        executor.shutdown_blocking(Shutdown::Drain).unwrap();
        let bomb = Bomb("a refused inline capture");
        assert!(matches!(soon(executor.submit(move || drop(bomb))), Err(Error::ShutDown)));
    });
}

#[test]
fn a_panic_is_no_ones_but_its_own_tasks() {
    within_limit(|| {
        let pool = pool(2);
        let (tell, told) = mpsc::channel();
        // Both at once, each in the other's sight.
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let (one, two) = (Arc::clone(&barrier), barrier);
        let bad = pool.submit(move || {
            one.wait();
            panic!("one of two");
        });
        let good = pool.submit(move || {
            two.wait();
            tell.send(thread::panicking()).unwrap();
            8
        });
        assert_eq!(panicked::<()>(soon(bad)).message(), "one of two");
        assert_eq!((soon(good).unwrap(), told.recv().unwrap()), (8, false));
    });
}
