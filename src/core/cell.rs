//! The memory of a task: one block for the state, the body and later the result, and what every
//! task has.
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
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::id::TaskId;
use super::listener::{Callbacks, Listener, Watchers};
use super::outcome::callbacks_in;
use super::runnable::{Claimed, Runnable};
use super::set::CompletionSet;
use super::slab;
use super::state::{Kind, Listening, Snapshot, State};
use super::worker::context::WorkerContext;
use crate::error::Error;
use crate::panic::{KeptWaker, drop_quietly};
use crate::sync::UnsafeCell;

const POSITION_BITS: u32 = slab::Position::BITS;

/// The start of every block, the same for all types.
#[repr(C)]
pub(crate) struct Header {
    vtable: &'static VTable,
    pub(crate) state: State,
    /// The task's number, and in the lowest bits the block's position in its slab.
    id_and_position: u64,
    slot: UnsafeCell<Slot>,
}

/// The functions that depend on the types of a task. All of them require a block of the [`Block`]
/// that the table was made for, which [`make_block`] ensures.
struct VTable {
    /// Adds its types to a reference.
    runnable: unsafe fn(&TaskRef) -> &dyn Runnable,
    run: unsafe fn(Claimed, &dyn WorkerContext),
    /// Moves the result to the `Result<T, Error>` behind the pointer.
    take: unsafe fn(NonNull<Header>, *mut ()),
    /// Moves a result back to where it was taken from.
    put_back: unsafe fn(NonNull<Header>, *mut ()),
    with_watchers: unsafe fn(&TaskRef, LookAtWatchers<'_>) -> Listener,
    free: unsafe fn(NonNull<Header>),
    /// [`Block::SUSPENDS`].
    suspends: bool,
}

/// A look at the watchers of a task. Returns the listener that is to be told, if there is one.
type LookAtWatchers<'a> = &'a mut dyn FnMut(&mut Watchers) -> Listener;

impl VTable {
    const fn of<K: Block>() -> Self {
        Self {
            runnable: runnable::<K>,
            run: run::<K>,
            take: take::<K>,
            put_back: put_back::<K>,
            with_watchers: with_watchers::<K::Output>,
            free: free::<K>,
            suspends: K::SUSPENDS,
        }
    }
}

/// The place of the listener. Its content is known from [`Listening`] in the state.
union Slot {
    empty: (),
    waker: ManuallyDrop<KeptWaker>,
    set: ManuallyDrop<(Arc<CompletionSet>, usize)>,
    /// A `Box<Callbacks<T>>`.
    callbacks: *mut (),
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
        // SAFETY: by the caller the slot is this thread's.
        self.slot.with_mut(|slot| unsafe { *slot = content });
        listening
    }

    /// Takes the listener out of the slot.
    ///
    /// # Safety
    ///
    /// This thread owns the slot, and `listening` is in it; it is not `Callbacks`.
    pub(super) unsafe fn empty_slot(&self, listening: Listening) -> Listener {
        // SAFETY: by the caller the slot is this thread's and holds what `listening` says. It counts as
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
    /// This thread owns the slot, and it is empty. `callbacks` is a `Box<Callbacks<T>>` for the task's `T`.
    pub(super) unsafe fn install_callbacks(&self, callbacks: NonNull<()>) {
        // SAFETY: the slot is this thread's.
        self.slot.with_mut(|slot| unsafe { (*slot).callbacks = callbacks.as_ptr() });
    }

    /// Returns the address of the callbacks.
    ///
    /// # Safety
    ///
    /// The state has said `Listening::Callbacks`.
    pub(super) unsafe fn callbacks(&self) -> *mut () {
        // SAFETY: callbacks stay in the slot, and nothing writes to it any more, so all threads may read
        // their address.
        self.slot.with(|slot| unsafe { (*slot).callbacks })
    }
}

/// The place of the body, and later of the result.
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
// SAFETY: the place holds a `B` or a `T`; the slot a waker, a set or callbacks, which and whose
// wakers are `Send`.
unsafe impl<B: Send, T: Send> Send for Cell<B, T> {}

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

    /// Puts the body into the place.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and empty.
    pub(super) unsafe fn put_body(&self, body: B) {
        // SAFETY: by the caller the place is this thread's, and there is nothing in it to be dropped.
        self.place.with_mut(|place| unsafe { *place = Place { body: ManuallyDrop::new(body) } });
    }

    /// Moves the body out of the place.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and there is a body in it.
    pub(super) unsafe fn take_body(&self) -> B {
        // SAFETY: by the caller the place is this thread's and holds a body. It counts as empty from here
        // on, so the body is moved out once.
        self.place.with_mut(|place| unsafe { ManuallyDrop::take(&mut (*place).body) })
    }

    /// Stores a result in the place.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and empty.
    pub(super) unsafe fn store(&self, outcome: Result<T, Error>) {
        let content = match outcome {
            Ok(value) => Place { value: ManuallyDrop::new(value) },
            Err(error) => Place { error: ManuallyDrop::new(Box::new(error)) },
        };
        // SAFETY: by the caller the place is this thread's, and there is nothing in it to be dropped.
        self.place.with_mut(|place| unsafe { *place = content });
    }

