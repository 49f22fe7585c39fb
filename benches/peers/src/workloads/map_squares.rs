//! An ordered map with next to no work in it: what it costs to bring an item to a worker and its
//! result back, in order.

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_common::stats;
use futures::{StreamExt, stream};
use rayon::prelude::*;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::{Contender, Kind, Metric, Workload};
use crate::bench::{on_runtime, warm_up};
use crate::peers::{Ours, Peer, RayonOneshot, SpawnBlocking};
use crate::python::{self, Executor};

const COUNT: usize = 1_000_000;
/// One map is over in a millisecond or two; the value of a round is the median of these.
const TIMES: usize = 11;

pub(super) fn workload() -> Workload {
    let mut contenders = vec![
        Contender::new("concurrent-futures, range", Kind::Ours, COUNT, |_, count| {
            repeat::<Ours, _, _>(count, TIMES, |peer, count| {
                timed(async move { peer.pool.map(square, 0..count).await.expect("no item fails") })
            })
        })
        .variant("range"),
        Contender::new("concurrent-futures, Vec", Kind::Ours, COUNT, |_, count| {
            repeat::<Ours, _, _>(count, TIMES, |peer, count| {
                let items = vec_of(count);
                timed(async move { peer.pool.map(square, items).await.expect("no item fails") })
            })
        })
        .variant("Vec"),
        Contender::new("concurrent-futures, any iterator", Kind::Ours, COUNT, |_, count| {
            repeat::<Ours, _, _>(count, TIMES, |peer, count| {
                let items = opaque(count);
                timed(async move { peer.pool.map(square, items).await.expect("no item fails") })
            })
        })
        .variant("any iterator")
        .note("of unknown length, and it can only be asked for the next item"),
        Contender::new("rayon par_iter, range", Kind::Peer, COUNT, |_, count| {
            repeat::<RayonOneshot, _, _>(count, TIMES, |peer, count| {
                timed(on_rayon(peer, move || (0..count).into_par_iter().map(square).collect()))
            })
        })
        .variant("range"),
        Contender::new("rayon par_iter, Vec", Kind::Peer, COUNT, |_, count| {
            repeat::<RayonOneshot, _, _>(count, TIMES, |peer, count| {
                let items = vec_of(count);
                timed(on_rayon(peer, move || items.into_par_iter().map(square).collect()))
            })
        })
        .variant("Vec"),
        Contender::new("buffered(64) of spawn_blocking", Kind::Peer, 30_000, |_, count| {
            repeat::<SpawnBlocking, _, _>(count, 1, |_, count| {
                timed(async move {
                    let tasks = stream::iter(0..count).map(|x| spawn_blocking(move || square(x)));
                    let results = tasks.buffered(64).map(|result| result.expect("no item fails"));
                    results.collect::<Vec<_>>().await
                })
            })
        })
        .note("slow"),
        Contender::new(
            "buffer_unordered(64) of spawn_blocking",
            Kind::Reference,
            30_000,
            |_, count| {
                repeat::<SpawnBlocking, _, _>(count, 1, |_, count| {
                    timed(async move {
                        let tasks =
                            stream::iter(0..count).map(|x| spawn_blocking(move || square(x)));
                        let results =
                            tasks.buffer_unordered(64).map(|result| result.expect("none fails"));
                        results.collect::<Vec<_>>().await
                    })
                })
            },
        )
        .note("slow; not in order"),
        Contender::new("sequential loop", Kind::Reference, COUNT, |_, count| {
            repeat::<Ours, _, _>(count, TIMES, |_, count| {
                timed(async move { (0..count).map(square).collect::<Vec<_>>() })
            })
        })
        .note("in the measured future itself"),
    ];
    contenders.extend(python::contenders(
        "map_squares",
        &[(Executor::Threads, 10_000), (Executor::Processes, COUNT), (Executor::Pool, COUNT)],
    ));
    Workload {
        name: "map_squares",
        title: "Ordered map of 1,000,000 squares",
        about: "All results, in order, in a `Vec`. Timed from the call to the `Vec`; making the \
                input and dropping the results are not in it. rayon runs on its own pool, and a \
                oneshot channel brings its `Vec` to the measured future.",
        count: COUNT,
        unit: "items",
        metrics: vec![Metric::lower("time", "ns per item")],
        contenders,
    }
}

fn square(x: usize) -> usize {
    x * x
}

fn vec_of(count: usize) -> Vec<usize> {
    black_box((0..count).collect())
}

/// An iterator that tells nothing of its length.
fn opaque(count: usize) -> impl Iterator<Item = usize> + Send + 'static {
    let mut next = 0;
    std::iter::from_fn(move || {
        next += 1;
        (next <= count).then_some(next - 1)
    })
}

async fn on_rayon<R: Send + 'static>(
    peer: Arc<RayonOneshot>,
    work: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (sender, receiver) = oneshot::channel();
    peer.pool.spawn(move || {
        let _ = sender.send(work());
    });
    receiver.await.expect("no item fails")
}

/// How long it takes to compute the squares; checks them afterwards.
async fn timed(squares: impl Future<Output = Vec<usize>>) -> Duration {
    let start = Instant::now();
    let squares = black_box(squares.await);
    let time = start.elapsed();
    let count = squares.len();
    let sum = count.saturating_sub(1) * count * (2 * count).saturating_sub(1) / 6;
    assert_eq!(squares.iter().sum::<usize>(), sum, "each square once");
    time
}

fn repeat<P, F, R>(count: usize, times: usize, map: F) -> Vec<f64>
where
    P: Peer,
    F: Fn(Arc<P>, usize) -> R + Send + 'static,
    R: Future<Output = Duration> + Send + 'static,
{
    let all = on_runtime(async move |peer: Arc<P>| {
        warm_up(&*peer).await;
        let mut all = Vec::new();
        for _ in 0..times {
            all.push(stats::nanos_per(map(Arc::clone(&peer), black_box(count)).await, count));
        }
        all
    });
    vec![stats::median(all)]
}
