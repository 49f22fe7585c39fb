//! One call in a process of its own.

use std::time::Instant;

use bench_common::stats;
use concurrent_futures::{Process, call};

use super::{Bar, Contender, Kind, Measure, Metric, TWO, nothing};
use crate::bench::on_runtime;
use crate::floors;
use crate::python;
use crate::sides::{Ours, Procspawn, Side};

const COUNT: usize = 200;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here("fork of a small process, and wait", Kind::Floor, COUNT, floor),
        Contender::here(Ours::NAME, Kind::Ours, COUNT, ours).note("`Process`"),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT / 10, procspawn).note("`spawn`"),
    ];
    contenders.extend(python::rows("process", &["fork", "forkserver", "spawn"], COUNT / 10));
    Measure {
        name: "process",
        title: "A process of its own for a call of nothing",
        about: "The time from before the process is asked for until its value is there: for the first \
                one, and for further ones, each asked for when the one before has ended, of which the \
                median is a round's value; and until these have ended. Python's \
                `multiprocessing.Process` has no value, so there it is the end in each case.",
        cpus: TWO,
        metrics: vec![
            Metric::lower("first", "ms"),
            Metric::lower("further", "ms").bar(Bar::Value(0.5)),
            Metric::lower("ended", "ms"),
        ],
        contenders,
    }
}

fn ours(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let (mut values, mut ends) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let start = Instant::now();
            let process = Process::spawn(call!(nothing(())));
            let end = process.join();
            process.await.expect("a value");
            values.push(stats::millis(start.elapsed()));
            assert!(end.await.success());
            ends.push(stats::millis(start.elapsed()));
        }
        summary(values, Some(ends))
    })
}

fn procspawn(count: usize) -> Vec<f64> {
    let times = (0..count).map(|_| {
        let start = Instant::now();
        procspawn::spawn((), nothing).join().expect("a value");
        stats::millis(start.elapsed())
    });
    summary(times.collect(), None)
}

fn floor(count: usize) -> Vec<f64> {
    let times: Vec<_> = (0..count).map(|_| stats::millis(floors::fork_and_wait())).collect();
    summary(times.clone(), Some(times))
}

/// First, further, ended.
fn summary(mut values: Vec<f64>, ends: Option<Vec<f64>>) -> Vec<f64> {
    let first = values.remove(0);
    let ended = ends.map_or(f64::NAN, |ends| stats::median(ends[1..].to_vec()));
    vec![first, stats::median(values), ended]
}
