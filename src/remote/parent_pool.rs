//! The pool, from within one of its worker processes.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::closed::Closed;
use crate::core::{Extra, Promise, Source, TaskId};
use crate::dump::Dump;
use crate::error::{Error, TrySubmitError};
use crate::executor::sealed::Sealed;
use crate::executor::{Permit, impl_executor, takes_calls};
use crate::executor_state::ExecutorState;
use crate::future::TaskFuture;
use crate::job::PortableCall;
use crate::label::Label;
use crate::map::crew::{AfterChunk, Crew};
use crate::map::elsewhere::Elsewhere;
use crate::map::{Map, TryMap};
use crate::metrics::Metrics;
use crate::portable::Portable;
use crate::remote::call;
use crate::remote::frame::Kind;
use crate::remote::map::Chunks;
use crate::remote::map_context::MapContext;
use crate::remote::submission::{Submission, Submit};
use crate::shutdown::{Shutdown, ShutdownFuture, ShutdownReport};
use crate::task_options::TaskOptions;
use crate::thread_pool::ThreadPoolExecutor;
use crate::trace::TaskTrace;

/// The way from a task to the pool that it belongs to.
pub(crate) trait Parent: Send + Sync {
    /// Submits a call or chunk. A refusal is told to its sink.
    fn submit(self: Arc<Self>, submission: Submission);

    /// Withdraws a task. With `stop`, waits for the pool to say whether it could, and has the task asked
    /// to stop if not. `true`: it was withdrawn, which its future is about to be told.
    fn withdraw(&self, number: u64, stop: bool) -> bool;

    /// Tells the pool that a map has ended, if it knows the context.
    fn end_context(&self, context: &MapContext);

    fn max_workers(&self) -> usize;

    /// Threads for maps: their input, and what they send and receive.
    fn helpers(&self) -> &ThreadPoolExecutor;

    /// Returns whether this is the process that it was made in, and not a fork of that.
    fn is_here(&self) -> bool;
}

static PARENT: OnceLock<Arc<dyn Parent>> = OnceLock::new();

/// Makes the tasks of this process belong to a pool.
pub(crate) fn install(parent: Arc<dyn Parent>) {
    let _first = PARENT.set(parent);
}

/// The pool that this process is a worker of.
///
/// A job submits to its own pool by this, and may wait for the result: its worker does not count
/// against `max_workers` meanwhile, so that works with one worker too. Another worker takes its place, for
/// the task that it waits for and its other ones before all that is queued.
///
/// A handle from the process that has made the pool can't be used here, and one that is made here
/// is that of another pool, with workers of its own.
///
/// ```
/// use concurrent_futures::{Error, ParentPool, ProcessPoolExecutor, call};
///
/// fn sum(numbers: Vec<u64>) -> u64 {
///     let Some(pool) = ParentPool::current() else { return numbers.iter().sum() };
///     if numbers.len() < 100 {
///         return numbers.iter().sum();
///     }
///     let (left, right) = numbers.split_at(numbers.len() / 2);
///     let left = pool.submit(call!(sum(left.to_vec())));
///     sum(right.to_vec()) + left.result().unwrap()
/// }
///
/// let pool = ProcessPoolExecutor::builder().max_workers(1).build()?;
/// assert_eq!(pool.submit(call!(sum((1..=400).collect()))).result()?, 80_200);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct ParentPool {
    parent: Arc<dyn Parent>,
}

impl ParentPool {
    /// The pool of this worker process; `None` in any other process.
    pub fn current() -> Option<Self> {
        let parent = PARENT.get().filter(|parent| parent.is_here())?;
        Some(Self { parent: Arc::clone(parent) })
    }

    /// Hands in a call. Never blocks; a refusal is the future's error, as for
    /// [`ProcessPoolExecutor::submit`](crate::ProcessPoolExecutor::submit).
    ///
    /// [`cancel`](TaskFuture::cancel) on the future waits for the pool's answer.
    pub fn submit<C: PortableCall>(&self, call: C) -> TaskFuture<C::Output> {
        self.submit_options(call, TaskOptions::new(), false)
    }

    /// As [`submit`](Self::submit): this process does not know whether the pool takes the call, and a
    /// refusal is the future's error.
    ///
    /// # Errors
    ///
    /// None; the signature is that of all executors.
    pub fn try_submit<C: PortableCall>(
        &self,
        call: C,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        Ok(self.submit(call))
    }

    /// Ready at once: what a task submits takes no room in the queue.
    ///
    /// # Errors
    ///
    /// None; the signature is that of all executors.
    pub async fn reserve(&self) -> Result<Permit<Self>, Error> {
        self.try_reserve()
    }

    /// As [`reserve`](Self::reserve).
    ///
    /// # Errors
    ///
    /// None; the signature is that of all executors.
    pub fn try_reserve(&self) -> Result<Permit<Self>, Error> {
        Ok(Permit::new(self.clone()))
    }

