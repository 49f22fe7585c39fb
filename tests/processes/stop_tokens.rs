//! Stop requests as values, in worker processes.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use concurrent_futures::{StopToken, call, task};
use futures::FutureExt;
use futures::executor::block_on;

use crate::over_pools;
use crate::tools::{Gate, Reports, assert_cancelled, occupy_all};

/// Waits for its stop request on a thread of its own.
fn told(started: Reports) -> bool {
    let token = task::stop_token();
    assert!(!token.stop_requested() && (&mut token.stopped()).now_or_never().is_none());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut stopped = token.stopped();
            assert!((&mut stopped).now_or_never().is_none());
            started.add(std::process::id());
            block_on(stopped);
        });
        waiting.join().unwrap();
        token.stop_requested() && token.checkpoint().is_err() && task::stop_requested()
    })
}

/// Looks at its token from a thread of its own.
fn sees(started: Reports) -> bool {
    let token = task::stop_token();
    started.add(std::process::id());
    thread::scope(|scope| {
        let looking = scope.spawn(|| while !token.stop_requested() {});
        looking.join().is_ok()
    })
}

#[test]
fn the_threads_of_a_task_are_told_that_it_is_cancelled() {
    over_pools(|pool| {
        for told in [told as fn(Reports) -> bool, sees] {
            for _ in 0..3 {
                let started = Reports::new();
                let future = pool.submit(concurrent_futures::Call::new(told, started.clone()));
                started.wait_for(1);
                assert!(!future.cancel());
                assert!(future.result().unwrap());
            }
        }
    });
}

static KEPT: Mutex<Vec<StopToken>> = Mutex::new(Vec::new());

/// Leaves its token, with a thread that has waited for it.
fn leaves(_: ()) -> u32 {
    let token = task::stop_token();
    assert!(token.stopped().now_or_never().is_none());
    KEPT.lock().unwrap().push(token);
    std::process::id()
}

/// The tokens of the tasks before it that are set once it is asked to stop.
fn set_with(started: Reports) -> (usize, usize) {
    told(started);
    let kept = KEPT.lock().unwrap();
    let is_set =
        |token: &&StopToken| token.stop_requested() || token.stopped().now_or_never().is_some();
    (kept.len(), kept.iter().filter(is_set).count())
}

#[test]
fn a_token_is_that_of_its_own_task_and_of_no_later_one() {
    over_pools(|pool| {
        if pool.max_workers() > 1 {
            return;
        }
        // More than there are slots, so that each is used again.
        for _ in 0..100 {
            pool.submit(call!(leaves(()))).result().unwrap();
        }
        for _ in 0..3 {
            let started = Reports::new();
            let future = pool.submit(call!(set_with(started.clone())));
            started.wait_for(1);
            future.cancel();
            assert_eq!(future.result().unwrap(), (100, 0));
        }
    });
}

fn threads(_: ()) -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_wait_leaves_no_thread_behind() {
    over_pools(|pool| {
        if pool.max_workers() > 1 {
            return;
        }
        let before = pool.submit(call!(threads(()))).result().unwrap();
        for _ in 0..20 {
            pool.submit(call!(leaves(()))).result().unwrap();
        }
        while pool.submit(call!(threads(()))).result().unwrap() > before {
            thread::yield_now();
        }
    });
}

fn deadline(_: ()) -> bool {
    task::stop_token().deadline().is_some() && task::stop_token().deadline() == task::deadline()
}

#[test]
fn a_token_knows_the_limit_of_its_task() {
    over_pools(|pool| {
        let limit = Duration::from_secs(60);
        assert!(pool.task().timeout(limit).submit(call!(deadline(()))).result().unwrap());
    });
}

fn until_stopped(started: Reports) {
    started.add(std::process::id());
    block_on(task::stop_token().stopped());
}

#[test]
fn an_item_is_told_that_its_map_was_dropped() {
    over_pools(|pool| {
        let started = Reports::new();
        let mut map = pool.map(until_stopped, [started.clone()]);
        assert!(futures::StreamExt::next(&mut map).now_or_never().is_none());
        let worker = started.wait_for(1)[0];
        drop(map);
        // The worker is free again.
        let next = pool.submit(call!(threads(())));
        assert!(next.result().is_ok() && worker > 0);
    });
}

fn until_asked(started: Reports) -> bool {
    started.add(std::process::id());
    while !task::stop_requested() {
        thread::yield_now();
    }
    true
}

#[test]
fn a_token_cancels_what_was_submitted_with_it() {
    over_pools(|pool| {
        let (source, token) = StopToken::new();
        let started = Reports::new();
        let submit = || pool.task().stop_token(&token).submit(call!(until_asked(started.clone())));
        let running: Vec<_> = (0..pool.max_workers()).map(|_| submit()).collect();
        started.wait_for(running.len());
        let queued = submit();
        source.stop();
        assert_cancelled(&queued.result());
        assert!(running.into_iter().all(|future| future.result().unwrap()));
        // Set already: neither is a call that comes later.
        assert_cancelled(&submit().result());
        let late = pool.task().stop_token(&token).try_submit(call!(until_asked(started.clone())));
        assert_cancelled(&late.unwrap().result());
        assert_eq!(started.get().len(), pool.max_workers());
    });
}

#[test]
fn a_handle_waits_for_the_end() {
    over_pools(|pool| {
        let gate = Gate::new();
        let mut held = occupy_all(pool, &gate);
        let future = held.pop().unwrap();
        let handle = future.handle();
        let waiting = thread::spawn(move || {
            block_on(handle.done());
            handle.is_done()
        });
        gate.open();
        assert!(future.result().is_ok() && waiting.join().unwrap());
    });
}
