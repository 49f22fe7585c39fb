//! What a dump shows of a pool whose state is known.

use std::sync::mpsc;
use std::time::Duration;

use concurrent_futures::dump::{Awaited, Dump};
use concurrent_futures::{
    ExecutorState, ReturnWhen, Shutdown, TaskFuture, ThreadPoolExecutor, as_completed, task, wait,
};
use futures::FutureExt;
use futures::executor::block_on;

use crate::support::{Counter, Gate, POOL_SIZES, pool, scaled, within_limit};
use crate::tools::{eventually, occupy_all, soon};

/// The only task of the only worker.
#[track_caller]
fn only(dump: &Dump) -> &concurrent_futures::dump::Running {
    assert_eq!((dump.workers.len(), dump.workers[0].tasks.len()), (1, 1), "{dump}");
    &dump.workers[0].tasks[0]
}

#[test]
fn a_pool_that_has_done_nothing_has_nothing_to_show() {
    within_limit(|| {
        let pool = ThreadPoolExecutor::builder()
            .max_workers(2)
            .name("render")
            .queue_capacity(5)
            .build()
            .unwrap();
        let dump = pool.dump();
        assert_eq!((dump.pool.as_str(), dump.max_workers, dump.spares()), ("render", 2, 0));
        assert!(dump.workers.is_empty() && dump.suspended.is_empty());
        assert_eq!((dump.queue.count, dump.queue.capacity, dump.queue.oldest), (0, Some(5), None));
        assert!(matches!(dump.state, ExecutorState::Open));
    });
}

#[test]
fn running_and_queued_tasks_are_named() {
    within_limit(|| {
        for workers in POOL_SIZES {
            let pool = pool(workers);
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let label = |n: usize| if n % 3 == 0 { "third" } else { "other" };
            let queued: Vec<_> =
                (0..30).map(|n| pool.task().label(label(n)).submit(move || n)).collect();
            let plain = pool.submit(|| 0);
            let dump = pool.dump();
            let mut running: Vec<_> =
                dump.workers.iter().map(|worker| worker.tasks[0].id).collect();
            running.sort();
            assert_eq!(running, held.iter().map(TaskFuture::id).collect::<Vec<_>>());
            for worker in &dump.workers {
                let task = &worker.tasks[0];
                assert_eq!((worker.tasks.len(), task.attempt), (1, 1));
                assert!(!task.stop_requested && task.waits_for.is_empty() && !worker.is_leaving);
            }
            let queue = &dump.queue;
            assert_eq!((queue.count, queue.looked_at, queue.next.len()), (31, 31, 10));
            let next: Vec<_> = queue.next.iter().map(|task| task.id).collect();
            assert_eq!(next, queued[..10].iter().map(TaskFuture::id).collect::<Vec<_>>());
            assert_eq!(queue.oldest, queue.next.first().map(|task| task.elapsed));
            let labels: Vec<_> =
                queue.labels.iter().map(|(label, count)| (label.as_deref(), *count)).collect();
            assert_eq!(labels, [(Some("other"), 20), (Some("third"), 10), (None, 1)]);
            let text = dump.to_string();
            assert!(text.contains("queued: 31 tasks, the oldest for "), "{text}");
            assert!(text.contains("  and 21 more tasks\n"), "{text}");
            gate.open();
            drop(queued);
            soon(plain).unwrap();
        }
    });
}

/// Quick tasks are taken ahead by the workers; they are in the queue all the same.
#[test]
fn what_a_worker_has_taken_ahead_counts_as_queued() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let before = occupy_all(&pool, &gate);
        // So many that the worker counts as one with quick tasks, when it comes to the next.
        let quick: Vec<_> = (0..500).map(|n| pool.submit(move || n)).collect();
        let (started, running) = mpsc::channel();
        let next = Gate::new();
        let open = next.clone();
        let first = pool.submit(move || {
            started.send(()).unwrap();
            open.wait();
        });
        let rest: Vec<_> = (0..100).map(|n| pool.submit(move || n)).collect();
        gate.open();
        running.recv().unwrap();
        let dump = pool.dump();
        assert_eq!(only(&dump).id, first.id());
        assert_eq!((dump.queue.count, dump.queue.looked_at), (100, 100));
        assert_eq!(dump.queue.next[0].id, rest[0].id());
        next.open();
        let values: Vec<_> = rest.into_iter().map(|future| soon(future).unwrap()).collect();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
        drop(quick);
        before.into_iter().for_each(|future| soon(future).unwrap());
    });
}

