//! Calls of the subscriber: spans of tasks and maps, and events in them. With the feature `tracing`
//! only.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, event, span};

use crate::clock;
use crate::error::{Error, WithCauses};
use crate::label::Label;
use crate::panic::{Quiet, drop_payload};
use crate::sync::Mutex;

const TARGET: &str = "concurrent_futures";

/// The target of the events of worker processes.
#[cfg(feature = "process")]
const WORKER_TARGET: &str = "concurrent_futures::worker";

thread_local! {
    /// Set while this thread is in a call of the subscriber that was made here.
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether a subscriber wants anything, and this thread is not within it.
#[inline]
pub(super) fn is_listened_to() -> bool {
    LevelFilter::current() != LevelFilter::OFF && !TELLS.get()
}

/// Calls the subscriber, whose panics end here.
pub(super) fn tell<R>(call: impl FnOnce() -> R) -> Option<R> {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            TELLS.set(self.0);
        }
    }
    // Calls nest where a subscriber drops a future of ours, so the earlier value is set again.
    let _reset = Reset(TELLS.replace(true));
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(answer) => Some(answer),
        Err(payload) => {
            drop_payload(payload);
            None
        }
    }
}

pub(super) fn tell_unobserved(task: u64, label: Option<&str>, pool: &str, error: &Error) {
    tell(|| {
        event!(target: TARGET, Level::WARN, task, label, pool, error = %WithCauses(error), "failure unobserved");
    });
}

/// Converts ticks to nanoseconds.
fn nanos(ticks: u64) -> u64 {
    clock::duration(ticks).as_nanos() as u64
}

/// Returns the new span, or, if a filter does not want it, the current one.
fn or_current(span: Span) -> Span {
    if span.is_disabled() { Span::current() } else { span }
}

/// Enters the span. By its number, since the guards of `tracing` let panics of the subscriber through.
pub(super) fn enter(span: &Span) {
    tell(|| span.with_subscriber(|(id, subscriber)| subscriber.enter(id)));
}

/// Leaves the span that [`enter`] has entered.
pub(super) fn exit(span: &Span) {
    tell(|| span.with_subscriber(|(id, subscriber)| subscriber.exit(id)));
}

/// Makes a span for a map, a child of the current one. `None`: the subscriber has panicked.
pub(super) fn span_of_map() -> Option<Quiet<Span>> {
    tell(|| or_current(span!(target: TARGET, Level::DEBUG, "map"))).map(Quiet::new)
}

/// The span of one task, until the task has ended.
pub(super) struct Slot {
    /// `None` once the task has ended.
    traced: Mutex<Option<Arc<Traced>>>,
    /// The task has a span and is none of the user's, so there are no events of it.
    is_quiet: bool,
}

/// A span, and the figures for its events.
pub(super) struct Traced {
    span: Quiet<Span>,
    task: u64,
    label: Option<Label>,
    has_started: AtomicBool,
    /// Nanoseconds from the submission to the start.
    queue_time: AtomicU64,
    /// Nanoseconds on workers.
    run_time: AtomicU64,
}

impl Slot {
    /// Makes a span for a task, a child of the current one.
    pub(super) fn of_task(id: u64, label: Option<&Label>, pool: &str) -> Box<Self> {
        let span = tell(|| {
            let label = label.map(|label| &**label);
            or_current(span!(target: TARGET, Level::DEBUG, "task", id, label, pool))
        });
        Self::of(span, id, label.cloned(), false)
    }

    /// Takes the current span, without events.
    #[cfg(feature = "process")]
    pub(super) fn of_current() -> Box<Self> {
        Self::of(tell(Span::current), 0, None, true)
    }

    fn of(span: Option<Span>, task: u64, label: Option<Label>, is_quiet: bool) -> Box<Self> {
        let traced = Traced {
            span: Quiet::new(span.unwrap_or_else(Span::none)),
            task,
            label,
            has_started: AtomicBool::new(false),
            queue_time: AtomicU64::new(0),
            run_time: AtomicU64::new(0),
        };
        Box::new(Self { traced: Mutex::new(Some(Arc::new(traced))), is_quiet })
    }

    /// Shares the span, without events. `None`: the task has ended.
    #[cfg(feature = "process")]
    pub(super) fn shared(&self) -> Option<Box<Self>> {
        let traced = self.get()?;
        Some(Box::new(Self { traced: Mutex::new(Some(traced)), is_quiet: true }))
    }

    pub(super) fn get(&self) -> Option<Arc<Traced>> {
        // Cloned, so that the subscriber is called without the lock.
        self.traced.lock().clone()
    }

    /// As [`get`](Self::get), for events of the task itself.
    pub(super) fn get_aloud(&self) -> Option<Arc<Traced>> {
        if self.is_quiet { None } else { self.get() }
    }

