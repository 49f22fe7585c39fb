//! From nothing to a first result.

use std::time::Instant;

use bench_common::stats;

use super::{Bar, Contender, Kind, Measure, Metric, TWO, pid};
use crate::bench::{on_runtime, settle};
use crate::floors;
use crate::python;
use crate::sides::{Ours, Procspawn, Side, Submitted};

const COUNT: usize = 20;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here("posix_spawn of /bin/true, and wait", Kind::Floor, COUNT, floor),
        Contender::here(Ours::NAME, Kind::Ours, COUNT, run::<Ours>),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT, run::<Procspawn>),
    ];
    contenders.extend(python::rows("start", &["fork", "forkserver", "spawn"], COUNT / 2));
    Measure {
        name: "start",
        title: "New pool of one to its first result",
        about: "The time from before the pool is made until its first task's result is there. \
                Once for the first pool of a process; then for further ones, each made when the \
                one before has ended, of which the median is a round's value.",
        cpus: TWO,
        metrics: vec![
            Metric::lower("first", "ms").bar(Bar::Value(1.6)),
            Metric::lower("further", "ms").bar(Bar::Value(1.6)),
        ],
        contenders,
    }
}

fn run<S: Side>(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let side = S::new(1);
            side.submit(pid, ()).result().await.expect("a result");
            times.push(stats::millis(start.elapsed()));
            drop(side);
            settle();
        }
        first_and_further(times)
    })
}

fn floor(count: usize) -> Vec<f64> {
    first_and_further((0..count).map(|_| stats::millis(floors::spawn())).collect())
}

fn first_and_further(mut times: Vec<f64>) -> Vec<f64> {
    let first = times.remove(0);
    vec![first, stats::median(times)]
}
