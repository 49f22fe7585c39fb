//! The executor on worker processes. In the process that has made it.
//!
//! [`ProcessPoolExecutor`] is a thin handle. The pool behind it, [`scheduler`](crate::remote::scheduler),
//! owns the queue and what it knows of each worker; the [`reactor`](crate::reactor) reads what workers
//! send. A call is packed by the [`codec`](crate::codec) and goes over a socket as a
//! [`frame`](crate::remote::frame); a [`claim`](crate::local::claim) decides whether it starts. On the
//! other side is the [`worker`](crate::remote::worker), a child of the helper process, which
//! [`local::start`](crate::local::start) starts.

pub(crate) mod builder;
#[cfg(fuzzing)]
#[allow(missing_docs, unreachable_pub, reason = "for tests/fuzz")]
pub mod fuzzing;
mod transport;

pub use builder::ProcessPoolBuilder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::transport::{ProcessPool, Settings};
use crate::closed::Closed;
use crate::core::{Extra, OnUnobserved, Options, Promise, Source, TaskId};
use crate::dump::Dump;
use crate::error::{Error, TrySubmitError};
use crate::executor::sealed::Sealed;
use crate::executor::{Permit, impl_executor, impl_service, takes_calls};
use crate::executor_state::ExecutorState;
use crate::future::TaskFuture;
use crate::job::PortableCall;
use crate::label::Label;
use crate::lifecycle::{Accepting, Handle};
use crate::map::elsewhere::Elsewhere;
use crate::map::{Map, TryMap};
use crate::metrics::Metrics;
use crate::panic::{drop_quietly, install_hook};
use crate::portable::Portable;
use crate::remote;
use crate::remote::frame::Kind;
use crate::remote::map::Chunks;
use crate::remote::scheduler::Ending;
use crate::remote::scheduler::config::Config;
use crate::remote::scheduler::crew::MapCrew;
use crate::remote::submission::Submission;
use crate::shutdown::{Closing, Shutdown, ShutdownFuture, ShutdownReport};
use crate::sys;
use crate::task_options::TaskOptions;
use crate::trace::TaskTrace;

/// Runs calls of plain functions in worker processes: with memory of their own, so that a crash
/// fails one task, and a running task can be killed.
///
/// A cheap handle: clones share the pool. What it takes is a [`call!`](crate::call) of a plain
/// `fn`, with arguments and a result that [serde] can carry. The workers are processes of the same
/// program, forked from a helper process that the pool starts; functions need no registration, and
/// `main` no extra line. Linux only so far; elsewhere [`new`](Self::new) says so.
///
/// In a child process made by a bare `fork` the pool is broken ([`Error::BrokenPool`]), and its workers
/// are the parent's. A pool that the child makes works as any other.
///
/// [serde]: https://serde.rs
///
/// ```
/// use concurrent_futures::{Error, ProcessPoolExecutor, call};
///
/// fn fib(n: u64) -> u64 {
///     if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
/// }
///
/// fn crash() {
///     std::process::abort();
/// }
///
/// # futures::executor::block_on(async {
/// let pool = ProcessPoolExecutor::new()?;
/// assert_eq!(pool.submit(call!(fib(20))).await?, 6765);
///
/// let lost = pool.submit(call!(crash())).await;
/// assert!(matches!(lost, Err(Error::WorkerLost(_))));
/// assert_eq!(pool.submit(call!(fib(10))).await?, 55); // the pool goes on
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ProcessPoolExecutor {
    handle: Arc<Handle<ProcessPool>>,
}

