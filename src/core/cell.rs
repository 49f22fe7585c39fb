//! The memory of a task: one block for the state, the body and later the result, and what every
//! task has. What depends on the types of body and result is in the [`Table`] of the block.
//!
//! # Who may touch what
//!
//! 1. The *place* holds the body while the task is queued or suspended; the thread that moved it
//!    to `RUNNING` or `ENDED` takes it out. No other thread looks at the place.
//! 2. From then on the place is that thread's. It stores the result there before it sets `DONE`,
//!    or, if it was a suspension, the body again.
//! 3. After `DONE` the place is the caller's side's, which moves the result out once (`TAKEN`).
//!    Results that need no memory (cancelled, time limit) are not stored, so a timer can finish a
//!    task while the place is still the worker's.
//! 4. The *slot* belongs to the thread that has set `BUSY`; see [`state`](super::state).
//! 5. The thread that releases the last reference frees the block, with what is still in it.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, needs_drop, offset_of, size_of};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::id::TaskId;
use super::listener::{Callbacks, Listener};
use super::runnable::{Claimed, Runnable};
use super::set::CompletionSet;
use super::slab;
use super::state::{Kind, Listening, State};
use super::task::{Body, Polled};
use super::worker::context::WorkerContext;
use crate::error::Error;
use crate::panic::{KeptWaker, Panicked, catch, drop_quietly, quietly};
use crate::sync::UnsafeCell;

const POSITION_BITS: u32 = slab::Position::BITS;

/// The start of every block, the same for all types.
#[repr(C)]
pub(crate) struct Header {
    table: &'static Table,
    pub(crate) state: State,
    /// The task's number, and in the lowest bits the block's position in its slab.
    id_and_position: u64,
    slot: UnsafeCell<Slot>,
    /// Stands for the place, so that a model sees who uses it. It takes no memory.
    place: UnsafeCell<()>,
}

// SAFETY: slot and place are touched by one thread at a time, by the rules above; what is in them moves
// between threads.
unsafe impl Sync for Header {}
// SAFETY: the slot holds a waker, a set or callbacks, the place a body or a result, all of which are `Send`.
unsafe impl Send for Header {}

/// The functions that depend on the body of a task, and on its result. All else is compiled once, for all of them.
pub(super) struct Table {
    head: &'static HeadTable,
    layout: Layout,
    /// Where in the block the place is, in bytes.
    place: usize,
    /// The size of the body, in bytes.
    body: usize,
    /// [`Body::ASYNC`].
    suspends: bool,
    /// Runs the body in the place, and leaves there what remains of it.
    poll: unsafe fn(*mut (), &TaskRef) -> Option<Kind>,
    /// `None` if there is nothing to do.
    drop_body: Option<unsafe fn(*mut ())>,
    drop_value: Option<unsafe fn(*mut ())>,
}

/// The functions that depend on the [`Head`] of a block. Each requires a block with the head that the table was
/// made for.
pub(crate) struct HeadTable {
    /// Adds its types to a reference.
    runnable: unsafe fn(&TaskRef) -> &dyn Runnable,
    run: unsafe fn(Claimed, &dyn WorkerContext),
    drop: unsafe fn(NonNull<Header>),
}

impl HeadTable {
    pub(super) const fn of<K: Head>() -> Self {
        Self { runnable: runnable::<K>, run: run::<K>, drop: drop_head::<K> }
    }
}

/// The place of the listener. Its content is known from [`Listening`] in the state.
union Slot {
    empty: (),
    waker: ManuallyDrop<KeptWaker>,
    set: ManuallyDrop<(Arc<CompletionSet>, usize)>,
    /// A `Box<Callbacks>`.
    callbacks: *mut Callbacks,
}

impl Header {
    /// The header of this block, for the caller to put there.
    #[inline]
    pub(super) fn new(new: &NewBlock, id: TaskId, state: State) -> Self {
        let id_and_position = id.get() << POSITION_BITS | u64::from(new.position);
        let slot = UnsafeCell::new(Slot { empty: () });
        Self { table: new.table, state, id_and_position, slot, place: UnsafeCell::new(()) }
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

    /// Puts a listener into the slot, and returns its kind.
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
        // SAFETY: this thread owns the slot, as is required, so no other reads or writes it. It is empty, so
        // nothing is overwritten that is still to be dropped.
        self.slot.with_mut(|slot| unsafe { *slot = content });
        listening
    }

