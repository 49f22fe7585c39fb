//! A result without a task of this process behind it: it is there from the start, or is given by hand, or by
//! work that runs elsewhere.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{Block, Cell, Header, TaskRef, Typed, make_block};
use super::id::TaskId;
use super::outcome::{Outcome, Publisher, publish};
use super::runnable::{Claimed, Runnable};
use super::state::{Kind, Snapshot, State};
use super::stop_flag::StopFlag;
use super::task::Extra;
use super::unobserved::{OnUnobserved, UnobservedFailure};
use super::worker::context::WorkerContext;
use crate::error::Error;
use crate::panic::drop_quietly;

/// The origin of a promise's result. The default methods are those of a source that knows only its promise.
pub(crate) trait Source: Send + Sync + 'static {
    /// Keeps the work from starting; with `stop`, asks work that runs to stop. Returns `false` if it
    /// has started or is done.
    fn withdraw(&self, task: TaskId, stop: bool) -> bool;

    /// Ends the work, whether it runs or not. Returns `false` if it is done or can't be ended by force.
    fn kill(&self, _task: TaskId) -> bool {
        false
    }

    /// Returns whether dropping the future withdraws the work.
    fn is_withdrawn_on_drop(&self) -> bool {
        false
    }

    fn is_running(&self, _task: TaskId) -> bool {
        false
    }

    fn is_stop_requested(&self) -> bool {
        false
    }

    /// Returns the stop request that tokens look at, if the promise is a job.
    fn stop_flag(&self) -> Option<Arc<StopFlag>> {
        None
    }

    /// Returns the number of the task, if it is not that of the promise.
    fn id(&self) -> Option<TaskId> {
        None
    }

    fn extra(&self) -> Option<&Extra> {
        None
    }

    /// Returns the callback for an unobserved failure, and the name of the pool.
    fn on_unobserved(&self) -> Option<(&OnUnobserved, &str)> {
        None
    }
}

/// A promise that knows of no work behind it.
impl Source for () {
    fn withdraw(&self, _task: TaskId, _stop: bool) -> bool {
        true
    }

    fn kill(&self, _task: TaskId) -> bool {
        true
    }
}

/// The source of a task that a pool has refused.
pub(crate) struct Refused {
    pub(crate) extra: Extra,
    pub(crate) on_unobserved: OnUnobserved,
    pub(crate) pool: String,
}

impl Source for Refused {
    fn withdraw(&self, _task: TaskId, _stop: bool) -> bool {
        false
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }

    fn on_unobserved(&self) -> Option<(&OnUnobserved, &str)> {
        Some((&self.on_unobserved, &self.pool))
    }
}

#[repr(C)]
struct Promised<T, S> {
    cell: Cell<(), T>,
    source: S,
}

/// The side of a promise that gives the result.
pub(crate) struct Promise<T>(Typed<Cell<(), T>>);

impl<T: Send + 'static> Promise<T> {
    pub(crate) fn of<S: Source>(source: S) -> (Self, Outcome<T>) {
        let block = Promised::<T, S>::block(State::promised(), source);
        // SAFETY: the block is from `make_block`, with a state that has two references. It begins with
        // a `Cell<(), T>`, and this is its one outcome.
        unsafe {
            let promise = Self(Typed::assume(TaskRef::from_raw(block)));
            (promise, Outcome::new(TaskRef::from_raw(block)))
        }
    }

    /// Makes a promise that is done from the start.
    pub(crate) fn kept<S: Source>(outcome: Result<T, Error>, source: S) -> Outcome<T> {
        let kind = Kind::of(&outcome);
        let block = Promised::<T, S>::block(State::finished(kind), source);
        if kind.is_stored() {
            // SAFETY: the block is such a value. No other thread has seen it yet, so its place is this
            // thread's, and it is empty.
            unsafe { block.cast::<Promised<T, S>>().as_ref().cell.store(outcome) };
        }
        // SAFETY: the block is from `make_block`, with a state that has one reference. Its output is a
        // `T`, and this is its one outcome.
        unsafe { Outcome::new(TaskRef::from_raw(block)) }
    }

    #[cfg(test)]
    pub(crate) fn task(&self) -> &TaskRef {
        self.0.untyped()
    }

    /// Runs `body` on this thread as the body of the promise's task.
    #[cfg(feature = "process")]
    pub(crate) fn run_body(&self, body: impl FnOnce()) {
        // A clone, since the frame gives its reference away; this one is for the result.
        super::worker::context::run_in_frame(self.0.clone(), |_| body(), |_, ()| ());
    }

    pub(crate) fn id(&self) -> TaskId {
        self.0.header().id()
    }

    #[cfg(feature = "process")]
    pub(crate) fn look(&self) -> Snapshot {
        self.0.state().look()
    }

    /// Gives the result, unless it was cancelled. `account` runs after the callbacks and before
    /// another thread can see the result.
    pub(crate) fn keep(&self, outcome: Result<T, Error>, account: impl FnOnce()) {
        self.0.settle(outcome, account);
    }
}

