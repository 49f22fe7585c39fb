//! As `burst`, but four tasks of the runtime submit a quarter each, at the same time.

use std::sync::Arc;
use std::time::Instant;

use bench_common::stats;

use super::{Metric, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, on_runtime, warm_up};
use crate::peers::Peer;

const PRODUCERS: usize = 4;

pub(super) fn workload() -> Workload {
    Workload {
        name: "producers",
        title: "300,000 no-op tasks from 4 producer tasks",
        about: "Four tasks of the runtime, each of which submits a quarter and then awaits it. \
                Timed until the last of them has ended.",
        count: Producers::COUNT,
        unit: "tasks",
        metrics: vec![Metric::lower("time", "ns per task")],
        contenders: on_peers::<Producers>(),
    }
}

struct Producers;

impl OnPeers for Producers {
    const COUNT: usize = 300_000;

    fn plan(peer: &str) -> Plan {
        match peer {
            "spawn_blocking" | "spawn_blocking, 512 threads" | "JoinSet of spawn_blocking" => {
                Plan::Fewer(100_000, "slow")
            }
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        let each = count / PRODUCERS;
        let time = on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            let start = Instant::now();
            let produce = |_| {
                let peer = Arc::clone(&peer);
                tokio::spawn(async move { peer.burst((0..each).map(|_| || ())).await })
            };
            let producers: Vec<_> = (0..PRODUCERS).map(produce).collect();
            for producer in producers {
                producer.await.expect("no job fails");
            }
            start.elapsed()
        });
        vec![stats::nanos_per(time, each * PRODUCERS)]
    }
}
