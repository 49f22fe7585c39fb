//! The builder of a pool.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::ThreadPoolExecutor;
use super::runtime::Runtime;
use crate::core::{OnUnobserved, UnobservedFailure};
use crate::error::Error;
use crate::initializer::InitializerOutcome;
use crate::instruments::Instruments;
use crate::panic::Quiet;
use crate::settings;

/// Smallest stack of a task, which any thread of Rust's standard library has.
const DEFAULT_STACK_SIZE: usize = 2 * 1024 * 1024;

type Initializer = Arc<dyn Fn() -> Result<(), Box<dyn StdError + Send + Sync>> + Send + Sync>;
type Finalizer = Arc<dyn Fn() + Send + Sync>;

pub(super) struct Config {
    pub(super) max_workers: usize,
    pub(super) name: String,
    pub(super) initializer: Option<Initializer>,
    pub(super) finalizer: Option<Finalizer>,
    pub(super) stack_size: usize,
    pub(super) queue_capacity: Option<usize>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) min_workers: usize,
    /// The runtime that the initializer sees, and jobs that are submitted outside of a runtime.
    pub(super) runtime: Runtime,
    /// Set if other jobs see the runtime that they are submitted in.
    pub(super) follows_submitter: bool,
    pub(super) on_unobserved: OnUnobserved,
    pub(super) print_panics: bool,
    pub(super) instruments: Instruments,
    /// A part of another executor, which has a way to do without its threads: a refusal of the first
    /// one fails what waits, and breaks nothing.
    pub(super) is_internal: bool,
    pub(super) is_global: bool,
}

/// Builds a [`ThreadPoolExecutor`]. From [`ThreadPoolExecutor::builder`].
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::builder()
///     .max_workers(8)
///     .name("render")
///     .queue_capacity(1_000)
///     .build()?;
/// # drop(pool);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// A clone makes a second pool with the same settings, name included.
#[derive(Clone, Default)]
#[must_use = "a builder makes a pool only when `build` is called"]
pub struct ThreadPoolBuilder {
    max_workers: Option<usize>,
    name: Option<String>,
    initializer: Option<Initializer>,
    finalizer: Option<Finalizer>,
    stack_size: Option<usize>,
    queue_capacity: Option<usize>,
    idle_timeout: Option<Duration>,
    min_workers: Option<usize>,
    runtime: Option<Runtime>,
    on_unobserved: OnUnobserved,
    hides_panics: bool,
    is_internal: bool,
    /// Set for the pool of the whole program, which is never ended.
    pub(super) is_global: bool,
}

impl ThreadPoolBuilder {
    /// The largest number of workers that run jobs at the same time. They start on demand, and an
    /// idle one is used before a new one starts. A worker that waits for another task does not
    /// count; a spare takes its place meanwhile.
    ///
    /// Default: `num_cpus::get()`, the CPUs that this process may use by its affinity and cgroup
    /// quota. 0 is an error of [`build`](Self::build).
    pub fn max_workers(mut self, n: usize) -> Self {
        self.max_workers = Some(n);
        self
    }

    /// The name of the pool, in dumps and metrics. Workers are named by it and their number: `render_0`,
    /// `render_1` and so on, of which Linux shows the first 15 bytes.
    ///
    /// Default: `pool-` and a number that no other pool of the process has. A NUL byte in it is
    /// an error of [`build`](Self::build).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Runs in each worker before its first task, spares included. It may return `()` or a
    /// `Result<(), E>`. If it fails or panics, the pool is broken: tasks that wait and all later
    /// ones end with [`Error::BrokenPool`], which carries the cause.
    /// Default: none.
    ///
    /// ```
    /// use concurrent_futures::{ThreadPoolExecutor, WorkerInfo};
    /// use std::cell::RefCell;
    ///
    /// thread_local! { static SCRATCH: RefCell<String> = RefCell::default(); }
    ///
    /// let pool = ThreadPoolExecutor::builder()
    ///     .initializer(|| {
    ///         let worker = WorkerInfo::current().ok_or("this is no worker")?;
    ///         SCRATCH.set(format!("scratch/{}", worker.index()));
    ///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    ///     })
    ///     .build()?;
    /// assert_eq!(pool.submit(|| SCRATCH.take()).result()?, "scratch/0");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn initializer<F, R>(mut self, initializer: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: InitializerOutcome,
    {
        let initializer = Quiet::new(initializer);
        self.initializer = Some(Arc::new(move || initializer().into_result()));
        self
    }

