//! A result without a task of this process behind it: there from the start, given by hand, or by
//! work that is done elsewhere.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use super::cell::{Cell, Header, TaskRef, VTable, free_block, make_block, put_back};
use super::id::TaskId;
use super::outcome::{Outcome, Publisher, publish};
use super::state::{Kind, Snapshot, State};
use super::task::{Extra, Runnable};
use super::unobserved::{OnUnobserved, UnobservedFailure};
use crate::error::Error;
use crate::panic::drop_quietly;

/// Whoever is to complete a promise. The default methods are those of a source that knows only its
/// promise.
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

    /// The number of the task, if it is not that of the promise.
    fn id(&self) -> Option<TaskId> {
        None
    }

    fn extra(&self) -> Option<&Extra> {
        None
    }

    /// The callback for an unobserved failure, and the name of the pool.
    fn on_unobserved(&self) -> Option<(&OnUnobserved, &str)> {
        None
    }
}

/// A promise that the user completes.
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

/// The side that gives the result.
pub(crate) struct Promise<T> {
    task: TaskRef,
    result: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Promise<T> {
    pub(crate) fn new() -> (Self, Outcome<T>) {
        Self::of(())
    }

    pub(crate) fn of<S: Source>(source: S) -> (Self, Outcome<T>) {
        let block = Promised::<T, S>::block(State::promised(), source);
        // SAFETY: the table fits the block, and the state has two references; the result is a `T`.
        unsafe {
            let promise = Self { task: TaskRef::from_raw(block), result: PhantomData };
            (promise, Outcome::new(TaskRef::from_raw(block)))
        }
    }

    /// A result that is there from the start.
    pub(crate) fn kept<S: Source>(outcome: Result<T, Error>, source: S) -> Outcome<T> {
        let kind = Kind::of(&outcome);
        let block = Promised::<T, S>::block(State::finished(kind), source);
        if kind.is_stored() {
            // SAFETY: nobody else has seen the block yet.
            unsafe { block.cast::<Promised<T, S>>().as_ref().cell.store(outcome) };
        }
        // SAFETY: the table fits the block, and the state has one reference; the result is a `T`.
        unsafe { Outcome::new(TaskRef::from_raw(block)) }
    }

    #[cfg(any(feature = "process", test))]
    pub(crate) fn task(&self) -> &TaskRef {
        &self.task
    }

    pub(crate) fn id(&self) -> TaskId {
        self.task.header().id()
    }

    pub(crate) fn look(&self) -> Snapshot {
        self.task.header().state.look()
    }

    /// Gives the result, unless it was cancelled. `account` runs after the callbacks and before
    /// anybody can see the result.
    pub(crate) fn keep(&self, outcome: Result<T, Error>, account: impl FnOnce()) {
        settle(&self.task, outcome, account);
    }
}

/// Finishes with `outcome`, if nobody was faster. `T` must be the promise's.
fn settle<T>(task: &TaskRef, outcome: Result<T, Error>, account: impl FnOnce()) {
    let kind = Kind::of(&outcome);
    if !task.header().state.settle(kind) {
        return drop_quietly(outcome);
    }
    // SAFETY: it is such a cell, as only promises come here; this thread has settled it, so that
    // the place, which was empty, is its own.
    unsafe { publish::<(), T>(Publisher::Keeping(task), kind, outcome, account, false) };
}

impl<T: Send + 'static, S: Source> Promised<T, S> {
    const VTABLE: VTable = VTable {
        runnable: |block| {
            let promised: NonNull<Self> = block.cast();
            promised
        },
        run: |_, _, _| unreachable!("a promise is never queued"),
        take: Self::take,
        put_back: put_back::<(), T>,
        free: Self::free,
    };

    fn block(state: State, source: S) -> NonNull<Header> {
        make_block(&Self::VTABLE, TaskId::next(), state, None, |cell| Self { cell, source })
    }

    fn is_done(&self) -> bool {
        self.cell.state().look().is_done()
    }

    /// Cancelled, or about to be: callbacks still run.
    fn is_cancelled(&self) -> bool {
        self.cell.state().look().kind() == Some(Kind::CANCELLED)
    }

    /// # Safety
    ///
    /// As for [`TaskRef::take`].
    unsafe fn take(block: NonNull<Header>, result: *mut ()) {
        // SAFETY: this function is in the table of promises only.
        let promised = unsafe { block.cast::<Self>().as_ref() };
        // SAFETY: as for this function.
        unsafe { promised.cell.move_out(result, |_| Error::Cancelled) };
    }

    /// # Safety
    ///
    /// There is no reference left.
    unsafe fn free(block: NonNull<Header>) {
        // SAFETY: this function is in the table of promises only, and there is no reference left.
        unsafe { block.cast::<Self>().as_ref().cell.clear() };
        // SAFETY: `block` has made it, there is no reference left, and the cell is cleared.
        unsafe { free_block::<Self>(block) };
    }
}

/// It never runs here, so the worker's part does nothing.
impl<T: Send + 'static, S: Source> Runnable for Promised<T, S> {
    fn extra(&self) -> Option<&Extra> {
        self.source.extra()
    }

    fn id(&self) -> Option<TaskId> {
        self.source.id()
    }

    fn take_out(&self) -> bool {
        false
    }

    fn taken_out(&self, _this: &TaskRef, _error: Error) {}

    fn withdraw(&self, _this: &TaskRef, _error: Error) {}

    fn cancel(&self, this: &TaskRef) -> bool {
        if !self.is_done() && self.source.withdraw(this.header().id(), true) {
            settle::<T>(this, Err(Error::Cancelled), || ());
        }
        self.is_cancelled()
    }

    fn kill(&self, this: &TaskRef) -> bool {
        if !self.is_done() && self.source.kill(this.header().id()) {
            settle::<T>(this, Err(Error::Cancelled), || ());
        }
        self.is_cancelled()
    }

    fn withdraw_unstarted(&self, this: &TaskRef) {
        if self.source.is_withdrawn_on_drop() && self.source.withdraw(this.header().id(), false) {
            settle::<T>(this, Err(Error::Cancelled), || ());
        }
    }

    fn is_running(&self) -> bool {
        self.source.is_running(self.cell.header().id())
    }

    fn run_in_place(&self, _this: &TaskRef) {}

    fn wake(&self, _this: &TaskRef) {}

    fn queued_too_long(&self, _this: &TaskRef, _limit: Duration) {}

    fn ran_too_long(&self, _this: &TaskRef, _limit: Duration) {}

    fn is_stop_requested(&self) -> bool {
        self.source.is_stop_requested()
    }

    fn unobserved(&self, this: &TaskRef, error: &Error) {
        if let Some((on_unobserved, pool)) = self.source.on_unobserved() {
            let label = self.extra().and_then(Extra::label).map(|label| &**label);
            on_unobserved.tell(UnobservedFailure { pool, id: this.id(), label, error });
        }
    }
}
