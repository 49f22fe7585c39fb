//! Stop requests as values: those of jobs, seen from threads that work for them, and those of the program.

use std::future::pending;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, InlineExecutor, Shutdown, StopToken, Stopped, TaskFuture, ThreadPoolExecutor, task,
};
use futures::FutureExt;
use futures::executor::block_on;
use futures::future::FusedFuture;

use crate::support::{Gate, POOL_SIZES, pool, within_limit};
use crate::tools::{Drops, Wakes, soon};

/// A job that hands out its token and its own view once a thread of its own has been told to stop.
fn told(tokens: mpsc::Sender<StopToken>) -> (bool, Result<(), Error>) {
    let token = task::stop_token();
    thread::scope(|scope| {
        let waiting = token.clone();
        let polls = [waiting.stopped(), waiting.stopped()];
        // Both wait, one of them on a thread that looks as well.
        let thread = scope.spawn(move || {
            let [one, other] = polls;
            block_on(async { futures::join!(one, other) });
            (waiting.stop_requested(), waiting.checkpoint())
        });
        tokens.send(token.clone()).unwrap();
        let (is_requested, checkpoint) = thread.join().unwrap();
        assert!(is_requested && task::stop_requested() && token.stop_requested());
        (is_requested, checkpoint)
    })
}

#[test]
fn the_threads_of_a_job_are_told_that_it_is_cancelled() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (sender, tokens) = mpsc::channel();
            let future = pool.submit(move || told(sender));
            let token = tokens.recv().unwrap();
            assert!(!token.stop_requested() && token.checkpoint().is_ok());
            assert_eq!(token.deadline(), None);
            assert!(!future.cancel());
            assert!(token.stop_requested(), "at once");
            let (_, checkpoint) = soon(future).unwrap();
            assert!(matches!(checkpoint, Err(Error::Cancelled)));
        }
    });
}

#[test]
fn the_threads_of_a_job_are_told_that_its_time_is_up() {
    within_limit(|| {
        let pool = pool(1);
        let (sender, tokens) = mpsc::channel();
        let (tell, checkpoints) = mpsc::channel();
        let limit = Duration::from_millis(20);
        let future = pool.task().timeout(limit).submit(move || {
            assert_eq!(task::stop_token().deadline(), task::deadline());
            tell.send(told(sender).1).unwrap();
        });
        let token = tokens.recv().unwrap();
        assert!(token.deadline().is_some());
        assert!(matches!(soon(future), Err(Error::TimedOut { started: true, .. })));
        let checkpoint = checkpoints.recv().unwrap();
        assert!(
            matches!(checkpoint, Err(Error::TimedOut { limit: of, started: true, .. }) if of == limit)
        );
    });
}

#[test]
fn the_threads_of_an_item_are_told_that_its_map_was_dropped() {
    within_limit(|| {
        let pool = pool(2);
        let (sender, tokens) = mpsc::channel();
        let (tell, checkpoints) = mpsc::channel();
        let job = move |_: u8| tell.send(told(sender.clone()).1).unwrap();
        let mut map = pool.map(job, [1]);
        assert!(map.next().now_or_never().is_none());
        let token = tokens.recv().unwrap();
        drop(map);
        block_on(token.stopped());
        assert!(matches!(checkpoints.recv().unwrap(), Err(Error::Cancelled)));
    });
}

#[test]
fn the_threads_of_a_job_are_told_of_the_deadline_of_a_shutdown() {
    within_limit(|| {
        let pool = pool(1);
        let (sender, tokens) = mpsc::channel();
        let future = pool.submit(move || told(sender));
        let token = tokens.recv().unwrap();
        let report = pool.shutdown(Shutdown::Drain).deadline(Duration::from_millis(1)).result();
        assert!(report.is_ok() && token.stop_requested());
        assert!(matches!(soon(future), Ok((true, Err(Error::Cancelled)))));
    });
}

#[test]
fn an_async_task_has_a_token() {
    within_limit(|| {
        let pool = pool(1);
        let (sender, tokens) = mpsc::channel();
        let future = pool.submit_future(async move {
            sender.send(task::stop_token()).unwrap();
            pending::<()>().await;
        });
        let token = tokens.recv().unwrap();
        let waiting = thread::spawn({
            let token = token.clone();
            move || block_on(token.stopped())
        });
        assert!(!token.stop_requested());
        future.cancel();
        waiting.join().unwrap();
        assert!(token.stop_requested());
        assert!(matches!(soon(future), Err(Error::Cancelled)));
    });
}

