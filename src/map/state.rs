//! The state of a map: the items that are left, the chunks that are finished, and the waiting consumer.
//! In the consumer's process, under the engine's lock.

use std::collections::{BTreeMap, VecDeque};

use super::chunk::{Chunk, ChunkSize};
use super::input::{Input, Items};
use super::segment::Segment;
use super::source::Wanted;
use crate::error::Error;
use crate::future::TaskFuture;
use crate::panic::KeptWaker;

/// Neighbouring items that a driver is to compute.
pub(super) struct Batch<A, R> {
    /// The index of the first.
    pub(super) first: usize,
    pub(super) items: Items<A>,
    /// The memory for the results. `None`: the driver allocates some.
    pub(super) place: Option<Segment<R>>,
    /// The chunk size at the moment when it was taken.
    pub(super) size: ChunkSize,
}

impl<A: 'static, R> Batch<A, R> {
    fn cut(&mut self, count: usize) -> Self {
        let items = self.items.cut(count);
        let place = self.place.as_mut().map(|place| place.cut(count));
        let first = self.first;
        self.first += count;
        Self { first, items, place, size: self.size }
    }
}

/// A driver's share of the work.
pub(super) enum Share<A, R, I> {
    Batch(Batch<A, R>),
    /// The input is to be asked for items, as many as the demand says, without the lock.
    Pull(I, Demand),
    Nothing,
}

/// The number of items that a driver wants from an input that must be asked for them.
pub(super) struct Demand {
    size: ChunkSize,
    room: usize,
    workers: usize,
    window: usize,
}

impl Demand {
    /// Returns the number, if at least `left` items are to come.
    pub(super) fn items(&self, left: usize) -> usize {
        self.size.next(self.room, self.workers, self.window, left)
    }
}

pub(super) struct State<A, R, I> {
    /// The input; `None` while a driver pulls it, and after its end.
    pub(super) input: Option<Input<A, I>>,
    pub(super) pulling: bool,
    /// The slots for the results of all items that have not been taken.
    pub(super) place: Option<Segment<R>>,
    /// Set once there was such a place.
    pub(super) gathers: bool,
    /// Items that were taken and given back, by a chunk that took too long.
    pub(super) given_back: VecDeque<Batch<A, R>>,
    pub(super) finished: BTreeMap<usize, Chunk<R>>,
    has_error: bool,
    /// Items taken from the input, and those of them that the consumer has.
    pub(super) taken: usize,
    pub(super) delivered: usize,
    /// Maximum distance of `taken` ahead of `delivered`. 0 before the start.
    pub(super) window: usize,
    pub(super) chunk_size: ChunkSize,
    /// Drivers that are in the queue, that run, or whose chunk is computed elsewhere.
    pub(super) drivers: usize,
    /// The drivers that have not begun, and perhaps some that have.
    pub(super) queued: Vec<TaskFuture<()>>,
    /// Batches that were taken and have no outcome.
    pub(super) computing: usize,
    pub(super) failure: Option<Error>,
    pub(super) wanted: Wanted,
    pub(super) consumer: Option<KeptWaker>,
}

impl<A: 'static, R, I> State<A, R, I> {
    pub(super) fn new(input: Input<A, I>) -> Self {
        Self {
            input: Some(input),
            pulling: false,
            place: None,
            gathers: false,
            given_back: VecDeque::new(),
            finished: BTreeMap::new(),
            has_error: false,
            taken: 0,
            delivered: 0,
            window: 0,
            chunk_size: ChunkSize::measured(),
            drivers: 0,
            queued: Vec::new(),
            computing: 0,
            failure: None,
            wanted: Wanted::From(0),
            consumer: None,
        }
    }

    fn room(&self) -> usize {
        // Saturates: a panic of the input takes an item too many.
        self.window.saturating_sub(self.taken - self.delivered)
    }

    pub(super) fn has_work(&self) -> bool {
        !self.given_back.is_empty() || (self.input.is_some() && self.room() > 0)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.computing == 0 && !self.pulling
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.input.is_none() && self.is_idle() && self.given_back.is_empty()
    }

    /// Takes one of `workers` shares of the work that there is.
    pub(super) fn share(&mut self, workers: usize) -> Share<A, R, I> {
        if let Some(mut batch) = self.given_back.pop_front() {
            let length = batch.items.len();
            let part = length.div_ceil(workers);
            // These items have been taken, so the window does not bound them any more.
            let count = self.chunk_size.next(part, workers, usize::MAX, 0);
            self.computing += 1;
            if count < length {
                let part = batch.cut(count);
                self.given_back.push_front(batch);
                batch = part;
            }
            return Share::Batch(batch);
        }
        let (room, window, size) = (self.room(), self.window, self.chunk_size);
        match self.input.take() {
            Some(Input::Known(mut items)) => {
                let length = items.len();
                let count = size.next(room, workers, window, length).min(length);
                if count < length {
                    let batch = items.cut(count);
                    self.input = Some(Input::Known(items));
                    items = batch;
                }
                if count > 0 { Share::Batch(self.take(items, count)) } else { Share::Nothing }
            }
            Some(Input::Unknown(input)) => {
                self.pulling = true;
                Share::Pull(input, Demand { size, room, workers, window })
            }
            None => Share::Nothing,
        }
    }

    /// Counts items as taken, and returns them with their index and their place.
    pub(super) fn take(&mut self, items: Items<A>, count: usize) -> Batch<A, R> {
        let first = self.taken;
        self.taken += count;
        self.computing += 1;
        let place = match &mut self.place {
            Some(place) if place.slots() > count => Some(place.cut(count)),
            // The last ones get all that is left, so that no other part of this memory exists.
            place => place.take(),
        };
        Batch { first, items, place, size: self.chunk_size }
    }

    pub(super) fn finish(&mut self, first: usize, chunk: Chunk<R>) {
        self.has_error |= chunk.has_error();
        let before = self.finished.range_mut(..first).next_back();
        let chunk = match before {
            // Results that are gathered are not moved.
            Some((at, before)) if !self.gathers && at + before.len() == first => before.join(chunk),
            _ => Some(chunk),
        };
        if let Some(chunk) = chunk {
            self.finished.insert(first, chunk);
        }
    }

    /// Takes the finished chunk that the consumer wants, with the index of its first item.
    pub(super) fn take_wanted(&mut self) -> Option<(usize, Chunk<R>)> {
        match self.wanted {
            Wanted::From(next) | Wanted::All(next) => {
                // Chunks are taken whole: the next item begins one, or has no result yet.
                self.finished.remove(&next).map(|chunk| (next, chunk))
            }
            Wanted::Any => self.finished.pop_first(),
        }
    }

    /// Takes the consumer's waker, if there is something for it.
    pub(super) fn consumer_to_wake(&mut self) -> Option<KeptWaker> {
        let is_due = match self.wanted {
            Wanted::Any => true,
            Wanted::From(next) => self.finished.contains_key(&next),
            // In a window there is room for others only when these have been delivered.
            Wanted::All(next) => {
                (self.has_error || self.window != usize::MAX) && self.finished.contains_key(&next)
            }
        };
        if is_due || self.is_exhausted() { self.consumer.take() } else { None }
    }
}
