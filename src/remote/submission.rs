//! A submission to a pool, and the receiver of its result. In the submitter's process.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::frame::{Content, Frame, Kind};
use super::map_context::MapContext;
use crate::core::Options;
use crate::error::Error;
use crate::trace::TaskTrace;

/// A call or a chunk to be submitted.
pub(crate) struct Submission {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) content: Content,
    pub(crate) sink: Box<dyn ReplySink>,
    pub(crate) options: Options,
    /// Set if room in the queue was taken, which the pool gives back at the start or a withdrawal.
    pub(crate) holds_room: bool,
    /// The number of items of a chunk; the time limit of a call in nanoseconds, or 0.
    pub(crate) detail: u64,
    pub(crate) trace: TaskTrace,
    /// Of a chunk: its map's.
    pub(crate) context: Option<Arc<MapContext>>,
}

/// The worker that is to blame if another one dies of a call that it has submitted, and the task that
/// has submitted it.
#[derive(Clone, Copy)]
pub(crate) struct Suspect {
    pub(crate) worker: u32,
    pub(crate) task: u64,
}

/// A reply as its pool counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Value,
    Error,
    /// A chunk of a map: the number of items that have a value.
    Items(usize),
}

impl Counted {
    pub(crate) fn of(is_value: bool) -> Self {
        if is_value { Self::Value } else { Self::Error }
    }
}

/// The receiver of a reply.
pub(crate) trait ReplySink: Send {
    /// Returns whether [`complete`](Self::complete) may take long with so many bytes of values.
    fn takes_long(&self, length: usize) -> bool;

    /// Takes a part of the reply. `false`: there should be none, or not so much.
    fn part(&mut self, _frame: Frame) -> bool {
        false
    }

    /// Returns the submitter of a call if that is a worker, and nothing in the pool's process tells
    /// whether there is such a function.
    fn suspect(&self) -> Option<Suspect> {
        None
    }

    /// Takes what the worker, which has died, has left in its checkpoint.
    fn salvage(&mut self, _checkpoint: &[AtomicU64]) {}

    /// Takes the number of items that the worker had begun, of one that has died for a task of this
    /// process and whose checkpoint the pool has looked at.
    fn begun(&mut self, _items: usize) {}

    /// Hands the reply on. `trace` is told of it, and `account` what it counts as, before anybody
    /// can see it.
    fn complete(
        self: Box<Self>,
        reply: Result<Frame, Error>,
        trace: &TaskTrace,
        account: &dyn Fn(Counted),
    );
}

/// A pool that takes submissions: here, or, for a worker, in the process of its pool.
pub(crate) trait Submit: Send + Sync + 'static {
    /// Submits a call or chunk. A refusal is told to its sink.
    fn submit(&self, submission: Submission);

    /// Ends a task that has not started, and asks one that runs to stop.
    fn cancel(&self, number: u64);

    /// Ends the context of a map, all of whose chunks are done.
    fn end_context(&self, context: Arc<MapContext>);

    /// Why submissions are refused, or were cancelled.
    fn withdrawal(&self) -> Error;

    /// Runs code of the user's that belongs to accepted work, on a helper thread.
    fn go_on(&self, job: Box<dyn FnOnce() + Send>);
}
