//! PP: CPython's `test_process_pool.py`.
//!
//! PP-1 is about Windows. PP-12: there is one way to start workers, which is safe, and nothing to
//! choose; so PP-11 has no start method that refuses its limit.

use std::collections::{HashMap, HashSet};
use std::process;
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ProcessPoolExecutor, ReturnWhen, Shutdown, TaskFuture, ThreadPoolExecutor, call, wait,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use serde::{Deserialize, Serialize};

use crate::over_pools;
use crate::program;
use crate::support::{POOL_SIZES, within_limit};
use crate::tools::{
    Gate, LONG, Reports, assert_cancelled, assert_gone, assert_panicked, builder, end, family,
    hold, lost, occupy, occupy_all, own_pid, pool, until_ended,
};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

fn square(n: u64) -> u64 {
    n * n
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

fn pids(futures: Vec<TaskFuture<u32>>) -> Vec<u32> {
    futures.into_iter().map(|future| future.result().unwrap()).collect()
}

fn distinct(pids: &[u32]) -> usize {
    pids.iter().collect::<HashSet<_>>().len()
}

/// PP-2. Ours differs: later submissions succeed.
#[test]
fn a_worker_that_is_terminated_fails_the_task_that_it_runs() {
    over_pools(|pool| {
        for (name, number) in [(Signal::TERM, SIGTERM), (Signal::KILL, SIGKILL)] {
            let (started, gate) = (Reports::new(), Gate::new());
            let futures: Vec<_> = (0..pool.max_workers() as u32)
                .map(|n| pool.submit(call!(hold(started.clone(), gate.clone(), n))))
                .collect();
            let victim = started.wait_for(pool.max_workers())[0];
            let queued = pool.submit(call!(square(3)));
            signal(victim, name);
            // Promptly: the others are still held.
            let mut parts = wait(futures, ReturnWhen::FirstError).result();
            let lost = lost(parts.done.pop().unwrap().result());
            assert_eq!((lost.pid, lost.signal, lost.exit_code), (victim, Some(number), None));
            // What waits runs in the worker that takes the other's place.
            assert_eq!(queued.result().unwrap(), 9);
            assert_eq!(pool.submit(call!(square(4))).result().unwrap(), 16);
            assert_gone(&[victim]);
            assert_eq!((parts.done.len(), parts.not_done.len()), (0, pool.max_workers() - 1));
            gate.open();
            for future in parts.not_done {
                future.result().unwrap();
            }
        }
    });
}

/// PP-2. No task was running there, so no future has an error.
#[test]
fn an_idle_worker_that_is_terminated_is_replaced() {
    over_pools(|pool| {
        for _ in 0..5 {
            let pid = pool.submit(call!(own_pid())).result().unwrap();
            signal(pid, Signal::KILL);
            until_ended(pid);
            let next = pool.submit(call!(own_pid())).result();
            // It may be sent to the dead worker, but it can't have begun there.
            assert_ne!(next.unwrap(), pid);
        }
    });
}

/// PP-3.
#[test]
fn every_lost_task_has_an_error_of_its_own() {
    over_pools(|pool| {
        let (started, gate) = (Reports::new(), Gate::new());
        let futures: Vec<_> = (0..pool.max_workers() as u32)
            .map(|n| pool.submit(call!(hold(started.clone(), gate.clone(), n))))
            .collect();
        let mut victims = started.wait_for(pool.max_workers());
        victims.iter().for_each(|pid| signal(*pid, Signal::KILL));
        let mut dead = Vec::new();
        for future in futures {
            let error = future.result().unwrap_err();
            let text = format!("{error:?}");
            let lost = lost::<u32>(Err(error));
            // Of one process, and of no other.
            assert!(text.contains(&format!("worker process {} ", lost.pid)), "{text}");
            assert_eq!((text.matches("worker process").count(), lost.earlier.len()), (1, 0));
            dead.push(lost.pid);
        }
        dead.sort_unstable();
        victims.sort_unstable();
        assert_eq!(dead, victims);
    });
}

/// PP-3. Reading one error does not lengthen another: each holds its own text only.
#[test]
fn a_lost_task_that_was_retried_lists_its_own_workers_only() {
    fn die() {
        process::exit(7);
    }

    over_pools(|pool| {
        let (first, second) = (
            pool.task().retries(2).submit(call!(die())),
            pool.task().retries(2).submit(call!(die())),
        );
        let (first, second) = (lost(first.result()), lost(second.result()));
        assert_eq!((first.earlier.len(), second.earlier.len()), (2, 2));
        let all: HashSet<u32> = [&first, &second]
            .into_iter()
            .flat_map(|lost| lost.earlier.iter().map(|earlier| earlier.pid).chain([lost.pid]))
            .collect();
        assert_eq!(all.len(), 6);
    });
}

/// PP-4. A negative chunk size does not compile, and 0 is EX-9.
#[test]
fn chunks_of_all_sizes_give_all_results_in_order() {
    over_pools(|pool| {
        let expected: Vec<_> = (0..40).map(square).collect();
        for chunk in [6, 40, 50] {
            assert_eq!(pool.map(square, 0..40).chunk_size(chunk).result().unwrap(), expected);
        }
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum NotFound {
    Key { name: String, tried: Vec<u8> },
}

const FAILING_LINE: u32 = line!() + 3;

fn fail(n: u32) -> u32 {
    assert_ne!(n, 7, "seven is not allowed");
    n
}

/// PP-5.
#[test]
fn an_error_arrives_whole_and_a_panic_with_its_place() {
    fn find(name: String) -> Result<u32, NotFound> {
        Err(NotFound::Key { name, tried: vec![1, 2, 3] })
    }

    over_pools(|pool| {
        // A job's own error has its type and its arguments.
        let error = pool.submit(call!(find("key".to_owned()))).result().unwrap().unwrap_err();
        assert_eq!(error, NotFound::Key { name: "key".to_owned(), tried: vec![1, 2, 3] });

        // A panic has its message and its place in the source, and its text shows both.
        let of_map = futures::executor::block_on(pool.map(fail, [7]).next()).unwrap();
        for result in [pool.submit(call!(fail(7))).result(), of_map] {
            let error = result.unwrap_err();
            let text = error.to_string();
            let Error::Panicked(panicked) = error else { panic!("{text}") };
            let message =
                "assertion `left != right` failed: seven is not allowed\n  left: 7\n right: 7";
            assert_eq!(panicked.message(), message);
            let place = panicked.location().unwrap();
            assert_eq!((place.line(), place.file()), (FAILING_LINE, file!()));
            assert!(text.contains(message), "{text}");
            assert!(text.contains(&format!("{}:{FAILING_LINE}", file!())), "{text}");
        }
    });
}

/// PP-6.
#[test]
fn the_error_of_a_lost_task_names_the_process_and_its_exit_code() {
    fn leave(started: Reports) {
        started.add(process::id());
        process::exit(99);
    }

    over_pools(|pool| {
        let started = Reports::new();
        let error = pool.submit(call!(leave(started.clone()))).result().unwrap_err();
        let pid = started.get()[0];
        let text = format!("{error:?}");
        assert!(text.contains(&format!("worker process {pid} ")), "{text}");
        assert!(text.contains("exit code 99"), "{text}");
        let lost = lost::<()>(Err(error));
        assert_eq!((lost.pid, lost.exit_code, lost.signal), (pid, Some(99), None));
    });
}

/// PP-7.
#[test]
fn arguments_are_freed_in_the_worker_right_after_the_task() {
    /// Tells when it is freed in another process than it was made in.
    #[derive(Serialize, Deserialize)]
    struct Argument {
        made_in: u32,
        freed: Reports,
    }

    impl Argument {
        fn new(freed: &Reports) -> Self {
            Self { made_in: process::id(), freed: freed.clone() }
        }
    }

    impl Drop for Argument {
        fn drop(&mut self) {
            if process::id() != self.made_in {
                self.freed.add(process::id());
            }
        }
    }

    fn look(_argument: &mut Argument) -> u32 {
        process::id()
    }

    fn borrow(mut argument: Argument) -> u32 {
        look(&mut argument)
    }

    fn fail(_argument: Argument) -> u32 {
        panic!("with an argument in its hands")
    }

    over_pools(|pool| {
        // No task comes after it.
        let freed = Reports::new();
        let worker = pool.submit(call!(borrow(Argument::new(&freed)))).result().unwrap();
        assert_eq!(freed.wait_for(1), [worker]);

        let freed = Reports::new();
        let outcome = pool.submit(call!(fail(Argument::new(&freed)))).result();
        assert_panicked(&outcome, "with an argument in its hands");
        assert_eq!(freed.wait_for(1).len(), 1);

        let freed = Reports::new();
        pool.map(borrow, [Argument::new(&freed)]).result().unwrap();
        assert_eq!(freed.wait_for(1).len(), 1);
    });
}

/// PP-8.
#[test]
fn many_blocking_tasks_start_no_more_processes_than_the_pool_has_workers() {
    over_pools(|pool| {
        let size = pool.max_workers();
        assert_eq!(pool.metrics().workers, 0, "no process before there is a task");
        let (started, gate) = (Reports::new(), Gate::new());
        let futures: Vec<_> = (0..15 * size)
            .map(|_| {
                fn job(started: Reports, gate: Gate) -> u32 {
                    hold(started, gate, process::id())
                }
                pool.submit(call!(job(started.clone(), gate.clone())))
            })
            .collect();
        started.wait_for(size);
        let metrics = pool.metrics();
        assert_eq!((metrics.workers, metrics.running, metrics.queued), (size, size, 14 * size));
        gate.open();
        let pids = pids(futures);
        assert_eq!(distinct(&pids), size);
        assert_eq!(pool.metrics().workers, size);
        let alive: HashSet<u32> = pool.worker_pids().into_iter().collect();
        assert_eq!(alive, pids.into_iter().collect());
    });
}

/// PP-9.
#[test]
fn tasks_awaited_one_after_another_use_one_process() {
    within_limit(|| {
        for size in POOL_SIZES {
            for _ in 0..10 {
                let pool = pool(size);
                let pid = || pool.submit(call!(own_pid())).result().unwrap();
                let pids = [pid(), pid(), pid()];
                assert_eq!(pids, [pids[0]; 3]);
                assert_eq!(pool.metrics().workers, 1);
                end(&pool);
            }
        }
    });
}

/// PP-10.
#[test]
fn every_second_of_six_tasks_awaited_uses_three_processes_at_most() {
    within_limit(|| {
        for size in POOL_SIZES {
            for _ in 0..10 {
                let pool = pool(size);
                let mut others = Vec::new();
                for _ in 0..3 {
                    pool.submit(call!(own_pid())).result().unwrap();
                    others.push(pool.submit(call!(own_pid())));
                }
                assert!(pool.metrics().workers <= 3, "{:?}", pool.metrics());
                assert!(distinct(&pids(others)) <= 3);
                end(&pool);
            }
        }
    });
}

fn limited(max_workers: usize, max_tasks: usize) -> ProcessPoolExecutor {
    builder(max_workers).max_tasks_per_worker(max_tasks).build().unwrap()
}

/// PP-11.
#[test]
fn a_worker_ends_after_max_tasks_per_worker() {
    within_limit(|| {
        let pool = limited(1, 3);
        let pid = || pool.submit(call!(own_pid())).result().unwrap();
        let pids: Vec<u32> = (0..7).map(|_| pid()).collect();
        assert_eq!(pids[..3], [pids[0]; 3]);
        assert_eq!(pids[3..6], [pids[3]; 3]);
        assert_eq!(distinct(&pids), 3);
        assert_eq!(pool.metrics().workers, 1);
        assert!(pool.worker_pids().contains(&pids[6]));
        until_ended(pids[0]);
        until_ended(pids[3]);
        end(&pool);
        assert_gone(&pids);
    });
}

/// PP-11. A chunk is one task of a worker; the items of a map are spread over several workers then.
#[test]
fn a_chunk_counts_as_one_task_of_its_worker() {
    fn pid((): ()) -> u32 {
        process::id()
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let pool = limited(size, 2);
            let pids = pool.map(pid, vec![(); 60]).chunk_size(3).result().unwrap();
            let mut items = HashMap::<u32, usize>::new();
            pids.iter().for_each(|pid| *items.entry(*pid).or_default() += 1);
            assert!(items.values().all(|count| *count <= 6), "{items:?}");
            assert!(items.len() >= 10);
            end(&pool);
        }
    });
}

/// PP-13.
#[test]
fn all_results_arrive_when_workers_retire_under_a_backlog() {
    within_limit(|| {
        for (size, tasks) in [(1, 6), (2, 8), (4, 50)] {
            let pool = limited(size, 2);
            let futures = (0..tasks).map(|_| pool.submit(call!(own_pid()))).collect();
            let mut counts = HashMap::<u32, usize>::new();
            pids(futures).into_iter().for_each(|pid| *counts.entry(pid).or_default() += 1);
            assert!(counts.values().all(|count| *count <= 2), "{counts:?}");
            end(&pool);
        }
    });
}

/// A pool of workers for one task each; the first ones are held, and others wait behind them.
fn retiring(size: usize) -> (ProcessPoolExecutor, Gate, Vec<TaskFuture<u32>>) {
    let pool = limited(size, 1);
    let gate = Gate::new();
    let mut futures: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
    futures.extend((0..3 * size).map(|_| pool.submit(call!(own_pid()))));
    (pool, gate, futures)
}

/// PP-14.
#[test]
fn a_worker_that_retires_after_a_shutdown_is_replaced_for_queued_tasks() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, gate, futures) = retiring(size);
            let ended = pool.shutdown(Shutdown::Drain);
            gate.open();
            let pids = pids(futures);
            assert_eq!(distinct(&pids), 4 * size, "one task each");
            assert_eq!(ended.result().unwrap().completed as usize, 4 * size);
            assert_gone(&pids);
        }
    });
}

