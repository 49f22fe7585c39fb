//! The caller's side of a task: looks whether it is done, takes the result, leaves a listener. And the
//! publication, which is what that side meets.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::cell::{Header, TaskRef};
use super::listener::{Callback, Callbacks, Lend, Listener};
use super::set::CompletionSet;
use super::state::{Kind, Listening, Publication, Publish, Slot, Snapshot, State};
use super::worker::context;
use crate::error::Error;
use crate::panic::{KeptWaker, wake_all};

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
        // SAFETY: this thread owns the slot, and it is empty, which is required here too.
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
                // SAFETY: `open_slot` has seen the callbacks.
                let mut inner = unsafe { header.callbacks() }.0.lock();
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
        let state = &self.task.header().state;
        if !state.take() {
            return Err(Error::ResultTaken);
        }
        let Some(kind) = state.look().kind() else { unreachable!("it is done") };
        // SAFETY: `T` is the task's, and this call has set `TAKEN`.
        unsafe { self.task.take(kind) }
    }

    /// Gives the result up: it is dropped now, or as soon as it is there.
    pub(crate) fn abandon(&mut self) {
        // Before `ABANDONED` is set, after which the publisher expects no listener in the slot.
        let listener = self.take_listener();
        let before = self.task.header().state.abandon();
        // Published before that step: the publisher has left the result to this side.
        if let Some(kind) = before.kind().filter(|_| before.is_untaken()) {
            if self.task.header().state.take() {
                // SAFETY: this call has set `TAKEN`.
                unsafe { drop_unseen(self.task.as_ptr(), kind) };
            }
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
    pub(crate) fn add_callback(
        &self,
        callback: impl for<'a> FnOnce(&'a Result<T, Error>) + Send + 'static,
    ) {
        // SAFETY: `lend`, which is for the same `T`, calls it with a pointer to such a result.
        let erased = move |outcome: *const ()| callback(unsafe { &*outcome.cast() });
        // SAFETY: `T` is the task's.
        unsafe { add_callback(&self.task, Box::new(erased), lend::<T>) };
    }
}

/// See [`Lend`].
unsafe fn lend<T>(task: &TaskRef, kind: Option<Kind>, run: &mut dyn FnMut(*const ())) {
    let outcome = match kind {
        // SAFETY: `T` is the type of the task's result, and the place is this thread's, with a result of this kind
        // in it, if it is stored, as `Lend` requires. The result is stored again below.
        Some(kind) => unsafe { task.take::<T>(kind) },
        None => Err(Error::ResultTaken),
    };
    run(std::ptr::from_ref(&outcome).cast());
    match (outcome, kind) {
        // SAFETY: the value is the `T` of the task. The place is this thread's, as `Lend` requires, and `take` has
        // emptied it.
        (Ok(value), _) => unsafe { task.store_value(value) },
        (Err(error), Some(kind)) if kind.is_stored() => {
            // SAFETY: the place is this thread's, as `Lend` requires, and `take` has emptied it.
            unsafe { task.store_error(error) };
        }
        (Err(_), _) => {}
    }
}

/// # Safety
///
/// `callback` and `lend` are for the type of the task's result.
unsafe fn add_callback(task: &TaskRef, callback: Callback, lend: Lend) {
    let state = &task.header().state;
    // First: a publisher that runs this callback must not report the failure as unobserved.
    state.observe();
    let callbacks = callbacks_in(task.header());
    let listener = {
        let mut inner = callbacks.0.lock();
        inner.push(callback, lend);
        // If not done, the publisher runs it; if lent, the thread that has the result.
        if !state.look().is_done() || inner.is_lent {
            return;
        }
        inner.is_lent = true;
        std::mem::replace(&mut inner.watchers.listener, Listener::None)
    };
    // SAFETY: the task is done, and this thread has just set `is_lent`.
    unsafe { run_late_callbacks(task, callbacks) };
    // Left by a publisher that set `DONE` while `callbacks_in` owned the slot.
    if let Some(kind) = state.look().kind() {
        tell(listener, kind);
    }
}

