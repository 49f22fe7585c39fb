//! What a map's workers do: take items, compute them, leave the results in their places.
//!
//! A *driver* is a job on the pool that takes a chunk of the input, computes it, and goes on with
//! the next, as long as the window has room. There are as many as the pool has workers, at most;
//! each is started when there is work for it, by another driver or by the consumer. Between two
//! chunks a driver goes to the end of the queue if other tasks wait, so that a long map does not
//! shut them out.
//!
//! 1. The input is pulled by one driver at a time, which takes the iterator out of the state, so
//!    that no lock is held while it runs. A driver that finds it taken ends; the one that puts it
//!    back starts another if there is more to do.
//! 2. A driver that ends for want of room or items does so under the lock that the consumer takes
//!    to make room, so one of the two sees the other, and no map stands still.
//! 3. Drivers in the queue hold a `Weak`, and are withdrawn when the map is stopped: a dropped map
//!    is gone, with its input, its function and its results, as soon as no driver computes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::vec;

use super::chunk::{Chunk, ChunkSize};
use crate::core::context;
use crate::error::Error;
use crate::future::TaskFuture;
use crate::panic::{Quiet, catch, drop_quietly};
use crate::sync::Mutex;

/// What a map needs of its executor.
pub(crate) trait Crew: Send + Sync + 'static {
    /// How many drivers are useful at the same time.
    fn size(&self) -> usize;

    /// Whether a new map is accepted.
    fn check_open(&self) -> Result<(), Error>;

    /// Queues a driver. It is dropped without running if the executor takes nothing more, or
    /// comes to its end before, or if the future is dropped before.
    fn start(&self, driver: Box<dyn FnOnce() + Send>) -> TaskFuture<()>;

    /// What a driver does after a chunk.
    fn after_chunk(&self) -> AfterChunk;

    /// Why a driver was dropped without running.
    fn refusal(&self) -> Error;

    /// Whether this thread may compute a chunk of a map that it waits for.
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

    /// Takes a finished chunk: that which starts with item `next`, or any. `delivered` items
    /// more have reached the consumer since the last call.
    fn poll_chunk(
        self: Arc<Self>,
        next: Option<usize>,
        delivered: usize,
        cx: &Context<'_>,
    ) -> Poll<Taken<R>>;

    /// `count` items more have reached the consumer; there may be room for others.
    fn delivered(self: Arc<Self>, count: usize);

    /// Whether the workers may run ahead only so far. Fixed by the first poll.
    fn is_bounded(&self) -> bool;

    /// Whether item `index` has been taken from the input.
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

pub(super) struct Engine<A, R, I, F, C> {
    state: Mutex<State<A, R, I>>,
    /// Apart from the state, since jobs look at it often.
    stopped: Arc<AtomicBool>,
    /// A driver has found nothing to do while others compute: they are to share.
    hungry: AtomicBool,
    f: Quiet<F>,
    crew: C,
}

struct State<A, R, I> {
    /// The input; `None` while a driver pulls it, and after its end.
    input: Option<I>,
    pulling: bool,
    /// Items that were taken and given back, by a chunk that took too long.
    given_back: VecDeque<(usize, vec::IntoIter<A>)>,
    finished: BTreeMap<usize, Chunk<R>>,
    /// Items taken from the input, and those of them that the consumer has.
    taken: usize,
    delivered: usize,
    /// How far `taken` may be ahead of `delivered`. Not known until the user has had the
    /// opportunity to say; a single item is right under every window.
    window: Option<usize>,
    chunk_size: ChunkSize,
    drivers: usize,
    /// The drivers that have not begun, and perhaps some that have.
    queued: Vec<TaskFuture<()>>,
    computing: usize,
    failure: Option<Error>,
    consumer: Option<Waker>,
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
}

/// An engine as its drivers see it.
trait Driven: Send + Sync {
    fn drive(self: Arc<Self>);

    /// A driver was dropped without running.
    fn lost_driver(&self);
}

