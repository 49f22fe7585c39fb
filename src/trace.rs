//! What a subscriber of `tracing` hears of tasks. Without the feature nothing is left of it: the
//! types are empty, and so are the functions.
//!
//! A subscriber is code of the user's. It is called where no lock is held, a panic of it is reported
//! by the panic hook and ends here, and what it submits from there is not traced itself, which would
//! have no end.

#[cfg(all(not(feature = "tracing"), feature = "process"))]
pub(crate) use off::Outbox;
#[cfg(not(feature = "tracing"))]
pub(crate) use off::{MapTrace, TaskTrace, is_listened_to, unobserved};
#[cfg(feature = "tracing")]
pub(crate) use on::{MapTrace, TaskTrace, is_listened_to, unobserved};
#[cfg(all(feature = "tracing", feature = "process"))]
pub(crate) use on::{Outbox, Record};

#[cfg(not(feature = "tracing"))]
mod off {
    use std::sync::Arc;

    use crate::error::Error;

    pub(crate) struct TaskTrace;

    impl TaskTrace {
        #[inline(always)]
        pub(crate) fn none() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn new(_id: u64, _label: Option<&Arc<str>>, _pool: &str) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn started(&self, _queue_time: impl FnOnce() -> u64) {}

        #[inline(always)]
        pub(crate) fn enter(&self) -> Entered {
            Entered
        }

        #[inline(always)]
        pub(crate) fn outcome(&self, _error: Option<&Error>) {}

        #[inline(always)]
        pub(crate) fn close(&self) {}
    }

    #[cfg(feature = "process")]
    impl TaskTrace {
        #[inline(always)]
        pub(crate) fn of_current() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn shared(&self) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn ran(&self, _nanos: u64) {}
    }

    #[cfg(feature = "process")]
    pub(crate) struct Outbox;

    #[cfg(feature = "process")]
    impl Outbox {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn started(&mut self, _task: &TaskTrace, _queue_time: u64) {}

        #[inline(always)]
        pub(crate) fn worker_lost(&mut self, _how: impl FnOnce() -> String, _was_killed: bool) {}

        #[inline(always)]
        pub(crate) fn worker_started(&mut self, _pool: &str) {}

        #[inline(always)]
        pub(crate) fn take(&mut self) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn is_empty(&self) -> bool {
            true
        }

        #[inline(always)]
        pub(crate) fn tell(self) {}
    }

    #[inline(always)]
    pub(crate) fn is_listened_to() -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn unobserved(_id: u64, _label: Option<&str>, _pool: &str, _error: &Error) {}

    pub(crate) struct MapTrace;

    impl MapTrace {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn enter(&self) -> Entered {
            Entered
        }
    }

    pub(crate) struct Entered;
}

#[cfg(feature = "tracing")]
mod on {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use tracing::level_filters::LevelFilter;
    use tracing::{Level, Span, event, span};

    use crate::clock;
    use crate::error::Error;
    use crate::panic::{Quiet, drop_payload};
    use crate::sync::Mutex;

    const TARGET: &str = "concurrent_futures";

    /// Of what worker processes tell.
    #[cfg(feature = "process")]
    const WORKER_TARGET: &str = "concurrent_futures::worker";

    thread_local! {
        /// This thread is in a call of the subscriber that was made here.
        static TELLS: Cell<bool> = const { Cell::new(false) };
    }

    /// Whether anybody would hear of what begins now.
    #[inline]
    pub(crate) fn is_listened_to() -> bool {
        LevelFilter::current() != LevelFilter::OFF && !TELLS.get()
    }

