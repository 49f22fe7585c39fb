//! The caller's side of a task: looks whether it is done, takes the result, leaves a listener. And the
//! publication, which is what that side meets.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::cell::{Cell, Header, TaskRef, Typed};
use super::listener::{Callback, Callbacks, Listener};
use super::set::CompletionSet;
use super::state::{Kind, Listening, Publication, Publish, Slot, Snapshot};
use super::worker::context;
use crate::error::Error;
use crate::panic::{KeptWaker, drop_quietly, wake_all};

/// The caller's reference to a task whose result is a `T`. There is one for each task.
///
/// A method that uses the slot or takes the result needs `&mut`; so beside it there is only the publisher.
/// Callbacks may be added by several threads at a time.
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
            // A future that is polled again mostly has the same waker: it stays, without a clone.
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

    /// Keeps the waker in the slot if it wakes the same task as `waker`; else takes it out.
    fn keep_waker(&mut self, waker: &Waker) -> Option<Listener> {
        let header = self.task.header();
        // The publisher was faster: `poll` finds the result when it looks again.
        let Slot::Owned(listening) = header.state.open_slot() else { return Some(Listener::None) };
        // SAFETY: `open_slot` has taken the slot for this thread, with `listening` in it.
        let listener = unsafe { header.empty_slot(listening) };
        if matches!(&listener, Listener::Waker(there) if there.will_wake(waker)) {
            // SAFETY: the slot is this thread's, and was emptied above.
            let waits = unsafe { self.fill(listener) };
            return if waits { None } else { Some(Listener::None) };
        }
        // Whether it is done shows when `poll` puts the new waker in.
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
        // SAFETY: by the caller the slot is this thread's, and empty.
        let listening = unsafe { header.fill_slot(listener) };
        let waits = header.state.close_slot(listening);
        // The publisher has set `DONE` beside `BUSY`, so it has not seen this listener.
        if !waits {
            // SAFETY: the task is done, so the slot is still this thread's; `listening` is in it.
            let listener = unsafe { header.empty_slot(listening) };
            drop(listener);
        }
        waits
    }

    /// Puts `listener` in the place of the one that is returned. `None`: the task is done.
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
            Slot::Callbacks => {
                // SAFETY: `T` is the task's, and `open_slot` has seen the callbacks.
                let mut inner = unsafe { callbacks_of::<T>(&self.task) }.0.lock();
                // The publisher sets `DONE` and takes the listener under this lock.
                if self.is_done() {
                    drop(inner);
                    return None;
                }
                Some(std::mem::replace(&mut inner.watchers.listener, listener))
            }
        }
    }

    /// Registers `set` to be told of the end, instead of any waker. `false`: the task is done, and nothing
    /// is registered.
    pub(crate) fn listen(&mut self, set: &Arc<CompletionSet>, index: usize) -> bool {
        let listener = || Listener::Set(Arc::clone(set), index);
        !self.is_done() && self.replace_listener(listener()).is_some()
    }

    /// Removes the listener.
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

    /// Gives the result up: it is dropped now, or as soon as it is there.
    pub(crate) fn abandon(&mut self) {
        // Before `ABANDONED` is set, after which the publisher expects no listener in the slot.
        let listener = self.take_listener();
        let before = self.task.header().state.abandon();
        // Published before that step: the publisher has left the result to this side.
        if before.is_untaken() && self.task.header().state.take() {
            // SAFETY: `T` is the task's, and this call has set `TAKEN`.
            unsafe { drop_unseen::<T>(self.task.as_ptr()) };
        }
        drop(listener);
    }

    /// Records that the failure, if it is one, was handed over with the future.
    pub(crate) fn observe_failure(&self) {
        if self.look().is_failed() {
            self.task.header().state.observe();
        }
    }

    /// Calls `callback` with the result: on the thread that publishes it, or here, if it is done.
    pub(crate) fn add_callback(&self, callback: Callback<T>) {
        let state = &self.task.header().state;
        // First: a publisher that runs this callback must not report the failure as unobserved.
        state.observe();
        // SAFETY: `T` is the task's.
        let callbacks = unsafe { callbacks_in::<T>(&self.task) };
        let listener = {
            let mut inner = callbacks.0.lock();
            inner.callbacks.push(callback);
            // If not done, the publisher runs it; if lent, the thread that has the result.
            if !state.look().is_done() || inner.is_lent {
                return;
            }
            inner.is_lent = true;
            std::mem::replace(&mut inner.watchers.listener, Listener::None)
        };
        // SAFETY: the task is done, and this thread has just set `is_lent`.
        unsafe { self.run_late_callbacks(callbacks) };
        // Left by a publisher that set `DONE` while `callbacks_in` owned the slot.
        if let Some(kind) = state.look().kind() {
            tell(listener, kind);
        }
    }

    /// Runs the callbacks of a task that is done.
    ///
    /// # Safety
    ///
    /// The task is done, and this thread has set `is_lent`.
    unsafe fn run_late_callbacks(&self, callbacks: &Callbacks<T>) {
        let now = self.look();
        let outcome = if now.is_taken() {
            Err(Error::ResultTaken)
        } else {
            // SAFETY: `T` is the task's. `is_lent` gives the result to one thread that adds callbacks, and
            // `Outcome::take` needs `&mut self`, so until the result is put back no other thread looks.
            unsafe { self.task.take() }
        };
        loop {
            callbacks.run_callbacks(&outcome);
            let mut inner = callbacks.0.lock();
            // Under the lock: a callback that is added later finds the result put back.
            if inner.callbacks.is_empty() {
                if !now.is_taken() {
                    // SAFETY: this thread has taken it above.
                    unsafe { self.task.put_back(outcome) };
                }
                inner.is_lent = false;
                return;
            }
        }
    }
}

