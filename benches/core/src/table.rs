//! The table that is printed.

use crate::callgrind::Count;

/// The runs have the same operations, in the same order.
pub(crate) fn of(runs: &[Vec<Count>]) -> String {
    let spread = format!("spread over {} runs", runs.len());
    let mut table = row("operation", "instructions per operation", &spread);
    table += &row(&"-".repeat(24), &format!("{:->26}", ":"), &format!("{:->18}", ":"));
    for (place, Count { operation, .. }) in runs[0].iter().enumerate() {
        let mut counts: Vec<f64> = runs.iter().map(|run| run[place].instructions).collect();
        counts.sort_by(f64::total_cmp);
        let (least, median, most) = (counts[0], counts[counts.len() / 2], counts[counts.len() - 1]);
        let spread = (most - least) / median * 100.0;
        table += &row(operation, &format!("{median:.1}"), &format!("{spread:.2} %"));
    }
    table
}

fn row(operation: &str, instructions: &str, spread: &str) -> String {
    format!("| {operation:24} | {instructions:>26} | {spread:>18} |\n")
}