#[test]
fn a_task_that_stop_requested_is_shown_so_until_it_ends() {
    within_limit(|| {
        let pool = pool(1);
        for way in 0..3 {
            let (started, running) = mpsc::channel();
            let gate = Gate::new();
            let wait = gate.clone();
            let limit = if way == 1 { Duration::ZERO } else { Duration::from_secs(3600) };
            let label = if way == 2 { None } else { Some("slow") };
            let job = move || {
                started.send(()).unwrap();
                wait.wait();
                task::stop_requested()
            };
            let future = match label {
                Some(label) => pool.task().label(label).timeout(limit).submit(job),
                None => pool.submit(job),
            };
            running.recv().unwrap();
            match way {
                1 => eventually(|| future.is_done()), // out of time
                _ => {
                    assert!(!only(&pool.dump()).stop_requested);
                    assert!(!future.cancel());
                }
            }
            let dump = pool.dump();
            assert!(only(&dump).stop_requested, "{dump}");
            assert_eq!(only(&dump).label.as_deref(), label);
            gate.open();
            let next = pool.submit(|| ());
            soon(next).unwrap();
        }
        // Nothing is left of those that have ended.
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        assert!(!only(&pool.dump()).stop_requested);
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
    });
}

/// A job that waits: in which way, and what for.
fn waiting(
    pool: &ThreadPoolExecutor,
    way: impl FnOnce() + Send + 'static,
) -> (TaskFuture<()>, Dump) {
    let job = pool.submit(way);
    let id = job.id();
    let waits = |dump: &Dump| {
        let mut tasks = dump.workers.iter().flat_map(|worker| &worker.tasks);
        tasks.any(|task| task.id == id && !task.waits_for.is_empty())
    };
    eventually(|| waits(&pool.dump()));
    (job, pool.dump())
}

#[test]
fn who_waits_for_whom() {
    within_limit(|| {
        let pool = pool(1);
        let promise = TaskFuture::<()>::promise;

        let (end, future) = promise();
        let id = future.id();
        let (job, dump) = waiting(&pool, move || soon(future).unwrap());
        assert_eq!(only(&dump).waits_for, [Awaited::Task(id)]);
        assert!(dump.to_string().contains(&format!("waits for task {id}\n")), "{dump}");
        end.complete(Ok(()));
        soon(job).unwrap();

        // Of futures that are awaited together all are named.
        let (ends, futures): (Vec<_>, Vec<_>) = (0..3).map(|_| promise()).unzip();
        let ids: Vec<_> = futures.iter().map(|future| Awaited::Task(future.id())).collect();
        let (job, dump) = waiting(&pool, move || {
            block_on(futures::future::join_all(futures)).into_iter().for_each(|end| end.unwrap());
        });
        assert_eq!(only(&dump).waits_for[0], ids[0]);
        eventually(|| only(&pool.dump()).waits_for == ids);
        let mut ends = ends.into_iter();
        ends.next().unwrap().complete(Ok(()));
        eventually(|| only(&pool.dump()).waits_for == ids[1..]);
        ends.for_each(|end| end.complete(Ok(())));
        soon(job).unwrap();

        // Sets, and the end of an executor.
        let (end, future) = promise();
        let (job, dump) =
            waiting(&pool, move || drop(wait([future], ReturnWhen::AllCompleted).result()));
        assert_eq!(only(&dump).waits_for, [Awaited::Set(1)]);
        end.complete(Ok(()));
        soon(job).unwrap();

        let (ends, futures): (Vec<_>, Vec<_>) = (0..3).map(|_| promise()).unzip();
        let (job, dump) = waiting(&pool, move || {
            let mut done = as_completed(futures);
            while block_on(done.next()).is_some() {}
        });
        assert_eq!(only(&dump).waits_for, [Awaited::Set(3)]);
        let mut ends = ends.into_iter();
        ends.next().unwrap().complete(Ok(()));
        eventually(|| only(&pool.dump()).waits_for == [Awaited::Set(2)]);
        ends.for_each(|end| end.complete(Ok(())));
        soon(job).unwrap();

        let gate = Gate::new();
        let other = crate::support::pool(1);
        let held = occupy_all(&other, &gate);
        let (job, dump) =
            waiting(&pool, move || drop(other.shutdown_blocking(Shutdown::Drain).unwrap()));
        assert_eq!(only(&dump).waits_for, [Awaited::Shutdown]);
        gate.open();
        soon(job).unwrap();
        held.into_iter().for_each(|future| soon(future).unwrap());

        let gate = Gate::new();
        let other = crate::support::pool(1);
        let held = occupy_all(&other, &gate);
        let (job, dump) = waiting(&pool, move || {
            let map = other.map(|n| n, 0..3);
            assert_eq!(map.result().unwrap(), [0, 1, 2]);
        });
        assert_eq!(only(&dump).waits_for, [Awaited::Map]);
        gate.open();
        soon(job).unwrap();
        held.into_iter().for_each(|future| soon(future).unwrap());
        // All is forgotten.
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        assert!(only(&pool.dump()).waits_for.is_empty());
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
    });
}

