//! Options for one task.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ProcessPoolExecutor;
use crate::core::Options;
use crate::error::TrySubmitError;
use crate::future::TaskFuture;
use crate::job::Call;
use crate::portable::Portable;
use crate::stop_token::StopToken;
use crate::task_handle::submit_until_stopped;

/// Options for one task, then its submission. From [`ProcessPoolExecutor::task`].
///
/// ```
/// use concurrent_futures::{ProcessPoolExecutor, call};
/// use std::time::Duration;
///
/// fn parse(text: String) -> Option<u32> {
///     text.parse().ok()
/// }
///
/// let pool = ProcessPoolExecutor::new()?;
/// let number = pool
///     .task()
///     .label("parse")
///     .timeout(Duration::from_secs(5)) // from its start; then its worker is killed
///     .retries(2) // it may run again if its worker is lost
///     .submit(call!(parse("42".to_owned())));
/// assert_eq!(number.result()?, Some(42));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "options do nothing until a call is submitted with them"]
#[derive(Clone)]
pub struct ProcessTaskOptions<'a> {
    pool: &'a ProcessPoolExecutor,
    options: Options,
    retries: u32,
    stop: Option<StopToken>,
}

impl<'a> ProcessTaskOptions<'a> {
    pub(crate) fn new(pool: &'a ProcessPoolExecutor) -> Self {
        Self { pool, options: Options::default(), retries: 0, stop: None }
    }

    /// A name for people: in the `Debug` text of the future, and in the report of a shutdown.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.options.label = Some(label.into());
        self
    }

    /// A limit on the run, counted from the start of the task. At the limit the future ends with
    /// [`Error::TimedOut`](crate::Error::TimedOut) (`started: true`), and the worker is killed and
    /// replaced.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// A limit on the wait in the queue, counted from the submission. At the limit the task is
    /// withdrawn, and the future ends with [`Error::TimedOut`](crate::Error::TimedOut)
    /// (`started: false`).
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.options.queue_timeout = Some(limit);
        self
    }

    /// Maximum number of times that the task runs again after a worker was lost with it. By this you say that it
    /// may run twice: the worker may have died at any point of it. Default: 0. If `n + 1` workers
    /// were lost, the task is given up; the error lists them all.
    pub fn retries(mut self, n: u32) -> Self {
        self.retries = n;
        self
    }

    /// Has the task cancelled when the token is set, as by [`TaskFuture::cancel`]: one that is queued is
    /// withdrawn, one that runs is asked to stop. If the token is set already, the call is dropped, and the
    /// future is cancelled from the start; the pool does not count it. An example is at
    /// [`TaskOptions::stop_token`](crate::TaskOptions::stop_token).
    pub fn stop_token(mut self, token: &StopToken) -> Self {
        self.stop = Some(token.clone());
        self
    }

    /// As [`ProcessPoolExecutor::submit`].
    pub fn submit<A: Portable, R: Portable>(self, call: Call<A, R>) -> TaskFuture<R> {
        let Self { pool, options, retries, stop } = self;
        let submit = || Ok::<_, Infallible>(pool.submit_with(call, options, retries));
        let Ok(future) = submit_until_stopped(stop, submit);
        future
    }

    /// As [`ProcessPoolExecutor::try_submit`].
    ///
    /// # Errors
    ///
    /// The call, and why it was refused.
    pub fn try_submit<A: Portable, R: Portable>(
        self,
        call: Call<A, R>,
    ) -> Result<TaskFuture<R>, TrySubmitError<Call<A, R>>> {
        let Self { pool, options, retries, stop } = self;
        submit_until_stopped(stop, || pool.try_submit_with(call, options, retries))
    }
}

impl fmt::Debug for ProcessTaskOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessTaskOptions")
            .field("label", &self.options.label)
            .field("timeout", &self.options.timeout)
            .field("queue_timeout", &self.options.queue_timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}
