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

use super::set::CompletionSet;
use super::stop_flag::StopFlag;
use super::waiters::Waiters;
use crate::error::Error;
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
    pub(super) fn new(listener: Listener) -> Self {
        Self { listener, stop: None, waiters: Waiters::default() }
    }
}

pub(crate) type Callback<T> = Box<dyn FnOnce(&Result<T, Error>) + Send>;

/// The callbacks of a task that has some, and its watchers.
pub(super) struct Callbacks<T>(pub(super) Mutex<Inner<T>>);

pub(super) struct Inner<T> {
    pub(super) callbacks: Vec<Callback<T>>,
    pub(super) watchers: Watchers,
    /// Set while a thread runs callbacks with the finished result; it also runs those that are added.
    pub(super) is_lent: bool,
}

impl<T> Callbacks<T> {
    pub(super) fn new(listener: Listener) -> Self {
        let watchers = Watchers::new(listener);
        Self(Mutex::new(Inner { callbacks: Vec::new(), watchers, is_lent: false }))
    }

    /// Runs the callbacks there are now. Returns whether there were any.
    pub(super) fn run_callbacks(&self, outcome: &Result<T, Error>) -> bool {
        let callbacks = std::mem::take(&mut self.0.lock().callbacks);
        let any = !callbacks.is_empty();
        for callback in callbacks {
            // A panic has been reported by the panic hook; the next callback is not to blame.
            quietly(|| callback(outcome));
        }
        any
    }
}
