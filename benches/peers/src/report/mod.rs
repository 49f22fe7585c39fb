//! From the values of all rounds to what is read: a Markdown report, CSV, and charts.

mod chart;
mod markdown;

use std::io;
use std::path::Path;

use bench_common::comparison::{self, Better};
use bench_common::stats::Spread;

use crate::TABLE;
use crate::workloads::{Contender, Kind, Workload};

pub(crate) type Report = comparison::Report<Workload>;
pub(crate) type Table = comparison::Table<Workload>;

/// The rows that have values, best first.
fn ranking(table: &Table, metric: usize) -> Vec<(&Contender, Spread)> {
    let rows = table.subject.contenders.iter().enumerate();
    let spread = |(row, contender)| Some((contender, table.spread(row, metric)?));
    let mut ranking: Vec<_> = rows.filter_map(spread).collect();
    ranking.sort_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
    if table.subject.metrics[metric].better == Better::Higher {
        ranking.reverse();
    }
    ranking
}

/// What the others are compared with.
fn best_peer(table: &Table, metric: usize) -> Option<(&Contender, Spread)> {
    if !table.subject.metrics[metric].compared {
        return None;
    }
    ranking(table, metric).into_iter().find(|(contender, _)| contender.kind == Kind::Peer)
}

/// Prints the Markdown too.
pub(crate) fn write(report: &Report, directory: &Path) -> io::Result<()> {
    report.write(directory, TABLE, &markdown::report(report))?;
    for table in &report.tables {
        let file = directory.join(format!("{}.svg", table.subject.name));
        chart::workload(table, &file).map_err(io::Error::other)?;
    }
    chart::overview(report, &directory.join("overview.svg")).map_err(io::Error::other)
}

/// What a row of ours is besides ours: ", Vec".
fn variant(ours: &Contender) -> &str {
    ours.name.strip_prefix("concurrent-futures").unwrap_or(&ours.name)
}
