//! What no subscriber listens to is not formatted, in the worker either. A program of its own, since
//! the subscriber, and to what level it listens, is that of the process.

#![cfg(target_os = "linux")]

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use concurrent_futures::{ProcessPoolExecutor, call};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, debug, info, warn};

static LEVEL: AtomicUsize = AtomicUsize::new(0);
const LEVELS: [LevelFilter; 3] = [LevelFilter::OFF, LevelFilter::WARN, LevelFilter::INFO];
static HEARD: AtomicUsize = AtomicUsize::new(0);

struct Counts;

impl Subscriber for Counts {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= LEVELS[LEVEL.load(Relaxed)]
    }
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LEVELS[LEVEL.load(Relaxed)])
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        HEARD.fetch_add(1, Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

static FORMATTED: AtomicUsize = AtomicUsize::new(0);

struct Dear;

impl fmt::Debug for Dear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FORMATTED.fetch_add(1, Relaxed);
        write!(f, "dear")
    }
}

/// How many of three events were formatted.
fn tells() -> usize {
    FORMATTED.store(0, Relaxed);
    warn!(dear = ?Dear);
    info!(dear = ?Dear);
    debug!(dear = ?Dear);
    FORMATTED.load(Relaxed)
}

#[test]
fn a_worker_formats_what_the_pools_process_listens_to() {
    let pool = ProcessPoolExecutor::builder().max_workers(1).build().unwrap();
    assert_eq!(pool.submit(call!(tells())).result().unwrap(), 0);
    tracing::subscriber::set_global_default(Counts).unwrap();
    for level in [0, 1, 2, 1, 0] {
        LEVEL.store(level, Relaxed);
        tracing::callsite::rebuild_interest_cache();
        let before = HEARD.load(Relaxed);
        assert_eq!(pool.submit(call!(tells())).result().unwrap(), level);
        assert_eq!(HEARD.load(Relaxed) - before, level);
    }
}
