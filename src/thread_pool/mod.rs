//! The executor on threads.
//!
//! [`ThreadPoolExecutor`] is a thin handle. The [`pool`] behind it owns the [`queue`] and the
//! counts of workers; a [`worker`] takes tasks from it and runs them; [`sleep`] is how it waits;
//! [`body`] says what a task computes. How a pool is made is in [`builder`].
//!
//! All of it is in the process that has made the pool. Callers are the user's code, jobs among it, and what
//! has a pool of threads for its maps: a process pool, and a worker's connection to its pool. What the
//! workers share is under the pool's lock.

mod body;
mod builder;
mod global;
mod pool;
mod queue;
mod runtime;
mod sleep;
mod worker;

pub use builder::ThreadPoolBuilder;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use self::body::{Async, Once};
use self::builder::Config;
use self::pool::{Ending, Origin, Pool, PoolHost};
use crate::closed::Closed;
use crate::core::{
    Continuation, Extra, Failure, Host, MaybeExtra, New, Options, context, submit, try_submit,
};
use crate::dump::Dump;
use crate::error::{Error, TrySubmitError};
use crate::executor::{Permit, TaskBuilder, impl_executor, impl_service, takes_jobs};
use crate::executor_state::ExecutorState;
use crate::future::{TaskFuture, refused};
use crate::job::{Job, SendJob};
use crate::label::Label;
use crate::lifecycle::{Accepting, Handle};
use crate::map::apply::Here;
use crate::map::crew::{AfterChunk, Crew};
use crate::map::{Map, TryMap};
use crate::metrics::Metrics;
use crate::panic::install_hook;
use crate::shutdown::{Shutdown, ShutdownFuture, ShutdownReport};
use crate::task_options::TaskOptions;

/// Runs jobs on a pool of threads of its own.
///
/// A cheap handle: clones share the pool. The queue is first in, first out, and unbounded unless
/// [`queue_capacity`](ThreadPoolBuilder::queue_capacity) says otherwise. All submitters share it:
/// with one worker, jobs start in the order of their submission, whoever submitted them. With
/// more, in about that order: a worker takes up to 64 tasks ahead while they are quick, and others
/// take them over when it is held up.
///
/// # The end of a pool
///
/// Dropping the last handle closes the pool: what was accepted still runs, then the workers end.
/// The drop never blocks and never joins, so it may happen anywhere: in an async task, or in one
/// of the pool's own jobs. To wait, use [`shutdown`](Self::shutdown) or
/// [`shutdown_blocking`](Self::shutdown_blocking).
///
/// The end of `main` ends the process and its threads, as always in Rust: jobs that have not
/// finished by then do not finish. A pool in a `static` is never dropped, and ends like that.
///
/// A child process made by a bare `fork` has a copy of the pool's memory and none of its threads. There
/// the pool is broken ([`Error::BrokenPool`]): it takes nothing, and its shutdown and drop are of no
/// consequence. Futures of tasks that it had taken before never finish in the child. A pool that the
/// child makes works as any other, and so do time limits.
///
/// # Waiting inside of a job
///
/// A job may submit to its own pool and wait for the result, also if there is a single worker;
/// see [`TaskFuture::result`]. It takes a clone of the handle along:
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
///
/// fn sum(pool: &ThreadPoolExecutor, mut numbers: Vec<u64>) -> Result<u64, Error> {
///     if numbers.len() < 100 {
///         return Ok(numbers.iter().sum());
///     }
///     let right = numbers.split_off(numbers.len() / 2);
///     let handle = pool.clone();
///     let right = pool.submit(move || sum(&handle, right));
///     Ok(sum(pool, numbers)? + right.result()??)
/// }
///
/// let pool = ThreadPoolExecutor::builder().max_workers(1).build()?;
/// assert_eq!(sum(&pool, (1..=1_000).collect())?, 500_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Blocking on this crate's futures in another way inside of a job, such as with
/// `Handle::block_on`, works as well; it costs a spare thread for each wait. While the system refuses
/// that thread the wait goes on, and the pool asks for it again and again.
///
/// # Examples
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let sum = pool.submit(|| (1..=100).sum::<u32>()).await?;
/// assert_eq!(sum, 5050);
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ThreadPoolExecutor {
    handle: Arc<Handle<PoolHost>>,
}

