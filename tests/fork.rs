//! What a forked child process can do with the crate: TP-5 and TP-6 of `docs/behaviours.md`, and
//! the parts of TP-2 and SD-3 that need a process of their own.
//!
//! A child has one thread: that which forked. The workers of the parent's pools are not there, and
//! a lock that another thread held at that moment is never released in the child. So a child leaves
//! the parent's pools alone and makes its own; nothing that pools share may stand in its way.
//!
//! Rust's standard library has such a lock as well, which each thread takes for a moment when it
//! starts and when it ends, and which a child needs to start threads of its own. So a program that
//! forks may not start or end threads at the same time, whatever this crate does. That is why each
//! test here is a program, without the threads of other tests, and starts its own before it forks.

#![cfg(unix)]

#[path = "lifecycle/program.rs"]
mod program;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, InlineExecutor, ReturnWhen, Shutdown, TaskFuture, ThreadPoolExecutor, as_completed, wait,
};
use futures::executor::{block_on, block_on_stream};

use support::{Counter, Gate, POOL_SIZES, occupy, pool, within_limit};

/// No child takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

/// A child process that was not waited for yet.
struct Child(libc::pid_t);

impl Child {
    /// Forks. The child runs `main` and ends with exit code 0, or with 1 if `main` panicked; it does
    /// not return from here.
    fn fork(main: impl FnOnce()) -> Self {
        Self::fork_here().unwrap_or_else(|| {
            let code = i32::from(catch_unwind(AssertUnwindSafe(main)).is_err());
            // SAFETY: ends the process, and runs nothing of the parent's on the way.
            unsafe { libc::_exit(code) }
        })
    }

    /// Forks, and returns in both processes: `None` in the child.
    fn fork_here() -> Option<Self> {
        // SAFETY: the child has a copy of this thread's stack and of all memory, so what it can reach
        // is valid there. It may find a lock held for ever; that is what these tests are about, and
        // the parent kills a child that hangs.
        match unsafe { libc::fork() } {
            -1 => panic!("{}", std::io::Error::last_os_error()),
            0 => None,
            pid => Some(Self(pid)),
        }
    }

    /// Waits for the child, and fails if it ends otherwise than with exit code 0, or not at all.
    #[track_caller]
    fn ends_well(self) {
        let Self(pid) = self;
        let (sender, ended) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the answer. The child is this process's own, and
            // nobody else waits for it.
            let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
            let _ = sender.send((reaped, status));
        });
        let answer = ended.recv_timeout(HANG);
        if answer.is_err() {
            // SAFETY: a call without memory. The waiter has not reaped the child, so its number has
            // not been given to another process.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        waiter.join().unwrap();
        let Ok((reaped, status)) = answer else { panic!("the child hangs") };
        assert_eq!(reaped, pid);
        assert!(libc::WIFEXITED(status), "ended by signal {}", libc::WTERMSIG(status));
        assert_eq!(
            libc::WEXITSTATUS(status),
            0,
            "1 is a failed assertion in the child, 2 a task of the parent"
        );
    }
}

/// What a child does with a pool of its own.
fn use_a_pool(size: usize) {
    let pool = pool(size);
    assert_eq!(pool.submit(|| 6 * 7).result().unwrap(), 42);
    assert_eq!(block_on(pool.submit(|| 6 * 7)).unwrap(), 42);
    assert_eq!(pool.map(|x| x * x, 0..20).result().unwrap()[19], 361);
    let inner = pool.clone();
    let nested = pool.submit(move || block_on(inner.submit(|| 5)).unwrap());
    assert_eq!(nested.result().unwrap(), 5);
    pool.shutdown_blocking(Shutdown::Drain).unwrap();
}

/// Calls `submit` on a thread of its own, again and again, as long as `f` runs.
fn while_submitting(submit: impl Fn() + Send + 'static, f: impl FnOnce()) {
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Gate::new());
    let (asked, first) = (stop.clone(), begun.clone());
    let submitter = thread::spawn(move || {
        while !asked.load(SeqCst) {
            submit();
            first.open();
        }
    });
    begun.wait();
    f();
    stop.store(true, SeqCst);
    submitter.join().unwrap();
}

