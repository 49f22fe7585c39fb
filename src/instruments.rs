//! The series of a pool at the recorder of the `metrics` facade, with the feature of that name. Without
//! it, [`Instruments`] is zero-sized and its methods do nothing.
//!
//! A pool counts for [`Metrics`] alone. An export takes a snapshot and tells the recorder what has
//! changed since the last one, so a task costs nothing more. A recorder is user code: it is called under
//! no lock of the crate, and its panics end here.
//!
//! The names, units and meanings are in the guide, `docs/guide/observability.md`.

#![cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is exported"))]

#[cfg(feature = "metrics")]
pub use self::series::export_metrics;

use std::sync::Arc;

use crate::metrics::Metrics;

/// The series of one pool.
pub(crate) struct Instruments {
    #[cfg(feature = "metrics")]
    series: Option<Box<series::Series>>,
}

/// A pool that `export_metrics` reaches.
pub(crate) trait Measured: Send + Sync + 'static {
    /// Passes the pool's snapshot to [`Instruments::export`]. Called without the pool's lock.
    fn export(&self);
}

impl Instruments {
    /// Registers the series of the pool of this name at the current recorder.
    pub(crate) fn new(pool: &str) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            series: Some(Box::new(series::Series::new(pool))),
        }
    }

    /// Returns no series, for a pool that is a part of another executor.
    pub(crate) fn none() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            series: None,
        }
    }

    /// Has `export_metrics` reach the pool for as long as it exists.
    pub(crate) fn include(&self, pool: &Arc<impl Measured>) {
        #[cfg(feature = "metrics")]
        if self.series.is_some() {
            series::include(pool);
        }
    }

    /// Tells the recorder what has changed since the last export.
    pub(crate) fn export(&self, metrics: impl FnOnce() -> Metrics) {
        #[cfg(feature = "metrics")]
        if let Some(series) = &self.series {
            series.export(metrics);
        }
    }
}

#[cfg(feature = "metrics")]
mod series {
    use std::sync::{Arc, Weak};
    use std::time::Duration;
    use std::{array, mem};

    use metrics::{Counter, Gauge, Histogram, Unit};

    use super::Measured;
    use crate::fork::Own;
    use crate::metrics::{self as numbers, Metrics};
    use crate::panic::{Quiet, quietly};
    use crate::sync::Mutex;

    /// The pools that exist, and some that do not any more. A forked child has none of its parent's.
    static POOLS: Own<Mutex<Pools>> =
        Own::from_start(Mutex::new(Vec::new()), || Mutex::new(Vec::new()));

    type Pools = Vec<Weak<dyn Measured>>;

    const COUNTERS: [(&str, &str); 6] = [
        ("concurrent_futures_tasks_submitted_total", "Tasks that the pool has accepted."),
        ("concurrent_futures_tasks_completed_total", "Tasks that have returned a value."),
        (
            "concurrent_futures_tasks_failed_total",
            "Tasks that have started and ended without a value.",
        ),
        ("concurrent_futures_tasks_cancelled_total", "Accepted tasks that were withdrawn."),
        (
            "concurrent_futures_map_items_total",
            "Items of maps that a worker has computed a value of.",
        ),
        ("concurrent_futures_workers_lost_total", "Worker processes that have died with a task."),
    ];

    const GAUGES: [(&str, &str); 3] = [
        ("concurrent_futures_tasks_queued", "Tasks that wait for a worker."),
        ("concurrent_futures_tasks_running", "Tasks that are on a worker."),
        ("concurrent_futures_workers", "Workers that there are, spares included."),
    ];

    const TIMES: [(&str, &str); 2] = [
        ("concurrent_futures_queue_seconds", "Time from the submission of a task to its start."),
        (
            "concurrent_futures_run_seconds",
            "Time of a task on its worker; of an async one, of each poll.",
        ),
    ];

