//! One task at a time: the price of handing a computation over and getting its result, when
//! nothing else is going on.

use std::sync::Arc;
use std::time::Instant;

use bench_common::stats;

use super::{Metric, NO_SET, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, on_runtime, warm_up};
use crate::peers::Peer;
use crate::python::{self, Executor};

pub(super) fn workload() -> Workload {
    let mut contenders = on_peers::<Latency>();
    contenders.extend(python::contenders(
        "latency",
        &[(Executor::Threads, 2_000), (Executor::Processes, 1_000), (Executor::Pool, 2_000)],
    ));
    Workload {
        name: "latency",
        title: "One no-op task submitted and awaited, 20,000 times",
        about: "Each time is from the submission to the result. Percentiles of one round; then \
                the median over the rounds.",
        count: Latency::COUNT,
        unit: "times",
        metrics: vec![Metric::lower("p50", "µs"), Metric::lower("p99", "µs")],
        contenders,
    }
}

struct Latency;

impl OnPeers for Latency {
    const COUNT: usize = 20_000;

    fn plan(peer: &str) -> Plan {
        match peer {
            "JoinSet of spawn_blocking" => Plan::Skip(NO_SET),
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        let mut times = on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let start = Instant::now();
                peer.submit(|| ()).await;
                times.push(start.elapsed());
            }
            times
        });
        let p50 = stats::percentile(&mut times, 0.50);
        let p99 = stats::percentile(&mut times, 0.99);
        vec![stats::micros(p50), stats::micros(p99)]
    }
}