/// A pool whose workers have all started. Its queue does not grow without end under a submitter
/// that never waits.
fn started(size: usize) -> ThreadPoolExecutor {
    let builder = ThreadPoolExecutor::builder().max_workers(size).queue_capacity(1_000);
    let pool = builder.build().unwrap();
    let gate = Gate::new();
    let busy: Vec<_> = (0..size).map(|_| occupy(&pool, &gate)).collect();
    gate.open();
    for future in busy {
        future.result().unwrap();
    }
    pool
}

/// Runs a test as a program for each size of a pool. What children print of their failures comes out
/// on its stderr.
fn program(name: &str, main: fn(usize)) {
    for size in POOL_SIZES {
        if let Some(ended) = program::run(name, size, || within_limit(move || main(size))) {
            ended.well();
        }
    }
}

/// TP-5.
#[test]
fn children_forked_while_another_thread_submits_do_not_deadlock() {
    program("children_forked_while_another_thread_submits_do_not_deadlock", |size| {
        let busy = started(size);
        let submit = move || busy.submit(|| ()).detach();
        while_submitting(submit, || {
            for _ in 0..50 {
                Child::fork(|| use_a_pool(size)).ends_well();
            }
        });
    });
}

#[test]
fn a_child_has_a_global_pool_of_its_own() {
    program("a_child_has_a_global_pool_of_its_own", |_size| {
        let use_it = || {
            let global = ThreadPoolExecutor::global();
            assert_eq!(global.submit(|| 6 * 7).result().unwrap(), 42);
            assert!(ThreadPoolExecutor::builder().build_global().is_err());
        };
        Child::fork(use_it).ends_well(); // the first of all
        use_it();
        Child::fork(use_it).ends_well();
        use_it();
    });
}

/// Forks inside of a job of `pool`, and waits for the child there.
fn fork_in_a_job(pool: &ThreadPoolExecutor, child: impl FnOnce() + Send + 'static) {
    pool.submit(move || Child::fork(child).ends_well()).result().unwrap();
}

/// TP-6.
#[test]
fn a_child_forked_in_a_job_ends_with_code_0() {
    program("a_child_forked_in_a_job_ends_with_code_0", |size| {
        let pool = started(size);
        for _ in 0..10 {
            fork_in_a_job(&pool, || ());
            // With the handlers of `atexit`, and with what the runtime of Rust does at the end.
            fork_in_a_job(&pool, || std::process::exit(0));
            fork_in_a_job(&pool, move || use_a_pool(size));
        }
    });
}

/// TP-6.
#[test]
fn a_child_forked_in_a_job_of_a_busy_pool_ends_with_code_0() {
    program("a_child_forked_in_a_job_of_a_busy_pool_ends_with_code_0", |size| {
        let (pool, busy) = (started(size), started(size));
        let handle = pool.clone();
        let submit = move || {
            busy.submit(|| ()).detach();
            let _ = handle.submit(|| ()).result();
        };
        while_submitting(submit, || {
            for _ in 0..50 {
                fork_in_a_job(&pool, move || use_a_pool(size));
            }
        });
    });
}

/// TP-6. In the child, the job that forked is still on the stack, and its pool has tasks in its
/// queue. They are the parent's: none of them runs twice.
#[test]
fn a_child_forked_in_a_job_leaves_the_parents_tasks_to_the_parent() {
    program("a_child_forked_in_a_job_leaves_the_parents_tasks_to_the_parent", |size| {
        let pool = pool(size);
        let ran = Arc::new(AtomicUsize::new(0));
        let (gate, queued) = (Gate::new(), Gate::new());
        let busy: Vec<_> = (1..size).map(|_| occupy(&pool, &gate)).collect();
        let (count, there) = (ran.clone(), queued.clone());
        let forks = pool.submit(move || {
            there.wait();
            let child = move || {
                for _ in 0..50 {
                    use_a_pool(1);
                }
                // The child's own copy of the count.
                assert_eq!(count.load(SeqCst), 0);
            };
            Child::fork(child).ends_well();
        });
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let count = ran.clone();
                pool.submit(move || count.fetch_add(1, SeqCst))
            })
            .collect();
        queued.open();
        forks.result().unwrap();
        gate.open();
        for task in tasks {
            task.result().unwrap();
        }
        assert_eq!(ran.load(SeqCst), 10);
        drop(busy);
    });
}

