//! The death of a worker concerns the task that it ran, and no other.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Buffer, Error, ParentPool, ProcessPoolExecutor, Shutdown, TaskBuilder, TaskOptions, call,
};
use futures::StreamExt;
use futures::executor::block_on;
use serde::{Deserialize, Serialize};

use crate::deaths::{Death, die, square, status, wait_to_be_killed};
use crate::program::alone;
use crate::support::within_limit;
use crate::tools::{
    Gate, Reports, assert_cancelled, builder, end, hold, lost, occupy, occupy_all, own_pid,
    parent_of, pool,
};
use crate::watch::{Watched, assert_ended_soon, kill};

const SIZES: [usize; 2] = [1, 2];

/// A task that does not fail tells where it runs.
fn report(ran: Reports, n: u32, fatal: u32) -> u32 {
    ran.add(n);
    if n == fatal {
        process::abort();
    }
    n
}

#[test]
fn only_the_task_that_the_worker_ran_is_lost() {
    within_limit(|| {
        const FATAL: u32 = 117;
        for size in SIZES {
            let pool = pool(size);
            let ran = Reports::new();
            let futures: Vec<_> =
                (0..200).map(|n| pool.submit(call!(report(ran.clone(), n, FATAL)))).collect();
            for (n, future) in (0..).zip(futures) {
                match future.result() {
                    Ok(value) => assert_eq!(value, n),
                    Err(error) => {
                        let lost = lost::<()>(Err(error));
                        assert_eq!((n, status(&lost)), (FATAL, Death::Abort.status()));
                    }
                }
            }
            // The others run once, whatever became of the worker that they were sent to first.
            let mut ran = ran.get();
            ran.sort_unstable();
            assert!(ran.iter().copied().eq(0..200), "{ran:?}");
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed, metrics.cancelled), (199, 1, 0));
            end(&pool);
        }
    });
}

#[test]
fn many_tasks_in_a_row_may_each_kill_its_worker() {
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            for death in Death::ALL {
                let futures: Vec<_> = (0..10).map(|_| pool.submit(call!(die(death)))).collect();
                let pids: BTreeSet<u32> = futures
                    .into_iter()
                    .map(|future| {
                        let lost = lost(future.result());
                        assert_eq!(status(&lost), death.status());
                        lost.pid
                    })
                    .collect();
                assert_eq!(pids.len(), 10);
            }
            assert_eq!(pool.submit(call!(square(7))).result().unwrap(), 49);
            end(&pool);
        }
    });
}

/// An idle worker's death loses no task, also if the next task is sent before the pool knows.
#[test]
fn a_task_that_is_sent_to_a_dead_worker_runs_elsewhere() {
    within_limit(|| {
        let pool = pool(1);
        for n in 0..50 {
            let worker = pool.submit(call!(own_pid())).result().unwrap();
            kill(worker);
            assert_eq!(pool.submit(call!(square(n))).result().unwrap(), n * n);
        }
        let metrics = pool.metrics();
        assert_eq!((metrics.completed, metrics.failed), (100, 0));
        end(&pool);

        // To one dead worker after the other, if need be.
        let pool = crate::tools::pool(6);
        for n in 0..10 {
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate);
            gate.open();
            held.into_iter().for_each(|held| assert!(held.result().is_ok()));
            pool.worker_pids().into_iter().for_each(kill);
            assert_eq!(pool.submit(call!(square(n))).result().unwrap(), n * n);
        }
        end(&pool);
    });
}

#[test]
fn the_pool_keeps_its_size() {
    within_limit(|| {
        let pool = pool(2);
        let mut workers = BTreeSet::new();
        for _ in 0..4 {
            let gate = Gate::new();
            let held = occupy_all(&pool, &gate); // both run at the same time
            let both = pool.worker_pids();
            assert_eq!((both.len(), pool.metrics().workers), (2, 2));
            workers.extend(both.iter().copied());
            both.into_iter().for_each(kill);
            held.into_iter().for_each(|held| drop(lost(held.result())));
        }
        assert_eq!(workers.len(), 8);
        end(&pool);
    });
}

