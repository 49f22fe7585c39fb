//! A map's engine as its consumer sees it: finished chunks, and what may be asked for. In the consumer's
//! process.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::chunk::Chunk;
use super::segment::Segment;
use crate::error::Error;
use crate::label::Label;

/// An engine, of which only the type of the results is known.
pub(super) trait Source<R>: Send + Sync {
    /// Starts the map, unless the executor takes nothing new. Returns the window.
    fn start(self: Arc<Self>, settings: Settings) -> usize;

    /// Has all results from item `next` on gathered in one segment, in a new window. Returns its part for
    /// the items that have been taken by now, without slots if the number of results is not known.
    fn gather(&self, next: usize, window: usize) -> Segment<R>;

    /// Takes a finished chunk. `delivered` items more have reached the consumer since the last
    /// call of this or of [`delivered`](Self::delivered).
    fn poll_chunk(
        self: Arc<Self>,
        wanted: Wanted,
        delivered: usize,
        cx: &Context<'_>,
    ) -> Poll<Taken<R>>;

    /// Counts `count` more items as delivered, which may make room for others.
    fn delivered(self: Arc<Self>, count: usize);

    /// The length, as far as the input has told it.
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Returns whether item `index` has been taken from the input.
    fn is_taken(&self, index: usize) -> bool;

    /// Computes one chunk on this thread, if it may and there is one.
    fn help(self: Arc<Self>) -> bool;

    /// Stops the computation, but keeps the results that are there. `false`: nothing is left to
    /// compute anyway.
    fn halt(&self) -> bool;

    /// Stops the map: no more results are wanted.
    fn stop(&self);
}

/// Settings of the user. `None` is left to the engine.
#[derive(Clone, Default)]
pub(super) struct Settings {
    /// The number of items that are taken and not delivered, at most.
    pub(super) window: Option<usize>,
    pub(super) chunk_size: Option<usize>,
    pub(super) label: Option<Label>,
}

/// The chunk that the consumer waits for.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Any,
    /// The chunk that starts with this item.
    From(usize),
    /// The same, but there is no hurry: all of them are wanted.
    All(usize),
}

pub(super) enum Taken<R> {
    Chunk(usize, Chunk<R>),
    /// All has been taken.
    Finished,
    /// The executor came to its end before the map did.
    Failed(Error),
}
