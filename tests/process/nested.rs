//! Processes that spawn processes, and forks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use concurrent_futures::{Error, Process, ThreadPoolExecutor, call};
use rustix::process::WaitOptions;

use crate::support::within_limit;
use crate::tools::{Gate, Reports, end, hold, own_pid, parent_of, pool};
use crate::watch::assert_is_gone_soon;
use crate::{alone, assert_exit};

/// The numbers of the processes of a chain that is so deep.
fn chain(depth: u32) -> Vec<u32> {
    let mut pids = vec![own_pid()];
    if depth > 0 {
        pids.extend(Process::spawn(call!(chain(depth - 1))).result().unwrap());
    }
    pids
}

/// PR-7.
#[test]
fn processes_spawn_processes() {
    within_limit(|| {
        let process = Process::spawn(call!(chain(2)));
        assert_exit(&process.join_blocking(), Some(0), None);
        let pids = process.result().unwrap();
        assert_eq!(pids.len(), 3);
        pids.into_iter().for_each(assert_is_gone_soon);
    });
}

/// PR-7. In a worker of a pool, and with the pool's own calls beside it.
#[test]
fn tasks_of_pools_spawn_processes() {
    within_limit(|| {
        let pool = pool(1);
        assert_eq!(pool.submit(call!(chain(1))).result().unwrap().len(), 2);
        // Its worker has a helper of its own by now, and goes on.
        assert_eq!(pool.submit(call!(chain(1))).result().unwrap().len(), 2);
        end(&pool);
        let threads = ThreadPoolExecutor::builder().max_workers(1).build().unwrap();
        assert_eq!(threads.submit(|| chain(1)).result().unwrap().len(), 2);
    });
}

/// It ends with the process that has spawned it.
#[test]
fn what_a_process_has_spawned_ends_with_it() {
    fn endless() {
        loop {
            std::thread::park();
        }
    }
    fn leaves() -> [u32; 2] {
        let process = Process::spawn(call!(endless()));
        let pid = futures::executor::block_on(process.started()).unwrap();
        [pid, parent_of(pid).unwrap()]
    }
    within_limit(|| {
        let left = Process::spawn(call!(leaves())).result().unwrap();
        left.into_iter().for_each(assert_is_gone_soon);
    });
}

#[test]
fn a_preloaded_function_spawns_none() {
    fn load() -> Result<(), String> {
        match Process::spawn(call!(own_pid())).result() {
            Err(Error::BrokenPool(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
    within_limit(|| {
        let process = Process::builder().preload(call!(load())).spawn(call!(own_pid()));
        process.result().unwrap();
    });
}

/// A bare `fork`: the processes stay those of the parent, and the child may have its own.
#[test]
fn a_forked_child_has_processes_of_its_own_and_leaves_others_alone() {
    alone("nested::a_forked_child_has_processes_of_its_own_and_leaves_others_alone", || {
        let gate = Gate::new();
        let started = Reports::new();
        let process = Process::spawn(call!(hold(started.clone(), gate.clone(), 6)));
        started.wait_for(1);
        // SAFETY: the child uses nothing that another thread may have been in the midst of, which is what
        // this is about; the parent ends a child that hangs when it ends itself.
        match unsafe { libc::fork() } {
            0 => {
                let is_right = catch_unwind(AssertUnwindSafe(|| {
                    assert!(Process::running().is_empty());
                    process.terminate();
                    process.kill();
                    assert_eq!(Process::spawn(call!(chain(1))).result().unwrap().len(), 2);
                }));
                // SAFETY: ends the process, and runs nothing of the parent's on the way.
                unsafe { libc::_exit(i32::from(is_right.is_err())) }
            }
            child => {
                let child = rustix::process::Pid::from_raw(child);
                let status = rustix::process::waitpid(child, WaitOptions::empty());
                assert_eq!(status.unwrap().unwrap().1.exit_status(), Some(0));
            }
        }
        assert!(process.is_running());
        gate.open();
        assert_eq!(process.result().unwrap(), 6);
    });
}
