//! A function over a million items.

use std::time::Instant;

use super::{Bar, Contender, Kind, Measure, Metric, TWO};
use crate::bench::{median_millis, on_runtime};
use crate::python;
use crate::sides::{Ours, Procspawn, Side};

const COUNT: usize = 1_000_000;
/// A round's value is the median of these.
const TIMES: usize = 5;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here(Ours::NAME, Kind::Ours, COUNT, run),
        Contender::skipped(Procspawn::NAME, Kind::Peer, "it has no map"),
    ];
    contenders.extend(
        python::rows("map", &["fork"], COUNT / 50)
            .map(|row| row.note("20,000 items, and 50 times their time: the default chunk is 1")),
    );
    contenders.extend(
        python::rows("map_in_chunks", &["fork"], COUNT)
            .map(|row| Contender { name: format!("{}, chunksize=10000", row.name), ..row }),
    );
    Measure {
        name: "map",
        title: "Map of 1,000,000 squares, default settings",
        about: "The numbers of a range are squared on a pool of two, and the results gathered in \
                their order. Median of five maps.",
        cpus: TWO,
        metrics: vec![Metric::lower("time", "ms").bar(Bar::Value(35.0))],
        contenders,
    }
}

fn run(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let ours = Ours::new(TWO);
        let mut times = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let start = Instant::now();
            let squares = ours.pool.map(square, 0..count as u64).await.expect("all squares");
            times.push(start.elapsed());
            assert!(squares.into_iter().eq((0..count as u64).map(square)));
        }
        vec![median_millis(&times)]
    })
}

fn square(x: u64) -> u64 {
    x * x
}