    /// Calls `function` with every item, in the pool's workers. See
    /// [`ProcessPoolExecutor::map`](crate::ProcessPoolExecutor::map).
    pub fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Map<R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let remote = Elsewhere(Chunks::new(self.clone(), function));
        Map::new(self.clone(), remote, items.into_iter())
    }

    /// Calls `function` with the context and every item, in the pool's workers. See
    /// [`ProcessPoolExecutor::map_with`](crate::ProcessPoolExecutor::map_with).
    pub fn map_with<C, A, R, I>(&self, context: C, function: fn(&C, A) -> R, items: I) -> Map<R>
    where
        C: Portable + Sync,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let remote = Elsewhere(Chunks::with(self.clone(), context, function));
        Map::new(self.clone(), remote, items.into_iter())
    }

    /// As [`map`](Self::map), with a function that returns a `Result`: its first error, in the order of the
    /// input, ends the map, and what has not started by then never runs. See [`TryMap`].
    pub fn try_map<A, R, E, I>(&self, function: fn(A) -> Result<R, E>, items: I) -> TryMap<R, E>
    where
        A: Portable,
        R: Portable,
        E: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        self.map(function, items).until_error()
    }

    /// The largest number of workers that run tasks at the same time.
    pub fn max_workers(&self) -> usize {
        self.parent.max_workers()
    }
}

/// The answers of [`AnyExecutor`](crate::AnyExecutor) for a pool that is not its own to end.
impl ParentPool {
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::none()
    }

    pub(crate) fn dump(&self) -> Dump {
        Dump::of_none("parent", self.state(), self.max_workers())
    }

    pub(crate) fn state(&self) -> ExecutorState {
        ExecutorState::Open
    }

    pub(crate) fn closed(&self) -> Closed {
        Closed::new(None)
    }

    pub(crate) fn shutdown(&self, _how: Shutdown) -> ShutdownFuture {
        ShutdownFuture::of_none()
    }

    pub(crate) fn shutdown_blocking(&self, how: Shutdown) -> Result<ShutdownReport, Error> {
        self.shutdown(how).result()
    }
}

impl Sealed for ParentPool {
    fn submit_options<C: PortableCall>(
        &self,
        call: C,
        options: TaskOptions,
        _holds_room: bool,
    ) -> TaskFuture<C::Output> {
        let content = match call::pack(call.into_call()) {
            Ok(content) => content,
            Err(error) => return TaskFuture::ready(Err(error)),
        };
        let options = options.options;
        let extra = Extra::new(options.clone());
        let (promise, outcome) = Promise::of(PoolTask { parent: Arc::clone(&self.parent), extra });
        Arc::clone(&self.parent).submit(Submission {
            number: promise.id().get(),
            kind: Kind::Call,
            detail: options.timeout_nanos(),
            content,
            sink: Box::new(promise),
            options,
            // Room and span are given to the task in the pool's process.
            holds_room: false,
            trace: TaskTrace::none(),
            context: None,
        });
        TaskFuture::new(outcome)
    }

    fn try_submit_options<C: PortableCall>(
        &self,
        call: C,
        options: TaskOptions,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        Ok(self.submit_options(call, options, false))
    }

    fn release_room(&self) {}
}

impl_executor!(ParentPool);
takes_calls!(ParentPool);

#[cfg(test)]
impl ParentPool {
    pub(crate) fn of(parent: Arc<dyn Parent>) -> Self {
        Self { parent }
    }
}

impl Submit for ParentPool {
    fn submit(&self, submission: Submission) {
        Arc::clone(&self.parent).submit(submission);
    }

    fn cancel(&self, number: u64) {
        self.parent.withdraw(number, true);
    }

    fn end_context(&self, context: Arc<MapContext>) {
        self.parent.end_context(&context);
    }

    fn withdrawal(&self) -> Error {
        Error::Cancelled
    }

    fn go_on(&self, job: Box<dyn FnOnce() + Send>) {
        self.parent.helpers().go_on(job).detach();
    }
}

impl Crew for ParentPool {
    fn size(&self) -> usize {
        // One chunk in each worker's hands, and one on the way.
        2 * self.max_workers()
    }

    fn check_open(&self) -> Result<(), Error> {
        Ok(())
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>, _label: Option<&Label>) -> TaskFuture<()> {
        self.parent.helpers().go_on(driver)
    }

    fn after_chunk(&self) -> AfterChunk {
        AfterChunk::GoOn
    }

    fn refusal(&self) -> Error {
        Error::Cancelled
    }

    fn may_help(&self) -> bool {
        false
    }
}

/// A task that this process has submitted, as its future sees it.
struct PoolTask {
    parent: Arc<dyn Parent>,
    extra: Extra,
}

impl Source for PoolTask {
    fn withdraw(&self, task: TaskId, stop: bool) -> bool {
        // The answer finishes the future of a task that is withdrawn, if the caller does not before.
        self.parent.withdraw(task.get(), stop)
    }

    fn kill(&self, task: TaskId) -> bool {
        // A worker can't have another one killed.
        self.withdraw(task, true)
    }

    fn is_withdrawn_on_drop(&self) -> bool {
        true
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }
}

impl fmt::Debug for ParentPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentPool").field("max_workers", &self.max_workers()).finish()
    }
}
