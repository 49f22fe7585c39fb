//! What the system itself takes, without a pool: no pool of processes can be faster, but for the
//! luck of the scheduler.

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::bench::timed;
use crate::cpus::Apart;
use crate::sides::sum;
use crate::system;

/// `posix_spawn`, which is what std uses here, of a program that does nothing, and the wait for
/// its end.
pub(crate) fn spawn() -> Duration {
    let (status, time) = timed(|| Command::new("/bin/true").status());
    assert!(status.is_ok_and(|status| status.success()), "/bin/true succeeds");
    time
}

/// Fork of a small process that ends at once, and the wait for its end.
pub(crate) fn fork_and_wait() -> Duration {
    let fork_and_wait = || match fork() {
        Some(pid) => wait(pid),
        None => exit(),
    };
    timed(fork_and_wait).1
}

/// Kills a process that waits for input, sees its end, forks the next, and has its first byte.
pub(crate) fn kill_and_fork() -> Duration {
    let (mut old, old_pid) = fork_with_socket(echo);
    old.write_all(&[1]).expect("it is alive");
    old.read_exact(&mut [0]).expect("it is alive");
    let next = || {
        system::kill(old_pid.as_raw_nonzero().get().cast_unsigned());
        assert_eq!(old.read(&mut [0]).expect("an end, no error"), 0);
        wait(old_pid);
        let (mut new, new_pid) = fork_with_socket(echo);
        new.write_all(&[1]).expect("it is alive");
        new.read_exact(&mut [0]).expect("it is alive");
        (new, new_pid)
    };
    let ((new, new_pid), time) = timed(next);
    drop(new);
    wait(new_pid);
    time
}

/// Round trips of one byte to another process and back, over a socket pair.
pub(crate) fn ping_pong(count: usize) -> Vec<Duration> {
    let (socket, other) = fork_with_socket(echo);
    rally(socket, other, count)
}

/// The same, each end on a CPU of its own.
pub(crate) fn ping_pong_apart(count: usize) -> Vec<Duration> {
    let apart = Apart::first();
    let (socket, other) = fork_with_socket(echo);
    apart.move_to_last(other.as_raw_nonzero().get().cast_unsigned());
    rally(socket, other, count)
}

fn rally(mut socket: UnixStream, other: Pid, count: usize) -> Vec<Duration> {
    let mut round_trip = || {
        timed(|| {
            socket.write_all(&[1]).expect("the other end is alive");
            socket.read_exact(&mut [0]).expect("the other end is alive");
        })
        .1
    };
    for _ in 0..1_000 {
        round_trip();
    }
    let times = (0..count).map(|_| round_trip()).collect();
    drop(socket);
    wait(other);
    times
}

/// A copy of `from` into memory that is there already, and a sum over the copy.
pub(crate) fn copy_and_read(from: &[u8], to: &mut [u8]) -> (u64, Duration) {
    timed(|| {
        to.copy_from_slice(from);
        sum(black_box(to))
    })
}

fn echo(mut socket: UnixStream) {
    let mut byte = [0];
    while socket.read_exact(&mut byte).is_ok() && socket.write_all(&byte).is_ok() {}
}

/// A child that runs `child` on one end of a socket pair; the other end, and its pid.
fn fork_with_socket(child: impl FnOnce(UnixStream)) -> (UnixStream, Pid) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    match fork() {
        Some(pid) => (ours, pid),
        None => {
            drop(ours);
            child(theirs);
            exit()
        }
    }
}

/// `None` in the child, which has to leave through [`exit`].
fn fork() -> Option<Pid> {
    assert_eq!(system::threads(), 1, "a lock that another thread holds would stay locked");
    // SAFETY: this process has one thread, so the child has all of it, and may go on as if it
    // were alone.
    match unsafe { libc::fork() } {
        0 => None,
        pid => Some(Pid::from_raw(pid).expect("fork succeeds")),
    }
}

/// Without what the parent has to do at its end: it would be done twice.
fn exit() -> ! {
    // SAFETY: it ends this process and does nothing else.
    unsafe { libc::_exit(0) }
}

fn wait(pid: Pid) {
    waitpid(Some(pid), WaitOptions::empty()).expect("it is this process's child");
}
