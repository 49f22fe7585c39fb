//! The process that starts workers, where it can't begin, or ends before it has begun.

use std::process::{self, Command};

use concurrent_futures::{Call, Error, ProcessPoolExecutor, Shutdown, call};

use crate::program::{part, say};
use crate::tools::{Gate, builder, end, family, lost, occupy};
use crate::watch::kill;
use crate::{left_out, on_stage};

fn square(n: u64) -> u64 {
    n * n
}

#[track_caller]
fn broken<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(error @ Error::BrokenPool(_)) => format!("{error:?}"),
        other => panic!("{other:?}"),
    }
}

/// Whether mount namespaces can be made here.
fn can_unshare() -> bool {
    let done = Command::new("unshare").args(["--mount", "true"]).output();
    done.is_ok_and(|done| done.status.success())
}

#[test]
fn a_helper_that_can_not_begin_says_why() {
    const NAME: &str = "helper::a_helper_that_can_not_begin_says_why";
    if part().is_some() {
        assert!(!std::fs::exists("/dev/null").unwrap());
        let pool = builder(1).build().unwrap();
        let text = broken(pool.submit(call!(square(3))).result());
        println!("{text}");
        assert!(text.contains("/dev/null") && text.contains("No such file"), "{text}");
        assert!(!text.contains("in a row"), "{text}");
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
        return say(&[1]);
    }
    if !can_unshare() {
        return left_out("this needs the right to make a mount namespace");
    }
    let stage = "exec unshare --mount sh -c \
        'mount -t tmpfs none /dev && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    let mut program = on_stage(stage, NAME, "without /dev/null");
    assert_eq!(program.hear(), [1], "{}", program.output());
    assert!(program.ended().success(), "{}", program.output());
}

// ---- Helpers that end without a word ----

/// The preloaded functions find the way to their test by this variable.
const STARTS: &str = "TEST_HELPER_STARTS";

/// Counts a start of the helper; tells which one it is.
fn count_start() -> u64 {
    let path = std::env::var(STARTS).unwrap();
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map(|mut file| {
            std::io::Write::write_all(&mut file, b"x").unwrap();
        })
        .unwrap();
    std::fs::metadata(path).unwrap().len()
}

/// A pool with a preloaded function, and a file that counts the starts of its helper.
fn counting(max_workers: usize, preload: Call<(), ()>) -> (ProcessPoolExecutor, Starts) {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("concurrent-futures-{}-starts-{n}", process::id());
    let starts = Starts(std::env::temp_dir().join(name));
    let builder = builder(max_workers).env(STARTS, &starts.0).preload(preload);
    (builder.build().unwrap(), starts)
}

struct Starts(std::path::PathBuf);

impl Starts {
    fn count(&self) -> u64 {
        std::fs::metadata(&self.0).map_or(0, |file| file.len())
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn exit_7() {
    count_start();
    process::exit(7);
}

fn end_by_sigkill() {
    count_start();
    kill(process::id());
    std::thread::sleep(crate::tools::LONG);
}

/// It is tried once more, since it may have been by chance, and not a third time.
#[test]
fn how_a_helper_ends_before_it_has_begun_is_in_the_error() {
    let helpers = [(call!(exit_7()), "exit code 7"), (call!(end_by_sigkill()), "SIGKILL")];
    for (preload, how) in helpers {
        let (pool, starts) = counting(2, preload);
        let futures = [pool.submit(call!(square(3))), pool.submit(call!(square(4)))];
        for future in futures {
            let text = broken(future.result());
            assert!(text.contains(how) && text.contains("starts workers"), "{text}");
            assert!(!text.contains("worker process 0"), "{text}");
        }
        assert_eq!(starts.count(), 2, "{how}");
        pool.shutdown_blocking(Shutdown::Drain).unwrap();
    }
}

/// One helper is lost, not eight workers.
#[test]
fn a_helper_that_is_killed_at_its_start_is_replaced_however_many_workers_wait_for_it() {
    fn die_the_first_time(gate: Gate) {
        if count_start() == 1 {
            gate.wait();
            kill(process::id());
            std::thread::sleep(crate::tools::LONG);
        }
    }

    let gate = Gate::new();
    let name = format!("concurrent-futures-{}-eight", process::id());
    let starts = Starts(std::env::temp_dir().join(name));
    let pool = builder(8)
        .env(STARTS, &starts.0)
        .preload(call!(die_the_first_time(gate.clone())))
        .build()
        .unwrap();
    let futures: Vec<_> = (0..8).map(|n| pool.submit(call!(square(n)))).collect();
    gate.open();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.result().unwrap(), n * n);
    }
    assert_eq!(starts.count(), 2);
    end(&pool);
}

#[test]
fn how_the_helper_ended_is_in_the_error_of_what_is_lost_with_it() {
    let pool = builder(1).build().unwrap();
    let gate = Gate::new();
    let held = occupy(&pool, &gate);
    kill(family(&pool)[0]);
    let text = lost(held.result()).to_string();
    assert!(text.contains("process that starts workers was ended by SIGKILL"), "{text}");
    assert_eq!(pool.submit(call!(square(3))).result().unwrap(), 9);
    end(&pool);
}

// ---- What `build` says ----

#[test]
fn what_was_refused_is_in_the_error_of_build() {
    let text = broken(builder(1).current_dir("/nowhere/at/all").build());
    assert!(text.contains("/nowhere/at/all") && text.contains("No such file"), "{text}");
}
