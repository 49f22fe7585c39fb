//! A submission: a body becomes a task.
//!
//! A body's type is known to the caller of [`submit`] and to the table that it makes for the body. All that
//! lies between is given a [`New`], and is compiled once for all bodies: a job costs its user the body, and
//! this table with its functions. `benches/core` measures that.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::sync::Arc;

use super::cell::{Header, NewBlock, Table, TaskRef, Typed};
use super::extra::MaybeExtra;
use super::id::TaskId;
use super::outcome::Outcome;
use super::promise::Failure;
use super::state::State;
use super::task::{Body, Host, Task};
use crate::clock;
use crate::trace::TaskTrace;

/// A body that is about to become a task, whatever its type is. A drop leaks it.
pub(crate) struct New<H: Host, X: MaybeExtra> {
    table: &'static Table,
    /// Where the body lies as long as there is no task.
    body: *mut (),
    /// The task, to which this has a reference.
    task: Cell<Option<NonNull<Header>>>,
    types: PhantomData<Task<H, X>>,
}

/// Makes a task of `body`: `queue` is to [`queue`](New::queue) it. Returns its outcome, or that of the failure.
#[inline]
pub(crate) fn submit<B: Body, H: Host, X: MaybeExtra>(
    body: B,
    queue: impl FnOnce(&New<H, X>) -> Option<Failure>,
) -> Outcome<B::Output> {
    let mut body = MaybeUninit::new(body);
    let new = New::of(&mut body);
    let task = match queue(&new) {
        None => new.into_task(),
        Some(failure) => new.fail(failure),
    };
    // SAFETY: the task, if there is one, was made of such a body. Neither it nor a failure has another outcome.
    unsafe { Outcome::new(task) }
}

/// As [`submit`]. If `queue` fails, the body is returned with the error.
pub(crate) fn try_submit<B: Body, H: Host, X: MaybeExtra, E>(
    body: B,
    queue: impl FnOnce(&New<H, X>) -> Result<(), E>,
) -> Result<Outcome<B::Output>, (B, E)> {
    let mut body = MaybeUninit::new(body);
    let new = New::of(&mut body);
    match queue(&new) {
        // SAFETY: the task was made of such a body, and has no other outcome.
        Ok(()) => Ok(unsafe { Outcome::new(new.into_task()) }),
        Err(error) => {
            new.give_back();
            // SAFETY: there is no task, so the body is where it was, and it was given back.
            Err((unsafe { body.assume_init() }, error))
        }
    }
}

impl<H: Host, X: MaybeExtra> New<H, X> {
    /// It owns the body.
    #[inline]
    fn of<B: Body>(body: &mut MaybeUninit<B>) -> Self {
        let table = Table::of_body::<Task<H, X>, B>();
        Self { table, body: body.as_mut_ptr().cast(), task: Cell::new(None), types: PhantomData }
    }

    /// Makes the task. Returns the queue's reference.
    #[inline]
    pub(crate) fn queue(&self, host: Arc<H>, extra: X, takes_room: bool) -> TaskRef {
        assert!(self.task.get().is_none(), "there is one");
        let state = State::queued(clock::now(), takes_room);
        let id = TaskId::next();
        let trace = if takes_room {
            TaskTrace::new(id.get(), extra.label(), host.name())
        } else {
            TaskTrace::none() // It goes on with what was accepted, and belongs to that.
        };
        let new = NewBlock::allocate(self.table);
        let header = Header::new(&new, id, state);
        let task = Task::new(header, host, extra, trace);
        // SAFETY: the block is new. It is for such a head, and for the body, which is not used any more where it
        // was. The state has two references.
        unsafe {
            new.put_body(self.body);
            new.header().cast().write(task);
            self.task.set(Some(new.header()));
            TaskRef::from_raw(new.header())
        }
    }

    /// Starts the clock of `queue_timeout`, now that the task is queued.
    #[inline]
    pub(crate) fn start_queue_clock(&self) {
        if !X::IS_THERE {
            return;
        }
        if let Some(block) = self.task.get() {
            // SAFETY: the block begins with such a head. In `ManuallyDrop` this is the reference of this side.
            let task = unsafe { Typed::<Task<H, X>>::assume(TaskRef::from_raw(block)) };
            ManuallyDrop::new(task).start_queue_clock();
        }
    }

    /// Makes a task that was refused a body again; `queued` comes back from the queue.
    #[cold]
    pub(crate) fn refused(&self, queued: TaskRef) {
        assert!(self.task.get() == Some(queued.as_ptr()), "it is this one");
        assert!(queued.header().state.is_unseen(), "no other thread has seen the task");
        let header = queued.forget();
        self.task.set(None);
        // SAFETY: both references are given away, and there is no other. The task was never claimed or withdrawn, so
        // what is in the place is a copy of the body that nothing has used: the body is where it was.
        unsafe {
            let block = NewBlock::of(header);
            header.cast::<Task<H, X>>().drop_in_place();
            block.free();
        }
    }

    /// Returns the task, which is there.
    #[inline]
    fn into_task(self) -> TaskRef {
        let Some(block) = self.task.get() else { unreachable!("it was queued") };
        // SAFETY: the reference of this side, which ends here.
        unsafe { TaskRef::from_raw(block) }
    }

    /// Gives the body back to where it lies.
    fn give_back(self) {
        assert!(self.task.get().is_none(), "it was queued");
    }

    /// Drops the body.
    #[cold]
    #[inline(never)]
    fn fail(self, failure: Failure) -> TaskRef {
        assert!(self.task.get().is_none(), "it was queued");
        // SAFETY: there is no task, so the body is where it was; it is not used any more.
        unsafe { self.table.drop_body(self.body) };
        failure.into_task()
    }
}
