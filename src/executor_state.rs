//! The phases of an executor's life.

use std::fmt;

use crate::error::BrokenPool;

/// A phase of an executor's life. From [`ExecutorService::state`](crate::ExecutorService::state).
///
/// ```
/// use concurrent_futures::{ExecutorState, Shutdown, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new();
/// assert!(matches!(pool.state(), ExecutorState::Open));
/// pool.shutdown_blocking(Shutdown::Drain)?;
/// assert!(matches!(pool.state(), ExecutorState::Ended));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ExecutorState {
    /// It takes tasks.
    Open,
    /// It takes no new tasks; what was accepted runs first.
    Draining,
    /// It takes no new tasks, and what had not started was cancelled.
    Cancelling,
    /// All has ended.
    Ended,
    /// It can't run tasks any more.
    Broken(BrokenPool),
}

impl fmt::Display for ExecutorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => write!(f, "is open"),
            Self::Draining => write!(f, "is shut down, and runs what is left"),
            Self::Cancelling => write!(f, "is shut down, and has cancelled what had not started"),
            Self::Ended => write!(f, "has ended"),
            Self::Broken(broken) => write!(f, "is broken ({})", broken.cause()),
        }
    }
}
