//! A running job's view of itself.
//!
//! Outside of a job these functions answer as for a job that nobody has asked to stop.

use std::time::Instant;

pub use crate::core::TaskId;

use crate::core::context;
use crate::error::Error;
use crate::stop_token::StopToken;

/// Returns whether this job is asked to stop: its future was cancelled while it ran, its time limit has
/// passed, the map that it belongs to was dropped, or its pool's shutdown deadline has come.
///
/// A job that takes long looks at this now and then and returns early. Cheap: two loads.
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, task};
/// use std::sync::mpsc;
///
/// let pool = ThreadPoolExecutor::new();
/// let (started, running) = mpsc::channel();
/// let future = pool.submit(move || {
///     let _ = started.send(());
///     let mut rounds = 0u64;
///     while !task::stop_requested() {
///         rounds += 1;
///     }
///     rounds
/// });
/// running.recv().unwrap();
/// assert!(!future.cancel()); // it is running, so it is asked to stop
/// assert!(future.result().is_ok());
/// ```
pub fn stop_requested() -> bool {
    context::is_stop_requested()
}

/// [`stop_requested`] for use with `?`, in a job that returns a `Result`.
///
/// # Errors
///
/// If this job is asked to stop: [`Error::TimedOut`] if its [time limit](deadline) has passed, else
/// [`Error::Cancelled`].
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor, task};
///
/// let pool = ThreadPoolExecutor::new();
/// let sum = pool.submit(|| {
///     let mut sum = 0;
///     for n in 0..1_000 {
///         task::checkpoint()?;
///         sum += n;
///     }
///     Ok::<_, Error>(sum)
/// });
/// assert_eq!(sum.result()??, 499_500);
/// # Ok::<(), Error>(())
/// ```
pub fn checkpoint() -> Result<(), Error> {
    if !stop_requested() {
        return Ok(());
    }
    let passed = context::limit().filter(|(_, deadline)| *deadline <= Instant::now());
    Err(passed.map_or(Error::Cancelled, |(limit, _)| Error::TimedOut { limit, started: true }))
}

/// The stop request of this job as a value, for threads that work for it. It is set when
/// [`stop_requested`] is true here. Outside of a job: one that is never set.
///
/// A job that asks for a token costs an allocation or two, a job that does not nothing. An example is at
/// [`StopToken`].
pub fn stop_token() -> StopToken {
    StopToken::of_job()
}

/// When this job reaches the time limit it was given with
/// [`task().timeout(..)`](crate::TaskOptions::timeout).
pub fn deadline() -> Option<Instant> {
    context::limit().map(|(_, deadline)| deadline)
}

/// The number of the task that this job is; `None` outside of a job.
pub fn id() -> Option<TaskId> {
    context::with_task(|task| task.id())
}

/// Has the worker that runs this job take no further one, because the job knows that it has left something
/// bad behind: a library that must not be used again, memory that it can't free. Returns whether that will
/// happen.
///
/// A worker process ends when it has replied, and the next task that needs a worker starts another one. What
/// the worker was sent besides goes to others, as do the items of a map behind this one; none of that has
/// begun, and it costs no retry. The end is no loss: [`Metrics::workers_lost`](crate::Metrics) does not count
/// it.
///
/// `false` on threads, inline, in an initializer, and outside of a job: there are only thread-locals that
/// another thread would have anew.
///
#[cfg_attr(feature = "process", doc = "```")]
#[cfg_attr(not(feature = "process"), doc = "```ignore")]
/// use concurrent_futures::{ProcessPoolExecutor, ThreadPoolExecutor, call, task};
///
/// fn last_job() -> (u32, bool) {
///     let is_last = task::retire_worker();
///     (std::process::id(), is_last)
/// }
///
/// let pool = ProcessPoolExecutor::builder().max_workers(1).build()?;
/// let (first, is_last) = pool.submit(call!(last_job())).result()?;
/// assert!(is_last);
/// assert_ne!(pool.submit(call!(std::process::id())).result()?, first);
///
/// assert!(!ThreadPoolExecutor::new().submit(task::retire_worker).result()?);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn retire_worker() -> bool {
    context::worker().is_some_and(|worker| worker.retire())
}
