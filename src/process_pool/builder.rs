//! The builder of a pool. In the process that makes the pool.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::ProcessPoolExecutor;
use super::transport::Settings;
use crate::remote::call;
use crate::sys;

use crate::core::{OnUnobserved, UnobservedFailure};
use crate::error::Error;
use crate::initializer::InitializerOutcome;
use crate::instruments::Instruments;
use crate::job::Call;
use crate::local::control_block::{HIDES_PANICS, RETIRES_AFTER_PANIC};
use crate::local::start::zygote::{WorkerStderr, ZygoteSettings};
use crate::portable::Portable;
use crate::remote::frame::Content;
use crate::remote::scheduler::config::Config;
use crate::settings;

/// Builds a [`ProcessPoolExecutor`]. From [`ProcessPoolExecutor::builder`].
///
/// ```
/// use concurrent_futures::{ProcessPoolExecutor, WorkerStderr};
///
/// let pool = ProcessPoolExecutor::builder()
///     .max_workers(2)
///     .memory_limit(1 << 30)
///     .stderr(WorkerStderr::Tail)
///     .build()?;
/// # drop(pool);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// A clone makes a second pool with the same settings, name included.
#[derive(Clone, Default)]
#[must_use = "a builder makes a pool only when `build` is called"]
pub struct ProcessPoolBuilder {
    max_workers: Option<usize>,
    name: Option<String>,
    initializer: Option<Result<Arc<Content>, Error>>,
    finalizer: Option<Result<Arc<Content>, Error>>,
    max_tasks_per_worker: Option<usize>,
    replace_worker_after_panic: bool,
    hides_panics: bool,
    memory_limit: Option<u64>,
    max_result_size: Option<u64>,
    stderr: WorkerStderr,
    queue_capacity: Option<usize>,
    idle_timeout: Option<Duration>,
    min_workers: Option<usize>,
    max_waiting: Option<usize>,
    env: Vec<(OsString, Option<OsString>)>,
    current_dir: Option<PathBuf>,
    preload: Option<Result<Arc<Content>, Error>>,
    on_unobserved: OnUnobserved,
}

impl ProcessPoolBuilder {
    /// The largest number of workers that run tasks at the same time. They start on demand, and
    /// an idle one is used before a new one starts. A worker whose task waits for another task of
    /// the pool does not count; a spare takes its place meanwhile.
    ///
    /// Default: `num_cpus::get()`. 0 is an error of [`build`](Self::build).
    pub fn max_workers(mut self, n: usize) -> Self {
        self.max_workers = Some(n);
        self
    }

