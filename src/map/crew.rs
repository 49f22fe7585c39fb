//! An executor, as a map needs it. In the consumer's process.

use crate::error::Error;
use crate::future::TaskFuture;
use crate::label::Label;

/// The threads that do a map's work.
pub(crate) trait Crew: Send + Sync + 'static {
    /// Returns the number of chunks that are useful under way at the same time.
    fn size(&self) -> usize;

    /// Returns whether a new map is accepted.
    fn check_open(&self) -> Result<(), Error>;

    /// Queues a driver. It is dropped without running if the executor takes nothing more, or
    /// comes to its end before, or if the future is dropped before. The label is that of the map.
    fn start(&self, driver: Box<dyn FnOnce() + Send>, label: Option<&Label>) -> TaskFuture<()>;

    /// Returns the next step of a driver after a chunk.
    fn after_chunk(&self) -> AfterChunk;

    /// Returns the reason for which a driver was dropped without running.
    fn refusal(&self) -> Error;

    /// Counts items for which a value was computed here.
    fn count_items(&self, _count: usize) {}

    /// Returns whether this thread may compute a chunk of a map that it waits for.
    fn may_help(&self) -> bool;
}

#[derive(Clone, Copy)]
pub(crate) enum AfterChunk {
    GoOn,
    /// Other tasks wait: the driver goes to the end of the queue.
    Requeue,
    /// The consumer says when to go on.
    Stop,
    /// The executor has come to its end.
    GiveUp,
}
