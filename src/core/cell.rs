//! The memory of a task: one block for the state, the body and later the result, and what every
//! task has.
//!
//! # Who may touch what
//!
//! 1. The *place* holds the body while the task is queued or suspended; the thread that moved it
//!    to `RUNNING` or `ENDED` takes it out. Nobody else looks at the place.
//! 2. From then on the place is that thread's. It stores the result there before it sets `DONE`,
//!    or, if it was a suspension, the body again.
//! 3. After `DONE` the place is the caller's side's, which moves the result out once (`TAKEN`).
//!    Results that need no memory (cancelled, time limit) are not stored, so a timer can finish a
//!    task while the place is still the worker's.
//! 4. The *slot* belongs to the thread that has set `BUSY`; see [`state`](super::state).
//! 5. Whoever releases the last reference frees the block, with what is still in it.

use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use super::context::WorkerContext;
use super::id::TaskId;
use super::set::CompletionSet;
use super::slab;
use super::state::{Kind, Listening, Snapshot, State};
use super::task::{Claimed, Runnable};
use super::watch::Watch;
use crate::error::Error;
use crate::panic::{KeptWaker, drop_quietly};
use crate::sync::UnsafeCell;

const POSITION_BITS: u32 = slab::Position::BITS;

/// The head of every block, whatever its types.
#[repr(C)]
pub(crate) struct Header {
    vtable: &'static VTable,
    pub(crate) state: State,
    /// The task's number, and in the lowest bits the block's position in its slab.
    id_and_position: u64,
    slot: UnsafeCell<Slot>,
}

/// What depends on the types of a task. The functions take the reference that they are called
/// through; each block is made together with the table that fits it.
pub(super) struct VTable {
    pub(super) runnable: unsafe fn(NonNull<Header>) -> NonNull<dyn Runnable>,
    pub(super) run: fn(TaskRef, &dyn WorkerContext, Claimed),
    /// Moves the result to the `Result<T, Error>` behind the pointer.
    pub(super) take: unsafe fn(NonNull<Header>, *mut ()),
    /// Moves a result back to where it was taken from.
    pub(super) put_back: unsafe fn(NonNull<Header>, *mut ()),
    pub(super) free: unsafe fn(NonNull<Header>),
}

/// Who is told of the end. What is in it is known from [`Listening`] in the state.
union Slot {
    empty: (),
    waker: ManuallyDrop<KeptWaker>,
    set: ManuallyDrop<(Arc<CompletionSet>, usize)>,
    /// A `Box<Watch<T>>`.
    watch: *mut (),
}

/// A listener outside of its slot.
pub(super) enum Listener {
    None,
    Waker(KeptWaker),
    /// A set, and the number of this task in it.
    Set(Arc<CompletionSet>, usize),
}

impl Listener {
    #[inline(never)]
    pub(super) fn tell(self, failed: bool) {
        match self {
            Listener::None => {}
            Listener::Waker(waker) => waker.wake(),
            Listener::Set(set, index) => set.finished(index, failed),
        }
    }
}

impl Header {
    #[inline]
    fn new(vtable: &'static VTable, id: TaskId, state: State, position: slab::Position) -> Self {
        let id_and_position = id.get() << POSITION_BITS | u64::from(position);
        Self { vtable, state, id_and_position, slot: UnsafeCell::new(Slot { empty: () }) }
    }

    pub(crate) fn id(&self) -> TaskId {
        match TaskId::from_number(self.id_and_position >> POSITION_BITS) {
            Some(id) => id,
            None => unreachable!("it was made with one"),
        }
    }

    #[inline]
    fn position(&self) -> slab::Position {
        self.id_and_position as slab::Position
    }

