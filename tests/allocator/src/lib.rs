//! A memory limit of the process pool where the allocator, mimalloc, reserves 1 GiB at its start.

#![cfg(all(test, target_os = "linux"))]

use std::hint::black_box;
use std::thread;

use concurrent_futures::{Error, ProcessPoolExecutor, call};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: u64 = 64 << 20;

fn limited() -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(1).memory_limit(LIMIT).build().unwrap()
}

/// Uses so much memory, and keeps it.
fn use_memory(bytes: usize) {
    let memory = black_box(vec![1_u8; bytes]);
    loop {
        thread::park();
        black_box(&memory);
    }
}

fn start_threads(count: usize) -> usize {
    let threads: Vec<_> = (0..count).map(|n| thread::spawn(move || vec![n; 1000].len())).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

#[test]
fn a_task_that_starts_threads_is_within_the_limit() {
    let pool = limited();
    assert_eq!(pool.submit(call!(start_threads(8))).result().unwrap(), 8000);
}

#[test]
fn a_task_that_uses_more_than_the_limit_is_lost() {
    let pool = limited();
    let Err(Error::WorkerLost(lost)) = pool.submit(call!(use_memory(300 << 20))).result() else {
        panic!("the task is not lost");
    };
    let cause = lost.cause.unwrap().to_string();
    assert!(cause.contains(&format!("memory limit of {LIMIT} bytes reached: it used ")), "{cause}");
    assert_eq!(pool.submit(call!(start_threads(1))).result().unwrap(), 1000);
}
