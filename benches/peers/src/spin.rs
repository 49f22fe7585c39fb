//! Work of a known length: computing, not sleeping, and not looking at a clock, which would make
//! a task that was interrupted seem to do its work in the time that others took from it.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Calibrated once in a run.
#[derive(Clone, Copy)]
pub(crate) struct Spin {
    steps_per_micro: f64,
}

impl Spin {
    /// Times blocks of about a millisecond for a fifth of a second. The fastest counts: others
    /// were interrupted, or ran before the CPU had reached its speed.
    pub(crate) fn calibrate() -> Self {
        const STEPS: u64 = 500_000;
        let started = Instant::now();
        let mut fastest = Duration::MAX;
        while started.elapsed() < Duration::from_millis(200) {
            let start = Instant::now();
            run(STEPS);
            fastest = fastest.min(start.elapsed());
        }
        Self { steps_per_micro: STEPS as f64 / (fastest.as_secs_f64() * 1e6) }
    }

    /// How many steps take so long.
    pub(crate) fn steps(self, micros: u64) -> u64 {
        (self.steps_per_micro * micros as f64) as u64
    }
}

/// A chain in which each step needs the one before it, so the CPU can't overlap them.
pub(crate) fn run(steps: u64) -> u64 {
    let mut x = black_box(1_u64);
    for _ in 0..steps {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    black_box(x)
}
