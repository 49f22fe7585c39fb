//! The pool, as its tasks use it.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use super::runtime::{Here, Runtime};
use super::{Origin, Pool, State};
use crate::core::{Host, OnUnobserved, StopFlag, TaskId, TaskRef, TaskTables};
use crate::lifecycle::{Accepting, Lifecycle};
use crate::panic::wake_all;
use crate::room::Room;
use crate::shutdown::Shutdown;
use crate::sync::atomic::Ordering::Relaxed;

/// The pool, and the runtime that jobs see: what a task refers to. All tasks of one runtime share it, and it goes
/// with the last of them and of the workers that are in the runtime. So neither the pool nor a thread that submits
/// keeps a handle of a runtime that has ended.
///
/// Aligned for the same reason as [`Pool`].
#[repr(align(128))]
pub(crate) struct PoolHost {
    pub(crate) pool: Arc<Pool>,
    pub(crate) runtime: Runtime,
    /// The queue has no room. Beside the pool, since each run looks at it.
    is_room_for_runs: bool,
}

thread_local! {
    /// The host of the last task that this thread has submitted from another runtime than the pool's own.
    static LAST: RefCell<Weak<PoolHost>> = const { RefCell::new(Weak::new()) };
}

impl PoolHost {
    /// Makes the host of the tasks of a pool that are submitted outside of a runtime.
    pub(crate) fn new(pool: Arc<Pool>, runtime: Runtime) -> Arc<Self> {
        let is_room_for_runs = pool.config.queue_capacity == Some(0);
        Arc::new(Self { pool, runtime, is_room_for_runs })
    }

    /// Returns the host of a task that this thread submits, where `self` is the pool's own.
    #[inline]
    pub(super) fn of_submission(self: &Arc<Self>) -> Arc<Self> {
        if self.pool.config.follows_submitter {
            if let Some(here) = self.runtime.other_here() {
                return self.of_runtime(here);
            }
        }
        Arc::clone(self)
    }

    #[inline(never)]
    fn of_runtime(&self, here: Here) -> Arc<Self> {
        let id = here.id();
        let last = LAST.try_with(|last| last.borrow().upgrade()).ok().flatten();
        match last {
            Some(host) if Arc::ptr_eq(&host.pool, &self.pool) && host.runtime.id() == id => host,
            _ => self.seek_host(here),
        }
    }

    #[cold]
    fn seek_host(&self, here: Here) -> Arc<Self> {
        let id = here.id();
        let host = {
            let mut hosts = self.pool.hosts.lock();
            let mut known = hosts.iter().filter(|(known, _)| *known == id);
            known.find_map(|(_, host)| host.upgrade()).unwrap_or_else(|| {
                // What is left is one for each runtime that is in use.
                hosts.retain(|(_, host)| host.strong_count() > 0);
                let host = Self::new(Arc::clone(&self.pool), here.into_runtime());
                hosts.push((id, Arc::downgrade(&host)));
                host
            })
        };
        // A thread whose storage is gone already looks each time.
        let _ = LAST.try_with(|last| last.replace(Arc::downgrade(&host)));
        host
    }
}

/// A handle of the pool has its own host, with which it submits.
impl Accepting for PoolHost {
    fn life<R>(&self, look: impl FnOnce(&mut Lifecycle) -> R) -> R {
        self.pool.life(look)
    }

    fn room(&self) -> Option<&Room> {
        self.pool.room()
    }

    fn close(self: &Arc<Self>, how: Shutdown) {
        self.pool.close(how);
    }
}

static TABLES: TaskTables = TaskTables::of::<PoolHost>();

impl Host for PoolHost {
    const TABLES: &'static TaskTables = &TABLES;

    fn address(&self) -> *const () {
        self.pool.address()
    }

    fn can_run_here(&self) -> bool {
        self.runtime.can_be_entered()
    }

    fn run_here(&self, run: impl FnOnce()) {
        let _entered = self.runtime.enter();
        run();
    }

    fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool {
        let swept = {
            let mut state = self.pool.state.lock();
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
        if let Err((task, error)) = self.pool.push(task, Origin::Woken) {
            // Only a broken pool refuses it. The task is `QUEUED` without an entry, and ends with
            // the cause.
            task.runnable().withdraw(error);
        }
    }

    fn release_room(&self) {
        self.pool.free_room();
    }

    fn is_room_for_runs(&self) -> bool {
        self.is_room_for_runs
    }

    fn count_cancelled(&self) {
        self.pool.cancelled.fetch_add(1, Relaxed);
    }

    fn count_failed(&self) {
        self.pool.timed_out.fetch_add(1, Relaxed);
    }

    fn async_ended(&self, id: TaskId) {
        let (is_over, wakers) = {
            let mut state = self.pool.state.lock();
            state.async_tasks.remove(id);
            (state.is_over(), state.wakers_at_end())
        };
        // Idle workers of a closed pool have stayed for this task, which might have been woken.
        if is_over {
            self.pool.sleep.wake_all();
        }
        wake_all(wakers);
    }

    fn asked_to_stop(&self, id: TaskId) {
        let mut state = self.pool.state.lock();
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
        &self.pool.config.on_unobserved
    }

    fn stop(&self) -> &Arc<StopFlag> {
        &self.pool.stopping
    }

    fn name(&self) -> &str {
        &self.pool.config.name
    }
}

#[cfg(all(test, feature = "tokio", not(loom)))]
mod tests {
    use tokio::runtime::{Builder, Handle, Runtime};

    use super::*;
    use crate::thread_pool::ThreadPoolExecutor;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    fn known(pool: &ThreadPoolExecutor) -> usize {
        pool.pool().hosts.lock().len()
    }

    #[test]
    fn hosts_of_runtimes_that_have_ended_do_not_pile_up() {
        let pool = ThreadPoolExecutor::builder().max_workers(2).build().unwrap();
        for _ in 0..100 {
            let runtime = runtime();
            let _entered = runtime.enter();
            pool.submit(|| Handle::current().id()).result().unwrap();
            // Two workers may be in a runtime still, and the future refers to the last one.
            assert!(known(&pool) <= 4, "{}", known(&pool));
        }
    }

    #[test]
    fn threads_of_a_runtime_share_its_host() {
        let pool = ThreadPoolExecutor::new();
        let runtime = runtime();
        let host = || {
            let _entered = runtime.enter();
            pool.host().of_submission()
        };
        let mine = host();
        let theirs = std::thread::scope(|scope| scope.spawn(host).join().unwrap());
        assert!(Arc::ptr_eq(&mine, &theirs));
        assert!(Arc::ptr_eq(&pool.host().of_submission(), pool.host()));
        assert_eq!(known(&pool), 1);
    }

    #[test]
    fn a_runtime_that_was_given_holds_for_all_jobs() {
        let (given, other) = (runtime(), runtime());
        let builder = ThreadPoolExecutor::builder().runtime(given.handle().clone());
        let pool = builder.build().unwrap();
        let _entered = other.enter();
        assert!(Arc::ptr_eq(&pool.host().of_submission(), pool.host()));
    }
}
