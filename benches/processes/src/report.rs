//! From the values of all rounds to what is read: a Markdown report.

use std::fmt::{self, Write};

use bench_common::comparison::{self, Better, Head};
use bench_common::stats::Spread;
use bench_common::text::number;

use crate::measures::{Bar, Contender, Kind, Measure, Metric, Run};

pub(crate) type Report = comparison::Report<Measure>;
pub(crate) type Table = comparison::Table<Measure>;

/// How many measurements of such rows failed.
pub(crate) fn failures(report: &Report, kind: Kind) -> usize {
    let rows = |table: &Table| {
        let rows = table.subject.contenders.iter().enumerate();
        let rows = rows.filter(|(_, contender)| contender.kind == kind);
        rows.map(|(row, _)| failures_of(table, row)).sum::<usize>()
    };
    report.tables.iter().map(rows).sum()
}

pub(crate) fn markdown(report: &Report) -> String {
    let mut text = String::new();
    write(&mut text, report).expect("a String takes everything");
    text
}

fn write(text: &mut String, report: &Report) -> fmt::Result {
    let head = Head {
        title: "The process pool, its peers and its floors",
        crates: &["concurrent-futures", "procspawn", "tokio"],
        work: "work",
        setting: None,
        figures: "medians over the rounds, in brackets the smallest and the largest",
    };
    report.head(text, head)?;
    summary(text, report)?;
    for table in &report.tables {
        write_table(text, table)?;
    }
    Ok(())
}

/// A line for each metric, a column for each side.
fn summary(text: &mut String, report: &Report) -> fmt::Result {
    const COLUMNS: [&str; 4] = ["procspawn", "Python, fork", "Python, forkserver", "Python, spawn"];
    writeln!(text, "\n## Summary\n")?;
    writeln!(
        text,
        "| measure | floor | concurrent-futures | × floor | bar | | {} |",
        COLUMNS.join(" | ")
    )?;
    writeln!(text, "| --- | ---: | ---: | ---: | ---: | --- |{}", " ---: |".repeat(COLUMNS.len()))?;
    for table in &report.tables {
        for (index, metric) in table.subject.metrics.iter().enumerate() {
            let floor = of(table, index, |row| row.kind == Kind::Floor);
            let ours = of(table, index, |row| row.kind == Kind::Ours);
            let peers = COLUMNS.map(|name| bracketed(of(table, index, |row| row.name == name)));
            writeln!(
                text,
                "| {}: {}{} | {} | {} | {} | {} | {} | {} |",
                table.subject.title,
                metric.name,
                unit(metric),
                bracketed(floor),
                ours.map_or_else(none, |ours| format!("**{}**", bracketed(Some(ours)))),
                times(ours, floor),
                metric.bar.map_or_else(none, |bar| words(bar, metric.better)),
                if report.smoke { "" } else { verdict(metric, ours, floor) },
                peers.join(" | "),
            )?;
        }
    }
    Ok(())
}

/// How many rounds of a row have no value.
fn failures_of(table: &Table, row: usize) -> usize {
    table.values[row].iter().filter(|values| values.iter().all(|value| value.is_nan())).count()
}

/// Of the first row that is wanted.
fn of(table: &Table, metric: usize, wanted: impl Fn(&Contender) -> bool) -> Option<Spread> {
    let row = table.subject.contenders.iter().position(wanted)?;
    table.spread(row, metric)
}

/// Everything, also what the summary leaves out.
fn write_table(text: &mut String, table: &Table) -> fmt::Result {
    let Measure { title, about, metrics, contenders, .. } = &table.subject;
    writeln!(text, "\n## {title}\n\n{about}")?;
    for (index, metric) in metrics.iter().enumerate() {
        let better = metric.better.word();
        let floor = of(table, index, |row| row.kind == Kind::Floor);
        writeln!(text, "\n### {}{}, {better} is better\n", metric.name, unit(metric))?;
        writeln!(text, "| | median | min … max | × floor | |")?;
        writeln!(text, "| --- | ---: | ---: | ---: | --- |")?;
        for (row, contender) in contenders.iter().enumerate() {
            let Some(spread) = table.spread(row, index) else { continue };
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
        let (failed, rounds) = (failures_of(table, row), table.values[row].len());
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
