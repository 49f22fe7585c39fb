//! A chunk, which is a run of neighbouring items: its length, its computation and its results. In the
//! consumer's process.

use std::time::{Duration, Instant};

use super::segment::Segment;
use crate::error::Error;
use crate::panic::catch;

/// Time for which a worker should be busy with one chunk: long against the cost of getting it
/// (about a microsecond), short against what a person or a load balancer notices.
pub(super) const TARGET: Duration = Duration::from_micros(250);

/// Time for which items are computed without a look at the clock, which costs some 25 ns.
const CLOCK_EVERY: Duration = Duration::from_micros(16);

/// Number of blocks of items between two looks at the clock. After each block the worker looks
/// whether it is to stop or to share. A look after each item would cost more than a tiny item,
/// and keep the compiler from a good loop; what takes a microsecond is a block by itself.
const BLOCKS: usize = 32;

/// The longest block, by items, since the next ones may suddenly be slow.
const LONGEST_BLOCK: usize = 64;

/// The most items in a chunk. Room for all of its results is reserved.
const LONGEST_CHUNK: usize = 1 << 20;

/// Number of items of a worker's share that are left for shorter chunks.
const AT_THE_END: usize = 1024;

/// Maximum number of bytes of results that are moved to have one chunk instead of two.
const SMALL: usize = 1024;

/// The results of neighbouring items, in order.
pub(super) struct Chunk<R> {
    values: Segment<R>,
    /// Items without a value: the offset in the chunk, and why.
    errors: Vec<(usize, Error)>,
}

impl<R> Chunk<R> {
    pub(super) fn error(error: Error) -> Self {
        Self { values: Segment::empty(), errors: vec![(0, error)] }
    }

    /// Makes a chunk without results so far, which go to `place`.
    pub(super) fn in_place(place: Segment<R>) -> Self {
        Self { values: place, errors: Vec::new() }
    }

    pub(super) fn push(&mut self, result: Result<R, Error>) {
        match result {
            Ok(value) => self.values.fill(std::iter::once(value)),
            Err(error) => self.errors.push((self.len(), error)),
        }
    }

    /// Splits the chunk into the results so far and the rest of their place.
    pub(super) fn split(self) -> (Self, Segment<R>) {
        let count = self.len();
        let Self { values: mut rest, errors } = self;
        // One slot for each result, also for an error: the rest is the place of the items behind.
        (Self { values: rest.cut(count), errors }, rest)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() + self.errors.len()
    }

    pub(super) fn values(&self) -> usize {
        self.values.len()
    }

    pub(super) fn has_error(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Adds the results of the chunk behind this one, or gives it back if that is much work. In a
    /// narrow window most chunks are single items, and would take much memory by themselves.
    pub(super) fn join(&mut self, mut next: Self) -> Option<Self> {
        let is_small = |chunk: &Self| !chunk.has_error() && chunk.len() * size_of::<R>() <= SMALL;
        if !is_small(self) || !is_small(&next) {
            return Some(next);
        }
        self.values.append(&mut next.values);
        None
    }

    /// Computes an item, and up to `count` until it is enough, with a look at that after each
    /// `block`. One landing pad serves the whole run, so an item that does not panic pays nothing
    /// for it.
    fn compute<A>(
        &mut self,
        items: &mut impl Iterator<Item = A>,
        count: usize,
        block: usize,
        f: &impl Fn(A) -> R,
        is_enough: &impl Fn() -> bool,
    ) {
        let end = self.len() + count;
        loop {
            let values = &mut self.values;
            // Counted anew after a panic, which has used up its item.
            let mut left = end - values.len() - self.errors.len();
            let ran = catch(|| {
                loop {
                    let count = left.min(block);
                    push_all(values, items, count, f);
                    left -= count;
                    if left == 0 || is_enough() {
                        break;
                    }
                }
            });
            if let Err(panicked) = ran {
                let error = Error::Panicked(Box::new(panicked));
                self.errors.push((self.len(), error));
            }
            if self.len() >= end || is_enough() {
                return;
            }
        }
    }

    /// Computes `items`, for whose results there is a `place`. Also gives the rest of the place,
    /// and how long an item took. With `patience`, stops when the chunk has taken much longer
    /// than intended, and leaves the rest in `items`.
    pub(super) fn computed<A>(
        items: &mut impl Iterator<Item = A>,
        place: Segment<R>,
        patience: bool,
        f: &impl Fn(A) -> R,
        is_enough: &impl Fn() -> bool,
    ) -> (Self, Segment<R>, Duration) {
        let start = Instant::now();
        let mut chunk = Self { values: place, errors: Vec::new() };
        // The first item is timed alone, since nothing is known of this chunk yet.
        let mut run = 1;
        loop {
            let block = (run / BLOCKS).clamp(1, LONGEST_BLOCK);
            chunk.compute(items, run.min(items.size_hint().0), block, f, is_enough);
            let elapsed = start.elapsed();
            let count = chunk.len();
            let per_item = elapsed / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
            let is_late = patience && elapsed > 2 * TARGET;
            if items.size_hint().0 == 0 || is_enough() || is_late {
                let (chunk, rest) = chunk.split();
                return (chunk, rest, per_item);
            }
            run = how_many(CLOCK_EVERY, per_item).min(BLOCKS * LONGEST_BLOCK);
        }
    }
}

/// A function by itself, so that the compiler knows that what `items` and `values` point to is
/// apart, and keeps both in registers. It forgets that when it inlines the function: then a tiny
/// item takes more than twice as long.
#[inline(never)]
fn push_all<A, R>(
    values: &mut Segment<R>,
    items: &mut impl Iterator<Item = A>,
    count: usize,
    f: &impl Fn(A) -> R,
) {
    values.fill(items.take(count).map(f));
}

/// Returns the number of items of this length that fill a time; one at least.
fn how_many(time: Duration, per_item: Duration) -> usize {
    // The cast saturates, also where an item took no time that the clock would show.
    (time.div_duration_f64(per_item) as usize).max(1)
}

impl<R> IntoIterator for Chunk<R> {
    type Item = Result<R, Error>;
    type IntoIter = ChunkItems<R>;

