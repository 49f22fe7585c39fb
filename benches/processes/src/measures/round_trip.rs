//! One task at a time: the price of a call in another process when nothing else is going on.

use std::time::{Duration, Instant};

use bench_common::stats;

use super::{Bar, Contender, Kind, Measure, Metric, TWO, nothing, pid};
use crate::bench::on_runtime;
use crate::cpus::Apart;
use crate::floors;
use crate::python;
use crate::sides::{Ours, Procspawn, Side, Submitted};

const COUNT: usize = 20_000;

pub(super) fn on_one_cpu() -> Measure {
    Measure {
        name: "round_trip_one_cpu",
        title: "Round trip of an empty task, one CPU",
        about: "A task without argument and result is submitted and awaited, one after the other, \
                on a pool of one; all processes and threads are on one CPU. Percentiles of a \
                round.",
        cpus: 1,
        metrics: vec![
            Metric::lower("p50", "µs").bar(Bar::TimesFloor(2.0)),
            Metric::lower("p99", "µs"),
        ],
        contenders: contenders(),
    }
}

pub(super) fn across_cpus() -> Measure {
    let floor = |count| p50_and_p99(floors::ping_pong_apart(count));
    let mut contenders = vec![
        Contender::here("ping-pong over a socket pair", Kind::Floor, COUNT, floor),
        Contender::here(Ours::NAME, Kind::Ours, COUNT, apart::<Ours>),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT / 4, apart::<Procspawn>),
    ];
    contenders.extend(python::rows("round_trip_apart", &["fork"], COUNT / 10));
    Measure {
        name: "round_trip_two_cpus",
        title: "Round trip of an empty task, two CPUs",
        about: "The same with the worker on a CPU of its own: each message wakes a process on \
                another CPU, which is most of the time on a virtual machine.",
        cpus: TWO,
        metrics: vec![
            Metric::lower("p50", "µs").bar(Bar::TimesFloor(1.3)),
            Metric::lower("p99", "µs"),
        ],
        contenders,
    }
}

pub(super) fn on_any_cpu() -> Measure {
    Measure {
        name: "round_trip_any_cpu",
        title: "Round trip of an empty task, scheduler's choice of two CPUs",
        about: "The same as the scheduler has it: both ends on one CPU or on two, which may \
                change from one run to the next, and with what else the machine has to do. So \
                there is no bar.",
        cpus: TWO,
        metrics: vec![Metric::lower("p50", "µs"), Metric::lower("p99", "µs")],
        contenders: contenders(),
    }
}

/// On whatever CPUs the process may use.
fn contenders() -> Vec<Contender> {
    let floor = |count| p50_and_p99(floors::ping_pong(count));
    let mut contenders = vec![
        Contender::here("ping-pong over a socket pair", Kind::Floor, COUNT, floor),
        Contender::here(Ours::NAME, Kind::Ours, COUNT, together::<Ours>),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT / 4, together::<Procspawn>),
    ];
    contenders.extend(python::rows("round_trip", &["fork"], COUNT / 10));
    contenders
}

fn together<S: Side>(count: usize) -> Vec<f64> {
    p50_and_p99(on_runtime(async move { round_trips(&S::new(1), count).await }))
}

fn apart<S: Side>(count: usize) -> Vec<f64> {
    // Before there is any other thread.
    let apart = Apart::first();
    p50_and_p99(on_runtime(async move {
        let side = S::new(1);
        let worker = side.submit(pid, ()).result().await.expect("a result");
        apart.move_to_last(worker);
        round_trips(&side, count).await
    }))
}

async fn round_trips<S: Side>(side: &S, count: usize) -> Vec<Duration> {
    let warm_up = count / 20;
    let mut times = Vec::with_capacity(count);
    for turn in 0..warm_up + count {
        let start = Instant::now();
        side.submit(nothing, ()).result().await.expect("a result");
        if turn >= warm_up {
            times.push(start.elapsed());
        }
    }
    times
}

fn p50_and_p99(mut times: Vec<Duration>) -> Vec<f64> {
    let p50 = stats::percentile(&mut times, 0.50);
    let p99 = stats::percentile(&mut times, 0.99);
    vec![stats::micros(p50), stats::micros(p99)]
}
