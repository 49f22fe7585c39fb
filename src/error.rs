//! What can go wrong with a task, with handing one in, and with making a pool.
//!
//! There is one error type for all executors, so that code which moves from threads to processes
//! keeps its `match`. A job's own `Result` is not an error here but its value:
//! `pool.submit(|| parse(x)).await??`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::panic::Panicked;

/// Why a task has no value, or why there is no pool.
///
/// Every future gets an error of its own. The enum may grow; match with a wildcard arm. A job
/// that can fail has two results in one another:
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new();
/// match pool.submit(|| "42".parse::<u32>()).result() {
///     Ok(Ok(number)) => assert_eq!(number, 42),
///     Ok(Err(not_a_number)) => println!("the job says: {not_a_number}"),
///     Err(Error::Panicked(panicked)) => println!("the job broke off: {}", panicked.message()),
///     Err(error) => println!("the job did not run to its end: {error}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task was withdrawn before it ran: by [`cancel`](crate::TaskFuture::cancel), by a
    /// shutdown with [`Shutdown::CancelQueued`](crate::Shutdown::CancelQueued), or because the
    /// [`Completer`](crate::Completer) of a promise was dropped.
    #[error(
        "the task was cancelled and did not run to its end; submit it again if it is still wanted"
    )]
    Cancelled,

    /// The job panicked. The worker lives on.
    #[error("{0}")]
    Panicked(Box<Panicked>),

    /// A time limit passed.
    #[error(
        "the time limit of {limit:?} passed {}; raise the limit or give the task less to do",
        if *.started { "while the task was running" } else { "before the task started" }
    )]
    TimedOut {
        /// The limit that passed.
        limit: Duration,
        /// Whether the task had started by then.
        started: bool,
    },

    /// The executor can't run tasks any more, for the cause given.
    #[error("the pool is broken: {0}; create a new pool once the cause is mended")]
    BrokenPool(BrokenPool),

    /// The queue holds as many tasks as `queue_capacity` allows.
    #[error(
        "the queue is full ({capacity} tasks wait); use `reserve().await` to wait for room, or shed the load"
    )]
    QueueFull {
        /// The pool's `queue_capacity`.
        capacity: usize,
    },

    /// The executor was shut down, or its last handle was dropped, before this was submitted.
    #[error("the executor is shut down and takes no new tasks; submit before `shutdown`")]
    ShutDown,

    /// A job asked to wait, blocking, for the end of the pool that it runs on.
    #[error(
        "a job can't block until its own pool has ended; call `shutdown` there without waiting for it, or wait outside of the pool"
    )]
    WouldDeadlock,

    /// A builder was given a value that makes no sense.
    #[error("{setting} {rule}")]
    InvalidSetting {
        /// The setter's name.
        setting: &'static str,
        /// What is allowed, and why.
        rule: String,
    },

    /// The result was asked for again after an earlier call had taken it.
    #[error(
        "the result of this task was already taken; keep the value that the first call returned"
    )]
    ResultTaken,
}

impl Error {
    /// The variants' names by [`number`](Self::number), for `Debug` texts of futures.
    pub(crate) const NAMES: [&str; 9] = [
        "Cancelled",
        "Panicked",
        "TimedOut",
        "BrokenPool",
        "QueueFull",
        "ShutDown",
        "WouldDeadlock",
        "InvalidSetting",
        "ResultTaken",
    ];

    /// The variant's number.
    pub(crate) fn number(&self) -> u8 {
        match self {
            Error::Cancelled => 0,
            Error::Panicked(_) => 1,
            Error::TimedOut { .. } => 2,
            Error::BrokenPool(_) => 3,
            Error::QueueFull { .. } => 4,
            Error::ShutDown => 5,
            Error::WouldDeadlock => 6,
            Error::InvalidSetting { .. } => 7,
            Error::ResultTaken => 8,
        }
    }
}

/// Why a pool broke. Cloning is cheap; every task that the pool fails carries the same cause.
#[derive(Clone, Debug)]
pub struct BrokenPool {
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

impl BrokenPool {
    pub(crate) fn new(cause: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self { cause: cause.into() }
    }

    /// What broke the pool: the initializer's error, its panic as [`Panicked`], or the system's
    /// refusal to start the first worker.
    pub fn cause(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.cause
    }
}

impl fmt::Display for BrokenPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// A submission that was refused, with the job to try again or to run elsewhere.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct TrySubmitError<J> {
    job: J,
    error: Error,
}

impl<J> TrySubmitError<J> {
    pub(crate) fn new(job: J, error: Error) -> Self {
        Self { job, error }
    }

    /// Why: [`QueueFull`](Error::QueueFull), [`ShutDown`](Error::ShutDown) or
    /// [`BrokenPool`](Error::BrokenPool).
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Gives the job back.
    pub fn into_job(self) -> J {
        self.job
    }

    /// Gives the job and the reason back.
    pub fn into_parts(self) -> (J, Error) {
        (self.job, self.error)
    }
}

impl<J> fmt::Debug for TrySubmitError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySubmitError").field("error", &self.error).finish_non_exhaustive()
    }
}

/// A set of futures did not finish within its time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unfinished} (of {total}) futures unfinished")]
#[non_exhaustive]
pub struct TimedOut {
    /// How many had not finished.
    pub unfinished: usize,
    /// How many there were.
    pub total: usize,
}
