//! What a subscriber of `tracing` hears of tasks. Without the feature nothing is left of it: the
//! types are empty, and so are the functions.
//!
//! A subscriber is code of the user's. It is called where no lock is held, a panic of it is reported
//! by the panic hook and ends here, and what it submits from there is not traced itself, which would
//! have no end.

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{MapTrace, TaskTrace};
#[cfg(feature = "tracing")]
pub(crate) use on::{MapTrace, TaskTrace};

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
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use tracing::level_filters::LevelFilter;
    use tracing::{Level, Span, event, span};

    use crate::clock;
    use crate::error::Error;
    use crate::panic::{Quiet, drop_quietly};
    use crate::sync::Mutex;

    const TARGET: &str = "concurrent_futures";

    thread_local! {
        /// This thread is in a call of the subscriber that was made here.
        static TELLS: Cell<bool> = const { Cell::new(false) };
    }

    /// Whether anybody would hear of what begins now.
    #[inline]
    fn is_listened_to() -> bool {
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
                drop_quietly(payload);
                None
            }
        }
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

    /// A task's span, as long as the task has not ended. `None` from the start: nobody listens.
    pub(crate) struct TaskTrace(Option<Mutex<Option<Arc<Traced>>>>);

    struct Traced {
        span: Quiet<Span>,
        task: u64,
        label: Option<Arc<str>>,
        /// Until the task started, and on workers; in ticks.
        queue_time: AtomicU64,
        run_time: AtomicU64,
    }

    impl TaskTrace {
        pub(crate) fn none() -> Self {
            Self(None)
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
            let traced = Traced {
                span: Quiet::new(span.unwrap_or_else(Span::none)),
                task: id,
                label,
                queue_time: AtomicU64::new(0),
                run_time: AtomicU64::new(0),
            };
            Self(Some(Mutex::new(Some(Arc::new(traced)))))
        }

        fn get(&self) -> Option<Arc<Traced>> {
            self.0.as_ref().and_then(|traced| traced.lock().clone())
        }

        /// The task starts, after so many ticks in the queue.
        pub(crate) fn started(&self, queue_time: impl FnOnce() -> u64) {
            let Some(traced) = self.get() else { return };
            traced.queue_time.store(queue_time(), Relaxed);
            traced.tell_started();
        }

        /// The task is on this thread until the answer is dropped.
        #[inline]
        pub(crate) fn enter(&self) -> Entered {
            Entered(self.get().map(|traced| {
                enter(&traced.span);
                (traced, clock::now())
            }))
        }

        /// What came of the task is known.
        pub(crate) fn outcome(&self, error: Option<&Error>) {
            if let Some(traced) = self.get() {
                traced.tell_outcome(error);
            }
        }

        /// The task has ended, and with it its span.
        pub(crate) fn close(&self) {
            let traced = self.0.as_ref().and_then(|traced| traced.lock().take());
            tell(|| drop(traced));
        }
    }

    impl Traced {
        fn queue_time(&self) -> std::time::Duration {
            clock::duration(self.queue_time.load(Relaxed))
        }

        fn run_time(&self) -> std::time::Duration {
            clock::duration(self.run_time.load(Relaxed))
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
        fn drop(&mut self) {
            if let Some((traced, since)) = self.0.take() {
                traced.run_time.fetch_add(clock::now().saturating_sub(since), Relaxed);
                exit(&traced.span);
                tell(|| drop(traced));
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
}