    fn into_iter(self) -> ChunkItems<R> {
        ChunkItems { offset: 0, values: self.values, errors: self.errors.into_iter().peekable() }
    }
}

pub(super) struct ChunkItems<R> {
    offset: usize,
    values: Segment<R>,
    errors: std::iter::Peekable<std::vec::IntoIter<(usize, Error)>>,
}

impl<R> ChunkItems<R> {
    pub(super) fn empty() -> Self {
        Chunk { values: Segment::empty(), errors: Vec::new() }.into_iter()
    }

    /// Appends the values up to the first error, and tells how many there were.
    pub(super) fn append_to(&mut self, all: &mut Segment<R>) -> usize {
        let count = match self.errors.peek() {
            Some((at, _)) => at - self.offset,
            None => self.values.len(),
        };
        self.offset += count;
        all.append(&mut self.values.cut(count));
        count
    }
}

impl<R> Iterator for ChunkItems<R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        self.offset += 1;
        match self.errors.next_if(|(at, _)| *at == offset) {
            Some((_, error)) => Some(Err(error)),
            None => self.values.next().map(Ok),
        }
    }
}

/// The number of items in a chunk.
#[derive(Clone, Copy)]
pub(super) enum ChunkSize {
    Fixed(usize),
    /// Follows the measured time of an item.
    Measured(usize),
}

impl ChunkSize {
    /// The first chunk is a single item, as nothing is known yet.
    pub(super) fn measured() -> Self {
        Self::Measured(1)
    }

    pub(super) fn is_measured(&self) -> bool {
        matches!(self, Self::Measured(_))
    }

    /// The length for the next chunk, out of at most `room` items for `workers` workers, with
    /// `window` items under way at most and at least `left` items to come.
    ///
    /// So that all workers get a share, a measured chunk is at most half of a worker's share of
    /// the window, and of what is left it leaves some: the last items go in ever shorter chunks.
    pub(super) fn next(&self, room: usize, workers: usize, window: usize, left: usize) -> usize {
        let count = match *self {
            Self::Fixed(n) => n.min(room),
            Self::Measured(n) => {
                let share = (window / (2 * workers)).max(1);
                let fair = (left / workers).saturating_sub(AT_THE_END).max(left / (4 * workers));
                // `left` is 0 if the number is not known, or if the items were given back.
                let fair = if left == 0 { n } else { fair.max(1) };
                n.min(share).min(fair).min(room)
            }
        };
        count.min(LONGEST_CHUNK)
    }

