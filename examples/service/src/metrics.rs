//! The pool's counters as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::{self, Write};
use std::time::Duration;

use concurrent_futures::{Histogram, Metrics};

/// Upper ends of the histograms' buckets, in milliseconds.
const BOUNDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// All counters of a pool.
pub fn prometheus(metrics: &Metrics) -> String {
    let mut text = String::new();
    match write_all(&mut text, metrics) {
        Ok(()) => text,
        Err(fmt::Error) => unreachable!("a String takes any text"),
    }
}

fn write_all(text: &mut String, metrics: &Metrics) -> fmt::Result {
    head(text, "pool_workers", "gauge", "Workers that are alive.")?;
    writeln!(text, "pool_workers {}", metrics.workers)?;
    head(text, "pool_queued", "gauge", "Tasks that wait for a worker.")?;
    writeln!(text, "pool_queued {}", metrics.queued)?;
    head(text, "pool_running", "gauge", "Tasks that are on a worker.")?;
    writeln!(text, "pool_running {}", metrics.running)?;
    head(text, "pool_tasks_total", "counter", "Tasks that have ended.")?;
    let ended = [
        ("completed", metrics.completed),
        ("failed", metrics.failed),
        ("cancelled", metrics.cancelled),
    ];
    for (outcome, count) in ended {
        writeln!(text, "pool_tasks_total{{outcome=\"{outcome}\"}} {count}")?;
    }
    histogram(text, "pool_queue_seconds", "Time in the queue.", &metrics.queue_time)?;
    histogram(text, "pool_run_seconds", "Time on a worker.", &metrics.run_time)
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// The pool's buckets are finer than these; one that reaches over an end counts as above it.
fn histogram(text: &mut String, name: &str, help: &str, times: &Histogram) -> fmt::Result {
    head(text, name, "histogram", help)?;
    for bound in BOUNDS.map(Duration::from_millis) {
        let within = times.buckets().take_while(|(end, _)| *end <= bound);
        let count: u64 = within.map(|(_, count)| count).sum();
        writeln!(text, "{name}_bucket{{le=\"{}\"}} {count}", bound.as_secs_f64())?;
    }
    writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {}", times.count())?;
    writeln!(text, "{name}_sum {}", times.sum().as_secs_f64())?;
    writeln!(text, "{name}_count {}", times.count())
}
