//! Workers that a signal has stopped.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use concurrent_futures::{ProcessPoolExecutor, Shutdown, call};
use rustix::process::{Pid, Signal, kill_process};

use crate::deaths::square;
use crate::support::{Counter, within_limit};
use crate::tools::{
    Gate, Reports, SHORT, assert_timed_out, builder, end, family, hold, lost, occupy, occupy_all,
    own_pid, pool,
};
use crate::watch::{Watched, assert_ended_soon, signal};

/// Waits until the dump shows as many stopped workers.
fn until_stopped(pool: &ProcessPoolExecutor, count: usize) {
    while pool.dump().workers.iter().filter(|worker| worker.is_stopped).count() != count {
        std::thread::yield_now();
    }
}

/// Stops an idle worker, and waits until the pool knows.
fn stop_idle(pool: &ProcessPoolExecutor) -> u32 {
    let worker = pool.submit(call!(own_pid())).result().unwrap();
    signal(worker, Signal::STOP);
    until_stopped(pool, 1);
    worker
}

#[test]
fn a_stopped_worker_is_in_the_dump() {
    within_limit(|| {
        let pool = pool(2);
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let worker = pool.worker_pids()[0];
        signal(worker, Signal::STOP);
        until_stopped(&pool, 1);
        let dump = pool.dump();
        let stopped = dump.workers.iter().find(|worker| worker.is_stopped).unwrap();
        assert_eq!((stopped.pid, stopped.tasks.len()), (Some(worker), 1));
        assert!(dump.to_string().contains(&format!("process {worker}, stopped by a signal: task")));
        signal(worker, Signal::CONT);
        until_stopped(&pool, 0);
        gate.open();
        held.into_iter().for_each(|held| assert_eq!(held.result().unwrap(), 42));
        end(&pool);
    });
}

/// Whether the pool knows by then that the worker is stopped, or has sent the task to it.
#[test]
fn others_do_what_a_stopped_worker_has_not_begun() {
    within_limit(|| {
        for is_known in [true, false] {
            let pool = pool(1);
            let worker = pool.submit(call!(own_pid())).result().unwrap();
            signal(worker, Signal::STOP);
            if is_known {
                until_stopped(&pool, 1);
            }
            for n in 0..20 {
                assert_eq!(pool.submit(call!(square(n))).result().unwrap(), n * n);
            }
            assert_ne!(pool.submit(call!(own_pid())).result().unwrap(), worker);
            // There is one worker again once it goes on.
            signal(worker, Signal::CONT);
            while pool.metrics().workers > 1 {
                drop(pool.submit(call!(square(1))).result());
            }
            end(&pool);
        }
    });
}

/// Another worker does what is queued, so that there is room.
#[test]
fn a_waker_that_gets_room_when_a_worker_is_stopped_may_wait_for_a_task() {
    struct Waits(ProcessPoolExecutor, Counter);

    impl Wake for Waits {
        fn wake(self: Arc<Self>) {
            assert_eq!(self.0.submit(call!(square(3))).result().unwrap(), 9);
            self.1.add();
        }
    }

    within_limit(|| {
        let (pool, other) = (builder(1).queue_capacity(1).build().unwrap(), pool(1));
        let (gate, woken) = (Gate::new(), Counter::new());
        let held = occupy(&pool, &gate);
        let queued = pool.submit(call!(square(2)));
        let waker = Waker::from(Arc::new(Waits(other.clone(), woken.clone())));
        let mut reserved = pin!(pool.reserve());
        assert!(reserved.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let worker = pool.worker_pids()[0];
        signal(worker, Signal::STOP);
        woken.wait_for(1);
        assert_eq!(queued.result().unwrap(), 4);
        signal(worker, Signal::CONT);
        gate.open();
        assert_eq!(held.result().unwrap(), worker);
        assert!(reserved.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        end(&pool);
        end(&other);
    });
}

#[test]
fn a_time_limit_ends_a_task_whose_worker_is_stopped() {
    within_limit(|| {
        let pool = pool(1);
        let (started, gate) = (Reports::new(), Gate::new());
        let task = pool.task().timeout(SHORT);
        let future = task.submit(call!(hold(started.clone(), gate.clone(), 0)));
        let worker = i32::try_from(started.wait_for(1)[0]).ok().and_then(Pid::from_raw).unwrap();
        let _ = kill_process(worker, Signal::STOP); // It may have been killed by now.
        assert_timed_out(&future.result(), SHORT, true);
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        end(&pool);
    });
}

#[test]
fn a_pool_ends_though_an_idle_worker_is_stopped() {
    within_limit(|| {
        let pool = pool(2);
        stop_idle(&pool);
        end(&pool);
    });
}

#[test]
fn a_shutdown_s_deadline_names_the_task_of_a_stopped_worker() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let worker = pool.worker_pids()[0];
        signal(worker, Signal::STOP);
        until_stopped(&pool, 1);
        let report = pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO).result().unwrap();
        assert_eq!(report.running.len(), 1);
        assert_eq!(report.running[0].id, held.id());
        let all = Watched::all(&family(&pool));
        pool.kill_workers().result().unwrap();
        assert_eq!(lost(held.result()).pid, worker);
        assert_ended_soon(&all);
    });
}

/// SIGTERM waits for a stopped process, so the grace period has to pass.
#[test]
fn workers_that_are_stopped_are_terminated_after_the_grace_period() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        signal(pool.worker_pids()[0], Signal::STOP);
        pool.terminate_workers(SHORT).result().unwrap();
        drop(lost(held.result()));
    });
}
