//! SD: CPython's `test_shutdown.py`. SD-2, SD-6 and SD-17 are programs, in `program_end.rs`. Over
//! processes, SD-1 and SD-4 are here and the others in `tests/processes`.
//!
//! Python's `with` block waits when it is left. A `Drop` that waits could not be used in async code,
//! so here the wait is written: `shutdown` or `shutdown_blocking`.

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ExecutorService, InlineExecutor, Shutdown, TaskFuture, ThreadPoolExecutor, call, task,
};

use crate::support::{Counter, Gate, POOL_SIZES, occupy, on_runtimes, pool, scaled, within_limit};
use crate::threads::{at_thread_end, counted, counted_pool};

const BOTH: [Shutdown; 2] = [Shutdown::Drain, Shutdown::CancelQueued];

fn square(n: u64) -> u64 {
    n * n
}

#[track_caller]
fn assert_shut_down<T>(result: Result<T, Error>) {
    match result {
        Err(Error::ShutDown) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a value, after the shutdown"),
    }
}

// ---- Submissions after the shutdown ----

/// Every way to submit that all executors have.
async fn refuses_everything<E: ExecutorService>(executor: &E) {
    let future = executor.submit(call!(square(3)));
    assert!(future.is_done());
    assert_shut_down(future.await);
    let refused = executor.try_submit(call!(square(3))).unwrap_err();
    assert!(matches!(refused.error(), Error::ShutDown));
    let (job, _) = refused.into_parts();
    assert_eq!(InlineExecutor::new().submit(job).await.unwrap(), 9, "the job comes back whole");
    assert_shut_down(executor.reserve().await.map(drop));
    assert_shut_down(executor.map(square, 0..3).await);
    let mut map = executor.map(square, 0..3);
    assert_shut_down(map.next().await.unwrap());
    assert!(map.next().await.is_none());
}

/// SD-1.
#[test]
fn submitting_after_shutdown_is_an_error() {
    on_runtimes(|| async {
        for how in BOTH {
            for size in POOL_SIZES {
                let pool = pool(size);
                assert_eq!(pool.submit(|| 1).await.unwrap(), 1);
                let permit = pool.reserve().await.unwrap();
                let clone = pool.clone();
                pool.shutdown(how).await;

                refuses_everything(&pool).await;
                refuses_everything(&clone).await;
                let captured = 5;
                assert_shut_down(pool.submit(move || captured).await);
                assert_eq!(pool.try_submit(move || captured).unwrap_err().into_job()(), 5);
                assert_shut_down(pool.submit_future(async {}).await);
                assert_shut_down(pool.task().label("late").submit(|| ()).await);
                assert_shut_down(pool.task().submit_future(async {}).await);
                assert_shut_down(permit.submit(|| ()).await);
                assert_eq!(pool.metrics().workers, 0, "no thread was started for them");
            }
        }
    });
}

/// SD-1.
#[test]
fn submitting_after_shutdown_is_an_error_inline() {
    on_runtimes(|| async {
        for how in BOTH {
            let executor = InlineExecutor::new();
            let permit = executor.reserve().await.unwrap();
            executor.shutdown(how).await;
            refuses_everything(&executor).await;
            refuses_everything(&executor.clone()).await;
            assert_shut_down(permit.submit(|| ()).await);
        }
    });
}

/// SD-1.
#[cfg(all(feature = "process", target_os = "linux"))]
#[test]
fn submitting_after_shutdown_is_an_error_over_processes() {
    on_runtimes(|| async {
        for how in BOTH {
            for size in POOL_SIZES {
                let pool = crate::processes::pool(size);
                assert_eq!(pool.submit(call!(square(2))).await.unwrap(), 4);
                let permit = pool.reserve().await.unwrap();
                let clone = pool.clone();
                pool.shutdown(how).await;

                refuses_everything(&pool).await;
                refuses_everything(&clone).await;
                assert_shut_down(pool.task().label("late").submit(call!(square(3))).await);
                assert_shut_down(permit.submit(call!(square(3))).await);
                assert_eq!(pool.metrics().workers, 0, "no process was started for them");
            }
        }
    });
}

