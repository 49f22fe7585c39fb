//! A barrier between processes. In any process.
//!
//! Its state is a word, which only ever changes by one store: the number of the *round*, and whether that is broken,
//! and why. Each of those who wait has a *place*: a word with the round and the slot of its process. The last one, who
//! finds all other places taken, begins the next round.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::task::Context;
use std::time::{Duration, Instant};

use serde_core::de::{Deserialize, Deserializer};
use serde_core::ser::{Serialize, Serializer};

use super::error::Error;
use super::journal::{step, store};
use super::object::{Attempt, Kind, Object};
use super::slots;
use super::waiting::Waiting;
use super::waits::Look;
use crate::core::Awaited;
use crate::fork;
use crate::sys::robust_lock::{Holder, holder_of};
use crate::sys::{RobustMemory, SLOTS};

/// The most parties. Each that comes looks at all places.
const MOST: usize = 4096;

const STATE: usize = 1;
/// The ends of the last rounds that were broken: each round's state, in the word that its number leads to.
const ENDS: usize = 2;
const KEPT_ENDS: usize = 8;
const PLACES: usize = ENDS + KEPT_ENDS;

/// The event that a round has ended.
const ENDED: usize = 0;

/// A state, and a place: a number, and the round in the bits above.
const NUMBER: u64 = 0xff;
const ROUND: u32 = 8;

/// A point at which a number of threads, tasks and processes wait for each other: when all have come, all go on, and
/// the next round begins.
///
/// A clone is the same barrier, and so is what arrives in another process: see [`ipc`](crate::ipc) for how it travels.
///
/// ```
/// use concurrent_futures::ipc::Barrier;
///
/// fn phases(barrier: Barrier) -> usize {
///     // .. the first phase.
///     let turn = barrier.wait_blocking().unwrap();
///     // .. the second phase, when all have done the first.
///     turn.index()
/// }
///
/// let barrier = Barrier::new(2)?;
/// // On a process pool: pool.submit(call!(phases(barrier.clone())))
/// let other = std::thread::spawn({
///     let barrier = barrier.clone();
///     || phases(barrier)
/// });
/// let index = phases(barrier);
/// assert_eq!(index + other.join().unwrap(), 1);
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// # When it breaks
///
/// If a process is killed while something in it waits, those who wait would wait for ever. So the barrier is *broken*:
/// they get a [`BrokenBarrier`], and so does everybody who comes, until [`reset`](Self::reset). So it is with
/// [`abort`](Self::abort), and with a [`wait_timeout`](Self::wait_timeout) that ends in vain.
///
/// # Limits
///
/// At most 4,096 parties, and at most 128 processes at a time; to a further one it can't be sent, which is the task's
/// [`Codec`](crate::Error::Codec) error. In a task of a process pool that blocks here the worker's place is lent out
/// meanwhile, so that one worker is enough for all of them.
///
/// Source of the idea: `multiprocessing.Barrier`.
#[derive(Clone)]
pub struct Barrier(Arc<Object<Rounds>>);

#[derive(Default)]
struct Rounds {
    /// The state at the last look.
    seen: AtomicU64,
}

impl Kind for Rounds {
    const MARK: u64 = u64::from_le_bytes(*b"barrier1");
    const EVENTS: usize = 1;
    const AWAITED: Awaited = Awaited::Barrier;

    fn open(words: &[AtomicU64]) -> Option<Self> {
        (PLACES + 1..=PLACES + MOST).contains(&words.len()).then(Self::default)
    }

    fn enter(memory: &RobustMemory) -> io::Result<()> {
        own_slot(memory, false).map(drop)
    }

    fn look(barrier: &Object<Self>, _: usize) -> Look {
        break_if_killed(&barrier.memory);
        let state = barrier.words()[STATE].load(SeqCst);
        if barrier.kind.seen.swap(state, SeqCst) == state { Look::None } else { Look::All }
    }
}

fn own_slot(memory: &RobustMemory, is_locked: bool) -> io::Result<usize> {
    // Before a slot goes to another process: a place must not look as if that had it.
    slots::own(memory, is_locked, |_| break_if_killed(memory))
}

