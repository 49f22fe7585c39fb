//! A call on its way to a process of its own. In the process that spawns that.

use std::io;
use std::sync::Arc;

use super::exit::ProcessExit;
use super::handle::{ProcessHandle, Progress};
use super::host::Host;
use crate::error::{BrokenPool, Error};
use crate::fork::{self, Own};
use crate::local::start;
use crate::local::start::zygote::{WorkerStderr, ZygoteSettings};
use crate::reactor::UserCode;
use crate::remote::frame::Content;
use crate::remote::submission::ReplySink;
use crate::sync::Mutex;
use crate::trace::TaskTrace;

/// A call that is to have a process of its own.
pub(super) struct Spawn {
    pub(super) handle: ProcessHandle,
    pub(super) progress: Progress,
    pub(super) task: u64,
    pub(super) sink: Box<dyn ReplySink>,
    pub(super) trace: TaskTrace,
    pub(super) memory_limit: Option<u64>,
    pub(super) max_result_size: u64,
    pub(super) stderr: WorkerStderr,
}

impl Spawn {
    /// Tells that there is no process, for this reason.
    pub(super) fn refuse(self, error: Error) {
        let Self { progress, sink, trace, .. } = self;
        if let Some(started) = progress.started {
            started.complete(Err(error.clone()));
        }
        sink.complete(Err(error), &trace, &|_| ());
        progress.exited.complete(Ok(ProcessExit::default()));
    }
}

/// The calls of processes that were asked for as the zygote was ending, and the reason why no other one is
/// asked, if there is one.
pub(super) struct SpawnAgain(pub(super) Vec<(Spawn, Content)>, pub(super) Option<String>);

impl UserCode for SpawnAgain {
    fn run(self: Box<Self>) {
        let Self(stranded, cause) = *self;
        for (stranded, call) in stranded {
            match &cause {
                Some(cause) => stranded.refuse(BrokenPool::of_process(cause.clone()).into()),
                None => spawn(&ZygoteSettings::default(), stranded, call),
            }
        }
    }
}

/// The host of processes that need no zygote of their own.
static DEFAULT: Own<Mutex<Option<Arc<Host>>>> =
    Own::from_start(Mutex::new(None), || Mutex::new(None));

/// Starts a process for a call, by the default host unless the settings need another one. An error is told
/// to those who wait for the process.
pub(super) fn spawn(settings: &ZygoteSettings, mut spawn: Spawn, mut call: Content) {
    loop {
        let host = match host_for(settings) {
            Ok(host) => host,
            Err(error) => return spawn.refuse(BrokenPool::of_process(error).into()),
        };
        match host.start(spawn, call) {
            Ok(()) => return,
            Err(NotStarted::Refused(spawn, cause)) => {
                return spawn.refuse(BrokenPool::of_process(cause).into());
            }
            Err(NotStarted::HostIsLost(back)) => (spawn, call) = *back,
        }
    }
}

fn host_for(settings: &ZygoteSettings) -> io::Result<Arc<Host>> {
    start::check_can_start()?;
    if !settings.is_default() {
        return Host::new(settings, true);
    }
    fork::watch();
    let mut default = DEFAULT.lock();
    if let Some(host) = default.as_ref().filter(|host| !host.is_lost()) {
        return Ok(Arc::clone(host));
    }
    let host = Host::new(settings, false)?;
    *default = Some(Arc::clone(&host));
    Ok(host)
}

/// Why a process was not asked for, with what was to run there.
pub(super) enum NotStarted {
    Refused(Spawn, Box<dyn std::error::Error + Send + Sync>),
    /// The default zygote was lost; another one takes its place.
    HostIsLost(Box<(Spawn, Content)>),
}
