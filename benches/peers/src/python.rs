//! Python's own executors on the same work, where `python3` is there. They are processes of
//! their own, started for each measurement; starting them is not in the figures.

use bench_common::program;

use crate::workloads::{Contender, Kind};

#[derive(Clone, Copy)]
pub(crate) enum Executor {
    Threads,
    Processes,
    Pool,
}

impl Executor {
    fn name(self) -> &'static str {
        match self {
            Self::Threads => "Python ThreadPoolExecutor",
            Self::Processes => "Python ProcessPoolExecutor",
            Self::Pool => "Python multiprocessing.Pool",
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Processes => "processes",
            Self::Pool => "pool",
        }
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/peers.py");

pub(crate) fn contenders(
    workload: &'static str,
    counts: &'static [(Executor, usize)],
) -> impl Iterator<Item = Contender> {
    let counts = if program::python_version().is_some() { counts } else { &[] };
    counts.iter().map(move |&(executor, count)| Contender {
        name: executor.name().to_owned(),
        kind: Kind::Python,
        count,
        note: String::new(),
        variant: None,
        run: Some(Box::new(move |_, count| run(executor, workload, count))),
    })
}

fn run(executor: Executor, workload: &str, count: usize) -> Vec<f64> {
    let arguments = [executor.argument(), workload, &count.to_string()];
    program::values(&mut program::python(SCRIPT, &arguments))
        .unwrap_or_else(|error| panic!("{error}"))
}