impl ThreadPoolExecutor {
    /// A pool with the defaults of [`builder`](Self::builder): one worker for each CPU that this
    /// process may use. No thread starts until there is a task for it.
    pub fn new() -> Self {
        match Self::builder().build() {
            Ok(pool) => pool,
            Err(error) => unreachable!("the defaults are valid: {error:?}"),
        }
    }

    /// A pool for work of the crate's own.
    #[cfg(feature = "process")]
    pub(crate) fn internal() -> Self {
        match Self::builder().internal().build() {
            Ok(pool) => pool,
            Err(error) => unreachable!("the defaults are valid: {error:?}"),
        }
    }

    /// Settings for a pool.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::default()
    }

    fn from_config(config: Config) -> Self {
        // Before any job can panic: the hook notes where.
        install_hook();
        let runtime = config.runtime.clone();
        let handle = Arc::new(Handle(PoolHost::new(Pool::new(config), runtime)));
        let _first = handle.0.pool.handle.set(Arc::downgrade(&handle));
        handle.0.pool.start_first_workers();
        Self { handle }
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.host().pool
    }

    fn host(&self) -> &Arc<PoolHost> {
        &self.handle.0
    }

    /// Returns whether this thread is one of the pool's.
    #[cfg(feature = "process")]
    pub(crate) fn is_running_here(&self) -> bool {
        context::is_worker_of(self.pool().address())
    }

    /// Hands in a job: a closure, or [`call!`](crate::call)`(f(x))`. Never blocks.
    ///
    /// If it is refused, the future is finished with the error, and the job is dropped:
    /// [`QueueFull`](Error::QueueFull), [`ShutDown`](Error::ShutDown) or
    /// [`BrokenPool`](Error::BrokenPool).
    ///
    /// A job may run after the caller has returned, so it can't borrow from the caller: a `move` closure
    /// owns what it uses, and an [`Arc`] is shared by several jobs.
    ///
    /// The value of a closure that returns a future is that future, which no worker polls. So
    /// `submit(|| async { .. })` computes nothing on the pool; write
    /// [`submit_future(async { .. })`](Self::submit_future):
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// # futures::executor::block_on(async {
    /// let pool = ThreadPoolExecutor::new();
    /// let not_polled = pool.submit(|| async { 6 * 7 }).await?;
    /// assert_eq!(not_polled.await, 42); // computed only now, by this thread
    /// assert_eq!(pool.submit_future(async { 6 * 7 }).await?, 42); // computed by a worker
    /// # Ok::<(), concurrent_futures::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn submit<J>(&self, job: J) -> TaskFuture<J::Output>
    where
        J: Job + Send + 'static,
        J::Output: Send + 'static,
    {
        let name = job.name();
        TaskFuture::new(submit(Once(job), |new| self.enter(new, name)))
    }

    /// Submits a job, or returns it if the pool can't take it.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().queue_capacity(8).build()?;
    /// let n = match pool.try_submit(|| 6 * 7) {
    ///     Ok(future) => future.result()?,
    ///     Err(refused) => refused.into_job()(), // do it here
    /// };
    /// assert_eq!(n, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The job, with the same reasons as for [`submit`](Self::submit).
    pub fn try_submit<J>(&self, job: J) -> Result<TaskFuture<J::Output>, TrySubmitError<J>>
    where
        J: Job + Send + 'static,
        J::Output: Send + 'static,
    {
        match self.pool().take_room() {
            Ok(()) => {
                let name = job.name();
                self.try_enqueue(job, name)
            }
            Err(error) => Err(TrySubmitError::new(job, error)),
        }
    }

    /// Hands in an async computation, which is polled on the pool's workers. So CPU-heavy async
    /// code leaves the I/O threads alone. Refused as by [`submit`](Self::submit).
    ///
    /// It takes room in the queue until its first poll, which is its start: from then on, dropping
    /// the [`TaskFuture`] lets it run on, and [`cancel`](TaskFuture::cancel) stops it at its next
    /// wait. While it waits it holds no worker, and the pool does not end before it has.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// # futures::executor::block_on(async {
    /// let pool = ThreadPoolExecutor::new();
    /// let (sender, receiver) = tokio::sync::oneshot::channel();
    /// let length = pool.submit_future(async move {
    ///     let text: String = receiver.await.unwrap_or_default(); // holds no worker
    ///     text.len()
    /// });
    /// let _ = sender.send("abc".to_owned());
    /// assert_eq!(length.await?, 3);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn submit_future<F>(&self, future: F) -> TaskFuture<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.submit_future_options(future, TaskOptions::new(), false)
    }

    /// Waits for room in the queue, to submit without being refused. First come, first served.
    /// Ready at once if the queue is unbounded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place in the line and loses nothing.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](Error::ShutDown) or [`BrokenPool`](Error::BrokenPool), also if that happens
    /// during the wait.
    pub async fn reserve(&self) -> Result<Permit<Self>, Error> {
        // No await comes between the room and the permit, so a future that is dropped here loses no
        // room.
        self.pool().wait_for_room().await?;
        Ok(Permit::new(self.clone()))
    }

    /// Takes room in the queue if there is some now, to submit without being refused.
    ///
    /// # Errors
    ///
    /// [`QueueFull`](Error::QueueFull), [`ShutDown`](Error::ShutDown) or
    /// [`BrokenPool`](Error::BrokenPool).
    pub fn try_reserve(&self) -> Result<Permit<Self>, Error> {
        self.pool().reserve_now()?;
        Ok(Permit::new(self.clone()))
    }

    /// Calls `f` with every item, on the workers. See [`Map`] for when it starts, and for how
    /// the results arrive. Two inputs are one with `zip`.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let powers = pool.map(|(base, exponent)| u32::pow(base, exponent), (1..4).zip(2..5));
    /// assert_eq!(powers.result()?, [1, 8, 81]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn map<A, R, F, I>(&self, f: F, items: I) -> Map<R>
    where
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(A) -> R + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        Map::new(self.clone(), Here::new(f), items.into_iter())
    }

    /// Calls `f` with the context and every item, on the workers: a [`map`](Self::map) whose items share a
    /// value. The workers see it by reference; it is dropped with the map.
    ///
    /// On threads a closure could capture the value as well. By this method the same code runs in worker
    /// processes, and on [any executor](crate::Executor::map_with).
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let words = ["no", "yes", "maybe"];
    /// let found = pool.map_with(words, |words, letter| words.iter().position(|word| word.contains(letter)), "ysx".chars());
    /// assert_eq!(found.result()?, [Some(1), Some(1), None]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn map_with<C, A, R, F, I>(&self, context: C, f: F, items: I) -> Map<R>
    where
        C: Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(&C, A) -> R + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        Map::new(self.clone(), Here::with(context, f), items.into_iter())
    }

    /// As [`map`](Self::map), with a function that returns a `Result`: its first error, in the order of the
    /// input, ends the map, and what has not started by then never runs. See [`TryMap`].
    pub fn try_map<A, R, E, F, I>(&self, f: F, items: I) -> TryMap<R, E>
    where
        A: Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        self.map(f, items).until_error()
    }

    /// The largest number of workers that run jobs at the same time.
    pub fn max_workers(&self) -> usize {
        self.pool().max_workers()
    }

    /// The pool's counters. O(workers).
    pub fn metrics(&self) -> Metrics {
        self.pool().metrics()
    }

    /// Returns a snapshot of the pool for people: who runs what since when, what is
    /// queued, who waits for whom. For when something is wrong; see [`dump`](crate::dump).
    ///
    /// ```
    /// # let pool = concurrent_futures::ThreadPoolExecutor::new();
    /// eprintln!("{}", pool.dump());
    /// ```
    pub fn dump(&self) -> Dump {
        self.pool().dump()
    }

    /// The phase of the pool's life.
    pub fn state(&self) -> ExecutorState {
        self.pool().state()
    }

    /// Waits until the pool takes no more tasks. See [`ExecutorService::closed`](crate::ExecutorService::closed).
    pub fn closed(&self) -> Closed {
        Closed::new(Some(self.pool().closed()))
    }

    /// The pool that this thread runs a job of. `None` elsewhere, and once the last handle was dropped,
    /// since the pool takes nothing more then.
    pub(crate) fn current() -> Option<Self> {
        let handle = worker::current_pool()?.handle.get()?.upgrade()?;
        Some(Self { handle })
    }

    /// Takes no more tasks, and ends. Begins with the call; await the future for the end and its
    /// report. Idempotent, from any clone; a later call may tighten `Drain` to `CancelQueued`.
    ///
    /// Submissions from now on end with [`Error::ShutDown`], those of jobs that still run too.
    /// Maps that were started go on under [`Shutdown::Drain`]: what their windows allow runs before
    /// the end; the rest runs when they are read, on workers that start again for it.
    pub fn shutdown(&self, how: Shutdown) -> ShutdownFuture {
        if self.pool().config.is_global {
            return ShutdownFuture::of_none();
        }
        self.pool().close(how);
        ShutdownFuture::new(Arc::new(Ending(Arc::clone(self.pool()))))
    }

    /// As [`shutdown`](Self::shutdown), waiting by blocking this thread until the workers'
    /// threads are gone.
    ///
    /// # Errors
    ///
    /// [`WouldDeadlock`](Error::WouldDeadlock) inside a job of this pool. The pool stays open
    /// then.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn shutdown_blocking(&self, how: Shutdown) -> Result<ShutdownReport, Error> {
        // Before the pool is closed: the error leaves it open.
        let is_inside = context::is_worker_of(self.pool().address());
        if is_inside && !self.pool().config.is_global {
            return Err(Error::WouldDeadlock);
        }
        self.shutdown(how).result()
    }

    /// Submits a job that belongs to work which was accepted before.
    #[cfg(feature = "process")]
    pub(crate) fn go_on<J: SendJob>(&self, job: J) -> TaskFuture<J::Output> {
        self.continue_with(job, None)
    }

    /// As `go_on`, with a label.
    fn continue_with<J: SendJob>(&self, job: J, label: Option<Label>) -> TaskFuture<J::Output> {
        let go_on = |new: &New<PoolHost, Continuation>| {
            let queued = self.host().enqueue(new, Continuation(label), Origin::Continuation);
            // By the drop of the job its owner learns that it has not run.
            queued.err().map(|error| Failure::new(error, ()))
        };
        TaskFuture::new(submit(Once(job), go_on))
    }

    // What follows for each kind of job is short, and what does not depend on the job is no part of it: every
    // job is compiled by the user.

    fn submit_job<J: SendJob>(
        &self,
        job: J,
        options: TaskOptions,
        holds_room: bool,
    ) -> TaskFuture<J::Output> {
        let options = options.named(job.name());
        TaskFuture::new(submit(Once(job), |new| {
            self.enter_with(new, options, holds_room, Origin::Caller)
        }))
    }

    fn try_submit_job<J: SendJob>(
        &self,
        job: J,
        options: TaskOptions,
    ) -> Result<TaskFuture<J::Output>, TrySubmitError<J>> {
        match self.pool().take_room() {
            Ok(()) => {
                let options = options.named(job.name());
                self.try_enqueue(job, Extra::new(options))
            }
            Err(error) => Err(TrySubmitError::new(job, error)),
        }
    }

    /// Gives the room of a permit back.
    fn leave_room(&self) {
        self.pool().free_room();
    }

    /// Submits with room in the queue taken, which the task gives back.
    fn try_enqueue<J: SendJob, X: MaybeExtra>(
        &self,
        job: J,
        extra: X,
    ) -> Result<TaskFuture<J::Output>, TrySubmitError<J>> {
        match try_submit(Once(job), |new| self.host().enqueue(new, extra, Origin::Caller)) {
            Ok(outcome) => Ok(TaskFuture::new(outcome)),
            Err((Once(job), error)) => Err(TrySubmitError::new(job, error)),
        }
    }

    fn submit_into_room<J: SendJob>(&self, job: J) -> TaskFuture<J::Output> {
        let name = job.name();
        TaskFuture::new(submit(Once(job), |new| self.enter_room(new, name)))
    }

    fn submit_future_options<F>(
        &self,
        future: F,
        options: TaskOptions,
        holds_room: bool,
    ) -> TaskFuture<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        TaskFuture::new(submit(Async::new(future), |new| {
            self.enter_with(new, options.options, holds_room, Origin::AsyncCaller)
        }))
    }

    /// Queues a new task, or returns the failure of its future.
    // The block of a task without options has no `Extra`. Never inlined: it would be a part of each job's code.
    #[inline(never)]
    fn enter<X: MaybeExtra>(&self, new: &New<PoolHost, X>, name: X) -> Option<Failure> {
        let label = name.label().cloned();
        let queued = match self.pool().take_room() {
            Ok(()) => self.host().enqueue_in_place(new, name, Origin::Caller),
            Err(error) => Err(error),
        };
        queued.err().map(|error| self.refused(error, label))
    }

    /// As [`enter`](Self::enter), with room in the queue taken.
    #[inline(never)]
    fn enter_room<X: MaybeExtra>(&self, new: &New<PoolHost, X>, name: X) -> Option<Failure> {
        let label = name.label().cloned();
        let queued = self.host().enqueue(new, name, Origin::Caller);
        queued.err().map(|error| self.refused(error, label))
    }

    fn enter_with(
        &self,
        new: &New<PoolHost, Extra>,
        options: Options,
        holds_room: bool,
        origin: Origin,
    ) -> Option<Failure> {
        let label = options.label.clone();
        let room = if holds_room { Ok(()) } else { self.pool().take_room() };
        let queued = room.and_then(|()| self.host().enqueue(new, Extra::new(options), origin));
        queued.err().map(|error| self.refused(error, label))
    }

    #[cold]
    fn refused(&self, error: Error, label: Option<Label>) -> Failure {
        refused(error, label, self.host().on_unobserved(), self.host().name())
    }
}

