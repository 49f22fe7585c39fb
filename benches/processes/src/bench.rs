//! What the measurements stand on.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

use bench_common::stats;

/// Runs the measured future on a tokio runtime that has as many workers as there are CPUs to use,
/// as `#[tokio::main]` has, with its drivers on.
pub(crate) fn on_runtime<F>(measured: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let measured = runtime.spawn(measured);
    runtime.block_on(measured).expect("the measured future does not panic")
}

/// Lets what was dropped come to its end, so that the next time has no part of it.
pub(crate) fn settle() {
    thread::sleep(Duration::from_millis(5));
}

pub(crate) fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = action();
    (value, start.elapsed())
}

pub(crate) fn median_millis(times: &[Duration]) -> f64 {
    stats::median(times.iter().copied().map(stats::millis).collect())
}