impl<T: Send> Typed<Cell<(), T>> {
    /// Finishes a promise with `outcome`, unless it is settled already.
    fn settle(&self, outcome: Result<T, Error>, account: impl FnOnce()) {
        let kind = Kind::of(&outcome);
        // The promise was cancelled or is complete: the result that comes second is dropped.
        if !self.state().settle(kind) {
            return drop_quietly(outcome);
        }
        // SAFETY: this thread has settled it, so that it is the only one to publish. Only promises
        // are such cells; nothing but a publication uses their place, so it is empty.
        unsafe { publish(Publisher::Keeping(self), kind, outcome, account, false) };
    }
}

impl<T: Send + 'static, S: Source> Promised<T, S> {
    fn block(state: State, source: S) -> NonNull<Header> {
        // SAFETY: a promise has ended from the start, so it is not at rest, and there is no body.
        // `kept`, which alone gives it a result, stores that at once.
        unsafe { make_block(TaskId::next(), state, None, |cell| Self { cell, source }) }
    }

    fn is_done(&self) -> bool {
        self.cell.state().look().is_done()
    }

    /// Returns whether the promise is cancelled, or about to be, while its callbacks run.
    fn is_cancelled(&self) -> bool {
        self.cell.state().look().kind() == Some(Kind::CANCELLED)
    }
}

// SAFETY: it is `repr(C)`, and its first field is such a cell.
unsafe impl<T: Send + 'static, S: Source> Block for Promised<T, S> {
    type Body = ();
    type Output = T;

    const SUSPENDS: bool = false;

    fn runnable(task: &Typed<Self>) -> &dyn Runnable {
        task
    }

    fn run(_claimed: Claimed<Typed<Self>>, _worker: &dyn WorkerContext) {
        unreachable!("a promise is never queued")
    }

    fn not_stored(&self, _now: Snapshot) -> Error {
        Error::Cancelled
    }
}

/// A promise never runs here, so the worker's part does nothing.
impl<T: Send + 'static, S: Source> Runnable for Typed<Promised<T, S>> {
    fn extra(&self) -> Option<&Extra> {
        self.source.extra()
    }

    fn id(&self) -> Option<TaskId> {
        self.source.id()
    }

    fn take_out(&self, _why: &Error) -> bool {
        false
    }

    unsafe fn taken_out(&self, _error: Error) {}

    fn withdraw(&self, _error: Error) {}

    fn cancel(&self) -> bool {
        // A result may come between these steps: `settle` decides, and `is_cancelled` tells.
        if !self.is_done() && self.source.withdraw(self.header().id(), true) {
            self.cell().settle(Err(Error::Cancelled), || ());
        }
        self.is_cancelled()
    }

    fn kill(&self) -> bool {
        if !self.is_done() && self.source.kill(self.header().id()) {
            self.cell().settle(Err(Error::Cancelled), || ());
        }
        self.is_cancelled()
    }

    fn withdraw_unstarted(&self) {
        if self.source.is_withdrawn_on_drop() && self.source.withdraw(self.header().id(), false) {
            self.cell().settle(Err(Error::Cancelled), || ());
        }
    }

    fn is_running(&self) -> bool {
        self.source.is_running(self.header().id())
    }

    fn run_in_place(&self) {}

    fn wake(&self) {}

    fn queued_too_long(&self, _limit: Duration) {}

    fn ran_too_long(&self, _limit: Duration) {}

    fn is_stop_requested(&self) -> bool {
        self.source.is_stop_requested()
    }

    fn stop_flags(&self) -> Vec<Arc<StopFlag>> {
        self.source.stop_flag().into_iter().collect()
    }

    fn unobserved(&self, error: &Error) {
        if let Some((on_unobserved, pool)) = self.source.on_unobserved() {
            let label = self.extra().and_then(Extra::label).map(|label| &**label);
            let id = self.untyped().id();
            on_unobserved.tell(UnobservedFailure { pool, id, label, error });
        }
    }
}
