//! The engine of a map: its drivers take items, compute them or have them computed, and leave the results in
//! their places. In the consumer's process.
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
//! 5. A chunk that is computed elsewhere keeps no thread. Its driver leaves the thread with it, and
//!    comes back, perhaps on another one, in the [step](Step) that finishes the chunk.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::apply::{Apply, Computed, Step, TakesSteps, Work};
use super::chunk::{Chunk, ChunkSize};
use super::crew::{AfterChunk, Crew};
use super::input::{Input, Items};
use super::segment::Segment;
use super::source::{Settings, Source, Taken, Wanted};
use super::state::{Batch, Demand, Share, State};
use crate::cache_padded::CachePadded;
use crate::core::{StopFlag, context};
use crate::error::Error;
use crate::future::TaskFuture;
use crate::label::Label;
use crate::panic::{KeptWaker, Quiet, catch, drop_quietly};
use crate::sync::Mutex;
use crate::trace::MapTrace;

/// The window of a map whose input may be endless, if the user has set none.
const AHEAD: usize = 1024;

/// Items for which memory is taken in advance, at most.
const MOST_RESERVED: usize = 4096;

pub(super) struct Engine<A, R, I, F, C> {
    /// Padded, since drivers write to it while others read `hungry`, after each block of items.
    state: CachePadded<Mutex<State<A, R, I>>>,
    /// Apart from the state, since jobs look at it often.
    stopped: Arc<StopFlag>,
    /// Set if a driver has found nothing to do while others compute: these share what they have.
    hungry: AtomicBool,
    f: F,
    crew: C,
    /// The length of the input, if that is sure.
    length: Option<usize>,
    /// The length, as far as the input has told it.
    size_hint: (usize, Option<usize>),
    /// Set before the first driver, if the map was given one.
    label: OnceLock<Label>,
    trace: MapTrace,
}

/// An engine as its drivers see it.
trait Driven: Send + Sync {
    fn drive(self: Arc<Self>);

