//! A result without a task behind it: there from the start, or given by hand.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use super::cell::{Cell, Header, TaskRef, VTable, free_block, make_block, put_back};
use super::id::TaskId;
use super::outcome::{Outcome, Publisher, publish};
use super::state::{Kind, Snapshot, State};
use super::task::{Extra, Runnable};
use crate::error::Error;
use crate::panic::drop_quietly;

#[repr(C)]
struct Promised<T> {
    cell: Cell<(), T>,
}

/// The side that gives the result.
pub(crate) struct Promise<T> {
    task: TaskRef,
    result: PhantomData<fn(T)>,
}

impl<T: Send + 'static> Promise<T> {
    pub(crate) fn new() -> (Self, Outcome<T>) {
        let block = Promised::<T>::block(State::promised());
        // SAFETY: the table fits the block, and the state has two references; the result is a `T`.
        unsafe {
            let promise = Self { task: TaskRef::from_raw(block), result: PhantomData };
            (promise, Outcome::new(TaskRef::from_raw(block)))
        }
    }

    /// A result that is there from the start.
    pub(crate) fn kept(outcome: Result<T, Error>) -> Outcome<T> {
        let kind = Kind::of(&outcome);
        let block = Promised::<T>::block(State::finished(kind));
        if kind.is_stored() {
            // SAFETY: nobody else has seen the block yet.
            unsafe { block.cast::<Promised<T>>().as_ref().cell.store(outcome) };
        }
        // SAFETY: the table fits the block, and the state has one reference; the result is a `T`.
        unsafe { Outcome::new(TaskRef::from_raw(block)) }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn into_task(self) -> TaskRef {
        self.task
    }

    pub(crate) fn id(&self) -> TaskId {
        self.task.header().id()
    }

    pub(crate) fn look(&self) -> Snapshot {
        self.task.header().state.look()
    }

    /// Gives the result, unless it was cancelled.
    pub(crate) fn keep(&self, outcome: Result<T, Error>) {
        settle(&self.task, outcome);
    }
}

/// Finishes with `outcome`, if nobody was faster. `T` must be the promise's.
fn settle<T>(task: &TaskRef, outcome: Result<T, Error>) {
    let kind = Kind::of(&outcome);
    if !task.header().state.settle(kind) {
        return drop_quietly(outcome);
    }
    // SAFETY: it is such a cell, as only promises come here; this thread has settled it, so that
    // the place, which was empty, is its own.
    unsafe { publish::<(), T>(Publisher::Keeping(task), kind, outcome, || (), false) };
}

impl<T: Send + 'static> Promised<T> {
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

    fn block(state: State) -> NonNull<Header> {
        make_block(&Self::VTABLE, state, None, |cell| Self { cell })
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

/// It never runs, so the worker's part does nothing.
impl<T: Send + 'static> Runnable for Promised<T> {
    fn extra(&self) -> Option<&Extra> {
        None
    }

    fn take_out(&self) -> bool {
        false
    }

    fn taken_out(&self, _this: &TaskRef, _error: Error) {}

    fn withdraw(&self, _this: &TaskRef, _error: Error) {}

    fn cancel(&self, this: &TaskRef) -> bool {
        settle::<T>(this, Err(Error::Cancelled));
        // Cancelled, or about to be: callbacks still run.
        self.cell.state().look().kind() == Some(Kind::CANCELLED)
    }

    fn withdraw_unstarted(&self, _this: &TaskRef) {}

    fn run_in_place(&self, _this: &TaskRef) {}

    fn wake(&self, _this: &TaskRef) {}

    fn queued_too_long(&self, _this: &TaskRef, _limit: Duration) {}

    fn ran_too_long(&self, _this: &TaskRef, _limit: Duration) {}

    fn is_stop_requested(&self) -> bool {
        false
    }
}