/// PP-14. Ours differs: to drop the last handle is a shutdown that drains, as on threads. What was
/// accepted runs.
#[test]
fn a_worker_that_retires_after_a_shutdown_and_the_last_drop_is_replaced() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, gate, futures) = retiring(size);
            drop(pool.shutdown(Shutdown::Drain));
            drop(pool);
            gate.open();
            let pids = pids(futures);
            assert_eq!(distinct(&pids), 4 * size);
            pids.into_iter().for_each(until_ended);
        }
    });
}

/// PP-15.
#[test]
fn a_worker_that_retires_after_the_last_drop_is_replaced() {
    within_limit(|| {
        for size in POOL_SIZES {
            let (pool, gate, futures) = retiring(size);
            drop(pool);
            gate.open();
            let pids = pids(futures);
            assert_eq!(distinct(&pids), 4 * size);
            pids.into_iter().for_each(until_ended);
        }
    });
}

/// The end of a pool by force.
type Force = fn(&ProcessPoolExecutor) -> concurrent_futures::ShutdownReport;

const FORCES: [(Force, i32); 2] = [
    (|pool| pool.terminate_workers(LONG).result().unwrap(), SIGTERM),
    (|pool| pool.kill_workers().result().unwrap(), SIGKILL),
];

/// PP-16. Ours differs: what had not started is cancelled.
#[test]
fn workers_that_retire_during_a_forced_shutdown_are_not_replaced() {
    within_limit(|| {
        for size in POOL_SIZES {
            for (force, _) in FORCES {
                for round in 0..10 {
                    let pool = limited(size, 1);
                    let started = Reports::new();
                    let futures: Vec<_> = (0..10 * size)
                        .map(|_| {
                            fn job(started: Reports) {
                                started.add(process::id());
                            }
                            pool.submit(call!(job(started.clone())))
                        })
                        .collect();
                    started.wait_for(round % 3); // some have retired, or are about to
                    force(&pool);
                    let pids = started.get();
                    for future in futures {
                        assert!(future.is_done());
                        match future.result() {
                            Ok(()) | Err(Error::Cancelled | Error::WorkerLost(_)) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    assert_gone(&pids);
                    assert_eq!(started.get(), pids, "nothing has run since");
                    assert_eq!(pool.metrics().workers, 0);
                }
            }
        }
    });
}

/// Leaves this process no more room for descriptors, so that a worker can't be started.
fn use_up_descriptors() {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    limit(Resource::Nofile, Some(open as u64 / 2));
}

fn limit(resource: Resource, most: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current: most.or(maximum), maximum }).unwrap();
}