/// Returns the callbacks of a task, which it makes if there are none.
///
/// # Safety
///
/// `T` is the type of the task's result.
pub(super) unsafe fn callbacks_in<T>(task: &TaskRef) -> &Callbacks<T> {
    let header = task.header();
    if let Slot::Owned(listening) = header.state.open_slot_for_callbacks() {
        // SAFETY: `open_slot_for_callbacks` has taken the slot for this thread, with `listening` in it.
        let listener = unsafe { header.empty_slot(listening) };
        let callbacks = Box::into_raw(Box::new(Callbacks::<T>::new(listener)));
        // SAFETY: the slot is this thread's, and was emptied; `T` is the task's; a box is not null.
        unsafe { header.install_callbacks(NonNull::new_unchecked(callbacks.cast())) };
        // Callbacks stay in the slot of a done task too, and hold its listener from here on.
        let _is_done = header.state.close_slot(Listening::Callbacks);
    }
    // SAFETY: `T` is the task's, and there are callbacks: this thread's, or those that
    // `open_slot_for_callbacks` has seen.
    unsafe { callbacks_of(task) }
}

/// Returns the callbacks of a task that has some.
///
/// # Safety
///
/// `T` is the type of the task's result, and its state has said `Listening::Callbacks`.
pub(super) unsafe fn callbacks_of<T>(task: &TaskRef) -> &Callbacks<T> {
    // SAFETY: by the caller there are callbacks, for a `T`; they stay until the task is freed, which `task`
    // prevents.
    unsafe { &*task.header().callbacks().cast::<Callbacks<T>>() }
}

/// The publisher's reference, which it gives back with the publication, or keeps.
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

/// Stores the outcome of a task, runs its callbacks, makes it visible and tells the listener.
///
/// `account` runs after the callbacks and before another thread can see the result, so that counters are
/// right for a thread that sees it. `ends`: the task, which runs on this thread, ends with it.
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
    // Callbacks, or a drop of the future, that come after this look are found by `State::publish`.
    let now = cell.state().look();
    if now.listening() == Listening::Callbacks {
        // SAFETY: the caller's duties are the same.
        return unsafe { publish_to_callbacks(task, kind, outcome, account, ends) };
    }
    if now.is_abandoned() {
        // SAFETY: by the caller this thread alone may publish; there are no callbacks.
        return unsafe { publish_unwanted(task, kind, outcome, account, ends) };
    }
    account();
    let outcome = if kind.is_stored() {
        // SAFETY: by the caller the place is this thread's, and empty.
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
        has_callbacks_lock: false,
        releases: matches!(task, Publisher::Releasing(_)),
    };
    loop {
        match cell.state().publish(how) {
            Publish::Listener(listening) => {
                // SAFETY: `publish` has taken the slot for this thread, with `listening` in it.
                listener = unsafe { cell.header().empty_slot(listening) };
                // The next try sets `DONE` and clears `BUSY` in one step.
                how.owns_slot = true;
            }
            Publish::Callbacks => {
                // A callback was added meanwhile, and sees the result first. `account` has run.
                keep_busy();
                // SAFETY: a result of this kind was stored above, and no other thread can see it yet.
                let outcome = outcome.unwrap_or_else(|| unsafe { cell.load(kind) });
                // SAFETY: by the caller this thread alone may publish; the place is empty again, if
                // something was stored.
                return unsafe { publish_to_callbacks(task, kind, outcome, || (), ends) };
            }
            Publish::Unwanted => {
                keep_busy();
                // SAFETY: `T` is the task's, and that has set `TAKEN`.
                unsafe { drop_unseen::<T>(task.untyped().as_ptr()) };
                break;
            }
            answer @ (Publish::Kept | Publish::Released | Publish::Last) => {
                if let Publisher::Releasing(task) = task {
                    // `publish` has given this reference back in the step that set `DONE`.
                    let block = task.into_untyped().forget();
                    if answer == Publish::Last {
                        // SAFETY: `publish` has given the last reference back.
                        unsafe { TaskRef::free(block) };
                    }
                }
                // The caller's side may have freed the task by now; the listener is this thread's.
                return tell(listener, kind);
            }
        }
    }
    tell(listener, kind);
}

