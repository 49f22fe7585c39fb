//! A task as others than the owner of its future see it.

use std::fmt;

use crate::core::{TaskId, TaskRef};
use crate::future::TaskFuture;

/// A handle of a task that has no part in its result: to cancel the task, or to look at it, after its
/// future was moved into an `await`, a set or another thread. Made by [`TaskFuture::handle`].
///
/// Clones are cheap. A handle keeps the task's memory, and not the task: dropping the future does what it
/// does without one, and dropping the handle does nothing.
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor, task};
///
/// let pool = ThreadPoolExecutor::new();
/// let future = pool.submit(|| {
///     while !task::stop_requested() {}
/// });
/// let handle = future.handle();
/// let client = std::thread::spawn(move || future.result());
/// handle.cancel();
/// let _ = client.join().unwrap(); // not for ever
/// assert!(handle.is_done());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct TaskHandle(TaskRef);

impl<T> TaskFuture<T> {
    /// Returns a handle, to cancel the task or to look at it from elsewhere.
    pub fn handle(&self) -> TaskHandle {
        TaskHandle(self.task())
    }
}

impl TaskHandle {
    /// Withdraws the task, as [`TaskFuture::cancel`].
    pub fn cancel(&self) -> bool {
        self.0.runnable().cancel()
    }

    /// Ends the task for certain, if it runs in a worker process, as [`TaskFuture::kill`].
    pub fn kill(&self) -> bool {
        self.0.runnable().kill()
    }

    /// Returns whether there is a result, or was one that has been taken.
    pub fn is_done(&self) -> bool {
        self.0.header().state.look().is_done()
    }

    /// Returns whether the task has started and not finished, as [`TaskFuture::is_running`].
    pub fn is_running(&self) -> bool {
        let now = self.0.header().state.look();
        !now.is_done() && (now.is_underway() || self.0.runnable().is_running())
    }

    /// Returns whether the task ended with [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn is_cancelled(&self) -> bool {
        self.0.header().state.look().is_cancelled()
    }

    /// The number of the task, as [`TaskFuture::id`].
    pub fn id(&self) -> TaskId {
        self.0.id()
    }

    /// The label of the task, as [`TaskFuture::label`].
    pub fn label(&self) -> Option<&str> {
        self.0.runnable().extra().and_then(|extra| extra.label()).map(|label| &**label)
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TaskHandle");
        debug.field("id", &self.id());
        if let Some(label) = self.label() {
            debug.field("label", &label);
        }
        debug.field("is_done", &self.is_done()).finish()
    }
}