    /// Takes the listener out of the slot.
    ///
    /// # Safety
    ///
    /// This thread owns the slot, and `listening` is in it; it is not `Callbacks`.
    pub(super) unsafe fn empty_slot(&self, listening: Listening) -> Listener {
        // SAFETY: this thread owns the slot, and what `listening` names is in it, as is required. It counts as
        // empty from here on, so the listener is moved out once.
        self.slot.with_mut(|slot| unsafe {
            match listening {
                Listening::Waker => Listener::Waker(ManuallyDrop::take(&mut (*slot).waker)),
                Listening::Set => {
                    let (set, index) = ManuallyDrop::take(&mut (*slot).set);
                    Listener::Set(set, index)
                }
                Listening::None | Listening::Callbacks => Listener::None,
            }
        })
    }

    /// Puts callbacks into the slot, where they stay.
    ///
    /// # Safety
    ///
    /// This thread owns the slot, and it is empty.
    pub(super) unsafe fn install_callbacks(&self, callbacks: Box<Callbacks>) {
        let callbacks = Box::into_raw(callbacks);
        // SAFETY: this thread owns the slot, as is required, so no other reads or writes it. It is empty, so
        // nothing is overwritten that is still to be dropped.
        self.slot.with_mut(|slot| unsafe { (*slot).callbacks = callbacks });
    }

    /// Returns the callbacks.
    ///
    /// # Safety
    ///
    /// The state has said `Listening::Callbacks`.
    pub(super) unsafe fn callbacks(&self) -> &Callbacks {
        // SAFETY: callbacks stay in the slot for the rest of the task's life, and nothing writes to it any
        // more, so all threads may read their address.
        self.slot.with(|slot| unsafe { &*(*slot).callbacks })
    }

    /// Drops what is in the slot.
    ///
    /// # Safety
    ///
    /// There is no reference left, and this is called once.
    unsafe fn clear_slot(&self) {
        let listening = self.state.look().listening();
        if listening == Listening::Callbacks {
            // SAFETY: `install_callbacks` was given such a box, and without references no other thread
            // can touch it.
            let callbacks = self.slot.with(|slot| unsafe { Box::from_raw((*slot).callbacks) });
            drop_quietly(callbacks);
        } else {
            // SAFETY: without references no other thread can touch the slot; `listening` is in it.
            drop(unsafe { self.empty_slot(listening) });
        }
    }
}

/// The place of the body, and later of the result.
#[repr(C)]
union Place<B, T> {
    body: ManuallyDrop<B>,
    value: ManuallyDrop<T>,
    error: ManuallyDrop<Box<Error>>,
}

/// A block: head and place.
#[repr(C)]
struct Block<K, B, T> {
    head: K,
    place: Place<B, T>,
}

/// The start of a block: its [`Header`], and what its kind of task has besides.
///
/// # Safety
///
/// It is `repr(C)`, and its first field is a `Header`.
pub(crate) unsafe trait Head: Send + Sync + Sized + 'static {
    const TABLE: &'static HeadTable = &HeadTable::of::<Self>();

    /// The reference as the interface of all tasks.
    fn runnable(task: &Typed<Self>) -> &dyn Runnable;

    /// Runs the body on this thread, which is a worker's.
    fn run(claimed: Claimed<Typed<Self>>, worker: &dyn WorkerContext);
}

// ---- Blocks that are made ----

impl Table {
    /// The table of tasks with this head and this body.
    #[inline]
    pub(super) fn of_body<K: Head, B: Body>() -> &'static Self {
        const {
            &Self {
                head: K::TABLE,
                layout: Layout::new::<Block<K, B, B::Output>>(),
                place: offset_of!(Block<K, B, B::Output>, place),
                body: size_of::<B>(),
                suspends: B::ASYNC,
                poll: poll::<B>,
                drop_body: drops::<B>(),
                drop_value: drops::<B::Output>(),
            }
        }
    }

    /// The table of tasks with this head and no body, whose result is a `T`.
    fn of_result<K: Head, T: Send + 'static>() -> &'static Self {
        const {
            &Self {
                head: K::TABLE,
                layout: Layout::new::<Block<K, (), T>>(),
                place: offset_of!(Block<K, (), T>, place),
                body: 0,
                suspends: false,
                poll: no_body,
                drop_body: None,
                drop_value: drops::<T>(),
            }
        }
    }

    /// Drops a body outside of a block.
    ///
    /// # Safety
    ///
    /// The table is that of the body, which is not used any more.
    pub(super) unsafe fn drop_body(&self, body: *mut ()) {
        // SAFETY: the function in the table is for the type of `body`, which is not used any more: both are
        // required.
        unsafe { drop_in_place(self.drop_body, body) };
    }
}