/// A future that outlives the job in which it was found pending.
#[test]
fn a_wait_ends_with_its_job() {
    within_limit(|| {
        let pool = pool(1);
        let (end, mut future) = TaskFuture::<()>::promise();
        let (give, given) = mpsc::channel();
        soon(pool.submit(move || {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(future.poll_unpin(&mut cx).is_pending());
            give.send(future).unwrap();
        }))
        .unwrap();
        let future = given.recv().unwrap();
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        assert!(only(&pool.dump()).waits_for.is_empty());
        drop((end, future));
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
    });
}

#[test]
fn a_task_in_place_is_above_the_one_that_waits_for_it() {
    within_limit(|| {
        let pool = pool(1);
        let (handle, gate) = (pool.clone(), Gate::new());
        let wait = gate.clone();
        let (started, running) = mpsc::channel();
        let outer = pool.submit(move || {
            let inner = handle.submit(move || {
                started.send(()).unwrap();
                wait.wait();
            });
            inner.result().unwrap();
        });
        running.recv().unwrap();
        let dump = pool.dump();
        assert_eq!((dump.workers.len(), dump.spares()), (1, 0), "{dump}");
        let tasks = &dump.workers[0].tasks;
        assert_eq!((tasks.len(), tasks[0].id), (2, outer.id()));
        assert!(dump.to_string().contains("    which runs in place: task "), "{dump}");
        gate.open();
        soon(outer).unwrap();
    });
}

#[test]
fn spares_are_counted() {
    within_limit(|| {
        let pool = pool(1);
        let (end, future) = TaskFuture::<()>::promise();
        let (job, _) = waiting(&pool, move || soon(future).unwrap());
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate); // the spare
        let dump = pool.dump();
        assert_eq!((dump.workers.len(), dump.spares()), (2, 1));
        assert!(dump.to_string().contains(", 1 spare for workers that wait\n"), "{dump}");
        end.complete(Ok(()));
        gate.open();
        soon(job).unwrap();
        held.into_iter().for_each(|future| soon(future).unwrap());
    });
}

#[test]
fn suspended_tasks_are_on_no_worker() {
    within_limit(|| {
        let pool = pool(1);
        let (end, future) = TaskFuture::<()>::promise();
        let suspended = pool.task().label("stream").submit_future(future);
        eventually(|| !pool.dump().suspended.is_empty());
        let dump = pool.dump();
        assert_eq!((dump.suspended.len(), dump.queue.count), (1, 0));
        assert_eq!(dump.suspended[0].id, suspended.id());
        assert_eq!(dump.suspended[0].label.as_deref(), Some("stream"));
        assert!(dump.to_string().contains("suspended: 1 task of `submit_future`\n"), "{dump}");
        end.complete(Ok(()));
        soon(suspended).unwrap().unwrap();
        assert!(pool.dump().suspended.is_empty());
    });
}

