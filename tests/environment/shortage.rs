//! A system that refuses further processes and descriptors for a while.

use std::process;

use concurrent_futures::{
    Buffer, Error, ParentPool, ProcessPoolExecutor, Shutdown, TaskFuture, WorkerStderr, call,
};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::program::{alone, part, say};
use crate::support::within_limit;
use crate::tools::{Gate, Reports, builder, end, hold, occupy, own_pid, parent_of, pool};
use crate::{left_out, on_stage};

fn square(n: u32) -> u32 {
    n * n
}

fn assert_squares(futures: Vec<TaskFuture<u32>>) {
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.result().unwrap(), n * n);
    }
}

/// Tasks that run at the same time, or as many of them as there are workers.
fn hold_all(pool: &ProcessPoolExecutor, gate: &Gate) -> (Reports, Vec<TaskFuture<u32>>) {
    let started = Reports::new();
    let held = 0..pool.max_workers() as u32;
    let held = held.map(|n| pool.submit(call!(hold(started.clone(), gate.clone(), n)))).collect();
    (started, held)
}

/// Allows the process that starts workers descriptors below `most` only.
fn limit_helper(helper: u32, most: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: Some(most), maximum };
    prlimit(Pid::from_raw(helper as i32), Resource::Nofile, limit).unwrap();
}

/// The process that starts the pool's workers.
fn helper_of(pool: &ProcessPoolExecutor) -> u32 {
    parent_of(pool.worker_pids()[0]).unwrap()
}

/// Allows it some more descriptors than it has now.
fn allow_helper(pool: &ProcessPoolExecutor, more: u64) {
    let helper = helper_of(pool);
    // A worker may have replied before its parent has closed what was the worker's.
    let is_at_rest = || {
        let stat = std::fs::read_to_string(format!("/proc/{helper}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.starts_with(" S")
    };
    while !is_at_rest() {
        std::thread::yield_now();
    }
    let open = std::fs::read_dir(format!("/proc/{helper}/fd")).unwrap();
    let last = open.map(|fd| fd.unwrap().file_name().to_string_lossy().parse::<u64>().unwrap());
    limit_helper(helper, last.max().unwrap() + 1 + more);
}

/// Runs `f` while this process has no room for further descriptors.
fn without_descriptors<R>(f: impl FnOnce() -> R) -> R {
    let limit = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open / 2), ..limit }).unwrap();
    let done = f();
    setrlimit(Resource::Nofile, limit).unwrap();
    done
}

fn depth(more: u32) -> u32 {
    let parent = ParentPool::current().expect("this is a worker");
    if more == 0 { 0 } else { 1 + parent.submit(call!(depth(more - 1))).result().unwrap() }
}

#[test]
fn tasks_that_need_more_processes_than_there_may_be_end_with_the_reason() {
    alone("shortage::tasks_that_need_more_processes_than_there_may_be_end_with_the_reason", || {
        within_limit(|| {
            let pool = builder(2).build().unwrap();
            assert_eq!(pool.submit(call!(depth(1))).result().unwrap(), 1);
            without_descriptors(|| {
                let error = pool.submit(call!(depth(50))).result().unwrap_err().to_string();
                let reason = "could not be started, and all others wait for tasks";
                assert!(error.contains(reason), "{error}");
            });
        });
    });
}

/// The helper refuses them; the pool learns of it by its notices.
#[test]
fn a_pool_goes_on_with_the_workers_that_it_has_and_grows_when_there_is_room() {
    alone(
        "shortage::a_pool_goes_on_with_the_workers_that_it_has_and_grows_when_there_is_room",
        || {
            within_limit(|| {
                // Each worker has a pipe in the helper then.
                let pool = builder(12).stderr(WorkerStderr::Tail).build().unwrap();
                pool.submit(call!(square(2))).result().unwrap();
                allow_helper(&pool, 4);
                let gate = Gate::new();
                let (started, held) = hold_all(&pool, &gate);
                started.wait_for(2);
                let queued: Vec<_> = (0..50).map(|n| pool.submit(call!(square(n)))).collect();
                let before = pool.worker_pids();
                assert!((2..12).contains(&before.len()), "{before:?}");
                allow_helper(&pool, 50);
                started.wait_for(12); // also those that had found no room
                assert!(before.iter().all(|pid| pool.worker_pids().contains(pid)));
                gate.open();
                held.into_iter().for_each(|held| assert!(held.result().is_ok()));
                assert_squares(queued);
                end(&pool);
            });
        },
    );
}

/// No worker lives while the shortage lasts.
#[test]
fn a_passing_shortage_without_a_worker_is_outlasted() {
    alone("shortage::a_passing_shortage_without_a_worker_is_outlasted", || {
        within_limit(|| {
            let pool = pool(2);
            let queued: Vec<_> = without_descriptors(|| {
                let queued = (0..9).map(|n| pool.submit(call!(square(n)))).collect();
                assert!(pool.worker_pids().is_empty());
                queued
            });
            assert_squares(queued);
            end(&pool);
        });
    });
}

