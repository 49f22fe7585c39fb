//! Errors of tasks, of submissions, and of making a pool.
//!
//! There is one error type for all executors, so that code which moves from threads to processes
//! keeps its `match`. A job's own `Result` is not an error here but its value:
//! `pool.submit(|| parse(x)).await??`.

use std::any::Any;
use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::panic::{Panicked, Quiet};

/// Why a task has no value, or why there is no pool.
///
/// Every future gets an error of its own; clones are cheap. A job that can fail has two results in one
/// another:
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
///
/// The enum may grow, and so may its variants: match with a wildcard arm and `..`, or ask what you want
/// to know:
///
/// | variant | [`is_refusal`] | [`has_run`] | [`is_retryable`] |
/// | --- | --- | --- | --- |
/// | [`Cancelled`](Self::Cancelled) | | `Unknown`: also a job that ran can be killed or cancelled | |
/// | [`Panicked`](Self::Panicked) | | `Partly` | |
/// | [`TimedOut`](Self::TimedOut) before its start | | `No` | yes |
/// | [`TimedOut`](Self::TimedOut) while it ran | | `Partly` | |
/// | [`WorkerLost`](Self::WorkerLost) | | `Unknown` | |
/// | [`Codec`](Self::Codec) of the arguments | | `No` | |
/// | [`Codec`](Self::Codec) of the result | | `Yes` | |
/// | [`BrokenPool`](Self::BrokenPool) | | `Unknown`: an async job may have begun | |
/// | [`QueueFull`](Self::QueueFull) | yes | `No` | yes |
/// | [`ShutDown`](Self::ShutDown) | yes | `No` | |
/// | [`NoTimer`](Self::NoTimer) | | `No` | yes |
/// | [`InvalidSetting`](Self::InvalidSetting) | yes | `No` | |
/// | [`WouldDeadlock`](Self::WouldDeadlock) | yes | `No` | |
/// | [`ResultTaken`](Self::ResultTaken) | | `Yes` | |
///
/// [`is_refusal`]: Self::is_refusal
/// [`has_run`]: Self::has_run
/// [`is_retryable`]: Self::is_retryable
///
/// `Display` is the text, [`source`](std::error::Error::source) the cause, if there is one. `Debug` is one
/// line with the variant's name, the text and the causes, as a `main` shows it that returns
/// `Err(error)`; `{:#?}` has the fields.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task was withdrawn before it ran: by [`cancel`](crate::TaskFuture::cancel), by a
    /// shutdown with [`Shutdown::CancelQueued`](crate::Shutdown::CancelQueued), or because the
    /// [`Completer`](crate::Completer) of a promise was dropped. Or it was
    /// [killed](crate::TaskFuture::kill), or was an async job that waited when it was cancelled.
    #[error(
        "the task was cancelled and did not run to its end; submit it again if it is still wanted"
    )]
    Cancelled,

    /// The job panicked. The worker lives on.
    #[error(transparent)]
    Panicked(Box<Panicked>),

    /// A time limit of the task passed.
    #[error(
        "the time limit of {limit:?} passed {}; raise the limit or give the task less to do",
        if *.started { "while the task was running" } else { "before the task started" }
    )]
    #[non_exhaustive]
    TimedOut {
        /// The limit that passed.
        limit: Duration,
        /// True if the task had started by then.
        started: bool,
    },

    /// The worker process that ran the task has died. Other tasks are not affected, and the pool
    /// has replaced it. The task may have run in part; with [`retries`] it is run again.
    ///
    #[cfg_attr(feature = "process", doc = "[`retries`]: crate::TaskOptions::retries")]
    #[cfg_attr(not(feature = "process"), doc = "[`retries`]: crate#which-executor")]
    #[error(transparent)]
    WorkerLost(Box<WorkerLost>),

    /// The arguments or the result could not be turned into bytes, or back. The worker lives on.
    #[error(transparent)]
    Codec(Box<CodecError>),

    /// The executor can't run tasks any more. The [`source`](std::error::Error::source) is the cause.
    #[error(transparent)]
    BrokenPool(BrokenPool),

    /// The queue holds as many tasks as `queue_capacity` allows; or that is 0, and no worker is free.
    #[error(
        "{}; use `reserve().await` to wait for room, or shed the load",
        if *.capacity == 0 {
            "no worker is free".to_owned()
        } else {
            format!("the queue is full ({capacity} tasks wait)")
        }
    )]
    #[non_exhaustive]
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
    #[non_exhaustive]
    InvalidSetting {
        /// The setter's name.
        setting: &'static str,
        /// The values that are allowed, and why.
        rule: String,
    },

    /// The system refused the thread that keeps time limits, so the task, which has one, did not run. The
    /// [`source`](std::error::Error::source) is the system's reason. In worker processes limits hold
    /// without that thread.
    #[error(
        "the time limit can't be kept, since the system refused a thread for that; allow more threads, or submit without a limit"
    )]
    NoTimer(#[source] Arc<std::io::Error>),

    /// The result was asked for again after an earlier call had taken it.
    #[error(
        "the result of this task was already taken; keep the value that the first call returned"
    )]
    ResultTaken,
}

