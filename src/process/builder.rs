//! The settings of a process. In the process that spawns it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::handle::ProcessHandle;
use super::spawn::{Spawn, spawn};
use super::{Process, Value};
use crate::core::{Extra, OnUnobserved, Promise};
use crate::error::Error;
use crate::future::TaskFuture;
use crate::initializer::InitializerOutcome;
use crate::job::{Call, PortableCall};
use crate::local::start::zygote::{WorkerStderr, ZygoteSettings};
use crate::panic::install_hook;
use crate::portable::Portable;
use crate::remote::call;
use crate::remote::frame::Content;
use crate::settings;
use crate::sys;
use crate::task_options::TaskOptions;
use crate::trace::TaskTrace;

/// Settings of a [`Process`]. From [`Process::builder`].
///
/// A setting that makes no sense is the error of the process, [`Error::InvalidSetting`]. A clone spawns
/// another process with the same settings, name included.
///
/// Processes with the default environment, directory and preloaded function are forked from one helper
/// process, which the first of them starts and which lives as long as the program. With others a process has a
/// helper of its own, which takes about a millisecond more.
///
/// ```
/// use concurrent_futures::{Process, WorkerStderr, call};
///
/// fn fail() {
///     eprintln!("out of paper");
///     std::process::exit(3);
/// }
///
/// # futures::executor::block_on(async {
/// let process = Process::builder().name("printer").stderr(WorkerStderr::Tail).spawn(call!(fail()));
/// let exit = process.join().await;
/// assert_eq!((exit.code(), exit.stderr()), (Some(3), "out of paper\n"));
/// # });
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder starts a process only when `spawn` is called"]
pub struct ProcessBuilder {
    name: Option<String>,
    memory_limit: Option<u64>,
    max_result_size: Option<u64>,
    stderr: WorkerStderr,
    env: Vec<(OsString, Option<OsString>)>,
    current_dir: Option<PathBuf>,
    preload: Option<Result<Arc<Content>, Error>>,
}

impl ProcessBuilder {
    /// The name of the process, as tools such as `top` show it; Linux keeps 15 bytes. A NUL byte in it is an
    /// error.
    ///
    /// Default: `process-` and a number that no other process of this one has.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Maximum private memory of the process, in bytes, as
    /// [`ProcessPoolBuilder::memory_limit`](crate::ProcessPoolBuilder::memory_limit). If it uses more, it is
    /// killed, and [`WorkerLost::cause`](crate::WorkerLost::cause) says so. Default: no limit.
    ///
    /// Nothing waits here until a process can be forked: a limit that is not above what one uses at its start
    /// ends it soon after that.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The largest value that is taken from the process, in bytes as encoded. A longer one is an
    /// [`Error::Codec`]. Default: half of the machine's memory. 0 is an error.
    pub fn max_result_size(mut self, bytes: u64) -> Self {
        self.max_result_size = Some(bytes);
        self
    }

    /// Sets the destination of what the process writes to stderr. Default: [`WorkerStderr::Inherit`].
    pub fn stderr(mut self, stderr: WorkerStderr) -> Self {
        self.stderr = stderr;
        self
    }

    /// Sets a variable in the environment of the process, as
    /// [`ProcessPoolBuilder::env`](crate::ProcessPoolBuilder::env).
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a variable from the environment of the process.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// The directory that the process starts in, which is looked up by [`spawn`](Self::spawn).
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Runs before the process is forked, as
    /// [`ProcessPoolBuilder::preload`](crate::ProcessPoolBuilder::preload). If it fails, the process could not
    /// be started. Default: none.
    pub fn preload<A: Portable, R: InitializerOutcome>(mut self, preload: Call<A, R>) -> Self {
        self.preload = Some(call::pack_outside(preload).map(Arc::new));
        self
    }

    /// Starts a process that makes the call, as [`Process::spawn`].
    pub fn spawn<C: PortableCall>(self, call: C) -> Process<C::Output> {
        static PROCESSES: AtomicUsize = AtomicUsize::new(0);

        install_hook();
        let name = self.name.clone().unwrap_or_else(|| {
            let number = PROCESSES.fetch_add(1, Relaxed);
            format!("process-{number}")
        });
        let options = TaskOptions::new().named(call.name());
        let label = options.label.clone();
        let (handle, progress) = ProcessHandle::new(name.clone());
        let (promise, outcome) = Promise::of(Value {
            handle: handle.clone(),
            extra: Extra::new(options),
            on_unobserved: OnUnobserved::default(),
        });
        let task = promise.id().get();
        let to_spawn = Spawn {
            handle: handle.clone(),
            progress,
            task,
            sink: Box::new(promise),
            trace: TaskTrace::new(task, label.as_ref(), &name),
            memory_limit: self.memory_limit,
            max_result_size: self.max_result_size.unwrap_or_else(|| sys::memory_size() / 2),
            stderr: self.stderr,
        };
        // In any case, since that drops the arguments.
        let call = call::pack(call.into_call());
        match self.into_settings(&name).and_then(|settings| Ok((settings, call?))) {
            Ok((settings, call)) => spawn(&settings, to_spawn, call),
            Err(error) => to_spawn.refuse(error),
        }
        Process { value: TaskFuture::new(outcome), handle }
    }

    fn into_settings(self, name: &str) -> Result<ZygoteSettings, Error> {
        settings::check_name(name)?;
        let rule = "must be at least 1: no result would arrive";
        settings::check_not_zero("max_result_size", self.max_result_size, rule)?;
        let preload = self.preload.transpose()?;
        Ok(ZygoteSettings { env: self.env, current_dir: self.current_dir, preload })
    }
}

impl fmt::Debug for ProcessBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBuilder")
            .field("name", &self.name)
            .field("memory_limit", &self.memory_limit)
            .field("max_result_size", &self.max_result_size)
            .field("stderr", &self.stderr)
            .field("env", &self.env)
            .field("current_dir", &self.current_dir)
            .field("preload", &self.preload.is_some())
            .finish()
    }
}