#[test]
fn a_token_that_an_async_body_has_does_not_keep_the_body() {
    within_limit(|| {
        let pool = pool(1);
        let (started, drops) = (Gate::new(), Drops::new());
        let (inside, value) = (started.clone(), drops.value());
        let future = pool.submit_future(async move {
            let (_token, _value) = (task::stop_token(), value);
            inside.open();
            pending::<()>().await; // nothing can wake it
        });
        started.wait();
        drop(future);
        drops.wait_for(1);
    });
}

#[test]
fn a_token_is_that_of_its_own_job_and_of_no_later_one() {
    within_limit(|| {
        let pool = pool(1);
        let kept = soon(pool.submit(task::stop_token)).unwrap();
        let mut waits = kept.stopped();
        let (sender, tokens) = mpsc::channel();
        let second = pool.submit(move || told(sender));
        tokens.recv().unwrap();
        second.cancel();
        assert!(soon(second).is_ok());
        assert!(!kept.stop_requested() && (&mut waits).now_or_never().is_none());
        // Nor is a later job stopped by what its worker did before.
        let third = soon(pool.submit(|| (task::stop_requested(), task::stop_token())));
        assert!(matches!(third, Ok((false, token)) if !token.stop_requested()));
        drop(pool);
        assert!(!kept.stop_requested());
    });
}

#[test]
fn a_token_is_made_while_its_job_is_cancelled() {
    within_limit(|| {
        let pool = pool(1);
        for round in 0..200 {
            let (started, running) = mpsc::channel();
            let future = pool.submit(move || {
                started.send(()).unwrap();
                for _ in 0..round * 10 {
                    std::hint::spin_loop();
                }
                block_on(task::stop_token().stopped());
            });
            running.recv().unwrap();
            future.cancel();
            soon(future).unwrap();
        }
    });
}

#[test]
fn outside_of_a_job_a_token_is_never_set() {
    let inline = InlineExecutor::new();
    let tokens = [task::stop_token(), inline.submit(task::stop_token).result().unwrap()];
    for token in tokens {
        assert!(!token.stop_requested() && token.checkpoint().is_ok());
        assert!(token.deadline().is_none() && token.stopped().now_or_never().is_none());
    }
    within_limit(|| {
        // An inline job inside of a job is a part of that.
        let pool = pool(1);
        let (sender, tokens) = mpsc::channel();
        let future =
            pool.submit(move || InlineExecutor::new().submit(move || told(sender)).result());
        tokens.recv().unwrap();
        future.cancel();
        assert!(matches!(soon(future).unwrap(), Ok((true, Err(Error::Cancelled)))));
    });
}

#[test]
fn a_source_sets_its_tokens_and_wakes_all_who_wait() {
    within_limit(|| {
        let (source, token) = StopToken::new();
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let token = token.clone();
                thread::spawn(move || block_on(token.stopped()))
            })
            .collect();
        assert!(!source.stop_requested() && !token.stop_requested());
        source.clone().stop();
        source.stop();
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(source.stop_requested() && token.stop_requested());
        assert!(matches!(token.checkpoint(), Err(Error::Cancelled)));
        assert!(token.stopped().now_or_never().is_some());
    });
}

#[test]
fn a_source_that_is_dropped_sets_nothing() {
    let (source, token) = StopToken::new();
    let mut stopped = token.stopped();
    assert!((&mut stopped).now_or_never().is_none());
    drop(source);
    assert!(!token.stop_requested() && (&mut stopped).now_or_never().is_none());
}

#[test]
fn a_wait_that_is_dropped_leaves_nothing_behind() {
    let (source, token) = StopToken::new();
    let wakes = Wakes::new();
    let mut stays = token.stopped();
    assert!(wakes.poll(&mut stays).is_pending());
    for _ in 0..3 {
        let mut goes = token.stopped();
        assert!(wakes.poll(&mut goes).is_pending() && wakes.poll(&mut goes).is_pending());
        drop(goes);
        assert_eq!(wakes.held(), 1);
    }
    source.stop();
    assert_eq!((wakes.wakes(), wakes.held()), (1, 0));
    assert!(!stays.is_terminated());
    assert!(wakes.poll(&mut stays).is_ready() && stays.is_terminated());
}

#[test]
fn a_waker_that_cancels_again_finds_no_lock() {
    within_limit(|| {
        let pool = pool(1);
        let (sender, tokens) = mpsc::channel();
        let future = Arc::new(pool.submit(move || told(sender)));
        let token = tokens.recv().unwrap();
        let again = Again(future.clone());
        let waker = Arc::new(again).into();
        let mut stopped = token.stopped();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(stopped.poll_unpin(&mut cx).is_pending());
        future.cancel();
        drop((stopped, waker));
        let future = Arc::into_inner(future).expect("the waker was dropped");
        assert!(soon(future).is_ok());
    });
}

