//! What a submission costs its caller.

use std::time::{Duration, Instant};

use super::held::Held;
use super::{Bar, Contender, Kind, Measure, Metric, TWO, nothing};
use crate::bench::{on_runtime, settle};
use crate::sides::{Ours, Procspawn, Side};

const COUNT: usize = 10_000;

pub(super) fn measure() -> Measure {
    Measure {
        name: "submit",
        title: "Submission of an empty task, all workers busy",
        about: "On a pool of two, both workers are busy. Then 10,000 calls are submitted, all of \
                which wait in the queue. The time is that of the caller. Median of five times.",
        cpus: TWO,
        metrics: vec![Metric::lower("time", "µs").bar(Bar::Value(2.0))],
        contenders: vec![
            Contender::here(Ours::NAME, Kind::Ours, COUNT, run),
            Contender::skipped(
                Procspawn::NAME,
                Kind::Peer,
                "with so many at once it runs out of descriptors",
            ),
        ],
    }
}

fn run(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let side = Ours::new(TWO);
        let held = Held::new(&side, TWO);
        settle();
        let mut times: Vec<f64> = Vec::new();
        for _ in 0..5 {
            times.push(micros_per_call(&side, count));
        }
        held.end().await;
        vec![bench_common::stats::median(times)]
    })
}

fn micros_per_call(side: &Ours, count: usize) -> f64 {
    let mut pending = Vec::with_capacity(count);
    let start = Instant::now();
    for _ in 0..count {
        pending.push(side.submit(nothing, ()));
    }
    let time: Duration = start.elapsed();
    drop(pending); // Withdraws them all.
    time.as_secs_f64() * 1e6 / count as f64
}