    /// Puts a listener into the slot and tells what it is.
    ///
    /// # Safety
    ///
    /// This thread owns the slot, and it is empty.
    pub(super) unsafe fn fill_slot(&self, listener: Listener) -> Listening {
        let (content, listening) = match listener {
            Listener::None => (Slot { empty: () }, Listening::None),
            Listener::Waker(waker) => (Slot { waker: ManuallyDrop::new(waker) }, Listening::Waker),
            Listener::Set(set, index) => {
                (Slot { set: ManuallyDrop::new((set, index)) }, Listening::Set)
            }
        };
        // SAFETY: the slot is this thread's.
        self.slot.with_mut(|slot| unsafe { *slot = content });
        listening
    }

    /// Takes the listener out of the slot.
    ///
    /// # Safety
    ///
    /// This thread owns the slot, and `listening` is in it; it is not a watch.
    pub(super) unsafe fn empty_slot(&self, listening: Listening) -> Listener {
        // SAFETY: the slot is this thread's and holds what `listening` says; it is not read again
        // before it is filled.
        self.slot.with_mut(|slot| unsafe {
            match listening {
                Listening::Waker => Listener::Waker(ManuallyDrop::take(&mut (*slot).waker)),
                Listening::Set => {
                    let (set, index) = ManuallyDrop::take(&mut (*slot).set);
                    Listener::Set(set, index)
                }
                Listening::None | Listening::Watch => Listener::None,
            }
        })
    }

    /// Puts a watch into the slot, where it stays.
    ///
    /// # Safety
    ///
    /// This thread owns the slot, and it is empty. `watch` is a `Box<Watch<T>>` for the task's `T`.
    pub(super) unsafe fn install_watch(&self, watch: NonNull<()>) {
        // SAFETY: the slot is this thread's.
        self.slot.with_mut(|slot| unsafe { (*slot).watch = watch.as_ptr() });
    }

    /// The watch.
    ///
    /// # Safety
    ///
    /// The state has said `Listening::Watch`.
    pub(super) unsafe fn watch(&self) -> *mut () {
        // SAFETY: a watch stays in the slot, so that all may read where it is.
        self.slot.with(|slot| unsafe { (*slot).watch })
    }
}

/// Where the body lies, and later the result.
union Place<B, T> {
    empty: (),
    body: ManuallyDrop<B>,
    value: ManuallyDrop<T>,
    error: ManuallyDrop<Box<Error>>,
}

/// Header and place. The types that are a task in memory begin with a cell.
#[repr(C)]
pub(super) struct Cell<B, T> {
    header: Header,
    place: UnsafeCell<Place<B, T>>,
}

// SAFETY: place and slot are touched by one thread at a time, by the rules above; what is in them
// moves between threads.
unsafe impl<B: Send, T: Send> Sync for Cell<B, T> {}

