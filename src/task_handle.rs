//! A task as others than the owner of its future see it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::future::FusedFuture;

use crate::clock;
use crate::core::waiters::Place;
use crate::core::{Awaited, TaskId, TaskRef, context};
use crate::future::TaskFuture;

/// A handle of a task that has no part in its result: to cancel the task, or to look at it, after its
/// future was moved into an `await`, a set or another thread. Made by [`TaskFuture::handle`]
/// and [`SharedTask::handle`](crate::SharedTask::handle).
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

    /// Waits until there is a result, which stays with the future. Ready at once if there is one, or was. Any
    /// number may wait, O(1) each; a task that is not waited for in this way costs nothing more.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// # futures::executor::block_on(async {
    /// let pool = ThreadPoolExecutor::new();
    /// let future = pool.submit(|| 6 * 7);
    /// let handle = future.handle();
    /// future.detach();
    /// handle.done().await;
    /// assert!(handle.is_done());
    /// # });
    /// ```
    pub fn done(&self) -> TaskDone {
        TaskDone {
            task: self.clone(),
            place: None,
            is_over: false,
            pending_here: Default::default(),
        }
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

    /// Returns how long the job has run, once the task is done; in a worker process, with decoding its arguments
    /// and encoding its result. `None` until then, and if the task did not run to its end on a worker: it was
    /// withdrawn, its worker was lost, or its result was made by hand. Of a job that has run past its time limit
    /// on a thread it is known when the job has returned. `None` also of an async job.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let future = pool.submit(|| (1..=1_000_000_u64).sum::<u64>());
    /// let handle = future.handle();
    /// future.result()?;
    /// println!("{:?}", handle.run_time().expect("it has run"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn run_time(&self) -> Option<Duration> {
        let state = &self.0.header().state;
        let is_known = state.look().is_done() && !self.0.suspends();
        state.run_time().filter(|_| is_known).map(clock::duration)
    }

    /// The number of the task, as [`TaskFuture::id`].
    pub fn id(&self) -> TaskId {
        self.0.id()
    }

    /// The label of the task, as [`TaskFuture::label`].
    pub fn label(&self) -> Option<&str> {
        self.0.runnable().label().map(|label| &**label)
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

/// The future of [`TaskHandle::done`].
///
/// # Cancel safety
///
/// It can be dropped at any moment, and leaves nothing behind.
#[must_use = "futures do nothing unless polled"]
pub struct TaskDone {
    task: TaskHandle,
    /// The place among those who wait for this task.
    place: Place,
    is_over: bool,
    pending_here: context::Pending,
}

impl Future for TaskDone {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let polled = this.task.0.poll_done(&mut this.place, cx.waker());
        this.is_over = polled.is_ready();
        let task = &this.task;
        this.pending_here.note(&polled, cx, || Awaited::Task(task.id()));
        polled
    }
}

impl FusedFuture for TaskDone {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl Drop for TaskDone {
    fn drop(&mut self) {
        if self.place.is_some() && !self.is_over {
            self.task.0.give_up_done(self.place);
        }
    }
}

impl fmt::Debug for TaskDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskDone").field("task", &self.task).finish_non_exhaustive()
    }
}
