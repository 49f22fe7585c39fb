//! A worker goes, the next one has to do its work.

use std::time::Instant;

use concurrent_futures::{ProcessPoolExecutor, call};

use super::{Bar, Contender, Kind, Measure, Metric, TWO, pid};
use crate::bench::{median_millis, on_runtime, settle};
use crate::floors;
use crate::python;
use crate::sides::{Ours, Procspawn, Side, Submitted};
use crate::system;

const COUNT: usize = 50;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here("fork of a small process, and wait", Kind::Floor, COUNT, floor),
        Contender::here(Ours::NAME, Kind::Ours, COUNT, run_retiring),
        Contender::skipped(Procspawn::NAME, Kind::Peer, "its workers do not retire"),
        Contender::skipped(
            "Python, fork",
            Kind::Python,
            "with fork there is no `max_tasks_per_worker`",
        ),
    ];
    contenders.extend(python::rows("replacement", &["forkserver", "spawn"], COUNT / 5));
    Measure {
        name: "replacement",
        title: "Replacement worker to its first result",
        about: "Each worker of a pool of one retires after one task. The time is from one result, \
                over the submission of a task at once, to its result, which comes from another \
                process. Median of a round.",
        cpus: TWO,
        metrics: vec![Metric::lower("time", "ms").bar(Bar::Value(0.3))],
        contenders,
    }
}

pub(super) fn after_kill() -> Measure {
    Measure {
        name: "replacement_after_kill",
        title: "Replacement of a killed worker to its first result",
        about: "The worker of a pool of one is killed while it is idle. The time is from there, \
                over the submission of a task at once, until its result, which comes from another \
                process. Median of a round.",
        cpus: TWO,
        metrics: vec![Metric::lower("time", "ms")],
        contenders: vec![
            Contender::here("fork of a small process, and wait", Kind::Floor, COUNT, floor),
            Contender::here(Ours::NAME, Kind::Ours, COUNT, run::<Ours>),
            Contender::here(Procspawn::NAME, Kind::Peer, COUNT, run::<Procspawn>)
                .note("the first call fails or panics; then it is repeated"),
            Contender::skipped("Python, fork", Kind::Python, "a lost worker breaks the pool"),
        ],
    }
}

fn run_retiring(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let built = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_worker(1).build();
        let pool = built.expect("a pool starts");
        let mut worker = 0;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let next = pool.submit(call!(pid(()))).await.expect("a result");
            times.push(start.elapsed());
            assert_ne!(next, worker, "it has retired");
            worker = next;
        }
        vec![median_millis(&times[1..])]
    })
}

fn run<S: Side>(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let side = S::new(1);
        let mut worker = result(&side).await;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            settle();
            let start = Instant::now();
            system::kill(worker);
            let next = result(&side).await;
            times.push(start.elapsed());
            assert_ne!(next, worker, "a dead process has no results");
            worker = next;
        }
        vec![median_millis(&times)]
    })
}

/// Of a pool that repeats no call by itself, too.
async fn result<S: Side>(side: &S) -> u32 {
    loop {
        if let Ok(worker) = side.submit(pid, ()).result().await {
            break worker;
        }
    }
}

fn floor(count: usize) -> Vec<f64> {
    let times: Vec<_> = (0..count).map(|_| floors::fork_and_wait()).collect();
    vec![median_millis(&times)]
}