/// Breaks the round if a process was killed that has a place in it.
fn break_if_killed(memory: &RobustMemory) {
    let words = memory.words();
    let state = words[STATE].load(SeqCst);
    if state & NUMBER != 0 {
        return;
    }
    let has_died = |place: &AtomicU64| {
        let place = place.load(SeqCst);
        let slot = (place & NUMBER).checked_sub(1).filter(|_| place >> ROUND == state >> ROUND);
        // Nonsense is nobody's.
        let slot = slot.and_then(|slot| usize::try_from(slot).ok());
        slot.is_some_and(|slot| slot < SLOTS && holder_of(memory.slot(slot)) == Holder::Died)
    };
    if words[PLACES..].iter().any(has_died) {
        let broken = state | u64::from(BrokenBarrier::Killed.number());
        // If it fails, the round has ended in another way.
        let _ = words[STATE].compare_exchange(state, broken, SeqCst, SeqCst);
    }
}

impl Object<Rounds> {
    fn state(&self) -> &AtomicU64 {
        &self.words()[STATE]
    }

    fn places(&self) -> &[AtomicU64] {
        &self.words()[PLACES..]
    }

    fn end_of(&self, round: u64) -> &AtomicU64 {
        &self.words()[ENDS + (round % KEPT_ENDS as u64) as usize]
    }

    /// Returns how a round has ended, once it has.
    fn ended(&self, round: u64) -> Option<Result<(), BrokenBarrier>> {
        let state = self.state().load(SeqCst);
        if state >> ROUND == round {
            return BrokenBarrier::of(state).map(Err);
        }
        let end = self.end_of(round).load(SeqCst);
        Some(match BrokenBarrier::of(end).filter(|_| end >> ROUND == round) {
            Some(broken) => Err(broken),
            None => Ok(()),
        })
    }

    /// Under the lock: takes a place. `None`: not now.
    fn come(self: &Arc<Self>) -> Option<Result<Arrival, BrokenBarrier>> {
        // A process that was forked, and may not have a thread, has no slot so far.
        let slot = own_slot(&self.memory, true).ok()?;
        break_if_killed(&self.memory);
        let state = self.state().load(SeqCst);
        if let Some(broken) = BrokenBarrier::of(state) {
            return Some(Err(broken));
        }
        let round = state >> ROUND;
        let is_free = |place: &AtomicU64| {
            let place = place.load(SeqCst);
            place >> ROUND != round || place & NUMBER == 0
        };
        let mut free = self.places().iter().enumerate().filter(|(_, place)| is_free(place));
        // The party that takes the last place begins the next round, or was killed and has broken this one. So all of
        // them taken is the nonsense of another process, which ends with the round.
        let Some((index, place)) = free.next() else {
            self.begin_next(state, None);
            return None;
        };
        let is_last = free.next().is_none();
        store(place, round << ROUND | (slot as u64 + 1), SeqCst);
        if is_last {
            self.begin_next(state, None);
        }
        let generation = fork::generation();
        Some(Ok(Arrival { barrier: Arc::clone(self), round, index, generation, has_ended: false }))
    }

    /// Under the lock: ends the round whose state this is. If another process has broken it meanwhile, it stays so.
    fn begin_next(&self, state: u64, broken: Option<BrokenBarrier>) {
        let round = state >> ROUND;
        let end = broken.map_or(0, |broken| round << ROUND | u64::from(broken.number()));
        store(self.end_of(round), end, SeqCst);
        let next = round.wrapping_add(1) << ROUND;
        step();
        let _ = self.state().compare_exchange(state, next, SeqCst, SeqCst);
        self.wake_all(ENDED);
    }

    /// Breaks a round that has not ended.
    fn break_round(&self, round: u64, why: BrokenBarrier) {
        let whole = round << ROUND;
        let broken = whole | u64::from(why.number());
        step();
        if self.state().compare_exchange(whole, broken, SeqCst, SeqCst).is_ok() {
            self.wake_all(ENDED);
        }
    }
}

/// A place, until its round has ended.
struct Arrival {
    barrier: Arc<Object<Rounds>>,
    round: u64,
    index: usize,
    /// A process that was forked meanwhile has a copy of this, and not the place.
    generation: u32,
    has_ended: bool,
}

impl Arrival {
    fn finish(
        mut self,
        ended: Result<(), BrokenBarrier>,
    ) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.has_ended = true;
        ended.map(|()| BarrierWaitResult { index: self.index })
    }
}

