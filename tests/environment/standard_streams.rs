//! Programs that have closed stdin, stdout or stderr: these are names, and whatever the crate opens
//! must not come to bear one of them.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use concurrent_futures::{WorkerStderr, call};

use crate::program::alone;
use crate::refuse_calls;
use crate::tools::{Reports, builder, end, family, until_ended};
use crate::watch::{Watched, kill};

/// Nothing here takes this long unless it hangs.
const HANG: Duration = Duration::from_secs(20);

const STANDARD: [RawFd; 3] = [0, 1, 2];

fn close(fd: RawFd) {
    // SAFETY: what is closed is a standard stream, which nothing owns.
    unsafe { libc::close(fd) };
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: no number of a descriptor can harm this call.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Writes to what is there, if anything is.
fn write(fd: RawFd) {
    // SAFETY: the text is a valid place.
    unsafe { libc::write(fd, c"text for people\n".as_ptr().cast(), 16) };
}

fn target(pid: u32, fd: RawFd) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap()
}

fn square(n: u64) -> u64 {
    n * n
}

/// In a worker that has closed its stderr: what its own pool answers, and whether that has taken the
/// number.
fn nested(n: u64) -> (u64, bool) {
    close(2);
    let pool = builder(1).build().unwrap();
    let answer = pool.submit(call!(square(n))).result().unwrap();
    let is_taken = is_open(2);
    end(&pool);
    (answer, is_taken)
}

#[test]
fn no_descriptor_of_a_pool_is_a_standard_stream() {
    const NAME: &str = "standard_streams::no_descriptor_of_a_pool_is_a_standard_stream";
    alone(NAME, || {
        // For what the test has to say.
        let before = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 10).unwrap());
        for closed in [&STANDARD[..], &[2], &[0]] {
            closed.iter().for_each(|fd| close(*fd));
            let failed = std::panic::catch_unwind(|| use_pools(closed)).err();
            rustix::stdio::dup2_stdin(&before[0]).unwrap();
            rustix::stdio::dup2_stdout(&before[1]).unwrap();
            rustix::stdio::dup2_stderr(&before[2]).unwrap();
            if let Some(failed) = failed {
                println!("{:?} closed: {:?}", closed, failed.downcast_ref::<String>());
                std::panic::resume_unwind(failed);
            }
        }
    });
}

fn use_pools(closed: &[RawFd]) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As anything does that reports to stderr.
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                closed.iter().for_each(|fd| write(*fd));
                std::thread::yield_now();
            }
        });
        let ended = std::panic::catch_unwind(|| {
            for stderr in [WorkerStderr::Inherit, WorkerStderr::Tail] {
                use_a_pool(closed, stderr);
            }
        });
        is_over.store(true, Relaxed);
        ended.unwrap_or_else(|failed| std::panic::resume_unwind(failed));
    });
}

fn use_a_pool(closed: &[RawFd], stderr: WorkerStderr) {
    let pool = builder(2).stderr(stderr).build().unwrap();
    for round in 0..2 {
        let futures: Vec<_> = (0..100).map(|n| pool.submit(call!(square(n)))).collect();
        for (n, future) in (0..).zip(futures) {
            assert_eq!(future.result().unwrap(), n * n);
        }
        for fd in closed {
            assert!(!is_open(*fd), "{fd} is {:?}", target(std::process::id(), *fd));
            for pid in family(&pool) {
                let target = target(pid, *fd);
                let is_tail = *fd == 2 && target.to_str().unwrap().starts_with("pipe:");
                assert!(target == Path::new("/dev/null") || is_tail, "{fd} is {target:?}");
            }
        }
        assert_eq!(pool.submit(call!(nested(5))).result().unwrap(), (25, false));
        if round == 0 {
            // With all that belongs to it, it is made again.
            let helper = family(&pool)[0];
            kill(helper);
            until_ended(helper);
        }
    }
    end(&pool);
}

/// Starts a process that has left the group of its worker.
pub(crate) fn start_a_session(started: Reports) {
    use std::os::unix::process::CommandExt;
    let mut sleep = std::process::Command::new("sleep");
    sleep.arg("1000");
    // SAFETY: the call may be made after a fork, and changes nothing but the process's session.
    unsafe { sleep.pre_exec(|| Ok(rustix::process::setsid().map(|_| ())?)) };
    let sleep = sleep.spawn().unwrap();
    started.add(sleep.id());
    std::mem::forget(sleep); // Nobody waits for it.
}

/// The program itself kills what is left of the workers of a dead helper, each by a descriptor.
#[test]
fn what_is_killed_is_held_by_no_standard_stream() {
    alone("standard_streams::what_is_killed_is_held_by_no_standard_stream", || {
        let output = [rustix::stdio::stdout(), rustix::stdio::stderr()]
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 10).unwrap());
        let pool = builder(1).build().unwrap();
        let started = Reports::new();
        pool.submit(call!(start_a_session(started.clone()))).result().unwrap();
        let left = Watched::all(&started.wait_for(1));
        let helper = family(&pool)[0];
        STANDARD.into_iter().for_each(close);
        refuse_calls(libc::SYS_pidfd_send_signal, Some(2), libc::EBADF);
        kill(helper);
        let has_ended = left[0].ends_within(HANG);
        rustix::stdio::dup2_stdout(&output[0]).unwrap();
        rustix::stdio::dup2_stderr(&output[1]).unwrap();
        assert!(has_ended, "it goes on");
        assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
        end(&pool);
    });
}
