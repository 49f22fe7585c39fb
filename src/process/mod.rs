//! One call in a process of its own. In the process that spawns it.
//!
//! [`Process`] is a future of the call's value, and has the controls of its [`ProcessHandle`]. The [`host`]
//! asks a zygote for processes, sends each its call, and takes in its value and its end; it uses what a pool
//! uses of one worker process, [`local`](crate::local), without a pool's queue and scheduler.

mod builder;
mod exit;
mod handle;
mod host;
mod reports;
mod spawn;

pub use builder::ProcessBuilder;
pub use exit::ProcessExit;
pub use handle::ProcessHandle;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::core::{Extra, OnUnobserved, Source, TaskId};
use crate::error::Error;
use crate::future::TaskFuture;
use crate::job::PortableCall;

/// One call in a process of its own, as the future of its value.
///
/// The process is forked at once, whatever pools there are and do, makes the call on its main thread, and
/// ends. It is a child of a helper process that the first `Process` of the program starts; what it has of this
/// program, arguments, environment, directory, stdout and stderr, is what this process had then. It has none of
/// its memory: a function finds statics as they are before `main`. Its stdin is empty. Linux only so far;
/// elsewhere, and where a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) is refused, the error is that of
/// the value.
///
/// For many calls of the same kind a pool is the better choice, as it uses processes again.
///
/// # Value
///
/// Awaited, it is the function's value, or [`Error::Panicked`]; [`Error::WorkerLost`] if the process has ended
/// without a value, with the signal or exit code, also if the function calls [`std::process::exit`];
/// [`Error::Codec`] if arguments or value can't be encoded or decoded; [`Error::BrokenPool`] if it can't be
/// started.
///
/// The value is there before the process has ended: [`join`](Self::join) waits for that. What the function
/// leaves running, threads and processes, ends with the process.
///
/// # Order
///
/// First it has [`started`](Self::started), then the function runs and its output appears, then comes its
/// value, and last its end.
///
/// # Drop
///
/// Dropped, the process runs on, and its value is dropped; with [`kill_on_drop`](Self::kill_on_drop) it is
/// killed. No process outlives the program that has spawned it.
///
/// # Cancel safety
///
/// Awaiting `&mut process`, [`started`](Self::started) and [`join`](Self::join) can be broken off at any
/// moment, and lose nothing.
///
/// # Examples
///
/// ```
/// use concurrent_futures::{Process, call};
///
/// fn work(name: String) -> usize {
///     println!("hello {name} from {}", std::process::id());
///     name.len()
/// }
///
/// # futures::executor::block_on(async {
/// let mut process = Process::spawn(call!(work("bob".to_owned())));
/// let pid = process.started().await?;
/// assert_ne!(pid, std::process::id());
///
/// let length: usize = (&mut process).await?;
/// assert_eq!(length, 3);
///
/// let exit = process.join().await;
/// assert_eq!((exit.pid(), exit.code()), (Some(pid), Some(0)));
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a Process drops the value of its function; keep its `handle()` to wait for its end"]
pub struct Process<R> {
    value: TaskFuture<R>,
    handle: ProcessHandle,
}

impl Process<()> {
    /// Settings for a process: its name, limits, environment, directory, stderr.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::default()
    }

    /// Returns the processes that this process has spawned and whose end is not known, in the order in which they
    /// were spawned.
    ///
    /// ```
    /// use concurrent_futures::{Process, call};
    ///
    /// let process = Process::spawn(call!(std::thread::park()));
    /// for running in Process::running() {
    ///     running.kill();
    ///     running.join_blocking();
    /// }
    /// assert!(!process.is_running());
    /// ```
    pub fn running() -> Vec<ProcessHandle> {
        ProcessHandle::running()
    }
}

impl<R> Process<R> {
    /// Starts a process that makes the call. Never blocks, but for a millisecond in which the first one starts
    /// the helper process, and never fails: what is refused is the error of the value. The arguments are encoded
    /// and dropped here.
    pub fn spawn<C: PortableCall<Output = R>>(call: C) -> Self {
        Process::builder().spawn(call)
    }