/// The memory of a block. The caller of the functions below knows what is in it.
pub(super) struct NewBlock {
    block: NonNull<u8>,
    position: slab::Position,
    table: &'static Table,
}

impl NewBlock {
    #[inline]
    pub(super) fn allocate(table: &'static Table) -> Self {
        let (block, position) = slab::allocate(table.layout);
        Self { block, position, table }
    }

    /// Returns a block for a task with this head and no body, whose result is a `T`.
    pub(super) fn of_result<K: Head, T: Send + 'static>() -> Self {
        Self::allocate(Table::of_result::<K, T>())
    }

    /// Takes a block back, to be given another head.
    ///
    /// # Safety
    ///
    /// The block has a header.
    pub(super) unsafe fn of(header: NonNull<Header>) -> Self {
        // SAFETY: a header is there, as is required; two of its fields, which never change, are copied.
        let (table, position) = unsafe { (header.as_ref().table, header.as_ref().position()) };
        Self { block: header.cast(), position, table }
    }

    #[inline]
    fn place(&self) -> *mut () {
        // SAFETY: the block has this layout, and so its place lies in it.
        unsafe { self.block.byte_add(self.table.place) }.cast().as_ptr()
    }

    /// The block, once it begins with a head.
    #[inline]
    pub(super) fn header(&self) -> NonNull<Header> {
        self.block.cast()
    }

    /// Moves a body in.
    ///
    /// # Safety
    ///
    /// The table is that of the body, which is not used any more where it was. The place is empty.
    #[inline]
    pub(super) unsafe fn put_body(&self, body: *const ()) {
        // Many closures capture nothing.
        if self.table.body > 0 {
            // SAFETY: the table is the body's, as is required, so there are as many bytes at `body`, and the
            // place is large enough for them. It is empty, so it is not where the body is, which counts as
            // moved from here on.
            unsafe {
                self.place().cast::<u8>().copy_from_nonoverlapping(body.cast(), self.table.body)
            };
        }
    }

    /// # Safety
    ///
    /// There is nothing left in the block, and it is not used any more.
    pub(super) unsafe fn free(&self) {
        // SAFETY: it was allocated with this layout, and got this position.
        unsafe { slab::free(self.block, self.table.layout, self.position) };
    }
}

// ---- The tables ----

/// # Safety
///
/// The task's head is a `K`.
unsafe fn runnable<K: Head>(task: &TaskRef) -> &dyn Runnable {
    // SAFETY: the block begins with a `K`, which is required here too.
    K::runnable(unsafe { Typed::assume_ref(task) })
}

/// # Safety
///
/// The claimed task's head is a `K`.
unsafe fn run<K: Head>(claimed: Claimed, worker: &dyn WorkerContext) {
    // SAFETY: the block begins with a `K`, which is required here too.
    K::run(claimed.map(|task| unsafe { Typed::assume(task) }), worker);
}

/// # Safety
///
/// The block's head is a `K`, which is not used any more.
unsafe fn drop_head<K: Head>(block: NonNull<Header>) {
    // SAFETY: the block begins with a `K`, which is not used any more and so is dropped once: both are required.
    unsafe { block.cast::<K>().drop_in_place() };
}

