//! Options of a task.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use crate::core::{MaybeExtra, Options};
use crate::error::Error;
use crate::future::TaskFuture;
use crate::label::Label;
use crate::panic::drop_quietly;
use crate::stop_token::StopToken;

/// Options of a task: a label, limits of time, retries, a stop token. For any number of tasks, on any executor,
/// by [`Executor::submit_with`](crate::Executor::submit_with). For one task,
/// [`task()`](crate::Executor::task) has the same setters.
///
/// ```
/// use concurrent_futures::{Error, Executor, TaskOptions, ThreadPoolExecutor, call};
/// use std::time::Duration;
///
/// fn thumbnails<E: Executor>(pool: &E, sizes: &[u32]) -> Result<Vec<u32>, Error> {
///     let options = TaskOptions::new()
///         .label("thumb")
///         .queue_timeout(Duration::from_secs(1)) // not started by then: not wanted any more
///         .timeout(Duration::from_secs(5)); // from its start
///     let thumbs: Vec<_> =
///         sizes.iter().map(|size| pool.submit_with(&options, call!(u32::pow(*size, 2)))).collect();
///     thumbs.into_iter().map(|thumb| thumb.result()).collect()
/// }
///
/// assert_eq!(thumbnails(&ThreadPoolExecutor::new(), &[2, 3])?, [4, 9]);
/// # Ok::<(), Error>(())
/// ```
///
/// # What they mean on each executor
///
/// | | threads | processes, also from [within](crate::AnyExecutor::current) | inline |
/// | --- | --- | --- | --- |
/// | `timeout` | the job is asked to stop; the worker is free when it returns | the worker is killed and replaced | seen at the end of the job, which may ask for its [`deadline`](crate::task::deadline) |
/// | `queue_timeout` | withdraws the task | withdraws the task | without effect: nothing waits |
/// | `retries` | without effect: no worker is lost | as it says | without effect |
#[derive(Clone, Default)]
#[must_use = "options do nothing until a job is submitted with them"]
pub struct TaskOptions {
    pub(crate) options: Options,
    pub(crate) stop: Option<StopToken>,
}

impl TaskOptions {
    /// No label, no limits, no retries.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name for people: in the `Debug` text of the future, in dumps, traces and the report of a shutdown.
    pub fn label(mut self, label: impl Into<Label>) -> Self {
        self.options.label = Some(label.into());
        self
    }

    /// A limit on the run, counted from the start of the task. At the limit the future ends with
    /// [`Error::TimedOut`] (`started: true`), and the job is asked to stop
    /// ([`task::stop_requested`](crate::task::stop_requested), [`task::deadline`](crate::task::deadline)). A
    /// thread can't be killed: its worker is free when the job returns. A worker process is killed and
    /// replaced.
    ///
    /// If the system refuses the thread that keeps the time, the job is dropped in place of its start, and
    /// the future ends with [`Error::NoTimer`]; on threads only.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// A limit on the wait in the queue, counted from the submission. At the limit the task is withdrawn, and
    /// the future ends with [`Error::TimedOut`] (`started: false`).
    ///
    /// If the system refuses the thread that keeps the time, the task is withdrawn at once, and the future
    /// ends with [`Error::NoTimer`]; on threads only.
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.options.queue_timeout = Some(limit);
        self
    }

    /// Maximum number of times that the task runs again after a worker process was lost with it. Default: 0.
    /// By this you say that it may run twice: the worker may have died at any point of it. If `n + 1` workers
    /// were lost, the task is given up; the error lists them all.
    pub fn retries(mut self, n: u32) -> Self {
        self.options.retries = n;
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
    /// use concurrent_futures::{Error, StopToken, TaskOptions, ThreadPoolExecutor, task};
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let (request, token) = StopToken::new();
    /// let options = TaskOptions::new().stop_token(&token);
    /// let parts: Vec<_> = (0..100)
    ///     .map(|_| pool.submit_with(&options, || while !task::stop_requested() {}))
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

    /// Returns what the task keeps. Its label is its name, if it was given none.
    pub(crate) fn named(self, name: impl MaybeExtra) -> Options {
        let label = self.options.label.or_else(|| name.label().cloned());
        Options { label, ..self.options }
    }

    /// Submits by `submit`, and has the task cancelled by the token. If the token is set already, what
    /// `submit` has captured is dropped.
    pub(crate) fn submit<T, F>(self, submit: F) -> TaskFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> TaskFuture<T>,
    {
        let Ok(future) = self.try_submit(|options| Ok::<_, Infallible>(submit(options)));
        future
    }

    /// As [`submit`](Self::submit), by what may fail.
    pub(crate) fn try_submit<T, E, F>(self, submit: F) -> Result<TaskFuture<T>, E>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> Result<TaskFuture<T>, E>,
    {
        let Some(token) = self.stop.clone() else { return submit(self) };
        if token.stop_requested() {
            drop_quietly(submit); // with the job
            return Ok(TaskFuture::ready(Err(Error::Cancelled)));
        }
        let future = submit(self)?;
        token.attach(future.task());
        Ok(future)
    }
}

impl fmt::Debug for TaskOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { label, timeout, queue_timeout, retries } = &self.options;
        f.debug_struct("TaskOptions")
            .field("label", label)
            .field("timeout", timeout)
            .field("queue_timeout", queue_timeout)
            .field("retries", retries)
            .field("stop_token", &self.stop)
            .finish()
    }
}