/// Runs the callbacks of a task that is done.
///
/// # Safety
///
/// They are the task's; it is done, and this thread has set `is_lent`.
unsafe fn run_late_callbacks(task: &TaskRef, callbacks: &Callbacks) {
    let now = task.header().state.look();
    let kind = now.kind().filter(|_| !now.is_taken());
    loop {
        // SAFETY: `is_lent` gives the result to one thread that adds callbacks, and `Outcome::take` needs
        // `&mut self`, so while the result is lent no other thread looks.
        unsafe { callbacks.run_callbacks(task, kind) };
        let mut inner = callbacks.0.lock();
        // Under the lock: a callback that is added later finds the result back in its place.
        if inner.callbacks.is_empty() {
            inner.is_lent = false;
            return;
        }
    }
}

/// Returns the callbacks of a task, which it makes if there are none.
pub(super) fn callbacks_in(header: &Header) -> &Callbacks {
    if let Slot::Owned(listening) = header.state.open_slot_for_callbacks() {
        // SAFETY: `open_slot_for_callbacks` has taken the slot for this thread, with `listening` in it.
        let listener = unsafe { header.empty_slot(listening) };
        // SAFETY: the slot is this thread's, and was emptied.
        unsafe { header.install_callbacks(Box::new(Callbacks::new(listener))) };
        // Callbacks stay in the slot of a done task too, and hold its listener from here on.
        let _is_done = header.state.close_slot(Listening::Callbacks);
    }
    // SAFETY: there are callbacks: this thread's, or those that `open_slot_for_callbacks` has seen.
    unsafe { header.callbacks() }
}

/// The publisher's reference, which it gives back with the publication, or keeps.
pub(super) enum Publisher<'a> {
    Releasing(TaskRef),
    Keeping(&'a TaskRef),
}

impl std::ops::Deref for Publisher<'_> {
    type Target = TaskRef;

    fn deref(&self) -> &TaskRef {
        match self {
            Publisher::Releasing(task) => task,
            Publisher::Keeping(task) => task,
        }
    }
}