/// SD-1. From the call on, whether or not its future is polled, and while jobs still run.
#[test]
fn the_shutdown_begins_with_the_call() {
    within_limit(|| {
        for how in BOTH {
            for size in POOL_SIZES {
                let pool = pool(size);
                let gate = Gate::new();
                let busy = occupy(&pool, &gate);
                let ended = pool.shutdown(how);
                assert_shut_down(pool.submit(|| ()).result());
                drop(ended);
                assert_shut_down(pool.submit(|| ()).result());
                gate.open();
                busy.result().unwrap();
            }
        }
    });
}

/// SD-1.
#[test]
fn a_job_that_still_runs_can_not_submit_after_shutdown() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (gate, started) = (Gate::new(), Gate::new());
            let (inner, open, inside) = (pool.clone(), gate.clone(), started.clone());
            let future = pool.submit(move || {
                inside.open();
                open.wait();
                inner.submit(|| 1).result()
            });
            started.wait();
            let ended = pool.shutdown(Shutdown::Drain);
            gate.open();
            assert_shut_down(future.result().unwrap());
            assert_eq!(ended.result().unwrap().completed, 1);
        }
    });
}

/// SD-1. A refused job is dropped before `submit` returns.
#[test]
fn a_refused_job_is_dropped_at_once() {
    within_limit(|| {
        let pool = pool(1);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        let (held, owner) = mpsc::channel::<()>();
        let future = pool.submit(move || drop(held));
        assert_eq!(owner.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert_shut_down(future.result());
        let (held, owner) = mpsc::channel::<()>();
        let future = pool.submit_future(async move { drop(held) });
        assert_eq!(owner.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert_shut_down(future.result());
    });
}

// ---- Destructors at a thread's end; the handler of `atexit` is in `tests/fork.rs` ----

/// SD-3.
#[test]
fn a_submission_from_a_thread_local_destructor_is_refused_after_shutdown() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            pool.submit(|| ()).result().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let (answer, answers) = mpsc::channel();
            thread::spawn(move || {
                at_thread_end(move || {
                    let _ = answer.send(pool.submit(|| ()).result());
                });
            })
            .join()
            .unwrap();
            assert_shut_down(answers.recv().unwrap());
        }
    });
}

/// SD-3. The thread that submits may be the pool's own, which is ending.
#[test]
fn a_submission_from_a_destructor_on_a_worker_is_refused_after_shutdown() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (answer, answers) = mpsc::channel();
            let inner = pool.clone();
            let at_end = move || {
                at_thread_end(move || {
                    let _ = answer.send(inner.submit(|| ()).result());
                });
            };
            pool.submit(at_end).result().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_shut_down(answers.recv().unwrap());
        }
    });
}

/// SD-3. As long as the pool is open, such a submission is like any other.
#[test]
fn a_thread_local_destructor_may_use_an_open_pool() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let inner = pool.clone();
            let (answer, answers) = mpsc::channel();
            thread::spawn(move || {
                at_thread_end(move || {
                    let sum = inner.submit(|| 1 + 1).result();
                    let squares = inner.map(square, 0..4).result();
                    let awaited = futures::executor::block_on(inner.submit(|| 3));
                    let _ = answer.send((sum, squares, awaited));
                });
            })
            .join()
            .unwrap();
            let (sum, squares, awaited) = answers.recv().unwrap();
            assert_eq!(sum.unwrap(), 2);
            assert_eq!(squares.unwrap(), [0, 1, 4, 9]);
            assert_eq!(awaited.unwrap(), 3);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        }
    });
}

// ---- Results and cancellation ----

fn fifty_squares<E: ExecutorService>(executor: &E) -> Vec<TaskFuture<u64>> {
    (0..50).map(|n| executor.submit(call!(square(n)))).collect()
}

#[track_caller]
fn assert_squares(futures: Vec<TaskFuture<u64>>) {
    for (n, future) in futures.into_iter().enumerate() {
        assert!(future.is_done(), "the shutdown waits for all of them");
        let n = n as u64;
        assert_eq!(future.result().unwrap(), n * n);
    }
}

fn check_after_shutdown_blocking<E: ExecutorService>(executor: &E) {
    let futures = fifty_squares(executor);
    let report = executor.shutdown_blocking(Shutdown::Drain).unwrap();
    assert_eq!((report.failed, report.cancelled, report.queued), (0, 0, 0));
    assert!(report.running.is_empty());
    assert_squares(futures);
    assert_eq!(executor.metrics().completed, 50);
}

