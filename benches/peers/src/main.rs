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
mod peers;
mod python;
mod report;
mod spin;
mod workloads;

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bench_common::comparison;
use bench_common::options::Options;

use self::bench::Bench;
use self::report::{Report, Table};
use self::workloads::{Kind, Workload};

const HELP: &str = "\
Compares concurrent-futures with what a user would pick instead, on the same work.

usage: cargo bench -p peers -- [OPTIONS]

  --rounds N        rounds of all measurements; default 5
  --quick           2 rounds, for development
  --smoke           1 round with a hundredth of the tasks: does it run?
  --workload NAME   only workloads whose name contains NAME; may be repeated
  --peer NAME       only rows whose name contains NAME; may be repeated
  --no-python       leave out Python's executors
  --out DIR         where results.md, results.csv and the charts go; default: peers/ in the
                    target directory. A relative DIR is one below benches/peers.
  --list            print the names of workloads and rows
";

/// A table of the report.
const TABLE: &str = "workload";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match *arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        // Other processes of a measurement: see `workloads/memory.rs` and `workloads/busy.rs`.
        ["--memory-of", peer, count] => {
            workloads::memory_of(peer, count.parse().expect("the count comes from this program"));
            ExitCode::SUCCESS
        }
        ["--compute"] => {
            workloads::compute();
            ExitCode::SUCCESS
        }
        _ => comparison::main(HELP, TABLE, chosen, compare),
    }
}

/// The workloads and rows that the filters leave.
fn chosen(options: &Options) -> Vec<Workload> {
    let mut workloads = workloads::all();
    workloads.retain(|workload| options.wants_table(workload.name));
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

fn compare(options: &Options, workloads: Vec<Workload>) -> io::Result<ExitCode> {
    let bench = Bench::default();
    bench.spin();
    let report =
        Report::measured(options, workloads, |table, round| run_round(&bench, table, round));
    let directory = options.directory("peers", env!("CARGO_TARGET_TMPDIR"));
    report::write(&report, &directory)?;
    let directory = directory.canonicalize().unwrap_or(directory);
    eprintln!("results.md, results.csv and the charts are in {}", directory.display());
    Ok(ExitCode::SUCCESS)
}

/// Every contender once.
fn run_round(bench: &Bench, table: &mut Table, round: usize) {
    for row in table.turns(round) {
        let contender = &table.subject.contenders[row];
        if let Some(run) = &contender.run {
            let values = run(bench, contender.count);
            table.push(row, values);
            // The threads of the pool before may take a moment to end.
            thread::sleep(Duration::from_millis(5));
        }
    }
}