/// Has this worker, if it is one, count as busy again, as far as `account` has marked it as free: the future
/// was dropped, or a callback added, in the last moment, and user code is to run.
#[cold]
fn keep_busy() {
    if let Some(worker) = context::worker() {
        worker.keep_busy();
    }
}

/// Publishes a result that the caller's side has given up. It is dropped first, while the worker counts as
/// busy, since its destructor is user code.
///
/// # Safety
///
/// This thread alone may publish; if there are callbacks, they have run.
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
    let state = &task.header().state;
    let how =
        Publication { kind, ends, owns_slot: false, has_callbacks_lock: false, releases: false };
    let mut waiters = Vec::new();
    if state.publish(how) == Publish::Callbacks {
        // Of callbacks none are left, and none are added: the future is gone. But handles may wait.
        // SAFETY: `T` is the task's, and `publish` has seen the callbacks.
        let mut inner = unsafe { callbacks_of::<T>(task.untyped()) }.0.lock();
        let answer = state.publish(Publication { has_callbacks_lock: true, ..how });
        debug_assert!(matches!(answer, Publish::Unwanted | Publish::Kept));
        waiters = inner.watchers.waiters.take_all();
    }
    wake_all(waiters);
}

/// Publishes the outcome of a task with callbacks.
///
/// # Safety
///
/// As for [`publish`]; and there are callbacks.
#[cold]
unsafe fn publish_to_callbacks<B: Send, T: Send>(
    task: Publisher<'_, B, T>,
    kind: Kind,
    outcome: Result<T, Error>,
    account: impl FnOnce(),
    ends: bool,
) {
    let cell: &Cell<B, T> = &task;
    // SAFETY: `T` is the task's, and the caller has seen the callbacks.
    let callbacks = unsafe { callbacks_of::<T>(task.untyped()) };
    // Again for those that were added meanwhile: until `account` the worker counts as busy.
    while callbacks.run_callbacks(&outcome) {}
    if cell.state().look().is_abandoned() {
        // SAFETY: by the caller this thread alone may publish. The callbacks have seen the outcome,
        // and the caller's side, which alone adds others, is gone.
        return unsafe { publish_unwanted(task, kind, outcome, account, ends) };
    }
    account();
    let how =
        Publication { kind, ends, owns_slot: false, has_callbacks_lock: true, releases: false };
    let (listener, waiters, answer) = loop {
        let mut inner = callbacks.0.lock();
        // Under the lock: a thread that adds a callback is seen here, or sees `DONE`.
        if inner.callbacks.is_empty() {
            if kind.is_stored() {
                // SAFETY: by the caller the place is this thread's, and empty.
                unsafe { cell.store(outcome) };
            }
            let answer = cell.state().publish(how);
            let listener = std::mem::replace(&mut inner.watchers.listener, Listener::None);
            break (listener, inner.watchers.waiters.take_all(), answer);
        }
        drop(inner);
        keep_busy();
        callbacks.run_callbacks(&outcome);
    };
    // Given up while the callbacks ran. A failure that they have seen is not unobserved.
    if answer == Publish::Unwanted {
        keep_busy();
        // SAFETY: `T` is the task's, and `publish` has set `TAKEN` for this thread.
        unsafe { drop_unseen::<T>(task.untyped().as_ptr()) };
    }
    tell(listener, kind);
    wake_all(waiters);
}

/// Drops a result that was given up. If it is a failure that no callback has seen, the pool is told.
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

/// Drops a result that was given up and is not in its place; as [`drop_unseen`].
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
pub(super) fn tell(listener: Listener, kind: Kind) {
    if matches!(listener, Listener::None) {
        return;
    }
    listener.tell(kind != Kind::VALUE && kind != Kind::CANCELLED);
}