async fn check_after_an_awaited_shutdown<E: ExecutorService>(executor: &E) {
    let futures = fifty_squares(executor);
    let report = executor.shutdown(Shutdown::Drain).await;
    assert_eq!((report.failed, report.cancelled, report.queued), (0, 0, 0));
    assert_squares(futures);
}

/// SD-4.
#[test]
fn fifty_tasks_have_results_after_shutdown_blocking() {
    within_limit(|| {
        for size in POOL_SIZES {
            check_after_shutdown_blocking(&pool(size));
        }
        check_after_shutdown_blocking(&InlineExecutor::new());
    });
}

/// SD-4.
#[test]
fn fifty_tasks_have_results_after_an_awaited_shutdown() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            check_after_an_awaited_shutdown(&pool(size)).await;
        }
        check_after_an_awaited_shutdown(&InlineExecutor::new()).await;
    });
}

/// SD-4.
#[cfg(all(feature = "process", target_os = "linux"))]
#[test]
fn fifty_tasks_have_results_after_a_shutdown_over_processes() {
    use crate::processes::pool;

    within_limit(|| POOL_SIZES.map(pool).iter().for_each(check_after_shutdown_blocking));
    on_runtimes(|| async {
        for size in POOL_SIZES {
            check_after_an_awaited_shutdown(&pool(size)).await;
        }
    });
}

/// SD-5. What runs goes on, what waits is cancelled: exactly so.
#[test]
fn a_shutdown_with_cancellation_cancels_what_has_not_started() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (gate, started) = (Gate::new(), Counter::new());
            let futures: Vec<_> = (0..50)
                .map(|n| {
                    let (gate, started) = (gate.clone(), started.clone());
                    pool.submit(move || {
                        started.add();
                        gate.wait();
                        n
                    })
                })
                .collect();
            started.wait_for(size);
            let ended = pool.shutdown(Shutdown::CancelQueued);
            let cancelled = futures.iter().filter(|future| future.is_cancelled()).count();
            assert_eq!(cancelled, 50 - size, "at once, and while others run");
            gate.open();
            let report = ended.await;
            assert_eq!(report.completed as usize, size);
            assert_eq!(report.cancelled as usize, 50 - size);
            assert_eq!((report.failed, report.queued), (0, 0));
            for (n, future) in futures.into_iter().enumerate() {
                match future.await {
                    Ok(value) => assert_eq!(value, n),
                    Err(Error::Cancelled) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(started.get(), size, "a cancelled task never runs");
        }
    });
}

/// SD-5. Nothing waits inline, so nothing is cancelled.
#[test]
fn a_shutdown_with_cancellation_cancels_nothing_inline() {
    within_limit(|| {
        let executor = InlineExecutor::new();
        let futures = fifty_squares(&executor);
        let report = executor.shutdown_blocking(Shutdown::CancelQueued).unwrap();
        assert_eq!(report.cancelled, 0);
        assert_squares(futures);
    });
}

/// SD-7.
#[test]
fn a_task_cancelled_just_before_a_waiting_shutdown_does_not_hold_it_up() {
    within_limit(|| {
        for size in POOL_SIZES {
            for _ in 0..scaled(20) {
                let pool = pool(size);
                // Cancelled before it starts, or asked to stop: both end it.
                let future = pool.submit(|| {
                    while !task::stop_requested() {
                        thread::yield_now();
                    }
                });
                let withdrawn = future.cancel();
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
                assert_eq!(future.is_cancelled(), withdrawn);
                assert_eq!(future.result().is_err(), withdrawn);
            }
        }
    });
}

/// SD-7.
#[test]
fn a_withdrawn_task_is_not_waited_for() {
    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (gate, never) = (Gate::new(), Gate::new());
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let future = pool.submit(move || never.wait());
            assert!(future.cancel());
            let ended = pool.shutdown(Shutdown::Drain);
            gate.open();
            let report = ended.result().unwrap();
            assert_eq!(report.completed as usize, size);
            assert!(matches!(future.result(), Err(Error::Cancelled)));
            drop(busy);
        }
    });
}

// ---- Threads ----

/// SD-8.
#[test]
fn three_blocked_tasks_use_three_threads_and_a_shutdown_joins_them() {
    within_limit(|| {
        let (pool, threads) = counted_pool(5);
        let gate = Gate::new();
        let futures: Vec<_> = (0..3).map(|_| occupy(&pool, &gate)).collect();
        assert_eq!(pool.metrics().workers, 3);
        assert_eq!(threads.begun.get(), 3);
        gate.open();
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(threads.ended.get(), 3);
        assert_eq!(pool.metrics().workers, 0);
        for future in futures {
            future.result().unwrap();
        }
    });
}