impl<B, T> Cell<B, T> {
    fn new(header: Header, body: Option<B>) -> Self {
        let content = match body {
            Some(body) => Place { body: ManuallyDrop::new(body) },
            None => Place { empty: () },
        };
        Self { header, place: UnsafeCell::new(content) }
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    #[inline]
    pub(super) fn state(&self) -> &State {
        &self.header.state
    }

    /// # Safety
    ///
    /// The place is this thread's, and empty.
    pub(super) unsafe fn put_body(&self, body: B) {
        // SAFETY: as above.
        self.place.with_mut(|place| unsafe { *place = Place { body: ManuallyDrop::new(body) } });
    }

    /// # Safety
    ///
    /// The place is this thread's, and there is a body in it.
    pub(super) unsafe fn take_body(&self) -> B {
        // SAFETY: as above; it is not read again before it is filled.
        self.place.with_mut(|place| unsafe { ManuallyDrop::take(&mut (*place).body) })
    }

    /// # Safety
    ///
    /// The place is this thread's, and empty.
    pub(super) unsafe fn store(&self, outcome: Result<T, Error>) {
        let content = match outcome {
            Ok(value) => Place { value: ManuallyDrop::new(value) },
            Err(error) => Place { error: ManuallyDrop::new(Box::new(error)) },
        };
        // SAFETY: the place is this thread's.
        self.place.with_mut(|place| unsafe { *place = content });
    }

    /// Moves a result out that was stored.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and a result of this `kind` is in it.
    pub(super) unsafe fn load(&self, kind: Kind) -> Result<T, Error> {
        // SAFETY: as above; it is not read again before it is filled.
        self.place.with_mut(|place| unsafe {
            if kind == Kind::VALUE {
                Ok(ManuallyDrop::take(&mut (*place).value))
            } else {
                Err(*ManuallyDrop::take(&mut (*place).error))
            }
        })
    }
}

impl<B, T> Cell<B, T> {
    /// Drops what is left in the block. The user's destructors may panic, which ends here.
    ///
    /// # Safety
    ///
    /// There is no reference left, and this is called once.
    pub(super) unsafe fn clear(&self) {
        let now = self.state().look();
        if now.has_body() {
            // SAFETY: nobody else is left to touch the place.
            drop_quietly(unsafe { self.take_body() });
        }
        if let Some(kind) = now.kind().filter(|_| now.has_result()) {
            // SAFETY: as above.
            drop_quietly(unsafe { self.load(kind) });
        }
        let listening = now.listening();
        if listening == Listening::Watch {
            // SAFETY: it was put there as such a box, and nobody else is left to touch it.
            drop_quietly(unsafe { Box::from_raw(self.header.watch().cast::<Watch<T>>()) });
        } else {
            // SAFETY: nobody else is left to touch the slot.
            drop(unsafe { self.header.empty_slot(listening) });
        }
    }
}

impl<B, T> Cell<B, T> {
    /// Moves the result to `result`; one that was not stored is the error that `not_stored` tells.
    ///
    /// # Safety
    ///
    /// As for [`TaskRef::take`]; `result` points to a `Result<T, Error>`.
    pub(super) unsafe fn move_out(
        &self,
        result: *mut (),
        not_stored: impl FnOnce(Snapshot) -> Error,
    ) {
        let now = self.state().look();
        let outcome = match now.kind().filter(|kind| kind.is_stored()) {
            // SAFETY: the caller has the right to the result, and one is stored.
            Some(kind) => unsafe { self.load(kind) },
            None => Err(not_stored(now)),
        };
        // SAFETY: the pointer is to such a result.
        unsafe { result.cast::<Result<T, Error>>().write(outcome) };
    }
}

/// Moves the result back from where [`Cell::move_out`] has moved it.
///
/// # Safety
///
/// The block begins with a `Cell<B, T>`, and `result` is that of the last `move_out`, by this
/// thread.
pub(super) unsafe fn put_back<B, T>(block: NonNull<Header>, result: *mut ()) {
    // SAFETY: as above.
    let cell = unsafe { block.cast::<Cell<B, T>>().as_ref() };
    // SAFETY: the pointer is to such a result, which moves.
    let outcome = unsafe { result.cast::<Result<T, Error>>().read() };
    if cell.state().look().kind().is_some_and(Kind::is_stored) {
        // SAFETY: the place is this thread's, and empty since the result was moved out.
        unsafe { cell.store(outcome) };
    }
}

/// A block with what `make` makes of its cell, which comes first in it.
///
/// `T` is `repr(C)`, and begins with the cell.
pub(super) fn make_block<B, O, T>(
    vtable: &'static VTable,
    id: TaskId,
    state: State,
    body: Option<B>,
    make: impl FnOnce(Cell<B, O>) -> T,
) -> NonNull<Header> {
    let (block, position) = slab::allocate(Layout::new::<T>());
    let value = make(Cell::new(Header::new(vtable, id, state, position), body));
    // SAFETY: the block has the layout of such a value.
    unsafe { block.cast::<T>().write(value) };
    block.cast()
}

/// Frees a block, and drops what it holds besides the cell.
///
/// # Safety
///
/// It was made by [`make_block`] with this type, there is no reference left, and its cell was
/// cleared.
pub(super) unsafe fn free_block<T>(block: NonNull<Header>) {
    // SAFETY: the block is alive until it is freed below.
    unsafe {
        let position = block.as_ref().position();
        block.cast::<T>().drop_in_place();
        slab::free(block.cast(), Layout::new::<T>(), position);
    }
}

/// A reference to a task. The worker's side has nothing else; the caller's side has it in an
/// [`Outcome`](super::outcome::Outcome).
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: a task is shared by the threads of its pool and of its callers, by the rules above. Its
// body, its result and its callbacks are `Send`; each is touched by one thread at a time, by the
// state's transitions, which order these accesses.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// Takes over one of the references that the block's state was made with.
    ///
    /// # Safety
    ///
    /// `block` is from [`make_block`], with a table that fits it; the caller gives a reference away.
    pub(super) unsafe fn from_raw(block: NonNull<Header>) -> Self {
        Self(block)
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> NonNull<Header> {
        self.0
    }

    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: this reference keeps the block alive.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn id(&self) -> TaskId {
        self.runnable().id().unwrap_or_else(|| self.header().id())
    }

    pub(crate) fn runnable(&self) -> &dyn Runnable {
        // SAFETY: the table fits the block, which lives as long as this reference.
        unsafe { (self.header().vtable.runnable)(self.0).as_ref() }
    }

    /// Runs the claimed task on this thread, which is a worker.
    pub(crate) fn run(self, worker: &dyn WorkerContext, claimed: Claimed) {
        (self.header().vtable.run)(self, worker, claimed);
    }

    /// Moves the result out.
    ///
    /// # Safety
    ///
    /// `T` is the type of the task's result. It is done, and this thread has the right to the
    /// result: it has set `TAKEN`, or puts it back before anybody else can look.
    pub(super) unsafe fn take<T>(&self) -> Result<T, Error> {
        let mut outcome = std::mem::MaybeUninit::<Result<T, Error>>::uninit();
        // SAFETY: the table fits the block; the function writes a result of this type.
        unsafe {
            (self.header().vtable.take)(self.0, outcome.as_mut_ptr().cast());
            outcome.assume_init()
        }
    }

    /// Puts a result back.
    ///
    /// # Safety
    ///
    /// It comes from [`take`](Self::take), by this thread.
    pub(super) unsafe fn put_back<T>(&self, outcome: Result<T, Error>) {
        let mut outcome = ManuallyDrop::new(outcome);
        // SAFETY: the table fits the block; the function moves the result out of the pointer.
        unsafe { (self.header().vtable.put_back)(self.0, std::ptr::from_mut(&mut outcome).cast()) };
    }

    /// Gives the reference away; a [`publish`](State::publish) that gave it back.
    #[inline]
    pub(super) fn forget(self) -> NonNull<Header> {
        ManuallyDrop::new(self).0
    }

    /// Frees a block whose last reference is gone.
    ///
    /// # Safety
    ///
    /// There is no reference left.
    pub(super) unsafe fn free(block: NonNull<Header>) {
        // SAFETY: the block is alive until the table's function, which fits it, has freed it.
        unsafe { (block.as_ref().vtable.free)(block) };
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        self.header().state.add_reference();
        Self(self.0)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        if self.header().state.release() {
            // SAFETY: that was the last one.
            unsafe { Self::free(self.0) };
        }
    }
}

/// A task that runs on this thread, for the thread's context: no reference, since the run has one.
#[derive(Clone, Copy)]
pub(crate) struct RunningTask(NonNull<Header>);

impl RunningTask {
    /// # Safety
    ///
    /// It is not used any more when `task` is gone.
    pub(super) unsafe fn new(task: &TaskRef) -> Self {
        Self(task.0)
    }

    pub(super) fn with<R>(self, f: impl FnOnce(&TaskRef) -> R) -> R {
        let task = ManuallyDrop::new(TaskRef(self.0));
        f(&task)
    }
}
