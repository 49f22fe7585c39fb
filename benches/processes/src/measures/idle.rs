//! What a worker holds that has nothing to do.

use super::{Bar, Contender, Kind, Measure, Metric, TWO, pid};
use crate::bench::{on_runtime, settle};
use crate::python;
use crate::sides::{Ours, Procspawn, Side, Submitted};
use crate::system::{self, Memory};

/// Tasks that it has run before.
const COUNT: usize = 100;

pub(super) fn measure() -> Measure {
    let mut contenders = vec![
        Contender::here(Ours::NAME, Kind::Ours, COUNT, run::<Ours>),
        Contender::here(Procspawn::NAME, Kind::Peer, COUNT, run::<Procspawn>),
    ];
    contenders.extend(python::rows("idle", &["fork", "forkserver", "spawn"], COUNT));
    Measure {
        name: "idle",
        title: "Memory of an idle worker",
        about: "The worker of a pool of one has run 100 small tasks and waits. PSS is its own \
                pages and its share of those that it has in common with other processes, such as \
                the program's; private are its own pages only. The helper is the process that \
                workers are forked from, one for each pool, where it is not the caller.",
        cpus: TWO,
        metrics: vec![
            Metric::lower("PSS", "MB").bar(Bar::Value(1.0)),
            Metric::lower("private", "MB"),
            Metric::lower("helper, PSS", "MB"),
        ],
        contenders,
    }
}

fn run<S: Side>(count: usize) -> Vec<f64> {
    on_runtime(async move {
        let side = S::new(1);
        let mut worker = 0;
        for _ in 0..count {
            worker = side.submit(pid, ()).result().await.expect("a result");
        }
        settle();
        let memory = Memory::of(worker);
        let helper = Some(system::parent(worker)).filter(|&parent| parent != std::process::id());
        let helper = helper.map_or(f64::NAN, |helper| Memory::of(helper).proportional);
        vec![memory.proportional, memory.private, helper]
    })
}
