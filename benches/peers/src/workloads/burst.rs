//! Many tasks that do nothing: submit all, then await all. The CPU time is that of the whole
//! process in the same stretch: submitter, runtime and pool.

use std::time::Instant;

use bench_common::stats;

use super::{Metric, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, on_runtime, warm_up};
use crate::cpu;
use crate::peers::Peer;
use crate::python::{self, Executor};

pub(super) fn workload() -> Workload {
    let mut contenders = on_peers::<Burst>();
    contenders.extend(python::contenders(
        "burst",
        &[(Executor::Threads, 10_000), (Executor::Processes, 3_000), (Executor::Pool, 10_000)],
    ));
    Workload {
        name: "burst",
        title: "300,000 no-op tasks: submit all, then await all",
        about: "One future submits all tasks, keeps the handles in a `Vec`, then awaits them in \
                order. Timed from the first submission to the last result.",
        count: Burst::COUNT,
        unit: "tasks",
        metrics: vec![
            Metric::lower("time", "ns per task"),
            Metric::lower("CPU time", "ns of CPU per task"),
        ],
        contenders,
    }
}

struct Burst;

impl OnPeers for Burst {
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
        let (time, cpu) = on_runtime(async move |peer: std::sync::Arc<P>| {
            warm_up(&*peer).await;
            let cpu = cpu::time();
            let start = Instant::now();
            peer.burst((0..count).map(|_| || ())).await;
            (start.elapsed(), cpu::time() - cpu)
        });
        vec![stats::nanos_per(time, count), stats::nanos_per(cpu, count)]
    }
}
