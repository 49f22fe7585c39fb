//! The engine of a map: its workers take items, compute them, and leave the results in their places.
//!
//! A *driver* is a job on the pool that takes a chunk of the input, computes it, and goes on with
//! the next, as long as the window has room. There are as many as the pool has workers, at most;
//! each is started when there is work for it, by another driver or by the consumer. Between two
//! chunks a driver goes to the end of the queue if other tasks wait, so that a long map does not
//! shut them out.
//!
//! 1. An input that must be asked for its items is pulled by one driver at a time, which takes the
//!    iterator out of the state, so that no lock is held while it runs. A driver that finds it
//!    taken ends; the one that puts it back starts another if there is more to do. Of an input
//!    whose items are known a driver cuts off a batch under the lock.
//! 2. A driver that ends for want of room or items does so under the lock that the consumer takes
//!    to make room, so one of the two sees the other, and no map stands still.
//! 3. Drivers in the queue hold a `Weak`, and are withdrawn when the map is stopped: a dropped map
//!    is gone, with its input, its function and its results, as soon as no driver computes.
//! 4. If all results are wanted together, and it is known how many there will be, there is one
//!    place for all of them: each batch of items comes with its slots, and the consumer gets
//!    the results without a copy. It is not woken before the end then, or before an error.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Context, Poll};

use super::apply::{Apply, Computed, Work};
use super::chunk::{Chunk, ChunkSize};
use super::input::{Input, Items};
use super::segment::Segment;
use crate::cache_padded::CachePadded;
use crate::core::context;
use crate::error::Error;
use crate::future::TaskFuture;
use crate::panic::{KeptWaker, Quiet, catch, drop_quietly};
use crate::sync::Mutex;
use crate::trace::MapTrace;

/// An executor, as a map needs it.
pub(crate) trait Crew: Send + Sync + 'static {
    /// Returns the number of drivers that are useful at the same time.
    fn size(&self) -> usize;

    /// Returns whether a new map is accepted.
    fn check_open(&self) -> Result<(), Error>;

    /// Queues a driver. It is dropped without running if the executor takes nothing more, or
    /// comes to its end before, or if the future is dropped before.
    fn start(&self, driver: Box<dyn FnOnce() + Send>) -> TaskFuture<()>;

    /// Returns the next step of a driver after a chunk.
    fn after_chunk(&self) -> AfterChunk;

    /// Why a driver was dropped without running.
    fn refusal(&self) -> Error;

    /// Returns whether this thread may compute a chunk of a map that it waits for.
    fn may_help(&self) -> bool;
}

#[derive(Clone, Copy)]
pub(crate) enum AfterChunk {
    GoOn,
    /// Others wait: to the end of the queue.
    Requeue,
    /// The consumer says when to go on.
    Stop,
    /// The executor has come to its end.
    GiveUp,
}

/// The consumer's view of an engine; it knows only the type of the results.
pub(super) trait Source<R>: Send + Sync {
    /// Changes the settings; more work may become possible by that.
    fn set(self: Arc<Self>, change: Setting);

    /// All results are wanted in one segment; that for those from item `next` on, with slots at
    /// least for what has been taken by now.
    fn gather(&self, next: usize) -> Segment<R>;

    /// Takes a finished chunk. `delivered` items more have reached the consumer since the last
    /// call.
    fn poll_chunk(
        self: Arc<Self>,
        wanted: Wanted,
        delivered: usize,
        cx: &Context<'_>,
    ) -> Poll<Taken<R>>;

    /// `count` items more have reached the consumer; there may be room for others.
    fn delivered(self: Arc<Self>, count: usize);

    /// Returns whether the workers may run ahead only so far. Fixed by the first poll.
    fn is_bounded(&self) -> bool;

    /// Returns whether item `index` has been taken from the input.
    fn is_taken(&self, index: usize) -> bool;

    /// Computes one chunk on this thread, if it may and there is one.
    fn help(self: Arc<Self>) -> bool;

    /// Nothing more is to be computed, but what is there is still wanted. `false`: there is nothing
    /// left to compute anyway.
    fn halt(&self) -> bool;

    /// No more results are wanted.
    fn stop(&self);
}

pub(super) enum Setting {
    Window(usize),
    ChunkSize(usize),
}

/// Which chunk the consumer waits for.
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

/// A map that may not have begun in earnest; see [`Engine::begin`].
pub(crate) trait Begin: Send + Sync {
    fn begin(self: Arc<Self>);
}

