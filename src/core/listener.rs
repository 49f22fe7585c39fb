//! The listener of a task, and its callbacks: they are told of the end.
//!
//! A task has one listener: a waker, or a set with others. It lies in the task's slot, or, once a callback
//! was added, with the callbacks, behind their lock.
//!
//! `Callbacks` are made by the first callback, or by the first who watches the task from beside its future,
//! and stay for the rest of the task's life. From then on the end
//! is published through them: the publisher runs the callbacks there are, sets `DONE` under the lock once
//! there are none left, and tells the listener. A callback that comes later runs on the thread that adds it;
//! that thread borrows the result meanwhile, and runs those that others add.

use std::sync::Arc;

use super::cell::TaskRef;
use super::set::CompletionSet;
use super::state::Kind;
use super::stop_flag::StopFlag;
use super::waiters::Waiters;
use crate::panic::{KeptWaker, quietly};
use crate::sync::Mutex;

/// A listener outside of its slot.
pub(super) enum Listener {
    None,
    Waker(KeptWaker),
    /// A set, and the number of this task in it.
    Set(Arc<CompletionSet>, usize),
}

impl Listener {
    /// Wakes the waker, or adds the task to the finished ones of its set. Called without a lock.
    #[inline(never)]
    pub(super) fn tell(self, failed: bool) {
        match self {
            Listener::None => {}
            Listener::Waker(waker) => waker.wake(),
            Listener::Set(set, index) => set.finished(index, failed),
        }
    }
}

/// The watchers of a task, its future's listener among them. Behind the lock of its callbacks.
pub(super) struct Watchers {
    pub(super) listener: Listener,
    /// The stop request, once a token was made.
    pub(super) stop: Option<Arc<StopFlag>>,
    /// Those who wait for the end.
    pub(super) waiters: Waiters,
}

impl Watchers {
    fn new(listener: Listener) -> Self {
        Self { listener, stop: None, waiters: Waiters::default() }
    }
}

/// A callback. It is called with a pointer to the `Result<T, Error>` of its task.
pub(super) type Callback = Box<dyn FnOnce(*const ()) + Send>;

/// The callbacks of a task that has some, and its watchers.
pub(super) struct Callbacks(pub(super) Mutex<Inner>);

/// Calls the function with a pointer to the `Result<T, Error>` of a task whose kind is this one, or with
/// `ResultTaken`.
///
/// # Safety
///
/// `T` is the type of the task's result. The place is this thread's; a result of this kind is in it, if it is
/// stored, and is in it again afterwards.
pub(super) type Lend = unsafe fn(&TaskRef, Option<Kind>, &mut dyn FnMut(*const ()));

pub(super) struct Inner {
    pub(super) callbacks: Vec<Callback>,
    /// Lends the result to the callbacks. There if a callback is.
    lend: Option<Lend>,
    pub(super) watchers: Watchers,
    /// Set while a thread runs callbacks with the finished result; it also runs those that are added.
    pub(super) is_lent: bool,
}

impl Inner {
    /// Adds a callback, and what lends it the result.
    pub(super) fn push(&mut self, callback: Callback, lend: Lend) {
        self.callbacks.push(callback);
        self.lend = Some(lend);
    }
}

impl Callbacks {
    pub(super) fn new(listener: Listener) -> Self {
        let watchers = Watchers::new(listener);
        Self(Mutex::new(Inner { callbacks: Vec::new(), lend: None, watchers, is_lent: false }))
    }

    /// Runs the callbacks there are now. Returns whether there were any.
    ///
    /// # Safety
    ///
    /// They are those of `task`; else as for [`Lend`].
    pub(super) unsafe fn run_callbacks(&self, task: &TaskRef, kind: Option<Kind>) -> bool {
        let (callbacks, lend) = {
            let mut inner = self.0.lock();
            (std::mem::take(&mut inner.callbacks), inner.lend)
        };
        let Some(lend) = lend.filter(|_| !callbacks.is_empty()) else { return false };
        let mut callbacks = callbacks.into_iter();
        let mut run = |outcome| {
            for callback in callbacks.by_ref() {
                // A panic has been reported by the panic hook; the next callback is not to blame.
                quietly(|| callback(outcome));
            }
        };
        // SAFETY: the callbacks are those of `task`, so `lend` is for its type; the place is this thread's, with a
        // result of this kind in it, if that is stored: that is required here too.
        unsafe { lend(task, kind, &mut run) };
        true
    }
}