/// Extent to which the job of a failed task has run; see [`Error::has_run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HasRun {
    /// None of its code has run.
    No,
    /// It has begun, and did not run to its end.
    Partly,
    /// It has run to its end; only its result is missing.
    Yes,
    /// It may have run not at all, in part, or to its end.
    Unknown,
}

impl Error {
    /// The error of a task whose time limit passed, for tests of code that meets it.
    pub fn timed_out(limit: Duration, started: bool) -> Self {
        Self::TimedOut { limit, started }
    }

    /// The error of a full queue, for tests of code that meets it.
    pub fn queue_full(capacity: usize) -> Self {
        Self::QueueFull { capacity }
    }

    /// Returns whether this was never accepted: the pool, or the call, refused it at once.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::QueueFull { .. }
                | Self::ShutDown
                | Self::InvalidSetting { .. }
                | Self::WouldDeadlock
        )
    }

    /// Returns how far the job has run, as far as the error tells.
    ///
    /// ```
    /// use concurrent_futures::{Error, HasRun, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let error = pool.submit(|| panic!("half way")).result().unwrap_err();
    /// assert_eq!(error.has_run(), HasRun::Partly);
    /// assert_eq!(Error::queue_full(8).has_run(), HasRun::No);
    /// ```
    pub fn has_run(&self) -> HasRun {
        match self {
            Self::Panicked(_) | Self::TimedOut { started: true, .. } => HasRun::Partly,
            Self::Codec(error) => match error.side {
                CodecSide::EncodeArguments | CodecSide::DecodeArguments => HasRun::No,
                CodecSide::EncodeResult | CodecSide::DecodeResult => HasRun::Yes,
                CodecSide::EncodeItem
                | CodecSide::DecodeItem
                | CodecSide::EncodeShared
                | CodecSide::DecodeShared => HasRun::Unknown,
            },
            Self::ResultTaken => HasRun::Yes,
            Self::Cancelled | Self::WorkerLost(_) | Self::BrokenPool(_) => HasRun::Unknown,
            Self::TimedOut { started: false, .. }
            | Self::QueueFull { .. }
            | Self::ShutDown
            | Self::WouldDeadlock
            | Self::InvalidSetting { .. }
            | Self::NoTimer(_) => HasRun::No,
        }
    }

    /// Returns whether the job has not run, and a later submission of the same may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::QueueFull { .. } | Self::TimedOut { started: false, .. } | Self::NoTimer(_)
        )
    }

    /// Returns whether the job panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }

    /// Returns whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Returns whether a time limit of the task passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// Returns the payload of the job's panic, as [`Panicked::into_payload`].
    ///
    /// # Errors
    ///
    /// This error, if it is not that of a panic.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let error = pool.submit(|| std::panic::panic_any(404)).result().unwrap_err();
    /// let payload = error.try_into_panic()?;
    /// assert_eq!(payload.downcast_ref::<i32>(), Some(&404));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        match self {
            Self::Panicked(panicked) => Ok(panicked.into_payload()),
            other => Err(other),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES[usize::from(self.number())];
        if !f.alternate() {
            return write!(f, "{name}: {}", WithCauses(self));
        }
        match self {
            Self::Panicked(panicked) => f.debug_tuple(name).field(panicked).finish(),
            Self::TimedOut { limit, started } => {
                f.debug_struct(name).field("limit", limit).field("started", started).finish()
            }
            Self::WorkerLost(lost) => f.debug_tuple(name).field(lost).finish(),
            Self::Codec(error) => f.debug_tuple(name).field(error).finish(),
            Self::BrokenPool(broken) => f.debug_tuple(name).field(broken).finish(),
            Self::QueueFull { capacity } => {
                f.debug_struct(name).field("capacity", capacity).finish()
            }
            Self::InvalidSetting { setting, rule } => {
                f.debug_struct(name).field("setting", setting).field("rule", rule).finish()
            }
            Self::NoTimer(refusal) => f.debug_tuple(name).field(refusal).finish(),
            Self::Cancelled | Self::ShutDown | Self::WouldDeadlock | Self::ResultTaken => {
                f.write_str(name)
            }
        }
    }
}

