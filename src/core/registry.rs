//! Tasks that suspend, by their numbers, without keeping them alive: a suspended task that nobody
//! can wake any more has ended.
//!
//! Rule: such a task takes itself out before it is freed, under the lock that the registry is
//! behind. So under that lock a task that is in it is alive in memory, though perhaps without a
//! reference.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::cell::{Header, TaskRef};
use super::id::TaskId;
use super::task::Runnable;
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

    /// References to those that are alive, to withdraw them. Not to those that many other threads
    /// are withdrawing.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        let reference = |task: &Registered| {
            // SAFETY: see the rule above.
            let is_alive = unsafe { task.0.as_ref() }.state.try_add_reference();
            // SAFETY: that has added the reference.
            is_alive.then(|| unsafe { TaskRef::from_raw(task.0) })
        };
        self.0.values().filter_map(reference).collect()
    }

    /// Looks at some of them, `most` at most, without a reference.
    pub(crate) fn look<R>(
        &self,
        most: usize,
        mut look: impl FnMut(&Header, &dyn Runnable) -> Option<R>,
    ) -> Vec<R> {
        let look = |task: &Registered| {
            // SAFETY: see the rule above. This is not a reference that counts, and it does not get
            // out of here, so that nobody can add one to it.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(task.0) });
            look(task.header(), task.runnable())
        };
        self.0.values().take(most).filter_map(look).collect()
    }
}
