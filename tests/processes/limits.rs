//! Room in the queue, cancelling, killing, time limits, and what a future shows.

use std::time::Duration;

use concurrent_futures::{Error, ProcessPoolExecutor, Shutdown, TaskFuture, call, task};
use futures::executor::block_on;
use rustix::process::{Pid, Signal, kill_process};

use crate::over_pools;
use crate::support::{POOL_SIZES, within_limit};
use crate::tools::{
    Gate, LONG, Reports, SHORT, assert_cancelled, assert_timed_out, builder, end, hold, occupy_all,
    own_pid, until_ended,
};

fn until_asked_to_stop(started: Reports) -> Option<u64> {
    started.add(std::process::id());
    while !task::stop_requested() {
        std::thread::yield_now();
    }
    task::id().map(|id| id.to_string().parse().unwrap())
}

fn for_ever(started: Reports) {
    started.add(std::process::id());
    loop {
        std::hint::spin_loop();
    }
}

fn shown(future: &TaskFuture<impl Sized>) -> String {
    format!("{future:?}").split("state: ").nth(1).unwrap().trim_end_matches(" }").to_owned()
}

#[test]
fn the_capacity_is_exact() {
    within_limit(|| {
        for max_workers in POOL_SIZES {
            let pool = builder(max_workers).queue_capacity(3).build().unwrap();
            let gate = Gate::new();
            let running = occupy_all(&pool, &gate);
            let queued: Vec<_> = (0..3).map(|_| pool.submit(call!(own_pid()))).collect();
            let refused = pool.try_submit(call!(own_pid())).unwrap_err();
            assert!(matches!(refused.error(), Error::QueueFull { capacity: 3, .. }));
            assert!(matches!(
                pool.submit(call!(own_pid())).result(),
                Err(Error::QueueFull { capacity: 3, .. })
            ));
            // One that is cancelled makes room for one.
            assert!(queued[1].cancel());
            let permit = block_on(pool.reserve()).unwrap();
            assert!(pool.try_submit(call!(own_pid())).is_err());
            let other = permit.submit(call!(own_pid()));
            gate.open();
            assert!(running.into_iter().all(|future| future.result().is_ok()));
            assert!(other.result().is_ok());
            end(&pool);
        }
    });
}

#[test]
fn a_future_shows_what_becomes_of_its_task() {
    over_pools(|pool| {
        let gate = Gate::new();
        let mut running = occupy_all(pool, &gate);
        let pending = pool.submit(call!(own_pid()));
        assert_eq!((shown(&running[0]), shown(&pending)), ("running".into(), "pending".into()));
        assert!(running[0].is_running() && !pending.is_running() && !pending.is_done());
        assert!(running[0].result_timeout(SHORT).is_none());
        assert!(pending.cancel() && pending.cancel());
        assert_eq!(shown(&pending), "cancelled");
        gate.open();
        let mut done = running.pop().unwrap();
        assert!(done.result_timeout(LONG).unwrap().is_ok());
        assert_eq!(shown(&done), "finished returned u32");
        assert!(!done.cancel());
    });
}

#[test]
fn a_task_that_runs_is_asked_to_stop_and_knows_its_number() {
    over_pools(|pool| {
        let started = Reports::new();
        let future = pool.submit(call!(until_asked_to_stop(started.clone())));
        started.wait_for(1);
        assert!(!future.cancel());
        let id = future.id().to_string().parse().unwrap();
        assert_eq!(future.result().unwrap(), Some(id));
    });
}

#[test]
fn dropping_a_future_withdraws_what_has_not_started_and_nothing_else() {
    over_pools(|pool| {
        let gate = Gate::new();
        let running = occupy_all(pool, &gate);
        let started = Reports::new();
        drop(pool.submit(call!(hold(started.clone(), gate.clone(), 1))));
        drop(running);
        gate.open();
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!((report.queued, report.running.len()), (0, 0));
        assert!(started.get().is_empty());
        assert_eq!(pool.metrics().completed, pool.max_workers() as u64);
    });
}

#[test]
fn a_task_that_runs_can_be_killed() {
    over_pools(|pool| {
        let started = Reports::new();
        let future = pool.submit(call!(for_ever(started.clone())));
        let worker = started.wait_for(1)[0];
        let behind = pool.submit(call!(own_pid()));
        assert!(future.kill() && future.kill());
        assert_cancelled(&future.result());
        assert_ne!(behind.result().unwrap(), worker);
        until_ended(worker);
    });
}

#[test]
fn kill_on_drop_ends_what_runs() {
    over_pools(|pool| {
        let started = Reports::new();
        let future = pool.submit(call!(for_ever(started.clone()))).kill_on_drop();
        let worker = started.wait_for(1)[0];
        drop(future);
        until_ended(worker);
        assert_ne!(pool.submit(call!(own_pid())).result().unwrap(), worker);
    });
}

#[test]
fn a_time_limit_kills_the_worker() {
    over_pools(|pool| {
        let (mut rounds, mut limit) = (0, SHORT);
        let worker = loop {
            let started = Reports::new();
            let future = pool.task().timeout(limit).submit(call!(for_ever(started.clone())));
            assert_timed_out(&future.result(), limit, true);
            rounds += 1;
            if let [worker] = started.get()[..] {
                break worker;
            }
            limit *= 2; // On a busy machine the limit may pass before the job's first line.
        };
        until_ended(worker);
        assert_eq!(pool.metrics().failed, rounds);
        assert!(pool.submit(call!(own_pid())).result().is_ok());
    });
}