#[test]
fn the_life_of_a_pool_is_told() {
    within_limit(|| {
        for how in [Shutdown::Drain, Shutdown::CancelQueued] {
            let pool = pool(1);
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            let end = pool.shutdown(how);
            match (how, pool.dump().state) {
                (Shutdown::Drain, ExecutorState::Draining) => {}
                (Shutdown::CancelQueued, ExecutorState::Cancelling) => {}
                (how, state) => panic!("{how:?}: {state:?}"),
            }
            gate.open();
            held.into_iter().for_each(|future| soon(future).unwrap());
            block_on(end);
            assert!(matches!(pool.dump().state, ExecutorState::Ended));
        }
        let initializer = || Err::<(), _>("no licence");
        let broken = ThreadPoolExecutor::builder().initializer(initializer).build().unwrap();
        assert!(soon(broken.submit(|| ())).is_err());
        let text = broken.dump().to_string();
        assert!(text.contains(" is broken (no licence): "), "{text}");
    });
}

/// A job can look at its own pool, and the shutdown's deadline shows.
#[test]
fn a_job_sees_itself() {
    within_limit(|| {
        let pool = pool(1);
        let handle = pool.clone();
        let future = pool.submit(move || {
            let dump = handle.dump();
            (only(&dump).id, task::id())
        });
        let (seen, own) = soon(future).unwrap();
        assert_eq!(Some(seen), own);

        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let report = block_on(pool.shutdown(Shutdown::Drain).deadline(Duration::ZERO));
        assert_eq!(report.running.len(), 1);
        assert!(only(&pool.dump()).stop_requested);
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
    });
}

#[test]
fn withdrawn_tasks_are_not_shown() {
    within_limit(|| {
        let pool = pool(1);
        let gate = Gate::new();
        let held = occupy_all(&pool, &gate);
        let mut queued: Vec<_> = (0..20).map(|n| pool.submit(move || n)).collect();
        let last = queued.pop().unwrap();
        drop(queued);
        let dump = pool.dump();
        assert_eq!((dump.queue.count, dump.queue.looked_at, dump.queue.next.len()), (1, 1, 1));
        assert_eq!(dump.queue.next[0].id, last.id());
        gate.open();
        held.into_iter().for_each(|future| soon(future).unwrap());
        soon(last).unwrap();
    });
}

/// More threads than there can be references to a task.
const MANY: usize = if cfg!(miri) { 4 } else { 100 };

#[test]
fn any_number_of_threads_may_look_at_suspended_tasks_at_once() {
    within_limit(|| {
        let pool = pool(1);
        let task = pool.submit_future(std::future::pending::<()>());
        eventually(|| pool.dump().suspended.len() == 1);
        std::thread::scope(|scope| {
            for _ in 0..MANY {
                scope.spawn(|| {
                    for _ in 0..scaled(500) {
                        assert_eq!(pool.dump().suspended.len(), 1);
                    }
                });
            }
        });
        assert!(task.cancel());
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    });
}

#[test]
fn any_number_of_threads_may_withdraw_suspended_tasks_at_once() {
    /// Holds up who drops it.
    struct Held(Counter, Gate);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.add();
            self.1.wait();
        }
    }

    within_limit(|| {
        let pool = pool(1);
        let (busy, gate) = (Counter::new(), Gate::new());
        let tasks: Vec<_> = (0..MANY)
            .map(|_| {
                let held = Held(busy.clone(), gate.clone());
                pool.submit_future(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                })
            })
            .collect();
        eventually(|| pool.dump().suspended.len() == MANY);
        // Each of these gets references to all tasks, and is held up by the first that it withdraws;
        // or it leaves that to the others.
        let threads: Vec<_> = (0..MANY)
            .map(|_| {
                let (pool, busy) = (pool.clone(), busy.clone());
                std::thread::spawn(move || {
                    let mut end = pool.shutdown(Shutdown::CancelQueued).deadline(Duration::ZERO);
                    assert!((&mut end).now_or_never().is_some());
                    busy.add();
                })
            })
            .collect();
        busy.wait_for(MANY);
        gate.open();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for task in tasks {
            assert!(matches!(soon(task), Err(concurrent_futures::Error::Cancelled)));
        }
        let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(report.cancelled, MANY as u64);
    });
}
