//! The process pool: what a task costs in the process of the pool, and in the worker.
//!
//! valgrind follows one of the two processes; the other one runs as it is. So the pool's threads
//! find all replies of what they have sent at once, and a worker under valgrind is always behind.

use std::hint::black_box;

use concurrent_futures::{ProcessPoolExecutor, call};
use core_benches::TASKS;
use futures::executor::block_on;

use crate::callgrind::{boundary, measured};

/// The way of a task in the pool's process, from the submission to the result.
pub(crate) fn in_the_pool() {
    let pool = pool();
    burst(&pool);
    measured("process task, burst", TASKS, || burst(&pool));
    measured("process task, one by one", TASKS, || one_by_one(&pool));
}

/// The way of a task in the worker's process: the worker marks begin and end.
pub(crate) fn in_the_worker() {
    let pool = pool();
    burst(&pool);
    pool.submit(call!(mark())).result().expect("an empty task does not fail");
    burst(&pool);
    pool.submit(call!(mark())).result().expect("an empty task does not fail");
    println!("{TASKS} process task, worker");
}

fn pool() -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(1).build().expect("a pool starts")
}

fn burst(pool: &ProcessPoolExecutor) {
    let futures: Vec<_> = (0..TASKS).map(|_| pool.submit(call!(nothing()))).collect();
    block_on(async {
        for future in futures {
            future.await.expect("an empty task does not fail");
        }
    });
}

fn one_by_one(pool: &ProcessPoolExecutor) {
    for _ in 0..TASKS {
        pool.submit(call!(nothing())).result().expect("an empty task does not fail");
    }
}

fn nothing() {
    black_box(());
}

fn mark() {
    boundary();
}