    /// Moves a stored result out of the place.
    ///
    /// # Safety
    ///
    /// The place is this thread's, and a result of this `kind` is in it.
    pub(super) unsafe fn load(&self, kind: Kind) -> Result<T, Error> {
        // SAFETY: by the caller the place is this thread's and holds a result of this kind. It counts as
        // empty from here on, so the result is moved out once.
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
    /// Drops what is left in the cell. A panic of the user's destructors ends here.
    ///
    /// # Safety
    ///
    /// There is no reference left, and this is called once.
    pub(super) unsafe fn clear(&self) {
        let now = self.state().look();
        if now.has_body() {
            // SAFETY: without references no other thread can touch the place, and the state says that
            // there is a body in it.
            drop_quietly(unsafe { self.take_body() });
        }
        if let Some(kind) = now.kind().filter(|_| now.has_result()) {
            // SAFETY: without references no other thread can touch the place, and the state says that
            // there is a result of this kind in it.
            drop_quietly(unsafe { self.load(kind) });
        }
        let listening = now.listening();
        if listening == Listening::Callbacks {
            // SAFETY: `install_callbacks` was given such a box, and without references no other thread
            // can touch it.
            drop_quietly(unsafe { Box::from_raw(self.header.callbacks().cast::<Callbacks<T>>()) });
        } else {
            // SAFETY: without references no other thread can touch the slot; `listening` is in it.
            drop(unsafe { self.header.empty_slot(listening) });
        }
    }
}

/// A type that is a task in memory.
///
/// # Safety
///
/// It is `repr(C)`, and its first field is a `Cell<Self::Body, Self::Output>`.
pub(crate) unsafe trait Block: Send + Sync + Sized + 'static {
    type Body: Send + 'static;
    type Output: Send + 'static;

    /// True if a body can be suspended, so that a [`Registry`](super::Registry) may know the task.
    const SUSPENDS: bool;

    /// The reference as the interface of all tasks.
    fn runnable(task: &Typed<Self>) -> &dyn Runnable;

    /// Runs the body on this thread, which is a worker's.
    fn run(claimed: Claimed<Typed<Self>>, worker: &dyn WorkerContext);

    /// Returns the error of a task that is done and has stored no result.
    fn not_stored(&self, now: Snapshot) -> Error;

    /// Ends a task that is suspended although its last reference is gone, so that nothing can wake
    /// it. Called once; `task` does not count as a reference, and none may be kept.
    fn abandoned(_task: &Typed<Self>) {}
}

/// Makes a block with the value that `make` returns for its cell.
///
/// # Safety
///
/// * There is a body exactly if the state is at rest.
/// * If the state has a stored result, the caller stores it before another thread can look.
pub(super) unsafe fn make_block<K: Block>(
    id: TaskId,
    state: State,
    body: Option<K::Body>,
    make: impl FnOnce(Cell<K::Body, K::Output>) -> K,
) -> NonNull<Header> {
    struct Table<K>(PhantomData<K>);
    impl<K: Block> Table<K> {
        const VTABLE: &'static VTable = &VTable::of::<K>();
    }
    let (block, position) = slab::allocate(Layout::new::<K>());
    let value = make(Cell::new(Header::new(Table::<K>::VTABLE, id, state, position), body));
    // SAFETY: the block is new and has the layout of such a value.
    unsafe { block.cast::<K>().write(value) };
    block.cast()
}

// ---- The table ----

/// # Safety
///
/// The task is a `K`.
unsafe fn runnable<K: Block>(task: &TaskRef) -> &dyn Runnable {
    // SAFETY: by the caller the block begins with a `K`.
    K::runnable(unsafe { Typed::assume_ref(task) })
}

/// # Safety
///
/// The claimed task is a `K`.
unsafe fn run<K: Block>(claimed: Claimed, worker: &dyn WorkerContext) {
    // SAFETY: by the caller the block begins with a `K`.
    K::run(claimed.map(|task| unsafe { Typed::assume(task) }), worker);
}

/// # Safety
///
/// The block is a `K`; else as for [`TaskRef::take`], with a `Result<K::Output, Error>` behind `result`.
unsafe fn take<K: Block>(block: NonNull<Header>, result: *mut ()) {
    // SAFETY: the caller says that it is a `K`, which begins with such a cell; the caller's reference
    // keeps it.
    let (task, cell) =
        unsafe { (block.cast::<K>().as_ref(), block.cast::<Cell<K::Body, K::Output>>().as_ref()) };
    let now = cell.state().look();
    let outcome = match now.kind().filter(|kind| kind.is_stored()) {
        // SAFETY: the caller has the right to the result, so the place is this thread's; a result
        // of this kind was stored before `DONE` was set, and this is its one taker.
        Some(kind) => unsafe { cell.load(kind) },
        None => Err(task.not_stored(now)),
    };
    // SAFETY: the caller gives a pointer to memory for such a result.
    unsafe { result.cast::<Result<K::Output, Error>>().write(outcome) };
}

