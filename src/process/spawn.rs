//! A call on its way to a process of its own. In the process that spawns that.

use super::exit::ProcessExit;
use super::handle::{ProcessHandle, Progress};
use crate::error::Error;
use crate::local::start::zygote::WorkerStderr;
use crate::remote::submission::ReplySink;
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
