//! Python's `ProcessPoolExecutor` on the same work, where `python3` is there: a process of its
//! own for each measurement, as the others are.

use std::process::Command;

use bench_common::program;

use crate::measures::{Contender, Kind, Run};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/processes.py");

/// A row for each way in which Python starts its workers. That matters to what has a start in
/// it; for the rest fork, the fastest, stands for all.
pub(crate) fn rows(
    function: &'static str,
    starts: &[&'static str],
    count: usize,
) -> impl Iterator<Item = Contender> {
    let starts = if program::python_version().is_some() { starts } else { &[] };
    starts.iter().map(move |start| {
        let run = Run::Python(function, start);
        Contender::new(format!("Python, {start}"), Kind::Python, count, run)
    })
}

pub(crate) fn command(function: &str, start: &str, count: usize) -> Command {
    program::python(SCRIPT, &[function, start, &count.to_string()])
}
