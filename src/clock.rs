//! The time for metrics: read for every task, so it has to be cheap.
//!
//! It is counted in *ticks*. Where Linux itself keeps time by the counter of an x86-64 processor,
//! which it does only if the counter has a constant rate and is the same on all CPUs, a tick is a
//! tick of that. Everywhere else, and under Miri, which has no such counter, it is a nanosecond of
//! the standard library's clock. To read the counter takes less than half of the time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Ticks since some moment. Readings of two threads may be off by a few against each other.
#[inline]
pub(crate) fn now() -> u64 {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    if start().counter.is_some() {
        return counter();
    }
    nanos(start().at.elapsed())
}

/// How long so many ticks are.
pub(crate) fn duration(ticks: u64) -> Duration {
    Duration::from_nanos((ticks as f64 * nanos_per_tick()) as u64)
}

/// From the time since the clock was first read, so it becomes more exact with that.
pub(crate) fn nanos_per_tick() -> f64 {
    let start = start();
    let Some(first) = start.counter else { return 1.0 };
    loop {
        let (ticks, passed) = (now().saturating_sub(first), start.at.elapsed());
        // The two readings are some 50 ns apart.
        if passed > Duration::from_micros(100) && ticks > 0 {
            return passed.as_nanos() as f64 / ticks as f64;
        }
        std::hint::spin_loop();
    }
}

struct Start {
    at: Instant,
    /// The counter at that moment, where it is good for a clock.
    counter: Option<u64>,
}

#[inline]
fn start() -> &'static Start {
    static START: OnceLock<Start> = OnceLock::new();
    START.get_or_init(|| Start { at: Instant::now(), counter: first_count() })
}

fn nanos(duration: Duration) -> u64 {
    // 64 bits of nanoseconds are 584 years.
    duration.as_nanos() as u64
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn first_count() -> Option<u64> {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(source).ok()?;
    (source.trim() == "tsc").then(counter)
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
fn first_count() -> Option<u64> {
    None
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#[allow(unsafe_code)]
fn counter() -> u64 {
    // SAFETY: it reads a register that every x86-64 processor has; Linux, which keeps time by it
    // in user space, has not forbidden that.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long this thread is held up between two readings.
    #[test]
    fn it_goes_as_the_clock_of_the_standard_library() {
        let outer = Instant::now();
        let ticks = now();
        let inner = Instant::now();
        while inner.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let inner = inner.elapsed();
        let measured = duration(now() - ticks);
        let outer = outer.elapsed();
        assert!(measured.mul_f64(1.05) >= inner, "{measured:?} for at least {inner:?}");
        assert!(measured.mul_f64(0.95) <= outer, "{measured:?} for at most {outer:?}");
    }
}