    /// Counts out a driver that was dropped without running.
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
        // Withdrawn, refused, or left by an executor that has ended.
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
            size_hint: input.size_hint(),
            label: OnceLock::new(),
            state: CachePadded(Mutex::new(State::new(input))),
            stopped: Arc::default(),
            hungry: AtomicBool::new(false),
            f,
            crew,
            trace: MapTrace::new(),
        })
    }

    fn is_stopped(&self) -> bool {
        self.stopped.is_raised()
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
        // Under the lock that shows the work: no other thread starts a driver for it too.
        state.drivers += usize::from(is_due);
        is_due
    }

    /// Ends a change of the state: wakes the consumer if there is something
    /// for it, and starts another driver if there is work for one more.
    fn publish(self: &Arc<Self>, mut state: MutexGuard<'_, State<A, R, I>>) {
        let consumer = state.consumer_to_wake();
        let is_due = self.count_driver(&mut state);
        // Without the lock: a waker is user code, and a driver may run or be dropped at its start.
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
        // Without the lock: an inline executor runs the driver here, and one that refuses drops it.
        let driver = self.crew.start(driver, self.label.get());
        let begun = {
            let mut state = self.state.lock();
            state.queued.push(driver);
            // For `stop` and `halt`, which withdraw queued drivers: those that have begun can go.
            let has_begun = |driver: &TaskFuture<()>| driver.is_running() || driver.is_done();
            let (begun, queued): (Vec<_>, _) =
                std::mem::take(&mut state.queued).into_iter().partition(has_begun);
            state.queued = queued;
            begun
        };
        drop(begun);
    }

    /// Counts out a driver that can't go on; if it was the last, the map fails with `error`.
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
        let mut state = self.state.lock();
        if self.is_stopped() || !state.has_work() {
            // Under the lock of the look: a consumer that makes room later sees a driver less.
            state.drivers -= 1;
            // Asks those that compute to give back items that they have not begun.
            self.hungry.store(state.computing > 0, Relaxed);
            return None;
        }
        let batch = match state.share(self.crew.size()) {
            Share::Batch(batch) => Some(batch),
            Share::Pull(input, demand) => {
                // The state has no input meanwhile; `pulling` shows that this is not its end.
                drop(state);
                return self.pull(input, &demand);
            }
            Share::Nothing => None,
        };
        state.drivers -= usize::from(batch.is_none());
        self.publish(state);
        batch
    }

    /// Asks the input for items.
    fn pull(self: &Arc<Self>, mut input: I, demand: &Demand) -> Option<Batch<A, R>> {
        let mut items = Vec::new();
        let ask = || {
            let _entered = self.trace.enter();
            let (least, most) = input.size_hint();
            let count = demand.items(least);
            // What an input says of its length need not be near the truth.
            items.reserve(count.min(most.unwrap_or(count)).min(MOST_RESERVED));
            while items.len() < count {
                match input.next() {
                    Some(item) => items.push(item),
                    None => return false,
                }
            }
            true
        };
        // The items that came before a panic are kept: they are in `items`.
        let pulled = F::pull(|| catch(ask));
        let mut input = Some(input);
        if !matches!(pulled, Ok(true)) {
            // Before the map can be done: what the input has is gone then.
            drop_quietly(input.take());
        }

        let mut state = self.state.lock();
        state.pulling = false;
        let count = items.len();
        // First the items, so that the error of a panic comes in the place behind them.
        let batch = (count > 0).then(|| state.take(Items::Values(items.into()), count));
        state.drivers -= usize::from(batch.is_none());
        match pulled {
            // `stop` sets `stopped` before it takes the input, so it finds one that is put back.
            Ok(_) if !self.is_stopped() => state.input = input.take().map(Input::Unknown),
            Ok(_) => {}
            Err(panicked) => {
                let at = state.taken;
                state.taken += 1;
                let error = Error::Panicked(Box::new(panicked));
                state.finish(at, Chunk::error(error));
            }
        }
        self.publish(state);
        // The input's destructor is user code: `publish` has released the lock.
        drop_quietly(input);
        batch
    }

    /// Computes a batch, or has it computed elsewhere. Returns whether the driver is still here.
    fn compute(self: &Arc<Self>, batch: Batch<A, R>) -> bool {
        let Batch { first, mut items, place, size } = batch;
        if self.is_stopped() {
            // The lock is released at once, and the items are dropped without it.
            self.state.lock().computing -= 1;
            return true;
        }
        let patience = size.is_measured();
        // Only measured chunks are divided for hungry drivers; a fixed size is the user's.
        let is_enough = || self.is_stopped() || (patience && self.hungry.load(Relaxed));
        let place = place.unwrap_or_else(|| Segment::with_capacity(items.len()));
        let work = Work { first, items: &mut items, place, patience };
        let computed = {
            let _entered = self.trace.enter();
            self.f.apply(work, &is_enough, || self.clone())
        };
        // `None`: the driver is away with the chunk, and both stay counted.
        let Some(Computed { chunk, rest, per_item }) = computed else { return false };
        // An empty rest of the place is dropped here, before the results are published: while it is
        // there `into_vec` has to copy them.
        let rest = (items.len() > 0).then(|| {
            let first = first + chunk.len();
            Batch { first, items, place: Some(rest), size }
        });
        self.finish(first, chunk, per_item, rest);
        true
    }

    /// Takes in the outcome of a batch, and what is left of it.
    fn finish(
        self: &Arc<Self>,
        first: usize,
        chunk: Chunk<R>,
        per_item: Option<Duration>,
        rest: Option<Batch<A, R>>,
    ) {
        self.crew.count_items(chunk.values());
        if self.is_stopped() {
            // The results are not wanted, and are dropped without the lock.
            self.state.lock().computing -= 1;
            return;
        }
        let mut state = self.state.lock();
        state.computing -= 1;
        if let Some(per_item) = per_item {
            state.chunk_size.learn(per_item);
        }
        state.finish(first, chunk);
        if let Some(rest) = rest {
            state.given_back.push_front(rest);
            // `publish` starts a driver for these items.
            self.hungry.store(false, Relaxed);
        }
        self.publish(state);
    }

    /// Returns whether the driver goes on here after a chunk.
    fn goes_on(self: &Arc<Self>) -> bool {
        match self.crew.after_chunk() {
            AfterChunk::GoOn => return true,
            // This driver's count passes on to the queued one.
            AfterChunk::Requeue => self.start_driver(),
            AfterChunk::GiveUp => self.give_up(self.crew.refusal()),
            AfterChunk::Stop => {
                let consumer = {
                    let mut state = self.state.lock();
                    state.drivers -= 1;
                    state.consumer.take()
                };
                wake(consumer);
            }
        }
        false
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
        // Jobs of this driver see a stop request once the map is stopped.
        context::also_stop_for(Arc::clone(&self.stopped), || {
            while let Some(batch) = self.take_batch() {
                if !self.compute(batch) || !self.goes_on() {
                    return;
                }
            }
        });
    }

    fn lost_driver(&self) {
        self.give_up(self.crew.refusal());
    }
}

