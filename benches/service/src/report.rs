//! From samples to what is read: a Markdown report, CSV, and a chart.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;
use std::time::Duration;

use bench_common::http::Error;
use bench_common::machine;
use bench_common::stats::millis;
use bench_common::text::{csv_line, number};
use service::backend::{ANSWER_WITHIN, Kind};

use crate::Plan;
use crate::chart;
use crate::child::Usage;
use crate::health::Percentiles;
use crate::requests::{Outcome, Sample};

pub(crate) struct Report {
    pub(crate) sides: Vec<Side>,
    pub(crate) plan: Plan,
    pub(crate) took: Duration,
    /// Before and after.
    pub(crate) machine_load: [Option<String>; 2],
}

/// One backend.
pub(crate) struct Side {
    pub(crate) kind: Kind,
    /// Answers per second.
    pub(crate) capacity: f64,
    /// Without load.
    pub(crate) health: Percentiles,
    pub(crate) memory: Usage,
    pub(crate) runs: Vec<Run>,
}

/// One backend under one load.
pub(crate) struct Run {
    /// As multiple of the capacity.
    pub(crate) load: f64,
    /// Requests per second.
    pub(crate) offered: f64,
    /// Answers in time, per second.
    pub(crate) goodput: f64,
    /// Of requests that were accepted; one that was given up counts as long as the client waited.
    pub(crate) thumbnail: Option<Percentiles>,
    pub(crate) health: Percentiles,
    pub(crate) late: usize,
    pub(crate) refused: usize,
    /// How long a client waited for that.
    pub(crate) refusal: Option<Percentiles>,
    pub(crate) expired: usize,
    /// Accepted, and then nothing.
    pub(crate) unanswered: usize,
    pub(crate) usage: Usage,
}

impl Run {
    pub(crate) fn new(
        load: f64,
        offered: f64,
        plan: &Plan,
        samples: &[Sample],
        health: Percentiles,
        usage: Usage,
    ) -> Self {
        let count = |outcome| samples.iter().filter(|sample| sample.outcome == outcome).count();
        let is_in_time = |sample: &&Sample| sample.time <= ANSWER_WITHIN;
        let answered = || samples.iter().filter(|sample| sample.outcome == Outcome::Answered);
        let in_time = answered().filter(is_in_time).count();
        let (refused, accepted): (Vec<Sample>, Vec<Sample>) =
            samples.iter().partition(|sample| sample.outcome == Outcome::Refused);
        let percentiles = |samples: Vec<Sample>| {
            Percentiles::of(samples.iter().map(|sample| sample.time).collect())
        };
        Self {
            load,
            offered,
            goodput: in_time as f64 / plan.window.as_secs_f64(),
            thumbnail: percentiles(accepted),
            health,
            late: answered().count() - in_time,
            refused: refused.len(),
            refusal: percentiles(refused),
            expired: count(Outcome::Expired),
            unanswered: count(Outcome::GivenUp) + count(Outcome::Failed),
            usage,
        }
    }
}

impl Side {
    /// The best goodput over all loads.
    fn peak(&self) -> f64 {
        self.runs.iter().map(|run| run.goodput).fold(0.0, f64::max)
    }

    /// Under the highest load.
    fn worst(&self) -> Option<&Run> {
        self.runs.last()
    }
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Report {
    /// Prints the Markdown too.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        fs::create_dir_all(directory)?;
        let text = self.markdown()?;
        print!("{text}");
        fs::write(directory.join("results.md"), text)?;
        fs::write(directory.join("results.csv"), self.csv())?;
        chart::draw(self, &directory.join("service.svg"))?;
        eprintln!("results.md, results.csv and service.svg are in {}", directory.display());
        Ok(())
    }

    fn markdown(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let (machine, versions) = machine::describe(&["axum", "hyper", "image", "rayon", "tokio"]);
        writeln!(text, "* Machine: {machine}; client and service share it")?;
        writeln!(text, "* Versions: {versions}")?;
        writeln!(
            text,
            "* {} s for each load after {} s that do not count, {:.0} s in all; clients hang up \
             after {} s",
            self.plan.window.as_secs_f64(),
            self.plan.warm_up.as_secs_f64(),
            self.took.as_secs_f64(),
            self.plan.patience.as_secs_f64(),
        )?;
        if let [Some(before), Some(after)] = &self.machine_load {
            writeln!(text, "* Load average of the machine: {before} before, {after} after")?;
        }
        self.table(&mut text)?;
        self.bars(&mut text)?;
        Ok(text)
    }

    fn table(&self, text: &mut String) -> fmt::Result {
        writeln!(
            text,
            "\n| backend | load | requests/s | goodput/s | thumbnail p50, p99: ms | health p50, p99: ms \
             | late | 503 | 503 p50, p99: ms | 504 | unanswered | memory: MB | threads |"
        )?;
        writeln!(text, "| --- {}|", "| ---: ".repeat(12))?;
        for side in &self.sides {
            writeln!(
                text,
                "| {} | 0 | | | | {} | | | | | | {} | {} |",
                side.kind.name(),
                pair(side.health),
                number(megabytes(side.memory.memory)),
                side.memory.threads,
            )?;
            for run in &side.runs {
                writeln!(
                    text,
                    "| | {} × {} | {} | **{}** | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                    run.load,
                    number(side.capacity),
                    number(run.offered),
                    number(run.goodput),
                    run.thumbnail.map_or("–".to_owned(), pair),
                    pair(run.health),
                    run.late,
                    run.refused,
                    run.refusal.map_or("–".to_owned(), pair),
                    run.expired,
                    run.unanswered,
                    number(megabytes(run.usage.memory)),
                    run.usage.threads,
                )?;
            }
        }
        Ok(())
    }