/// An error and its causes on one line: a line break is shown as `\n`.
pub(crate) struct WithCauses<'a>(pub(crate) &'a Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            text += &format!(": {cause}");
            next = cause.source();
        }
        f.write_str(&text.replace('\n', "\\n"))
    }
}

impl From<Panicked> for Error {
    fn from(panicked: Panicked) -> Self {
        Self::Panicked(Box::new(panicked))
    }
}

impl From<WorkerLost> for Error {
    fn from(lost: WorkerLost) -> Self {
        Self::WorkerLost(Box::new(lost))
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        Self::Codec(Box::new(error))
    }
}

impl From<BrokenPool> for Error {
    fn from(broken: BrokenPool) -> Self {
        Self::BrokenPool(broken)
    }
}

impl Error {
    /// The variants' names by [`number`](Self::number), for `Debug` texts of futures.
    pub(crate) const NAMES: [&str; 12] = [
        "Cancelled",
        "Panicked",
        "TimedOut",
        "BrokenPool",
        "QueueFull",
        "ShutDown",
        "WouldDeadlock",
        "InvalidSetting",
        "ResultTaken",
        "WorkerLost",
        "Codec",
        "NoTimer",
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
            Error::WorkerLost(_) => 9,
            Error::Codec(_) => 10,
            Error::NoTimer(_) => 11,
        }
    }
}

/// The loss of a worker process while it ran a task.
///
/// Code that meets it is tested with one that is made by hand:
///
/// ```
/// use concurrent_futures::{Error, WorkerLost};
///
/// let mut lost = WorkerLost::default();
/// lost.signal = Some(9);
/// let error = Error::from(lost);
/// assert!(error.to_string().contains("SIGKILL"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerLost {
    /// The number of the process; 0 if it is not known, since it ended before it had begun.
    pub pid: u32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The code that it exited with.
    pub exit_code: Option<i32>,
    /// The cause, if more is known, such as a stack overflow.
    pub cause: Option<LossCause>,
    /// CPU time of all its threads, and of the processes that it had started and waited for. `None` if
    /// nothing was reported of its end.
    pub cpu_time: Option<Duration>,
    /// Largest amount of memory that it had in RAM at a time, in bytes. `None` if nothing was reported of
    /// its end.
    pub peak_memory: Option<u64>,
    /// The last lines that it wrote to stderr, if the pool keeps them ([`WorkerStderr::Tail`]).
    ///
    #[cfg_attr(feature = "process", doc = "[`WorkerStderr::Tail`]: crate::WorkerStderr::Tail")]
    #[cfg_attr(not(feature = "process"), doc = "[`WorkerStderr::Tail`]: crate#which-executor")]
    pub stderr: String,
    /// The workers that the same task has lost before, if it may be run again.
    pub earlier: Vec<WorkerLost>,
}