    /// Calls the subscriber.
    fn tell<R>(call: impl FnOnce() -> R) -> Option<R> {
        struct Reset(bool);
        impl Drop for Reset {
            fn drop(&mut self) {
                TELLS.set(self.0);
            }
        }
        let _reset = Reset(TELLS.replace(true));
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(answer) => Some(answer),
            Err(payload) => {
                drop_payload(payload);
                None
            }
        }
    }

    /// A task has failed, and nobody has seen that.
    pub(crate) fn unobserved(task: u64, label: Option<&str>, pool: &str, error: &Error) {
        if is_listened_to() {
            tell(|| {
                event!(target: TARGET, Level::WARN, task, label, pool, %error, "failure unobserved");
            });
        }
    }

    /// The nanoseconds of so many ticks.
    fn nanos(ticks: u64) -> u64 {
        clock::duration(ticks).as_nanos() as u64
    }

    /// The new span, or, if a filter does not want it, the current one.
    fn or_current(span: Span) -> Span {
        if span.is_disabled() { Span::current() } else { span }
    }

    /// A span, for as long as it is entered. It goes by the span's number, since the guards of
    /// `tracing` let panics of the subscriber through.
    fn enter(span: &Span) {
        tell(|| span.with_subscriber(|(id, subscriber)| subscriber.enter(id)));
    }

    fn exit(span: &Span) {
        tell(|| span.with_subscriber(|(id, subscriber)| subscriber.exit(id)));
    }

    /// A task's span. `None`: nobody listens, which is seen without a call.
    pub(crate) struct TaskTrace(Option<Box<Slot>>);

    struct Slot {
        /// `None`: the task has ended.
        traced: Mutex<Option<Arc<Traced>>>,
        /// It has a span, but is no task of the user's.
        is_quiet: bool,
    }

    struct Traced {
        span: Quiet<Span>,
        task: u64,
        label: Option<Arc<str>>,
        has_started: AtomicBool,
        /// Until the task started, and on workers; in nanoseconds.
        queue_time: AtomicU64,
        run_time: AtomicU64,
    }

    impl TaskTrace {
        pub(crate) fn none() -> Self {
            Self(None)
        }

        fn of(span: Span, task: u64, label: Option<Arc<str>>, is_quiet: bool) -> Self {
            let traced = Traced {
                span: Quiet::new(span),
                task,
                label,
                has_started: AtomicBool::new(false),
                queue_time: AtomicU64::new(0),
                run_time: AtomicU64::new(0),
            };
            Self::in_slot(Arc::new(traced), is_quiet)
        }

        fn in_slot(traced: Arc<Traced>, is_quiet: bool) -> Self {
            Self(Some(Box::new(Slot { traced: Mutex::new(Some(traced)), is_quiet })))
        }

        /// Makes the span, a child of the current one.
        #[inline]
        pub(crate) fn new(id: u64, label: Option<&Arc<str>>, pool: &str) -> Self {
            if is_listened_to() { Self::of_task(id, label, pool) } else { Self::none() }
        }

        fn of_task(id: u64, label: Option<&Arc<str>>, pool: &str) -> Self {
            let label = label.cloned();
            let span = tell(|| {
                let label = label.as_deref();
                or_current(span!(target: TARGET, Level::DEBUG, "task", id, label, pool))
            });
            Self::of(span.unwrap_or_else(Span::none), id, label, false)
        }

        /// The task starts, after so many ticks in the queue.
        #[inline]
        pub(crate) fn started(&self, queue_time: impl FnOnce() -> u64) {
            if let Some(slot) = &self.0 {
                slot.started(queue_time());
            }
        }

        /// The task is on this thread until the answer is dropped.
        #[inline]
        pub(crate) fn enter(&self) -> Entered {
            Entered(self.0.as_ref().and_then(|slot| slot.enter()))
        }

        /// What came of the task is known.
        #[inline]
        pub(crate) fn outcome(&self, error: Option<&Error>) {
            if let Some(slot) = &self.0 {
                slot.outcome(error);
            }
        }

        /// The task has ended, and with it its span.
        #[inline]
        pub(crate) fn close(&self) {
            if let Some(slot) = &self.0 {
                slot.close();
            }
        }
    }

    impl Drop for TaskTrace {
        #[inline]
        fn drop(&mut self) {
            self.close();
        }
    }

    impl Slot {
        fn get(&self) -> Option<Arc<Traced>> {
            self.traced.lock().clone()
        }

        /// The same, for what is told of the task itself.
        fn get_aloud(&self) -> Option<Arc<Traced>> {
            if self.is_quiet { None } else { self.get() }
        }

        fn started(&self, queue_time: u64) {
            if let Some(traced) = self.get_aloud() {
                if traced.begins(queue_time) {
                    traced.tell_started();
                }
            }
        }

        fn enter(&self) -> Option<(Arc<Traced>, u64)> {
            let traced = self.get()?;
            enter(&traced.span);
            Some((traced, clock::now()))
        }

        fn outcome(&self, error: Option<&Error>) {
            if let Some(traced) = self.get_aloud() {
                traced.tell_outcome(error);
            }
        }

        fn close(&self) {
            let traced = self.traced.lock().take();
            if traced.is_some() {
                tell(|| drop(traced));
            }
        }
    }

    #[cfg(feature = "process")]
    impl TaskTrace {
        /// What belongs to the current span, and is nothing to tell of.
        pub(crate) fn of_current() -> Self {
            if !is_listened_to() {
                return Self::none();
            }
            Self::of(tell(Span::current).unwrap_or_else(Span::none), 0, None, true)
        }

        /// What belongs to this task, and is nothing to tell of.
        pub(crate) fn shared(&self) -> Self {
            self.get().map_or_else(Self::none, |traced| Self::in_slot(traced, true))
        }

        fn get(&self) -> Option<Arc<Traced>> {
            self.0.as_ref().and_then(|slot| slot.get())
        }

        fn get_aloud(&self) -> Option<Arc<Traced>> {
            self.0.as_ref().and_then(|slot| slot.get_aloud())
        }

        /// The task was on a worker for so many nanoseconds.
        pub(crate) fn ran(&self, nanos: u64) {
            if let Some(traced) = self.get_aloud() {
                traced.run_time.fetch_add(nanos, Relaxed);
            }
        }
    }

    impl Traced {
        fn queue_time(&self) -> Duration {
            Duration::from_nanos(self.queue_time.load(Relaxed))
        }

        fn run_time(&self) -> Duration {
            Duration::from_nanos(self.run_time.load(Relaxed))
        }

        fn leave(self: Arc<Self>, since: u64) {
            let time = nanos(clock::now().saturating_sub(since));
            self.run_time.fetch_add(time, Relaxed);
            exit(&self.span);
            tell(|| drop(self));
        }

        /// After so many ticks in the queue. `false`: it has begun before, on a worker that was lost.
        fn begins(&self, queue_time: u64) -> bool {
            let is_first = !self.has_started.swap(true, Relaxed);
            if is_first {
                self.queue_time.store(nanos(queue_time), Relaxed);
            }
            is_first
        }

        fn tell_started(&self) {
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
                    %error,
                    "failed"
                ),
            });
        }
    }

    /// A task, as long as it is on this thread.
    pub(crate) struct Entered(Option<(Arc<Traced>, u64)>);

    impl Drop for Entered {
        #[inline]
        fn drop(&mut self) {
            if let Some((traced, since)) = self.0.take() {
                traced.leave(since);
            }
        }
    }

    /// A map's span.
    pub(crate) struct MapTrace(Option<Quiet<Span>>);

    impl MapTrace {
        /// Makes the span, a child of the current one.
        pub(crate) fn new() -> Self {
            let span = is_listened_to()
                .then(|| tell(|| or_current(span!(target: TARGET, Level::DEBUG, "map"))));
            Self(span.flatten().map(Quiet::new))
        }

        /// The map's function is called on this thread until the answer is dropped.
        pub(crate) fn enter(&self) -> EnteredMap<'_> {
            if let Some(span) = &self.0 {
                enter(span);
            }
            EnteredMap(self.0.as_deref())
        }
    }

    /// A map, as long as its function is called on this thread.
    pub(crate) struct EnteredMap<'a>(Option<&'a Span>);

    impl Drop for EnteredMap<'_> {
        fn drop(&mut self) {
            if let Some(span) = self.0 {
                exit(span);
            }
        }
    }

    /// An event of a worker process.
    #[cfg(feature = "process")]
    pub(crate) struct Record {
        pub(crate) level: Level,
        pub(crate) target: String,
        pub(crate) file: String,
        pub(crate) line: u32,
        /// With the event's fields.
        pub(crate) message: String,
    }

    #[cfg(feature = "process")]
    enum Note {
        Started(Arc<Traced>),
        Record { task: Option<Arc<Traced>>, pid: Option<u32>, record: Record },
        Lost { how: String, was_killed: bool },
        Replaced { pool: String },
    }

    /// What is to be told once the pool's lock is released.
    #[cfg(feature = "process")]
    pub(crate) struct Outbox {
        notes: Vec<Note>,
        /// Workers that were lost, and nobody has taken their place.
        to_replace: usize,
    }

    #[cfg(feature = "process")]
    impl Outbox {
        pub(crate) fn new() -> Self {
            Self { notes: Vec::new(), to_replace: 0 }
        }

        /// A task starts, for the first time or not, after so many ticks in the queue.
        pub(crate) fn started(&mut self, task: &TaskTrace, queue_time: u64) {
            let Some(traced) = task.get_aloud() else { return };
            if traced.begins(queue_time) {
                self.notes.push(Note::Started(traced));
            }
        }

        /// Of the task that the worker has, if it has one.
        pub(crate) fn record(
            &mut self,
            task: Option<&TaskTrace>,
            pid: Option<u32>,
            record: Record,
        ) {
            let task = task.and_then(TaskTrace::get);
            self.notes.push(Note::Record { task, pid, record });
        }

        pub(crate) fn worker_lost(&mut self, how: impl FnOnce() -> String, was_killed: bool) {
            self.to_replace += 1;
            if is_listened_to() {
                self.notes.push(Note::Lost { how: how(), was_killed });
            }
        }

        pub(crate) fn worker_started(&mut self, pool: &str) {
            if self.to_replace > 0 {
                self.to_replace -= 1;
                if is_listened_to() {
                    self.notes.push(Note::Replaced { pool: pool.to_owned() });
                }
            }
        }

        /// What is to be told, for [`tell`](Self::tell).
        pub(crate) fn take(&mut self) -> Self {
            Self { notes: std::mem::take(&mut self.notes), to_replace: 0 }
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.notes.is_empty()
        }

        pub(crate) fn tell(self) {
            for note in self.notes {
                tell(|| note.tell());
            }
        }
    }

    #[cfg(feature = "process")]
    impl Note {
        fn tell(self) {
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
}
