//! What the error says of a worker's death, and of a panic.

use std::hint::black_box;
use std::process;
use std::thread;

use concurrent_futures::{
    Error, LossCause, ProcessPoolExecutor, TaskFuture, WorkerLost, WorkerStderr, call,
};
use rustix::process::Signal;

use crate::deaths::{Death, die, square, status};
use crate::support::within_limit;
use crate::tools::{Gate, Reports, builder, end, hold, lost, occupy, own_pid, pool};
use crate::watch::signal;

/// A pool that keeps the last of its worker's stderr.
fn with_tail() -> ProcessPoolExecutor {
    builder(1).stderr(WorkerStderr::Tail).build().unwrap()
}

/// The error of a call that kills the worker. The pool goes on.
#[track_caller]
fn loss(
    pool: &ProcessPoolExecutor,
    submit: impl FnOnce(&ProcessPoolExecutor) -> TaskFuture<u32>,
) -> WorkerLost {
    let worker = pool.submit(call!(own_pid())).result().unwrap();
    let lost = lost(submit(pool).result());
    assert_eq!(lost.pid, worker);
    assert!(lost.to_string().contains(&format!("worker process {worker} ")), "{lost}");
    assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
    lost
}

const SEGV: (Option<i32>, Option<i32>) = (None, Some(libc::SIGSEGV));
const ABORT: (Option<i32>, Option<i32>) = (None, Some(libc::SIGABRT));

// ---- Signals and exit codes ----

#[test]
fn the_error_names_the_exit_code_or_the_signal() {
    within_limit(|| {
        let pool = pool(1);
        for (death, text) in [
            (Death::Exit(0), "exited with exit code 0"),
            (Death::Exit(3), "exited with exit code 3"),
            (Death::Exit(255), "exited with exit code 255"),
            (Death::Abort, "was ended by SIGABRT (signal 6)"),
            (Death::Fault, "was ended by SIGSEGV (signal 11)"),
        ] {
            let lost = loss(&pool, |pool| pool.submit(call!(die(death))));
            assert_eq!(status(&lost), death.status());
            assert_eq!((lost.cause.as_ref(), &*lost.stderr), (None, ""), "{lost}");
            assert!(lost.to_string().contains(text), "{lost}");
        }
        end(&pool);
    });
}

#[test]
fn the_error_names_the_signal_from_outside() {
    within_limit(|| {
        let pool = pool(1);
        for (from_outside, number, name) in [
            (Signal::KILL, libc::SIGKILL, "SIGKILL"),
            (Signal::TERM, libc::SIGTERM, "SIGTERM"),
            (Signal::INT, libc::SIGINT, "SIGINT"),
            (Signal::BUS, libc::SIGBUS, "SIGBUS"),
            (Signal::SEGV, libc::SIGSEGV, "SIGSEGV"),
            (Signal::ALARM, libc::SIGALRM, "SIGALRM"),
            (Signal::USR1, libc::SIGUSR1, "signal 10"),
        ] {
            let gate = Gate::new();
            let lost = loss(&pool, |pool| {
                let held = occupy(pool, &gate);
                signal(pool.worker_pids()[0], from_outside);
                held
            });
            assert_eq!(status(&lost), (None, Some(number)));
            assert_eq!(lost.cause, None);
            assert!(lost.to_string().contains(name), "{lost}");
        }
        end(&pool);
    });
}

// ---- Stack and memory ----

/// Goes as deep as the stack lasts, in small steps or in large ones.
fn dive<const STEP: usize>(depth: u32) -> u32 {
    let mut frame = [depth; STEP];
    black_box(&mut frame);
    if black_box(depth) == u32::MAX {
        return 0;
    }
    let value = dive::<STEP>(depth + 1);
    black_box(&mut frame);
    value + frame[0]
}

fn dive_in_a_thread() -> u32 {
    thread::spawn(|| dive::<64>(0)).join().unwrap()
}

#[test]
fn the_error_names_a_stack_overflow() {
    within_limit(|| {
        let pool = pool(1);
        for job in [0, 1] {
            let lost = loss(&pool, |pool| match job {
                0 => pool.submit(call!(dive::<16>(0))),
                _ => pool.submit(call!(dive::<10_000>(0))),
            });
            assert_eq!(status(&lost), SEGV);
            assert_eq!(lost.cause, Some(LossCause::StackOverflow));
            assert!(lost.to_string().contains("stack overflow"), "{lost}");
        }
        end(&pool);
    });
}

/// That of a thread is not told apart from other faults.
#[test]
fn a_stack_overflow_in_a_thread_is_at_least_a_signal() {
    within_limit(|| {
        let pool = pool(1);
        let lost = loss(&pool, |pool| pool.submit(call!(dive_in_a_thread())));
        assert_eq!(status(&lost), SEGV);
        end(&pool);
    });
}

const LIMIT: u64 = 512 << 20;