/// SD-9.
#[test]
fn after_a_waiting_shutdown_results_are_right_and_threads_are_gone() {
    within_limit(|| {
        for how in BOTH {
            for size in POOL_SIZES {
                let (pool, threads) = counted_pool(size);
                let squares = pool.map(square, 0..20).result().unwrap();
                assert_eq!(squares, (0..20).map(square).collect::<Vec<_>>());
                pool.shutdown_blocking(how).unwrap();
                assert!((1..=size).contains(&threads.begun.get()));
                assert_eq!(threads.ended.get(), threads.begun.get());
            }
        }
    });
}

/// SD-9. No caller returns before the threads are gone, be it the first or a later one.
#[test]
fn every_one_of_several_waiting_shutdowns_waits_for_the_threads() {
    within_limit(|| {
        let (pool, threads) = counted_pool(1);
        let (ending, gate) = (Gate::new(), Gate::new());
        let (inside, open) = (ending.clone(), gate.clone());
        let hold = move || {
            at_thread_end(move || {
                inside.open();
                open.wait();
            });
        };
        pool.submit(hold).result().unwrap();
        let (sender, returned) = mpsc::channel();
        for _ in 0..4 {
            let (pool, ended, sender) = (pool.clone(), threads.ended.clone(), sender.clone());
            thread::spawn(move || {
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
                let _ = sender.send(ended.get());
            });
        }
        ending.wait(); // the pool is over, its thread is not
        // One that does not wait gets time to show it; the answers below are exact all the same.
        let early = returned.recv_timeout(Duration::from_millis(100)).ok();
        gate.open();
        let answers: Vec<_> =
            early.into_iter().chain(std::iter::from_fn(|| returned.recv().ok()).take(3)).collect();
        assert_eq!(early, None);
        assert!(answers.iter().all(|ended| *ended == 1), "{answers:?}");
    });
}

/// SD-9. A thread that retired before, since it had been a spare, belongs to the pool until it is
/// gone.
#[test]
fn a_waiting_shutdown_waits_for_a_retired_thread() {
    within_limit(|| {
        let (pool, threads) = counted_pool(1);
        let (sender, ending) = mpsc::channel();
        let gates: Vec<Gate> = (0..2).map(|_| Gate::new()).collect();
        let hold = |index: usize| {
            let (gate, sender) = (gates[index].clone(), sender.clone());
            move || {
                at_thread_end(move || {
                    let _ = sender.send(index);
                    gate.wait();
                });
            }
        };
        let (outer, inner, handle) = (hold(0), hold(1), pool.clone());
        let nested = pool.submit(move || {
            outer();
            futures::executor::block_on(handle.submit(inner)).unwrap();
        });
        nested.result().unwrap();
        let retired = ending.recv().unwrap(); // one too many; the other stays
        gates[1 - retired].open();
        futures::executor::block_on(pool.shutdown(Shutdown::Drain)); // it is over, its thread is not
        let (sender, returned) = mpsc::channel();
        let ended = threads.ended.clone();
        thread::spawn(move || {
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            let _ = sender.send(ended.get());
        });
        // As above: time for a shutdown that does not wait to show it.
        let early = returned.recv_timeout(Duration::from_millis(100)).ok();
        gates[retired].open();
        assert_eq!(early, None);
        assert_eq!(returned.recv().unwrap(), 2);
    });
}

/// SD-11.
#[test]
fn a_dropped_pool_completes_what_was_submitted_and_its_threads_end() {
    on_runtimes(|| async {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let futures = fifty_squares(&pool);
            let polled = pool.submit_future(async {
                tokio::task::yield_now().await;
                7
            });
            drop(pool); // does not wait: the gate is closed
            gate.open();
            for (n, future) in (0..).zip(futures) {
                assert_eq!(future.await.unwrap(), n * n);
            }
            assert_eq!(polled.await.unwrap(), 7);
            for future in busy {
                future.await.unwrap();
            }
            let (done, end) = tokio::sync::oneshot::channel();
            thread::spawn(move || {
                threads.ended.wait_for(size);
                let _ = done.send(());
            });
            end.await.unwrap();
        }
    });
}