/// # Safety
///
/// The block is a `K`, and `result` points to the result of the last [`take`], by this thread; it
/// moves out from there.
unsafe fn put_back<K: Block>(block: NonNull<Header>, result: *mut ()) {
    // SAFETY: a `K` begins with such a cell; the caller's reference keeps it.
    let cell = unsafe { block.cast::<Cell<K::Body, K::Output>>().as_ref() };
    // SAFETY: the caller gives a pointer to such a result, and does not use it again.
    let outcome = unsafe { result.cast::<Result<K::Output, Error>>().read() };
    if cell.state().look().kind().is_some_and(Kind::is_stored) {
        // SAFETY: the place is this thread's, and empty since `take` moved the result out.
        unsafe { cell.store(outcome) };
    }
}

/// # Safety
///
/// `T` is the type of the task's result.
unsafe fn with_watchers<T>(task: &TaskRef, look: LookAtWatchers<'_>) -> Listener {
    // SAFETY: the caller's duty is the same.
    look(&mut unsafe { callbacks_in::<T>(task) }.0.lock().watchers)
}

/// # Safety
///
/// The block is a `K`, there is no reference left, and this is called once.
unsafe fn free<K: Block>(block: NonNull<Header>) {
    if K::SUSPENDS {
        // SAFETY: the block is a `K`, which is there until it is freed below. In `ManuallyDrop` this
        // is no reference that counts, and `abandoned` keeps none.
        let task = ManuallyDrop::new(unsafe { Typed::<K>::assume(TaskRef::from_raw(block)) });
        if task.header().state.look().is_underway() {
            K::abandoned(&task);
        }
        if task.header().state.look().is_registered() {
            // A registry may still look at it, so the memory stays. That is so in a forked child,
            // whose pool is not its own: the parent's registry is out of its reach.
            return;
        }
    }
    // SAFETY: the block is a `K`, which begins with such a cell; no reference and no registry can
    // lead another thread here, and it is called once.
    unsafe {
        block.cast::<Cell<K::Body, K::Output>>().as_ref().clear();
        let position = block.as_ref().position();
        block.cast::<K>().drop_in_place();
        slab::free(block.cast(), Layout::new::<K>(), position);
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
    /// `block` is from [`make_block`], and the caller gives one of its references away.
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
        // SAFETY: `make_block` has put the table of the block's own type there.
        unsafe { (self.header().vtable.runnable)(self) }
    }

    /// Runs the body of a task that this thread has claimed.
    #[inline]
    pub(super) fn run(claimed: Claimed, worker: &dyn WorkerContext) {
        let run = claimed.task().header().vtable.run;
        // SAFETY: `make_block` has put the table of the block's own type there.
        unsafe { run(claimed, worker) };
    }

    pub(super) fn suspends(&self) -> bool {
        self.header().vtable.suspends
    }

    /// Moves the result out.
    ///
    /// # Safety
    ///
    /// `T` is the type of the task's result. It is done, and this thread has the right to the
    /// result: it has set `TAKEN`, or puts it back before another thread can look.
    pub(super) unsafe fn take<T>(&self) -> Result<T, Error> {
        let mut outcome = MaybeUninit::<Result<T, Error>>::uninit();
        // SAFETY: the table is that of the block's type; by the caller its output is a `T`, and the
        // right to it is this thread's. The function writes the result.
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
        // SAFETY: the table is that of the block's type; the result comes from `take`. The function
        // moves it out of the pointer, and `ManuallyDrop` does not drop it again.
        unsafe { (self.header().vtable.put_back)(self.0, ptr::from_mut(&mut outcome).cast()) };
    }

    /// Calls `look` once, under the lock of the watchers.
    pub(super) fn with_watchers(&self, look: LookAtWatchers<'_>) -> Listener {
        // SAFETY: the table is that of the block's type, so the function is that of its output.
        unsafe { (self.header().vtable.with_watchers)(self, look) }
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
        // SAFETY: the table is that of the block's type. By the caller no reference is left, and
        // only the thread that released the last one comes here, so it is once.
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
    unsafe fn assume_ref(task: &TaskRef) -> &Self {
        // SAFETY: in memory this is nothing but the reference; its promise is the caller's.
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
    pub(super) fn into_untyped(self) -> TaskRef {
        self.task
    }
}

impl<K: Block> Typed<K> {
    /// The reference as one to its cell.
    #[inline]
    pub(super) fn cell(&self) -> &Typed<Cell<K::Body, K::Output>> {
        // SAFETY: a `Block` begins with its cell.
        unsafe { Typed::assume_ref(&self.task) }
    }

    #[inline]
    pub(super) fn into_cell(self) -> Typed<Cell<K::Body, K::Output>> {
        // SAFETY: a `Block` begins with its cell.
        unsafe { Typed::assume(self.task) }
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