/// # Safety
///
/// This thread owns the place, which has a `B` in it, of a block for such a body. With a kind, there is a result
/// of this kind in it then; without, the body. If this panics, there is nothing in it.
unsafe fn poll<B: Body>(place: *mut (), task: &TaskRef) -> Option<Kind> {
    // SAFETY: the place is this thread's and has a `B` in it, as is required. It counts as empty from here on, so
    // the body is moved out once.
    let body = unsafe { place.cast::<B>().read() };
    match body.poll(task) {
        Polled::Ready(Ok(value)) => {
            // SAFETY: the place is empty, and large enough for the output.
            unsafe { place.cast::<B::Output>().write(value) };
            Some(Kind::VALUE)
        }
        // SAFETY: the place is empty, and large enough for an error.
        Polled::Ready(Err(panicked)) => Some(unsafe { store_panic(place, panicked) }),
        Polled::Pending(body) => {
            // SAFETY: the place is empty, and large enough for the body.
            unsafe { place.cast::<B>().write(body) };
            None
        }
    }
}

unsafe fn no_body(_place: *mut (), _task: &TaskRef) -> Option<Kind> {
    unreachable!("a promise is never queued")
}

/// # Safety
///
/// The place is this thread's, and empty.
#[cold]
unsafe fn store_panic(place: *mut (), panicked: Panicked) -> Kind {
    // SAFETY: the place is this thread's, and empty, which is required here too.
    unsafe { store_error(place, Error::Panicked(Box::new(panicked))) }
}

/// # Safety
///
/// The place is this thread's, and empty.
unsafe fn store_error(place: *mut (), error: Error) -> Kind {
    let kind = Kind::of_error(&error);
    // SAFETY: the place is this thread's, and empty, as is required. Every place is large enough for a box, and
    // aligned for it.
    unsafe { place.cast::<Box<Error>>().write(Box::new(error)) };
    kind
}

const fn drops<T>() -> Option<unsafe fn(*mut ())> {
    unsafe fn drops<T>(place: *mut ()) {
        // SAFETY: `drop_in_place` is what calls this: of it is required that a `T` is there, which is not used
        // any more.
        unsafe { place.cast::<T>().drop_in_place() };
    }
    if needs_drop::<T>() { Some(drops::<T>) } else { None }
}

/// Drops what is in a place. A panic of the user's destructors ends here.
///
/// # Safety
///
/// It is of the type that `drops` is of, and is not used any more.
#[inline]
unsafe fn drop_in_place(drops: Option<unsafe fn(*mut ())>, place: *mut ()) {
    if let Some(drops) = drops {
        // SAFETY: the place has what `drops` is for, which is not used any more: both are required.
        quietly(|| unsafe { drops(place) });
    }
}

// ---- References ----

