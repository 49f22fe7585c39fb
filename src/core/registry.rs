//! Tasks that can be suspended, by their numbers. A suspended task is in no queue, so this is where a
//! pool finds it to withdraw it or to show it.
//!
//! A registry does not keep its tasks alive: one that nothing can wake any more ends when its last
//! reference goes. Yet it needs no promise from its callers. Rules:
//!
//! 1. A task that is entered has `REGISTERED` set, and is in no other registry. It is cleared when the
//!    task is taken out, by the registry's last access to it, or when the registry is dropped.
//! 2. The memory of a task with `REGISTERED` set is not freed. A pool takes a task out when it ends,
//!    before its last reference goes; where that does not happen, the memory is leaked.

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::cell::{Header, TaskRef};
use super::id::TaskId;
use super::state::State;
use crate::shrink::shrink;

#[derive(Default)]
pub(crate) struct Registry(HashMap<TaskId, Registered>);

/// A pointer to a task with `REGISTERED` set; without a reference.
struct Registered(NonNull<Header>);

// SAFETY: it gives what a `TaskRef` gives, which is `Send`.
unsafe impl Send for Registered {}

impl Registered {
    fn state(&self) -> &State {
        // SAFETY: the task is registered, so its memory is not freed (rule 2).
        &unsafe { self.0.as_ref() }.state
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // The last access: from here on another thread may free the task.
        self.state().unregister();
    }
}

impl Registry {
    /// Enters a task.
    ///
    /// # Panics
    ///
    /// If it can't be suspended, or is in a registry already.
    pub(crate) fn insert(&mut self, task: &TaskRef) {
        // The bit is set before the pointer is kept, so that the memory stays from here on.
        assert!(task.suspends() && task.header().state.register(), "entered once, to be suspended");
        self.0.insert(task.header().id(), Registered(task.as_ptr()));
    }

    pub(crate) fn remove(&mut self, id: TaskId) {
        self.0.remove(&id);
        shrink(&mut self.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns references to those that are alive, to withdraw them.
    pub(crate) fn tasks(&self) -> Vec<TaskRef> {
        let reference = |task: &Registered| {
            // A task without references may be waiting for the lock that this call is under.
            let is_alive = task.state().try_add_reference();
            // SAFETY: the block begins with a head, as any task's, and `try_add_reference` has added the
            // reference that is given away here.
            is_alive.then(|| unsafe { TaskRef::from_raw(task.0) })
        };
        self.0.values().filter_map(reference).collect()
    }

    /// Looks at some of them, `most` at most, without taking references.
    pub(crate) fn look<R>(
        &self,
        most: usize,
        mut look: impl FnMut(&TaskRef) -> Option<R>,
    ) -> Vec<R> {
        let look = |task: &Registered| {
            // SAFETY: the task is registered, so its memory is not freed, and only its cell is ever
            // emptied before that. This is no reference that counts; none can be made of what `look`
            // is given.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(task.0) });
            look(&task)
        };
        self.0.values().take(most).filter_map(look).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::{
        Body, Host, OnUnobserved, Outcome, Polled, StopFlag, promise::Promise, submit,
    };

    /// A body that is pending for ever.
    struct Pending;

    impl Body for Pending {
        type Output = ();

        const ASYNC: bool = true;

        fn poll(self, _task: &TaskRef) -> Polled<Self> {
            Polled::Pending(self)
        }
    }

    /// A pool that never takes a task out of its registry.
    struct Forgetful(OnUnobserved, Arc<StopFlag>);

    impl Host for Forgetful {
        fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool {
            take()
        }

        fn requeue(self: &Arc<Self>, _task: TaskRef) {}

        fn release_room(&self) {}

        fn count_cancelled(&self) {}

        fn count_failed(&self) {}

        fn async_ended(&self, _id: TaskId) {}

        fn asked_to_stop(&self, _id: TaskId) {}

        fn on_unobserved(&self) -> &OnUnobserved {
            &self.0
        }

        fn stop(&self) -> &Arc<StopFlag> {
            &self.1
        }

        fn name(&self) -> &str {
            "forgetful"
        }
    }

    fn task() -> (TaskRef, Outcome<()>) {
        let host = Arc::new(Forgetful(OnUnobserved::default(), Arc::default()));
        let mut task = None;
        let outcome = submit(Pending, |new| {
            task = Some(new.queue(host, (), true));
            None
        });
        (task.unwrap(), outcome)
    }

    fn ids(registry: &Registry) -> Vec<TaskId> {
        registry.look(10, |task| Some(task.id()))
    }

    #[test]
    #[cfg_attr(miri, ignore = "the memory is leaked, as it is to be")]
    fn the_memory_of_a_task_that_is_not_taken_out_stays() {
        let mut registry = Registry::default();
        let (task, outcome) = task();
        registry.insert(&task);
        let id = task.id();
        task.runnable().cancel();
        drop((task, outcome));
        assert_eq!(ids(&registry), [id]);
        assert!(registry.tasks().is_empty(), "it is not alive any more");
        registry.remove(id);
        assert!(registry.is_empty());
    }

    #[test]
    fn a_task_outlives_its_registry() {
        let mut registry = Registry::default();
        let (task, _outcome) = task();
        registry.insert(&task);
        assert_eq!(registry.tasks().len(), 1);
        drop(registry);
        Registry::default().insert(&task);
    }

    #[test]
    #[should_panic(expected = "entered once")]
    fn a_task_is_in_one_registry() {
        let (task, _outcome) = task();
        let (mut one, mut other) = (Registry::default(), Registry::default());
        one.insert(&task);
        other.insert(&task);
    }

    #[test]
    #[should_panic(expected = "to be suspended")]
    fn a_promise_is_in_no_registry() {
        let (promise, _outcome) = Promise::<()>::of(());
        Registry::default().insert(promise.task());
    }
}