/// Runs the callbacks of a task, makes its outcome visible and tells the listener.
///
/// `account` runs after the callbacks and before another thread can see the result, so that counters are
/// right for a thread that sees it; it is given the task's state. `ends`: the task, which runs on this thread,
/// ends with it.
///
/// # Safety
///
/// This thread alone may publish. If results of this kind are stored, the place is this thread's, and there is
/// such a result in it; else the task is settled as this kind.
#[inline]
pub(super) unsafe fn publish(
    task: Publisher<'_>,
    kind: Kind,
    account: impl FnOnce(&State),
    ends: bool,
) {
    // Callbacks, or a drop of the future, that come after this look are found by `State::publish`.
    let now = task.header().state.look();
    if now.listening() == Listening::Callbacks {
        // SAFETY: there are callbacks. This thread alone may publish, and has the place with a result of this kind,
        // if that is stored: that is required here too.
        return unsafe { publish_to_callbacks(task, kind, account, ends) };
    }
    if now.is_abandoned() {
        // SAFETY: there are no callbacks. This thread alone may publish, and has the place with a result of this
        // kind, if that is stored: that is required here too.
        return unsafe { publish_unwanted(task, kind, account, ends) };
    }
    account(&task.header().state);
    let mut listener = Listener::None;
    let mut how = Publication {
        kind,
        ends,
        owns_slot: false,
        has_callbacks_lock: false,
        releases: matches!(task, Publisher::Releasing(_)),
    };
    loop {
        match task.header().state.publish(how) {
            Publish::Listener(listening) => {
                // SAFETY: `publish` has taken the slot for this thread, with `listening` in it.
                listener = unsafe { task.header().empty_slot(listening) };
                // The next try sets `DONE` and clears `BUSY` in one step.
                how.owns_slot = true;
            }
            Publish::Callbacks => {
                // A callback was added meanwhile, and sees the result first. `account` has run.
                keep_busy();
                // SAFETY: `publish` has seen callbacks, and published nothing. So this thread alone may publish
                // still, and has the place with a result of this kind, if that is stored, as is required here too.
                return unsafe { publish_to_callbacks(task, kind, |_| (), ends) };
            }
            Publish::Unwanted => {
                keep_busy();
                // SAFETY: that has set `TAKEN`.
                unsafe { drop_unseen(task.as_ptr(), kind) };
                break;
            }
            answer @ (Publish::Kept | Publish::Released | Publish::Last) => {
                if let Publisher::Releasing(task) = task {
                    // `publish` has given this reference back in the step that set `DONE`.
                    let block = task.forget();
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
/// As for [`publish`]; if there are callbacks, they have run.
#[cold]
#[inline(never)]
unsafe fn publish_unwanted(
    task: Publisher<'_>,
    kind: Kind,
    account: impl FnOnce(&State),
    ends: bool,
) {
    // SAFETY: the place is this thread's, with a result of this kind, if that is stored; else the task is settled
    // as this kind: that is required here too. `publish` below does not use the result. `task` is the reference.
    unsafe { drop_unseen(task.as_ptr(), kind) };
    account(&task.header().state);
    let state = &task.header().state;
    let how =
        Publication { kind, ends, owns_slot: false, has_callbacks_lock: false, releases: false };
    let mut waiters = Vec::new();
    if state.publish(how) == Publish::Callbacks {
        // Of callbacks none are left, and none are added: the future is gone. But handles may wait.
        // SAFETY: `publish` has seen the callbacks.
        let mut inner = unsafe { task.header().callbacks() }.0.lock();
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
unsafe fn publish_to_callbacks(
    task: Publisher<'_>,
    kind: Kind,
    account: impl FnOnce(&State),
    ends: bool,
) {
    // SAFETY: there are callbacks, as is required.
    let callbacks = unsafe { task.header().callbacks() };
    // SAFETY: of each call: they are the task's, and were added with a `lend` for its type. The place is this
    // thread's, with a result of this kind in it, if that is stored, as is required; no other thread can see it
    // yet, and each call leaves it there.
    let run_callbacks = || unsafe { callbacks.run_callbacks(&task, Some(kind)) };
    // Again for those that were added meanwhile: until `account` the worker counts as busy.
    while run_callbacks() {}
    if task.header().state.look().is_abandoned() {
        // SAFETY: this thread alone may publish, and has the place with a result of this kind, if that is stored:
        // that is required here too. The callbacks have run, and the caller's side, which alone adds others, is
        // gone.
        return unsafe { publish_unwanted(task, kind, account, ends) };
    }
    account(&task.header().state);
    let how =
        Publication { kind, ends, owns_slot: false, has_callbacks_lock: true, releases: false };
    let (listener, waiters, answer) = loop {
        let mut inner = callbacks.0.lock();
        // Under the lock: a thread that adds a callback is seen here, or sees `DONE`.
        if inner.callbacks.is_empty() {
            let answer = task.header().state.publish(how);
            let listener = std::mem::replace(&mut inner.watchers.listener, Listener::None);
            break (listener, inner.watchers.waiters.take_all(), answer);
        }
        drop(inner);
        keep_busy();
        run_callbacks();
    };
    // Given up while the callbacks ran. A failure that they have seen is not unobserved.
    if answer == Publish::Unwanted {
        keep_busy();
        // SAFETY: `publish` has set `TAKEN` for this thread.
        unsafe { drop_unseen(task.as_ptr(), kind) };
    }
    tell(listener, kind);
    wake_all(waiters);
}

/// Drops a result that was given up. If it is a failure that no callback has seen, the pool is told.
///
/// # Safety
///
/// As for [`TaskRef::drop_result`], of a block to which the caller has a reference and keeps it; a result that is
/// not stored is that which the task is settled as.
// By pointer, since `publish` has its reference in a register as long as no address of it is taken.
#[inline(never)]
unsafe fn drop_unseen(block: NonNull<Header>, kind: Kind) {
    // SAFETY: a block with a head is there, and is kept by the reference that is required. In `ManuallyDrop` this
    // one is never given back, so it need not be counted.
    let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(block) });
    let now = task.header().state.look();
    if kind != Kind::VALUE && !now.is_observed() {
        // SAFETY: the place is this thread's, with a result of this kind in it, if that is stored, as is required.
        // It stays there until it is dropped below, after the error was looked at.
        match unsafe { task.stored_error(kind) } {
            Some(error) => task.runnable().unobserved(error),
            None => task.runnable().unobserved(&task.runnable().not_stored(now)),
        }
    }
    // SAFETY: the place is this thread's, with a result of this kind in it, if that is stored, which is not used any
    // more: that is required here too.
    unsafe { task.drop_result(kind) };
}

#[inline]
pub(super) fn tell(listener: Listener, kind: Kind) {
    if matches!(listener, Listener::None) {
        return;
    }
    listener.tell(kind != Kind::VALUE && kind != Kind::CANCELLED);
}