/// The worker that there is waits for the queued task: the pool is not broken, and the task runs as
/// soon as there may be another worker.
#[test]
fn a_nested_task_waits_for_the_end_of_a_shortage() {
    fn nested() -> u32 {
        let pool = concurrent_futures::ParentPool::current().unwrap();
        pool.submit(call!(square(7))).result().unwrap()
    }
    alone("shortage::a_nested_task_waits_for_the_end_of_a_shortage", || {
        within_limit(|| {
            let pool = pool(1);
            pool.submit(call!(square(2))).result().unwrap();
            let nesting = without_descriptors(|| {
                let nesting = pool.submit(call!(nested()));
                // A start is refused before that is to be seen.
                while !pool.dump().to_string().contains("waits for") {
                    std::thread::yield_now();
                }
                nesting
            });
            assert_eq!(nesting.result().unwrap(), 49);
            end(&pool);
        });
    });
}

/// A limit on the number of a user's processes, which does not bind root.
#[test]
fn a_limit_on_processes_below_the_number_of_workers() {
    const NAME: &str = "shortage::a_limit_on_processes_below_the_number_of_workers";
    const WORKERS: u32 = 8;
    if part().is_some() {
        let pool = pool(WORKERS as usize);
        let mut workers = 0;
        for _ in 0..3 {
            let gate = Gate::new();
            let (started, held) = hold_all(&pool, &gate);
            started.wait_for(1);
            let queued: Vec<_> = (0..50).map(|n| pool.submit(call!(square(n)))).collect();
            gate.open();
            held.into_iter().for_each(|held| assert!(held.result().is_ok()));
            assert_squares(queued);
            workers = workers.max(pool.worker_pids().len() as u32);
        }
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        return say(&[workers]);
    }
    if !rustix::process::geteuid().is_root() {
        return left_out("it takes root to run as a user without other processes");
    }
    // Nobody else is this user, also not another run of this test.
    let user = 1_000_000 + process::id();
    let stage = format!(
        "cp \"$0\" \"$TMPDIR/program\" && chmod 777 \"$TMPDIR\" && cd \"$TMPDIR\" || exit 1
         exec prlimit --nproc=9 setpriv --reuid {user} --regid {user} --clear-groups ./program \"$@\""
    );
    let mut program = on_stage(&stage, NAME, "few processes");
    let workers = program.hear()[0];
    assert!((1..WORKERS).contains(&workers), "{workers}");
    assert!(program.ended().success(), "{}", program.output());
}

/// A shortage that stays is told by what the system says.
#[test]
fn a_lasting_shortage_without_a_worker_breaks_the_pool() {
    alone("shortage::a_lasting_shortage_without_a_worker_breaks_the_pool", || {
        within_limit(|| {
            let pool =
                builder(1).max_tasks_per_worker(2).stderr(WorkerStderr::Tail).build().unwrap();
            let gate = Gate::new();
            pool.submit(call!(own_pid())).result().unwrap();
            limit_helper(helper_of(&pool), 3);
            let held = occupy(&pool, &gate); // the last of that worker
            let next = pool.submit(call!(square(3)));
            gate.open();
            held.result().unwrap();
            match next.result() {
                Err(Error::BrokenPool(cause)) => {
                    let text = cause.cause().to_string();
                    assert!(text.contains("could not be started"), "{text}");
                }
                other => panic!("{other:?}"),
            }
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
        });
    });
}

/// Waits until all other threads of this process have begun, and have nothing to do.
fn until_threads_sleep() {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let is_asleep = |thread: std::io::Result<std::fs::DirEntry>| {
        let thread = thread.unwrap();
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('S'));
        state || *thread.file_name() == *own
    };
    while !std::fs::read_dir("/proc/self/task").unwrap().all(is_asleep) {
        std::thread::yield_now();
    }
}

fn buffer_of(bytes: usize) -> (u32, Buffer<u8>) {
    (process::id(), vec![0; bytes].into())
}

fn text_of(bytes: usize) -> (u32, String) {
    (process::id(), "x".repeat(bytes))
}

/// The task alone has failed; its worker goes on.
#[test]
fn a_result_for_which_there_is_no_memory_is_the_error_of_its_task() {
    const NAME: &str = "shortage::a_result_for_which_there_is_no_memory_is_the_error_of_its_task";
    const SIZE: usize = 128 << 20;
    alone(NAME, || {
        within_limit(|| {
            let pool = builder(1).max_result_size(u64::MAX).build().unwrap();
            let pid = pool.submit(call!(own_pid())).result().unwrap();
            until_threads_sleep(); // A thread that begins needs memory, too.
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let used = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
            let used: u64 = used.trim().strip_suffix(" kB").unwrap().parse().unwrap();
            let limit = getrlimit(Resource::As);
            let most = Some(used * 1024 + SIZE as u64 / 2);
            setrlimit(Resource::As, Rlimit { current: most, ..limit }).unwrap();
            let buffer = pool.submit(call!(buffer_of(SIZE)));
            let text = pool.submit(call!(text_of(SIZE)));
            let behind = pool.submit(call!(buffer_of(10)));
            let (buffer, text) = (buffer.result().unwrap_err(), text.result().unwrap_err());
            let (sent_by, content) = behind.result().unwrap();
            setrlimit(Resource::As, limit).unwrap();
            for error in [buffer, text] {
                assert!(matches!(error, Error::Codec(_)), "{error:?}");
                let text = format!("{error:?}");
                assert!(text.contains("no memory for a result of 13421"), "{text}");
            }
            assert_eq!((sent_by, content.len()), (pid, 10));
            assert_eq!(pool.submit(call!(text_of(SIZE))).result().unwrap().1.len(), SIZE);
            end(&pool);
        });
    });
}