impl Default for ThreadPoolExecutor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolExecutor")
            .field("max_workers", &self.max_workers())
            .finish_non_exhaustive()
    }
}

impl Permit<ThreadPoolExecutor> {
    /// Submits a job into the room. It fails only if the pool was shut down or broke meanwhile:
    /// then the future is finished with that error.
    pub fn submit<J>(self, job: J) -> TaskFuture<J::Output>
    where
        J: Job + Send + 'static,
        J::Output: Send + 'static,
    {
        // The drop of the permit does nothing from here on: the task gives the room back.
        self.into_executor().submit_into_room(job)
    }

    /// Submits an async computation into the room, as [`submit`](Self::submit); see
    /// [`ThreadPoolExecutor::submit_future`].
    pub fn submit_future<F>(self, future: F) -> TaskFuture<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.into_executor().submit_future_options(future, TaskOptions::new(), true)
    }
}

impl TaskBuilder<&ThreadPoolExecutor> {
    /// Submits an async computation, as [`ThreadPoolExecutor::submit_future`]. The limit on the run counts
    /// from the first poll.
    pub fn submit_future<F>(self, future: F) -> TaskFuture<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (pool, options) = self.into_parts();
        options.submit(|options| pool.submit_future_options(future, options, false))
    }
}

impl TaskBuilder<Permit<ThreadPoolExecutor>> {
    /// Submits an async computation into the room, as [`ThreadPoolExecutor::submit_future`]. The limit on the
    /// run counts from the first poll.
    pub fn submit_future<F>(self, future: F) -> TaskFuture<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (permit, options) = self.into_parts();
        options
            .submit(|options| permit.into_executor().submit_future_options(future, options, true))
    }
}

impl_executor!(ThreadPoolExecutor);
takes_jobs!(ThreadPoolExecutor);
impl_service!(ThreadPoolExecutor);

/// A map keeps its pool open as long as it is held.
impl Crew for ThreadPoolExecutor {
    fn size(&self) -> usize {
        self.max_workers()
    }

    fn check_open(&self) -> Result<(), Error> {
        self.pool().check_open()
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>, label: Option<&Label>) -> TaskFuture<()> {
        self.continue_with(driver, label.cloned())
    }

    fn count_items(&self, count: usize) {
        self.pool().count_items(count);
    }

    fn after_chunk(&self) -> AfterChunk {
        self.pool().after_chunk()
    }

    fn refusal(&self) -> Error {
        self.pool().withdrawal()
    }

    fn may_help(&self) -> bool {
        // The chunk runs on this worker's stack, in the place of the job that waits. Never in a
        // forked child, where `has_stack` is false.
        context::worker()
            .is_some_and(|worker| worker.host() == self.pool().address() && worker.has_stack())
    }
}
