//! The place in which a map's function is applied to its items: the driver's thread, or elsewhere. In the
//! consumer's process.

use std::sync::Arc;
use std::time::Duration;

use super::chunk::Chunk;
use super::input::Items;
use super::segment::Segment;
use crate::error::Error;
use crate::label::Label;
use crate::panic::Quiet;

/// Neighbouring items to compute.
pub(crate) struct Work<'a, A, R> {
    /// The index of the first.
    pub(super) first: usize,
    pub(super) items: &'a mut Items<A>,
    /// The memory for the results.
    pub(super) place: Segment<R>,
    /// Set if the chunk is to stop early when it takes much longer than a chunk should.
    pub(super) patience: bool,
}

/// The outcome of a chunk.
pub(crate) struct Computed<R> {
    pub(super) chunk: Chunk<R>,
    /// The rest of the place.
    pub(super) rest: Segment<R>,
    /// `None`: that is not known.
    pub(super) per_item: Option<Duration>,
}

/// A map's function, where it can be applied to many items.
pub(crate) trait Apply<A, R>: Send + Sync + 'static {
    /// Computes the items, at least one; stops after any when it `is_enough`. `None`: they are
    /// computed elsewhere, and a [`Step`] will come with the outcome.
    fn apply(
        &self,
        work: Work<'_, A, R>,
        is_enough: &impl Fn() -> bool,
        engine: impl FnOnce() -> Arc<dyn TakesSteps<R>>,
    ) -> Option<Computed<R>>;

    /// Runs `ask`, which pulls the input.
    fn pull<T>(ask: impl FnOnce() -> T) -> T {
        ask()
    }

    /// Returns an error if nothing can be computed: that of the whole map.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Stops what is being computed elsewhere, as nothing of it is wanted any more.
    fn stop(&self) {}
}

/// The next part of the work on a chunk that is computed elsewhere: after it the chunk is computed,
/// or, by `None`, on its way again.
pub(crate) type Step<R> = Box<dyn FnOnce() -> Option<Computed<R>> + Send>;

/// An engine whose chunks are computed elsewhere.
pub(crate) trait TakesSteps<R>: Send + Sync {
    /// Runs a step of the chunk that begins with item `first`, on a thread for the user's code.
    fn run(self: Arc<Self>, first: usize, step: Step<R>);

    /// Returns the label of the map.
    fn label(&self) -> Option<&Label>;

    /// Takes in the results of a chunk, of which the last `left` items get none.
    fn lose(self: Arc<Self>, first: usize, results: Computed<R>, left: usize);
}

/// A map's function, applied on the driver's thread.
pub(crate) struct Here<F>(Quiet<F>);

/// A map's function and its context, as a function of an item.
impl Here<()> {
    pub(crate) fn with<C, A, R>(
        context: C,
        f: impl Fn(&C, A) -> R + Send + Sync + 'static,
    ) -> Here<impl Fn(A) -> R + Send + Sync + 'static>
    where
        C: Send + Sync + 'static,
        A: 'static,
        R: 'static,
    {
        // Each is dropped under a guard of its own.
        let (context, f) = (Quiet::new(context), Quiet::new(f));
        Here::new(move |item| f(&context, item))
    }
}

impl<F> Here<F> {
    pub(crate) fn new(f: F) -> Self {
        Self(Quiet::new(f))
    }
}

impl<A, R, F> Apply<A, R> for Here<F>
where
    A: 'static,
    F: Fn(A) -> R + Send + Sync + 'static,
{
    fn apply(
        &self,
        work: Work<'_, A, R>,
        is_enough: &impl Fn() -> bool,
        _engine: impl FnOnce() -> Arc<dyn TakesSteps<R>>,
    ) -> Option<Computed<R>> {
        let Work { items, place, patience, .. } = work;
        let f = &*self.0;
        let (chunk, rest, per_item) = match items {
            Items::Values(values) => Chunk::computed(values, place, patience, f, is_enough),
            Items::Integers(integers) => Chunk::computed(integers, place, patience, f, is_enough),
        };
        Some(Computed { chunk, rest, per_item: Some(per_item) })
    }
}