impl ProcessPoolExecutor {
    /// A pool with the defaults of [`builder`](Self::builder): one worker for each CPU that this
    /// process may use.
    ///
    /// # Errors
    ///
    /// [`BrokenPool`](Error::BrokenPool) if worker processes can't be started here, with the cause.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Settings for a pool.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder::default()
    }

    fn from_config(config: Config, settings: Settings) -> Result<Self, Error> {
        install_hook();
        Ok(Self { handle: Arc::new(Handle(transport::new_pool(config, settings)?)) })
    }

    fn pool(&self) -> &Arc<ProcessPool> {
        &self.handle.0
    }

    /// Hands in a call. Never blocks; the arguments are encoded here.
    ///
    /// If it is refused, the future is finished with the error:
    /// [`QueueFull`](Error::QueueFull), [`ShutDown`](Error::ShutDown),
    /// [`BrokenPool`](Error::BrokenPool), or [`Codec`](Error::Codec) if the arguments can't be
    /// encoded.
    ///
    /// Arguments and result are owned values with serde's traits: a `String` instead of a `&str`, see
    /// [`call!`](crate::call), and a [`PortableError`](crate::PortableError) instead of an error that serde
    /// does not know. The function is no `async fn`, since no future can be sent back.
    ///
    /// ```
    /// use concurrent_futures::{Error, PortableError, ProcessPoolExecutor, call};
    ///
    /// fn size(path: String) -> Result<u64, PortableError> {
    ///     Ok(std::fs::metadata(path)?.len())
    /// }
    ///
    /// let pool = ProcessPoolExecutor::new()?;
    /// assert!(pool.submit(call!(size("no/such/file".to_owned()))).result()?.is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn submit<C: PortableCall>(&self, call: C) -> TaskFuture<C::Output> {
        self.submit_options(call, TaskOptions::new(), false)
    }

    /// Hands in a call, or gives it back.
    ///
    /// # Errors
    ///
    /// The call, if the queue is full, or the pool closed or broken.
    pub fn try_submit<C: PortableCall>(
        &self,
        call: C,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        self.try_submit_options(call, TaskOptions::new())
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

    /// Calls `function` with every item, in the workers. See [`Map`] for when it starts, and for how
    /// the results arrive. Two inputs are one with `zip`. The items are taken from the input on threads
    /// of this process.
    ///
    /// A plain function is needed, since only that has a name in another process. What a closure would
    /// capture is the context of [`map_with`](Self::map_with); one that captures nothing is a plain function:
    ///
    /// ```
    /// use concurrent_futures::ProcessPoolExecutor;
    ///
    /// let pool = ProcessPoolExecutor::new()?;
    /// let squares = pool.map(|n: u64| n * n, 0..1_000).result()?;
    /// assert_eq!(squares[999], 998_001);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// If a worker is lost, that is the error of the item that it ran.
    pub fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Map<R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let crew = MapCrew { pool: Arc::clone(self.pool()), handle: self.clone() };
        let remote = Chunks::new(Arc::clone(self.pool()), function);
        Map::new(crew, Elsewhere(remote), items.into_iter())
    }

    /// Calls `function` with the context and every item, in the workers: a [`map`](Self::map) whose items
    /// share a value. The context is encoded by this call, once. Each worker is sent it once, before its
    /// first chunk of this map, decodes it then, and drops it when the map was dropped or awaited. What
    /// is large in it may be a [`Buffer`](crate::Buffer), which is not copied to be encoded.
    ///
    /// ```
    /// use concurrent_futures::{Buffer, ProcessPoolExecutor};
    ///
    /// fn mean_from(samples: &Buffer<f64>, start: usize) -> f64 {
    ///     let window = &samples[start..start + 100];
    ///     window.iter().sum::<f64>() / window.len() as f64
    /// }
    ///
    /// let samples: Buffer<f64> = (0..1_000_000).map(f64::from).collect();
    /// let pool = ProcessPoolExecutor::new()?;
    /// let means = pool.map_with(samples, mean_from, [0, 1_000, 2_000]).result()?;
    /// assert_eq!(means, [49.5, 1049.5, 2049.5]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// A context that can't be encoded is the error of the map, [`Error::Codec`], before any item. One
    /// that can't be decoded in the workers is that of each item. What a function changes in a context, by a
    /// `Mutex` for example, changes in its worker alone.
    ///
    /// The pool keeps the encoded context as long as the map, for workers that start later, such as the one
    /// in place of a worker that was lost.
    pub fn map_with<C, A, R, I>(&self, context: C, function: fn(&C, A) -> R, items: I) -> Map<R>
    where
        C: Portable + Sync,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let crew = MapCrew { pool: Arc::clone(self.pool()), handle: self.clone() };
        let remote = Chunks::with(Arc::clone(self.pool()), context, function);
        Map::new(crew, Elsewhere(remote), items.into_iter())
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
        self.pool().config.max_workers
    }

    /// The process ids of the workers that are alive.
    pub fn worker_pids(&self) -> Vec<u32> {
        self.pool().worker_pids()
    }

    /// The pool's counters. O(workers).
    pub fn metrics(&self) -> Metrics {
        self.pool().metrics()
    }

    /// Returns a snapshot of the pool for people: which process runs what since when,
    /// what is queued, who waits for whom. For when something is wrong; see [`dump`](crate::dump).
    ///
    /// ```
    /// # let pool = concurrent_futures::ProcessPoolExecutor::new()?;
    /// eprintln!("{}", pool.dump());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn dump(&self) -> Dump {
        let mut dump = self.pool().dump();
        // Without the pool's lock, since the system is asked.
        for worker in &mut dump.workers {
            let usage = worker.pid.and_then(sys::usage);
            worker.cpu_time = usage.map(|usage| usage.cpu_time);
            worker.peak_memory = usage.map(|usage| usage.peak_memory);
            worker.is_frozen = worker.pid.is_some_and(sys::is_frozen);
        }
        dump
    }

    /// The phase of the pool's life.
    pub fn state(&self) -> ExecutorState {
        self.pool().executor_state()
    }

    /// Waits until the pool takes no more tasks. See [`ExecutorService::closed`](crate::ExecutorService::closed).
    pub fn closed(&self) -> Closed {
        Closed::new(Some(self.pool().closed()))
    }

    /// Takes no more tasks, and ends. Begins with the call; await the future for the end and its
    /// report. Idempotent, from any clone; a later call may tighten `Drain` to `CancelQueued`.
    pub fn shutdown(&self, how: Shutdown) -> ShutdownFuture {
        self.pool().close(how);
        ShutdownFuture::new(Arc::new(Ending(Arc::clone(self.pool()))))
    }

    /// As [`shutdown`](Self::shutdown), waiting by blocking this thread until the workers'
    /// processes are gone.
    ///
    /// # Errors
    ///
    /// [`WouldDeadlock`](Error::WouldDeadlock) inside a job of this pool.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn shutdown_blocking(&self, how: Shutdown) -> Result<ShutdownReport, Error> {
        if Ending(Arc::clone(self.pool())).is_inside() {
            return Err(Error::WouldDeadlock);
        }
        self.shutdown(how).result()
    }

    /// Ends the pool by force: takes no more tasks, cancels those that have not started, and asks
    /// all workers to end with SIGTERM; those that are left after `grace` are killed. Tasks that
    /// were running end with [`WorkerLost`](Error::WorkerLost).
    pub fn terminate_workers(&self, grace: Duration) -> ShutdownFuture {
        self.pool().terminate_workers(grace);
        ShutdownFuture::new(Arc::new(Ending(Arc::clone(self.pool()))))
    }

    /// Ends the pool by force: takes no more tasks, cancels those that have not started, and kills
    /// all workers. Tasks that were running end with [`WorkerLost`](Error::WorkerLost).
    pub fn kill_workers(&self) -> ShutdownFuture {
        self.pool().kill_workers();
        ShutdownFuture::new(Arc::new(Ending(Arc::clone(self.pool()))))
    }

    fn try_submit_named<C: PortableCall>(
        &self,
        call: C,
        options: Options,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        match self.pool().take_room() {
            Ok(()) => self.submit_into_room(call, options),
            Err(error) => Err(TrySubmitError::new(call, error)),
        }
    }

    /// Submits with room in the queue taken, which the task gives back.
    fn submit_into_room<C: PortableCall>(
        &self,
        call: C,
        options: Options,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        let pool = self.pool();
        // Before the arguments are encoded: until then the call can be given back.
        if let Err(error) = pool.check_open() {
            pool.free_room();
            return Err(TrySubmitError::new(call, error));
        }
        let content = match remote::call::pack(call.into_call()) {
            Ok(content) => content,
            Err(error) => {
                pool.free_room();
                return Ok(self.refused_future(error, options.label));
            }
        };
        let label = options.label.clone();
        let extra = Extra::new(options.clone());
        let (promise, outcome) = Promise::of(PoolTask { pool: Arc::clone(pool), extra });
        let number = promise.id().get();
        let submission = Submission {
            number,
            trace: TaskTrace::new(number, label.as_ref(), &pool.config.name),
            kind: Kind::Call,
            detail: options.timeout_nanos(),
            content,
            sink: Box::new(promise),
            options,
            holds_room: pool.config.queue_capacity.is_some(),
            context: None,
        };
        // Closed or broken since the check above. The call is packed, so its future gets the error.
        if let Err(submission) = pool.push(submission) {
            pool.free_room();
            submission.sink.complete(Err(pool.refusal()), &TaskTrace::none(), &|_| ());
        }
        Ok(TaskFuture::new(outcome))
    }

    fn refused_future<T: Send + 'static>(
        &self,
        error: Error,
        label: Option<Label>,
    ) -> TaskFuture<T> {
        let config = &self.pool().config;
        TaskFuture::refused(error, label, &config.on_unobserved, &config.name)
    }
}

