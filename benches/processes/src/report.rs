//! From the values of all rounds to what is read: a Markdown report, and CSV.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use bench_common::machine;
use bench_common::stats::Spread;
use bench_common::text::{csv_line, number};

use crate::measures::{Bar, Better, Contender, Kind, Measure, Metric, Run};

/// Whose versions are told.
const CRATES: [&str; 3] = ["concurrent-futures", "procspawn", "tokio"];

/// A measure and what came of it.
pub(crate) struct Table {
    pub(crate) measure: Measure,
    /// By contender, round and metric.
    pub(crate) values: Vec<Vec<Vec<f64>>>,
}

pub(crate) struct Report {
    pub(crate) tables: Vec<Table>,
    pub(crate) rounds: usize,
    pub(crate) took: Duration,
    /// Of the machine, before and after.
    pub(crate) load: [Option<String>; 2],
    pub(crate) smoke: bool,
}

impl Report {
    /// Prints the Markdown too.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let mut text = String::new();
        self.markdown(&mut text).expect("a String takes everything");
        print!("{text}");
        fs::write(directory.join("results.md"), text)?;
        fs::write(directory.join("results.csv"), self.csv())
    }

    /// How many measurements of such rows failed.
    pub(crate) fn failures(&self, kind: Kind) -> usize {
        let rows = |table: &Table| {
            let rows = table.measure.contenders.iter().enumerate();
            let rows = rows.filter(|(_, contender)| contender.kind == kind);
            rows.map(|(row, _)| table.failures(row)).sum::<usize>()
        };
        self.tables.iter().map(rows).sum()
    }

    fn markdown(&self, text: &mut String) -> fmt::Result {
        let (machine, versions) = machine::describe(&CRATES);
        writeln!(text, "# The process pool, its peers and its floors\n")?;
        if self.smoke {
            writeln!(
                text,
                "**A trial with a hundredth of the work: the figures mean nothing.**\n"
            )?;
        }
        writeln!(text, "* Machine: {machine}")?;
        writeln!(text, "* Versions: {versions}")?;
        writeln!(
            text,
            "* Rounds: {}, in {:.0} s; figures are medians over the rounds, in brackets the \
             smallest and the largest",
            self.rounds,
            self.took.as_secs_f64(),
        )?;
        if let [Some(before), Some(after)] = &self.load {
            writeln!(text, "* Load average of the machine: {before} before, {after} after")?;
        }
        self.summary(text)?;
        for table in &self.tables {
            table.write(text)?;
        }
        Ok(())
    }

    /// A line for each metric, a column for each side.
    fn summary(&self, text: &mut String) -> fmt::Result {
        const COLUMNS: [&str; 4] =
            ["procspawn", "Python, fork", "Python, forkserver", "Python, spawn"];
        writeln!(text, "\n## Summary\n")?;
        writeln!(
            text,
            "| measure | floor | concurrent-futures | × floor | bar | | {} |",
            COLUMNS.join(" | ")
        )?;
        writeln!(
            text,
            "| --- | ---: | ---: | ---: | ---: | --- |{}",
            " ---: |".repeat(COLUMNS.len())
        )?;
        for table in &self.tables {
            for (index, metric) in table.measure.metrics.iter().enumerate() {
                let floor = table.of(index, |row| row.kind == Kind::Floor);
                let ours = table.of(index, |row| row.kind == Kind::Ours);
                let peers = COLUMNS.map(|name| bracketed(table.of(index, |row| row.name == name)));
                writeln!(
                    text,
                    "| {}: {}{} | {} | {} | {} | {} | {} | {} |",
                    table.measure.title,
                    metric.name,
                    unit(metric),
                    bracketed(floor),
                    ours.map_or_else(none, |ours| format!("**{}**", bracketed(Some(ours)))),
                    times(ours, floor),
                    metric.bar.map_or_else(none, |bar| words(bar, metric.better)),
                    if self.smoke { "" } else { verdict(metric, ours, floor) },
                    peers.join(" | "),
                )?;
            }
        }
        Ok(())
    }

    fn csv(&self) -> String {
        let mut csv = "measure,metric,unit,row,kind,count,round,value\n".to_owned();
        for Table { measure, values } in &self.tables {
            for (row, rounds) in measure.contenders.iter().zip(values) {
                let kind = match row.kind {
                    Kind::Floor => "floor",
                    Kind::Ours => "ours",
                    Kind::Peer => "peer",
                    Kind::Python => "python",
                };
                for (round, values) in rounds.iter().enumerate() {
                    for (metric, value) in measure.metrics.iter().zip(values) {
                        csv += &csv_line([
                            measure.name,
                            metric.name,
                            metric.unit,
                            &row.name,
                            kind,
                            &row.count.to_string(),
                            &(round + 1).to_string(),
                            &value.to_string(),
                        ]);
                    }
                }
            }
        }
        csv
    }
}

