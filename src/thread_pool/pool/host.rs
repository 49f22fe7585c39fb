//! The pool, as its tasks use it.

use std::sync::Arc;

use super::{Origin, Pool, State};
use crate::core::{Host, OnUnobserved, StopFlag, TaskId, TaskRef, TaskTables};
use crate::lifecycle::Accepting;
use crate::panic::wake_all;
use crate::sync::atomic::Ordering::Relaxed;

static TABLES: TaskTables = TaskTables::of::<Pool>();

impl Host for Pool {
    const TABLES: &'static TaskTables = &TABLES;

    fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool {
        let swept = {
            let mut state = self.state.lock();
            if !take() {
                return false;
            }
            // Counted in one step with the change, so that `waiting` is right under the lock.
            state.queue.one_died()
        };
        // An entry may be the last reference to its task, which is freed without the lock.
        drop(swept);
        true
    }

    fn requeue(self: &Arc<Self>, task: TaskRef) {
        if let Err((task, error)) = self.push(task, Origin::Woken) {
            // Only a broken pool refuses it. The task is `QUEUED` without an entry, and ends with
            // the cause.
            task.runnable().withdraw(error);
        }
    }

    fn release_room(&self) {
        self.free_room();
    }

    fn count_cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    fn count_failed(&self) {
        self.timed_out.fetch_add(1, Relaxed);
    }

    fn async_ended(&self, id: TaskId) {
        let (is_over, wakers) = {
            let mut state = self.state.lock();
            state.async_tasks.remove(id);
            (state.is_over(), state.wakers_at_end())
        };
        // Idle workers of a closed pool have stayed for this task, which might have been woken.
        if is_over {
            self.sleep.wake_all();
        }
        wake_all(wakers);
    }

    fn asked_to_stop(&self, id: TaskId) {
        let mut state = self.state.lock();
        let State { asked_to_stop, seats, .. } = &mut *state;
        if asked_to_stop.contains(&id) {
            return;
        }
        // Tasks that have ended are forgotten when the list would grow. `runs` takes a lock of the
        // seat, which comes after the pool's.
        if asked_to_stop.len() == asked_to_stop.capacity() {
            asked_to_stop.retain(|id| seats.iter().flatten().any(|seat| seat.runs(*id)));
        }
        asked_to_stop.push(id);
    }

    fn on_unobserved(&self) -> &OnUnobserved {
        &self.config.on_unobserved
    }

    fn stop(&self) -> &Arc<StopFlag> {
        &self.stopping
    }

    fn name(&self) -> &str {
        &self.config.name
    }
}