// ---- Once more ----

/// How often a task was begun, kept in a file. It goes with the test's end of it.
#[derive(Clone, Serialize, Deserialize)]
struct Attempts {
    path: PathBuf,
    #[serde(skip)]
    is_the_test_s: bool,
}

impl Attempts {
    fn new(name: &str) -> Self {
        let name = format!("concurrent-futures-{}-{name}", process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::File::create(&path).unwrap();
        Self { path, is_the_test_s: true }
    }

    fn for_job(&self) -> Self {
        Self { path: self.path.clone(), is_the_test_s: false }
    }

    /// One more; tells how many there are.
    fn add(&self) -> u64 {
        let mut file = OpenOptions::new().append(true).open(&self.path).unwrap();
        file.write_all(b"x").unwrap();
        self.count()
    }

    fn count(&self) -> u64 {
        std::fs::metadata(&self.path).unwrap().len()
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if self.is_the_test_s {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Kills its worker until it is tried for the `n`th time.
fn succeed_at(n: u64, attempts: Attempts) -> u64 {
    let attempt = attempts.add();
    if attempt < n {
        process::exit(i32::try_from(attempt).unwrap());
    }
    attempt
}

#[test]
fn a_task_may_run_again_after_a_loss() {
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            for retries in [3, 100] {
                let attempts = Attempts::new(&format!("again-{size}-{retries}"));
                let task = pool.task().retries(retries);
                let future = task.submit(call!(succeed_at(4, attempts.for_job())));
                let others: Vec<_> = (0..20).map(|n| pool.submit(call!(square(n)))).collect();
                assert_eq!(future.result().unwrap(), 4);
                for (n, other) in (0..).zip(others) {
                    assert_eq!(other.result().unwrap(), n * n);
                }
                assert_eq!(attempts.count(), 4);
            }
            let metrics = pool.metrics();
            assert_eq!((metrics.completed, metrics.failed), (42, 0));
            end(&pool);
        }
    });
}

#[test]
fn a_job_may_have_its_own_submission_run_again_after_a_loss() {
    fn outer(attempts: Attempts) -> u64 {
        let pool = ParentPool::current().unwrap();
        let options = TaskOptions::new().label("inner").retries(3);
        pool.submit_with(&options, call!(succeed_at(3, attempts))).result().unwrap()
    }
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            let attempts = Attempts::new(&format!("nested-{size}"));
            assert_eq!(pool.submit(call!(outer(attempts.for_job()))).result().unwrap(), 3);
            assert_eq!(attempts.count(), 3);
            end(&pool);
        }
    });
}

#[test]
fn a_task_that_kills_worker_after_worker_is_given_up() {
    within_limit(|| {
        for size in SIZES {
            for retries in [0, 1, 4] {
                let pool = pool(size);
                let attempts = Attempts::new(&format!("given-up-{size}-{retries}"));
                let task = pool.task().retries(retries);
                let future = task.submit(call!(succeed_at(1000, attempts.for_job())));
                let error = future.result().unwrap_err();
                let text = format!("{error:?}");
                let lost = lost::<()>(Err(error));
                assert_eq!(attempts.count(), u64::from(retries) + 1);
                assert_eq!(lost.earlier.len(), retries as usize);
                let mut pids = BTreeSet::new();
                for (attempt, lost) in (1..).zip(lost.earlier.iter().chain([&lost])) {
                    assert_eq!(status(lost), (Some(attempt), None));
                    assert!(text.contains(&format!("exit code {attempt}")), "{text}");
                    pids.insert(lost.pid);
                }
                assert_eq!(pids.len(), retries as usize + 1);
                assert!(lost.earlier.iter().all(|lost| lost.earlier.is_empty()));
                assert_eq!(pool.submit(call!(square(7))).result().unwrap(), 49);
                end(&pool);
            }
        }
    });
}

