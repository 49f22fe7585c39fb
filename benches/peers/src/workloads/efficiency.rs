//! How much of the workers' time goes into the work, for tasks of different lengths.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Contender, Kind, Metric, OnPeers, Workload, on_peers};
use crate::bench::{Bench, WORKERS, on_runtime, warm_up};
use crate::peers::Peer;
use crate::python::{self, Executor};
use crate::spin::{self, Spin};

/// Microseconds of work in a task.
const LENGTHS: [u64; 4] = [1, 10, 100, 1_000];
/// Microseconds of work for each length.
const WORK: usize = 100_000;

pub(super) fn workload() -> Workload {
    let mut contenders = on_peers::<Efficiency>();
    contenders.push(plain_threads(&LENGTHS, WORK));
    contenders.extend(python::contenders(
        "efficiency",
        &[
            (Executor::Threads, WORK / 5),
            (Executor::Processes, WORK / 5),
            (Executor::Pool, WORK / 5),
        ],
    ));
    Workload {
        name: "efficiency",
        title: "Efficiency with tasks of 1, 10, 100 and 1,000 µs",
        about: "Work done, divided by workers × time; 1 is what two CPUs can do at best. 100 ms \
                of work in tasks of each length, submitted all, then awaited all. The work is \
                computing, calibrated once in the run on one thread.",
        count: WORK,
        unit: "µs of work",
        metrics: LENGTHS.map(metric).into(),
        contenders,
    }
}

pub(super) fn metric(micros: u64) -> Metric {
    let name = match micros {
        1 => "1 µs",
        10 => "10 µs",
        100 => "100 µs",
        _ => "1,000 µs",
    };
    Metric::higher(name, "work / (workers × time)")
}

struct Efficiency;

impl OnPeers for Efficiency {
    const COUNT: usize = WORK;

    fn run<P: Peer>(bench: &Bench, work: usize) -> Vec<f64> {
        let spin = bench.spin();
        on_runtime(async move |peer: Arc<P>| {
            warm_up(&*peer).await;
            let mut shares = Vec::new();
            for micros in LENGTHS {
                let steps = spin.steps(micros);
                let count = work / micros as usize;
                let start = Instant::now();
                peer.burst((0..count).map(|_| move || spin::run(steps))).await;
                shares.push(share(count, micros, start.elapsed()));
            }
            shares
        })
    }
}

/// The part of the workers' time in which the work was done.
pub(super) fn share(count: usize, micros: u64, time: Duration) -> f64 {
    let work = Duration::from_micros(count as u64 * micros);
    work.as_secs_f64() / (WORKERS as f64 * time.as_secs_f64())
}

/// The ceiling: threads that share the work out beforehand and never meet. Less than 1 if the
/// CPUs are slower together than one is alone, or if the machine has other things to do.
pub(super) fn plain_threads(lengths: &'static [u64], work: usize) -> Contender {
    Contender::new("2 plain threads", Kind::Reference, work, |bench, work| {
        let run = |&micros| plain(bench.spin(), micros, work / micros as usize);
        lengths.iter().map(run).collect()
    })
    .note("no pool: each thread has its half from the start")
}

fn plain(spin: Spin, micros: u64, count: usize) -> f64 {
    let each = count / WORKERS;
    let steps = spin.steps(micros);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                for _ in 0..each {
                    spin::run(steps);
                }
            });
        }
    });
    share(each * WORKERS, micros, start.elapsed())
}
