//! A task now and then while other programs want every CPU: a thread that gives its CPU up to wait
//! gets it back when its turn comes, not when there is something to do.

use std::env;
use std::os::unix::process::parent_id;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_common::stats;

use super::{Metric, NO_SET, OnPeers, Plan, Workload, on_peers};
use crate::bench::{Bench, on_runtime, warm_up};
use crate::peers::Peer;
use crate::spin;

/// Programs that compute all the while.
const OTHERS: usize = 2;

pub(super) fn workload() -> Workload {
    Workload {
        name: "busy",
        title: "A no-op task each 2 ms, beside two busy programs",
        about: "Two other processes compute all the while. A timer of the runtime, then one task \
                submitted and awaited, again and again. Each time is from the submission to the \
                result. Percentiles of one round; then the median over the rounds.",
        count: Busy::COUNT,
        unit: "tasks",
        metrics: vec![
            Metric::lower("p50", "µs"),
            Metric::lower("p99", "µs").not_compared(), // of a few waits for a CPU: see the mean
            Metric::lower("mean", "µs"),
        ],
        contenders: on_peers::<Busy>(),
    }
}

struct Busy;

impl OnPeers for Busy {
    const COUNT: usize = 500;

    fn plan(peer: &str) -> Plan {
        match peer {
            "JoinSet of spawn_blocking" => Plan::Skip(NO_SET),
            _ => Plan::Run,
        }
    }

    fn run<P: Peer>(_bench: &Bench, count: usize) -> Vec<f64> {
        let others = Others::start();
        let mut times = on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                tokio::time::sleep(Duration::from_millis(2)).await;
                let start = Instant::now();
                peer.submit(|| ()).await;
                times.push(start.elapsed());
            }
            times
        });
        drop(others);
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        let p50 = stats::percentile(&mut times, 0.50);
        let p99 = stats::percentile(&mut times, 0.99);
        [p50, p99, mean].map(stats::micros).to_vec()
    }
}

/// The busy programs, which end with this value: this program, started with `--compute`.
struct Others(Vec<Child>);

impl Others {
    fn start() -> Self {
        let program = env::current_exe().expect("it runs, so it is somewhere");
        let start = || Command::new(&program).arg("--compute").spawn();
        Self((0..OTHERS).map(|_| start().expect("a second process starts")).collect())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for other in &mut self.0 {
            let _ = other.kill(); // An error: it has ended.
            let _ = other.wait();
        }
    }
}

/// The other process: computes until its parent ends, if it is not killed before.
pub(super) fn compute() {
    let parent = parent_id();
    while parent_id() == parent {
        spin::run(1_000_000);
    }
}
