//! A map's function that is applied elsewhere, without a thread that waits: the chunk comes back to its
//! engine in steps. In the consumer's process.

use std::sync::Arc;
use std::time::Duration;

use super::apply::{Apply, Computed, TakesSteps, Work};
use super::chunk::Chunk;
use super::input::Items;
use crate::core::context;
use crate::error::Error;
use crate::label::Label;

/// A function that is applied somewhere else. No thread waits for that.
pub(crate) trait Remote<A, R>: Send + Sync + 'static {
    /// Has all items computed, and their results pushed in order. `None`: the results will be finished
    /// by a later step of theirs.
    fn compute(&self, items: Vec<A>, results: Results<R>) -> Option<Computed<R>>;

    /// Returns an error if nothing can be computed.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Stops what is being computed, as nothing of it is wanted any more.
    fn stop(&self);
}

/// The results of a chunk that is computed elsewhere, and its way back to the engine.
pub(crate) struct Results<R> {
    /// `None` once they are finished.
    chunk: Option<Chunk<R>>,
    first: usize,
    /// The number of items.
    items: usize,
    engine: Arc<dyn TakesSteps<R>>,
}

impl<R> Results<R> {
    pub(crate) fn push(&mut self, result: Result<R, Error>) {
        if let Some(chunk) = &mut self.chunk {
            chunk.push(result);
        }
    }

    /// Returns the label of the map.
    pub(crate) fn label(&self) -> Option<Label> {
        self.engine.label().cloned()
    }

    /// Returns the number of results so far.
    pub(crate) fn len(&self) -> usize {
        self.chunk.as_ref().map_or(0, Chunk::len)
    }

    /// Wraps `step` up as a job for a thread on which the user's code may run. If that is dropped
    /// without running, the items without a result end with the executor's refusal.
    pub(crate) fn into_job(
        self,
        step: impl FnOnce(Self) -> Option<Computed<R>> + Send + 'static,
    ) -> Box<dyn FnOnce() + Send>
    where
        R: Send + 'static,
    {
        // A job that is dropped drops `step` and these results, which then end by `Drop`.
        let (engine, first) = (Arc::clone(&self.engine), self.first);
        let step = Box::new(move || step(self));
        Box::new(move || engine.run(first, step))
    }

    /// Ends the results, all of which are there, and took `time` to compute, if that is known.
    pub(crate) fn finish(mut self, time: Option<Duration>) -> Option<Computed<R>> {
        self.take(time)
    }

    fn take(&mut self, time: Option<Duration>) -> Option<Computed<R>> {
        let (chunk, rest) = self.chunk.take()?.split();
        let count = u32::try_from(chunk.len().max(1)).unwrap_or(u32::MAX);
        let per_item = time.map(|time| time / count);
        Some(Computed { chunk, rest, per_item })
    }
}

impl<R> Drop for Results<R> {
    fn drop(&mut self) {
        // Of finished results there is no chunk left, so they are not ended again.
        let left = self.items - self.len();
        if let Some(results) = self.take(None) {
            Arc::clone(&self.engine).lose(self.first, results, left);
        }
    }
}

pub(crate) struct Elsewhere<F>(pub(crate) F);

impl<A, R, F> Apply<A, R> for Elsewhere<F>
where
    A: 'static,
    R: Send + 'static,
    F: Remote<A, R>,
{
    fn apply(
        &self,
        work: Work<'_, A, R>,
        _is_enough: &impl Fn() -> bool,
        engine: impl FnOnce() -> Arc<dyn TakesSteps<R>>,
    ) -> Option<Computed<R>> {
        let Work { first, items, place, .. } = work;
        let chunk = Some(Chunk::in_place(place));
        let results = Results { chunk, first, items: items.len(), engine: engine() };
        let items = match items {
            Items::Values(values) => values.collect(),
            Items::Integers(integers) => integers.collect(),
        };
        self.0.compute(items, results)
    }

    /// The threads that pull are few, and the results come through them: one whose input blocks must
    /// not hold these up.
    fn pull<T>(ask: impl FnOnce() -> T) -> T {
        context::lend_during(ask)
    }

    fn check(&self) -> Result<(), Error> {
        self.0.check()
    }

    fn stop(&self) {
        self.0.stop();
    }
}
