//! A flag that processes wait for. In any process.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_core::de::{Deserialize, Deserializer};
use serde_core::ser::{Serialize, Serializer};

use super::error::Error;
use super::journal::step;
use super::object::{Attempt, Kind, Object};
use super::waiting::Waiting;
use super::waits::Look;
use crate::core::Awaited;

/// A flag that processes share and wait for: a start signal, or the end of a phase.
///
/// A clone is the same event, and so is what arrives in another process: see [`ipc`](crate::ipc) for how it travels.
///
/// ```
/// use concurrent_futures::ipc::Event;
///
/// fn work(start: Event) -> bool {
///     start.wait_blocking();
///     true
/// }
///
/// let start = Event::new()?;
/// // On a process pool: pool.submit(call!(work(start.clone())))
/// let worker = std::thread::spawn({
///     let start = start.clone();
///     || work(start)
/// });
/// start.set();
/// assert!(worker.join().unwrap());
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// Source of the idea: `multiprocessing.Event`.
#[derive(Clone)]
pub struct Event(Arc<Object<Flag>>);

/// The word of the flag: the number of times that it was set, and in the lowest bit whether it is.
const FLAG: usize = 1;
const IS_SET: u64 = 1;

/// The event that it is set.
const SET: usize = 0;

#[derive(Default)]
struct Flag {
    /// The flag at the last look.
    seen: AtomicU64,
}

impl Kind for Flag {
    const MARK: u64 = u64::from_le_bytes(*b"event001");
    const EVENTS: usize = 1;
    const AWAITED: Awaited = Awaited::Event;

    fn open(words: &[AtomicU64]) -> Option<Self> {
        (words.len() > FLAG).then(Self::default)
    }

    fn look(event: &Object<Self>, _: usize) -> Look {
        // Who has set it may have been killed before it had woken anybody.
        let flag = event.words()[FLAG].load(SeqCst);
        if event.kind.seen.swap(flag, SeqCst) == flag { Look::None } else { Look::All }
    }
}

impl Event {
    /// A new event, which is not set.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory, the descriptor, or a thread, which each process has that shares an event.
    pub fn new() -> Result<Self, Error> {
        let event = Object::create(FLAG + 1, FLAG + 1, |_| ());
        event.map(Self).map_err(Error::io("the event can't be made"))
    }

    fn flag(&self) -> &AtomicU64 {
        &self.0.words()[FLAG]
    }

    /// Returns whether it is set. Other processes may change that at any time.
    pub fn is_set(&self) -> bool {
        self.flag().load(SeqCst) & IS_SET != 0
    }

    /// Sets it, and wakes all who wait, in all processes. Does nothing if it is set.
    pub fn set(&self) {
        let set = |flag: u64| (flag & IS_SET == 0).then(|| flag.wrapping_add(2) | IS_SET);
        step();
        if self.flag().fetch_update(SeqCst, SeqCst, set).is_ok() {
            step();
            self.0.wake_all(SET);
        }
    }

    /// Takes the flag down again. Those who waited when it was set go on all the same.
    pub fn clear(&self) {
        self.flag().fetch_and(!IS_SET, SeqCst);
    }

    /// Waits until it is set. It is enough that it was set for a moment after this was called, or first polled.
    ///
    /// If the process that sets it is killed while it does, the others learn of it within 20 ms.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn wait(&self) {
        let before = self.flag().load(SeqCst);
        let mut waiting = Waiting::default();
        poll_fn(|cx| self.0.poll(SET, &mut waiting, cx, |event| Self::was_set(event, before)))
            .await;
    }

    /// As [`wait`](Self::wait), and blocks the thread. In a task of a process pool the worker's place is lent out
    /// meanwhile.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_blocking(&self) {
        self.block(None);
    }

    /// As [`wait_blocking`](Self::wait_blocking), for `limit` at most. Returns whether it was set.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        // A limit beyond the clock's range is none.
        self.block(Instant::now().checked_add(limit))
    }

    /// Done if it is set, or was since it was `before`.
    fn was_set(event: &Object<Flag>, before: u64) -> Attempt<()> {
        let now = event.words()[FLAG].load(SeqCst);
        Attempt::from(((before | now) & IS_SET != 0 || now != before).then_some(()))
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn block(&self, deadline: Option<Instant>) -> bool {
        let before = self.flag().load(SeqCst);
        self.0.block(SET, deadline, |event| Self::was_set(event, before)).is_some()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize("Event", "Event", serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize("Event", "Event", deserializer).map(Self)
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::super::journal::{part, was_killed};
    use super::*;

    /// C-1. A process is killed at each of its steps.
    #[test]
    fn an_event_is_set_or_not_whenever_a_process_is_killed() {
        if let Some((memory, _, begin)) = part() {
            let event = Event(Object::of(memory).unwrap());
            begin();
            event.set();
            std::process::exit(0);
        }
        for step in 0..3 {
            let event = Event::new().unwrap();
            let waits = std::thread::spawn({
                let event = event.clone();
                move || event.wait_blocking()
            });
            assert_eq!(was_killed(&event.0.descriptor, "sets", step), step < 2);
            assert_eq!(event.is_set(), step > 0);
            event.clear();
            if step == 0 {
                event.set();
            }
            waits.join().unwrap();
        }
    }
}