fn allocate(bytes: usize) -> u32 {
    let memory = black_box(vec![1_u8; bytes]);
    memory.iter().step_by(4096).map(|byte| u32::from(*byte)).sum()
}

#[test]
fn the_error_names_the_memory_limit() {
    within_limit(|| {
        let limit = LIMIT.to_string();
        let pool = builder(1).memory_limit(LIMIT).stderr(WorkerStderr::Tail).build().unwrap();
        // What is within the limit is allowed.
        assert_eq!(pool.submit(call!(allocate(64 << 20))).result().unwrap(), 64 << 8);
        let lost = loss(&pool, |pool| pool.submit(call!(allocate(4 << 30))));
        assert_eq!(status(&lost), ABORT);
        let cause = lost.cause.unwrap();
        let text = cause.to_string();
        assert!(text.contains("memory limit") && text.contains(&limit), "{text}");
        assert!(matches!(
            cause,
            LossCause::MemoryLimit { limit: LIMIT, used: None, is_certain: true, .. }
        ));
        // Other deaths have nothing to do with it.
        assert_eq!(loss(&pool, |pool| pool.submit(call!(die(Death::Abort)))).cause, None);
        assert_eq!(loss(&pool, |pool| pool.submit(call!(die(Death::Fault)))).cause, None);
        end(&pool);

        // Where nothing is known of stderr, an abort may be that.
        let pool = builder(1).memory_limit(LIMIT).build().unwrap();
        let cause = loss(&pool, |pool| pool.submit(call!(allocate(4 << 30)))).cause;
        let cause = cause.unwrap();
        let text = cause.to_string();
        assert!(text.contains("memory limit") && text.contains(&limit), "{text}");
        assert!(matches!(cause, LossCause::MemoryLimit { is_certain: false, .. }));
        assert_eq!(loss(&pool, |pool| pool.submit(call!(die(Death::Fault)))).cause, None);
        end(&pool);
    });
}

/// Uses private memory, and keeps it.
fn keep(bytes: usize) -> u32 {
    let memory = black_box(vec![1_u8; bytes]);
    loop {
        thread::park();
        black_box(&memory);
    }
}

/// Uses memory that it could share with other processes, until the gate opens.
fn share(bytes: usize, started: Reports, gate: Gate) -> u32 {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses a place where nothing is, and what is written lies in it.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        start.cast::<u8>().write_bytes(1, bytes);
    }
    hold(started, gate, 7)
}

/// What is used counts, neither what could still be reserved nor what is shared.
#[test]
fn the_memory_limit_is_one_on_private_memory_that_is_used() {
    within_limit(|| {
        let limit = 64 << 20;
        let pool = builder(2).memory_limit(limit).build().unwrap();
        let (started, gate) = (Reports::new(), Gate::new());
        let shared = pool.submit(call!(share(200 << 20, started.clone(), gate.clone())));
        started.wait_for(1);
        // The look that finds this one sees the other one as well.
        let lost = lost(pool.submit(call!(keep(100 << 20))).result());
        let cause = lost.cause.unwrap().to_string();
        assert!(cause.contains(&format!("memory limit of {limit} bytes reached: ")), "{cause}");
        gate.open();
        assert_eq!(shared.result().unwrap(), 7);
        end(&pool);
    });
}

#[test]
fn a_memory_limit_that_a_worker_is_beyond_at_its_start_is_refused() {
    match builder(1).memory_limit(4096).build().unwrap_err() {
        Error::InvalidSetting { setting: "memory_limit", rule, .. } => {
            assert!(rule.contains("bytes that a worker uses at its start"), "{rule}");
        }
        other => panic!("{other:?}"),
    }
}

// ---- stderr ----

fn last_words(lines: u32) -> u32 {
    for line in 0..lines {
        eprintln!("line {line}");
    }
    eprint!("and no more");
    process::abort()
}

#[test]
fn the_error_has_the_last_of_stderr() {
    within_limit(|| {
        let pool = with_tail();
        let lost = loss(&pool, |pool| pool.submit(call!(last_words(2))));
        assert_eq!(lost.stderr, "line 0\nline 1\nand no more");
        let text = lost.to_string();
        assert!(text.contains("its stderr ends with:\nline 0\nline 1\nand no more\n"), "{text}");

        let lost = loss(&pool, |pool| pool.submit(call!(last_words(20_000))));
        let mut lines = lost.stderr.lines().rev();
        assert_eq!(lines.next(), Some("and no more"));
        assert_eq!(lines.next(), Some("line 19999"));
        assert_eq!(lines.next(), Some("line 19998"));
        assert_eq!(lost.stderr.len(), 4096);
        end(&pool);

        let pool = crate::tools::pool(1);
        let lost = loss(&pool, |pool| pool.submit(call!(last_words(0))));
        assert_eq!(lost.stderr, "");
        end(&pool);
    });
}

