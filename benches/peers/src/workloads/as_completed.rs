//! Results in the order in which they come. Each peer by its own means: `as_completed`,
//! `JoinSet`, and for those that have none, `FuturesUnordered` from the futures crate.
//!
//! tokio's handles and its oneshot take from a budget of 128 polls that a task of the runtime
//! has. When it is used up, each of them claims not to be ready. `FuturesUnordered` goes on to
//! poll all of the others in vain, so 128 results cost a visit to every future: the time is
//! quadratic. `tokio::task::unconstrained` lifts the budget, at the price that the task no longer
//! yields to others. Both are measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_common::stats;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::unconstrained;

use super::{Contender, Kind, Metric, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, on_runtime, warm_up};
use crate::peers::{Ours, Peer, RayonOneshot, SpawnBlocking, Textbook, TokioRayon};
use crate::python::{self, Executor};

const COUNT: usize = 100_000;

pub(super) fn workload() -> Workload {
    let mut contenders = on_peers::<AsCompleted>();
    contenders.extend([
        without_budget::<Textbook>(COUNT),
        without_budget::<RayonOneshot>(COUNT),
        without_budget::<TokioRayon>(COUNT),
        without_budget::<SpawnBlocking>(30_000).note("slow"),
        Contender::new("concurrent-futures, 1,000,000", Kind::Reference, 1_000_000, |_, count| {
            vec![run::<Ours>(count, false)]
        })
        .note("whether the cost of each stays the same"),
        Contender::new("crossbeam + tokio mpsc", Kind::Reference, COUNT, |_, count| {
            vec![by_channel(count)]
        })
        .note("no futures: the jobs send their results to one channel"),
    ]);
    contenders.extend(python::contenders(
        "as_completed",
        &[(Executor::Threads, 10_000), (Executor::Processes, 3_000), (Executor::Pool, 10_000)],
    ));
    Workload {
        name: "as_completed",
        title: "100,000 no-op tasks, results as they finish",
        about: "One future submits all tasks and reads the results in the order in which they \
                come: with `as_completed`, `JoinSet`, or `FuturesUnordered` over the handles. \
                Timed from the first submission to the last result.",
        count: COUNT,
        unit: "tasks",
        metrics: vec![Metric::lower("time", "ns per task")],
        contenders,
    }
}

struct AsCompleted;

impl OnPeers for AsCompleted {
    const COUNT: usize = COUNT;

    fn plan(peer: &str) -> Plan {
        match peer {
            "crossbeam + tokio oneshot"
            | "rayon + tokio oneshot"
            | "tokio-rayon"
            | "spawn_blocking"
            | "spawn_blocking, 512 threads" => {
                Plan::Fewer(20_000, "quadratic: tokio's budget with `FuturesUnordered`")
            }
            "JoinSet of spawn_blocking" => Plan::Fewer(30_000, "slow"),
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        vec![run::<P>(count, false)]
    }
}

fn without_budget<P: Peer>(count: usize) -> Contender {
    let name = format!("{}, unconstrained", P::NAME);
    Contender::new(name, Kind::Peer, count, |_, count| vec![run::<P>(count, true)])
}

fn run<P: Peer>(count: usize, lift_budget: bool) -> f64 {
    let time = on_runtime(async move |peer: Arc<P>| {
        warm_up(&*peer).await;
        let start = Instant::now();
        let results = peer.as_completed((0..count).map(|i| move || i));
        if lift_budget {
            unconstrained(read_all(results, count)).await;
        } else {
            read_all(results, count).await;
        }
        start.elapsed()
    });
    stats::nanos_per(time, count)
}

async fn read_all(mut results: impl Stream<Item = usize> + Unpin, count: usize) {
    let mut left = count;
    while results.next().await.is_some() {
        left -= 1;
    }
    assert_eq!(left, 0, "each task has its result");
}

fn by_channel(count: usize) -> f64 {
    let time = on_runtime(async move |peer: Arc<Textbook>| -> Duration {
        warm_up(&*peer).await;
        let start = Instant::now();
        let (sender, mut results) = mpsc::unbounded_channel();
        for i in 0..count {
            let sender = sender.clone();
            peer.execute(move || {
                let _ = sender.send(i);
            });
        }
        drop(sender);
        let mut left = count;
        while results.recv().await.is_some() {
            left -= 1;
        }
        assert_eq!(left, 0, "each task has its result");
        start.elapsed()
    });
    stats::nanos_per(time, count)
}
