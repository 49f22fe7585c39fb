//! From the values of all rounds to what is read: a Markdown report, CSV, and charts.

mod chart;
mod markdown;

use std::io;
use std::path::Path;

use bench_common::comparison::{self, Better};
use bench_common::stats::Spread;
use bench_common::text::number;

use crate::TABLE;
use crate::workloads::{Contender, Kind, Metric, Workload};

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

/// The best of the peers that do the same work as `row`; `None` if the metric is not compared.
fn best_peer<'a>(
    table: &'a Table,
    metric: usize,
    row: &Contender,
) -> Option<(&'a Contender, Spread)> {
    if !table.subject.metrics[metric].compared {
        return None;
    }
    let does_the_same = |peer: &Contender| {
        peer.variant.is_none() || row.variant.is_none() || peer.variant == row.variant
    };
    let mut ranking = ranking(table, metric).into_iter();
    ranking.find(|(peer, _)| peer.kind == Kind::Peer && does_the_same(peer))
}

/// The cost relative to the best peer's, which is 1. Less is better for every metric: where more is
/// better, as with efficiency, the quotient is turned round.
fn cost(metric: &Metric, value: Spread, best: Spread) -> f64 {
    match metric.better {
        Better::Lower => value.median / best.median,
        Better::Higher => best.median / value.median,
    }
}

/// A cost as text, with a third decimal where the others would say 0.
fn cost_text(cost: f64) -> String {
    if 0.000_5 < cost && cost < 0.01 { format!("{cost:.3}") } else { number(cost) }
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
