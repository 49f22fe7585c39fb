//! Permits that processes share. In any process.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_core::de::{Deserialize, Deserializer};
use serde_core::ser::{Serialize, Serializer};

use super::error::Error;
use super::journal::{step, store};
use super::object::{Kind, Object};
use super::waiting::Waiting;
use super::waits::{Look, Watched};
use super::{event_word, slots};
use crate::core::Awaited;
use crate::fork;
use crate::sys::{self, RobustMemory, SLOTS};

/// The most permits.
const MOST: u64 = u32::MAX as u64;

/// The words: the number of permits, whether somebody has waited for more than one, and those that each slot's
/// process has.
const TOTAL: usize = 1;
const WANTS_MANY: usize = 2;
const HELD: usize = 3;
const WORDS: usize = HELD + SLOTS;

/// The event that permits have come back.
const FREED: usize = 0;

/// A number of permits that processes share: for what only so many may do at once.
///
/// A clone is the same semaphore, and so is what arrives in another process: see [`ipc`](crate::ipc) for how it
/// travels. A [`SemaphorePermit`] is a value, so one that is given back twice can't be written.
///
/// ```
/// use concurrent_futures::ipc::Semaphore;
///
/// fn download((slots, url): (Semaphore, String)) -> usize {
///     let _permit = slots.acquire_blocking();
///     // .. at most two of these at once, in however many processes.
///     url.len()
/// }
///
/// let slots = Semaphore::new(2)?;
/// // On a process pool: pool.submit(call!(download((slots.clone(), url))))
/// assert_eq!(download((slots.clone(), "a/b".to_owned())), 3);
/// assert_eq!(slots.available(), 2);
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// # When a holder is killed
///
/// The permits of a process that has ended, however it has, are there again at once; those who wait for one learn of it
/// within 20 ms.
///
/// # Order
///
/// There is none among those who wait; one that wants many permits may wait for as long as others keep taking single
/// ones.
///
/// # Limits
///
/// At most 128 processes can have a semaphore at a time; to a further one it can't be sent, which is the task's
/// [`Codec`](crate::Error::Codec) error. In a task of a process pool that blocks for a permit the worker's place is lent
/// out meanwhile.
///
/// Source of the ideas: `multiprocessing.Semaphore`, and `tokio::sync::Semaphore`.
#[derive(Clone)]
pub struct Semaphore(Arc<Object<Permits>>);

struct Permits;

impl Kind for Permits {
    const MARK: u64 = u64::from_le_bytes(*b"permits1");
    const EVENTS: usize = 1;
    const AWAITED: Awaited = Awaited::Semaphore;

    fn open(words: &[AtomicU64]) -> Option<Self> {
        (words.len() == WORDS).then_some(Self)
    }

    fn enter(memory: &RobustMemory) -> io::Result<()> {
        own_slot(memory, false).map(drop)
    }

    fn look(semaphore: &Object<Self>, _: usize) -> Look {
        if semaphore.available() == 0 { Look::None } else { semaphore.to_wake(1) }
    }
}

fn own_slot(memory: &RobustMemory, is_locked: bool) -> io::Result<usize> {
    slots::own(memory, is_locked, |slot| memory.words()[HELD + slot].store(0, Relaxed))
}

impl Object<Permits> {
    fn word_of(&self, at: usize) -> u64 {
        self.words()[at].load(Relaxed)
    }

    /// The number of permits that nobody has. Exact under the lock.
    fn available(&self) -> u64 {
        let held = (0..SLOTS).filter_map(|slot| {
            let held = self.word_of(HELD + slot);
            (held > 0 && slots::is_alive(&self.memory, slot)).then_some(held)
        });
        self.word_of(TOTAL).saturating_sub(held.fold(0, u64::saturating_add))
    }

    /// Those who may go on when so many permits have come back.
    fn to_wake(&self, count: u64) -> Look {
        if count == 1 && self.word_of(WANTS_MANY) == 0 { Look::One } else { Look::All }
    }

    /// Under the lock: takes permits, if there are as many.
    fn take(&self, count: u64) -> Option<()> {
        // A process that was forked, and may not have a thread, has no slot so far.
        let slot = own_slot(&self.memory, true).ok()?;
        if self.available() < count {
            if count > 1 {
                self.words()[WANTS_MANY].store(1, Relaxed);
            }
            return None;
        }
        // From here on a process that is killed has them.
        store(&self.words()[HELD + slot], self.word_of(HELD + slot) + count, Relaxed);
        Some(())
    }

