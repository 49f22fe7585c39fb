//! What a task has once a callback is added to it: the callbacks, and the listener, behind a lock.
//!
//! A watch is made by the first callback and stays for the rest of the task's life. From then on
//! the end is published through it: the publisher runs the callbacks there are, sets `DONE` under
//! the lock once there are none left, and tells the listener. Callbacks that come later run on the
//! thread that adds them; it borrows the result meanwhile, and runs those that others add.

use super::cell::Listener;
use crate::error::Error;
use crate::panic::quietly;
use crate::sync::Mutex;

pub(crate) type Callback<T> = Box<dyn FnOnce(&Result<T, Error>) + Send>;

pub(super) struct Watch<T>(pub(super) Mutex<Watching<T>>);

pub(super) struct Watching<T> {
    pub(super) callbacks: Vec<Callback<T>>,
    pub(super) listener: Listener,
    /// A thread runs callbacks with the finished result, and will run those that are added.
    pub(super) is_lent: bool,
}

impl<T> Watch<T> {
    pub(super) fn new(listener: Listener) -> Self {
        Self(Mutex::new(Watching { callbacks: Vec::new(), listener, is_lent: false }))
    }

    /// Runs the callbacks there are now; tells whether there were any.
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