impl WorkerLost {
    /// The end of the process.
    #[cfg(feature = "process")]
    pub(crate) fn how(&self) -> String {
        struct How<'a>(&'a WorkerLost);
        impl fmt::Display for How<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.describe(f)
            }
        }
        How(self).to_string()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "a worker process ")?,
            pid => write!(f, "worker process {pid} ")?,
        }
        write!(f, "{}", HowEnded { signal: self.signal, exit_code: self.exit_code })?;
        if let Some(cause) = &self.cause {
            write!(f, ", {cause}")?;
        }
        // Memory is what these two signals may be about.
        if let (Some(SIGABRT | SIGKILL), Some(peak)) = (self.signal, self.peak_memory) {
            write!(f, "; it had used up to {} of memory", Mebibytes(peak))?;
        }
        let stderr = self.stderr.trim_end();
        if !stderr.is_empty() {
            write!(f, "; its stderr ends with:\n{stderr}\n")?;
        }
        Ok(())
    }
}

impl fmt::Display for WorkerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the task was lost: ")?;
        self.describe(f)?;
        for earlier in self.earlier.iter().rev() {
            write!(f, "; before that, ")?;
            earlier.describe(f)?;
        }
        write!(f, "; it may have run in part, so submit it again only if it may run twice")
    }
}

impl std::error::Error for WorkerLost {}

/// The cause of the loss of a worker, as far as it is known. `Display` says how sure that is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossCause {
    /// The main thread of the worker used up its stack.
    StackOverflow,
    /// The worker used more memory than its `memory_limit`.
    #[non_exhaustive]
    MemoryLimit {
        /// The limit, in bytes.
        limit: u64,
        /// The memory that the worker was found to use, in bytes. `None` if an allocation failed.
        used: Option<u64>,
        /// False if all that is known is that the worker aborted, as it does when an allocation fails.
        is_certain: bool,
    },
    /// The system probably killed the worker because it was short of memory.
    OutOfMemory,
    /// The pool killed the worker because of what it had sent, which is no valid message.
    #[non_exhaustive]
    Hostile {
        /// The message, in words.
        sent: String,
    },
    /// Something else, which the text says.
    Other(String),
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StackOverflow => f.write_str("stack overflow"),
            Self::MemoryLimit { limit, is_certain: false, .. } => {
                write!(f, "perhaps because the memory limit of {limit} bytes was reached")
            }
            Self::MemoryLimit { limit, used, .. } => {
                write!(f, "memory limit of {limit} bytes reached")?;
                used.map_or(Ok(()), |used| write!(f, ": it used {used}"))
            }
            Self::OutOfMemory => f.write_str("probably by the system, for want of memory"),
            Self::Hostile { sent } => write!(f, "it was killed, since it had sent {sent}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The end of a process in words that follow its name: `exited with exit code 1`.
pub(crate) struct HowEnded {
    pub(crate) signal: Option<i32>,
    pub(crate) exit_code: Option<i32>,
}

impl fmt::Display for HowEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.signal, self.exit_code) {
            (Some(signal), _) => match signal_name(signal) {
                Some(name) => write!(f, "was ended by {name} (signal {signal})"),
                None => write!(f, "was ended by signal {signal}"),
            },
            (None, Some(code)) => write!(f, "exited with exit code {code}"),
            (None, None) => write!(f, "is lost"),
        }
    }
}

/// A number of bytes, in words: `84.0 MiB`.
pub(crate) struct Mebibytes(pub(crate) u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// Numbers of signals. They are the same on all systems.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// The name of a signal that ends processes. The numbers are Linux's, the same on all of its
/// common architectures.
fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 16] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS"),
    ];
    NAMES.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name)
}

/// A value that could not be turned into bytes or back, on its way to or from another process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecError {
    /// Where it happened.
    pub side: CodecSide,
    /// The type that was to be encoded or decoded.
    pub type_name: String,
    /// The error of its `Serialize` or `Deserialize`, or of the codec.
    pub message: String,
}

impl CodecError {
    /// Describes a value of this type that could not be encoded or decoded there.
    pub fn new(side: CodecSide, type_name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { side, type_name: type_name.into(), message: message.into() }
    }
}

