//! Tasks that suspend, by their numbers, without keeping them alive: a suspended task that nobody
//! can wake any more has ended.
//!
//! Rule: such a task takes itself out before it is freed, under the lock that the registry is
//! behind. So under that lock a task that is in it is alive in memory, though perhaps without a
//! reference.

use std::collections::HashMap;
use std::ptr::NonNull;

use super::cell::{Header, TaskRef};
use super::id::TaskId;
use crate::shrink::shrink;

#[derive(Default)]
pub(crate) struct Registry(HashMap<TaskId, Registered>);

struct Registered(NonNull<Header>);

// SAFETY: as for `TaskRef`.
unsafe impl Send for Registered {}

impl Registry {
    /// Enters a task whose state was made to be registered.
    pub(crate) fn insert(&mut self, task: &TaskRef) {
        self.0.insert(task.header().id(), Registered(task.as_ptr()));
    }

    pub(crate) fn remove(&mut self, id: TaskId) {
        self.0.remove(&id);
        shrink(&mut self.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// References to those that are alive.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        self.some(usize::MAX)
    }

    /// The same, of `most` at most.
    pub(crate) fn some(&self, most: usize) -> Vec<TaskRef> {
        let reference = |task: &Registered| {
            // SAFETY: see the rule above.
            let is_alive = unsafe { task.0.as_ref() }.state.try_add_reference();
            // SAFETY: that has added the reference.
            is_alive.then(|| unsafe { TaskRef::from_raw(task.0) })
        };
        self.0.values().take(most).filter_map(reference).collect()
    }
}
