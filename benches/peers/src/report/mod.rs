//! From the values of all rounds to what is read: a Markdown report, CSV, and charts.

mod chart;
mod csv;
mod markdown;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use bench_common::stats::Spread;

use crate::workloads::{Better, Contender, Kind, Workload};

/// A workload and what came of it.
pub(crate) struct Table {
    pub(crate) workload: Workload,
    /// By contender, round and metric.
    pub(crate) values: Vec<Vec<Vec<f64>>>,
}

impl Table {
    pub(crate) fn new(workload: Workload) -> Self {
        let values = workload.contenders.iter().map(|_| Vec::new()).collect();
        Self { workload, values }
    }

    fn spread(&self, row: usize, metric: usize) -> Option<Spread> {
        let values = self.values[row].iter().map(|values| values[metric]);
        Spread::of(values.filter(|value| !value.is_nan()).collect())
    }

    /// The rows that have values, best first.
    fn ranking(&self, metric: usize) -> Vec<(&Contender, Spread)> {
        let rows = self.workload.contenders.iter().enumerate();
        let spread = |(row, contender)| Some((contender, self.spread(row, metric)?));
        let mut ranking: Vec<_> = rows.filter_map(spread).collect();
        ranking.sort_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        if self.workload.metrics[metric].better == Better::Higher {
            ranking.reverse();
        }
        ranking
    }

    /// What the others are compared with.
    fn best_peer(&self, metric: usize) -> Option<(&Contender, Spread)> {
        if !self.workload.metrics[metric].compared {
            return None;
        }
        self.ranking(metric).into_iter().find(|(contender, _)| contender.kind == Kind::Peer)
    }

    fn skipped(&self) -> impl Iterator<Item = &Contender> {
        self.workload.contenders.iter().filter(|contender| contender.run.is_none())
    }
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
        let text = markdown::report(self);
        print!("{text}");
        fs::write(directory.join("results.md"), text)?;
        fs::write(directory.join("results.csv"), csv::all_rounds(self))?;
        for table in &self.tables {
            let file = directory.join(format!("{}.svg", table.workload.name));
            chart::workload(table, &file).map_err(io::Error::other)?;
        }
        chart::overview(self, &directory.join("overview.svg")).map_err(io::Error::other)
    }
}

/// What a row of ours is besides ours: ", Vec".
fn variant(ours: &Contender) -> &str {
    ours.name.strip_prefix("concurrent-futures").unwrap_or(&ours.name)
}