    /// Adapts the size to the time that an item took in a chunk. Growth is limited to eightfold,
    /// since a few items may not speak for all; shrinking is not.
    pub(super) fn learn(&mut self, per_item: Duration) {
        if let Self::Measured(n) = self {
            *n = how_many(TARGET, per_item).min(n.saturating_mul(8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_chunk<R>(slots: usize) -> Chunk<R> {
        Chunk { values: Segment::with_capacity(slots), errors: Vec::new() }
    }

    #[test]
    fn measured_chunks_grow_for_quick_items_and_shrink_at_once_for_slow_ones() {
        let mut size = ChunkSize::measured();
        let next = |size: &ChunkSize| size.next(usize::MAX, 2, usize::MAX, 100_000);
        assert_eq!(next(&size), 1);
        size.learn(Duration::from_nanos(1));
        assert_eq!(next(&size), 8);
        for _ in 0..10 {
            size.learn(Duration::from_nanos(1));
        }
        assert_eq!(next(&size), 100_000 / 2 - AT_THE_END);
        assert_eq!(size.next(usize::MAX, 2, usize::MAX, 80), 80 / 2 / 4);
        assert_eq!(size.next(usize::MAX, 2, usize::MAX, 5), 1);
        size.learn(Duration::from_secs(1));
        assert_eq!(next(&size), 1);
    }

    #[test]
    fn the_window_is_shared_by_the_workers() {
        let mut size = ChunkSize::measured();
        for _ in 0..10 {
            size.learn(Duration::from_nanos(1));
        }
        assert_eq!(size.next(64, 2, 64, 0), 16);
        assert_eq!(size.next(2, 2, 2, 0), 1);
        assert_eq!(ChunkSize::Fixed(40).next(7, 2, 7, 0), 7);
    }

    #[test]
    fn a_chunk_ends_with_the_item_that_is_enough_and_leaves_the_rest() {
        let mut items = (0..100).collect::<Vec<_>>().into_iter();
        let last = std::cell::Cell::new(0);
        let f = |n: u32| {
            last.set(n);
            if n == 5 { panic!("five") } else { n }
        };
        let mut chunk = empty_chunk(100);
        chunk.compute(&mut items, 64, 1, &f, &|| last.get() >= 10);
        assert_eq!((chunk.len(), items.next()), (11, Some(11)));
        // What is enough from the start still goes on by one item.
        chunk.compute(&mut items, 64, 1, &f, &|| true);
        assert_eq!((chunk.len(), items.next()), (12, Some(13)));
    }

    #[test]
    fn small_chunks_become_one() {
        let of = |values: Vec<u64>| Chunk { values: values.into(), errors: Vec::new() };
        let mut all = of(vec![0]);
        for n in 1..100 {
            assert!(all.join(of(vec![n])).is_none());
        }
        assert!(all.join(Chunk::error(Error::Cancelled)).is_some_and(|next| next.len() == 1));
        assert!(all.join(of(vec![0; 200])).is_some_and(|next| next.len() == 200));
        assert!(all.into_iter().map(Result::unwrap).eq(0..100));
        assert!(Chunk::error(Error::Cancelled).join(of(vec![1])).is_some());
        assert!(of(vec![0; 200]).join(of(vec![1])).is_some());
    }

    #[test]
    fn a_panic_takes_the_place_of_its_item() {
        let mut items = vec![0, 1, 2, 3].into_iter();
        let f = |n: u32| if n == 1 { panic!("one") } else { n };
        let (chunk, ..) =
            Chunk::computed(&mut items, Segment::with_capacity(5), false, &f, &|| false);
        assert_eq!(chunk.len(), 4);
        let shown: Vec<_> = chunk.into_iter().map(|item| item.ok()).collect();
        assert_eq!(shown, [Some(0), None, Some(2), Some(3)]);
    }

    #[test]
    fn values_before_an_error_can_be_taken_together() {
        let mut items = (0..5).collect::<Vec<_>>().into_iter();
        let f = |n: u32| if n == 3 { panic!("three") } else { n };
        let (chunk, ..) =
            Chunk::computed(&mut items, Segment::with_capacity(5), false, &f, &|| false);
        let (mut items, mut all) = (chunk.into_iter(), Segment::empty());
        assert_eq!(items.append_to(&mut all), 3);
        assert!(items.next().is_some_and(|item| item.is_err()));
        assert_eq!(items.append_to(&mut all), 1);
        assert!(items.next().is_none());
        assert_eq!(all.into_vec(), [0, 1, 2, 4]);
    }
}
