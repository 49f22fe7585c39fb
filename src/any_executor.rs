//! An executor whose kind is chosen at run time.

use crate::closed::Closed;
use crate::dump::Dump;
use crate::error::{Error, TrySubmitError};
use crate::executor::sealed::Sealed;
use crate::executor::{Executor, ExecutorService, Permit, takes_calls};
use crate::executor_state::ExecutorState;
use crate::future::TaskFuture;
use crate::inline::InlineExecutor;
use crate::job::PortableCall;
use crate::map::Map;
use crate::metrics::Metrics;
use crate::portable::Portable;
#[cfg(feature = "process")]
use crate::process_pool::ProcessPoolExecutor;
#[cfg(feature = "process")]
use crate::remote::parent_pool::ParentPool;
use crate::shutdown::{Shutdown, ShutdownFuture, ShutdownReport};
use crate::task_options::TaskOptions;
use crate::thread_pool::ThreadPoolExecutor;

/// One of the executors, chosen at run time: by a flag, a configuration, or the place that a job runs in.
///
/// ```
/// use concurrent_futures::{
///     AnyExecutor, Error, Executor, ExecutorService, InlineExecutor, Shutdown, ThreadPoolExecutor, call,
/// };
///
/// fn executor(threads: usize) -> Result<AnyExecutor, Error> {
///     Ok(match threads {
///         0 => InlineExecutor::new().into(),
///         n => ThreadPoolExecutor::builder().max_workers(n).build()?.into(),
///     })
/// }
///
/// for threads in [0, 2] {
///     let executor = executor(threads)?;
///     assert_eq!(executor.submit(call!(u32::pow(2, 5))).result()?, 32);
///     assert_eq!(executor.map(|n: u32| n * n, 1..4).result()?, [1, 4, 9]);
///     executor.shutdown_blocking(Shutdown::Drain)?;
/// }
/// # Ok::<(), Error>(())
/// ```
///
/// # The executor of a job
///
/// [`current`](Self::current) is the way of a job to the executor that it runs on, so that recursive code
/// need not hand it on. The pool of a worker process is not the job's to end: there `shutdown` ends nothing,
/// and counters and dump are empty.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyExecutor {
    /// A pool of threads.
    Threads(ThreadPoolExecutor),
    /// A pool of processes.
    #[cfg(feature = "process")]
    Processes(ProcessPoolExecutor),
    /// The pool that this process is a worker of.
    #[cfg(feature = "process")]
    Parent(ParentPool),
    /// The caller's thread.
    Inline(InlineExecutor),
}

/// Evaluates an expression for whichever executor it is.
macro_rules! with_each {
    ($executor:expr, $each:ident => $value:expr) => {
        match $executor {
            AnyExecutor::Threads($each) => $value,
            #[cfg(feature = "process")]
            AnyExecutor::Processes($each) => $value,
            #[cfg(feature = "process")]
            AnyExecutor::Parent($each) => $value,
            AnyExecutor::Inline($each) => $value,
        }
    };
}

impl AnyExecutor {
    /// The executor of the job that calls this: a pool of threads, the pool that this process is a worker
    /// of, or an inline executor. `None` outside of a job, and where the last handle of the pool was dropped,
    /// which takes no tasks then.
    ///
    /// ```
    /// use concurrent_futures::{AnyExecutor, Error, Executor, ThreadPoolExecutor, call};
    ///
    /// /// The same code on threads, on processes and inline.
    /// fn fibonacci(n: u32) -> u64 {
    ///     match AnyExecutor::current() {
    ///         Some(executor) if n > 5 => {
    ///             let one = executor.submit(call!(fibonacci(n - 1)));
    ///             fibonacci(n - 2) + one.result().expect("it does not panic")
    ///         }
    ///         _ if n < 2 => u64::from(n),
    ///         _ => fibonacci(n - 1) + fibonacci(n - 2),
    ///     }
    /// }
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// assert_eq!(pool.submit(call!(fibonacci(12))).result()?, 144);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn current() -> Option<Self> {
        // The innermost first: an inline executor runs its jobs on any thread, and a worker process may have
        // pools of its own.
        let current = InlineExecutor::current().map(Self::Inline);
        let current = current.or_else(|| ThreadPoolExecutor::current().map(Self::Threads));
        #[cfg(feature = "process")]
        let current = current.or_else(|| ParentPool::current().map(Self::Parent));
        current
    }
}