/// What comes from several workers at the same time is kept apart.
#[test]
fn each_error_has_the_stderr_of_its_own_worker() {
    fn say_and_die(n: u32) -> u32 {
        eprintln!("this is {n}");
        process::exit(1)
    }
    within_limit(|| {
        let pool = builder(4).stderr(WorkerStderr::Tail).build().unwrap();
        let futures: Vec<_> = (0..20).map(|n| pool.submit(call!(say_and_die(n)))).collect();
        for (n, future) in (0..).zip(futures) {
            assert_eq!(lost(future.result()).stderr, format!("this is {n}\n"));
        }
        end(&pool);
    });
}

/// What is no text is shown as far as it is one.
#[test]
fn stderr_may_have_any_bytes() {
    fn bytes() -> u32 {
        use std::io::Write;
        std::io::stderr().write_all(b"\xff\x00text\xc3").unwrap();
        process::exit(1)
    }
    within_limit(|| {
        let pool = with_tail();
        let lost = loss(&pool, |pool| pool.submit(call!(bytes())));
        assert_eq!(lost.stderr, "\u{fffd}\0text\u{fffd}");
        end(&pool);
    });
}

// ---- Panics ----

const LINE: u32 = line!() + 3;
fn panic_with(number: u32) -> u32 {
    if black_box(true) {
        panic!("the number is {number}");
    }
    number
}

#[test]
fn a_panic_has_its_message_and_its_place_and_the_worker_lives() {
    within_limit(|| {
        let pool = pool(1);
        let worker = pool.submit(call!(own_pid())).result().unwrap();
        for number in 0..3 {
            let Err(Error::Panicked(panicked)) = pool.submit(call!(panic_with(number))).result()
            else {
                panic!("not a panic");
            };
            assert_eq!(panicked.message(), format!("the number is {number}"));
            let at = panicked.location().unwrap();
            assert_eq!((at.file(), at.line()), (file!(), LINE));
            assert!(panicked.to_string().contains(&format!("{}:{LINE}:", file!())), "{panicked}");
        }
        assert_eq!(pool.submit(call!(own_pid())).result().unwrap(), worker);
        end(&pool);
    });
}

#[test]
fn a_panic_of_another_payload_has_a_place() {
    fn payload() -> u32 {
        std::panic::panic_any(42_u8)
    }
    within_limit(|| {
        let pool = pool(1);
        let Err(Error::Panicked(panicked)) = pool.submit(call!(payload())).result() else {
            panic!("not a panic");
        };
        assert_eq!(panicked.message(), "the panic's payload is not a string");
        assert_eq!(panicked.location().unwrap().file(), file!());
        end(&pool);
    });
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the second panic");
    }
}

fn panic_twice() -> u32 {
    let _bomb = Bomb;
    panic!("the first panic");
}

/// Rust ends a process that panics while it unwinds. What is kept of stderr has the end of what it
/// prints then, which is long.
#[test]
fn a_double_panic_is_a_loss() {
    within_limit(|| {
        let pool = with_tail();
        let lost = loss(&pool, |pool| pool.submit(call!(panic_twice())));
        assert_eq!(status(&lost), ABORT);
        assert!(lost.stderr.contains("panic in a destructor during cleanup"), "{lost}");
        end(&pool);
    });
}

// ---- Threads of a task ----

fn die_in_a_thread(death: Death) -> u32 {
    thread::spawn(move || death.die()).join().unwrap()
}

fn panic_in_a_thread() -> u32 {
    u32::from(thread::spawn(|| panic!("in a thread")).join().is_err())
}

/// Started by a task that is done by then.
fn leave_a_thread_that_dies(death: Death, gate: Gate) -> u32 {
    thread::spawn(move || {
        gate.wait();
        death.die()
    });
    process::id()
}

#[test]
fn a_thread_of_the_task_may_be_what_crashes() {
    within_limit(|| {
        let pool = pool(1);
        for death in Death::ALL {
            let lost = loss(&pool, |pool| pool.submit(call!(die_in_a_thread(death))));
            assert_eq!(status(&lost), death.status());
            assert_eq!(lost.cause, None);
        }
        assert_eq!(pool.submit(call!(panic_in_a_thread())).result().unwrap(), 1);
        end(&pool);
    });
}

/// The task that runs by then is lost, though another one has started the thread.
#[test]
fn a_thread_that_a_task_has_left_may_be_what_crashes() {
    within_limit(|| {
        let pool = pool(1);
        for death in Death::ALL {
            let (fuse, never) = (Gate::new(), Gate::new());
            let left = pool.submit(call!(leave_a_thread_that_dies(death, fuse.clone())));
            let worker = left.result().unwrap();
            let held = occupy(&pool, &never);
            fuse.open();
            let lost = lost(held.result());
            assert_eq!((lost.pid, status(&lost)), (worker, death.status()));
        }
        end(&pool);
    });
}
