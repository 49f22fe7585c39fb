//! Where a map's function is applied to its items: here, or elsewhere.

use std::time::Duration;

use super::chunk::Chunk;
use super::input::Items;
use super::segment::Segment;
#[cfg(feature = "process")]
use crate::error::Error;
use crate::panic::Quiet;

/// Neighbouring items to compute.
pub(crate) struct Work<'a, A, R> {
    pub(super) items: &'a mut Items<A>,
    /// Where the results go.
    pub(super) place: Segment<R>,
    /// True if to stop when it takes much longer than a chunk should.
    pub(super) patience: bool,
}

/// The outcome of a chunk.
pub(crate) struct Computed<R> {
    pub(super) chunk: Chunk<R>,
    /// The rest of the place.
    pub(super) rest: Segment<R>,
    pub(super) per_item: Duration,
}

/// A map's function, where it can be applied to many items.
pub(crate) trait Apply<A, R>: Send + Sync + 'static {
    /// Computes the items, at least one; stops after any when it `is_enough`.
    fn apply(&self, work: Work<'_, A, R>, is_enough: &impl Fn() -> bool) -> Computed<R>;

    /// Nothing of what is being computed is wanted any more.
    fn stop(&self) {}
}

/// On this thread.
pub(crate) struct Here<F>(Quiet<F>);

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
    fn apply(&self, work: Work<'_, A, R>, is_enough: &impl Fn() -> bool) -> Computed<R> {
        let Work { items, place, patience } = work;
        let f = &*self.0;
        let (chunk, rest, per_item) = match items {
            Items::Values(values) => Chunk::computed(values, place, patience, f, is_enough),
            Items::Integers(integers) => Chunk::computed(integers, place, patience, f, is_enough),
        };
        Computed { chunk, rest, per_item }
    }
}

/// A function that is applied somewhere else, for which this thread waits.
#[cfg(feature = "process")]
pub(crate) trait Remote<A, R>: Send + Sync + 'static {
    /// Computes all items, and puts the results in order. The answer is how long that took there.
    fn compute(
        &self,
        items: &mut dyn Iterator<Item = A>,
        put: &mut dyn FnMut(Result<R, Error>),
    ) -> Duration;

    /// Nothing of what is being computed is wanted any more.
    fn stop(&self);
}

#[cfg(feature = "process")]
pub(crate) struct Elsewhere<F>(pub(crate) F);

#[cfg(feature = "process")]
impl<A, R, F> Apply<A, R> for Elsewhere<F>
where
    A: 'static,
    F: Remote<A, R>,
{
    fn apply(&self, work: Work<'_, A, R>, _is_enough: &impl Fn() -> bool) -> Computed<R> {
        let Work { items, place, .. } = work;
        let count = items.len();
        let mut chunk = Chunk::in_place(place);
        let time = {
            let mut put = |result| chunk.push(result);
            match items {
                Items::Values(values) => self.0.compute(values, &mut put),
                Items::Integers(integers) => self.0.compute(integers, &mut put),
            }
        };
        let per_item = time / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let (chunk, rest) = chunk.split();
        Computed { chunk, rest, per_item }
    }

    fn stop(&self) {
        self.0.stop();
    }
}
