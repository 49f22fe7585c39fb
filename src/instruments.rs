//! What an executor tells the `metrics` facade, with the feature of that name. Without it, all of
//! this is of size zero and does nothing.
//!
//! The instruments are registered when the pool is made, so a task looks nothing up. A recorder is
//! somebody else's code, so its panics end here, and nothing is told under a lock: what happens under
//! the lock of a process pool goes into a [`Ledger`] first.
//!
//! The names, units and meanings are in the guide, `docs/guide/observability.md`.

#[cfg(feature = "metrics")]
pub(crate) use self::kept::Instruments;
#[cfg(all(feature = "metrics", feature = "process"))]
pub(crate) use self::kept::Ledger;
#[cfg(not(feature = "metrics"))]
pub(crate) use self::unkept::Instruments;
#[cfg(all(not(feature = "metrics"), feature = "process"))]
pub(crate) use self::unkept::Ledger;

#[cfg(feature = "metrics")]
mod kept {
    use metrics::{Counter, Gauge, Histogram, Unit};

    use crate::clock;
    use crate::panic::{Quiet, quietly};

    #[derive(Clone)]
    pub(crate) struct Instruments {
        submitted: Quiet<Counter>,
        completed: Quiet<Counter>,
        failed: Quiet<Counter>,
        cancelled: Quiet<Counter>,
        /// There in any case, so that what is registered does not depend on other features.
        #[cfg_attr(not(feature = "process"), allow(dead_code, reason = "threads are not lost"))]
        workers_lost: Quiet<Counter>,
        queued: Quiet<Gauge>,
        running: Quiet<Gauge>,
        workers: Quiet<Gauge>,
        queue_time: Quiet<Histogram>,
        run_time: Quiet<Histogram>,
    }

    macro_rules! register {
        ($kind:ident, $describe:ident, $pool:ident, $name:literal, $unit:ident, $text:literal) => {{
            metrics::$describe!($name, Unit::$unit, $text);
            Quiet::new(metrics::$kind!($name, "pool" => $pool.to_owned()))
        }};
    }

    impl Instruments {
        /// Those of the pool of this name, at the current recorder.
        pub(crate) fn new(pool: &str) -> Self {
            Self {
                submitted: register!(
                    counter,
                    describe_counter,
                    pool,
                    "concurrent_futures_tasks_submitted_total",
                    Count,
                    "Tasks that the pool has accepted."
                ),
                completed: register!(
                    counter,
                    describe_counter,
                    pool,
                    "concurrent_futures_tasks_completed_total",
                    Count,
                    "Tasks that have returned a value."
                ),
                failed: register!(
                    counter,
                    describe_counter,
                    pool,
                    "concurrent_futures_tasks_failed_total",
                    Count,
                    "Tasks that have started and ended without a value."
                ),
                cancelled: register!(
                    counter,
                    describe_counter,
                    pool,
                    "concurrent_futures_tasks_cancelled_total",
                    Count,
                    "Accepted tasks that were withdrawn."
                ),
                workers_lost: register!(
                    counter,
                    describe_counter,
                    pool,
                    "concurrent_futures_workers_lost_total",
                    Count,
                    "Worker processes that have died with a task."
                ),
                queued: register!(
                    gauge,
                    describe_gauge,
                    pool,
                    "concurrent_futures_tasks_queued",
                    Count,
                    "Accepted tasks that have not started."
                ),
                running: register!(
                    gauge,
                    describe_gauge,
                    pool,
                    "concurrent_futures_tasks_running",
                    Count,
                    "Tasks that are on a worker."
                ),
                workers: register!(
                    gauge,
                    describe_gauge,
                    pool,
                    "concurrent_futures_workers",
                    Count,
                    "Workers that there are, spares included."
                ),
                queue_time: register!(
                    histogram,
                    describe_histogram,
                    pool,
                    "concurrent_futures_queue_seconds",
                    Seconds,
                    "Time from the submission of a task to its start."
                ),
                run_time: register!(
                    histogram,
                    describe_histogram,
                    pool,
                    "concurrent_futures_run_seconds",
                    Seconds,
                    "Time of a task on its worker; of an async one, of each poll."
                ),
            }
        }

        /// For a pool that is a part of another executor.
        #[cfg(feature = "process")]
        pub(crate) fn none() -> Self {
            Self {
                submitted: Quiet::new(Counter::noop()),
                completed: Quiet::new(Counter::noop()),
                failed: Quiet::new(Counter::noop()),
                cancelled: Quiet::new(Counter::noop()),
                workers_lost: Quiet::new(Counter::noop()),
                queued: Quiet::new(Gauge::noop()),
                running: Quiet::new(Gauge::noop()),
                workers: Quiet::new(Gauge::noop()),
                queue_time: Quiet::new(Histogram::noop()),
                run_time: Quiet::new(Histogram::noop()),
            }
        }

        /// A task is about to be handed in.
        pub(crate) fn enters(&self) {
            quietly(|| self.queued.increment(1.0));
        }

        /// It was accepted.
        pub(crate) fn accepted(&self) {
            quietly(|| self.submitted.increment(1));
        }

