//! Dropping what is not wanted any more: how long it takes, and what stays behind.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bench_common::stats;

use super::{Metric, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, Gate, on_runtime, warm_up};
use crate::memory::Count;
use crate::peers::Peer;

pub(super) fn workload() -> Workload {
    Workload {
        name: "cancel",
        title: "Cancel 1,000,000 queued tasks by drop",
        about: "Both workers are busy, 1,000,000 tasks are queued, and their handles are dropped. \
                It is checked that none of them runs. The time is that of the drop, without \
                counting memory; the bytes are from a second run: what the cancelled tasks still \
                hold while the workers are busy, and when the queue has been worked off.",
        count: Cancel::COUNT,
        unit: "tasks",
        metrics: vec![
            Metric::lower("time", "ns per task"),
            Metric::lower("kept", "bytes per task, workers still busy"),
            Metric::lower("kept at last", "bytes per task, queue worked off").not_compared(),
        ],
        contenders: on_peers::<Cancel>(),
    }
}

struct Cancel;

const RUNS_ALL_THE_SAME: &str = "can't: a task whose handle is dropped runs all the same";

impl OnPeers for Cancel {
    const COUNT: usize = 1_000_000;

    fn plan(peer: &str) -> Plan {
        match peer {
            "crossbeam + tokio oneshot"
            | "rusty_pool"
            | "rayon + tokio oneshot"
            | "tokio-rayon" => Plan::Skip(RUNS_ALL_THE_SAME),
            "spawn_blocking, 512 threads" => {
                Plan::Skip("it starts 512 threads before it queues; see spawn_blocking")
            }
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        let time = on_runtime(async move |peer: Arc<P>| time::<P>(&peer, count).await);
        let (busy, done) = on_runtime(async move |peer: Arc<P>| kept::<P>(&peer, count).await);
        let per_task = |bytes: isize| bytes as f64 / count as f64;
        vec![stats::nanos_per(time, count), per_task(busy), per_task(done)]
    }
}

async fn time<P: Peer>(peer: &P, count: usize) -> Duration {
    warm_up(peer).await;
    let gate = Gate::close(peer).await;
    let held = peer.hold(jobs(count));
    let start = Instant::now();
    drop(held);
    let time = start.elapsed();
    finish(peer, gate).await;
    time
}

async fn kept<P: Peer>(peer: &P, count: usize) -> (isize, isize) {
    warm_up(peer).await;
    let gate = Gate::close(peer).await;
    let memory = Count::start();
    drop(peer.hold(jobs(count)));
    let busy = memory.live();
    finish(peer, gate).await;
    (busy, memory.live())
}

/// How many of the cancelled tasks have run.
static RAN: AtomicUsize = AtomicUsize::new(0);

fn jobs(count: usize) -> impl ExactSizeIterator<Item = impl FnOnce() + Send + 'static> {
    (0..count).map(|i| {
        move || {
            black_box(i);
            RAN.fetch_add(1, Relaxed);
        }
    })
}

async fn finish<P: Peer>(peer: &P, gate: Gate) {
    drop(gate);
    warm_up(peer).await;
    let ran = RAN.swap(0, Relaxed);
    assert_eq!(ran, 0, "cancelled tasks of {} have run", P::NAME);
}
