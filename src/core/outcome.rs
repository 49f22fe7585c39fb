//! The caller's side of a task: is it done, what came of it, who is to be told.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::cell::{Cell, Header, Listener, TaskRef, Typed};
use super::context;
use super::set::CompletionSet;
use super::state::{Kind, Listening, Publication, Publish, Slot, Snapshot};
use super::watch::{Callback, Watch};
use crate::error::Error;
use crate::panic::{KeptWaker, drop_quietly};

/// The caller's reference to a task whose result is a `T`. There is one for each task.
///
/// What puts something into the slot or takes the result needs `&mut`; so beside it there is only
/// the publisher. Callbacks may be added by several threads at a time.
pub(crate) struct Outcome<T> {
    task: TaskRef,
    result: PhantomData<fn() -> T>,
}

impl<T> Outcome<T> {
    /// # Safety
    ///
    /// The task's result is a `T`, and there is no other `Outcome` of it.
    pub(super) unsafe fn new(task: TaskRef) -> Self {
        Self { task, result: PhantomData }
    }

    pub(crate) fn task(&self) -> &TaskRef {
        &self.task
    }

    pub(crate) fn look(&self) -> Snapshot {
        self.task.header().state.look()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.look().is_done()
    }

    /// Takes the result, or leaves the waker to be woken by it.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<T, Error>> {
        let now = self.look();
        if now.is_done() {
            return Poll::Ready(self.take());
        }
        let old = match now.listening() {
            Listening::Waker => match self.keep_waker(cx.waker()) {
                None => return Poll::Pending,
                old => old,
            },
            _ => None,
        };
        // Wakers are user code: cloned before the slot is taken, and dropped last.
        let replaced = self.replace_listener(Listener::Waker(KeptWaker::new(cx.waker())));
        let polled = if replaced.is_some() { Poll::Pending } else { Poll::Ready(self.take()) };
        drop((old, replaced));
        polled
    }

    /// Keeps the waker in the slot, if it is as good as this; else takes it out.
    fn keep_waker(&mut self, waker: &Waker) -> Option<Listener> {
        let header = self.task.header();
        let Slot::Owned(listening) = header.state.open_slot() else { return Some(Listener::None) };
        // SAFETY: the slot is this thread's.
        let listener = unsafe { header.empty_slot(listening) };
        if matches!(&listener, Listener::Waker(there) if there.will_wake(waker)) {
            // SAFETY: the slot is this thread's, and was emptied above.
            let waits = unsafe { self.fill(listener) };
            return if waits { None } else { Some(Listener::None) };
        }
        let _is_done = header.state.close_slot(Listening::None);
        Some(listener)
    }

    /// Puts a listener into the slot, and gives the slot back. `false`: the task is done.
    ///
    /// # Safety
    ///
    /// This thread owns the slot, and it is empty.
    #[inline]
    unsafe fn fill(&mut self, listener: Listener) -> bool {
        let header = self.task.header();
        // SAFETY: the caller says so.
        let listening = unsafe { header.fill_slot(listener) };
        let waits = header.state.close_slot(listening);
        if !waits {
            // SAFETY: the task is done, so the slot is still this thread's; `listening` is in it.
            let listener = unsafe { header.empty_slot(listening) };
            drop(listener);
        }
        waits
    }

    /// Has `listener` told about the end, instead of the one that comes back. `None`: it is done.
    fn replace_listener(&mut self, listener: Listener) -> Option<Listener> {
        let header = self.task.header();
        match header.state.open_slot() {
            Slot::Done => None,
            Slot::Owned(listening) => {
                // SAFETY: the slot is this thread's, with `listening` in it.
                let old = unsafe { header.empty_slot(listening) };
                // SAFETY: the slot is this thread's, and was emptied by that.
                unsafe { self.fill(listener) }.then_some(old)
            }
            Slot::Watch => {
                let mut watching = self.watch().0.lock();
                if self.is_done() {
                    drop(watching);
                    return None;
                }
                Some(std::mem::replace(&mut watching.listener, listener))
            }
        }
    }

    /// Has `set` told about the end, instead of any waker. If it is done already, nothing is
    /// registered and the answer is `false`.
    pub(crate) fn listen(&mut self, set: &Arc<CompletionSet>, index: usize) -> bool {
        let listener = || Listener::Set(Arc::clone(set), index);
        !self.is_done() && self.replace_listener(listener()).is_some()
    }

    /// Nobody wants to be told any more.
    pub(crate) fn unlisten(&mut self) {
        drop(self.take_listener());
    }

    fn take_listener(&mut self) -> Option<Listener> {
        if self.look().listening() == Listening::None {
            return None;
        }
        self.replace_listener(Listener::None)
    }

    /// Takes the result of a task that is done.
    pub(crate) fn take(&mut self) -> Result<T, Error> {
        if !self.task.header().state.take() {
            return Err(Error::ResultTaken);
        }
        // SAFETY: `T` is the task's, and this call has set `TAKEN`.
        unsafe { self.task.take() }
    }

    /// Nobody will ask for the result: it is dropped now, or as soon as it is there.
    pub(crate) fn abandon(&mut self) {
        let listener = self.take_listener();
        let before = self.task.header().state.abandon();
        if before.is_untaken() && self.task.header().state.take() {
            // SAFETY: `T` is the task's, and this call has set `TAKEN`.
            unsafe { drop_unseen::<T>(self.task.as_ptr()) };
        }
        drop(listener);
    }

    /// A failure, if it is one, was handed over with the future.
    pub(crate) fn observe_failure(&self) {
        if self.look().is_failed() {
            self.task.header().state.observe();
        }
    }

    /// Calls `callback` with the result: on the thread that publishes it, or here, if it is done.
    pub(crate) fn add_callback(&self, callback: Callback<T>) {
        let state = &self.task.header().state;
        state.observe();
        let watch = self.install_watch();
        let listener = {
            let mut watching = watch.0.lock();
            watching.callbacks.push(callback);
            if !state.look().is_done() || watching.is_lent {
                return;
            }
            watching.is_lent = true;
            std::mem::replace(&mut watching.listener, Listener::None)
        };
        self.run_late_callbacks(watch);
        // Of a task that was done before the watch was there to be seen.
        if let Some(kind) = state.look().kind() {
            tell(listener, kind);
        }
    }

    fn run_late_callbacks(&self, watch: &Watch<T>) {
        let now = self.look();
        let outcome = if now.is_taken() {
            Err(Error::ResultTaken)
        } else {
            // SAFETY: `T` is the task's. The result is lent to this thread, under the watch's
            // lock; the caller's side can't take it, as that needs the only reference to `self`.
            unsafe { self.task.take() }
        };
        loop {
            watch.run_callbacks(&outcome);
            let mut watching = watch.0.lock();
            if watching.callbacks.is_empty() {
                if !now.is_taken() {
                    // SAFETY: it was taken above.
                    unsafe { self.task.put_back(outcome) };
                }
                watching.is_lent = false;
                return;
            }
        }
    }

    /// The watch; makes it if there is none.
    fn install_watch(&self) -> &Watch<T> {
        let header = self.task.header();
        if let Slot::Owned(listening) = header.state.open_slot_for_watch() {
            // SAFETY: the slot is this thread's.
            let listener = unsafe { header.empty_slot(listening) };
            let watch = Box::into_raw(Box::new(Watch::<T>::new(listener)));
            // SAFETY: the slot is this thread's and empty; `T` is the task's; a box is not null.
            unsafe { header.install_watch(NonNull::new_unchecked(watch.cast())) };
            let _is_done = header.state.close_slot(Listening::Watch);
        }
        self.watch()
    }

    fn watch(&self) -> &Watch<T> {
        // SAFETY: `T` is the task's, and the watch lives as long as the task.
        unsafe { watch_of(&self.task) }
    }
}