/// Items for which memory is taken in advance, at most.
const MOST_RESERVED: usize = 4096;

/// Neighbouring items that a driver is to compute.
struct Batch<A, R> {
    /// The index of the first.
    first: usize,
    items: Items<A>,
    /// Where the results go. `None`: wherever there is memory.
    place: Option<Segment<R>>,
    /// By what was known when it was taken.
    size: ChunkSize,
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

pub(super) struct Engine<A, R, I, F, C> {
    /// Drivers change it while others read, for each item, what lies beside it.
    state: CachePadded<Mutex<State<A, R, I>>>,
    /// Apart from the state, since jobs look at it often.
    stopped: Arc<AtomicBool>,
    /// A driver has found nothing to do while others compute: they are to share.
    hungry: AtomicBool,
    f: F,
    crew: C,
    /// The length of the input, if that is sure.
    length: Option<usize>,
    trace: MapTrace,
}

struct State<A, R, I> {
    /// The input; `None` while a driver pulls it, and after its end.
    input: Option<Input<A, I>>,
    pulling: bool,
    /// The slots for the results of all items that have not been taken.
    place: Option<Segment<R>>,
    /// There is or was such a place.
    gathers: bool,
    /// Items that were taken and given back, by a chunk that took too long.
    given_back: VecDeque<Batch<A, R>>,
    finished: BTreeMap<usize, Chunk<R>>,
    has_error: bool,
    /// Items taken from the input, and those of them that the consumer has.
    taken: usize,
    delivered: usize,
    /// Maximum distance of `taken` ahead of `delivered`. Not known until the user has had the
    /// opportunity to say; a single item is right under every window.
    window: Option<usize>,
    chunk_size: ChunkSize,
    drivers: usize,
    /// The drivers that have not begun, and perhaps some that have.
    queued: Vec<TaskFuture<()>>,
    computing: usize,
    failure: Option<Error>,
    wanted: Wanted,
    consumer: Option<KeptWaker>,
}

impl<A, R, I> State<A, R, I> {
    fn room(&self) -> usize {
        self.window.unwrap_or(1).saturating_sub(self.taken - self.delivered)
    }

    fn has_work(&self) -> bool {
        !self.given_back.is_empty() || (self.input.is_some() && self.room() > 0)
    }

    fn is_idle(&self) -> bool {
        self.computing == 0 && !self.pulling
    }

    fn is_exhausted(&self) -> bool {
        self.input.is_none() && self.is_idle() && self.given_back.is_empty()
    }

    /// Counts items as taken; their index and place.
    fn take(&mut self, items: Items<A>, count: usize) -> Batch<A, R> {
        let first = self.taken;
        self.taken += count;
        self.computing += 1;
        let place = match &mut self.place {
            Some(place) if place.slots() > count => Some(place.cut(count)),
            // The last ones get what there is, so that nobody else has a part of this memory.
            place => place.take(),
        };
        Batch { first, items, place, size: self.chunk_size }
    }

    fn finish(&mut self, first: usize, chunk: Chunk<R>) {
        self.has_error |= chunk.has_error();
        let before = self.finished.range_mut(..first).next_back();
        let chunk = match before {
            // What is gathered stays where it is.
            Some((at, before)) if !self.gathers && at + before.len() == first => before.join(chunk),
            _ => Some(chunk),
        };
        if let Some(chunk) = chunk {
            self.finished.insert(first, chunk);
        }
    }

    /// The consumer, if there is something for it.
    fn consumer_to_wake(&mut self) -> Option<KeptWaker> {
        let is_due = match self.wanted {
            Wanted::Any => true,
            Wanted::From(next) => self.finished.contains_key(&next),
            // In a window there is room for others only when these have been delivered.
            Wanted::All(next) => {
                (self.has_error || self.window != Some(usize::MAX))
                    && self.finished.contains_key(&next)
            }
        };
        if is_due || self.is_exhausted() { self.consumer.take() } else { None }
    }
}

/// An engine as its drivers see it.
trait Driven: Send + Sync {
    fn drive(self: Arc<Self>);

