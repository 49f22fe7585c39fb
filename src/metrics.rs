//! The numbers of an executor. They cost one clock reading per submission and two per run, and
//! counters that only their own worker writes, or that are under a lock which is held anyway.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;

/// Four buckets for every power of two: a bucket's width is at most a quarter of its lower end. The
/// last one, for 2^64 - 1 ticks, has the number (63 - 1) * 4 + 3.
const BUCKETS: usize = 252;

/// A snapshot of an executor's counters, taken with `metrics()`.
///
/// The counters are read one after the other while the pool goes on, so sums may be off by what
/// happened meanwhile. What has happened before a task's future became ready is counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Threads of the pool that are alive, spares for waiting workers included.
    pub workers: usize,
    /// Workers that have no task.
    pub idle: usize,
    /// Tasks, and jobs of maps, that wait in the queue for a worker.
    pub queued: usize,
    /// Tasks, and jobs of maps, that are on a worker now, those that wait for another task included.
    pub running: usize,
    /// Tasks that were accepted. A map is none: its items are counted as [`items`](Self::items), and how many
    /// jobs compute them is the executor's affair.
    pub submitted: u64,
    /// Tasks that ran to their end and returned a value.
    pub completed: u64,
    /// Tasks that started and ended without a value: they panicked or ran into their time limit.
    pub failed: u64,
    /// Accepted tasks that were withdrawn, for whatever reason: cancelled, dropped, out of time
    /// before they started, or ended by a shutdown or by the pool breaking.
    pub cancelled: u64,
    /// Items of maps that a worker has computed a value of, taken by the consumer or not.
    pub items: u64,
    /// Worker processes that died with a task, killed ones included. Always 0 for threads.
    pub workers_lost: u64,
    /// Time from submission to start, of every started task and job of a map.
    pub queue_time: Histogram,
    /// Time on the worker: of every task and job of a map; for `submit_future`, of every poll.
    pub run_time: Histogram,
}

/// A distribution of durations, with a relative error of at most one quarter.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new();
/// pool.submit(|| 6 * 7).result()?;
/// let run_time = pool.metrics().run_time;
/// assert_eq!(run_time.count(), 1);
/// assert!(run_time.quantile(0.5).is_some());
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone)]
pub struct Histogram {
    /// By the number of ticks; see [`clock`].
    counts: Vec<u64>,
    ticks: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], ticks: 0 }
    }

    /// Number of durations that were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum. Each is exact to a few nanoseconds; times in the queue, which each task carries
    /// along in a few bits, to some hundred, and modulo some hours.
    pub fn sum(&self) -> Duration {
        clock::duration(self.ticks)
    }

    /// Their mean; `None` if there are none.
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum().as_nanos().checked_div(u128::from(self.count()))?;
        Some(Duration::from_nanos(nanos as u64))
    }

    /// An upper bound for the duration that a share `q` of all does not exceed; `None` if there
    /// are none. `q` is clamped to 0.0 ..= 1.0. O(1): the number of buckets is fixed.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets().find_map(|(bound, count)| {
            seen += count;
            (seen >= rank).then_some(bound)
        })
    }

    /// The buckets that are not empty, by size: upper bound (inclusive) and count.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let counts = self.counts.iter().enumerate();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (clock::duration(upper_bound(index)), *count))
    }

    /// Becomes `now`, a later snapshot, and returns what came between: a duration and a count for each
    /// bucket. All durations lie at the same relative height of their buckets, chosen such that their
    /// sum is exact. A sum that no height fits, since a count and its ticks are not recorded in one
    /// step, is made up for by the next call.
    #[cfg(feature = "metrics")]
    pub(crate) fn advance(&mut self, now: Self) -> Vec<(Duration, u64)> {
        let counts = now.counts.iter().zip(&self.counts);
        let counts = counts.map(|(now, before)| now.saturating_sub(*before));
        let new: Vec<_> = counts.enumerate().filter(|(_, count)| *count > 0).collect();
        let sum = |bound: fn(usize) -> u64| -> f64 {
            new.iter().map(|(bucket, count)| bound(*bucket) as f64 * *count as f64).sum()
        };
        let (least, most) = (sum(lower_bound), sum(upper_bound));
        let ticks = now.ticks.saturating_sub(self.ticks) as f64;
        let height = if most > least { (ticks - least) / (most - least) } else { 0.0 };
        let height = height.clamp(0.0, 1.0);
        let advance = |(bucket, count): (usize, u64)| {
            let (lower, upper) = (lower_bound(bucket), upper_bound(bucket));
            let ticks = lower + (height * (upper - lower) as f64) as u64;
            self.ticks = self.ticks.saturating_add(ticks.saturating_mul(count));
            (clock::duration(ticks), count)
        };
        let new = new.into_iter().map(advance).collect();
        self.counts = now.counts;
        new
    }

    fn add(&mut self, recorder: &Recorder) {
        for (total, count) in self.counts.iter_mut().zip(&recorder.counts) {
            *total += count.load(Relaxed);
        }
        self.ticks = self.ticks.saturating_add(recorder.ticks.load(Relaxed));
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}