/// The watch of a task that has one.
///
/// # Safety
///
/// `T` is the type of the task's result, and its state has said `Listening::Watch`.
pub(super) unsafe fn watch_of<T>(task: &TaskRef) -> &Watch<T> {
    // SAFETY: a watch stays until the task is freed.
    unsafe { &*task.header().watch().cast::<Watch<T>>() }
}

/// The publisher's reference, which it gives back, or not.
pub(super) enum Publisher<'a, B, T> {
    Releasing(Typed<Cell<B, T>>),
    Keeping(&'a Typed<Cell<B, T>>),
}

impl<B, T> std::ops::Deref for Publisher<'_, B, T> {
    type Target = Typed<Cell<B, T>>;

    fn deref(&self) -> &Self::Target {
        match self {
            Publisher::Releasing(task) => task,
            Publisher::Keeping(task) => task,
        }
    }
}

/// Stores what came of a task, runs its callbacks, makes it visible and tells the listener.
///
/// `account` runs after the callbacks and before anybody can see the result, so that counters are
/// right for whoever sees it. `ends`: the task, which runs on this thread, ends with it.
///
/// # Safety
///
/// * This thread alone may publish.
/// * If something of this kind is stored, the place is this thread's, and empty.
#[inline]
pub(super) unsafe fn publish<B: Send, T: Send>(
    task: Publisher<'_, B, T>,
    kind: Kind,
    outcome: Result<T, Error>,
    account: impl FnOnce(),
    ends: bool,
) {
    let cell: &Cell<B, T> = &task;
    let now = cell.state().look();
    if now.listening() == Listening::Watch {
        // SAFETY: the caller's duties are the same.
        return unsafe { publish_watched(task, kind, outcome, account, ends) };
    }
    if now.is_abandoned() {
        // SAFETY: by the caller this thread alone may publish; there is no watch.
        return unsafe { publish_unwanted(task, kind, outcome, account, ends) };
    }
    account();
    let outcome = if kind.is_stored() {
        // SAFETY: the place is this thread's, and empty.
        unsafe { cell.store(outcome) };
        None
    } else {
        Some(outcome)
    };
    let mut listener = Listener::None;
    let mut how = Publication {
        kind,
        ends,
        owns_slot: false,
        has_watch_lock: false,
        releases: matches!(task, Publisher::Releasing(_)),
    };
    loop {
        match cell.state().publish(how) {
            Publish::Listener(listening) => {
                // SAFETY: the slot is this thread's.
                listener = unsafe { cell.header().empty_slot(listening) };
                how.owns_slot = true;
            }
            Publish::Watch => {
                // A callback was added meanwhile, and wants to see the result first.
                // SAFETY: nobody else can see yet what was stored.
                let outcome = outcome.unwrap_or_else(|| unsafe { cell.load(kind) });
                // SAFETY: by the caller this thread alone may publish; the place is empty again, if
                // something was stored.
                return unsafe { publish_watched(task, kind, outcome, || (), ends) };
            }
            Publish::Unwanted => {
                keep_busy();
                // SAFETY: `T` is the task's, and that has set `TAKEN`.
                unsafe { drop_unseen::<T>(task.untyped().as_ptr()) };
                break;
            }
            answer @ (Publish::Kept | Publish::Released | Publish::Last) => {
                if let Publisher::Releasing(task) = task {
                    let block = task.into_untyped().forget();
                    if answer == Publish::Last {
                        // SAFETY: that was the last reference.
                        unsafe { TaskRef::free(block) };
                    }
                }
                return tell(listener, kind);
            }
        }
    }
    tell(listener, kind);
}