    /// The name of the pool, in dumps and metrics. Workers are named by it and their number: `render_0`,
    /// `render_1` and so on, as tools such as `top` show it; Linux keeps 15 bytes.
    ///
    /// Default: `processes-` and a number that no other pool of the process has. A NUL byte in it is
    /// an error of [`build`](Self::build).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Runs in each worker before its first task. The function may return `()` or a `Result<(), E>`;
    /// the arguments are encoded here, once for all workers. If it fails or panics, the pool is broken:
    /// tasks that wait and all later ones end with [`Error::BrokenPool`], which carries the cause. Of
    /// an error its text, its `Debug` and its causes travel, as in a
    /// [`PortableError`](crate::PortableError). Default: none.
    ///
    /// A worker has its own copy of the program's statics, as they are before `main`. What `main` puts
    /// into them, workers do not see: it is for the initializer to do that again.
    ///
    /// ```
    /// use concurrent_futures::{Error, PortableError, ProcessPoolExecutor, call};
    /// use std::sync::OnceLock;
    ///
    /// static MODEL: OnceLock<Vec<f32>> = OnceLock::new();
    ///
    /// fn load(path: String, scale: f32) -> Result<(), PortableError> {
    ///     let text = if path == "-" { "1 2".to_owned() } else { std::fs::read_to_string(path)? };
    ///     let numbers = text.split_whitespace().map(|word| Ok(scale * word.parse::<f32>()?));
    ///     MODEL.set(numbers.collect::<Result<_, PortableError>>()?).map_err(|_| "loaded before")?;
    ///     Ok(())
    /// }
    ///
    /// fn weight(at: usize) -> Option<f32> {
    ///     MODEL.get()?.get(at).copied()
    /// }
    ///
    /// let builder = ProcessPoolExecutor::builder().max_workers(2);
    /// let pool = builder.clone().initializer(call!(load("-".to_owned(), 0.5))).build()?;
    /// assert_eq!(pool.submit(call!(weight(1))).result()?, Some(1.0));
    ///
    /// let pool = builder.initializer(call!(load("no/such/file".to_owned(), 1.0))).build()?;
    /// let error = pool.submit(call!(weight(1))).result().unwrap_err();
    /// assert!(matches!(&error, Error::BrokenPool(_)));
    /// assert!(format!("{error:?}").contains("No such file"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn initializer<A: Portable, R: InitializerOutcome>(
        mut self,
        initializer: Call<A, R>,
    ) -> Self {
        self.initializer = Some(call::pack_initializer(initializer).map(Arc::new));
        self
    }

    /// Runs in each worker after its last task, if the pool lets the worker end: since the pool has ended,
    /// by a [`shutdown`](ProcessPoolExecutor::shutdown) or since its last handle was dropped, or
    /// broke; or since the worker has run its
    /// [number of tasks](Self::max_tasks_per_worker), has been [idle](Self::idle_timeout) for
    /// long, or is a spare that is not needed any more. A shutdown waits for it. Default: none.
    ///
    /// It does not run in a worker that is killed, terminated or lost, nor if the initializer has
    /// failed, nor if the program ends before the pool: then workers end at once. A panic in
    /// it is reported by the panic hook and harms nothing. It is no task and takes no worker's place:
    /// while it runs, another worker may start.
    ///
    /// ```
    /// use concurrent_futures::{ProcessPoolExecutor, Shutdown, WorkerInfo, call};
    ///
    /// fn log_end(path: String) {
    ///     let worker = WorkerInfo::current().map(|worker| worker.index());
    ///     std::fs::write(path, format!("{worker:?} has ended")).unwrap();
    /// }
    ///
    /// # let path = std::env::temp_dir().join(format!("finalizer-{}", std::process::id()));
    /// # let path = path.to_str().unwrap().to_owned();
    /// let finalizer = call!(log_end(path.clone()));
    /// let pool = ProcessPoolExecutor::builder().finalizer(finalizer).build()?;
    /// pool.submit(call!(f64::sqrt(9.0))).result()?;
    /// pool.shutdown_blocking(Shutdown::Drain)?;
    /// assert_eq!(std::fs::read_to_string(&path).unwrap(), "Some(0) has ended");
    /// # std::fs::remove_file(path).unwrap();
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn finalizer<A: Portable>(mut self, finalizer: Call<A, ()>) -> Self {
        self.finalizer = Some(call::pack_outside(finalizer).map(Arc::new));
        self
    }

    /// A worker ends after so many tasks, and another one takes its place: a remedy for memory
    /// that leaks. Python's word is `max_tasks_per_child`. Default: no limit. 0 is an error of
    /// [`build`](Self::build).
    #[doc(alias = "max_tasks_per_child")]
    pub fn max_tasks_per_worker(mut self, n: usize) -> Self {
        self.max_tasks_per_worker = Some(n);
        self
    }

    /// Has a worker end whose job has panicked, and another one take its place: the panic may have left
    /// statics behind that every later job fails of, such as a poisoned `Mutex`. The error of the job is its
    /// panic, as always. What the worker was sent besides goes to others, as do the items of a map behind
    /// the one that panicked; none of that has begun.
    ///
    /// A job that knows itself that its worker should end calls
    /// [`task::retire_worker`](crate::task::retire_worker). Default: `false`, the worker goes on; to start
    /// another one takes about half a millisecond.
    ///
    /// ```
    /// use concurrent_futures::{Error, ProcessPoolExecutor, call};
    /// use std::sync::Mutex;
    ///
    /// static TOTAL: Mutex<u32> = Mutex::new(0);
    ///
    /// fn add(n: u32) -> u32 {
    ///     let mut total = TOTAL.lock().expect("no job has panicked here");
    ///     *total += n;
    ///     assert!(n > 0, "nothing to add");
    ///     *total
    /// }
    ///
    /// let pool = ProcessPoolExecutor::builder().max_workers(1).replace_worker_after_panic(true).build()?;
    /// assert!(matches!(pool.submit(call!(add(0))).result(), Err(Error::Panicked(_))));
    /// assert_eq!(pool.submit(call!(add(5))).result()?, 5);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn replace_worker_after_panic(mut self, replace: bool) -> Self {
        self.replace_worker_after_panic = replace;
        self
    }

    /// With `false`, workers do not print the panics of jobs; see
    /// [`ThreadPoolBuilder::print_panics`](crate::ThreadPoolBuilder::print_panics). A hook that the preloaded
    /// function or the initializer sets is called first, and so for every panic. Also what panics in the
    /// `Deserialize` of arguments, the `Serialize` of a result and their destructors is not printed.
    ///
    /// Default: `true`: a panic is printed under the name of its worker, `thread 'render_0' panicked at ..`.
    pub fn print_panics(mut self, print: bool) -> Self {
        self.hides_panics = !print;
        self
    }

    /// Maximum private memory of a worker, in bytes. A task that uses more is lost with its worker, and
    /// [`WorkerLost::cause`](crate::WorkerLost::cause) says so. Default: no limit.
    ///
    /// The limit counts memory that is used, in RAM or swapped out, with what the preloaded function
    /// has left there. Address space that an allocator or a thread's stack only reserves does not count, nor
    /// do files and shared mappings. The pool looks at workers that have tasks every 10 to 250 ms, the
    /// closer to the limit the more often, so a task may use more for that long. Beside that an
    /// allocation fails that would reserve more than twice the limit, on top of what a worker has
    /// reserved at its start (`RLIMIT_DATA`).
    ///
    /// With a limit, [`build`](Self::build) waits until workers can be forked, for as long as the
    /// preloaded function takes. It refuses a limit that is not above what a worker uses at its start. A worker
    /// whose memory the system does not show (`hidepid` of `/proc`, after a `setuid`) is killed.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The largest result that is taken from a worker, in bytes as encoded, [`Buffer`](crate::Buffer)s
    /// included. A longer one is an [`Error::Codec`] of its task, as is one for which there is no
    /// memory; the worker goes on. The same holds for the arguments of a call that a worker submits
    /// with [`ParentPool`](crate::ParentPool).
    ///
    /// A result takes that much memory in this process, and what it is decoded into as much again,
    /// except for `Buffer`s.
    ///
    /// Default: half of the machine's memory. 0 is an error of [`build`](Self::build).
    ///
    /// ```
    /// use concurrent_futures::{Error, ProcessPoolExecutor, call};
    ///
    /// fn long() -> Vec<u32> {
    ///     vec![7; 1 << 20]
    /// }
    ///
    /// let pool = ProcessPoolExecutor::builder().max_result_size(1 << 20).build()?;
    /// let too_long = pool.submit(call!(long()));
    /// assert!(matches!(too_long.result(), Err(Error::Codec(_))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn max_result_size(mut self, bytes: u64) -> Self {
        self.max_result_size = Some(bytes);
        self
    }

    /// Sets the destination of what workers write to stderr. Default: [`WorkerStderr::Inherit`].
    pub fn stderr(mut self, stderr: WorkerStderr) -> Self {
        self.stderr = stderr;
        self
    }

    /// Bounds the tasks that are accepted and have not started, rooms held by
    /// [`Permit`](crate::Permit)s included. Beyond that `submit` and `try_submit` fail with
    /// [`Error::QueueFull`], and `reserve` waits.
    ///
    /// With 0 no task waits: one is accepted only if fewer than [`max_workers`](Self::max_workers) tasks are
    /// accepted and have not ended. A job that submits to its own pool counts among them, also while it
    /// waits. An example is at [`ThreadPoolBuilder::queue_capacity`](crate::ThreadPoolBuilder::queue_capacity).
    ///
    /// Default: no bound.
    pub fn queue_capacity(mut self, n: usize) -> Self {
        self.queue_capacity = Some(n);
        self
    }

    /// A worker that has been idle for so long ends; the next task that finds none idle starts one again. A
    /// limit of 0 leaves no worker without a task. [`min_workers`](Self::min_workers) stay. Default: workers
    /// stay until the pool ends.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// The number of workers that [`build`](Self::build) starts, without waiting for them, and that the
    /// [`idle_timeout`](Self::idle_timeout) never ends. One that is lost, or has had its
    /// [`max_tasks_per_worker`](Self::max_tasks_per_worker), is replaced at once, without a task. If the
    /// system refuses one of them, it is tried again. Default: 0. More than
    /// [`max_workers`](Self::max_workers) is an error of `build`.
    ///
    /// ```
    /// use concurrent_futures::ProcessPoolExecutor;
    ///
    /// let pool = ProcessPoolExecutor::builder().max_workers(4).min_workers(2).build()?;
    /// assert_eq!(pool.metrics().workers, 2);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn min_workers(mut self, n: usize) -> Self {
        self.min_workers = Some(n);
        self
    }

    /// The number of processes that stand in, at most, for tasks that wait for what other processes do: for an item of a
    /// [channel](crate::ipc::channel()), for room in one, for a lock or anything else of [`ipc`](crate::ipc). A task that waits lends its worker's place out, so that the
    /// one which ends its wait may run; beyond this number it keeps the place, and other tasks wait in the queue.
    /// Then a dump says that all tasks which run wait for other processes. With 0 no task lends its place out so; a pool
    /// whose tasks talk to each other then needs a worker for each of them.
    ///
    /// A consumer that never gets an item, since its producer is behind too many others in the queue, waits for
    /// ever: submit producers first, have fewer consumers, or raise this number. A wait for another task of
    /// the pool does not count, and always finds a worker for that.
    ///
    /// Default: 32, or four times [`max_workers`](Self::max_workers) if that is more.
    ///
    /// ```
    /// use concurrent_futures::ipc::{Receiver, channel};
    /// use concurrent_futures::{ProcessPoolExecutor, call};
    ///
    /// fn first(queue: Receiver<u32>) -> u32 {
    ///     queue.recv_blocking().unwrap()
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Up to 100 consumers wait, and another task runs.
    /// let pool = ProcessPoolExecutor::builder().max_workers(1).max_waiting(100).build()?;
    /// let (sender, receiver) = channel(1)?;
    /// let consumer = pool.submit(call!(first(receiver)));
    /// sender.send_blocking(7)?;
    /// assert_eq!(consumer.result()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_waiting(mut self, n: usize) -> Self {
        self.max_waiting = Some(n);
        self
    }

    /// Sets a variable in the environment of the workers. What is not set or removed so is as it is in
    /// this process at [`build`](Self::build).
    ///
    /// The process that workers are forked from must have one thread, so there is no pool in a program
    /// with a library that starts threads as soon as it is loaded. A variable may keep it from that, in
    /// the workers alone. For OpenBLAS, and for jemalloc with background threads (a Rust crate may link
    /// that with `_RJEM_MALLOC_CONF` as the name of its variable):
    ///
    /// ```
    /// # use concurrent_futures::{Error, ProcessPoolExecutor};
    /// let pool = ProcessPoolExecutor::builder()
    ///     .env("OPENBLAS_NUM_THREADS", "1")
    ///     .env("MALLOC_CONF", "background_thread:false")
    ///     .build()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a variable from the environment of the workers.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// The directory that workers start in, which is looked up once, by [`build`](Self::build).
    /// Default: that of this process at that time.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Runs once, in the process that workers are forked from: what it loads, they all have, and
    /// share its memory until they write to it. It must not start threads. The function may return what an
    /// [initializer](Self::initializer) may. If it fails or panics, or ends the process twice in the
    /// same way, the pool is broken. Default: none.
    ///
    /// ```
    /// use concurrent_futures::{ProcessPoolExecutor, call};
    /// use std::sync::OnceLock;
    ///
    /// static WORDS: OnceLock<String> = OnceLock::new();
    ///
    /// fn load(path: String) -> std::io::Result<()> {
    ///     let words = std::fs::read_to_string(path)?;
    ///     WORDS.get_or_init(|| words);
    ///     Ok(())
    /// }
    ///
    /// fn is_loaded() -> bool {
    ///     WORDS.get().is_some()
    /// }
    ///
    /// let builder = ProcessPoolExecutor::builder();
    /// let pool = builder.clone().preload(call!(load("/dev/null".to_owned()))).build()?;
    /// assert!(pool.submit(call!(is_loaded())).result()?);
    ///
    /// let pool = builder.preload(call!(load("no/such/file".to_owned()))).build()?;
    /// let error = pool.submit(call!(is_loaded())).result().unwrap_err();
    /// assert!(format!("{error:?}").contains("the preloaded function failed: No such file"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn preload<A: Portable, R: InitializerOutcome>(mut self, preload: Call<A, R>) -> Self {
        self.preload = Some(call::pack_outside(preload).map(Arc::new));
        self
    }

    /// Has `hook` called for each task that has failed without anybody having seen that; see
    /// [`ThreadPoolBuilder::on_unobserved_failure`](crate::ThreadPoolBuilder::on_unobserved_failure).
    /// Here a lost worker is a failure as well, and what can't be encoded. The hook runs in this
    /// process. Of tasks that a worker submits with [`ParentPool`](crate::ParentPool) nothing is
    /// reported.
    ///
    /// Default: with the feature `tracing` an event tells of it, otherwise nothing.
    pub fn on_unobserved_failure<F>(mut self, hook: F) -> Self
    where
        F: Fn(&UnobservedFailure<'_>) + Send + Sync + 'static,
    {
        self.on_unobserved = OnUnobserved::new(hook);
        self
    }

    /// Makes the pool, and starts the process that workers will be forked from; that takes about a
    /// millisecond, and nobody waits for it, unless there is a
    /// [`memory_limit`](Self::memory_limit). No worker starts until there is a task for it, but for
    /// [`min_workers`](Self::min_workers).
    ///
    /// What workers have of this process is taken here, and is the same for all of them: arguments,
    /// environment, directory, stdout and stderr, umask, niceness, CPUs and resource limits.
    ///
    /// So are the rights of its user. A program that gives up privileges (`setuid`) makes its pools
    /// after that: the workers of an earlier one keep the privileges, until the process that they are
    /// forked from has to be replaced.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](Error::InvalidSetting) if a setting makes no sense;
    /// [`Codec`](Error::Codec) if an argument of the initializer, the finalizer or the preloaded function can't
    /// be encoded;
    /// [`BrokenPool`](Error::BrokenPool) if worker processes can't be started here, with what was
    /// refused and the system's reason. What the process that workers are forked from finds out
    /// itself is the error of the tasks.
    pub fn build(self) -> Result<ProcessPoolExecutor, Error> {
        static POOLS: AtomicUsize = AtomicUsize::new(0);

        settings::check_max_workers(self.max_workers)?;
        let per_worker = self.max_tasks_per_worker;
        settings::check_not_zero("max_tasks_per_worker", per_worker, "must be at least 1")?;
        let rule = "must be at least 1: no result would arrive";
        settings::check_not_zero("max_result_size", self.max_result_size, rule)?;
        settings::check_capacity(self.queue_capacity)?;
        let name = self.name.unwrap_or_else(|| {
            let number = POOLS.fetch_add(1, Relaxed);
            format!("processes-{number}")
        });
        settings::check_name(&name)?;
        let preload = self.preload.transpose()?;
        let (initializer, finalizer) = (self.initializer.transpose()?, self.finalizer.transpose()?);
        let instruments = Instruments::new(&name);
        let max_workers = self.max_workers.unwrap_or_else(num_cpus::get).max(1);
        let min_workers = self.min_workers.unwrap_or(0);
        settings::check_min_workers(min_workers, max_workers)?;
        let settings = Settings {
            max_workers,
            name: name.clone(),
            memory_limit: self.memory_limit,
            max_result_size: self.max_result_size.unwrap_or_else(|| sys::memory_size() / 2),
            stderr: self.stderr,
            of_worker: if self.replace_worker_after_panic { RETIRES_AFTER_PANIC } else { 0 }
                | if self.hides_panics { HIDES_PANICS } else { 0 },
            zygote: ZygoteSettings { env: self.env, current_dir: self.current_dir, preload },
        };
        let config = Config {
            max_workers,
            min_workers,
            max_waiting: self.max_waiting.unwrap_or_else(|| (4 * max_workers).max(32)),
            name,
            initializer,
            finalizer,
            max_tasks_per_worker: self.max_tasks_per_worker,
            queue_capacity: self.queue_capacity,
            idle_timeout: self.idle_timeout,
            on_unobserved: self.on_unobserved,
            instruments,
        };
        ProcessPoolExecutor::from_config(config, settings)
    }
}

impl fmt::Debug for ProcessPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolBuilder")
            .field("max_workers", &self.max_workers)
            .field("name", &self.name)
            .field("initializer", &self.initializer.is_some())
            .field("finalizer", &self.finalizer.is_some())
            .field("max_tasks_per_worker", &self.max_tasks_per_worker)
            .field("replace_worker_after_panic", &self.replace_worker_after_panic)
            .field("print_panics", &!self.hides_panics)
            .field("memory_limit", &self.memory_limit)
            .field("max_result_size", &self.max_result_size)
            .field("stderr", &self.stderr)
            .field("queue_capacity", &self.queue_capacity)
            .field("idle_timeout", &self.idle_timeout)
            .field("min_workers", &self.min_workers)
            .field("max_waiting", &self.max_waiting)
            .field("env", &self.env)
            .field("current_dir", &self.current_dir)
            .field("preload", &self.preload.is_some())
            .field("on_unobserved_failure", &self.on_unobserved.is_set())
            .finish()
    }
}