    /// Runs in each worker after its last task, spares included: when the pool has ended, by a
    /// [`shutdown`](ThreadPoolExecutor::shutdown) or since its last handle was dropped, or broke, and when
    /// a worker ends before that. A shutdown waits for it. Default: none.
    ///
    /// It does not run in a worker whose initializer has failed, nor in one that still works when
    /// the program ends. A panic in it is reported by the panic hook and harms nothing. It is no
    /// task and takes no worker's place: while it runs, another worker may start.
    ///
    /// ```
    /// use concurrent_futures::{Shutdown, ThreadPoolExecutor};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let closed = Arc::new(AtomicUsize::new(0));
    /// let count = Arc::clone(&closed);
    /// let pool = ThreadPoolExecutor::builder()
    ///     .max_workers(1)
    ///     .finalizer(move || {
    ///         count.fetch_add(1, Ordering::Relaxed);
    ///     })
    ///     .build()?;
    /// pool.submit(|| ()).result()?;
    /// pool.shutdown_blocking(Shutdown::Drain)?;
    /// assert_eq!(closed.load(Ordering::Relaxed), 1);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn finalizer<F>(mut self, finalizer: F) -> Self
    where
        F: Fn() + Send + Sync + 'static,
    {
        let finalizer = Quiet::new(finalizer);
        self.finalizer = Some(Arc::new(move || (*finalizer)()));
        self
    }

