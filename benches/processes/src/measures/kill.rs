//! A running task is killed, and the next one gets its place.

use std::time::Instant;

use super::held::Place;
use super::{Bar, Contender, Kind, Measure, Metric, TWO, pid};
use crate::bench::{median_millis, on_runtime, settle};
use crate::floors;
use crate::sides::{Ours, Procspawn, Side, Submitted};

const COUNT: usize = 50;

pub(super) fn measure() -> Measure {
    Measure {
        name: "kill",
        title: "Killed running task to the next result on its slot",
        about: "On a pool of one, a task runs that never ends, and another one waits. The first \
                is killed; the time is from there, over its error, until the result of the \
                second. Median of a round.",
        cpus: TWO,
        metrics: vec![Metric::lower("time", "ms").bar(Bar::Value(0.5))],
        contenders: vec![
            Contender::here("kill, reap, fork, first byte", Kind::Floor, COUNT, floor),
            Contender::here(Ours::NAME, Kind::Ours, COUNT, run::<Ours>),
            Contender::here(Procspawn::NAME, Kind::Peer, COUNT, run::<Procspawn>),
            Contender::skipped(
                "Python, fork",
                Kind::Python,
                "a running task can't be killed; a killed worker breaks the pool",
            ),
        ],
    }
}

fn run<S: Side>(count: usize) -> Vec<f64> {
    let place = Place::new();
    let times = on_runtime(async move {
        let side = S::new(1);
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let mut endless = place.submit(&side);
            let _running = place.accept();
            let next = side.submit(pid, ());
            settle();
            let start = Instant::now();
            endless.kill();
            endless.result().await.expect_err("it can't have ended");
            next.result().await.expect("a result");
            times.push(start.elapsed());
        }
        times
    });
    vec![median_millis(&times)]
}

fn floor(count: usize) -> Vec<f64> {
    let times: Vec<_> = (0..count).map(|_| floors::kill_and_fork()).collect();
    vec![median_millis(&times)]
}
