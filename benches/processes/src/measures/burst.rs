//! Many tasks that do nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bench_common::stats;

use super::{Bar, Contender, Kind, Measure, Metric, TWO, nothing};
use crate::bench::on_runtime;
use crate::python;
use crate::sides::{Ours, Procspawn, Side, Submitted};

const COUNT: usize = 10_000;
/// A burst is short; a round's value is the median of these.
const TIMES: usize = 5;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here(Ours::NAME, Kind::Ours, COUNT, run::<Ours>),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT, run::<Procspawn>)
            .note("64 pending at a time: with all at once it runs out of descriptors"),
    ];
    contenders.extend(python::rows("burst", &["fork"], COUNT));
    Measure {
        name: "burst",
        title: "10,000 empty tasks",
        about: "All are submitted, then all are awaited, on a pool of two. Median of five bursts.",
        cpus: TWO,
        metrics: vec![Metric::higher("rate", "tasks/s").bar(Bar::Value(200_000.0))],
        contenders,
    }
}

fn run<S: Side>(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let side = S::new(TWO);
        burst(&side, count / 10).await;
        let mut rates = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            rates.push(count as f64 / burst(&side, count).await.as_secs_f64());
        }
        vec![stats::median(rates)]
    })
}

async fn burst<S: Side>(side: &S, count: usize) -> Duration {
    let start = Instant::now();
    let mut pending = VecDeque::with_capacity(count.min(S::WINDOW));
    for _ in 0..count {
        if pending.len() == S::WINDOW {
            oldest(&mut pending).await;
        }
        pending.push_back(side.submit(nothing, ()));
    }
    while !pending.is_empty() {
        oldest(&mut pending).await;
    }
    start.elapsed()
}

async fn oldest<H: Submitted<()>>(pending: &mut VecDeque<H>) {
    if let Some(submitted) = pending.pop_front() {
        submitted.result().await.expect("a result");
    }
}
