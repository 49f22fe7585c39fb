//! How much of the workers' time goes into the work in a map, for items of different lengths.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use rayon::prelude::*;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::efficiency::{metric, plain_threads, share};
use super::{Contender, Kind, Workload};
use crate::bench::{on_runtime, warm_up};
use crate::peers::{Ours, Peer, RayonOneshot, SpawnBlocking};
use crate::python::{self, Executor};
use crate::spin::{self, Spin};

/// Microseconds of work in an item.
const LENGTHS: [u64; 3] = [1, 10, 100];
/// Microseconds of work for each length.
const WORK: usize = 100_000;

pub(super) fn workload() -> Workload {
    let mut contenders = vec![
        contender::<Ours, _>("concurrent-futures", Kind::Ours, ours),
        contender::<RayonOneshot, _>("rayon par_iter", Kind::Peer, rayon),
        contender::<SpawnBlocking, _>("buffered(64) of spawn_blocking", Kind::Peer, buffered),
        contender::<SpawnBlocking, _>(
            "buffer_unordered(64) of spawn_blocking",
            Kind::Reference,
            buffer_unordered,
        )
        .note("not in order"),
        contender::<Ours, _>("sequential loop", Kind::Reference, sequential)
            .note("one thread, so 0.5 at best"),
        plain_threads(&LENGTHS, WORK),
    ];
    contenders.extend(python::contenders(
        "map_efficiency",
        &[(Executor::Threads, WORK / 5), (Executor::Processes, WORK), (Executor::Pool, WORK)],
    ));
    Workload {
        name: "map_efficiency",
        title: "Map: efficiency with items of 1, 10 and 100 µs",
        about: "Work done, divided by workers × time. A map over a range, 100 ms of work for \
                each length, timed from the call to the `Vec` of results.",
        count: WORK,
        unit: "µs of work",
        metrics: LENGTHS.map(metric).into(),
        contenders,
    }
}

/// `map` computes `count` items of so many steps, and gives the results.
fn contender<P: Peer, F>(
    name: &str,
    kind: Kind,
    map: impl Fn(Arc<P>, usize, u64) -> F + Copy + Send + 'static,
) -> Contender
where
    F: Future<Output = Vec<u64>> + Send + 'static,
{
    Contender::new(name, kind, WORK, move |bench, work| {
        let spin = bench.spin();
        on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            let mut shares = Vec::new();
            for micros in LENGTHS {
                let count = work / micros as usize;
                let time = timed(count, map(Arc::clone(&peer), count, steps(spin, micros))).await;
                shares.push(share(count, micros, time));
            }
            shares
        })
    })
}

fn steps(spin: Spin, micros: u64) -> u64 {
    spin.steps(micros)
}

async fn timed(count: usize, map: impl Future<Output = Vec<u64>>) -> Duration {
    let start = Instant::now();
    let results = map.await;
    let time = start.elapsed();
    assert_eq!(results.len(), count, "each item has its result");
    time
}

async fn ours(peer: Arc<Ours>, count: usize, steps: u64) -> Vec<u64> {
    peer.pool.map(move |_| spin::run(steps), 0..count).await.expect("no item fails")
}

async fn rayon(peer: Arc<RayonOneshot>, count: usize, steps: u64) -> Vec<u64> {
    let (sender, receiver) = oneshot::channel();
    peer.pool.spawn(move || {
        let results = (0..count).into_par_iter().map(|_| spin::run(steps)).collect();
        let _ = sender.send(results);
    });
    receiver.await.expect("no item fails")
}

async fn buffered(_: Arc<SpawnBlocking>, count: usize, steps: u64) -> Vec<u64> {
    let tasks = stream::iter(0..count).map(|_| spawn_blocking(move || spin::run(steps)));
    tasks.buffered(64).map(|result| result.expect("no item fails")).collect().await
}

async fn buffer_unordered(_: Arc<SpawnBlocking>, count: usize, steps: u64) -> Vec<u64> {
    let tasks = stream::iter(0..count).map(|_| spawn_blocking(move || spin::run(steps)));
    tasks.buffer_unordered(64).map(|result| result.expect("no item fails")).collect().await
}

async fn sequential(_: Arc<Ours>, count: usize, steps: u64) -> Vec<u64> {
    (0..count).map(|_| spin::run(steps)).collect()
}
