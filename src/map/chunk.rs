//! A run of neighbouring items: how long it should be, and what came of it.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::panic::catch;

/// How long a worker should be busy with one chunk: long against the cost of getting it
/// (about a microsecond), short against what a person or a load balancer notices.
pub(super) const TARGET: Duration = Duration::from_micros(250);

/// How many items are computed between two looks at the clock, at most. The look costs some
/// 25 ns. Between two looks, items that suddenly become slow are shared only with workers that
/// have nothing to do.
const LOOK_EVERY: usize = 64;

/// The results of neighbouring items, in order.
pub(super) struct Chunk<R> {
    values: Vec<R>,
    /// What has no value: the offset in the chunk, and why.
    errors: Vec<(usize, Error)>,
}

impl<R> Chunk<R> {
    fn with_capacity(items: usize) -> Self {
        Self { values: Vec::with_capacity(items), errors: Vec::new() }
    }

    pub(super) fn error(error: Error) -> Self {
        Self { values: Vec::new(), errors: vec![(0, error)] }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() + self.errors.len()
    }

    /// Computes an item, and up to `count` until it is enough. One landing pad serves the whole run, so an item that does
    /// not panic pays nothing for it.
    fn compute<A>(
        &mut self,
        items: &mut impl Iterator<Item = A>,
        count: usize,
        f: &impl Fn(A) -> R,
        is_enough: &impl Fn() -> bool,
    ) {
        let end = self.len() + count;
        loop {
            let values = &mut self.values;
            let left = end - values.len() - self.errors.len();
            let mut exhausted = false;
            let ran = catch(|| {
                for _ in 0..left {
                    match items.next() {
                        Some(item) => values.push(f(item)),
                        None => {
                            exhausted = true;
                            break;
                        }
                    }
                    if is_enough() {
                        break;
                    }
                }
            });
            if let Err(panicked) = ran {
                let error = Error::Panicked(Box::new(panicked));
                self.errors.push((self.len(), error));
            }
            if exhausted || self.len() >= end || is_enough() {
                return;
            }
        }
    }

    /// Computes `items` and tells how long one took. With `patience`, stops when the chunk has
    /// taken much longer than intended, and leaves the rest in `items`.
    pub(super) fn computed<A>(
        items: &mut std::vec::IntoIter<A>,
        patience: bool,
        f: &impl Fn(A) -> R,
        is_enough: &impl Fn() -> bool,
    ) -> (Self, Duration) {
        let start = Instant::now();
        let mut chunk = Self::with_capacity(items.len());
        let mut block = 1;
        loop {
            chunk.compute(items, if patience { block } else { usize::MAX / 2 }, f, is_enough);
            let elapsed = start.elapsed();
            if items.len() == 0 || is_enough() || (patience && elapsed > 2 * TARGET) {
                let count = u32::try_from(chunk.len().max(1)).unwrap_or(u32::MAX);
                return (chunk, elapsed / count);
            }
            block = (block * 2).min(LOOK_EVERY);
        }
    }
}

impl<R> IntoIterator for Chunk<R> {
    type Item = Result<R, Error>;
    type IntoIter = ChunkItems<R>;

    fn into_iter(self) -> ChunkItems<R> {
        ChunkItems {
            offset: 0,
            values: self.values.into_iter(),
            errors: self.errors.into_iter().peekable(),
        }
    }
}

pub(super) struct ChunkItems<R> {
    offset: usize,
    values: std::vec::IntoIter<R>,
    errors: std::iter::Peekable<std::vec::IntoIter<(usize, Error)>>,
}

impl<R> ChunkItems<R> {
    pub(super) fn empty() -> Self {
        Chunk::with_capacity(0).into_iter()
    }

    /// Appends the values up to the first error, and tells how many there were.
    pub(super) fn append_to(&mut self, all: &mut Vec<R>) -> usize {
        let before = all.len();
        if self.errors.peek().is_none() {
            all.extend(&mut self.values);
        } else {
            while self.errors.peek().is_some_and(|(at, _)| *at > self.offset) {
                self.offset += 1;
                all.extend(self.values.next());
            }
        }
        all.len() - before
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

/// How many items make a chunk.
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
    /// the window, and a quarter of its share of what is left.
    pub(super) fn next(&self, room: usize, workers: usize, window: usize, left: usize) -> usize {
        match *self {
            Self::Fixed(n) => n.min(room),
            Self::Measured(n) => {
                let share = (window / (2 * workers)).max(1);
                let fair = if left == 0 { n } else { (left / (4 * workers)).max(1) };
                n.min(share).min(fair).min(room)
            }
        }
    }

    /// A chunk has shown how long an item takes. Growth is limited to eightfold, since a few
    /// items may not speak for all; shrinking is not.
    pub(super) fn learn(&mut self, per_item: Duration) {
        if let Self::Measured(n) = self {
            let fitting = TARGET.as_nanos() / per_item.as_nanos().max(1);
            let fitting = usize::try_from(fitting).unwrap_or(usize::MAX).max(1);
            *n = fitting.min(n.saturating_mul(8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_chunks_grow_for_quick_items_and_shrink_at_once_for_slow_ones() {
        let mut size = ChunkSize::measured();
        let next = |size: &ChunkSize| size.next(usize::MAX, 2, usize::MAX, 1_000_000);
        assert_eq!(next(&size), 1);
        size.learn(Duration::from_nanos(1));
        assert_eq!(next(&size), 8);
        for _ in 0..10 {
            size.learn(Duration::from_nanos(1));
        }
        assert_eq!(next(&size), 1_000_000 / 8); // a quarter of each worker's share
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
        let mut chunk = Chunk::with_capacity(100);
        chunk.compute(&mut items, 64, &f, &|| last.get() >= 10);
        assert_eq!((chunk.len(), items.next()), (11, Some(11)));
        // What is enough from the start still goes on by one item.
        chunk.compute(&mut items, 64, &f, &|| true);
        assert_eq!((chunk.len(), items.next()), (12, Some(13)));
    }

    #[test]
    fn a_panic_takes_the_place_of_its_item() {
        let mut items = vec![0, 1, 2, 3].into_iter();
        let f = |n: u32| if n == 1 { panic!("one") } else { n };
        let (chunk, _) = Chunk::computed(&mut items, false, &f, &|| false);
        assert_eq!(chunk.len(), 4);
        let shown: Vec<_> = chunk.into_iter().map(|item| item.ok()).collect();
        assert_eq!(shown, [Some(0), None, Some(2), Some(3)]);
    }

    #[test]
    fn values_before_an_error_can_be_taken_together() {
        let mut items = (0..5).collect::<Vec<_>>().into_iter();
        let f = |n: u32| if n == 3 { panic!("three") } else { n };
        let (chunk, _) = Chunk::computed(&mut items, false, &f, &|| false);
        let (mut items, mut all) = (chunk.into_iter(), Vec::new());
        assert_eq!(items.append_to(&mut all), 3);
        assert_eq!(all, [0, 1, 2]);
        assert!(items.next().is_some_and(|item| item.is_err()));
        assert_eq!(items.append_to(&mut all), 1);
        assert!(items.next().is_none());
    }
}