    pub(super) fn started(&self, queue_time: u64) {
        if let Some(traced) = self.get_aloud() {
            if traced.begins(queue_time) {
                traced.tell_started();
            }
        }
    }

    pub(super) fn enter(&self) -> Option<(Arc<Traced>, u64)> {
        let traced = self.get()?;
        enter(&traced.span);
        Some((traced, clock::now()))
    }

    pub(super) fn outcome(&self, error: Option<&Error>) {
        if let Some(traced) = self.get_aloud() {
            traced.tell_outcome(error);
        }
    }

    pub(super) fn close(&self) {
        let traced = self.traced.lock().take();
        if traced.is_some() {
            // Perhaps the last handle of the span, whose drop calls the subscriber.
            tell(|| drop(traced));
        }
    }

    #[cfg(feature = "process")]
    pub(super) fn ran(&self, nanos: u64) {
        if let Some(traced) = self.get_aloud() {
            traced.run_time.fetch_add(nanos, Relaxed);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.close();
    }
}

impl Traced {
    fn queue_time(&self) -> Duration {
        Duration::from_nanos(self.queue_time.load(Relaxed))
    }

    fn run_time(&self) -> Duration {
        Duration::from_nanos(self.run_time.load(Relaxed))
    }

    pub(super) fn leave(self: Arc<Self>, since: u64) {
        let time = nanos(clock::now().saturating_sub(since));
        self.run_time.fetch_add(time, Relaxed);
        exit(&self.span);
        tell(|| drop(self));
    }

    /// Records the start, after `queue_time` ticks. `false`: the task has begun before, on a worker that
    /// was lost.
    pub(super) fn begins(&self, queue_time: u64) -> bool {
        let is_first = !self.has_started.swap(true, Relaxed);
        if is_first {
            self.queue_time.store(nanos(queue_time), Relaxed);
        }
        is_first
    }

    pub(super) fn tell_started(&self) {
        tell(|| {
            event!(
                target: TARGET,
                parent: &*self.span,
                Level::DEBUG,
                task = self.task,
                label = self.label.as_deref(),
                queue_time = ?self.queue_time(),
                "started"
            );
        });
    }

    fn tell_outcome(&self, error: Option<&Error>) {
        let (task, label) = (self.task, self.label.as_deref());
        tell(|| match error {
            None => event!(
                target: TARGET,
                parent: &*self.span,
                Level::DEBUG,
                task,
                label,
                queue_time = ?self.queue_time(),
                run_time = ?self.run_time(),
                "finished"
            ),
            Some(Error::Cancelled) => event!(
                target: TARGET,
                parent: &*self.span,
                Level::DEBUG,
                task,
                label,
                "cancelled"
            ),
            Some(error) => event!(
                target: TARGET,
                parent: &*self.span,
                Level::WARN,
                task,
                label,
                error = %WithCauses(error),
                "failed"
            ),
        });
    }
}

/// An event of a worker process.
#[cfg(feature = "process")]
pub(crate) struct Record {
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    /// The message, with the event's fields behind it.
    pub(crate) message: String,
}

/// A call of the subscriber, put off until the pool's lock is released.
#[cfg(feature = "process")]
pub(super) enum Note {
    Started(Arc<Traced>),
    Record { task: Option<Arc<Traced>>, pid: Option<u32>, record: Record },
    Lost { how: String, was_killed: bool },
    Replaced { pool: String },
}

#[cfg(feature = "process")]
impl Note {
    pub(super) fn tell(self) {
        match self {
            Note::Started(traced) => traced.tell_started(),
            Note::Record { task, pid, record } => record.tell(task.as_deref(), pid),
            Note::Lost { how, was_killed: false } => {
                event!(target: TARGET, parent: None, Level::WARN, how, "worker lost");
            }
            Note::Lost { how, was_killed: true } => {
                event!(target: TARGET, parent: None, Level::DEBUG, how, "worker lost");
            }
            Note::Replaced { pool } => {
                event!(target: TARGET, parent: None, Level::INFO, pool, "worker replaced");
            }
        }
    }
}

#[cfg(feature = "process")]
impl Record {
    fn tell(&self, task: Option<&Traced>, pid: Option<u32>) {
        /// A callsite has one level, so there is one for each.
        macro_rules! tell_at {
            ($parent:expr, $level:expr) => {
                event!(
                    target: WORKER_TARGET,
                    parent: $parent,
                    $level,
                    pid,
                    target = &*self.target,
                    file = &*self.file,
                    line = self.line,
                    "{}",
                    self.message
                )
            };
        }
        let parent = task.and_then(|traced| traced.span.id());
        match self.level {
            Level::ERROR => tell_at!(parent, Level::ERROR),
            Level::WARN => tell_at!(parent, Level::WARN),
            Level::INFO => tell_at!(parent, Level::INFO),
            Level::DEBUG => tell_at!(parent, Level::DEBUG),
            Level::TRACE => tell_at!(parent, Level::TRACE),
        }
    }
}
