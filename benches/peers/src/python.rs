//! Python's own executors on the same work, where `python3` is there. They are processes of
//! their own, started for each measurement; starting them is not in the figures.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

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

/// What `python3 --version` says; `None` without Python.
pub(crate) fn version() -> Option<&'static str> {
    static VERSION: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let output = Command::new("python3").arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.is_empty()).then(|| text.trim().to_owned())
    };
    VERSION.get_or_init(ask).as_deref()
}

pub(crate) fn contenders(
    workload: &'static str,
    counts: &'static [(Executor, usize)],
) -> impl Iterator<Item = Contender> {
    let counts = if version().is_some() { counts } else { &[] };
    counts.iter().map(move |&(executor, count)| Contender {
        name: executor.name().to_owned(),
        kind: Kind::Python,
        count,
        note: String::new(),
        run: Some(Box::new(move |_, count| run(executor, workload, count))),
    })
}

fn run(executor: Executor, workload: &str, count: usize) -> Vec<f64> {
    let mut command = Command::new("python3");
    command.args([SCRIPT, executor.argument(), workload, &count.to_string()]);
    let output = command.stderr(Stdio::inherit()).output().expect("python3 was there");
    assert!(output.status.success(), "{command:?} failed");
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines().map(|line| line.parse().expect("a number")).collect()
}
