//! The values of all rounds, one on a line.

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
                    csv += &fields.map(field).join(",");
                    csv.push('\n');
                }
            }
        }
    }
    csv
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