#[test]
fn errors_and_panics_are_no_losses() {
    fn panic_at(attempts: Attempts) {
        panic!("attempt {}", attempts.add());
    }
    within_limit(|| {
        let pool = pool(1);
        let attempts = Attempts::new("panic");
        let future = pool.task().retries(5).submit(call!(panic_at(attempts.for_job())));
        match future.result() {
            Err(Error::Panicked(panicked)) => assert_eq!(panicked.message(), "attempt 1"),
            other => panic!("{other:?}"),
        }
        assert_eq!(attempts.count(), 1);
        end(&pool);
    });
}

/// A task that may run again does not do so when its worker was killed on purpose: by its future,
/// at its time limit, or with its pool.
#[test]
fn what_is_killed_on_purpose_does_not_run_again() {
    within_limit(|| {
        let pool = pool(2);
        let gate = Gate::new();
        let reports = [Reports::new(), Reports::new(), Reports::new()];
        let submit = |task: TaskBuilder<&ProcessPoolExecutor>, started: &Reports| {
            task.retries(5).submit(call!(hold(started.clone(), gate.clone(), 1)))
        };
        let [of_killed, of_overdue, of_last] = &reports;
        let killed = submit(pool.task(), of_killed);
        of_killed.wait_for(1);
        assert!(killed.kill());
        assert_cancelled(&killed.result());

        let limit = Duration::from_millis(20);
        let overdue = submit(pool.task().timeout(limit), of_overdue).result();
        assert!(matches!(overdue, Err(Error::TimedOut { started: true, .. })), "{overdue:?}");

        let with_the_pool = submit(pool.task(), of_last);
        let worker = of_last.wait_for(1)[0];
        let family = Watched::all(&[worker, parent_of(worker).unwrap()]);
        let report = block_on(pool.kill_workers());
        assert_ended_soon(&family);
        let lost = lost(with_the_pool.result());
        assert_eq!(status(&lost), (None, Some(libc::SIGKILL)));
        assert_eq!((report.failed, report.running.len()), (1, 0));
        // One may be killed before it comes as far as to report.
        assert!(reports.iter().all(|started| started.get().len() <= 1));
    });
}

/// What was accepted before the pool is closed runs, also again.
#[test]
fn the_end_of_a_pool_waits_for_what_runs_again() {
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            let attempts = Attempts::new(&format!("drain-{size}"));
            let again = pool.task().retries(2).submit(call!(succeed_at(3, attempts.for_job())));
            let fatal = pool.submit(call!(die(Death::Fault)));
            let others: Vec<_> = (0..20).map(|n| pool.submit(call!(square(n)))).collect();
            let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(again.result().unwrap(), 3);
            drop(lost(fatal.result()));
            assert!(others.into_iter().all(|other| other.result().is_ok()));
            assert!(report.completed <= 21 && report.failed <= 1 && report.cancelled == 0);
            assert_eq!((report.running.len(), report.queued), (0, 0));
        }
    });
}

// ---- No worker that lives ----

/// Workers that die before their first task are not replaced for ever.
#[test]
fn workers_that_die_at_their_start_break_the_pool() {
    fn begin(attempts: Attempts, death: Death) -> Result<(), String> {
        attempts.add();
        death.die()
    }
    alone("losses::workers_that_die_at_their_start_break_the_pool", || {
        for size in SIZES {
            for death in Death::ALL {
                let attempts = Attempts::new("start");
                let initializer = call!(begin(attempts.for_job(), death));
                let pool = builder(size).initializer(initializer).build().unwrap();
                let futures: Vec<_> = (0..10).map(|n| pool.submit(call!(square(n)))).collect();
                let how = match death.status() {
                    (Some(code), _) => format!("exit code {code}"),
                    (_, signal) => format!("signal {}", signal.unwrap()),
                };
                let is_broken = |error: Error| {
                    let text = format!("{error:?}");
                    assert!(matches!(error, Error::BrokenPool(_)) && text.contains(&how), "{text}");
                };
                for future in futures {
                    is_broken(future.result().unwrap_err());
                }
                // Until the deaths are told, some more are started.
                assert!((1..=50).contains(&attempts.count()), "{} starts", attempts.count());
                is_broken(pool.submit(call!(square(1))).result().unwrap_err());
                is_broken(pool.try_submit(call!(square(1))).unwrap_err().into_parts().1);
                is_broken(block_on(pool.reserve()).map(drop).unwrap_err());
                end(&pool);
            }
        }
    });
}

