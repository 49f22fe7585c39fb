//! Room for one task.

use std::fmt;

use super::{Executor, TaskBuilder};
use crate::future::TaskFuture;
use crate::job::PortableCall;
use crate::task_options::TaskOptions;

/// Room for one task in an executor's queue, from `reserve`.
///
/// # Drop
///
/// Gives the room back, to the next who waits in `reserve`.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::builder().queue_capacity(100).build()?;
/// let permit = pool.reserve().await?; // waits while 100 tasks wait
/// let answer = permit.submit(|| 6 * 7).await?;
/// assert_eq!(answer, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a Permit gives its room back; call `submit` on it"]
pub struct Permit<E: Executor> {
    /// Taken when it is used.
    executor: Option<E>,
}

impl<E: Executor> Permit<E> {
    pub(crate) fn new(executor: E) -> Self {
        Self { executor: Some(executor) }
    }

    /// Submits a call into the room; for code that is generic over the executor. It fails only
    /// if the executor was shut down or broke meanwhile: then the future is finished with that
    /// error.
    pub fn submit_call<C: PortableCall>(self, call: C) -> TaskFuture<C::Output> {
        self.into_executor().submit_options(call, TaskOptions::new(), true)
    }

    /// Options for the task that takes the room, then its submission.
    pub fn task(self) -> TaskBuilder<Self> {
        TaskBuilder::new(self)
    }

    /// The room is the caller's now.
    pub(crate) fn into_executor(mut self) -> E {
        match self.executor.take() {
            Some(executor) => executor,
            None => unreachable!("a permit is used once"),
        }
    }
}

impl<E: Executor> Drop for Permit<E> {
    fn drop(&mut self) {
        if let Some(executor) = &self.executor {
            executor.release_room();
        }
    }
}

impl<E: Executor> fmt::Debug for Permit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
