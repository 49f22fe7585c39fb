//! concurrent-futures against what a user would pick instead, on the same work:
//!
//! ```sh
//! cargo bench -p peers
//! ```
//!
//! Runs every workload on every peer, in one process, peers in turn within each round, and
//! prints a Markdown report. Beside it go the values of all rounds as CSV, and charts as SVG.
//! `-- --help` lists the options, README.md tells how things are measured and how to read them.
//!
//! To check that a peer is used fairly, read its file in `peers/`; to check a workload, read its
//! file in `workloads/`.

mod bench;
mod cpu;
mod memory;
mod options;
mod peers;
mod python;
mod report;
mod spin;
mod workloads;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use bench_common::machine;

use self::bench::Bench;
use self::options::{HELP, Options};
use self::report::{Report, Table};
use self::workloads::{Kind, Workload};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    if let Some((peer, count)) = &options.memory_of {
        workloads::memory_of(peer, *count);
        return ExitCode::SUCCESS;
    }
    if options.compute {
        workloads::compute();
        return ExitCode::SUCCESS;
    }
    let workloads = chosen(&options);
    if options.help {
        print!("{HELP}");
    } else if options.list {
        list(&workloads);
    } else if let Err(error) = compare(&options, workloads) {
        eprintln!("the report could not be written: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The workloads and rows that the filters leave.
fn chosen(options: &Options) -> Vec<Workload> {
    let mut workloads = workloads::all();
    workloads.retain(|workload| options.wants_workload(workload.name));
    for workload in &mut workloads {
        workload.contenders.retain(|contender| {
            let is_python = contender.kind == Kind::Python;
            options.wants_peer(&contender.name) && !(is_python && options.no_python)
        });
        if options.smoke {
            let counts = workload.contenders.iter_mut().map(|contender| &mut contender.count);
            for count in counts.chain([&mut workload.count]) {
                *count = (*count / 100).max(20);
            }
        }
    }
    workloads.retain(|workload| !workload.contenders.is_empty());
    workloads
}

fn list(workloads: &[Workload]) {
    for workload in workloads {
        println!("{}", workload.name);
        for contender in &workload.contenders {
            println!("    {}", contender.name);
        }
    }
}

fn compare(options: &Options, workloads: Vec<Workload>) -> io::Result<()> {
    let started = Instant::now();
    let load_before = machine::load();
    let bench = Bench::default();
    bench.spin();
    let mut tables: Vec<Table> = workloads.into_iter().map(Table::new).collect();
    for round in 0..options.rounds() {
        for table in &mut tables {
            eprintln!("round {} of {}: {}", round + 1, options.rounds(), table.workload.name);
            run_round(&bench, table, round);
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
    eprintln!("results.md, results.csv and the charts are in {}", directory.display());
    Ok(())
}

/// Every contender once. Each round begins with another one, so that none always follows the
/// same predecessor's mess at the same temperature.
fn run_round(bench: &Bench, table: &mut Table, round: usize) {
    let contenders = &table.workload.contenders;
    for turn in 0..contenders.len() {
        let row = (turn + round) % contenders.len();
        let contender = &contenders[row];
        if let Some(run) = &contender.run {
            let values = run(bench, contender.count);
            assert_eq!(values.len(), table.workload.metrics.len(), "a value for each metric");
            table.values[row].push(values);
            // The threads of the pool before may take a moment to end.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// In the target directory; cargo tells only of `tmp` in it. A trial does not overwrite results.
fn default_directory(smoke: bool) -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = temporary.parent().unwrap_or(temporary);
    target.join(if smoke { "peers-smoke" } else { "peers" })
}