impl Table {
    pub(crate) fn new(measure: Measure) -> Self {
        let values = measure.contenders.iter().map(|_| Vec::new()).collect();
        Self { measure, values }
    }

    /// `None` if no round has a value.
    fn spread(&self, row: usize, metric: usize) -> Option<Spread> {
        let values = self.values[row].iter().map(|values| values[metric]);
        Spread::of(values.filter(|value| !value.is_nan()).collect())
    }

    /// How many rounds of a row have no value.
    fn failures(&self, row: usize) -> usize {
        self.values[row].iter().filter(|values| values.iter().all(|value| value.is_nan())).count()
    }

    /// Of the first row that is wanted.
    fn of(&self, metric: usize, wanted: impl Fn(&Contender) -> bool) -> Option<Spread> {
        let row = self.measure.contenders.iter().position(wanted)?;
        self.spread(row, metric)
    }

    /// Everything, also what the summary leaves out.
    fn write(&self, text: &mut String) -> fmt::Result {
        let Measure { title, about, metrics, contenders, .. } = &self.measure;
        writeln!(text, "\n## {title}\n\n{about}")?;
        for (index, metric) in metrics.iter().enumerate() {
            let better = match metric.better {
                Better::Lower => "lower",
                Better::Higher => "higher",
            };
            let floor = self.of(index, |row| row.kind == Kind::Floor);
            writeln!(text, "\n### {}{}, {better} is better\n", metric.name, unit(metric))?;
            writeln!(text, "| | median | min … max | × floor | |")?;
            writeln!(text, "| --- | ---: | ---: | ---: | --- |")?;
            for (row, contender) in contenders.iter().enumerate() {
                let Some(spread) = self.spread(row, index) else { continue };
                let name = match contender.kind {
                    Kind::Floor => format!("*{}*", contender.name),
                    Kind::Ours => format!("**{}**", contender.name),
                    Kind::Peer | Kind::Python => contender.name.clone(),
                };
                writeln!(
                    text,
                    "| {name} | {} | {} … {} | {} | {} |",
                    number(spread.median),
                    number(spread.min),
                    number(spread.max),
                    times(Some(spread), floor),
                    contender.note,
                )?;
            }
        }
        for (row, contender) in contenders.iter().enumerate() {
            let (failed, rounds) = (self.failures(row), self.values[row].len());
            if failed > 0 {
                let name = &contender.name;
                writeln!(text, "\n{name}: {failed} of {rounds} rounds failed or hung.")?;
            }
        }
        let skipped = |row: &&Contender| matches!(row.run, Run::Skipped);
        let mut skipped = contenders.iter().filter(skipped).peekable();
        if skipped.peek().is_some() {
            writeln!(text, "\nNot measured:\n")?;
            for row in skipped {
                writeln!(text, "* {}: {}", row.name, row.note)?;
            }
        }
        Ok(())
    }
}

fn unit(metric: &Metric) -> String {
    if metric.unit.is_empty() { String::new() } else { format!(", {}", metric.unit) }
}

fn none() -> String {
    "–".to_owned()
}

fn bracketed(spread: Option<Spread>) -> String {
    spread.map_or_else(none, |Spread { median, min, max }| {
        format!("{} ({}–{})", number(median), number(min), number(max))
    })
}

fn times(of: Option<Spread>, floor: Option<Spread>) -> String {
    let quotient = of.zip(floor).map(|(of, floor)| of.median / floor.median);
    quotient.map_or_else(none, number)
}

fn words(bar: Bar, better: Better) -> String {
    match (bar, better) {
        (Bar::Value(value), Better::Lower) => format!("≤ {}", number(value)),
        (Bar::Value(value), Better::Higher) => format!("≥ {}", number(value)),
        (Bar::TimesFloor(times), _) => format!("≤ {} × floor", number(times)),
    }
}

/// Whether the median meets the bar.
fn verdict(metric: &Metric, ours: Option<Spread>, floor: Option<Spread>) -> &'static str {
    let Some((bar, ours)) = metric.bar.zip(ours) else { return "" };
    let met = match (bar, metric.better) {
        (Bar::Value(value), Better::Lower) => ours.median <= value,
        (Bar::Value(value), Better::Higher) => ours.median >= value,
        (Bar::TimesFloor(times), _) => {
            floor.is_some_and(|floor| ours.median <= times * floor.median)
        }
    };
    if met { "met" } else { "**missed**" }
}
