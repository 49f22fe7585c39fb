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
mod options;
mod python;
mod report;
mod sides;
mod system;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use bench_common::{machine, program};

use self::measures::{Contender, Kind, Measure, Run};
use self::options::{HELP, Options};
use self::report::{Report, Table};

fn main() -> ExitCode {
    // In a worker of procspawn this does not return.
    procspawn::init();

    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    if let Some((measure, row, count)) = &options.one {
        one(measure, row, *count);
        return ExitCode::SUCCESS;
    }
    let measures = chosen(&options);
    if options.help {
        print!("{HELP}");
    } else if options.list {
        list(&measures);
    } else {
        return compare(&options, measures).unwrap_or_else(|error| {
            eprintln!("the report could not be written: {error}");
            ExitCode::FAILURE
        });
    }
    ExitCode::SUCCESS
}

/// The measures and rows that the filters leave. Floors always stay.
fn chosen(options: &Options) -> Vec<Measure> {
    let mut measures = measures::all();
    measures.retain(|measure| options.wants_measure(measure.name));
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

fn list(measures: &[Measure]) {
    for measure in measures {
        println!("{}", measure.name);
        for row in &measure.contenders {
            println!("    {}", row.name);
        }
    }
}

/// A failure if a measurement of concurrent-futures failed; peers may.
fn compare(options: &Options, measures: Vec<Measure>) -> io::Result<ExitCode> {
    let started = Instant::now();
    let load_before = machine::load();
    let mut tables: Vec<Table> = measures.into_iter().map(Table::new).collect();
    for round in 0..options.rounds() {
        for table in &mut tables {
            eprintln!("round {} of {}: {}", round + 1, options.rounds(), table.measure.name);
            run_round(table, round);
        }
    }

    let report = Report {
        tables,
        rounds: options.rounds(),
        took: started.elapsed(),
        load: [load_before, machine::load()],
        smoke: options.smoke,
    };
    let directory = options.out.clone().unwrap_or_else(|| default_directory(options.smoke));
    report.write(&directory)?;
    let directory = directory.canonicalize().unwrap_or(directory);
    eprintln!("results.md and results.csv are in {}", directory.display());
    let is_right = report.failures(Kind::Ours) == 0;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every contender once, each in a process that may use the measure's CPUs and no others. Each
/// round begins with another one, so that none always follows the same predecessor.
fn run_round(table: &mut Table, round: usize) {
    let Table { measure, values } = table;
    let _pinned = cpus::Pinned::to(measure.cpus);
    for turn in 0..measure.contenders.len() {
        let row = (turn + round) % measure.contenders.len();
        if let Some(mut command) = command(measure, &measure.contenders[row]) {
            let run = program::values(&mut command).unwrap_or_else(|error| {
                eprintln!("{error}");
                vec![f64::NAN; measure.metrics.len()]
            });
            assert_eq!(run.len(), measure.metrics.len(), "a value for each metric: {command:?}");
            values[row].push(run);
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

/// In the target directory; cargo tells only of `tmp` in it. A trial does not overwrite results.
fn default_directory(smoke: bool) -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = temporary.parent().unwrap_or(temporary);
    target.join(if smoke { "processes-smoke" } else { "processes" })
}