/// A queued driver's place in its engine. Taken when the driver runs.
struct Place(Option<Weak<dyn Driven>>);

impl Place {
    fn take(&mut self) -> Option<Arc<dyn Driven>> {
        self.0.take().and_then(|engine| engine.upgrade())
    }
}

impl Drop for Place {
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
    F: Fn(A) -> R + Send + Sync + 'static,
    C: Crew,
{
    pub(super) fn new(crew: C, f: F, input: I) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                input: Some(input),
                pulling: false,
                given_back: VecDeque::new(),
                finished: BTreeMap::new(),
                taken: 0,
                delivered: 0,
                window: None,
                chunk_size: ChunkSize::measured(),
                drivers: 0,
                queued: Vec::new(),
                computing: 0,
                failure: None,
                consumer: None,
            }),
            stopped: Arc::default(),
            hungry: AtomicBool::new(false),
            f: Quiet::new(f),
            crew,
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
        {
            let mut state = self.state.lock();
            let useful = state.has_work() && state.failure.is_none() && !self.is_stopped();
            if !useful || state.drivers >= self.crew.size() {
                return;
            }
            state.drivers += 1;
        }
        self.start_driver();
    }

    /// Queues a driver that is counted already.
    fn start_driver(self: &Arc<Self>) {
        let engine: Arc<dyn Driven> = self.clone();
        let mut place = Place(Some(Arc::downgrade(&engine)));
        let driver = Box::new(move || {
            if let Some(engine) = place.take() {
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

    /// The next items to compute and the index of the first. `None`: there are none, and the
    /// driver has given up its place.
    fn take_items(self: &Arc<Self>) -> Option<(usize, vec::IntoIter<A>)> {
        let (input, room, window, size) = {
            let mut state = self.state.lock();
            if self.is_stopped() || !state.has_work() {
                state.drivers -= 1;
                self.hungry.store(state.computing > 0, Relaxed);
                return None;
            }
            if let Some(returned) = self.take_given_back(&mut state) {
                drop(state);
                self.advance();
                return Some(returned);
            }
            state.pulling = true;
            let window = state.window.unwrap_or(1);
            (state.input.take(), state.room(), window, state.chunk_size)
        };
        let Some(mut input) = input else { unreachable!("there is room only if there is input") };

        let mut items = Vec::new();
        let workers = self.crew.size();
        let pulled = catch(|| {
            let count = size.next(room, workers, window, input.size_hint().0);
            // What an input says of its length need not be near the truth.
            items.reserve(count.min(input.size_hint().1.unwrap_or(0)).min(MOST_RESERVED));
            while items.len() < count {
                match input.next() {
                    Some(item) => items.push(item),
                    None => return false,
                }
            }
            true
        });

        let count = items.len();
        let mut state = self.state.lock();
        state.pulling = false;
        let first = state.taken;
        state.taken += count;
        let mut spent = None;
        match pulled {
            Ok(true) if !self.is_stopped() => state.input = Some(input),
            Ok(_) => spent = Some(input),
            Err(panicked) => {
                spent = Some(input);
                let at = state.taken;
                state.taken += 1;
                let error = Error::Panicked(Box::new(panicked));
                state.finished.insert(at, Chunk::error(error));
            }
        }
        if count > 0 {
            state.computing += 1;
        } else {
            state.drivers -= 1;
        }
        // The end of the input may be what the consumer waits for.
        let consumer = if spent.is_some() { state.consumer.take() } else { None };
        drop(state);
        wake(consumer);
        drop_quietly(spent);
        self.advance();
        (count > 0).then(|| (first, items.into_iter()))
    }

    /// Takes a chunk from the items that were given back.
    fn take_given_back(&self, state: &mut State<A, R, I>) -> Option<(usize, vec::IntoIter<A>)> {
        let (first, mut items) = state.given_back.pop_front()?;
        state.computing += 1;
        let share = items.len().div_ceil(self.crew.size());
        let count = state.chunk_size.next(share, self.crew.size(), usize::MAX, 0);
        if count >= items.len() {
            return Some((first, items));
        }
        let chunk: Vec<_> = items.by_ref().take(count).collect();
        state.given_back.push_front((first + count, items));
        Some((first, chunk.into_iter()))
    }

    fn compute(self: &Arc<Self>, first: usize, mut items: vec::IntoIter<A>) {
        if self.is_stopped() {
            self.state.lock().computing -= 1;
            drop_quietly(items);
            return;
        }
        let patience = self.state.lock().chunk_size.is_measured();
        let is_enough = || self.is_stopped() || (patience && self.hungry.load(Relaxed));
        let (chunk, per_item) = Chunk::computed(&mut items, patience, &*self.f, &is_enough);
        if self.is_stopped() {
            self.state.lock().computing -= 1;
            drop_quietly((chunk, items));
            return;
        }
        let consumer = {
            let mut state = self.state.lock();
            state.computing -= 1;
            state.chunk_size.learn(per_item);
            let rest = first + chunk.len();
            state.finished.insert(first, chunk);
            if items.len() > 0 {
                state.given_back.push_front((rest, items));
                self.hungry.store(false, Relaxed);
            }
            state.consumer.take()
        };
        wake(consumer);
        self.advance();
    }
}

impl<A, R, I, F, C> Driven for Engine<A, R, I, F, C>
where
    A: Send + 'static,
    R: Send + 'static,
    I: Iterator<Item = A> + Send + 'static,
    F: Fn(A) -> R + Send + Sync + 'static,
    C: Crew,
{
    fn drive(self: Arc<Self>) {
        context::also_stop_for(Arc::clone(&self.stopped));
        while let Some((first, items)) = self.take_items() {
            self.compute(first, items);
            match self.crew.after_chunk() {
                AfterChunk::GoOn => {}
                AfterChunk::Requeue => return self.start_driver(),
                AfterChunk::GiveUp => return self.give_up(self.crew.refusal()),
                AfterChunk::Stop => {
                    self.state.lock().drivers -= 1;
                    return;
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
    F: Fn(A) -> R + Send + Sync + 'static,
    C: Crew,
{
    /// Nobody will set a window any more: all of the input may be taken.
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
    F: Fn(A) -> R + Send + Sync + 'static,
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

    fn poll_chunk(
        self: Arc<Self>,
        next: Option<usize>,
        delivered: usize,
        cx: &Context<'_>,
    ) -> Poll<Taken<R>> {
        let waker = cx.waker().clone();
        let (answer, old) = {
            let mut state = self.state.lock();
            state.window.get_or_insert(usize::MAX);
            state.delivered += delivered;
            let chunk = match next {
                Some(next) => state.finished.remove(&next).map(|chunk| (next, chunk)),
                None => state.finished.pop_first(),
            };
            if let Some((first, chunk)) = chunk {
                (Poll::Ready(Taken::Chunk(first, chunk)), None)
            } else if state.is_exhausted() && state.finished.is_empty() {
                (Poll::Ready(Taken::Finished), None)
            } else if state.is_idle() && state.failure.is_some() {
                self.stopped.store(true, Relaxed);
                let failed = state.failure.take().map_or(Taken::Finished, Taken::Failed);
                // Without this the look for more work below would find no failure any more.
                self.stopped.store(true, Relaxed);
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
        match self.take_items() {
            Some((first, items)) => {
                self.compute(first, items);
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
            (queued, state.input.take(), std::mem::take(&mut state.given_back))
        };
        drop_quietly(dropped);
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
                state.input.take(),
                std::mem::take(&mut state.given_back),
                std::mem::take(&mut state.finished),
                state.consumer.take(),
            )
        };
        drop_quietly(dropped);
    }
}

/// Wakes the consumer; a panic in its waker is not the driver's.
fn wake(consumer: Option<Waker>) {
    if let Some(waker) = consumer {
        drop_quietly(catch(|| waker.wake()));
    }
}