    /// Does `change` under the lock, by which permits come back, and wakes those who can have them.
    fn give(&self, count: u64, change: impl FnOnce()) {
        let locked = self.lock();
        change();
        let word = self.word(FREED);
        let notified = event_word::notify(word);
        let to_wake = self.to_wake(count);
        drop(locked);
        step();
        match notified {
            Some(value) if to_wake == Look::One => event_word::wake(word, value),
            Some(_) => sys::wake_all_on(word),
            None => {}
        }
    }
}

impl Semaphore {
    /// A semaphore of so many permits; none is fine, as some can be [added](Self::add_permits).
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](Error::InvalidSetting) beyond 4,294,967,295. [`Io`](Error::Io) if the system refuses the
    /// memory, the descriptor, or a thread, which each process has that shares a semaphore.
    pub fn new(permits: usize) -> Result<Self, Error> {
        let total = permits as u64;
        if total > MOST {
            return Err(Error::InvalidSetting("a semaphore has at most 4,294,967,295 permits"));
        }
        let permits = Object::create(WORDS, WORDS, |words| words[TOTAL].store(total, Relaxed));
        permits.map(Self).map_err(Error::io("the semaphore can't be made"))
    }

    /// The number of permits that nobody has. Other processes may change it at any time.
    pub fn available(&self) -> usize {
        self.0.available() as usize
    }

    /// Adds permits.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](Error::InvalidSetting) if there would be more than 4,294,967,295.
    pub fn add_permits(&self, count: usize) -> Result<(), Error> {
        let mut is_valid = true;
        self.0.give(count as u64, || {
            let total = self.0.word_of(TOTAL).checked_add(count as u64).filter(|it| *it <= MOST);
            is_valid = total.is_some();
            total.into_iter().for_each(|total| store(&self.0.words()[TOTAL], total, Relaxed));
        });
        if is_valid {
            Ok(())
        } else {
            Err(Error::InvalidSetting("a semaphore has at most 4,294,967,295 permits"))
        }
    }

    /// Waits for a permit, also while there are none at all.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; it has taken nothing then.
    pub async fn acquire(&self) -> SemaphorePermit {
        let mut waiting = Waiting::default();
        let taken = poll_fn(|cx| {
            self.0.poll(FREED, &mut waiting, cx, |permits| permits.locked_soon(|| permits.take(1)))
        });
        taken.await;
        SemaphorePermit::new(self, 1)
    }

    /// Takes a permit, if there is one now.
    pub fn try_acquire(&self) -> Option<SemaphorePermit> {
        self.try_acquire_many(1)
    }

    /// Takes a permit, and blocks the thread while there is none.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_blocking(&self) -> SemaphorePermit {
        while self.block(1, None).is_none() {}
        SemaphorePermit::new(self, 1)
    }

    /// As [`acquire_blocking`](Self::acquire_blocking), for `limit` at most. `None`: there was none.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_timeout(&self, limit: Duration) -> Option<SemaphorePermit> {
        // A limit beyond the clock's range is none.
        let deadline = Instant::now().checked_add(limit);
        let taken = self.block(1, deadline);
        taken.map(|()| SemaphorePermit::new(self, 1))
    }

    /// Waits for so many permits at once.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](Error::InvalidSetting) if the semaphore has fewer, or none: it does not wait for what can't
    /// come.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; it has taken nothing then.
    pub async fn acquire_many(&self, count: usize) -> Result<SemaphorePermit, Error> {
        let mut waiting = Waiting::default();
        let taken = poll_fn(|cx| {
            self.0.poll(FREED, &mut waiting, cx, |permits| {
                permits.locked_soon(|| self.take_many(count))
            })
        });
        taken.await.map(|()| SemaphorePermit::new(self, count))
    }

    /// Takes so many permits, if there are as many now.
    pub fn try_acquire_many(&self, count: usize) -> Option<SemaphorePermit> {
        let locked = self.0.lock();
        let taken = self.0.take(count as u64);
        drop(locked);
        taken.map(|()| SemaphorePermit::new(self, count))
    }

    /// As [`acquire_many`](Self::acquire_many), and blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`acquire_many`](Self::acquire_many).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_many_blocking(&self, count: usize) -> Result<SemaphorePermit, Error> {
        loop {
            if let Some(taken) = self.block_many(count, None) {
                return taken.map(|()| SemaphorePermit::new(self, count));
            }
        }
    }

    /// As [`acquire_many_blocking`](Self::acquire_many_blocking), for `limit` at most. `None`: there were not as many.
    ///
    /// # Errors
    ///
    /// As [`acquire_many`](Self::acquire_many).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn acquire_many_timeout(
        &self,
        count: usize,
        limit: Duration,
    ) -> Result<Option<SemaphorePermit>, Error> {
        let deadline = Instant::now().checked_add(limit);
        let taken = self.block_many(count, deadline).transpose()?;
        Ok(taken.map(|()| SemaphorePermit::new(self, count)))
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn block(&self, count: u64, deadline: Option<Instant>) -> Option<()> {
        let take = |permits: &Object<Permits>| permits.locked(deadline, || permits.take(count));
        self.0.block(FREED, deadline, take)
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn block_many(&self, count: usize, deadline: Option<Instant>) -> Option<Result<(), Error>> {
        let take = |permits: &Object<Permits>| permits.locked(deadline, || self.take_many(count));
        self.0.block(FREED, deadline, take)
    }

    /// Under the lock.
    fn take_many(&self, count: usize) -> Option<Result<(), Error>> {
        if count as u64 > self.0.word_of(TOTAL) {
            let refused = "the semaphore has fewer permits than are to be acquired at once";
            return Some(Err(Error::InvalidSetting(refused)));
        }
        self.0.take(count as u64).map(Ok)
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish()
    }
}

impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize("Semaphore", "Semaphore", serializer)
    }
}

impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize("Semaphore", "Semaphore", deserializer).map(Self)
    }
}

/// A permit of a [`Semaphore`], or several, until this is dropped. That may be in another thread.
#[must_use = "the permit is given back as soon as this is dropped"]
pub struct SemaphorePermit {
    permits: Arc<Object<Permits>>,
    count: u64,
    /// A process that was forked meanwhile has a copy of this, and not the permit.
    generation: u32,
}

impl SemaphorePermit {
    fn new(semaphore: &Semaphore, count: usize) -> Self {
        let permits = Arc::clone(&semaphore.0);
        Self { permits, count: count as u64, generation: fork::generation() }
    }

    /// The number of permits.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Takes the permit out of the semaphore, for good.
    pub fn forget(mut self) {
        if self.generation != fork::generation() {
            return;
        }
        let total = &self.permits.words()[TOTAL];
        let locked = self.permits.lock();
        // Before it is given back, so that nobody gets it, nor if this process is killed in between.
        store(total, total.load(Relaxed).saturating_sub(self.count), Relaxed);
        self.put_back();
        drop(locked);
        self.count = 0;
    }

    /// Under the lock.
    fn put_back(&self) {
        let Some(slot) = self.permits.memory.own_slot() else { return };
        let held = &self.permits.words()[HELD + slot];
        store(held, held.load(Relaxed).saturating_sub(self.count), Relaxed);
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        if self.count > 0 && self.generation == fork::generation() {
            self.permits.give(self.count, || self.put_back());
        }
    }
}

impl fmt::Debug for SemaphorePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit").field("count", &self.count()).finish()
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::super::journal::{part, was_killed};
    use super::*;

    /// C-1. A process is killed at each of its steps.
    #[test]
    fn permits_are_whole_whenever_a_process_is_killed() {
        if let Some((memory, part, begin)) = part() {
            let slots = Semaphore(Object::of(memory).unwrap());
            let held = (part != "acquire").then(|| slots.acquire_many_blocking(2).unwrap());
            begin();
            match (&*part, held) {
                ("acquire", _) => drop(slots.acquire_many_blocking(2).unwrap()),
                ("forget", Some(held)) => held.forget(),
                ("add", Some(_held)) => slots.add_permits(1).unwrap(),
                (_, held) => drop(held),
            }
            // As a process that ends without a destructor.
            std::process::exit(0);
        }
        let slots = Semaphore::new(5).unwrap();
        for part in ["acquire", "release", "forget", "add"] {
            let before = slots.available();
            let mut steps = 0;
            loop {
                let before = slots.available();
                // Somebody waits for all that can be there.
                let held = slots.try_acquire().unwrap();
                let waits = std::thread::spawn({
                    let slots = slots.clone();
                    move || slots.acquire_blocking().count()
                });
                let is_done = !was_killed(&slots.0.descriptor, part, steps);
                drop(held);
                waits.join().unwrap();
                let after = slots.available();
                let is_valid = match part {
                    "forget" => after == before || after == before - 2,
                    "add" => after == before || after == before + 1,
                    _ => after == before,
                };
                assert!(is_valid, "{part}, step {steps}: {before}, then {after}");
                drop(slots.acquire_many_blocking(after).unwrap());
                if after < 5 {
                    slots.add_permits(5 - after).unwrap();
                }
                if is_done {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 0, "{part} has no step, of {before}");
        }
    }
}