        /// A task that had not started is not in the queue any more.
        pub(crate) fn leaves(&self) {
            quietly(|| self.queued.decrement(1.0));
        }

        /// A task is on a worker; for the first time, if it is told how many ticks it has waited.
        pub(crate) fn started(&self, waited: Option<u64>) {
            quietly(|| self.running.increment(1.0));
            if let Some(waited) = waited {
                self.leaves();
                quietly(|| self.queue_time.record(clock::duration(waited)));
            }
        }

        /// It was there for so many ticks.
        pub(crate) fn stopped(&self, ticks: u64) {
            quietly(|| self.running.decrement(1.0));
            quietly(|| self.run_time.record(clock::duration(ticks)));
        }

        pub(crate) fn completed(&self) {
            quietly(|| self.completed.increment(1));
        }

        pub(crate) fn failed(&self) {
            quietly(|| self.failed.increment(1));
        }

        pub(crate) fn cancelled(&self) {
            quietly(|| self.cancelled.increment(1));
        }

        pub(crate) fn worker_begins(&self) {
            quietly(|| self.workers.increment(1.0));
        }

        pub(crate) fn worker_ends(&self) {
            quietly(|| self.workers.decrement(1.0));
        }

        /// Tells what has happened under a lock, which is released now.
        #[cfg(feature = "process")]
        pub(crate) fn book(&self, ledger: Ledger) {
            quietly(|| self.submitted.increment(ledger.submitted));
            quietly(|| self.cancelled.increment(ledger.cancelled));
            quietly(|| self.workers_lost.increment(ledger.workers_lost));
            let gauges = [&self.queued, &self.running, &self.workers];
            for (gauge, change) in gauges.into_iter().zip(ledger.changes) {
                // By how much, and not how many: so it does not matter which of two threads that
                // have something to tell comes first.
                quietly(|| gauge.increment(change as f64));
            }
            for ticks in ledger.queue_times {
                quietly(|| self.queue_time.record(clock::duration(ticks)));
            }
            for ticks in ledger.run_times {
                quietly(|| self.run_time.record(clock::duration(ticks)));
            }
        }
    }

    /// What has happened under a lock and is to be told.
    #[cfg(feature = "process")]
    #[derive(Default)]
    pub(crate) struct Ledger {
        submitted: u64,
        cancelled: u64,
        workers_lost: u64,
        /// Queued, running, workers: what was told, and by how much they have changed since.
        told: [usize; 3],
        changes: [i64; 3],
        queue_times: Vec<u64>,
        run_times: Vec<u64>,
    }

    #[cfg(feature = "process")]
    impl Ledger {
        /// Whether it is worth while to count.
        pub(crate) const IS_KEPT: bool = true;

        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn accepted(&mut self) {
            self.submitted += 1;
        }

        pub(crate) fn cancelled(&mut self) {
            self.cancelled += 1;
        }

        pub(crate) fn worker_lost(&mut self) {
            self.workers_lost += 1;
        }

        pub(crate) fn started(&mut self, waited: u64) {
            self.queue_times.push(waited);
        }

        pub(crate) fn ran(&mut self, ticks: u64) {
            self.run_times.push(ticks);
        }

        /// So many tasks are queued and running, on so many workers. What is to be told by now.
        pub(crate) fn take(&mut self, counts: [usize; 3]) -> Self {
            let changes = std::array::from_fn(|n| counts[n] as i64 - self.told[n] as i64);
            let rest = Self { told: counts, ..Self::default() };
            Self { changes, ..std::mem::replace(self, rest) }
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod unkept {
    #[derive(Clone)]
    pub(crate) struct Instruments;

    impl Instruments {
        pub(crate) fn new(_pool: &str) -> Self {
            Self
        }

        #[cfg(any(feature = "process", loom))]
        pub(crate) fn none() -> Self {
            Self
        }

        pub(crate) fn enters(&self) {}

        pub(crate) fn accepted(&self) {}

        pub(crate) fn leaves(&self) {}

        pub(crate) fn started(&self, _waited: Option<u64>) {}

        pub(crate) fn stopped(&self, _ticks: u64) {}

        pub(crate) fn completed(&self) {}

        pub(crate) fn failed(&self) {}

        pub(crate) fn cancelled(&self) {}

        pub(crate) fn worker_begins(&self) {}

        pub(crate) fn worker_ends(&self) {}

        #[cfg(feature = "process")]
        pub(crate) fn book(&self, _ledger: Ledger) {}
    }

    #[cfg(feature = "process")]
    pub(crate) struct Ledger;

    #[cfg(feature = "process")]
    impl Ledger {
        pub(crate) const IS_KEPT: bool = false;

        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn accepted(&mut self) {}

        pub(crate) fn cancelled(&mut self) {}

        pub(crate) fn worker_lost(&mut self) {}

        pub(crate) fn started(&mut self, _waited: u64) {}

        pub(crate) fn ran(&mut self, _ticks: u64) {}

        pub(crate) fn take(&mut self, _counts: [usize; 3]) -> Self {
            Self
        }
    }
}