fn bucket(ticks: u64) -> usize {
    match ticks.checked_ilog2() {
        None | Some(0 | 1) => ticks as usize,
        Some(exponent) => {
            let quarter = (ticks >> (exponent - 2)) & 3;
            (exponent as usize - 1) * 4 + quarter as usize
        }
    }
}

#[cfg(any(feature = "metrics", test))]
fn lower_bound(bucket: usize) -> u64 {
    bucket.checked_sub(1).map_or(0, |below| upper_bound(below) + 1)
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (shift, quarter) = (bucket / 4 - 1, bucket as u64 % 4);
    // The start of the next bucket; for the last bucket that is 2^64.
    let next = u128::from(5 + quarter) << shift;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

/// Adds without a locked instruction; right only where one thread writes.
fn add_alone(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).saturating_add(n), Relaxed);
}

struct Recorder {
    counts: [AtomicU64; BUCKETS],
    ticks: AtomicU64,
}

impl Recorder {
    fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], ticks: AtomicU64::new(0) }
    }

    fn record(&self, ticks: u64) {
        // Two steps, so a reader may see one without the other; `advance` makes up for that.
        add_alone(&self.counts[bucket(ticks)], 1);
        add_alone(&self.ticks, ticks);
    }
}

/// The counts of one worker. Written by that worker alone, read by anyone.
pub(crate) struct WorkerMetrics {
    completed: AtomicU64,
    failed: AtomicU64,
    queue_time: Recorder,
    run_time: Recorder,
}

impl WorkerMetrics {
    pub(crate) fn new() -> Self {
        Self {
            completed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            queue_time: Recorder::new(),
            run_time: Recorder::new(),
        }
    }

    /// A task has started, which had waited for so many ticks.
    pub(crate) fn started(&self, waited: u64) {
        self.queue_time.record(waited);
    }

    /// A task was on the worker for so many ticks.
    pub(crate) fn ran(&self, ticks: u64) {
        self.run_time.record(ticks);
    }

    pub(crate) fn completed(&self) {
        add_alone(&self.completed, 1);
    }

    pub(crate) fn failed(&self) {
        add_alone(&self.failed, 1);
    }
}

/// Sums over workers: those that have ended are added here, the living ones for each snapshot.
#[derive(Clone)]
pub(crate) struct Totals {
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) queue_time: Histogram,
    pub(crate) run_time: Histogram,
}

impl Metrics {
    /// The counters of an executor that counts nothing.
    pub(crate) fn none() -> Self {
        let (queue_time, run_time) = Totals::new().times();
        Self {
            workers: 0,
            idle: 0,
            queued: 0,
            running: 0,
            submitted: 0,
            completed: 0,
            failed: 0,
            cancelled: 0,
            items: 0,
            workers_lost: 0,
            queue_time,
            run_time,
        }
    }
}