/// The future was dropped in the last moment, and this worker, if it is one, counts as free already.
#[cold]
fn keep_busy() {
    if let Some(worker) = context::worker() {
        worker.keep_busy();
    }
}

/// As [`publish`], of a result that nobody wants: it is dropped first, while the worker counts as busy,
/// since its destructor is user code.
///
/// # Safety
///
/// This thread alone may publish; if there is a watch, nobody else looks at it any more.
#[cold]
#[inline(never)]
unsafe fn publish_unwanted<B, T>(
    task: Publisher<'_, B, T>,
    kind: Kind,
    outcome: Result<T, Error>,
    account: impl FnOnce(),
    ends: bool,
) {
    drop_outcome(task.untyped(), outcome);
    account();
    let how = Publication { kind, ends, owns_slot: false, has_watch_lock: true, releases: false };
    let answer = task.header().state.publish(how);
    debug_assert!(matches!(answer, Publish::Unwanted | Publish::Kept));
}

/// As [`publish`], for a task with a watch.
///
/// # Safety
///
/// As there; there is a watch.
#[cold]
unsafe fn publish_watched<B: Send, T: Send>(
    task: Publisher<'_, B, T>,
    kind: Kind,
    outcome: Result<T, Error>,
    account: impl FnOnce(),
    ends: bool,
) {
    let cell: &Cell<B, T> = &task;
    // SAFETY: `T` is the task's, and the caller has seen the watch.
    let watch = unsafe { watch_of::<T>(task.untyped()) };
    while watch.run_callbacks(&outcome) {}
    if cell.state().look().is_abandoned() {
        // SAFETY: by the caller this thread alone may publish. The callbacks have seen the outcome,
        // and the caller's side, which alone adds others, is gone.
        return unsafe { publish_unwanted(task, kind, outcome, account, ends) };
    }
    account();
    let how = Publication { kind, ends, owns_slot: false, has_watch_lock: true, releases: false };
    let (listener, answer) = loop {
        let mut watching = watch.0.lock();
        if watching.callbacks.is_empty() {
            if kind.is_stored() {
                // SAFETY: the place is this thread's, and empty.
                unsafe { cell.store(outcome) };
            }
            let answer = cell.state().publish(how);
            break (std::mem::replace(&mut watching.listener, Listener::None), answer);
        }
        drop(watching);
        watch.run_callbacks(&outcome);
    };
    if answer == Publish::Unwanted && kind.is_stored() {
        keep_busy();
        // SAFETY: it was stored above, and nobody else will look.
        drop_quietly(unsafe { cell.load(kind) });
    }
    tell(listener, kind);
}

/// Drops a result that nobody will ask for. If it is a failure that no callback has seen, the pool
/// is told.
///
/// # Safety
///
/// As for [`TaskRef::take`], of a block to which the caller has a reference and keeps it.
// By pointer, since `publish` has its reference in a register as long as no address of it is taken.
#[inline(never)]
unsafe fn drop_unseen<T>(block: NonNull<Header>) {
    // SAFETY: in `ManuallyDrop` this is no reference that counts; the caller's keeps the block.
    let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(block) });
    // SAFETY: the caller has the right to the result, which is a `T`.
    let outcome = unsafe { task.take::<T>() };
    drop_outcome(&task, outcome);
}

/// The same, of a result that is not in its place.
#[inline(never)]
fn drop_outcome<T>(task: &TaskRef, outcome: Result<T, Error>) {
    if let Err(error) = &outcome {
        if !task.header().state.look().is_observed() {
            task.runnable().unobserved(error);
        }
    }
    drop_quietly(outcome);
}

#[inline]
fn tell(listener: Listener, kind: Kind) {
    if matches!(listener, Listener::None) {
        return;
    }
    listener.tell(kind != Kind::VALUE && kind != Kind::CANCELLED);
}
