//! The few statistics that the tables need.

use std::time::Duration;

/// Of the rounds of one contender.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` if there is nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        Some(Self { median: middle(&values), min, max })
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// Of at least one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    middle(&values)
}

/// The time that a share `of` of all does not exceed.
pub fn percentile(times: &mut [Duration], of: f64) -> Duration {
    times.sort_unstable();
    let rank = (times.len() as f64 * of).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

/// In ms.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// In µs.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Nanoseconds, shared out.
pub fn nanos_per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}
