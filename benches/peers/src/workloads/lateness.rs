//! How late a timer of the runtime is while the pool has its hands full: whether CPU-bound work
//! leaves the I/O threads alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_common::stats;

use super::{Contender, Kind, Metric, NO_SET, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, WORKERS, on_runtime, warm_up};
use crate::peers::{Ours, Peer};
use crate::spin;

/// Milliseconds in which timers are measured.
const WINDOW: usize = 600;
/// Milliseconds of work in a task.
const LENGTH: usize = 5;

pub(super) fn workload() -> Workload {
    let mut contenders = on_peers::<Lateness>();
    contenders.push(
        Contender::new("idle pool", Kind::Reference, WINDOW, |_, window| {
            let times = on_runtime(async move |_: Arc<Ours>| timers(window).await);
            values(times)
        })
        .note("what the timer does by itself"),
    );
    Workload {
        name: "lateness",
        title: "Lateness of a 1 ms timer while the pool is saturated",
        about: "`tokio::time::sleep` of 1 ms in the measured future, again and again for 600 ms; \
                the lateness is what it takes beyond that 1 ms. The pool has tasks of 5 ms to do \
                all the while. Percentiles of one round; then the median over the rounds.",
        count: WINDOW,
        unit: "ms",
        metrics: vec![
            Metric::lower("p99", "ms late"),
            Metric::lower("p50", "ms late").not_compared(),
        ],
        contenders,
    }
}

struct Lateness;

impl OnPeers for Lateness {
    const COUNT: usize = WINDOW;

    fn plan(peer: &str) -> Plan {
        match peer {
            "JoinSet of spawn_blocking" => Plan::Skip(NO_SET),
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(bench: &Bench, window: usize) -> Vec<f64> {
        let steps = bench.spin().steps(LENGTH as u64 * 1_000);
        // Enough for the workers if they had the CPUs to themselves, and then some.
        let tasks = WORKERS * (window / LENGTH + 2);
        let times = on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            let saturated = peer.burst((0..tasks).map(|_| move || spin::run(steps)));
            let times = timers(window).await;
            saturated.await;
            times
        });
        values(times)
    }
}

async fn timers(window: usize) -> Vec<Duration> {
    let limit = Duration::from_millis(1);
    let started = Instant::now();
    let mut late = Vec::new();
    while started.elapsed() < Duration::from_millis(window as u64) {
        let start = Instant::now();
        tokio::time::sleep(limit).await;
        late.push(start.elapsed().saturating_sub(limit));
    }
    late
}

fn values(mut late: Vec<Duration>) -> Vec<f64> {
    let p99 = stats::percentile(&mut late, 0.99);
    let p50 = stats::percentile(&mut late, 0.50);
    vec![stats::micros(p99) / 1e3, stats::micros(p50) / 1e3]
}
