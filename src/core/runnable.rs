//! A task as the queue, its worker, timers and wakers know it: without its types.
//!
//! `claim` and `take_out` consume a reference and return the right that they have taken, so that a task is
//! run once, and ended once, by the thread that may.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::cell::TaskRef;
use super::extra::Extra;
use super::id::TaskId;
use super::state::{Claim, Snapshot};
use super::stop_flag::StopFlag;
use super::worker::context::WorkerContext;
use crate::error::Error;
use crate::label::Label;

/// A task, whatever its types: a reference to it to which these were added.
pub(crate) trait Runnable {
    fn extra(&self) -> Option<&Extra>;

    fn label(&self) -> Option<&Label>;

    /// Returns the number of the task, if it is not that of its cell.
    fn id(&self) -> Option<TaskId>;

    /// Returns whether the task runs in a place that its cell knows nothing of.
    fn is_running(&self) -> bool;

    /// Does the first part of [`TaskRef::take_out`].
    fn take_out(&self, why: &Error) -> bool;

    /// Does the second part, which `take_out` has left to [`TakenOut::end`].
    ///
    /// # Safety
    ///
    /// `take_out` has returned `true` for this error, and this is called once for it.
    unsafe fn taken_out(&self, error: Error);

    /// Ends a task that is queued or suspended; a running one is asked to stop.
    fn withdraw(&self, error: Error);

    /// Ends the task, if it does not run at this moment; else asks it to stop. Returns whether it
    /// ended.
    fn cancel(&self) -> bool;

    /// Ends the task, also while it runs, where that is possible; else as `cancel`.
    fn kill(&self) -> bool;

    /// Ends the task if it has not started, since its future is dropped.
    fn withdraw_unstarted(&self);

    /// Runs the task on this thread, if that is a worker of its pool, the task is queued, and
    /// the stack has room.
    fn run_in_place(&self);

    /// Queues the task again. Called by the waker of an async body.
    fn wake(&self);

    /// Withdraws the task from the queue. Called when the clock of `queue_timeout` has run out.
    fn queued_too_long(&self, limit: Duration);

    /// Ends the future, and asks the job to stop. Called when the clock of `timeout` has run out.
    fn ran_too_long(&self, limit: Duration);

    fn is_stop_requested(&self) -> bool;

    /// Returns the flags that tokens of the task look at.
    fn stop_flags(&self) -> Vec<Arc<StopFlag>>;

    /// Reports a failure that is unobserved and will stay so.
    fn unobserved(&self, error: &Error);

    /// Returns the error of a task that is settled and has stored no result.
    fn not_stored(&self, now: Snapshot) -> Error;

    /// Ends a task that is suspended although its last reference is gone, so that nothing can wake it. Called
    /// once; this does not count as a reference, and none may be kept.
    fn abandoned(&self) {}
}

/// A task that was withdrawn from the queue before it started, and that has to be ended, with this error.
#[must_use]
pub(crate) struct TakenOut(TaskRef, Error);

impl TaskRef {
    /// Withdraws a task that has not started, or gives the reference back. Called under the queue's
    /// lock, so that it is counted before another thread can find the queue empty.
    pub(crate) fn take_out(self, why: &Error) -> Result<TakenOut, Self> {
        if self.runnable().take_out(why) { Ok(TakenOut(self, why.clone())) } else { Err(self) }
    }
}

impl TakenOut {
    /// Ends the task. Called without the queue's lock, since it drops the body.
    pub(crate) fn end(self) {
        let Self(task, error) = self;
        // SAFETY: only `TaskRef::take_out` makes a `TakenOut`, when `take_out` has returned `true` for
        // this error, and this consumes it.
        unsafe { task.runnable().taken_out(error) };
    }
}

/// The right to run a task: this thread has moved it to `RUNNING`, so the body is its own.
#[must_use]
pub(crate) struct Claimed<R = TaskRef> {
    task: R,
    /// Set if it has not run before.
    pub(super) first: bool,
    /// Set if it has to give back the room that it took in the queue.
    pub(super) takes_room: bool,
}

impl TaskRef {
    /// Takes the task to run it. `None` if another thread has claimed or ended it.
    pub(crate) fn claim(self) -> Option<Claimed> {
        match self.header().state.claim() {
            Claim::Lost => None,
            Claim::First { takes_room } => Some(Claimed { task: self, first: true, takes_room }),
            // The room was given back at the first claim, when the task started.
            Claim::Again => Some(Claimed { task: self, first: false, takes_room: false }),
        }
    }
}

impl Claimed {
    /// Runs the task on this thread, which is a worker.
    pub(crate) fn run(self, worker: &dyn WorkerContext) {
        TaskRef::run(self, worker);
    }
}

impl<R> Claimed<R> {
    pub(super) fn map<S>(self, f: impl FnOnce(R) -> S) -> Claimed<S> {
        Claimed { task: f(self.task), first: self.first, takes_room: self.takes_room }
    }

    #[inline]
    pub(super) fn task(&self) -> &R {
        &self.task
    }

    #[inline]
    pub(super) fn into_task(self) -> R {
        self.task
    }
}

/// The waker of an async body.
pub(crate) struct TaskWaker(TaskRef);

impl TaskWaker {
    /// Returns the waker that `kept` refers to, as long as there is a clone of it, or a new one. So all
    /// clones share one reference to the task.
    pub(crate) fn get(kept: &mut Weak<Self>, task: &TaskRef) -> Waker {
        // `kept` lies in the body: an `Arc` would keep a task that nothing can wake any more.
        let waker = kept.upgrade().unwrap_or_else(|| {
            let waker = Arc::new(Self(task.clone()));
            *kept = Arc::downgrade(&waker);
            waker
        });
        Waker::from(waker)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.0.runnable().wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.runnable().wake();
    }
}