/// Where a value could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecSide {
    /// The arguments, where they are submitted.
    EncodeArguments,
    /// The arguments, in the worker.
    DecodeArguments,
    /// The result, in the worker.
    EncodeResult,
    /// The result, where it is wanted.
    DecodeResult,
    /// An item of a channel, where it is sent.
    EncodeItem,
    /// An item of a channel, where it is received.
    DecodeItem,
    /// A value that processes share, where it is written.
    EncodeShared,
    /// A value that processes share, where it is read.
    DecodeShared,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.side {
            CodecSide::EncodeArguments => {
                "the task's arguments could not be encoded for the worker process"
            }
            CodecSide::DecodeArguments => {
                "the task's arguments could not be decoded in the worker process"
            }
            CodecSide::EncodeResult => {
                "the task's result could not be encoded in the worker process"
            }
            CodecSide::DecodeResult => {
                "the task's result of the worker process could not be decoded"
            }
            CodecSide::EncodeItem => "the channel's item could not be encoded",
            CodecSide::DecodeItem => "the channel's item could not be decoded",
            CodecSide::EncodeShared => "the shared value could not be encoded",
            CodecSide::DecodeShared => "the shared value could not be decoded",
        };
        write!(f, "{what} (type {}): {}", self.type_name, self.message)
    }
}

impl std::error::Error for CodecError {}

/// A pool that can't run tasks any more, or a process that could not be started, with the cause, which is its
/// [`source`](std::error::Error::source) as well. Every task that the pool fails carries the same cause.
#[derive(Clone)]
pub struct BrokenPool {
    cause: Arc<Quiet<Box<dyn std::error::Error + Send + Sync>>>,
    /// It is no pool, but a `Process` that could not be started.
    is_process: bool,
}

impl BrokenPool {
    /// Describes a pool that is broken by `cause`: an error, or a string.
    ///
    /// ```
    /// use concurrent_futures::{BrokenPool, Error};
    ///
    /// let error = Error::from(BrokenPool::new("connection refused"));
    /// assert_eq!(
    ///     format!("{error:?}"),
    ///     "BrokenPool: the pool is broken; create a new pool once the cause is fixed: connection refused"
    /// );
    /// ```
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Arc::new(Quiet::new(cause.into())), is_process: false }
    }

    /// Of a process that could not be started.
    #[cfg(feature = "process")]
    pub(crate) fn of_process(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { is_process: true, ..Self::new(cause) }
    }

    /// Of a pool in a process that was forked from the one which has made it.
    pub(crate) fn abroad() -> Self {
        Self::new(
            "it was made before this process was forked, and works in the parent process alone",
        )
    }

    /// The cause: the initializer's error, its panic as [`Panicked`], or the system's
    /// refusal to start the first worker.
    pub fn cause(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &***self.cause
    }
}

impl fmt::Display for BrokenPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_process {
            "the process could not be started; try again once the cause is fixed"
        } else {
            "the pool is broken; create a new pool once the cause is fixed"
        })
    }
}

impl fmt::Debug for BrokenPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokenPool").field("cause", &self.cause()).finish()
    }
}

impl std::error::Error for BrokenPool {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause())
    }
}

/// A submission that was refused, with the job to try again or to run elsewhere.
#[derive(thiserror::Error)]
#[error("the job was not accepted")]
pub struct TrySubmitError<J> {
    job: J,
    #[source]
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
pub struct Unfinished {
    /// Number of futures that had not finished.
    pub unfinished: usize,
    /// Number of futures in all.
    pub total: usize,
}

impl Unfinished {
    /// The error of a set in which `unfinished` of `total` futures had not finished, for tests of code that
    /// meets it.
    ///
    /// ```
    /// use concurrent_futures::Unfinished;
    ///
    /// assert_eq!(Unfinished::new(2, 5).to_string(), "2 (of 5) futures unfinished");
    /// ```
    pub fn new(unfinished: usize, total: usize) -> Self {
        Self { unfinished, total }
    }
}