    /// A driver was dropped without running.
    fn lost_driver(&self);
}

/// A driver in the queue, and its engine, which is taken when the driver runs.
struct QueuedDriver(Option<Weak<dyn Driven>>);

impl QueuedDriver {
    fn take(&mut self) -> Option<Arc<dyn Driven>> {
        self.0.take().and_then(|engine| engine.upgrade())
    }
}

impl Drop for QueuedDriver {
    fn drop(&mut self) {
        if let Some(engine) = self.take() {
            engine.lost_driver();
        }
    }
}

impl<A, R, I, F, C> Engine<A, R, I, F, C>
where
    A: Send + 'static,
    R: Send + 'static,
    I: Iterator<Item = A> + Send + 'static,
    F: Apply<A, R>,
    C: Crew,
{
    pub(super) fn new(crew: C, f: F, input: I) -> Arc<Self> {
        let input = Input::new(input);
        Arc::new(Self {
            length: input.len(),
            state: CachePadded(Mutex::new(State {
                input: Some(input),
                pulling: false,
                place: None,
                gathers: false,
                given_back: VecDeque::new(),
                finished: BTreeMap::new(),
                has_error: false,
                taken: 0,
                delivered: 0,
                window: None,
                chunk_size: ChunkSize::measured(),
                drivers: 0,
                queued: Vec::new(),
                computing: 0,
                failure: None,
                wanted: Wanted::From(0),
                consumer: None,
            })),
            stopped: Arc::default(),
            hungry: AtomicBool::new(false),
            f,
            crew,
            trace: MapTrace::new(),
        })
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Starts the map, unless the executor takes nothing new.
    pub(super) fn open(self: &Arc<Self>) {
        match self.crew.check_open() {
            Ok(()) => self.advance(),
            Err(error) => self.state.lock().failure = Some(error),
        }
    }

    /// Starts a driver, if there is work for one more.
    fn advance(self: &Arc<Self>) {
        let is_due = self.count_driver(&mut self.state.lock());
        if is_due {
            self.start_driver();
        }
    }

    /// Returns whether a driver is to be started; it is counted already then.
    fn count_driver(&self, state: &mut State<A, R, I>) -> bool {
        let is_due = state.has_work()
            && state.drivers < self.crew.size()
            && state.failure.is_none()
            && !self.is_stopped();
        state.drivers += usize::from(is_due);
        is_due
    }

    /// Ends a change of the state: wakes the consumer if there is something
    /// for it, and starts another driver if there is work for one more.
    fn publish(self: &Arc<Self>, mut state: MutexGuard<'_, State<A, R, I>>) {
        let consumer = state.consumer_to_wake();
        let is_due = self.count_driver(&mut state);
        drop(state);
        wake(consumer);
        if is_due {
            self.start_driver();
        }
    }

    /// Queues a driver that is counted already.
    fn start_driver(self: &Arc<Self>) {
        let engine: Arc<dyn Driven> = self.clone();
        let mut queued = QueuedDriver(Some(Arc::downgrade(&engine)));
        let driver = Box::new(move || {
            if let Some(engine) = queued.take() {
                engine.drive();
            }
        });
        let driver = self.crew.start(driver);
        let begun = {
            let mut state = self.state.lock();
            state.queued.push(driver);
            let has_begun = |driver: &TaskFuture<()>| driver.is_running() || driver.is_done();
            let (begun, queued): (Vec<_>, _) =
                std::mem::take(&mut state.queued).into_iter().partition(has_begun);
            state.queued = queued;
            begun
        };
        drop(begun);
    }

    /// One driver less, and if it was the last, no others for this reason.
    fn give_up(&self, error: Error) {
        let consumer = {
            let mut state = self.state.lock();
            state.drivers = state.drivers.saturating_sub(1);
            if state.drivers > 0 {
                return; // The others go on.
            }
            state.failure.get_or_insert(error);
            state.consumer.take()
        };
        wake(consumer);
    }

    /// The next items to compute. `None`: there are none, and the driver has given up its place.
    fn take_batch(self: &Arc<Self>) -> Option<Batch<A, R>> {
        let workers = self.crew.size();
        let mut state = self.state.lock();
        if self.is_stopped() || !state.has_work() {
            state.drivers -= 1;
            self.hungry.store(state.computing > 0, Relaxed);
            return None;
        }
        let batch = if let Some(mut batch) = state.given_back.pop_front() {
            let length = batch.items.len();
            let part = length.div_ceil(workers);
            let count = state.chunk_size.next(part, workers, usize::MAX, 0);
            state.computing += 1;
            if count < length {
                let part = batch.cut(count);
                state.given_back.push_front(batch);
                batch = part;
            }
            Some(batch)
        } else {
            let (room, window, size) = (state.room(), state.window.unwrap_or(1), state.chunk_size);
            match state.input.take() {
                Some(Input::Known(mut items)) => {
                    let length = items.len();
                    let count = size.next(room, workers, window, length).min(length);
                    if count < length {
                        let batch = items.cut(count);
                        state.input = Some(Input::Known(items));
                        items = batch;
                    }
                    (count > 0).then(|| state.take(items, count))
                }
                Some(Input::Unknown(input)) => {
                    state.pulling = true;
                    drop(state);
                    return self.pull(input, |left| size.next(room, workers, window, left));
                }
                None => unreachable!("there is room only if there is input"),
            }
        };
        state.drivers -= usize::from(batch.is_none());
        self.publish(state);
        batch
    }

    /// Asks the input for items, as many as `count` says when it knows the least number left.
    fn pull(
        self: &Arc<Self>,
        mut input: I,
        count: impl FnOnce(usize) -> usize,
    ) -> Option<Batch<A, R>> {
        let mut items = Vec::new();
        let pulled = catch(|| {
            let _entered = self.trace.enter();
            let (least, most) = input.size_hint();
            let count = count(least);
            // What an input says of its length need not be near the truth.
            items.reserve(count.min(most.unwrap_or(count)).min(MOST_RESERVED));
            while items.len() < count {
                match input.next() {
                    Some(item) => items.push(item),
                    None => return false,
                }
            }
            true
        });

        let mut state = self.state.lock();
        state.pulling = false;
        let mut spent = None;
        let count = items.len();
        let batch = (count > 0).then(|| state.take(Items::Values(items.into()), count));
        state.drivers -= usize::from(batch.is_none());
        match pulled {
            Ok(true) if !self.is_stopped() => state.input = Some(Input::Unknown(input)),
            Ok(_) => spent = Some(input),
            Err(panicked) => {
                spent = Some(input);
                let at = state.taken;
                state.taken += 1;
                let error = Error::Panicked(Box::new(panicked));
                state.finish(at, Chunk::error(error));
            }
        }
        self.publish(state);
        drop_quietly(spent);
        batch
    }

    fn compute(self: &Arc<Self>, batch: Batch<A, R>) {
        let Batch { first, mut items, place, size } = batch;
        if self.is_stopped() {
            self.state.lock().computing -= 1;
            return;
        }
        let patience = size.is_measured();
        let is_enough = || self.is_stopped() || (patience && self.hungry.load(Relaxed));
        let place = place.unwrap_or_else(|| Segment::with_capacity(items.len()));
        let work = Work { items: &mut items, place, patience };
        let Computed { chunk, rest: place, per_item } = {
            let _entered = self.trace.enter();
            self.f.apply(work, &is_enough)
        };
        if self.is_stopped() {
            self.state.lock().computing -= 1;
            return;
        }
        let rest = (items.len() > 0).then(|| Batch {
            first: first + chunk.len(),
            items,
            place: Some(place),
            size,
        });
        let mut state = self.state.lock();
        state.computing -= 1;
        state.chunk_size.learn(per_item);
        state.finish(first, chunk);
        if let Some(rest) = rest {
            state.given_back.push_front(rest);
            self.hungry.store(false, Relaxed);
        }
        self.publish(state);
    }
}

impl<A, R, I, F, C> Driven for Engine<A, R, I, F, C>
where
    A: Send + 'static,
    R: Send + 'static,
    I: Iterator<Item = A> + Send + 'static,
    F: Apply<A, R>,
    C: Crew,
{
    fn drive(self: Arc<Self>) {
        context::also_stop_for(Arc::clone(&self.stopped));
        while let Some(batch) = self.take_batch() {
            self.compute(batch);
            match self.crew.after_chunk() {
                AfterChunk::GoOn => {}
                AfterChunk::Requeue => return self.start_driver(),
                AfterChunk::GiveUp => return self.give_up(self.crew.refusal()),
                AfterChunk::Stop => {
                    let consumer = {
                        let mut state = self.state.lock();
                        state.drivers -= 1;
                        state.consumer.take()
                    };
                    return wake(consumer);
                }
            }
        }
    }

    fn lost_driver(&self) {
        self.give_up(self.crew.refusal());
    }
}

impl<A, R, I, F, C> Begin for Engine<A, R, I, F, C>
where
    A: Send + 'static,
    R: Send + 'static,
    I: Iterator<Item = A> + Send + 'static,
    F: Apply<A, R>,
    C: Crew,
{
    /// Fixes the window, which is not set any more: all of the input may be taken.
    fn begin(self: Arc<Self>) {
        self.state.lock().window.get_or_insert(usize::MAX);
        self.advance();
    }
}

impl<A, R, I, F, C> Source<R> for Engine<A, R, I, F, C>
where
    A: Send + 'static,
    R: Send + 'static,
    I: Iterator<Item = A> + Send + 'static,
    F: Apply<A, R>,
    C: Crew,
{
    fn set(self: Arc<Self>, change: Setting) {
        {
            let mut state = self.state.lock();
            match change {
                Setting::Window(n) => state.window = Some(n),
                Setting::ChunkSize(n) => state.chunk_size = ChunkSize::Fixed(n),
            }
        }
        self.advance();
    }

    fn gather(&self, next: usize) -> Segment<R> {
        // What an input says of its length may be more than there is memory for.
        let place = self.length.and_then(|length| Segment::try_with_capacity(length - next));
        let Some(mut place) = place else { return Segment::empty() };
        let mut state = self.state.lock();
        state.gathers = true;
        let taken = place.cut(state.taken - next);
        state.place = (place.slots() > 0).then_some(place);
        taken
    }

    fn poll_chunk(
        self: Arc<Self>,
        wanted: Wanted,
        delivered: usize,
        cx: &Context<'_>,
    ) -> Poll<Taken<R>> {
        let waker = KeptWaker::new(cx.waker());
        let (answer, old) = {
            let mut state = self.state.lock();
            state.window.get_or_insert(usize::MAX);
            state.delivered += delivered;
            state.wanted = wanted;
            let chunk = match wanted {
                Wanted::From(next) | Wanted::All(next) => {
                    state.finished.remove(&next).map(|chunk| (next, chunk))
                }
                Wanted::Any => state.finished.pop_first(),
            };
            if let Some((first, chunk)) = chunk {
                (Poll::Ready(Taken::Chunk(first, chunk)), None)
            } else if state.is_exhausted() && state.finished.is_empty() {
                (Poll::Ready(Taken::Finished), None)
            } else if state.is_idle() && state.failure.is_some() {
                // The look for more work below will find no failure any more.
                self.stopped.store(true, Relaxed);
                let failed = state.failure.take().map_or(Taken::Finished, Taken::Failed);
                (Poll::Ready(failed), None)
            } else {
                (Poll::Pending, state.consumer.replace(waker))
            }
        };
        drop(old);
        self.advance();
        answer
    }

    fn delivered(self: Arc<Self>, count: usize) {
        self.state.lock().delivered += count;
        self.advance();
    }

    fn is_bounded(&self) -> bool {
        self.state.lock().window != Some(usize::MAX)
    }

    fn is_taken(&self, index: usize) -> bool {
        index < self.state.lock().taken
    }

    fn help(self: Arc<Self>) -> bool {
        if !self.crew.may_help() {
            return false;
        }
        self.state.lock().drivers += 1;
        match self.take_batch() {
            Some(batch) => {
                self.compute(batch);
                self.state.lock().drivers -= 1;
                self.advance();
                true
            }
            None => false,
        }
    }

    fn halt(&self) -> bool {
        let dropped = {
            let mut state = self.state.lock();
            if state.is_exhausted() {
                return false;
            }
            self.stopped.store(true, Relaxed);
            let queued = std::mem::take(&mut state.queued);
            let given_back = std::mem::take(&mut state.given_back);
            (queued, given_back, state.place.take(), Quiet::new(state.input.take()))
        };
        drop(dropped);
        self.f.stop();
        true
    }

    fn stop(&self) {
        self.stopped.store(true, Relaxed);
        let dropped = {
            let mut state = self.state.lock();
            // A driver too many ends by itself; those with work to do are withdrawn.
            let is_exhausted = state.is_exhausted();
            (
                if is_exhausted { Vec::new() } else { std::mem::take(&mut state.queued) },
                state.place.take(),
                std::mem::take(&mut state.given_back),
                std::mem::take(&mut state.finished),
                state.consumer.take(),
                Quiet::new(state.input.take()),
            )
        };
        drop(dropped);
        self.f.stop();
    }
}

fn wake(consumer: Option<KeptWaker>) {
    if let Some(waker) = consumer {
        waker.wake();
    }
}