/// TP-6. The worker of the job has taken further tasks ahead. They stay with the parent, and the child
/// ends with the job.
#[test]
fn a_child_that_returns_from_its_job_leaves_the_parents_tasks_to_the_parent() {
    program("a_child_that_returns_from_its_job_leaves_the_parents_tasks_to_the_parent", |size| {
        let (begun, all_there) = (Counter::new(), Gate::new());
        let (begins, hold) = (begun.clone(), all_there.clone());
        // A new worker takes several tasks at once, so each begins when all of them are queued.
        let initializer = move || {
            begins.add();
            hold.wait();
        };
        let builder = ThreadPoolExecutor::builder().max_workers(size).initializer(initializer);
        let pool = builder.build().unwrap();
        let forks = pool.submit(|| {
            if let Some(child) = Child::fork_here() {
                child.ends_well();
            }
        });
        let parent = std::process::id();
        let task = move || {
            if std::process::id() != parent {
                // SAFETY: ends the process, and runs nothing of the parent's on the way.
                unsafe { libc::_exit(2) };
            }
        };
        let tasks: Vec<_> = (0..10).map(|_| pool.submit(task)).collect();
        begun.wait_for(size);
        all_there.open();
        forks.result().unwrap();
        for task in tasks {
            task.result().unwrap();
        }
    });
}

/// TP-6. A handle that the child has inherited may be dropped there: a drop never waits.
#[test]
fn a_child_may_drop_the_handles_that_it_inherited() {
    program("a_child_may_drop_the_handles_that_it_inherited", |size| {
        let pool = pool(size);
        let gate = Gate::new();
        let busy = occupy(&pool, &gate);
        Child::fork(move || {
            drop(pool);
            use_a_pool(size);
        })
        .ends_well();
        gate.open();
        busy.result().unwrap();
    });
}

/// TP-2.
#[cfg(target_os = "linux")]
#[test]
fn the_default_size_honours_the_affinity_of_the_process() {
    program("the_default_size_honours_the_affinity_of_the_process", |_| {
        assert_eq!(ThreadPoolExecutor::new().max_workers(), num_cpus::get());
        Child::fork(|| {
            // SAFETY: a set of CPUs is plain data, for which zeros are a value. The calls read and
            // write that set alone, whose size they are told.
            let narrowed = unsafe {
                let size = size_of::<libc::cpu_set_t>();
                let mut allowed: libc::cpu_set_t = std::mem::zeroed();
                let read = libc::sched_getaffinity(0, size, &mut allowed);
                let cpus = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
                let first = cpus.into_iter().find(|cpu| libc::CPU_ISSET(*cpu, &allowed));
                libc::CPU_ZERO(&mut allowed);
                libc::CPU_SET(first.unwrap(), &mut allowed);
                (read, libc::sched_setaffinity(0, size, &allowed))
            };
            assert_eq!(narrowed, (0, 0));
            assert_eq!(ThreadPoolExecutor::new().max_workers(), 1);
        })
        .ends_well();
    });
}

/// The pool of `refuses_at_exit`, which takes no argument.
static AT_EXIT: OnceLock<ThreadPoolExecutor> = OnceLock::new();

extern "C" fn refuses_at_exit() {
    let refused = AT_EXIT.get().is_some_and(|pool| {
        let result = pool.submit(|| 1).result();
        let text = result.as_ref().err().map(Error::to_string).unwrap_or_default();
        matches!(result, Err(Error::ShutDown)) && text.contains("takes no new tasks")
    });
    // SAFETY: ends the process; a second `exit` here would not be defined.
    unsafe { libc::_exit(if refused { 0 } else { 3 }) };
}

