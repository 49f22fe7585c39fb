//! Options for one task.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::ThreadPoolExecutor;
use crate::core::Options;
use crate::error::TrySubmitError;
use crate::future::TaskFuture;
use crate::job::Job;

/// Options for one task, then its submission. From [`ThreadPoolExecutor::task`].
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
/// use std::time::Duration;
///
/// let pool = ThreadPoolExecutor::new();
/// let thumb = pool
///     .task()
///     .label("thumb")
///     .queue_timeout(Duration::from_secs(1)) // not started by then: not wanted any more
///     .timeout(Duration::from_secs(5)) // from its start
///     .submit(|| 6 * 7);
/// assert_eq!(thumb.result()?, 42);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "options do nothing until a job is submitted with them"]
#[derive(Clone)]
pub struct TaskOptions<'a> {
    pool: &'a ThreadPoolExecutor,
    options: Options,
}

impl<'a> TaskOptions<'a> {
    pub(super) fn new(pool: &'a ThreadPoolExecutor) -> Self {
        Self { pool, options: Options::default() }
    }

    /// A name for people: in the `Debug` text of the future, and in the report of a shutdown.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.options.label = Some(label.into());
        self
    }

    /// A limit on the run, counted from the start of the task. At the limit the future ends with
    /// [`Error::TimedOut`](crate::Error::TimedOut) (`started: true`), and the job is asked to stop
    /// ([`task::stop_requested`](crate::task::stop_requested),
    /// [`task::deadline`](crate::task::deadline)). A thread can't be killed: the worker is free
    /// when the job returns.
    ///
    /// If the system refuses the thread that keeps the time, the job is dropped in place of its start,
    /// and the future ends with [`Error::NoTimer`](crate::Error::NoTimer).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// A limit on the wait in the queue, counted from the submission. At the limit the task is
    /// withdrawn, and the future ends with [`Error::TimedOut`](crate::Error::TimedOut)
    /// (`started: false`).
    ///
    /// If the system refuses the thread that keeps the time, the task is withdrawn at once, and the
    /// future ends with [`Error::NoTimer`](crate::Error::NoTimer).
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.options.queue_timeout = Some(limit);
        self
    }

    /// As [`ThreadPoolExecutor::submit`].
    pub fn submit<J: Job>(self, job: J) -> TaskFuture<J::Output> {
        self.pool.submit_with(job, self.options)
    }

    /// As [`ThreadPoolExecutor::try_submit`].
    ///
    /// # Errors
    ///
    /// The job, and why it was refused.
    pub fn try_submit<J: Job>(self, job: J) -> Result<TaskFuture<J::Output>, TrySubmitError<J>> {
        self.pool.try_submit_with(job, Some(self.options))
    }

    /// As [`ThreadPoolExecutor::submit_future`]. The run's limit counts from the first poll.
    pub fn submit_future<F>(self, future: F) -> TaskFuture<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.pool.submit_future_with(future, Some(self.options))
    }
}

impl fmt::Debug for TaskOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskOptions")
            .field("label", &self.options.label)
            .field("timeout", &self.options.timeout)
            .field("queue_timeout", &self.options.queue_timeout)
            .finish_non_exhaustive()
    }
}