impl Drop for Arrival {
    /// Gives the place back.
    fn drop(&mut self) {
        if self.has_ended || self.generation != fork::generation() {
            return;
        }
        let _locked = self.barrier.lock();
        if self.barrier.state().load(SeqCst) >> ROUND == self.round {
            store(&self.barrier.places()[self.index], 0, SeqCst);
        }
    }
}

impl Barrier {
    /// A barrier for so many parties.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](Error::InvalidSetting) if these are not 1 to 4,096. [`Io`](Error::Io) if the system refuses the
    /// memory, the descriptor, or a thread, which each process has that shares a barrier.
    pub fn new(parties: usize) -> Result<Self, Error> {
        if !(1..=MOST).contains(&parties) {
            return Err(Error::InvalidSetting("a barrier has 1 to 4,096 parties"));
        }
        let words = PLACES + parties;
        // A place of round 0 would look taken.
        let first = |words: &[AtomicU64]| words[STATE].store(1 << ROUND, Relaxed);
        let barrier = Object::create(words, words, first);
        barrier.map(Self).map_err(Error::io("the barrier can't be made"))
    }

    /// The number of parties.
    pub fn parties(&self) -> usize {
        self.0.places().len()
    }

    /// The number of those who wait. Other processes may change it at any time.
    pub fn waiting(&self) -> usize {
        let state = self.0.state().load(SeqCst);
        let is_taken = |place: &&AtomicU64| {
            let place = place.load(SeqCst);
            state & NUMBER == 0 && place >> ROUND == state >> ROUND && place & NUMBER != 0
        };
        self.0.places().iter().filter(is_taken).count()
    }

    /// Returns whether it is broken, and so to be [`reset`](Self::reset).
    pub fn is_broken(&self) -> bool {
        break_if_killed(&self.0.memory);
        self.0.state().load(SeqCst) & NUMBER != 0
    }

    /// Waits until as many have come as there are parties.
    ///
    /// # Errors
    ///
    /// If the barrier is broken, or breaks: at once, or within 20 ms if a process was killed.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time. If the others have not all come by then, it has not come either.
    pub async fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        let mut waiting = Waiting::default();
        let arrive = |cx: &mut Context<'_>| {
            self.0.poll(ENDED, &mut waiting, cx, |_| self.0.locked_soon(|| self.0.come()))
        };
        let arrival = poll_fn(arrive).await?;
        let mut waiting = Waiting::default();
        let ended = |barrier: &Object<_>| Attempt::from(barrier.ended(arrival.round));
        let ended = poll_fn(|cx| self.0.poll(ENDED, &mut waiting, cx, ended)).await;
        arrival.finish(ended)
    }

    /// As [`wait`](Self::wait), and blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_blocking(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.block(None)
    }

    /// As [`wait_blocking`](Self::wait_blocking), for `limit` at most. If the others have not all come by then, the
    /// barrier is broken for them too.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), and [`TimedOut`](BrokenBarrier::TimedOut).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_timeout(&self, limit: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        // A limit beyond the clock's range is none.
        self.block(Instant::now().checked_add(limit))
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn block(&self, deadline: Option<Instant>) -> Result<BarrierWaitResult, BrokenBarrier> {
        let come = |_: &Object<_>| self.0.locked(deadline, || self.0.come());
        let Some(arrival) = self.0.block(ENDED, deadline, come) else {
            return Err(BrokenBarrier::TimedOut);
        };
        let arrival = arrival?;
        let round = arrival.round;
        loop {
            let ended = |barrier: &Object<Rounds>| Attempt::from(barrier.ended(round));
            if let Some(ended) = self.0.block(ENDED, deadline, ended) {
                return arrival.finish(ended);
            }
            if deadline.is_some() {
                self.0.break_round(round, BrokenBarrier::TimedOut);
            }
        }
    }

    /// Breaks the barrier: those who wait, and all who come, get [`Aborted`](BrokenBarrier::Aborted).
    pub fn abort(&self) {
        self.0.break_round(self.0.state().load(SeqCst) >> ROUND, BrokenBarrier::Aborted);
    }

    /// Makes the barrier whole again, and begins a new round. Those who wait get [`Reset`](BrokenBarrier::Reset).
    pub fn reset(&self) {
        let _locked = self.0.lock();
        break_if_killed(&self.0.memory);
        let state = self.0.state().load(SeqCst);
        let why = BrokenBarrier::of(state).unwrap_or(BrokenBarrier::Reset);
        self.0.begin_next(state, Some(why));
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parties, waiting) = (self.parties(), self.waiting());
        f.debug_struct("Barrier").field("parties", &parties).field("waiting", &waiting).finish()
    }
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize("Barrier", "Barrier", serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize("Barrier", "Barrier", deserializer).map(Self)
    }
}

