//! The report: a summary, then a table for each metric.

use std::fmt::{self, Write};

use bench_common::comparison::{Better, Head};
use bench_common::text::number;

use super::{Report, Table, best_peer, cost, cost_text, ranking, variant};
use crate::bench::WORKERS;
use crate::workloads::{Contender, Kind, Workload};

/// Whose versions are told.
const CRATES: [&str; 9] = [
    "concurrent-futures",
    "tokio",
    "rayon",
    "tokio-rayon",
    "blocking",
    "affinitypool",
    "rusty_pool",
    "crossbeam-channel",
    "futures",
];

pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    write(&mut text, report).expect("a String takes everything");
    text
}

fn write(text: &mut String, report: &Report) -> fmt::Result {
    let setting = format!(
        "{WORKERS} workers in each pool, a tokio runtime with {WORKERS} workers, the measured future \
         spawned on it"
    );
    let head = Head {
        title: "concurrent-futures and its peers",
        crates: &CRATES,
        work: "tasks",
        setting: Some(&setting),
        figures: "medians over the rounds",
    };
    report.head(text, head)?;
    summary(text, report)?;
    for table in &report.tables {
        workload(text, table)?;
    }
    Ok(())
}

fn summary(text: &mut String, report: &Report) -> fmt::Result {
    writeln!(text, "\n## Summary\n")?;
    writeln!(
        text,
        "The cost is ours, relative to that of the best peer that does the same work: below 1 is \
         better. ↓: lower figures are better; ↑: higher ones are, and the cost is their quotient \
         turned round.\n"
    )?;
    writeln!(text, "| workload | | concurrent-futures | best peer | | cost |")?;
    writeln!(text, "| --- | --- | ---: | ---: | --- | ---: |")?;
    for table in &report.tables {
        for (index, metric) in table.subject.metrics.iter().enumerate() {
            // Maps of different inputs are several rows of ours.
            for (row, ours) in ranking(table, index) {
                if row.kind != Kind::Ours {
                    continue;
                }
                let Some((peer, best)) = best_peer(table, index, row) else { continue };
                writeln!(
                    text,
                    "| {}{} | {} {}, {} | **{}** | {} | {} | {} |",
                    table.subject.title,
                    variant(row),
                    arrow(metric.better),
                    metric.name,
                    metric.unit,
                    number(ours.median),
                    number(best.median),
                    peer.name,
                    cost_text(cost(metric, ours, best)),
                )?;
            }
        }
    }
    Ok(())
}

fn arrow(better: Better) -> char {
    match better {
        Better::Lower => '↓',
        Better::Higher => '↑',
    }
}

fn workload(text: &mut String, table: &Table) -> fmt::Result {
    let workload = &table.subject;
    writeln!(text, "\n## {}\n\n{}", workload.title, workload.about)?;
    for (index, metric) in workload.metrics.iter().enumerate() {
        let ranking = ranking(table, index);
        if ranking.is_empty() {
            continue;
        }
        let better = metric.better.word();
        writeln!(text, "\n### {}: {}, {better} is better\n", metric.name, metric.unit)?;
        writeln!(text, "| | median | min … max | cost | |")?;
        writeln!(text, "| --- | ---: | ---: | ---: | --- |")?;
        for (row, spread) in ranking {
            let best = best_peer(table, index, row);
            let cost =
                best.map_or("–".to_owned(), |(_, best)| cost_text(cost(metric, spread, best)));
            let note = note(workload, row);
            writeln!(
                text,
                "| {} | {} | {} … {} | {cost} | {note} |",
                styled(row),
                number(spread.median),
                number(spread.min),
                number(spread.max),
            )?;
        }
    }
    let skipped = |row: &&Contender| row.run.is_none();
    let mut skipped = workload.contenders.iter().filter(skipped).peekable();
    if skipped.peek().is_some() {
        writeln!(text, "\nNot measured:\n")?;
        for row in skipped {
            writeln!(text, "* {}: {}", row.name, row.note)?;
        }
    }
    writeln!(text, "\n![{}]({}.svg)", workload.title, workload.name)
}

fn styled(row: &Contender) -> String {
    match row.kind {
        Kind::Ours => format!("**{}**", row.name),
        Kind::Peer => row.name.clone(),
        Kind::Reference | Kind::Python => format!("*{}*", row.name),
    }
}

/// The remark on a row; a count other than the workload's is always told.
fn note(workload: &Workload, row: &Contender) -> String {
    let count = (row.count != workload.count)
        .then(|| format!("{} {}", number(row.count as f64), workload.unit));
    let note = (!row.note.is_empty()).then(|| row.note.clone());
    [count, note].into_iter().flatten().collect::<Vec<_>>().join("; ")
}