    /// What a service is to keep up under the highest load, as factors.
    fn bars(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n| under the highest load | wanted {}|", self.names())?;
        writeln!(text, "| --- | ---: {}|", "| ---: ".repeat(self.sides.len()))?;
        let mut row = |name: &str, wanted: &str, value: &dyn Fn(&Side, &Run) -> String| {
            let values = self
                .sides
                .iter()
                .map(|side| side.worst().map_or("–".to_owned(), |worst| value(side, worst)));
            let values: Vec<_> = values.collect();
            writeln!(text, "| {name} | {wanted} | {} |", values.join(" | "))
        };
        row("goodput, of its peak", "≥ 0.9", &|side, worst| number(worst.goodput / side.peak()))?;
        row("health p99, of that without load", "≤ 2", &|side, worst| {
            number(worst.health.p99.as_secs_f64() / side.health.p99.as_secs_f64())
        })?;
        row("memory, of that under the lowest", "about 1", &|side, worst| {
            let usual = side.runs.first().map_or(f64::NAN, |run| megabytes(run.usage.memory));
            number(megabytes(worst.usage.memory) / usual)
        })?;
        row("requests accepted and not answered", "0", &|_, worst| worst.unanswered.to_string())
    }

    fn names(&self) -> String {
        self.sides.iter().map(|side| format!("| {} ", side.kind.name())).collect()
    }

    fn csv(&self) -> String {
        let mut lines = csv_line([
            "backend",
            "load",
            "offered_per_s",
            "goodput_per_s",
            "thumbnail_p50_ms",
            "thumbnail_p99_ms",
            "health_p50_ms",
            "health_p99_ms",
            "late",
            "refused_503",
            "refusal_p50_ms",
            "refusal_p99_ms",
            "expired_504",
            "unanswered",
            "memory_bytes",
            "threads",
        ]);
        for side in &self.sides {
            let (name, health) = (side.kind.name(), side.health);
            lines += &csv_line([
                name,
                "0",
                "0",
                "",
                "",
                "",
                &ms(health.p50),
                &ms(health.p99),
                "",
                "",
                "",
                "",
                "",
                "",
                &side.memory.memory.to_string(),
                &side.memory.threads.to_string(),
            ]);
            for run in &side.runs {
                let texts = |times: Option<Percentiles>| {
                    times.map_or_else(Default::default, |times| (ms(times.p50), ms(times.p99)))
                };
                let (p50, p99) = texts(run.thumbnail);
                let (refusal_p50, refusal_p99) = texts(run.refusal);
                lines += &csv_line([
                    name,
                    &run.load.to_string(),
                    &format!("{:.1}", run.offered),
                    &format!("{:.1}", run.goodput),
                    &p50,
                    &p99,
                    &ms(run.health.p50),
                    &ms(run.health.p99),
                    &run.late.to_string(),
                    &run.refused.to_string(),
                    &refusal_p50,
                    &refusal_p99,
                    &run.expired.to_string(),
                    &run.unanswered.to_string(),
                    &run.usage.memory.to_string(),
                    &run.usage.threads.to_string(),
                ]);
            }
        }
        lines
    }
}

fn pair(Percentiles { p50, p99 }: Percentiles) -> String {
    format!("{}, {}", number(millis(p50)), number(millis(p99)))
}

fn ms(time: Duration) -> String {
    format!("{:.3}", millis(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_once() {
        let plan = Plan {
            loads: &[1.0],
            warm_up: Duration::ZERO,
            window: Duration::from_secs(2),
            patience: Duration::from_secs(1),
        };
        let sample = |outcome, millis| Sample { outcome, time: Duration::from_millis(millis) };
        let samples = [
            sample(Outcome::Answered, 20),
            sample(Outcome::Answered, 500),
            sample(Outcome::Answered, 501),
            sample(Outcome::Refused, 1),
            sample(Outcome::Expired, 502),
            sample(Outcome::GivenUp, 1_000),
            sample(Outcome::Failed, 3),
        ];
        let health = Percentiles { p50: Duration::ZERO, p99: Duration::ZERO };
        let run = Run::new(1.0, 3.5, &plan, &samples, health, Usage::default());
        assert_eq!(run.goodput, 1.0, "two in two seconds");
        assert_eq!((run.late, run.refused, run.expired, run.unanswered), (1, 1, 1, 2));
        assert_eq!(run.refusal.map(|times| times.p50.as_millis()), Some(1));
        let p99 = run.thumbnail.map(|times| times.p99.as_millis());
        assert_eq!(p99, Some(1_000), "who gave up has waited for so long");
    }
}
