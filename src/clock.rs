//! The time for metrics: read for every task, so it has to be cheap.
//!
//! It is counted in *ticks*. Where Linux itself keeps time by the counter of an x86-64 processor,
//! which it does only if the counter has a constant rate and is the same on all CPUs, a tick is a
//! tick of that. Everywhere else, and under Miri, which has no such counter, it is a nanosecond of
//! the standard library's clock. To read the counter takes less than half of the time.
//!
//! # A counter that starts again
//!
//! After a suspend, or when a program was moved to another machine with its memory, the counter may
//! be another one. So it is believed only within a window that begins at a recent reading
//! ([`RECENT`]). A later reading, the first one after some milliseconds, moves the window on. An
//! earlier one shows that the counter has gone back: from then on the whole process counts ticks
//! by the standard library's clock ([`KERNEL`]), at the counter's rate and from where the counter
//! should have been, so that what was read before keeps its meaning. The rate is measured once.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::{Duration, Instant};

use crate::fork::FirstMade;

/// A recent reading of the counter. [`NOT_YET`] before the first one, and [`NEVER`] where the counter
/// is no clock, or is none any more.
static RECENT: AtomicU64 = AtomicU64::new(NOT_YET);
const NEVER: u64 = u64::MAX;
const NOT_YET: u64 = NEVER - 1;

/// Ticks after a recent reading in which the counter is believed without a look: some milliseconds.
const WINDOW: u64 = 1 << 24;

/// Ticks by which a reading may be behind that of another thread, and more than that: a processor
/// executes some instructions ahead.
const SLACK: u64 = 1 << 16;

/// Where the standard library's clock has taken over; set before `RECENT` is `NEVER`.
static KERNEL: FirstMade<Point> = FirstMade::new();

/// The shortest time in which the rate is measured.
const MEASURE: Duration = Duration::from_millis(1);

/// A moment by both clocks.
#[derive(Clone, Copy)]
struct Point {
    at: Instant,
    ticks: u64,
}

impl Point {
    /// Reads both clocks, some 20 nanoseconds apart. The best of a few attempts, since a thread may
    /// be held up between the two.
    fn read() -> Self {
        let attempt = || {
            let point = Self { at: Instant::now(), ticks: counter() };
            (point.at.elapsed(), point)
        };
        let best = (0..3)
            .map(|_| attempt())
            .fold(attempt(), |best, other| if other.0 < best.0 { other } else { best });
        best.1
    }

    /// The ticks of now, by the standard library's clock.
    fn prolonged(self) -> u64 {
        self.ticks.saturating_add(ticks(self.at.elapsed()))
    }
}

/// Ticks since some moment. Readings of two threads may be off by a few against each other, so a
/// difference is to be taken with [`u64::saturating_sub`].
#[inline]
pub(crate) fn now() -> u64 {
    let recent = RECENT.load(Relaxed);
    if recent < NOT_YET {
        let count = counter();
        // A count before `recent` wraps to a large difference, so one comparison checks both ends.
        if count.wrapping_sub(recent) < WINDOW {
            return count;
        }
    }
    now_outside_window()
}

#[cold]
fn now_outside_window() -> u64 {
    let start = start();
    // Read before the counter, so that only a counter that has gone back is behind it by more than
    // `SLACK`. Acquire: with `NEVER`, `KERNEL` is seen as well.
    let recent = RECENT.load(Acquire);
    if let Some(kernel) = KERNEL.get() {
        if recent != NEVER {
            // A process that forked meanwhile may have left this to its child.
            RECENT.store(NEVER, Release);
        }
        return kernel.prolonged();
    }
    let count = counter();
    if count.saturating_add(SLACK) < recent {
        // Not before `recent`, so that the time that was read does not go back with the counter.
        return leave_counter(start.prolonged().max(recent)).prolonged();
    }
    if count.saturating_sub(recent) >= WINDOW {
        nanos_per_tick(); // Measured as early as possible.
        RECENT.fetch_max(count, Relaxed); // `NEVER` is the largest, and stays.
    }
    count
}

/// Has the standard library's clock take over at this moment, which is `ticks`.
fn leave_counter(ticks: u64) -> &'static Point {
    let kernel = KERNEL.get_or_make(|| Point { at: Instant::now(), ticks });
    // After `KERNEL`: a thread that finds `NEVER` takes the time from there.
    RECENT.store(NEVER, Release);
    kernel
}

/// The length of so many ticks.
pub(crate) fn duration(ticks: u64) -> Duration {
    Duration::from_nanos((ticks as f64 * nanos_per_tick()) as u64)
}

/// The ticks of a duration.
pub(crate) fn ticks(duration: Duration) -> u64 {
    // 64 bits of nanoseconds are 584 years.
    (duration.as_nanos() as u64 as f64 / nanos_per_tick()) as u64
}

/// The rate, measured once: by the first thread that needs it, or that reads the clock some
/// milliseconds after the start. If two measure it at the same time, the first result counts.
fn nanos_per_tick() -> f64 {
    static RATE: FirstMade<f64> = FirstMade::new();
    *RATE.get_or_make(|| {
        let start = start();
        if KERNEL.get().is_some() {
            return 1.0;
        }
        // A counter that has started again since the start hardly does so a second time within the
        // next millisecond. If it does, nothing is known of its ticks.
        rate_since(*start).or_else(|| rate_since(Point::read())).unwrap_or_else(|| {
            leave_counter(start.ticks);
            1.0
        })
    })
}

/// The nanoseconds of a tick since `first`; waits until that is [`MEASURE`] ago. `None` if the
/// counter went back or is not of this world, or if time stands still.
fn rate_since(first: Point) -> Option<f64> {
    let passed = |last: &Point| last.at.saturating_duration_since(first.at);
    let last = (0..100_000).map(|_| Point::read()).find(|last| passed(last) >= MEASURE)?;
    let ticks = last.ticks.checked_sub(first.ticks)?;
    let rate = passed(&last).as_nanos() as f64 / ticks as f64;
    (0.05..100.0).contains(&rate).then_some(rate)
}

/// The first reading of the clock.
fn start() -> &'static Point {
    static START: FirstMade<Point> = FirstMade::new();
    START.get_or_make(|| {
        if !has_counter() {
            return *leave_counter(0);
        }
        let start = Point::read();
        // From here on `now` reads the counter, without a look at this cell. If another thread has
        // begun as well, either reading will do; but none replaces a later one, or `NEVER`.
        let _ = RECENT.compare_exchange(NOT_YET, start.ticks, Relaxed, Relaxed);
        start
    })
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn has_counter() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    std::fs::read_to_string(source).is_ok_and(|source| source.trim() == "tsc")
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#[inline]
#[allow(unsafe_code)]
fn counter() -> u64 {
    // SAFETY: it reads a register that every x86-64 processor has; Linux, which keeps time by it
    // in user space, has not forbidden that.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
fn has_counter() -> bool {
    false
}

/// Never called, since there is none.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
fn counter() -> u64 {
    0
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

    #[test]
    fn a_duration_has_its_ticks_also_where_they_are_too_many() {
        for millis in [0, 1, 1_000, 86_400_000] {
            let length = Duration::from_millis(millis);
            assert!(
                duration(ticks(length)).abs_diff(length) <= length / 1_000_000 + MEASURE / 1_000
            );
        }
        assert_eq!(duration(0), Duration::ZERO);
        assert!(duration(u64::MAX) <= Duration::from_nanos(u64::MAX));
        assert!(ticks(Duration::MAX) > 0);
    }
}
