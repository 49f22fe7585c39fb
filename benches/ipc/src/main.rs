//! What processes share, channels and locks, against what a user would pick instead, and against what the system allows:
//!
//! ```sh
//! cargo bench -p ipc
//! ```
//!
//! Each measurement is two processes of its own, sides in turn within each round; the figures are times for an item,
//! with the median of the rounds and its spread, and the ratio to the first row. README.md tells how to read them.

mod locks;
mod sides;

use std::env;
use std::process::{Command, Stdio};

use bench_common::program;
use bench_common::stats::Spread;

use self::sides::{Other, Work};

/// What is measured: its name, the length of an item in bytes, the number of items.
const MEASURES: [(&str, Work, usize, usize); 5] = [
    ("round trip, 64 B", Work::RoundTrip, 64, 20_000),
    ("stream, 64 B", Work::Stream, 64, 100_000),
    ("round trip, 1 MiB", Work::RoundTrip, 1 << 20, 200),
    ("stream, 1 MiB", Work::Stream, 1 << 20, 300),
    ("stream, text of 64 KiB", Work::StreamText, 64 << 10, 3_000),
];

/// The rows; the first one is the crate.
const SIDES: [&str; 6] =
    ["channel", "channel, async", "pipe", "stream socket", "ipc-channel", "mp.Queue"];

/// Whether a side can do the work.
fn does(side: &str, work: Work) -> bool {
    match side {
        "channel, async" => work == Work::RoundTrip,
        "pipe" | "stream socket" | "ipc-channel" => work != Work::StreamText,
        "mp.Queue" => program::python_version().is_some(),
        _ => true,
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    match *arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        ["--one", side, measure, scale, here, there] => {
            let (_, work, size, count) = MEASURES[number(measure)];
            let job =
                Other { work, size, count: count.div_ceil(number(scale)), cpu: number(there) };
            println!("{}", sides::run(side, job, number(here)));
        }
        ["--lock", side, measure, scale] => {
            let (.., count) = locks::MEASURES[number(measure)];
            println!("{}", locks::run(number(measure), side, count.div_ceil(number(scale))));
        }
        ["--other", side, work, size, count, cpu, ref address @ ..] => {
            let work = Work::named(work);
            let job = Other { work, size: number(size), count: number(count), cpu: number(cpu) };
            sides::other(side, job, address.first().copied());
        }
        ["--smoke"] => compare(1, 100),
        [] => compare(7, 1),
        ["--rounds", rounds] => compare(number(rounds), 1),
        _ => panic!("usage: cargo bench -p ipc -- [--rounds N | --smoke]"),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn compare(rounds: usize, scale: usize) {
    println!(
        "Microseconds for an item, median and spread of {rounds} rounds; ratio to the first row.\n"
    );
    for (cpus, here, there) in [("one CPU", 0, 0), ("two CPUs", 0, 1)] {
        for (number, (name, work, ..)) in MEASURES.iter().enumerate() {
            let sides: Vec<_> = SIDES.into_iter().filter(|side| does(side, *work)).collect();
            table(&format!("{name}, {cpus}"), &sides, rounds, |side| {
                one(side, "--one", &[number, scale, here, there])
            });
        }
    }
    for (number, (name, sides, _)) in locks::MEASURES.iter().enumerate() {
        let has = |side: &&str| !side.starts_with("mp.") || program::python_version().is_some();
        let sides: Vec<_> = sides.iter().copied().filter(has).collect();
        table(name, &sides, rounds, |side| one(side, "--lock", &[number, scale]));
    }
}

/// Measures the sides in turn, and prints a row for each.
fn table(name: &str, sides: &[&str], rounds: usize, measure: impl Fn(&str) -> f64) {
    println!("## {name}\n\n| | us | from | to | ratio |\n| --- | --- | --- | --- | --- |");
    let mut times = vec![Vec::new(); sides.len()];
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let side = (round + turn) % sides.len();
            times[side].push(measure(sides[side]));
        }
    }
    let first = times[0].clone();
    for (side, times) in sides.iter().zip(times) {
        let ratios = times.iter().zip(&first).map(|(time, first)| time / first).collect();
        let ratio = Spread::of(ratios).expect("there are rounds").median;
        let Spread { median, min, max } = Spread::of(times).expect("there are rounds");
        println!("| {side} | {median:.3} | {min:.3} | {max:.3} | {ratio:.2} |");
    }
    println!();
}

/// Measures one side, in processes of its own.
fn one(side: &str, what: &str, arguments: &[usize]) -> f64 {
    let program = env::current_exe().expect("it runs");
    let mut command = Command::new(program);
    let arguments = arguments.iter().map(usize::to_string);
    command.args([what, side]).args(arguments).stderr(Stdio::inherit());
    let output = command.output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{side} has failed: {text}"))
}