/// A task of the pool, as its future sees it.
struct PoolTask {
    pool: Arc<ProcessPool>,
    extra: Extra,
}

impl Source for PoolTask {
    fn withdraw(&self, task: TaskId, stop: bool) -> bool {
        self.pool.withdraw(task.get(), stop)
    }

    fn kill(&self, task: TaskId) -> bool {
        self.pool.kill(task.get())
    }

    fn is_withdrawn_on_drop(&self) -> bool {
        true
    }

    fn is_running(&self, task: TaskId) -> bool {
        self.pool.is_running(task.get())
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }

    fn on_unobserved(&self) -> Option<(&OnUnobserved, &str)> {
        let config = &self.pool.config;
        Some((&config.on_unobserved, &config.name))
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolExecutor")
            .field("max_workers", &self.max_workers())
            .finish_non_exhaustive()
    }
}

impl Sealed for ProcessPoolExecutor {
    fn submit_options<C: PortableCall>(
        &self,
        call: C,
        options: TaskOptions,
        holds_room: bool,
    ) -> TaskFuture<C::Output> {
        let options = options.named(call.name());
        let label = options.label.clone();
        let submitted = if holds_room {
            self.submit_into_room(call, options)
        } else {
            self.try_submit_named(call, options)
        };
        submitted.unwrap_or_else(|refused| {
            let (call, error) = refused.into_parts();
            drop_quietly(call);
            self.refused_future(error, label)
        })
    }

    fn try_submit_options<C: PortableCall>(
        &self,
        call: C,
        options: TaskOptions,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        let options = options.named(call.name());
        self.try_submit_named(call, options)
    }

    fn release_room(&self) {
        self.pool().free_room();
    }
}

impl_executor!(ProcessPoolExecutor);
takes_calls!(ProcessPoolExecutor);
impl_service!(ProcessPoolExecutor);