/// SD-11.
#[test]
fn idle_threads_end_when_the_pool_is_dropped() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            gate.open();
            for future in busy {
                future.result().unwrap();
            }
            let clone = pool.clone();
            drop(pool);
            clone.submit(|| ()).result().unwrap(); // not the last handle
            drop(clone);
            threads.ended.wait_for(size);
            assert_eq!(threads.begun.get(), size);
        }
    });
}

/// SD-13.
#[test]
fn threads_end_by_themselves_after_a_shutdown_not_waited_for() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, threads) = counted_pool(size);
            let gate = Gate::new();
            let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
            let futures = fifty_squares(&pool);
            drop(pool.shutdown(Shutdown::Drain));
            gate.open();
            threads.ended.wait_for(size);
            assert_squares(futures);
            drop(busy);
            assert_eq!(pool.metrics().workers, 0);
        }
    });
}

// ---- Names ----

/// Runs `count` jobs at the same time, each on a thread of its own, for the threads' names.
fn names(pool: &ThreadPoolExecutor, count: usize) -> HashSet<String> {
    let gate = Gate::new();
    let started = Counter::new();
    let futures: Vec<_> = (0..count)
        .map(|_| {
            let (gate, started) = (gate.clone(), started.clone());
            pool.submit(move || {
                started.add();
                gate.wait();
                thread::current().name().map(str::to_owned)
            })
        })
        .collect();
    started.wait_for(count);
    gate.open();
    let names: Option<HashSet<String>> =
        futures.into_iter().map(|future| future.result().unwrap()).collect();
    names.expect("every worker has a name")
}

/// SD-15.
#[test]
fn a_prefix_gives_names_that_are_numbered_from_0() {
    within_limit(|| {
        for size in [1, 5] {
            let pool =
                ThreadPoolExecutor::builder().max_workers(size).name("render").build().unwrap();
            let expected: HashSet<_> = (0..size).map(|n| format!("render_{n}")).collect();
            assert_eq!(names(&pool, size), expected);
        }
    });
}

/// SD-15. A number that became free is used again, so the names stay within those of `max_workers`
/// and of the spares.
#[test]
fn a_worker_that_replaces_another_has_a_name_of_the_same_kind() {
    within_limit(|| {
        let (pool, threads) = counted(ThreadPoolExecutor::builder().max_workers(1).name("render"));
        for round in 1..=scaled(20) {
            let inner = pool.clone();
            let name = || thread::current().name().unwrap_or_default().to_owned();
            let nested = pool
                .submit(move || (name(), futures::executor::block_on(inner.submit(name)).unwrap()));
            let (outer, spare) = nested.result().unwrap();
            let mut both = [outer, spare];
            both.sort();
            assert_eq!(both, ["render_0", "render_1"]);
            threads.ended.wait_for(round); // one of them is too many
        }
    });
}

/// SD-16.
#[test]
fn default_names_tell_the_pools_and_their_workers_apart() {
    within_limit(|| {
        let pools: Vec<_> = (0..5).map(|_| pool(3)).collect();
        let mut prefixes = HashSet::new();
        for pool in &pools {
            let names = names(pool, 3);
            assert_eq!(names.len(), 3);
            let split = names.iter().map(|name| name.rsplit_once('_').unwrap());
            let (own, numbers): (HashSet<&str>, HashSet<&str>) = split.unzip();
            assert_eq!(own.len(), 1, "{names:?}");
            assert_eq!(numbers, HashSet::from(["0", "1", "2"]));
            for prefix in own {
                let number = prefix.strip_prefix("pool-").unwrap();
                assert!(number.parse::<usize>().is_ok(), "{prefix}");
                prefixes.insert(prefix.to_owned());
            }
        }
        assert_eq!(prefixes.len(), pools.len());
    });
}

/// SD-15. What `top -H`, `ps -L` and a debugger show.
#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(miri, ignore = "no /proc")]
fn the_system_shows_the_name_of_a_worker() {
    within_limit(|| {
        for (prefix, shown) in
            [("render", "render_0"), ("a-prefix-of-some-length", "a-prefix-of-som")]
        {
            let pool = ThreadPoolExecutor::builder().max_workers(1).name(prefix).build().unwrap();
            let comm = pool.submit(|| std::fs::read_to_string("/proc/thread-self/comm").unwrap());
            assert_eq!(comm.result().unwrap().trim_end(), shown);
        }
    });
}
