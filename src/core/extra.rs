//! The part of a task that not every task has: its options, or a name.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::label::Label;
use crate::sync::Mutex;
use crate::timer::Timer;

/// The options of one task.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) label: Option<Label>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) queue_timeout: Option<Duration>,
    /// Maximum number of times that the task runs again after its worker was lost.
    pub(crate) retries: u32,
}

impl Options {
    /// The limit of the run as a call carries it, for the job's own view of its deadline: in nanoseconds; 0 is
    /// none.
    #[cfg(feature = "process")]
    pub(crate) fn timeout_nanos(&self) -> u64 {
        let limit = self.timeout.map_or(0, |limit| limit.as_nanos());
        u64::try_from(limit).unwrap_or(u64::MAX)
    }
}

/// The part of a task that only those with options have.
pub(crate) struct Extra {
    pub(super) options: Options,
    pub(super) deadline: OnceLock<Instant>,
    pub(super) timer: Mutex<Option<Timer>>,
}

impl Extra {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, deadline: OnceLock::new(), timer: Mutex::new(None) }
    }

    /// Makes the part of a task whose clock of `timeout` was started elsewhere.
    pub(crate) fn with_deadline(options: Options, deadline: Option<Instant>) -> Self {
        let extra = Self::new(options);
        if let Some(deadline) = deadline {
            let _ = extra.deadline.set(deadline);
        }
        extra
    }

    /// Returns the limit of the run, and when it is reached, once the task has started.
    pub(crate) fn limit(&self) -> Option<(Duration, Instant)> {
        self.options.timeout.zip(self.deadline.get().copied())
    }

    pub(super) fn disarm(&self) {
        let timer = self.timer.lock().take();
        // Without the lock: a timer that is dropped drops its action, which holds the task.
        drop(timer);
    }
}

/// [`Extra`], a [`TaskName`], a [`Continuation`], or nothing.
pub(crate) trait MaybeExtra: Send + Sync + Sized + 'static {
    const IS_THERE: bool = false;

    /// `false`: such tasks are in no count of their pool.
    const IS_COUNTED: bool = true;

    /// Which of a host's tables has the functions of such tasks.
    const TABLE: usize;

    fn get(&self) -> Option<&Extra> {
        None
    }

    fn label(&self) -> Option<&Label> {
        None
    }
}

impl MaybeExtra for () {
    const TABLE: usize = 0;
}

impl MaybeExtra for Extra {
    const IS_THERE: bool = true;

    const TABLE: usize = 1;

    fn get(&self) -> Option<&Extra> {
        Some(self)
    }

    fn label(&self) -> Option<&Label> {
        self.options.label.as_ref()
    }
}

/// The label of a task without options: of a call the path of its function.
#[derive(Debug)]
#[allow(unnameable_types, reason = "a trait that seals `Job` has it")]
pub struct TaskName(pub(crate) Option<Label>);

impl MaybeExtra for TaskName {
    const TABLE: usize = 2;

    fn label(&self) -> Option<&Label> {
        self.0.as_ref()
    }
}

/// The label of a job that belongs to work which was accepted before: of a map's, that of the map.
#[derive(Debug)]
pub(crate) struct Continuation(pub(crate) Option<Label>);

impl MaybeExtra for Continuation {
    const IS_COUNTED: bool = false;

    const TABLE: usize = 3;

    fn label(&self) -> Option<&Label> {
        self.0.as_ref()
    }
}