    /// Tells the recorder of the [`metrics`](https://docs.rs/metrics) facade what has changed in every
    /// pool since the last call. With the feature `metrics`.
    ///
    /// Call it whenever the recorder is about to be read: where an endpoint is scraped, or, if the
    /// exporter serves its endpoint itself, every few seconds. Between two calls the recorder sees
    /// nothing; at the end of a pool it is told the rest. A call costs some microseconds for each pool, and
    /// may come from any thread. Of two calls at the same time one tells of each change, and the other does
    /// not wait for that.
    ///
    /// A pool registers its series at the recorder that is current when the pool is built. They have the
    /// label `pool`; pools of the same name share them. The guide has the
    /// [list](crate::guide::observability#numbers).
    ///
    /// ```
    /// use concurrent_futures::{ThreadPoolExecutor, export_metrics};
    ///
    /// /// The handler of `GET /metrics`; `render` is that of the exporter.
    /// fn scrape(render: impl FnOnce() -> String) -> String {
    ///     export_metrics();
    ///     render()
    /// }
    ///
    /// let pool = ThreadPoolExecutor::builder().name("render").build()?;
    /// pool.submit(|| 6 * 7).result()?;
    /// # let handle = String::new;
    /// let text = scrape(|| handle());
    /// # assert!(text.is_empty());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn export_metrics() {
        let pools: Vec<Arc<dyn Measured>> = {
            let mut pools = POOLS.lock();
            pools.retain(|pool| pool.strong_count() > 0);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        pools.iter().for_each(|pool| pool.export());
    }

    pub(super) fn include(pool: &Arc<impl Measured>) {
        let pool: Weak<dyn Measured> = Arc::downgrade(pool) as _;
        let mut pools = POOLS.lock();
        if pools.len() == pools.capacity() {
            pools.retain(|pool| pool.strong_count() > 0);
        }
        pools.push(pool);
    }

    pub(super) struct Series {
        counters: [Quiet<Counter>; 6],
        gauges: [Quiet<Gauge>; 3],
        times: [Quiet<Histogram>; 2],
        exported: Own<Mutex<Exported>>,
    }

    /// The numbers that the recorder has been told, or is about to be. The order is that of the lists.
    struct Exported {
        counters: [u64; 6],
        gauges: [f64; 3],
        times: [numbers::Histogram; 2],
    }

    /// The differences that an export has to add.
    struct Changes {
        counters: [u64; 6],
        gauges: [f64; 3],
        times: [Vec<(Duration, u64)>; 2],
    }

    impl Exported {
        fn none() -> Mutex<Self> {
            let times = [numbers::Histogram::new(), numbers::Histogram::new()];
            Mutex::new(Self { counters: [0; 6], gauges: [0.0; 3], times })
        }

        /// Becomes `now`, a later snapshot.
        fn advance(&mut self, now: Metrics) -> Changes {
            let Metrics { submitted, completed, failed, cancelled, items, workers_lost, .. } = now;
            let counters = [submitted, completed, failed, cancelled, items, workers_lost];
            let before = mem::replace(&mut self.counters, counters);
            let counters = array::from_fn(|n| counters[n].saturating_sub(before[n]));
            let gauges = [now.queued, now.running, now.workers].map(|number| number as f64);
            let before = mem::replace(&mut self.gauges, gauges);
            let gauges = array::from_fn(|n| gauges[n] - before[n]);
            let [queue_time, run_time] = &mut self.times;
            let times = [queue_time.advance(now.queue_time), run_time.advance(now.run_time)];
            Changes { counters, gauges, times }
        }
    }

    macro_rules! register {
        ($kind:ident, $describe:ident, $pool:ident, $unit:ident, $list:ident) => {
            $list.map(|(name, text)| {
                metrics::$describe!(name, Unit::$unit, text);
                Quiet::new(metrics::$kind!(name, "pool" => $pool.to_owned()))
            })
        };
    }

    impl Series {
        pub(super) fn new(pool: &str) -> Self {
            Self {
                counters: register!(counter, describe_counter, pool, Count, COUNTERS),
                gauges: register!(gauge, describe_gauge, pool, Count, GAUGES),
                times: register!(histogram, describe_histogram, pool, Seconds, TIMES),
                exported: Own::new(Exported::none(), Exported::none),
            }
        }

        pub(super) fn export(&self, metrics: impl FnOnce() -> Metrics) {
            if !self.exported.is_home() {
                return; // What a forked child's copy of the pool has counted, its parent exports.
            }
            // The snapshot is taken under the lock, so that no export goes back behind another one.
            let Changes { counters, gauges, times } = {
                let mut exported = self.exported.lock();
                exported.advance(metrics())
            };
            // All of it is added, so exports may overtake each other, and pools may share a series.
            for (counter, more) in self.counters.iter().zip(counters).filter(|(_, more)| *more > 0)
            {
                quietly(|| counter.increment(more));
            }
            for (gauge, change) in self.gauges.iter().zip(gauges).filter(|(_, n)| *n != 0.0) {
                quietly(|| gauge.increment(change));
            }
            for (histogram, times) in self.times.iter().zip(times) {
                for (time, count) in times {
                    quietly(|| histogram.record_many(time, count as usize));
                }
            }
        }
    }
}
