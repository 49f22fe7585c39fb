//! How many instructions an operation takes, on all threads together, as valgrind's tool
//! callgrind counts them:
//!
//! ```sh
//! cargo run --release -p core-benches
//! ```
//!
//! README.md tells how to read the table.

mod callgrind;
mod processes;
mod programs;
mod table;

use std::env;
use std::process::ExitCode;

/// Of each program.
const RUNS: usize = 3;

fn main() -> ExitCode {
    let Some(name) = env::args().nth(1) else { return report() };
    // callgrind runs this program again, with the name of what it is to do.
    match programs::ALL.iter().find(|(program, ..)| *program == name) {
        Some((.., run)) => run(),
        None => {
            let names = programs::ALL.map(|(program, ..)| program).join(", ");
            eprintln!(
                "no such program: {name}. There are {names}; without a name, all are counted"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn report() -> ExitCode {
    let mut runs = Vec::new();
    for run in 1..=RUNS {
        eprintln!("run {run} of {RUNS}");
        let mut rows = Vec::new();
        for (program, process, _) in programs::ALL {
            match callgrind::count(program, process) {
                Ok(counts) => rows.extend(counts),
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        runs.push(rows);
    }
    print!("{}", table::of(&runs));
    ExitCode::SUCCESS
}