/// A reference to a task. It is all that the worker's side has; the caller's side has it in an
/// [`Outcome`](super::outcome::Outcome).
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: what it refers to is a `Block`, which is `Send` and `Sync`: any thread may look at it, and
// any thread may be the one that frees it. The count of references is atomic.
unsafe impl Send for TaskRef {}
// SAFETY: a shared `TaskRef` gives access to a `Block`, which is `Sync`, and can be cloned, which
// gives what `Send` gives.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// Takes over one of the references that the block's state was made with.
    ///
    /// # Safety
    ///
    /// The block begins with a head, and the caller gives one of the references away that its state counts.
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
        // SAFETY: the table is that of the block's own head.
        unsafe { (self.header().table.head.runnable)(self) }
    }

    #[inline]
    pub(super) fn head(&self) -> &'static HeadTable {
        self.header().table.head
    }

    /// Runs the body of a task that this thread has claimed.
    #[inline]
    pub(super) fn run(claimed: Claimed, worker: &dyn WorkerContext) {
        let run = claimed.task().header().table.head.run;
        // SAFETY: the table is that of the block's own head.
        unsafe { run(claimed, worker) };
    }

    pub(crate) fn suspends(&self) -> bool {
        self.header().table.suspends
    }

    // ---- The place ----

    /// The place, which this thread is about to use.
    #[inline]
    fn place(&self) -> *mut () {
        self.header().place.with_mut(|_| ());
        // SAFETY: the table is that of the block, so the place lies in it. The pointer is the block's, not that
        // of the header alone.
        unsafe { self.0.byte_add(self.header().table.place) }.cast().as_ptr()
    }

    /// Runs the body. With a kind, there is a result of this kind in the place then; without, the body.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and there is a body in it.
    #[inline]
    pub(super) unsafe fn poll(&self) -> Option<Kind> {
        let (poll, place) = (self.header().table.poll, self.place());
        // SAFETY: the table is that of the block's own body. The place is this thread's, and that body is in it,
        // as is required.
        let polled = catch(|| unsafe { poll(place, self) });
        let place = self.place();
        match polled {
            Ok(kind) => kind,
            // SAFETY: the place is this thread's, and `poll` has left it empty.
            Err(panicked) => Some(unsafe { store_panic(place, panicked) }),
        }
    }

    /// Drops the body. A panic of its destructor ends here.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and there is a body in it, which is not used any more.
    pub(super) unsafe fn drop_body(&self) {
        // SAFETY: the table is that of the block's own body. The place is this thread's, and that body is in it
        // and not used any more, as is required.
        unsafe { drop_in_place(self.header().table.drop_body, self.place()) };
    }

    /// Stores a value.
    ///
    /// # Safety
    ///
    /// `T` is the type of the task's result. The place is this thread's, and empty.
    pub(super) unsafe fn store_value<T>(&self, value: T) {
        // SAFETY: the task's result is a `T`, so the place is large enough and aligned for one. It is this
        // thread's, and empty, as is required.
        unsafe { self.place().cast::<T>().write(value) };
    }

    /// Stores an error of a kind that is stored.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and empty.
    pub(super) unsafe fn store_error(&self, error: Error) -> Kind {
        // SAFETY: the place is this thread's, and empty, which is required here too.
        unsafe { store_error(self.place(), error) }
    }

    /// Returns the stored error, if a result of this kind is one.
    ///
    /// # Safety
    ///
    /// The place is this thread's, with a result of this kind in it, which stays there for as long as the error
    /// is looked at.
    pub(super) unsafe fn stored_error(&self, kind: Kind) -> Option<&Error> {
        if kind == Kind::VALUE || !kind.is_stored() {
            return None;
        }
        // SAFETY: the place is this thread's, with a result of this kind in it, as is required; one that is stored
        // and no value is such a box. It stays there for as long as the error is looked at, as is required.
        Some(unsafe { &*self.place().cast::<Box<Error>>() })
    }

    /// Moves a result of this kind out; one that is not stored is made.
    ///
    /// # Safety
    ///
    /// `T` is the type of the task's result. The place is this thread's, with a result of this kind in it, if it
    /// is stored. It is taken once, or after it was stored again.
    #[inline]
    pub(super) unsafe fn take<T>(&self, kind: Kind) -> Result<T, Error> {
        if kind == Kind::VALUE {
            // SAFETY: the place is this thread's, with a value in it, which is a `T`, and it is taken once: all of
            // that is required.
            Ok(unsafe { self.place().cast::<T>().read() })
        } else {
            // SAFETY: the place is this thread's, with a result of this kind in it, if it is stored, and it is
            // taken once: that is required here too.
            Err(unsafe { self.take_error(kind) })
        }
    }

    /// As [`take`](Self::take), of a failure.
    ///
    /// # Safety
    ///
    /// The place is this thread's, with a result of this kind in it, if it is stored. It is no value, and is taken
    /// once.
    #[cold]
    unsafe fn take_error(&self, kind: Kind) -> Error {
        if kind.is_stored() {
            // SAFETY: the place is this thread's, with a result of this kind in it, which is taken once, as is
            // required; one that is stored and no value is such a box.
            *unsafe { self.place().cast::<Box<Error>>().read() }
        } else {
            self.runnable().not_stored(self.header().state.look())
        }
    }

    /// Drops a result of this kind, if it is stored. A panic of its destructor ends here.
    ///
    /// # Safety
    ///
    /// The place is this thread's, with a result of this kind in it, which is not used any more.
    pub(super) unsafe fn drop_result(&self, kind: Kind) {
        if kind == Kind::VALUE {
            // SAFETY: the table is that of the block's own value. The place is this thread's, and the value is in
            // it and not used any more, as is required.
            unsafe { drop_in_place(self.header().table.drop_value, self.place()) };
        } else if kind.is_stored() {
            // SAFETY: the place is this thread's, with a result of this kind in it that is not used any more, as
            // is required; one that is stored and no value is such a box.
            drop_quietly(unsafe { self.place().cast::<Box<Error>>().read() });
        }
    }

    // ---- The end ----

    /// Gives the reference away; a [`publish`](State::publish) that gave it back.
    #[inline]
    pub(super) fn forget(self) -> NonNull<Header> {
        ManuallyDrop::new(self).0
    }

    /// Frees a block whose last reference is gone.
    ///
    /// # Safety
    ///
    /// There is no reference left, and this is called once.
    pub(super) unsafe fn free(block: NonNull<Header>) {
        // In `ManuallyDrop` this is no reference that counts.
        let task = ManuallyDrop::new(Self(block));
        let (table, position) = (task.header().table, task.header().position());
        let state = &task.header().state;
        if table.suspends {
            if state.look().is_underway() {
                task.runnable().abandoned();
            }
            if state.look().is_registered() {
                // A registry may still look at it, so the memory stays. That is so in a forked child,
                // whose pool is not its own: the parent's registry is out of its reach.
                return;
            }
        }
        // SAFETY: no reference is left, as is required, and no registry has the task, or this has returned above; so
        // nothing leads another thread here, and what is in the block is dropped once, as this is called once. The
        // table is that of the block, and the position the one that it was allocated with.
        unsafe {
            if !state.look().is_emptied() {
                task.clear();
            }
            (table.head.drop)(block);
            slab::free(block.cast(), table.layout, position);
        }
    }

    /// Drops what is left in place and slot.
    ///
    /// # Safety
    ///
    /// There is no reference left, and this is called once.
    #[inline(never)]
    unsafe fn clear(&self) {
        let now = self.header().state.look();
        // SAFETY: without references no other thread can touch place and slot, and the state says what is in them.
        unsafe {
            if now.has_body() {
                self.drop_body();
            }
            if let Some(kind) = now.kind().filter(|_| now.has_result()) {
                self.drop_result(kind);
            }
            self.header().clear_slot();
        }
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
            // SAFETY: `release` has given the last reference back.
            unsafe { Self::free(self.0) };
        }
    }
}