impl Totals {
    pub(crate) fn new() -> Self {
        Self { completed: 0, failed: 0, queue_time: Histogram::new(), run_time: Histogram::new() }
    }

    /// Times in the queue and on a worker.
    pub(crate) fn times(self) -> (Histogram, Histogram) {
        (self.queue_time, self.run_time)
    }

    pub(crate) fn add(&mut self, worker: &WorkerMetrics) {
        self.completed += worker.completed.load(Relaxed);
        self.failed += worker.failed.load(Relaxed);
        self.queue_time.add(&worker.queue_time);
        self.run_time.add(&worker.run_time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_duration_in_order() {
        let mut last = None;
        for exponent in 0..64 {
            for offset in [0u64, 1, 3] {
                let nanos = (1u64 << exponent).saturating_add(offset << exponent.max(2) >> 2);
                let index = bucket(nanos);
                assert!(index < BUCKETS);
                assert!(nanos <= upper_bound(index), "{nanos} in {index}");
                assert!(nanos >= lower_bound(index), "{nanos} in {index}");
                last = last.max(Some(index));
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_bound(BUCKETS - 1), u64::MAX);
        assert!(last.is_some());
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let recorder = Recorder::new();
        for millis in 1..=100 {
            recorder.record(clock::ticks(Duration::from_millis(millis)));
        }
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.add(&recorder);
        assert_eq!(histogram.count(), 100);
        assert!(histogram.sum().abs_diff(Duration::from_millis(5050)) < Duration::from_millis(50));
        let p50 = histogram.quantile(0.5).map(|d| d.as_millis());
        assert!((50..=63).contains(&p50.unwrap_or(0)), "{p50:?}");
        assert!(histogram.quantile(1.0) >= Some(Duration::from_millis(99)));
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn an_advance_has_the_buckets_and_the_sum_of_what_came_between() {
        let recorder = Recorder::new();
        let snapshot = || {
            let mut histogram = Histogram::new();
            histogram.add(&recorder);
            histogram
        };
        recorder.record(5);
        let mut exported = Histogram::new();
        assert_eq!(exported.advance(snapshot()), [(clock::duration(5), 1)]);
        assert_eq!(exported.advance(snapshot()), []);
        let millis = |n| clock::ticks(Duration::from_millis(n));
        let new: Vec<u64> = [1, 1, 2, 40].map(millis).into_iter().chain([0, 3]).collect();
        new.iter().for_each(|ticks| recorder.record(*ticks));
        let told = exported.advance(snapshot());
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), 6);
        let sum = told.iter().map(|(time, count)| *time * *count as u32).sum::<Duration>();
        let exact = clock::duration(new.iter().sum());
        assert!(sum.abs_diff(exact) < Duration::from_nanos(100), "{sum:?} is not {exact:?}");
        for ((time, _), ticks) in told.iter().zip([0, 3, millis(1), millis(2), millis(40)]) {
            let ends =
                [lower_bound, upper_bound].map(|bound| clock::duration(bound(bucket(ticks))));
            assert!((ends[0]..=ends[1]).contains(time), "{time:?} is not in {ends:?}");
        }
        assert_eq!(exported.counts, snapshot().counts);
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn a_sum_that_no_bucket_allows_is_made_up_for() {
        let told =
            |bound: fn(usize) -> u64, count| [(clock::duration(bound(bucket(1_000))), count)];
        let (mut exported, mut now) = (Histogram::new(), Histogram::new());
        now.counts[bucket(1_000)] = 2; // and no ticks yet
        assert_eq!(exported.advance(now.clone()), told(lower_bound, 2));
        now.counts[bucket(1_000)] = 4;
        now.ticks = 3_800;
        let ticks = 3_800 - 2 * lower_bound(bucket(1_000));
        assert_eq!(exported.advance(now.clone()), [(clock::duration(ticks / 2), 2)]);
        now.counts[bucket(1_000)] = 5;
        now.ticks = u64::MAX;
        assert_eq!(exported.advance(now), told(upper_bound, 1));
    }
}