impl<A, R, I, F, C> TakesSteps<R> for Engine<A, R, I, F, C>
where
    A: Send + 'static,
    R: Send + 'static,
    I: Iterator<Item = A> + Send + 'static,
    F: Apply<A, R>,
    C: Crew,
{
    fn label(&self) -> Option<&Label> {
        self.label.get()
    }

    fn run(self: Arc<Self>, first: usize, step: Step<R>) {
        let computed = {
            let _entered = self.trace.enter();
            step()
        };
        // Otherwise the chunk is on its way again, and a later step comes back with it.
        if let Some(Computed { chunk, rest, per_item }) = computed {
            // Before the results are published, as in `compute`.
            drop(rest);
            self.finish(first, chunk, per_item, None);
            if self.goes_on() {
                self.drive();
            }
        }
    }

    fn lose(self: Arc<Self>, first: usize, results: Computed<R>, left: usize) {
        let Computed { mut chunk, .. } = results;
        (0..left).for_each(|_| chunk.push(Err(self.crew.refusal())));
        let mut state = self.state.lock();
        state.computing -= 1;
        // The driver that left with the chunk does not come back.
        state.drivers -= 1;
        if !self.is_stopped() {
            state.finish(first, chunk);
        }
        self.publish(state);
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
    fn start(self: Arc<Self>, settings: Settings) -> usize {
        let window = settings.window.unwrap_or(match self.size_hint {
            (_, Some(_most)) => usize::MAX,
            (_, None) => AHEAD,
        });
        if let Some(label) = settings.label {
            let _first = self.label.set(label);
        }
        let opened = self.crew.check_open().and_then(|()| self.f.check());
        {
            let mut state = self.state.lock();
            state.window = window;
            if let Some(n) = settings.chunk_size {
                state.chunk_size = ChunkSize::Fixed(n);
            }
            state.failure = opened.err();
        }
        self.advance();
        window
    }

    fn gather(&self, next: usize, window: usize) -> Segment<R> {
        // What an input says of its length may be more than there is memory for.
        let place = self.length.and_then(|length| Segment::try_with_capacity(length - next));
        let mut state = self.state.lock();
        state.window = window;
        let Some(mut place) = place else { return Segment::empty() };
        state.gathers = true;
        // Results of items that were taken before lie elsewhere; these slots are for a copy.
        let taken = place.cut(state.taken - next);
        // An empty place is not kept, since it would share the memory.
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
            state.delivered += delivered;
            state.wanted = wanted;
            if let Some((first, chunk)) = state.take_wanted() {
                (Poll::Ready(Taken::Chunk(first, chunk)), None)
            } else if state.is_exhausted() && state.finished.is_empty() {
                (Poll::Ready(Taken::Finished), None)
            } else if state.is_idle() && state.failure.is_some() {
                // `advance` below finds no failure any more, and starts no driver if this is set.
                self.stopped.raise();
                let failed = state.failure.take().map_or(Taken::Finished, Taken::Failed);
                (Poll::Ready(failed), None)
            } else {
                // Under the lock that shows nothing to take: the next `publish` finds the waker.
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

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.size_hint
    }

    fn is_taken(&self, index: usize) -> bool {
        index < self.state.lock().taken
    }

    fn help(self: Arc<Self>) -> bool {
        if !self.crew.may_help() {
            return false;
        }
        // One more than the crew's size, perhaps: this thread, which waits, is a worker of it.
        self.state.lock().drivers += 1;
        match self.take_batch() {
            Some(batch) => {
                if self.compute(batch) {
                    self.state.lock().drivers -= 1;
                    self.advance();
                }
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
            self.stopped.raise();
            let queued = std::mem::take(&mut state.queued);
            let given_back = std::mem::take(&mut state.given_back);
            (queued, given_back, state.place.take(), Quiet::new(state.input.take()))
        };
        // Without the lock: the drop of a queued driver takes it, and the rest is the user's.
        drop(dropped);
        self.f.stop();
        self.stopped.wake();
        true
    }

    fn stop(&self) {
        self.stopped.raise();
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
        self.stopped.wake();
    }
}

fn wake(consumer: Option<KeptWaker>) {
    if let Some(waker) = consumer {
        waker.wake();
    }
}
