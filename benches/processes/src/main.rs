//! The process pool of concurrent-futures against what a user would pick instead, and against
//! what the system allows:
//!
//! ```sh
//! cargo bench -p processes
//! ```
//!
//! Each measurement is a process of its own, started by this one, sides in turn within each
//! round. Prints a Markdown report; the values of all rounds go beside it as CSV. `-- --help`
//! lists the options, README.md tells how things are measured and how to read them.
//!
//! To check that a side is used fairly, read its file in `sides/`, for Python `python/`; to check
//! what is done and timed, read the measure's file in `measures/`; the floors are in `floors.rs`.

mod bench;
mod cpus;
mod floors;
mod measures;
mod python;
mod report;
mod sides;
mod system;

use std::env;
use std::io;
use std::process::{Command, ExitCode};

use bench_common::comparison;
use bench_common::options::Options;
use bench_common::program;

use self::measures::{Contender, Kind, Measure, Run};
use self::report::{Report, Table};

const HELP: &str = "\
Compares the process pool of concurrent-futures with its peers, and with the system's limits.

usage: cargo bench -p processes -- [OPTIONS]

  --rounds N        rounds of all measurements; default 5
  --quick           2 rounds, for development
  --smoke           1 round with a hundredth of the tasks: does it run?
  --measure NAME    only measures whose name contains NAME; may be repeated
  --peer NAME       only rows whose name contains NAME, and the floors; may be repeated
  --no-python       leave out Python's executors
  --out DIR         where results.md and results.csv go; default: processes/ in the target
                    directory. A relative DIR is one below benches/processes.
  --list            print the names of measures and rows
";

/// A table of the report.
const TABLE: &str = "measure";

fn main() -> ExitCode {
    // In a worker of procspawn this does not return.
    procspawn::init();

    let arguments: Vec<_> = env::args().skip(1).collect();
    match *arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["--one", measure, row, count] => {
            one(measure, row, count.parse().expect("the count comes from this program"));
            ExitCode::SUCCESS
        }
        _ => comparison::main(HELP, TABLE, chosen, compare),
    }
}

/// The measures and rows that the filters leave. Floors always stay.
fn chosen(options: &Options) -> Vec<Measure> {
    let mut measures = measures::all();
    measures.retain(|measure| options.wants_table(measure.name));
    for measure in &mut measures {
        measure.contenders.retain(|row| match row.kind {
            Kind::Floor => true,
            Kind::Python if options.no_python => false,
            _ => options.wants_peer(&row.name),
        });
        if options.smoke {
            for row in &mut measure.contenders {
                row.count = (row.count / 100).max(2);
            }
        }
    }
    measures
}

/// A failure if a measurement of concurrent-futures failed; peers may.
fn compare(options: &Options, measures: Vec<Measure>) -> io::Result<ExitCode> {
    let report = Report::measured(options, measures, run_round);
    let directory = options.directory("processes", env!("CARGO_TARGET_TMPDIR"));
    report.write(&directory, TABLE, &report::markdown(&report))?;
    let directory = directory.canonicalize().unwrap_or(directory);
    eprintln!("results.md and results.csv are in {}", directory.display());
    let is_right = report::failures(&report, Kind::Ours) == 0;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every contender once, each in a process that may use the measure's CPUs and no others.
fn run_round(table: &mut Table, round: usize) {
    let _pinned = cpus::Pinned::to(table.subject.cpus);
    for row in table.turns(round) {
        let measure = &table.subject;
        if let Some(mut command) = command(measure, &measure.contenders[row]) {
            let run = program::values(&mut command).unwrap_or_else(|error| {
                eprintln!("{error}");
                vec![f64::NAN; measure.metrics.len()]
            });
            table.push(row, run);
        }
    }
}

/// What runs a row's measurement; `None` if it is skipped.
fn command(measure: &Measure, row: &Contender) -> Option<Command> {
    match &row.run {
        Run::Here(_) => {
            let program = env::current_exe().expect("it runs, so it is somewhere");
            let mut command = Command::new(program);
            command.args(["--one", measure.name, &row.name, &row.count.to_string()]);
            Some(command)
        }
        Run::Python(function, start) => Some(python::command(function, start, row.count)),
        Run::Skipped => None,
    }
}

/// The other process: prints a value for each metric.
fn one(measure: &str, row: &str, count: usize) {
    system::end_after_a_minute();
    let measure = measures::all().into_iter().find(|known| known.name == measure);
    let mut rows = measure.into_iter().flat_map(|measure| measure.contenders);
    let row = rows.find(|known| known.name == row).expect("the names come from this program");
    if let Run::Here(run) = row.run {
        for value in run(count) {
            println!("{value}");
        }
    }
}