fn assert_broken<T: std::fmt::Debug>(outcome: Result<T, Error>, text: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
    assert!(format!("{error:?}").contains(text), "{error:?}");
}

/// PP-17.
#[test]
fn a_worker_that_can_not_be_replaced_breaks_the_pool() {
    let name = "workers::a_worker_that_can_not_be_replaced_breaks_the_pool";
    let main = || {
        let pool = limited(1, 1);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let queued: Vec<_> = (0..3).map(|n| pool.submit(call!(square(n)))).collect();
        let map = pool.map(square, 0..10).start();
        use_up_descriptors();
        gate.open();
        held.result().unwrap(); // the last that the pool can do
        for future in queued {
            assert_broken(future.result(), "a worker process could not be started");
        }
        assert_broken(map.result(), "a worker process could not be started");
        assert_broken(pool.submit(call!(square(4))).result(), "could not be started");
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(pool.metrics().workers, 0);
    };
    if let Some(ended) = program::run(name, 0, main) {
        ended.well();
    }
}

/// PP-17. As long as there is another worker the pool goes on, with less.
#[test]
fn a_worker_that_can_not_be_added_is_done_without() {
    let name = "workers::a_worker_that_can_not_be_added_is_done_without";
    let main = || {
        let pool = pool(4);
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        use_up_descriptors();
        let queued: Vec<_> = (0..9).map(|n| pool.submit(call!(square(n)))).collect();
        assert_eq!(pool.metrics().workers, 1);
        gate.open();
        held.result().unwrap();
        for (n, future) in (0..).zip(queued) {
            assert_eq!(future.result().unwrap(), n * n);
        }
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    };
    if let Some(ended) = program::run(name, 0, main) {
        ended.well();
    }
}