/// SD-3.
#[test]
fn a_submission_from_an_exit_handler_is_refused_after_shutdown() {
    program("a_submission_from_an_exit_handler_is_refused_after_shutdown", |size| {
        Child::fork(|| {
            let pool = AT_EXIT.get_or_init(|| pool(size));
            pool.submit(|| ()).result().unwrap();
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            // SAFETY: the handler takes nothing and does not unwind: nothing in it panics.
            assert_eq!(unsafe { libc::atexit(refuses_at_exit) }, 0);
            std::process::exit(4); // unless the handler says otherwise
        })
        .ends_well();
    });
}

// ---- What is made at its first use, and a child that is forked meanwhile ----

/// The first executor puts a panic hook in front of the program's.
#[test]
fn a_child_forked_while_the_first_executor_is_made_makes_one() {
    program("a_child_forked_while_the_first_executor_is_made_makes_one", |_| {
        std::panic::set_hook(Box::new(|_| ())); // the program's, which prints nothing
        let begins = Arc::new(AtomicBool::new(false));
        let is_over = Gate::new();
        let (begun, over) = (begins.clone(), is_over.clone());
        let first = thread::spawn(move || {
            begun.store(true, SeqCst);
            drop(InlineExecutor::new());
            over.wait();
        });
        while !begins.load(SeqCst) {
            std::hint::spin_loop();
        }
        let child = || {
            let ended = InlineExecutor::new().submit(|| panic!("of the child")).result();
            let Err::<(), _>(Error::Panicked(panicked)) = ended else { panic!("{ended:?}") };
            assert!(panicked.location().is_some(), "there is no hook");
        };
        let children: Vec<_> = (0..10).map(|_| Child::fork(child)).collect();
        is_over.open();
        first.join().unwrap();
        children.into_iter().for_each(Child::ends_well);
    });
}

// ---- What a child finds of its parent's pools, and what it makes anew ----

fn is_the_parent_s<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("its workers are not here");
    assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
    assert!(format!("{error:?}").contains("made before this process was forked"), "{error:?}");
}

/// Not even if another thread has the pool's locks at the moment of the fork.
#[test]
fn a_pool_of_the_parent_refuses_in_the_child_and_says_why() {
    program("a_pool_of_the_parent_refuses_in_the_child_and_says_why", |size| {
        let pool = started(size);
        let busy = pool.clone();
        let submit = move || busy.submit(|| ()).result().unwrap();
        while_submitting(submit, || {
            for _ in 0..30 {
                let (pool, inherited) = (pool.clone(), pool.submit(|| 1));
                let child = move || {
                    is_the_parent_s(pool.submit(|| 1).result());
                    is_the_parent_s(pool.submit_future(async { 1 }).result());
                    is_the_parent_s(block_on(pool.reserve()).map(drop));
                    is_the_parent_s(pool.map(|n| n, 0..9).result());
                    let refused = pool.try_submit(|| 7).unwrap_err();
                    assert_eq!(refused.into_job()(), 7);
                    assert_eq!((pool.metrics().workers, pool.metrics().queued), (0, 0));
                    assert!(pool.dump().to_string().contains("forked"));
                    drop(inherited);
                    drop(pool.shutdown(Shutdown::CancelQueued));
                    pool.shutdown_blocking(Shutdown::Drain).unwrap();
                    use_a_pool(size);
                };
                Child::fork(child).ends_well();
            }
        });
        assert_eq!(pool.submit(|| 6 * 7).result().unwrap(), 42);
    });
}