    /// Returns a handle: the controls of the process, without its value.
    pub fn handle(&self) -> ProcessHandle {
        self.handle.clone()
    }

    /// The name of the process, as [`ProcessHandle::name`].
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// The number of the process, once it has started.
    pub fn pid(&self) -> Option<u32> {
        self.handle.pid()
    }

    /// Waits until the process has started, and returns its number, as [`ProcessHandle::started`].
    ///
    /// # Errors
    ///
    /// Those of [`ProcessHandle::started`].
    pub fn started(&self) -> impl Future<Output = Result<u32, Error>> + Send + use<R> {
        self.handle.started()
    }

    /// Returns whether the process may be there: it was spawned, and its end is not known yet.
    pub fn is_running(&self) -> bool {
        self.handle.is_running()
    }

    /// Waits for the end of the process, as [`ProcessHandle::join`]. The value can still be awaited.
    pub fn join(&self) -> impl Future<Output = ProcessExit> + Send + use<R> {
        self.handle.join()
    }

    /// Waits for the end of the process by blocking this thread, as [`ProcessHandle::join_blocking`].
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn join_blocking(&self) -> ProcessExit {
        self.handle.join_blocking()
    }

    /// Waits for the end of the process by blocking this thread for at most `limit`, as
    /// [`ProcessHandle::join_timeout`].
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn join_timeout(&self, limit: Duration) -> Option<ProcessExit> {
        self.handle.join_timeout(limit)
    }

    /// Asks the process to end, with SIGTERM, as [`ProcessHandle::terminate`].
    pub fn terminate(&self) {
        self.handle.terminate();
    }

    /// Ends the process by SIGKILL, and all that its function has started, as [`ProcessHandle::kill`].
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Has the drop of this future, or of the [`TaskFuture`] that is made of it, kill the process unless there is
    /// a value or an error by then.
    pub fn kill_on_drop(mut self) -> Self {
        self.value = self.value.kill_on_drop();
        self
    }

    /// Waits for the value by blocking this thread, as [`TaskFuture::result`].
    ///
    /// # Errors
    ///
    /// As the [value](Self#value).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result(self) -> Result<R, Error> {
        self.value.result()
    }

    /// Returns the future of the value, for [`as_completed`](crate::as_completed()), [`wait`](crate::wait()),
    /// callbacks and the like. Its `cancel` keeps the function from starting, or sets its stop request; its `kill`
    /// kills the process.
    ///
    /// ```
    /// use concurrent_futures::{Process, as_completed, call};
    ///
    /// fn half(n: u32) -> u32 {
    ///     n / 2
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let both = [2, 4].map(|n| Process::spawn(call!(half(n)))).map(Process::into_task);
    /// let mut done = as_completed(both);
    /// while let Some((index, value)) = done.next().await {
    ///     assert_eq!(value?, index as u32 + 1);
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn into_task(self) -> TaskFuture<R> {
        self.value
    }
}

impl<R> Future for Process<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.value).poll(cx)
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .field("is_running", &self.is_running())
            .field("value", &self.value)
            .finish()
    }
}

/// The call of a process, as the future of its value sees it.
struct Value {
    handle: ProcessHandle,
    extra: Extra,
    on_unobserved: OnUnobserved,
}

impl Source for Value {
    fn withdraw(&self, _task: TaskId, stop: bool) -> bool {
        self.handle.place().is_some_and(|(host, number)| host.withdraw(number, stop))
    }

    fn kill(&self, _task: TaskId) -> bool {
        self.handle.place().is_some_and(|(host, number)| host.kill(number))
    }

    fn is_running(&self, _task: TaskId) -> bool {
        self.handle.place().is_some_and(|(host, number)| host.is_running(number))
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }

    fn on_unobserved(&self) -> Option<(&OnUnobserved, &str)> {
        Some((&self.on_unobserved, self.handle.name()))
    }
}