#[test]
fn the_clock_of_a_time_limit_starts_with_the_task() {
    over_pools(|pool| {
        let gate = Gate::new();
        let running = occupy_all(pool, &gate);
        let future = pool.task().timeout(Duration::from_secs(20)).submit(call!(own_pid()));
        let waiting = pool.task().queue_timeout(SHORT).submit(call!(own_pid()));
        // Much later than the submission, as the limit of the other one shows.
        assert_timed_out(&waiting.result(), SHORT, false);
        gate.open();
        assert!(future.result().is_ok());
        assert!(running.into_iter().all(|future| future.result().is_ok()));
    });
}

fn deadline_is_known() -> bool {
    task::deadline().is_some_and(|at| at > std::time::Instant::now())
}

#[test]
fn a_job_knows_its_deadline() {
    over_pools(|pool| {
        assert!(!pool.submit(call!(deadline_is_known())).result().unwrap());
        assert!(pool.task().timeout(LONG).submit(call!(deadline_is_known())).result().unwrap());
    });
}

#[test]
fn an_idle_worker_ends_after_a_while_and_another_one_takes_its_place() {
    within_limit(|| {
        let pool: ProcessPoolExecutor = builder(1).idle_timeout(SHORT).build().unwrap();
        let first = pool.submit(call!(own_pid())).result().unwrap();
        until_ended(first);
        assert_ne!(pool.submit(call!(own_pid())).result().unwrap(), first);
        end(&pool);
    });
}

/// The processes of a pool, once it has so many.
fn until_pids_are(pool: &ProcessPoolExecutor, count: usize) -> Vec<u32> {
    loop {
        let mut pids = pool.worker_pids();
        if pids.len() == count {
            pids.sort_unstable();
            return pids;
        }
        std::thread::yield_now();
    }
}

#[test]
fn the_smallest_number_of_workers_is_there_without_a_task_and_comes_again() {
    within_limit(|| {
        let pool = builder(3).min_workers(2).idle_timeout(Duration::ZERO).build().unwrap();
        assert_eq!((pool.metrics().workers, pool.metrics().submitted), (2, 0));
        let first = until_pids_are(&pool, 2);
        let (gate, started) = (Gate::new(), Reports::new());
        let busy: Vec<_> =
            (0..3).map(|n| pool.submit(call!(hold(started.clone(), gate.clone(), n)))).collect();
        started.wait_for(3);
        gate.open();
        for busy in busy {
            busy.result().unwrap();
        }
        let then = until_pids_are(&pool, 2);

        let victim = Pid::from_raw(then[0] as i32).unwrap();
        kill_process(victim, Signal::KILL).unwrap();
        until_ended(then[0]);
        // Nothing is submitted for it to come.
        let now = loop {
            let now = until_pids_are(&pool, 2);
            if !now.contains(&then[0]) {
                break now;
            }
        };
        assert!(now.contains(&then[1]), "{first:?}, {then:?}, {now:?}");
        assert!(now.contains(&pool.submit(call!(own_pid())).result().unwrap()));
        assert_eq!(pool.metrics().workers_lost, 0, "no task was lost with it");
        end(&pool);
    });
}

#[test]
fn the_smallest_number_of_workers_is_none_above_the_largest() {
    match builder(2).min_workers(3).build() {
        Err(error @ Error::InvalidSetting { setting: "min_workers", .. }) => {
            assert!(error.to_string().contains("at most max_workers, which is 2"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// With a queue that has no room.
#[test]
fn a_task_is_taken_only_by_a_free_worker_and_that_is_free_again_however_the_task_ends() {
    fn value() -> u32 {
        7
    }
    fn fail() {
        panic!("fails");
    }
    fn crash() {
        std::process::abort();
    }
    fn nested() -> bool {
        let pool = concurrent_futures::ParentPool::current().unwrap();
        matches!(pool.submit(call!(value())).result(), Err(Error::QueueFull { capacity: 0, .. }))
    }
    fn free(pool: &ProcessPoolExecutor) -> usize {
        let permits = std::iter::from_fn(|| pool.try_reserve().ok());
        permits.collect::<Vec<_>>().len()
    }
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = builder(size).queue_capacity(0).build().unwrap();
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            assert_eq!(free(&pool), 0);
            assert!(matches!(pool.submit(call!(value())).result(), Err(Error::QueueFull { .. })));
            gate.open();
            held.into_iter().for_each(|task| assert!(task.result().is_ok()));
            for _ in 0..100 {
                assert_eq!(pool.submit(call!(value())).result().unwrap(), 7);
            }
            assert_eq!(free(&pool), size);
            assert!(pool.submit(call!(fail())).result().is_err());
            assert!(pool.submit(call!(crash())).result().is_err());
            assert!(pool.task().retries(1).submit(call!(crash())).result().is_err());
            let limit = Duration::from_millis(5);
            let started = Reports::new();
            let late = pool.task().timeout(limit).submit(call!(for_ever(started.clone())));
            assert!(matches!(late.result(), Err(Error::TimedOut { .. })));
            let started = Reports::new();
            let killed = pool.submit(call!(for_ever(started.clone())));
            started.wait_for(1);
            assert!(killed.kill());
            assert_eq!(free(&pool), size);
            assert_eq!(pool.submit(call!(nested())).result().unwrap(), size == 1);
            assert_eq!(free(&pool), size);
            end(&pool);
        }
    });
}