/// The thread that keeps the time is the parent's, and so are the limits that it knows.
#[test]
fn time_limits_hold_in_a_child() {
    const LIMIT: Duration = Duration::from_millis(5);

    fn use_limits(size: usize) {
        let pool = pool(size);
        let stops = || {
            while !concurrent_futures::task::stop_requested() {
                thread::yield_now();
            }
        };
        let late = |result| matches!(result, Err(Error::TimedOut { .. }));
        assert!(late(pool.task().timeout(LIMIT).submit(stops).result()));
        let never = || TaskFuture::<()>::promise();
        let (_completer, future) = never();
        let parts = block_on(wait([future], ReturnWhen::AllCompleted).timeout(LIMIT));
        assert_eq!(parts.not_done.len(), 1);
        let (_completer, future) = never();
        let mut done = block_on_stream(as_completed([future]).timeout(LIMIT));
        assert!(done.next().unwrap().is_err());
    }

    program("time_limits_hold_in_a_child", |size| {
        let busy = started(size);
        // The limit is set and given up again and again, so the lock may be held at the fork.
        let submit = move || {
            let limited = busy.task().timeout(HANG).queue_timeout(HANG).submit(|| ());
            limited.result().unwrap();
        };
        while_submitting(submit, || {
            for _ in 0..20 {
                let (_completer, future) = TaskFuture::<()>::promise();
                let mut pending = Box::pin(wait([future], ReturnWhen::AllCompleted).timeout(LIMIT));
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(pending.as_mut().poll(&mut cx).is_pending());
                Child::fork(move || {
                    use_limits(size);
                    // A limit that was set before.
                    assert_eq!(block_on(pending).not_done.len(), 1);
                    // And in a child of its own.
                    Child::fork(|| use_limits(size)).ends_well();
                })
                .ends_well();
            }
        });
    });
}

#[cfg(all(feature = "process", target_os = "linux"))]
mod processes {
    use concurrent_futures::{ParentPool, ProcessPoolExecutor, call};

    use super::*;

    fn pool(size: usize) -> ProcessPoolExecutor {
        ProcessPoolExecutor::builder().max_workers(size).build().unwrap()
    }

    fn square(n: u64) -> u64 {
        n * n
    }

    fn use_a_process_pool(size: usize) {
        let pool = pool(size);
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        assert_eq!(pool.map(square, 0..100).result().unwrap()[99], 9_801);
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }

    #[test]
    fn a_child_of_a_program_with_a_process_pool_makes_its_own() {
        program("processes::a_child_of_a_program_with_a_process_pool_makes_its_own", |size| {
            let pool = pool(size);
            assert_eq!(pool.submit(call!(square(2))).result().unwrap(), 4);
            let pids = pool.worker_pids();
            let handle = pool.clone();
            let submit = move || assert_eq!(handle.submit(call!(square(2))).result().unwrap(), 4);
            while_submitting(submit, || {
                for _ in 0..10 {
                    let (inherited, pool) = (pool.submit(call!(square(5))), pool.clone());
                    let child = Child::fork(move || {
                        use_a_process_pool(size);
                        is_the_parent_s(pool.submit(call!(square(3))).result());
                        is_the_parent_s(pool.map(square, 0..9).result());
                        is_the_parent_s(block_on(pool.reserve()).map(drop));
                        assert_eq!((pool.worker_pids(), pool.metrics().workers), (vec![], 0));
                        assert!(pool.dump().to_string().contains("forked"));
                        drop(inherited);
                        // Nothing of that reaches the parent's workers.
                        drop(pool.kill_workers());
                        pool.shutdown_blocking(Shutdown::CancelQueued).unwrap();
                        drop(pool);
                        Child::fork(|| use_a_process_pool(size)).ends_well();
                    });
                    child.ends_well();
                }
            });
            assert_eq!(pool.submit(call!(square(2))).result().unwrap(), 4);
            let left = pool.worker_pids();
            assert!(pids.iter().all(|pid| left.contains(pid)), "{pids:?} {left:?}");
        });
    }

    fn forks() -> bool {
        let pool = ParentPool::current().unwrap();
        Child::fork(move || {
            assert!(ParentPool::current().is_none());
            is_the_parent_s(pool.submit(call!(square(3))).result());
        })
        .ends_well();
        ParentPool::current().is_some()
    }

    #[test]
    fn a_child_that_a_task_forks_is_no_worker() {
        program("processes::a_child_that_a_task_forks_is_no_worker", |size| {
            let pool = pool(size);
            assert!(pool.submit(call!(forks())).result().unwrap());
            assert_eq!(pool.submit(call!(square(2))).result().unwrap(), 4);
        });
    }
}
