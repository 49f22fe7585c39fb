//! What a forked child process can do with the crate: TP-5 and TP-6 of the conformance list, and the
//! parts of TP-2 and SD-3 that need a process of their own.
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

use concurrent_futures::{Error, Shutdown, ThreadPoolExecutor};
use futures::executor::block_on;

use support::{Gate, POOL_SIZES, occupy, pool, within_limit};

/// No child takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

/// A child process that was not waited for yet.
struct Child(libc::pid_t);

impl Child {
    /// Forks. The child runs `main` and ends with exit code 0, or with 1 if `main` panicked; it does
    /// not return from here.
    fn fork(main: impl FnOnce()) -> Self {
        // SAFETY: the child has a copy of this thread's stack and of all memory, so what `main` can
        // reach is valid there. It may find a lock held for ever; that is what these tests are about,
        // and the parent kills a child that hangs.
        match unsafe { libc::fork() } {
            -1 => panic!("{}", std::io::Error::last_os_error()),
            0 => {
                let code = i32::from(catch_unwind(AssertUnwindSafe(main)).is_err());
                // SAFETY: ends the process, and runs nothing of the parent's on the way.
                unsafe { libc::_exit(code) }
            }
            pid => Self(pid),
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
        assert_eq!(libc::WEXITSTATUS(status), 0, "1 is a failed assertion in the child");
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

#[test]
fn tp_5_children_forked_while_another_thread_submits_do_not_deadlock() {
    program("tp_5_children_forked_while_another_thread_submits_do_not_deadlock", |size| {
        let busy = started(size);
        let submit = move || busy.submit(|| ()).detach();
        while_submitting(submit, || {
            for _ in 0..50 {
                Child::fork(|| use_a_pool(size)).ends_well();
            }
        });
    });
}

/// Forks inside of a job of `pool`, and waits for the child there.
fn fork_in_a_job(pool: &ThreadPoolExecutor, child: impl FnOnce() + Send + 'static) {
    pool.submit(move || Child::fork(child).ends_well()).result().unwrap();
}

#[test]
fn tp_6_a_child_forked_in_a_job_ends_with_code_0() {
    program("tp_6_a_child_forked_in_a_job_ends_with_code_0", |size| {
        let pool = started(size);
        for _ in 0..10 {
            fork_in_a_job(&pool, || ());
            // With the handlers of `atexit`, and with what the runtime of Rust does at the end.
            fork_in_a_job(&pool, || std::process::exit(0));
            fork_in_a_job(&pool, move || use_a_pool(size));
        }
    });
}

#[test]
fn tp_6_also_while_another_thread_submits_to_that_pool() {
    program("tp_6_also_while_another_thread_submits_to_that_pool", |size| {
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

/// In the child, the job that forked is still on the stack, and its pool has tasks in its queue.
/// They are the parent's: none of them runs twice.
#[test]
fn tp_6_a_child_forked_in_a_job_leaves_the_parents_tasks_to_the_parent() {
    program("tp_6_a_child_forked_in_a_job_leaves_the_parents_tasks_to_the_parent", |size| {
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

/// A handle that the child has inherited may be dropped there: a drop never waits.
#[test]
fn tp_6_a_child_may_drop_the_handles_that_it_inherited() {
    program("tp_6_a_child_may_drop_the_handles_that_it_inherited", |size| {
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

#[cfg(target_os = "linux")]
#[test]
fn tp_2_the_default_size_honours_the_affinity_of_the_process() {
    program("tp_2_the_default_size_honours_the_affinity_of_the_process", |_| {
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

#[test]
fn sd_3_a_submission_from_an_exit_handler_is_refused_after_shutdown() {
    program("sd_3_a_submission_from_an_exit_handler_is_refused_after_shutdown", |size| {
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