/// The outcome of a wait at a [`Barrier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: usize,
}

impl BarrierWaitResult {
    /// A number from 0 on that no other party of this round has.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns whether this is the one party of the round to do what only one is to do.
    pub fn is_leader(&self) -> bool {
        self.index == 0
    }
}

/// Why a [`Barrier`] let nobody pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokenBarrier {
    /// A process was killed while something in it waited.
    #[error("the barrier is broken: a process was killed that had come to it")]
    Killed = 1,
    /// By [`Barrier::abort`].
    #[error("the barrier was aborted")]
    Aborted = 2,
    /// A [`Barrier::wait_timeout`] has ended before all had come.
    #[error(
        "the barrier is broken: one of those who waited had a time limit, and not all came in time"
    )]
    TimedOut = 3,
    /// By [`Barrier::reset`].
    #[error("the barrier was reset while others waited")]
    Reset = 4,
}

impl BrokenBarrier {
    fn number(self) -> u8 {
        self as u8
    }

    /// The one that a state names.
    fn of(state: u64) -> Option<Self> {
        match state & NUMBER {
            0 => None,
            1 => Some(Self::Killed),
            2 => Some(Self::Aborted),
            3 => Some(Self::TimedOut),
            _ => Some(Self::Reset),
        }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::super::journal::{part, was_killed};
    use super::*;

    /// C-1. A process is killed at each of its steps.
    #[test]
    fn a_round_goes_on_or_is_broken_whenever_a_process_is_killed() {
        if let Some((memory, part, begin)) = part() {
            let barrier = Barrier(Object::of(memory).unwrap());
            begin();
            match &*part {
                "comes" => drop(barrier.wait_blocking()),
                "withdraws" => {
                    let mut wait = std::pin::pin!(barrier.wait());
                    let waker = std::task::Waker::noop();
                    let polled = wait.as_mut().poll(&mut Context::from_waker(waker));
                    assert!(polled.is_pending());
                }
                "aborts" => barrier.abort(),
                _ => barrier.reset(),
            }
            std::process::exit(0);
        }
        for part in ["comes", "withdraws", "aborts", "resets"] {
            // One waits already, and comes again for as long as it takes.
            let parties = if part == "withdraws" { 3 } else { 2 };
            let mut steps = 0;
            loop {
                let barrier = Barrier::new(parties).unwrap();
                let waits = std::thread::spawn({
                    let barrier = barrier.clone();
                    move || barrier.wait_blocking()
                });
                while barrier.waiting() == 0 {
                    std::thread::yield_now();
                }
                let is_done = !was_killed(&barrier.0.descriptor, part, steps);
                // It is broken, has let pass, or goes on as if nobody had come.
                let is_broken = barrier.is_broken();
                let goes_on = barrier.waiting() == 1;
                if goes_on {
                    (1..parties).for_each(|_| {
                        let barrier = barrier.clone();
                        drop(std::thread::spawn(move || barrier.wait_blocking()));
                    });
                }
                let waited = waits.join().unwrap();
                let expected = match (part, goes_on, is_broken) {
                    (_, true, false) => waited.is_ok(),
                    ("comes", false, true) => waited == Err(BrokenBarrier::Killed),
                    ("comes", false, false) => waited.is_ok(),
                    ("withdraws", false, true) => waited == Err(BrokenBarrier::Killed),
                    ("aborts", false, true) => waited == Err(BrokenBarrier::Aborted),
                    ("resets", false, false) => waited == Err(BrokenBarrier::Reset),
                    _ => false,
                };
                assert!(expected, "{part}, step {steps}: {waited:?} {goes_on} {is_broken}");
                // And the next round is one.
                barrier.reset();
                let others: Vec<_> = (1..parties)
                    .map(|_| {
                        let barrier = barrier.clone();
                        std::thread::spawn(move || barrier.wait_blocking().unwrap())
                    })
                    .collect();
                barrier.wait_blocking().unwrap();
                others.into_iter().for_each(|other| drop(other.join()));
                if is_done {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 0, "{part} has no step");
        }
    }
}