/// PP-18.
#[test]
fn a_waiting_shutdown_over_workers_of_one_task_each_gives_all_results() {
    within_limit(|| {
        for _ in 0..10 {
            let pool = limited(3, 1);
            let futures: Vec<_> = (0..6).map(|n| pool.submit(call!(square(n)))).collect();
            let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!((report.failed, report.cancelled, pool.metrics().completed), (0, 0, 6));
            for (n, future) in (0..).zip(futures) {
                assert_eq!(future.result().unwrap(), n * n);
            }
        }
    });
}

/// Leaves this process no more room for the stack of a thread.
fn refuse_threads() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kilobytes: u64 = size.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    limit(Resource::As, Some((kilobytes + 1024) * 1024));
    thread::Builder::new().spawn(|| ()).unwrap_err();
}

fn allow_threads() {
    limit(Resource::As, None);
}

/// PP-19.
#[test]
fn a_pool_whose_reader_can_not_start_is_refused() {
    let name = "workers::a_pool_whose_reader_can_not_start_is_refused";
    let main = || {
        refuse_threads();
        for _ in 0..3 {
            match ProcessPoolExecutor::new() {
                Err(Error::BrokenPool(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        allow_threads();
        let pool = pool(1);
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        end(&pool);
    };
    if let Some(ended) = program::run(name, 0, main) {
        ended.well();
    }
}

/// PP-19. A pool has threads for callbacks, long results and the input of maps, when they are
/// wanted.
#[test]
fn a_helper_thread_that_can_not_start_costs_an_error_and_no_hang() {
    fn long() -> Vec<u8> {
        vec![1; 1 << 20]
    }

    let name = "workers::a_helper_thread_that_can_not_start_costs_an_error_and_no_hang";
    let main = |variant| {
        let pool = pool(1);
        // By now the thread that reads is there; the beginning of a thread needs memory, too.
        pool.submit(call!(own_pid())).result().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        match variant {
            0 => {
                let (sender, called) = std::sync::mpsc::channel();
                held.add_done_callback(move |result| {
                    let _ = sender.send(result.is_ok());
                });
                refuse_threads();
                gate.open();
                drop(held.result());
                // Whatever became of the task, its callback is not forgotten.
                called.recv().unwrap();
            }
            1 => {
                let future = pool.submit(call!(long()));
                refuse_threads();
                gate.open();
                let _ = future.result();
            }
            _ => {
                refuse_threads();
                gate.open();
                let _ = pool.map(square, 0..10).result();
            }
        }
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        assert_eq!(pool.metrics().workers, 0);
    };
    for variant in 0..3 {
        if let Some(ended) = program::run(name, variant, || main(variant)) {
            ended.well();
        }
    }
}

/// PP-20. There is one method for each operation, so an unknown one does not compile.
#[test]
fn workers_are_terminated_or_killed() {
    within_limit(|| {
        for size in POOL_SIZES {
            for (force, signal) in FORCES {
                let pool = pool(size);
                let gate = Gate::new();
                let futures = occupy_all(&pool, &gate);
                let report = force(&pool);
                assert_eq!((report.failed as usize, report.running.len()), (size, 0));
                for future in futures {
                    assert_eq!(lost(future.result()).signal, Some(signal));
                }
            }
        }
    });
}

/// PP-20.
#[test]
fn a_worker_that_ignores_termination_is_killed_after_the_grace_period() {
    fn ignore(started: Reports, gate: Gate) {
        // SAFETY: it changes what a signal does, and nothing else uses that signal here.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        hold(started, gate, 0);
    }

    within_limit(|| {
        for size in POOL_SIZES {
            let pool = pool(size);
            let (started, gate) = (Reports::new(), Gate::new());
            let future = pool.submit(call!(ignore(started.clone(), gate.clone())));
            let pid = started.wait_for(1)[0];
            let ended = pool.terminate_workers(Duration::from_millis(50));
            assert_eq!(lost(future.result()).signal, Some(SIGKILL));
            ended.result().unwrap();
            assert_gone(&[pid]);
        }
    });
}

/// PP-21.
#[test]
fn a_forced_shutdown_ends_a_task_that_waits() {
    over_pools(|pool| {
        let kept = pool.clone();
        let (started, ended, gate) = (Reports::new(), Reports::new(), Gate::new());
        fn job(started: Reports, gate: Gate, ended: Reports) {
            hold(started, gate, 0);
            ended.add(process::id());
        }
        let future = pool.submit(call!(job(started.clone(), gate.clone(), ended.clone())));
        let queued = pool.submit(call!(square(3)));
        let pid = started.wait_for(1)[0];
        let family = family(pool);
        kept.kill_workers().result().unwrap();
        gate.open();
        assert_eq!(lost(future.result()).pid, pid);
        if pool.max_workers() == 1 {
            assert_cancelled(&queued.result());
        }
        assert!(ended.get().is_empty());
        assert_gone(&family);
    });
}

/// PP-22.
#[test]
fn a_forced_shutdown_of_a_broken_pool_is_no_error() {
    fn refuse() -> Result<(), &'static str> {
        Err("no licence")
    }

    within_limit(|| {
        for size in POOL_SIZES {
            for (force, _) in FORCES {
                let pool = builder(size).initializer(call!(refuse())).build().unwrap();
                assert_broken(pool.submit(call!(square(3))).result(), "no licence");
                force(&pool);
                force(&pool);
                assert_broken(pool.submit(call!(square(3))).result(), "no licence");
                assert_eq!(pool.metrics().workers, 0);
            }
        }
    });
}

/// PP-23.
#[test]
fn a_forced_shutdown_before_there_is_a_worker_does_nothing() {
    within_limit(|| {
        for size in POOL_SIZES {
            for (force, _) in FORCES {
                let pool = pool(size);
                let report = force(&pool);
                let mut nothing_done = concurrent_futures::ShutdownReport::default();
                nothing_done.ended = true;
                assert_eq!(report, nothing_done);
                assert_eq!(pool.metrics().workers, 0);
            }
        }
    });
}

/// PP-24.
#[test]
fn after_a_forced_shutdown_submissions_are_refused_and_the_worker_is_dead() {
    over_pools(|pool| {
        let pid = pool.submit(call!(own_pid())).result().unwrap();
        let ended = pool.kill_workers();
        assert!(matches!(pool.submit(call!(square(3))).result(), Err(Error::ShutDown)));
        assert!(matches!(pool.map(square, 0..3).result(), Err(Error::ShutDown)));
        ended.result().unwrap();
        assert_gone(&[pid]);
    });
}

#[test]
fn a_job_may_signal_itself() {
    fn raise() {
        kill_process(getpid(), Signal::INT).unwrap();
    }

    over_pools(|pool| {
        assert_eq!(lost(pool.submit(call!(raise())).result()).signal, Some(2));
    });
}

#[test]
fn a_panic_has_its_backtrace_if_the_environment_asks_for_it() {
    fn fails(n: u32) -> u32 {
        panic!("{n} is refused");
    }

    let name = "workers::a_panic_has_its_backtrace_if_the_environment_asks_for_it";
    for (variant, asked) in [("0", false), ("1", true)].into_iter().enumerate() {
        let main = || {
            let processes = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
            let threads = ThreadPoolExecutor::new();
            let errors = [
                processes.submit(call!(fails(1))).result(),
                futures::executor::block_on(processes.map(fails, [2, 3]).next()).unwrap(),
                threads.submit(|| fails(4)).result(),
            ];
            for error in errors {
                let Err(Error::Panicked(panicked)) = error else { panic!("{error:?}") };
                let backtrace = panicked.backtrace();
                assert_eq!(backtrace.is_some(), asked.1);
                assert!(backtrace.is_none_or(|text| text.contains("fails")));
            }
            println!("main is done");
        };
        let variables = [("RUST_BACKTRACE", asked.0)];
        if let Some(ended) = program::run_with(&variables, name, variant, main) {
            assert!(ended.status.success() && ended.printed("main is done"), "{}", ended.stderr);
        }
    }
}