/// A reference to a task whose block is known to begin with a `K`.
#[repr(transparent)]
pub(crate) struct Typed<K> {
    task: TaskRef,
    types: PhantomData<fn() -> K>,
}

impl<K> Typed<K> {
    /// # Safety
    ///
    /// The block begins with a `K`.
    pub(super) unsafe fn assume(task: TaskRef) -> Self {
        Self { task, types: PhantomData }
    }

    /// # Safety
    ///
    /// The block begins with a `K`.
    #[inline]
    pub(super) unsafe fn assume_ref(task: &TaskRef) -> &Self {
        // SAFETY: in memory a `Typed` is nothing but the reference (`repr(transparent)`). What it promises, that
        // the block begins with a `K`, is required.
        unsafe { &*ptr::from_ref(task).cast() }
    }

    #[inline]
    pub(crate) fn untyped(&self) -> &TaskRef {
        &self.task
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        self.task.header()
    }

    #[inline]
    pub(super) fn state(&self) -> &State {
        &self.task.header().state
    }

    #[inline]
    pub(super) fn into_untyped(self) -> TaskRef {
        self.task
    }
}

/// Every block begins with a header.
impl From<TaskRef> for Typed<Header> {
    fn from(task: TaskRef) -> Self {
        // SAFETY: that.
        unsafe { Self::assume(task) }
    }
}

impl<K> Clone for Typed<K> {
    fn clone(&self) -> Self {
        Self { task: self.task.clone(), types: PhantomData }
    }
}

impl<K: Sync> Deref for Typed<K> {
    type Target = K;

    #[inline]
    fn deref(&self) -> &K {
        // SAFETY: the block begins with a `K`, as was promised when the types were added, and this
        // reference keeps it. A `K` may be looked at by all threads.
        unsafe { self.task.0.cast().as_ref() }
    }
}

/// The task that runs on this thread, for the thread's context. It is no reference, since the run has one.
#[derive(Clone, Copy)]
pub(crate) struct RunningTask(NonNull<Header>);

impl RunningTask {
    /// # Safety
    ///
    /// It is not used any more once `task` is given away or dropped.
    pub(super) unsafe fn new(task: &TaskRef) -> Self {
        Self(task.0)
    }

    pub(super) fn with<R>(self, f: impl FnOnce(&TaskRef) -> R) -> R {
        // No reference that counts; the run has one.
        let task = ManuallyDrop::new(TaskRef(self.0));
        f(&task)
    }
}