    /// The stack that each job can rely on, in bytes; the system may round it up. Also a job that
    /// runs in place, on the stack of a job that waits for it, has as much left when it begins.
    ///
    /// A worker's thread reserves twice as much address space, and uses memory only as deep as its
    /// jobs go. While less than half of that is in use, tasks that are waited for run in place;
    /// beyond that a spare thread stands in.
    ///
    /// Default: 2 MiB, whatever `RUST_MIN_STACK` says. 0 is an error of [`build`](Self::build).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Bounds the tasks that are accepted and have not started, rooms held by
    /// [`Permit`](crate::Permit)s included. Beyond that `submit` and `try_submit` fail with
    /// [`Error::QueueFull`], and `reserve` waits. Exact, also with many
    /// submitters at the same time. A [`Map`](crate::Map) has a window of its own instead and
    /// takes no room.
    ///
    /// With 0 no task waits: one is accepted only if fewer than [`max_workers`](Self::max_workers) tasks are
    /// accepted and have not ended. A job that submits to its own pool counts among them, also while it
    /// waits, as does an async job between its polls; the items of a map do not, and may hold a task up.
    ///
    /// Default: no bound. Then only memory limits how much work can pile up.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    /// use std::sync::mpsc;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(0).build()?;
    /// let (done, wait) = mpsc::channel::<()>();
    /// let login = pool.submit(move || wait.recv().is_ok());
    /// let busy = pool.try_submit(|| true).unwrap_err(); // at once: try again later
    /// assert!(matches!(busy.error(), Error::QueueFull { .. }));
    /// done.send(())?;
    /// assert!(login.result()?);
    /// assert!(pool.submit(|| true).result()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn queue_capacity(mut self, n: usize) -> Self {
        self.queue_capacity = Some(n);
        self
    }

    /// A worker that has been idle for so long ends; the next task that finds none idle starts one again. A
    /// limit of 0 leaves no worker without a task. [`min_workers`](Self::min_workers) stay. Default: workers
    /// stay until the pool ends.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().idle_timeout(Duration::from_millis(1)).build()?;
    /// assert_eq!(pool.submit(|| 6 * 7).result()?, 42);
    /// while pool.metrics().workers > 0 {
    ///     std::thread::yield_now();
    /// }
    /// assert_eq!(pool.submit(|| 7 * 6).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// The number of workers that [`build`](Self::build) starts, without waiting for them, and that the
    /// [`idle_timeout`](Self::idle_timeout) never ends. If the system refuses one of them, it is started
    /// when tasks need it. Default: 0. More than [`max_workers`](Self::max_workers) is an error of `build`.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(4).min_workers(2).build()?;
    /// assert_eq!(pool.metrics().workers, 2);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn min_workers(mut self, n: usize) -> Self {
        self.min_workers = Some(n);
        self
    }

    /// The tokio runtime that jobs see as the current one: `runtime::Handle::current()`, `tokio::spawn`
    /// and `runtime::Handle::block_on` work inside of a job.
    ///
    /// Default: each job sees the runtime that it is submitted in, so that one pool serves several
    /// runtimes, at the same time or one after the other. A job is in its runtime itself, and what it
    /// submits inherits that. A map sees the runtime of the thread that starts it, and goes on in that of
    /// a thread that reads it. Jobs that are submitted outside of a runtime, and the
    /// [`initializer`](Self::initializer), see that in which [`build`](Self::build) was called, if any.
    ///
    /// Neither the pool nor a task keeps a runtime alive. When it has ended, jobs run on as before; what
    /// they ask of it fails as tokio says: spawned tasks are cancelled, I/O and timers panic,
    /// which ends that one job with [`Error::Panicked`].
    ///
    /// ```
    /// use std::sync::LazyLock;
    ///
    /// use concurrent_futures::ThreadPoolExecutor;
    /// use tokio::runtime::Runtime;
    ///
    /// static POOL: LazyLock<ThreadPoolExecutor> = LazyLock::new(ThreadPoolExecutor::new);
    ///
    /// for _ in 0..2 {
    ///     let runtime = Runtime::new()?; // as of a test, which ends with it
    ///     runtime.block_on(async {
    ///         let spawned = POOL.submit(|| tokio::spawn(async { 42 })).await?;
    ///         assert_eq!(spawned.await.unwrap(), 42);
    ///         Ok::<(), concurrent_futures::Error>(())
    ///     })?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tokio")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(Runtime::new(Some(runtime)));
        self
    }

    /// Has `hook` called for each task that has failed without anybody having seen that: its future
    /// was dropped or detached, no result was taken from it, and no callback was given to it. A
    /// failure is a panic, a time limit that passed while the task ran, a refusal by a full or closed
    /// pool, or a pool that broke. Not a task that was withdrawn before it started, by whatever: that
    /// it has not run is what was asked for.
    ///
    /// The hook runs on the thread that drops the future, or on that which ends the task, if that
    /// comes later; so it is to be quick. Its panics are reported by the panic hook and harm nothing.
    /// The items of a [`Map`](crate::Map) are not tasks of their own: what it does not deliver is
    /// not reported.
    ///
    /// Default: with the feature `tracing` an event tells of it, otherwise nothing.
    ///
    /// ```
    /// use concurrent_futures::{Shutdown, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::builder()
    ///     .on_unobserved_failure(|failure| eprintln!("{failure}"))
    ///     .build()?;
    /// // task 1 "thumb" of pool "pool-0" failed, and nobody has seen it: the job panicked ...
    /// pool.task().label("thumb").submit(|| panic!("no such file")).detach();
    /// pool.shutdown_blocking(Shutdown::Drain)?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn on_unobserved_failure<F>(mut self, hook: F) -> Self
    where
        F: Fn(&UnobservedFailure<'_>) + Send + Sync + 'static,
    {
        self.on_unobserved = OnUnobserved::new(hook);
        self
    }

    /// With `false`, a panic of a job is not printed: it is left to the job's error, which has its message,
    /// place and backtrace. For services that log errors themselves.
    ///
    /// In detail: the panic hook that was there when the first executor was created, as a rule that of
    /// the standard library, is not called for it. A hook that is set after that is called first, and so
    /// for every panic. What panics in a done-callback, a waker or an initializer is printed as before; so
    /// are the panics of threads that a job starts. A destructor that runs as a part of the job, or of a
    /// result that nobody wants, may be left out too.
    ///
    /// Default: `true`.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::builder().print_panics(false).build()?;
    /// let failed = pool.submit(|| panic!("no such user")).result();
    /// let Err(Error::Panicked(panicked)) = failed else { unreachable!() };
    /// assert_eq!(panicked.message(), "no such user");
    /// assert!(panicked.location().is_some());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn print_panics(mut self, print: bool) -> Self {
        self.hides_panics = !print;
        self
    }

    /// Marks the pool as a part of another executor, which counts for both.
    #[cfg(feature = "process")]
    pub(crate) fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }

    /// Makes the pool. No thread starts until there is a task for it, but for
    /// [`min_workers`](Self::min_workers).
    ///
    /// # Errors
    ///
    /// If a setting makes no sense; the text says which, and what is allowed.
    pub fn build(self) -> Result<ThreadPoolExecutor, Error> {
        // Here, where the caller is in its runtime; the thread that starts a worker need not be.
        let here = Runtime::here();
        self.finish(here)
    }

    /// Makes the pool. `here` is for what sees no other runtime.
    pub(super) fn finish(self, here: Runtime) -> Result<ThreadPoolExecutor, Error> {
        static POOLS: AtomicUsize = AtomicUsize::new(0);

        settings::check_max_workers(self.max_workers)?;
        let rule = "must be at least 1: a thread needs a stack";
        settings::check_not_zero("stack_size", self.stack_size, rule)?;
        settings::check_capacity(self.queue_capacity)?;
        let name = self.name.unwrap_or_else(|| {
            let number = POOLS.fetch_add(1, Relaxed);
            format!("pool-{number}")
        });
        settings::check_name(&name)?;
        let max_workers = self.max_workers.unwrap_or_else(num_cpus::get).max(1);
        let min_workers = self.min_workers.unwrap_or(0);
        settings::check_min_workers(min_workers, max_workers)?;
        let is_internal = self.is_internal;
        // The executor that the pool is a part of exports its own numbers.
        let instruments = if is_internal { Instruments::none() } else { Instruments::new(&name) };
        Ok(ThreadPoolExecutor::from_config(Config {
            max_workers,
            name,
            initializer: self.initializer,
            finalizer: self.finalizer,
            stack_size: self.stack_size.unwrap_or(DEFAULT_STACK_SIZE),
            queue_capacity: self.queue_capacity,
            idle_timeout: self.idle_timeout,
            min_workers,
            follows_submitter: self.runtime.is_none(),
            runtime: self.runtime.unwrap_or(here),
            on_unobserved: self.on_unobserved,
            print_panics: !self.hides_panics,
            instruments,
            is_internal,
            is_global: self.is_global,
        }))
    }
}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("max_workers", &self.max_workers)
            .field("name", &self.name)
            .field("initializer", &self.initializer.is_some())
            .field("finalizer", &self.finalizer.is_some())
            .field("stack_size", &self.stack_size)
            .field("queue_capacity", &self.queue_capacity)
            .field("idle_timeout", &self.idle_timeout)
            .field("min_workers", &self.min_workers)
            .field("runtime", &self.runtime.is_some())
            .field("on_unobserved_failure", &self.on_unobserved.is_set())
            .field("print_panics", &!self.hides_panics)
            .finish()
    }
}
