//! A log parser: how often each status was answered, and which paths are slow, in a log of two
//! million requests.
//!
//! ```text
//! cargo run --release --example log_parser
//! ```
//!
//! The log is made up, and cut into parts at ends of lines. A part has a summary of its own, and the
//! summaries are merged as they come, in any order.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Instant;
use std::{fmt, iter};

use concurrent_futures::{Error, ThreadPoolExecutor};

const REQUESTS: u64 = 2_000_000;
const PART: usize = 1 << 20;

/// The paths are parts of the log itself, which lives as long as the program.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    statuses: BTreeMap<u16, u64>,
    paths: HashMap<&'static str, Times>,
    unreadable: u64,
}

#[derive(Debug, Default, PartialEq)]
struct Times {
    count: u64,
    micros: u64,
    slowest: u64,
}

/// Path, status and microseconds of a line such as
/// `10.0.0.7 [12:34:56] "GET /item/42 HTTP/1.1" 200 1830`.
fn parse(line: &str) -> Option<(&str, u16, u64)> {
    let mut parts = line.split('"');
    let (_client, request, outcome) = (parts.next()?, parts.next()?, parts.next()?);
    let path = request.split(' ').nth(1)?;
    let (status, micros) = outcome.trim_start().split_once(' ')?;
    Some((path, status.parse().ok()?, micros.parse().ok()?))
}

fn summarize(part: &'static str) -> Summary {
    let mut summary = Summary::default();
    for line in part.lines() {
        let Some((path, status, micros)) = parse(line) else {
            summary.unreadable += 1;
            continue;
        };
        *summary.statuses.entry(status).or_default() += 1;
        summary.paths.entry(path).or_default().merge(&Times { count: 1, micros, slowest: micros });
    }
    summary
}

impl Summary {
    fn merge(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (path, times) in other.paths {
            self.paths.entry(path).or_default().merge(&times);
        }
        self.unreadable += other.unreadable;
    }
}

impl Times {
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.micros += other.micros;
        self.slowest = self.slowest.max(other.slowest);
    }

    fn mean(&self) -> u64 {
        self.micros / self.count
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status    requests")?;
        for (status, count) in &self.statuses {
            writeln!(f, "{status:<6}  {count:>10}")?;
        }
        writeln!(f, "\nslowest path    requests  mean, ms   max, ms")?;
        let mut paths: Vec<_> = self.paths.iter().collect();
        paths.sort_by_key(|(path, times)| (times.mean(), **path));
        for (path, times) in paths.into_iter().rev().take(5) {
            let [mean, slowest] = [times.mean(), times.slowest].map(|micros| micros as f64 / 1e3);
            writeln!(f, "{path:<14}  {:>8}  {mean:>8.2}  {slowest:>8.2}", times.count)?;
        }
        writeln!(f, "\n{} lines could not be read", self.unreadable)
    }
}

/// The log in parts of some length, each with whole lines.
fn parts(mut log: &'static str) -> impl Iterator<Item = &'static str> {
    iter::from_fn(move || {
        let end = log.bytes().skip(PART).position(|byte| byte == b'\n');
        let (part, rest) = log.split_at(end.map_or(log.len(), |end| PART + end + 1));
        log = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// The same log at every run. A real one would be read, or mapped into memory.
fn write_log() -> String {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let mut log = String::new();
    for n in 0..REQUESTS {
        let (item, second) = (random(100) * random(100) / 100, n * 86_400 / REQUESTS);
        let status = [200, 200, 200, 200, 200, 200, 304, 304, 404, 500][random(10) as usize];
        let micros = 500 + 100 * item + random(5_000);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        let _ = write!(log, "10.0.{}.{} [{h:02}:{m:02}:{s:02}] ", random(4), random(256));
        // Now and then the server has ended in the middle of a line.
        let _ = match random(1_000) {
            0 => writeln!(log, "\"GET /item/{item}"),
            _ => writeln!(log, "\"GET /item/{item} HTTP/1.1\" {status} {micros}"),
        };
    }
    log
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let log: &'static str = write_log().leak();

    let start = Instant::now();
    let serial = summarize(log);
    let serial_time = start.elapsed();

    let pool = ThreadPoolExecutor::new();
    let start = Instant::now();
    let mut total = Summary::default();
    let mut summaries = pool.map(summarize, parts(log)).unordered();
    while let Some((_part, summary)) = summaries.next().await {
        total.merge(summary?);
    }
    let (workers, time) = (pool.max_workers(), start.elapsed());

    print!("{total}");
    println!("{} MiB: one thread {serial_time:.1?}, {workers} workers {time:.1?}", log.len() >> 20);
    assert_eq!(total, serial);
    Ok(())
}
