//! A program that gives up privileges once it has a pool: its workers keep them, and it may not signal
//! them any more.

use std::time::Duration;

use concurrent_futures::{Error, ProcessPoolExecutor, call};

use crate::program::{alone, part, say};
use crate::standard_streams::start_a_session;
use crate::tools::{
    Gate, Reports, SHORT, assert_cancelled, assert_timed_out, builder, end, family, hold, lost,
    occupy,
};
use crate::watch::{Watched, kill};
use crate::{left_out, on_stage, refuse_calls};

/// Nothing here takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

const NOBODY: u32 = 65534;

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Runs the test as a program, if it runs as root.
fn as_root(name: &str, test: impl FnOnce()) {
    if part().is_none() && uid() != 0 {
        return left_out("only root can give up privileges");
    }
    alone(name, || {
        // The tools of the test have files there.
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(std::env::temp_dir(), all).unwrap();
        test();
    });
}

fn become_nobody() {
    // SAFETY: they change nothing but the process's rights.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setresgid(NOBODY, NOBODY, NOBODY), 0);
        assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
    }
}

#[track_caller]
fn assert_ends(worker: u32) {
    let worker = Watched::new(worker);
    assert!(worker.is_none_or(|worker| worker.ends_within(HANG)), "the worker goes on");
}

#[test]
fn workers_of_another_user_are_killed_all_the_same() {
    as_root("privileges::workers_of_another_user_are_killed_all_the_same", || {
        let gate = Gate::new();
        let started = Reports::new();
        let (pool, others) = (builder(3).build().unwrap(), builder(2).build().unwrap());
        let limit = Duration::from_millis(500);
        let limited = pool.task().timeout(limit);
        let limited = limited.submit(call!(hold(started.clone(), gate.clone(), 1)));
        let limited_worker = started.wait_for(1)[0];
        let killed = pool.submit(call!(hold(started.clone(), gate.clone(), 2)));
        let killed_worker = started.wait_for(2)[1];
        let held = [occupy(&pool, &gate), occupy(&others, &gate), occupy(&others, &gate)];
        become_nobody();

        assert_timed_out(&limited.result(), limit, true);
        assert_ends(limited_worker);
        assert!(killed.kill());
        assert_cancelled(&killed.result());
        assert_ends(killed_worker);

        let workers = [pool.worker_pids(), others.worker_pids()].concat();
        for end in [pool.kill_workers(), others.terminate_workers(SHORT)] {
            end.result().unwrap();
        }
        for held in held {
            drop(lost(held.result()));
        }
        workers.into_iter().for_each(assert_ends);
        // A pool that is made now has workers that are nobody's.
        let pool = ProcessPoolExecutor::new().unwrap();
        assert_eq!(pool.submit(call!(uid())).result().unwrap(), NOBODY);
        end(&pool);
    });
}

/// Has all attempts of this process, and of those that it forks, to kill another one fail.
fn forbid_kill() {
    refuse_calls(libc::SYS_kill, None, libc::EPERM);
}

#[test]
fn a_worker_that_may_not_be_killed_is_given_up() {
    as_root("privileges::a_worker_that_may_not_be_killed_is_given_up", || {
        let pool = builder(1).preload(call!(forbid_kill())).build().unwrap();
        let gate = Gate::new();
        let held = occupy(&pool, &gate);
        let worker = pool.worker_pids()[0];
        become_nobody();
        pool.kill_workers().result().unwrap();
        let lost = lost(held.result());
        assert_eq!(lost.pid, worker);
        let text = lost.to_string();
        assert!(text.contains("could not be killed") && text.contains("not permitted"), "{text}");
        // The kernel ends it with the process that has forked it.
        assert_ends(worker);
    });
}

/// A task may have started a program of another user. Here the system refuses to kill any of what is left of
/// the workers of a dead helper.
#[test]
fn what_a_task_has_left_and_may_not_be_killed_is_told() {
    alone("privileges::what_a_task_has_left_and_may_not_be_killed_is_told", || {
        let pool = builder(1).build().unwrap();
        let (started, gate) = (Reports::new(), Gate::new());
        pool.submit(call!(start_a_session(started.clone()))).result().unwrap();
        let left = started.wait_for(1)[0];
        let held = occupy(&pool, &gate);
        let helper = family(&pool)[0];
        refuse_calls(libc::SYS_pidfd_send_signal, None, libc::EPERM);
        kill(helper);
        let text = lost(held.result()).to_string();
        assert!(text.contains("could not be killed") && text.contains("not permitted"), "{text}");
        kill(left);
        let own = rustix::process::getuid().as_raw();
        assert_eq!(pool.submit(call!(uid())).result().unwrap(), own);
        end(&pool);
    });
}

/// What is executed by such a process counts as a program with raised privileges, which is no helper:
/// it would run the program's `main`.
#[test]
fn a_process_that_is_two_users_is_refused_a_pool() {
    as_root("privileges::a_process_that_is_two_users_is_refused_a_pool", || {
        // SAFETY: it changes nothing but the process's rights.
        assert_eq!(unsafe { libc::seteuid(NOBODY) }, 0);
        let error = builder(1).build().unwrap_err();
        let text = format!("{error:?}");
        assert!(matches!(error, Error::BrokenPool(_)) && text.contains("effective"), "{text}");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::seteuid(0) }, 0);
        let pool = builder(1).build().unwrap();
        assert_eq!(pool.submit(call!(uid())).result().unwrap(), 0);
        end(&pool);
    });
}

/// Shows processes to their own users alone.
const HIDE: &str = "mount -t proc -o hidepid=2 proc /proc";

/// After the `setuid` the worker is another user's, of which `/proc` tells nothing.
#[test]
fn a_memory_limit_that_can_not_be_kept_ends_the_worker() {
    const NAME: &str = "privileges::a_memory_limit_that_can_not_be_kept_ends_the_worker";
    if part().is_none() {
        let mut unshare = std::process::Command::new("unshare");
        if uid() != 0
            || !unshare.args(["--mount", "sh", "-c", HIDE]).status().is_ok_and(|s| s.success())
        {
            return left_out("only root can hide processes");
        }
        let stage =
            format!("exec unshare --mount sh -c '{HIDE}; exec \"$0\" \"$@\"' \"$0\" \"$@\"");
        let mut program = on_stage(&stage, NAME, "hidden");
        assert_eq!(program.hear(), [1], "{}", program.output());
        assert!(program.ended().success(), "{}", program.output());
        return;
    }
    let pool = builder(1).memory_limit(1 << 30).build().unwrap();
    let gate = Gate::new();
    let held = occupy(&pool, &gate);
    become_nobody();
    let text = lost(held.result()).to_string();
    assert!(text.contains("the memory of worker processes can't be read"), "{text}");
    pool.kill_workers().result().unwrap();
    say(&[1]);
}
