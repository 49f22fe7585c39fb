//! The values of all rounds, one on a line.

use bench_common::text::csv_line;

use super::Report;
use crate::workloads::Kind;

pub(super) fn all_rounds(report: &Report) -> String {
    let mut csv = "workload,metric,unit,row,kind,count,round,value\n".to_owned();
    for table in &report.tables {
        let workload = &table.workload;
        for (contender, rounds) in workload.contenders.iter().zip(&table.values) {
            let kind = match contender.kind {
                Kind::Ours => "ours",
                Kind::Peer => "peer",
                Kind::Reference => "reference",
                Kind::Python => "python",
            };
            for (round, values) in rounds.iter().enumerate() {
                for (metric, value) in workload.metrics.iter().zip(values) {
                    let fields = [
                        workload.name,
                        metric.name,
                        metric.unit,
                        &contender.name,
                        kind,
                        &contender.count.to_string(),
                        &(round + 1).to_string(),
                        &value.to_string(),
                    ];
                    csv += &csv_line(fields);
                }
            }
        }
    }
    csv
}
