//! Options for one task.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::ThreadPoolExecutor;
use crate::core::Options;
use crate::error::TrySubmitError;
use crate::future::TaskFuture;
use crate::job::Job;
use crate::stop_token::StopToken;
use crate::task_handle::submit_until_stopped;

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
    stop: Option<StopToken>,
}

impl<'a> TaskOptions<'a> {
    pub(super) fn new(pool: &'a ThreadPoolExecutor) -> Self {
        Self { pool, options: Options::default(), stop: None }
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

    /// Has the task cancelled when the token is set, as by [`TaskFuture::cancel`]: one that is queued is
    /// withdrawn, one that runs is asked to stop. If the token is set already, the job is dropped, and the
    /// future is cancelled from the start; the pool does not count it.
    ///
    /// One token may cancel any number of tasks, of several pools. The thread that sets it cancels them, the
    /// last first. With the token of a job ([`task::stop_token`](crate::task::stop_token)), what the job has
    /// submitted is cancelled with it.
    ///
    /// ```
    /// use concurrent_futures::{Error, StopToken, ThreadPoolExecutor, task};
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let (request, token) = StopToken::new();
    /// let parts: Vec<_> = (0..100)
    ///     .map(|_| pool.task().stop_token(&token).submit(|| while !task::stop_requested() {}))
    ///     .collect();
    /// request.stop(); // the client has hung up
    /// for part in parts {
    ///     // It was running, and has returned, or it never ran.
    ///     assert!(matches!(part.result(), Ok(()) | Err(Error::Cancelled)));
    /// }
    /// ```
    pub fn stop_token(mut self, token: &StopToken) -> Self {
        self.stop = Some(token.clone());
        self
    }

    /// As [`ThreadPoolExecutor::submit`].
    pub fn submit<J: Job>(self, job: J) -> TaskFuture<J::Output> {
        let Self { pool, options, stop } = self;
        let Ok(future) =
            submit_until_stopped(stop, || Ok::<_, Infallible>(pool.submit_with(job, options)));
        future
    }

    /// As [`ThreadPoolExecutor::try_submit`].
    ///
    /// # Errors
    ///
    /// The job, and why it was refused.
    pub fn try_submit<J: Job>(self, job: J) -> Result<TaskFuture<J::Output>, TrySubmitError<J>> {
        let Self { pool, options, stop } = self;
        submit_until_stopped(stop, || pool.try_submit_with(job, options))
    }

    /// As [`ThreadPoolExecutor::submit_future`]. The run's limit counts from the first poll.
    pub fn submit_future<F>(self, future: F) -> TaskFuture<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let Self { pool, options, stop } = self;
        let submit = || Ok::<_, Infallible>(pool.submit_future_with(future, options));
        let Ok(future) = submit_until_stopped(stop, submit);
        future
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