/// It dies before it comes to the task, and so would all others.
#[test]
fn a_task_whose_arguments_no_worker_can_receive_fails_alone() {
    fn length(bytes: Buffer<u8>) -> usize {
        bytes.len()
    }
    within_limit(|| {
        for size in SIZES {
            let pool = builder(size).memory_limit(64 << 20).build().unwrap();
            let futures: Vec<_> = (0..5)
                .map(|n| {
                    let bytes = Buffer::from(vec![0; if n % 2 == 0 { 200 << 20 } else { 10 }]);
                    pool.submit(call!(length(bytes)))
                })
                .collect();
            for (n, future) in futures.into_iter().enumerate() {
                match future.result() {
                    Ok(length) => assert_eq!((length, n % 2), (10, 1)),
                    Err(error) => {
                        assert_eq!(n % 2, 0);
                        drop(lost::<()>(Err(error)));
                    }
                }
            }
            end(&pool);
        }
    });
}

/// One that was killed before it had done anything is not the fault of all.
#[test]
fn workers_that_are_killed_at_their_start_are_replaced() {
    fn begin(started: Reports, gate: Gate) {
        started.add(process::id());
        gate.wait();
    }
    within_limit(|| {
        let (started, gate) = (Reports::new(), Gate::new());
        let pool =
            builder(1).initializer(call!(begin(started.clone(), gate.clone()))).build().unwrap();
        let future = pool.submit(call!(square(7)));
        for n in 0..3 {
            kill(started.wait_for(n + 1)[n]);
        }
        started.wait_for(4);
        gate.open();
        assert_eq!(future.result().unwrap(), 49);
        end(&pool);
    });
}

// ---- Again and again ----

fn work(n: u64) -> u64 {
    thread::sleep(Duration::from_micros(200));
    n * n
}

#[test]
fn every_value_is_right_though_workers_are_killed_all_the_time() {
    const TASKS: u64 = 10_000;
    within_limit(|| {
        let pool = pool(2);
        let is_over = AtomicBool::new(false);
        let kills = thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let (mut kills, mut random) = (0, 1_u32);
                while !is_over.load(SeqCst) {
                    thread::sleep(Duration::from_millis(50));
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let workers = pool.worker_pids();
                    let victim = workers.get((random >> 16) as usize % workers.len().max(1));
                    if let Some(victim) =
                        victim.and_then(|pid| rustix::process::Pid::from_raw(*pid as i32))
                    {
                        // It may have ended meanwhile.
                        let killed =
                            rustix::process::kill_process(victim, rustix::process::Signal::KILL);
                        kills += u32::from(killed.is_ok());
                    }
                }
                kills
            });
            let futures: Vec<_> =
                (0..TASKS).map(|n| pool.task().retries(100).submit(call!(work(n)))).collect();
            for (n, future) in (0..).zip(futures) {
                assert_eq!(future.result().unwrap(), n * n);
            }
            is_over.store(true, SeqCst);
            killer.join().unwrap()
        });
        assert!(kills > 5, "{kills}");
        let metrics = pool.metrics();
        assert_eq!((metrics.completed, metrics.failed, metrics.cancelled), (TASKS, 0, 0));
        assert!(metrics.workers <= 2);
        end(&pool);
    });
}

// ---- Maps ----

fn die_at_7_and_13(n: u32) -> u32 {
    if n == 7 || n == 13 {
        process::abort();
    }
    n
}

fn die_slowly(n: u32) -> u32 {
    // What takes a millisecond is known to the pool before the next one begins.
    thread::sleep(Duration::from_millis(2));
    die_at_7_and_13(n)
}