struct Again<T>(Arc<TaskFuture<T>>);

impl<T: 'static> std::task::Wake for Again<T> {
    fn wake(self: Arc<Self>) {
        self.0.cancel();
    }
}

#[test]
fn a_job_that_waits_for_its_stop_lends_its_worker_out() {
    within_limit(|| {
        let pool: ThreadPoolExecutor = pool(1);
        let (sender, waits) = mpsc::channel();
        let future = pool.submit(move || {
            sender.send(()).unwrap();
            let stopped: Stopped = task::stop_token().stopped();
            block_on(stopped);
        });
        waits.recv().unwrap();
        // The only worker is blocked.
        assert_eq!(soon(pool.submit(|| 7)).unwrap(), 7);
        future.cancel();
        soon(future).unwrap();
    });
}

#[test]
fn a_token_cancels_what_was_submitted_with_it() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let (source, token) = StopToken::new();
            let (sender, started) = mpsc::channel();
            let running: Vec<_> = (0..workers)
                .map(|_| {
                    let sender = sender.clone();
                    pool.task().stop_token(&token).submit(move || {
                        sender.send(()).unwrap();
                        while !task::stop_requested() {}
                        7
                    })
                })
                .collect();
            running.iter().for_each(|_| started.recv().unwrap());
            let drops = Drops::new();
            let queued: Vec<_> = (0..5)
                .map(|n| {
                    let (value, task) = (drops.value(), pool.task().stop_token(&token));
                    match n {
                        0 => task.submit_future(async move { drop(value) }),
                        1 => task.try_submit(move || drop(value)).unwrap(),
                        _ => task.submit(move || drop(value)),
                    }
                })
                .collect();
            let other = pool.submit(|| 8);
            source.stop();
            drops.assert_here(5);
            for future in queued {
                assert!(future.is_cancelled() && matches!(soon(future), Err(Error::Cancelled)));
            }
            assert!(running.into_iter().all(|future| soon(future).unwrap() == 7));
            assert_eq!(soon(other).unwrap(), 8);
            let metrics = pool.metrics();
            assert_eq!((metrics.cancelled, metrics.completed), (5, workers as u64 + 1));
        }
    });
}

#[test]
fn nothing_is_submitted_with_a_token_that_is_set() {
    within_limit(|| {
        let pool = pool(1);
        let (source, token) = StopToken::new();
        source.stop();
        let drops = Drops::new();
        let values = [drops.value(), drops.value(), drops.value()];
        let [one, other, third] = values;
        let futures = [
            pool.task().stop_token(&token).submit(move || drop(one)),
            pool.task().stop_token(&token).try_submit(move || drop(other)).unwrap(),
            pool.task().stop_token(&token).submit_future(async move { drop(third) }),
        ];
        drops.assert_here(3);
        assert!(futures.into_iter().all(|future| matches!(soon(future), Err(Error::Cancelled))));
        assert_eq!(pool.metrics().submitted, 0);
    });
}

#[test]
fn what_a_job_submits_with_its_own_token_is_cancelled_with_it() {
    within_limit(|| {
        let pool = pool(2);
        let (sender, started) = mpsc::channel();
        let inside = pool.clone();
        let outer = pool.submit(move || {
            let token = task::stop_token();
            let inner = inside.task().stop_token(&token).submit(move || {
                sender.send(()).unwrap();
                while !task::stop_requested() {}
            });
            inner.result()
        });
        started.recv().unwrap();
        outer.cancel();
        assert!(soon(outer).unwrap().is_ok());
    });
}

#[test]
fn a_task_is_stopped_while_it_is_submitted_and_while_it_ends() {
    within_limit(|| {
        let pool = pool(2);
        for round in 0..200_u32 {
            let (source, token) = StopToken::new();
            let stopping = thread::spawn(move || {
                (0..round * 5).for_each(|_| std::hint::spin_loop());
                source.stop();
            });
            let tasks: Vec<_> = (0..4)
                .map(|n| {
                    pool.task().stop_token(&token).submit(move || {
                        // One in four runs until it is stopped.
                        while n == 3 && !task::stop_requested() {}
                        n
                    })
                })
                .collect();
            for (n, future) in tasks.into_iter().enumerate() {
                match soon(future) {
                    Ok(value) => assert_eq!(value, n),
                    Err(error) => assert!(matches!(error, Error::Cancelled)),
                }
            }
            stopping.join().unwrap();
        }
    });
}
