//! How long the operations take, through the public API alone.
//!
//! ```sh
//! cargo bench -p core-benches
//! ```
//!
//! A gate keeps the workers busy where the queue is to stand still, and promises stand for tasks
//! where no worker is to be in the time.

use std::time::Duration;

use concurrent_futures::{
    Completer, ReturnWhen, TaskFuture, ThreadPoolBuilder, ThreadPoolExecutor, as_completed, wait,
};
use core_benches::{Gate, ITEMS, TASKS, await_all, opaque, pool, square, submit_all, vec};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt;
use futures::executor::block_on;
use futures::future::join;

const WORKERS: usize = 2;

criterion_group! {
    name = operations;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = submit, cancel, sets, map
}
criterion_main!(operations);

fn submit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("submit");

    let running = pool(WORKERS);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one at a time", |b| b.iter(|| block_on(running.submit(|| ()))));

    let (full, gate) = full_pool();
    group.bench_function("try_submit, refused", |b| b.iter(|| full.try_submit(|| ())));
    drop(gate);

    group.throughput(Throughput::Elements(TASKS as u64));
    group.bench_function("burst", |b| b.iter(|| block_on(await_all(submit_all(&running)))));

    let bounded = with_capacity(WORKERS, TASKS);
    group.bench_function("burst, reserve", |b| {
        b.iter(|| {
            block_on(async {
                let mut futures = Vec::with_capacity(TASKS);
                for _ in 0..TASKS {
                    let permit = bounded.reserve().await.expect("the pool is open");
                    futures.push(permit.submit(|| ()));
                }
                await_all(futures).await;
            });
        });
    });
}

fn cancel(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cancel");
    group.throughput(Throughput::Elements(TASKS as u64));
    let pool = pool(WORKERS);
    group.bench_function("drop, queued", |b| {
        b.iter_batched(
            || (Gate::close(&pool), submit_all(&pool)),
            |(gate, futures)| {
                drop(futures);
                gate // opened when the time has been taken
            },
            BatchSize::PerIteration,
        );
    });
}

fn sets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sets");
    group.throughput(Throughput::Elements(TASKS as u64));
    group.bench_function("as_completed", |b| {
        b.iter_batched(
            promises,
            |(completers, futures)| {
                let results = as_completed(futures).count();
                block_on(join(results, complete_all(completers)))
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("wait, all", |b| {
        b.iter_batched(
            promises,
            |(completers, futures)| {
                let all = wait(futures, ReturnWhen::AllCompleted);
                block_on(join(all, complete_all(completers)))
            },
            BatchSize::LargeInput,
        );
    });
}

fn map(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("map");
    group.throughput(Throughput::Elements(ITEMS as u64));
    let pool = pool(WORKERS);
    group
        .bench_function("range", |b| b.iter(|| block_on(pool.map(square, 0..ITEMS).into_future())));
    group.bench_function("Vec", |b| {
        let squares = |items| block_on(pool.map(square, items).into_future());
        b.iter_batched(vec, squares, BatchSize::LargeInput);
    });
    group.bench_function("any iterator", |b| {
        b.iter(|| block_on(pool.map(square, opaque()).into_future()))
    });
}

/// A pool that takes nothing more until the gate is opened.
fn full_pool() -> (ThreadPoolExecutor, Gate) {
    let pool = with_capacity(1, 1);
    let gate = Gate::close(&pool);
    pool.submit(|| ()).detach();
    assert!(pool.try_submit(|| ()).is_err(), "there is no more room");
    (pool, gate)
}

fn with_capacity(workers: usize, capacity: usize) -> ThreadPoolExecutor {
    let builder = ThreadPoolBuilder::default().max_workers(workers).queue_capacity(capacity);
    builder.build().expect("the numbers are valid")
}

fn promises() -> (Vec<Completer<()>>, Vec<TaskFuture<()>>) {
    (0..TASKS).map(|_| TaskFuture::promise()).unzip()
}

/// Polled after the set has been, so that the set is told of each.
async fn complete_all(completers: Vec<Completer<()>>) {
    for completer in completers {
        completer.complete(Ok(()));
    }
}