#[track_caller]
fn assert_lost_at_7_and_13(results: Vec<Result<u32, Error>>) {
    assert_eq!(results.len(), 20);
    for (n, result) in (0..).zip(results) {
        match result {
            Ok(value) => assert_eq!(value, n),
            Err(error) => {
                let lost = lost::<()>(Err(error));
                assert_eq!(status(&lost), Death::Abort.status());
                assert!(n == 7 || n == 13, "{n}: {lost}");
            }
        }
    }
}

#[test]
fn an_item_that_kills_its_worker_is_lost_alone() {
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            let results = pool.map(die_at_7_and_13, 0..20).chunk_size(1);
            assert_lost_at_7_and_13(block_on(results.collect()));
            end(&pool);
        }
    });
}

#[test]
fn an_item_that_kills_its_worker_is_lost_alone_in_a_chunk() {
    within_limit(|| {
        for size in SIZES {
            for chunk in [5, 10, 20] {
                let pool = pool(size);
                let results = pool.map(die_slowly, 0..20).chunk_size(chunk);
                assert_lost_at_7_and_13(block_on(results.collect()));
                end(&pool);
            }
        }
    });
}

/// Quick ones may share the fate of a neighbour that they ran before; what comes behind never does.
#[test]
fn items_behind_one_that_kills_its_worker_run() {
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            let map = pool.map(die_at_7_and_13, 0..20).chunk_size(20);
            let results: Vec<_> = block_on(map.collect());
            assert_eq!(results.len(), 20);
            for n in (8..13).chain(14..20) {
                let is_right = results[n].as_ref().is_ok_and(|value| *value as usize == n);
                // Between the two, all were begun in the second chunk.
                assert!(is_right || n < 13, "{n}: {:?}", results[n]);
            }
            assert!(results[7].is_err() && results[13].is_err());
            end(&pool);
        }
    });
}

#[test]
fn every_item_may_kill_its_worker() {
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            let results: Vec<_> =
                block_on(pool.map(die, vec![Death::Exit(3); 30]).chunk_size(1).collect());
            assert_eq!(results.len(), 30);
            for result in results {
                assert_eq!(status(&lost(result)), (Some(3), None));
            }
            end(&pool);
        }
    });
}

/// The pool's size is that of the tasks which run; a worker that is killed while its task waits for
/// another one takes nothing with it.
#[test]
fn a_worker_that_waits_for_its_own_pool_may_be_killed() {
    fn outer(gate: Gate, started: Reports) -> u32 {
        let pool = concurrent_futures::ParentPool::current().unwrap();
        let inner = pool.submit(call!(hold(started.clone(), gate, 5)));
        inner.result().unwrap()
    }
    within_limit(|| {
        for size in SIZES {
            let pool = pool(size);
            let (gate, started) = (Gate::new(), Reports::new());
            let future = pool.submit(call!(outer(gate.clone(), started.clone())));
            let inner = started.wait_for(1)[0];
            let outer = pool.worker_pids().into_iter().find(|pid| *pid != inner).unwrap();
            kill(outer);
            assert_eq!(lost(future.result()).pid, outer);
            gate.open();
            let held = occupy(&pool, &Gate::new()); // the gate opens at once
            held.result().unwrap();
            end(&pool);
        }
    });
}

/// What is killed while it runs is the pool's loss for no longer than it takes to start another.
#[test]
fn a_killed_task_makes_room_for_the_next_one() {
    fn never(started: Reports) -> u32 {
        started.add(process::id());
        wait_to_be_killed()
    }
    within_limit(|| {
        let pool: ProcessPoolExecutor = pool(1);
        for n in 0..20 {
            let started = Reports::new();
            let running = pool.submit(call!(never(started.clone())));
            let behind = pool.submit(call!(square(n)));
            started.wait_for(1);
            assert!(running.kill());
            assert_eq!(behind.result().unwrap(), n * n);
        }
        end(&pool);
    });
}
