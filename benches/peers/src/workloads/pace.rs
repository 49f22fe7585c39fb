//! A task now and then: what it costs to have a pool at hand that has little to do.

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_common::stats;

use super::{Contender, Kind, Metric, NO_SET, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, on_runtime, warm_up};
use crate::cpu;
use crate::peers::{Ours, Peer};

/// Tasks with a pause of 5 ms, for each hundred with a pause of 1 ms.
const SLOW: usize = 40;

pub(super) fn workload() -> Workload {
    let mut contenders = on_peers::<Pace>();
    contenders.push(
        Contender::new("no task", Kind::Reference, Pace::COUNT, |_, count| {
            on_runtime(async move |_: Arc<Ours>| measure(count, || ready(())).await)
        })
        .note("the loop and its timer alone"),
    );
    Workload {
        name: "pace",
        title: "A no-op task each 1 ms, and each 5 ms",
        about: "A timer of the runtime, then one task submitted and awaited, again and again. \
                First the CPU time of the whole process for a task, the loop and its timer \
                included, then the time from the submission to the result.",
        count: Pace::COUNT,
        unit: "tasks, 1 ms apart",
        metrics: vec![
            Metric::lower("CPU, 1 ms", "µs per task"),
            Metric::lower("CPU, 5 ms", "µs per task"),
            Metric::lower("p50, 1 ms", "µs"),
            Metric::lower("p50, 5 ms", "µs"),
        ],
        contenders,
    }
}

struct Pace;

impl OnPeers for Pace {
    const COUNT: usize = 500;

    fn plan(peer: &str) -> Plan {
        match peer {
            "JoinSet of spawn_blocking" => Plan::Skip(NO_SET),
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            measure(count, || peer.submit(|| ())).await
        })
    }
}

async fn measure<F: Future<Output = ()>>(count: usize, task: impl Fn() -> F) -> Vec<f64> {
    let fast = each(Duration::from_millis(1), count, &task).await;
    let slow = each(Duration::from_millis(5), count * SLOW / 100, &task).await;
    vec![fast.0, slow.0, fast.1, slow.1]
}

/// CPU time of a task and the median of the times to its result, in µs.
async fn each<F: Future<Output = ()>>(
    pause: Duration,
    count: usize,
    task: impl Fn() -> F,
) -> (f64, f64) {
    // What the pool has learnt of the pace before is no longer true.
    for _ in 0..10 {
        tokio::time::sleep(pause).await;
        task().await;
    }
    let before = cpu::time();
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(pause).await;
        let start = Instant::now();
        task().await;
        times.push(start.elapsed());
    }
    let used = cpu::time() - before;
    (stats::micros(used) / count as f64, stats::micros(stats::percentile(&mut times, 0.50)))
}
