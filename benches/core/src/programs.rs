//! What is counted.
//!
//! valgrind runs one thread at a time, and it is chance how often it changes between them. So
//! only one of the two threads has something to do in a measured part: a gate keeps the single
//! worker busy while the queue is filled, and this thread sleeps while the worker works it off.

use std::time::Duration;

use concurrent_futures::{
    Shutdown, TaskFuture, TaskOptions, ThreadPoolExecutor, as_completed, call,
};
use core_benches::{Gate, ITEMS, TASKS, await_all, opaque, pool, square, submit_all, vec};
use futures::executor::block_on;

use crate::callgrind::{Process, measured};
use crate::processes;

/// A limit that no task reaches.
const LONG: Duration = Duration::from_secs(3600);

/// Each is run in a process of its own.
pub(crate) const ALL: [(&str, Process, fn()); 10] = [
    ("tasks", Process::Own, tasks),
    ("calls", Process::Own, calls),
    ("labels", Process::Own, labels),
    ("limits", Process::Own, limits),
    ("runtime", Process::Own, in_a_runtime),
    ("cancel", Process::Own, cancel),
    ("as_completed", Process::Own, in_order_of_completion),
    ("map", Process::Own, map),
    ("processes", Process::Own, processes::in_the_pool),
    ("worker", Process::Worker, processes::in_the_worker),
];

fn tasks() {
    let pool = warm_pool();
    let gate = Gate::close(&pool);
    let futures = measured("submit", TASKS, || submit_all(&pool));
    measured("run", TASKS, || work_off(&pool, gate));
    measured("await, finished", TASKS, || block_on(await_all(futures)));
}

fn calls() {
    fn nothing() {}
    one_kind("of a call", |pool| pool.submit(call!(nothing())));
}

fn labels() {
    one_kind("with a label", |pool| pool.task().label("label").submit(|| ()));
}

fn limits() {
    let options = TaskOptions::new().timeout(LONG).queue_timeout(LONG);
    one_kind("with both limits", |pool| pool.submit_with(&options, || ()));
}

/// Submits and runs tasks that cost more than a closure alone.
fn one_kind(kind: &str, submit: impl Fn(&ThreadPoolExecutor) -> TaskFuture<()>) {
    let pool = warm_pool();
    let gate = Gate::close(&pool);
    let submit_all = || (0..TASKS).map(|_| submit(&pool)).collect();
    let futures = measured(&format!("submit, {kind}"), TASKS, submit_all);
    measured(&format!("run, {kind}"), TASKS, || work_off(&pool, gate));
    block_on(await_all(futures));
}

/// In a runtime that is not the pool's own, as with a pool in a `static`.
fn in_a_runtime() {
    let pool = warm_pool();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    let _entered = runtime.enter();
    pool.submit(|| ()).result().expect("an empty job does not fail");
    let gate = Gate::close(&pool);
    let futures = measured("submit, in a runtime", TASKS, || submit_all(&pool));
    measured("run, in a runtime", TASKS, || work_off(&pool, gate));
    drop(futures);
}

fn cancel() {
    let pool = warm_pool();
    let gate = Gate::close(&pool);
    let futures = submit_all(&pool);
    // With what the worker still has to do with them, if anything.
    measured("cancel by drop, queued", TASKS, || {
        drop(futures);
        work_off(&pool, gate);
    });
}

fn in_order_of_completion() {
    let pool = warm_pool();
    let gate = Gate::close(&pool);
    let futures = submit_all(&pool);
    let mut done = measured("as_completed, queued", TASKS, || as_completed(futures));
    measured("run, in as_completed", TASKS, || work_off(&pool, gate));
    measured("next of as_completed", TASKS, || {
        block_on(async { while done.next().await.is_some() {} });
    });
}

/// In chunks of a fixed size; by default it depends on the time that items take.
fn map() {
    one_map("map, range", 0..ITEMS, 1_000);
    one_map("map, Vec", vec(), 1_000);
    one_map("map, any iterator", opaque(), 1_000);
    one_map("map, range, chunks of 1", 0..ITEMS, 1);
}

/// The shutdown sleeps until the worker has computed everything; then the results are collected.
fn one_map<I>(name: &str, items: I, chunk_size: usize)
where
    I: IntoIterator<Item = usize, IntoIter: Send + 'static>,
{
    let pool = warm_pool();
    measured(name, ITEMS, || {
        let map = pool.map(square, items).chunk_size(chunk_size).start();
        pool.shutdown_blocking(Shutdown::Drain).expect("this is no worker");
        map.result().expect("no item fails")
    });
}

/// Has the allocator's lists filled, and the queue at its size.
fn warm_pool() -> ThreadPoolExecutor {
    let pool = pool(1);
    let gate = Gate::close(&pool);
    let futures = submit_all(&pool);
    work_off(&pool, gate);
    block_on(await_all(futures));
    pool
}

/// Opens the gate, and sleeps until the worker has come to the end of the queue.
fn work_off(pool: &ThreadPoolExecutor, gate: Gate) {
    let last = pool.submit(|| ());
    drop(gate);
    last.result().expect("an empty job does not fail");
}
