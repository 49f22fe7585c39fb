//! The worker that code runs on, as that code sees it.

use std::cell::RefCell;
use std::sync::Arc;
#[cfg(feature = "process")]
use std::sync::OnceLock;

/// The worker that this code runs on, from [`current`](Self::current).
///
/// [`index`](Self::index) chooses what each worker has for itself: a device, a scratch directory,
/// a port. It is the same in the worker's initializer, in all of its tasks and in its finalizer.
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, WorkerInfo};
///
/// let pool = ThreadPoolExecutor::builder().max_workers(2).name("render").build()?;
/// let (name, index) = pool
///     .submit(|| {
///         let worker = WorkerInfo::current().expect("a job runs on a worker");
///         (worker.pool_name().to_owned(), worker.index())
///     })
///     .result()?;
/// assert_eq!((&*name, index), ("render", 0));
/// assert!(WorkerInfo::current().is_none()); // this thread is no worker
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkerInfo {
    index: usize,
    pool_name: Arc<str>,
}

thread_local! {
    /// The worker that this thread is.
    static THREAD: RefCell<Option<WorkerInfo>> = const { RefCell::new(None) };
}

/// The worker that this process is.
#[cfg(feature = "process")]
static PROCESS: OnceLock<WorkerInfo> = OnceLock::new();

impl WorkerInfo {
    /// Returns the worker that this code runs on: in a job, an item of a map, an initializer or a
    /// finalizer. `None` outside of a worker.
    ///
    /// A worker process is one worker with all of its threads, those that a task has started
    /// included. The workers of a thread pool in it are workers of that pool: the innermost one
    /// counts. A thread that a job of a thread pool has started is no worker of it.
    ///
    /// An [`InlineExecutor`](crate::InlineExecutor) has no workers: a job sees there what its
    /// caller sees. Costs one reference count.
    pub fn current() -> Option<Self> {
        // In a destructor of a thread-local there may be none left.
        let thread = THREAD.try_with(|worker| worker.borrow().clone()).ok().flatten();
        #[cfg(feature = "process")]
        let thread = thread.or_else(|| PROCESS.get().cloned());
        thread
    }

    /// The worker's place in its pool, from 0. No other worker of the pool has it at the same time; the
    /// next one that starts takes the lowest place that is free. So it is below
    /// [`max_workers`](crate::ThreadPoolBuilder::max_workers), unless there are more workers for a
    /// while: spares for workers that wait for other tasks, and workers that are ending.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The [name](crate::ThreadPoolBuilder::name) of the worker's pool.
    pub fn pool_name(&self) -> &str {
        &self.pool_name
    }

    /// The name of the worker, as it stands in dumps.
    #[cfg(feature = "process")]
    pub(crate) fn worker_name(&self) -> String {
        format!("{}_{}", self.pool_name, self.index)
    }

    pub(crate) fn new(index: usize, pool_name: &str) -> Self {
        Self { index, pool_name: pool_name.into() }
    }

    /// Runs `work` with this thread as the worker.
    pub(crate) fn enter(self, work: impl FnOnce()) {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                THREAD.set(None);
            }
        }
        THREAD.set(Some(self));
        // Before the destructors of thread-locals run, when another worker may have the index.
        let _leave = Leave;
        work();
    }

    /// Makes this process the worker.
    #[cfg(feature = "process")]
    pub(crate) fn become_process(self) {
        // A process becomes a worker once, after it was forked.
        let _ = PROCESS.set(self);
    }
}