impl Executor for AnyExecutor {
    fn submit<C: PortableCall>(&self, call: C) -> TaskFuture<C::Output> {
        with_each!(self, executor => executor.submit(call))
    }

    fn try_submit<C: PortableCall>(
        &self,
        call: C,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        with_each!(self, executor => executor.try_submit(call))
    }

    async fn reserve(&self) -> Result<Permit<Self>, Error> {
        with_each!(self, executor => Ok(executor.reserve().await?.into_any()))
    }

    fn try_reserve(&self) -> Result<Permit<Self>, Error> {
        with_each!(self, executor => Ok(executor.try_reserve()?.into_any()))
    }

    fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Map<R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        with_each!(self, executor => executor.map(function, items))
    }

    fn map_with<C, A, R, I>(&self, context: C, function: fn(&C, A) -> R, items: I) -> Map<R>
    where
        C: Portable + Sync,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        with_each!(self, executor => executor.map_with(context, function, items))
    }

    fn max_workers(&self) -> usize {
        with_each!(self, executor => executor.max_workers())
    }
}

impl ExecutorService for AnyExecutor {
    fn metrics(&self) -> Metrics {
        with_each!(self, executor => executor.metrics())
    }

    fn dump(&self) -> Dump {
        with_each!(self, executor => executor.dump())
    }

    fn state(&self) -> ExecutorState {
        with_each!(self, executor => executor.state())
    }

    fn closed(&self) -> Closed {
        with_each!(self, executor => executor.closed())
    }

    fn shutdown(&self, how: Shutdown) -> ShutdownFuture {
        with_each!(self, executor => executor.shutdown(how))
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn shutdown_blocking(&self, how: Shutdown) -> Result<ShutdownReport, Error> {
        with_each!(self, executor => executor.shutdown_blocking(how))
    }
}

impl Sealed for AnyExecutor {
    fn submit_options<C: PortableCall>(
        &self,
        call: C,
        options: TaskOptions,
        holds_room: bool,
    ) -> TaskFuture<C::Output> {
        with_each!(self, executor => executor.submit_options(call, options, holds_room))
    }

    fn try_submit_options<C: PortableCall>(
        &self,
        call: C,
        options: TaskOptions,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        with_each!(self, executor => executor.try_submit_options(call, options))
    }

    fn release_room(&self) {
        with_each!(self, executor => executor.release_room());
    }
}

takes_calls!(AnyExecutor);

impl<E: Executor + Into<AnyExecutor>> Permit<E> {
    /// The same room, as that of any executor.
    fn into_any(self) -> Permit<AnyExecutor> {
        Permit::new(self.into_executor().into())
    }
}

impl From<ThreadPoolExecutor> for AnyExecutor {
    fn from(pool: ThreadPoolExecutor) -> Self {
        Self::Threads(pool)
    }
}

#[cfg(feature = "process")]
impl From<ProcessPoolExecutor> for AnyExecutor {
    fn from(pool: ProcessPoolExecutor) -> Self {
        Self::Processes(pool)
    }
}

#[cfg(feature = "process")]
impl From<ParentPool> for AnyExecutor {
    fn from(pool: ParentPool) -> Self {
        Self::Parent(pool)
    }
}

impl From<InlineExecutor> for AnyExecutor {
    fn from(executor: InlineExecutor) -> Self {
        Self::Inline(executor)
    }
}
