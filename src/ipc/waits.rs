//! The waits of this process for what other processes do. In any process.
//!
//! A thread that blocks waits for its object's word itself. For futures a thread does, `cf-waits`, for all of them at
//! once. While anybody waits, futures or threads, it also looks after all their objects each 20 ms: what another
//! process would have said before it was killed, nobody says.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
    Ordering::SeqCst,
};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

#[cfg(all(feature = "tokio", debug_assertions))]
use crate::core::runtime_poll;
use crate::core::waiters::{Place, Waiters};
use crate::core::{Awaited, context};
use crate::fork::{self, Own};
use crate::panic::{KeptWaker, wake_all};
use crate::sync::Mutex;
use crate::sys;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The same for a word that can't be waited for: an object's lock was taken, there are too many words, or the kernel
/// can't wait for more than one (before 5.16).
const POLL: Duration = Duration::from_millis(1);

/// Time for which a job blocks before its pool hears of it: most waits are shorter, and a stand-in costs more.
const QUIET: Duration = Duration::from_millis(2);

/// An object that processes share, for which threads and futures of this process may wait.
pub(super) trait Watched: Send + Sync {
    /// What a dump says of those who wait for an event.
    fn awaited(&self, event: usize) -> Awaited;

    /// Those of this process that wait, for each event.
    fn wait_lists(&self) -> &[WaitList];

    fn word(&self, event: usize) -> &AtomicU32;

    /// Notes in the word of an event that somebody waits for it. Returns the value to wait with.
    fn arm(&self, event: usize) -> u32;

    /// Returns who of those that wait may go on.
    fn look(&self, event: usize) -> Look;

    fn listing(&self) -> &Listing;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    None,
    One,
    All,
}

/// Those of this process that wait for one word.
#[derive(Default)]
pub(super) struct WaitList {
    /// The number of threads that block.
    blocked: AtomicUsize,
    futures: Mutex<Futures>,
}

#[derive(Default)]
struct Futures {
    waiters: Waiters,
    count: usize,
    /// The value of the word while nothing has happened. `None`: the word says nothing, look again soon.
    armed: Option<u32>,
    /// The value with which the thread waits.
    watched: Option<u32>,
    /// There were futures since the last look.
    is_used: bool,
}

/// The mark of an object that the thread knows of: the process's [`fork::generation`] and 1, or 0.
#[derive(Default)]
pub(super) struct Listing(AtomicU32);

struct Waits {
    /// A word that the thread waits for as well. It changes when the thread is to look at what has changed.
    bell: AtomicU32,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    objects: Vec<Weak<dyn Watched>>,
    has_thread: bool,
    /// The thread has nothing to do.
    is_asleep: bool,
}

static WAITS: Own<Waits> = Own::from_start(Waits::new(), Waits::new);

impl WaitList {
    /// Blocks the thread while the word of an event is `value`, at most until the wait's deadline.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn block(
        object: &Arc<impl Watched + 'static>,
        event: usize,
        value: u32,
        wait: &mut BlockingWait,
    ) {
        #[cfg(all(feature = "tokio", debug_assertions))]
        runtime_poll::report();
        let blocked = &object.wait_lists()[event].blocked;
        blocked.fetch_add(1, SeqCst);
        let is_looked_after = enlist(object);
        let limit = wait
            .begin(|| object.awaited(event))
            .into_iter()
            .chain((!is_looked_after).then_some(LOOK));
        match limit.min() {
            None => sys::wait_on(object.word(event), value),
            Some(limit) => sys::wait_on_for(object.word(event), value, limit),
        }
        blocked.fetch_sub(1, SeqCst);
    }

    /// Keeps the waker until something happens. `armed` is the word of the event while nothing does; `None`: it is
    /// not known.
    pub(super) fn keep(
        object: &Arc<impl Watched + 'static>,
        event: usize,
        place: &mut Place,
        waker: &Waker,
        armed: Option<u32>,
    ) {
        let waker_here = KeptWaker::new(waker);
        let mut futures = object.wait_lists()[event].futures.lock();
        let before = futures.waiters.leave(place, waker_here);
        futures.count += usize::from(before.is_none());
        futures.armed = armed;
        futures.is_used = true;
        let must_ring = armed.is_none() || futures.watched != armed;
        drop(futures);
        drop(before);
        if !enlist(object) {
            // There is no thread that would wake it.
            std::thread::sleep(POLL);
            waker.wake_by_ref();
        } else if must_ring {
            WAITS.get().ring();
        }
    }

    /// The future waits no longer. `true`: it was woken, perhaps in place of another one.
    pub(super) fn give_up(&self, place: &mut Place) -> bool {
        if place.is_none() {
            return false;
        }
        let mut futures = self.futures.lock();
        let left = futures.waiters.give_up(place.take());
        futures.count -= usize::from(left.is_some());
        drop(futures);
        left.is_none()
    }

    fn take_all(&self) -> Vec<KeptWaker> {
        let mut futures = self.futures.lock();
        futures.take_all()
    }

    /// Wakes all futures of this process.
    pub(super) fn wake_futures(&self) {
        wake_all(self.take_all());
    }

    fn is_awaited(&self) -> bool {
        self.blocked.load(SeqCst) > 0 || {
            let futures = self.futures.lock();
            futures.count > 0 || futures.is_used
        }
    }
}

impl Futures {
    fn take_all(&mut self) -> Vec<KeptWaker> {
        self.count = 0;
        self.waiters.take_all()
    }
}

/// Has the thread look after an object. `false`: there is none.
fn enlist<O: Watched + 'static>(object: &Arc<O>) -> bool {
    let now = fork::generation() + 1;
    if object.listing().0.load(SeqCst) == now {
        return true;
    }
    let waits = WAITS.get();
    let mut list = waits.list.lock();
    if !list.has_thread {
        fork::watch();
        let thread = std::thread::Builder::new().name("cf-waits".to_owned());
        if thread.spawn(|| WAITS.get().run()).is_err() {
            return false;
        }
        list.has_thread = true;
    }
    if object.listing().0.swap(now, SeqCst) != now {
        let object = Arc::downgrade(object);
        list.objects.push(object);
    }
    if std::mem::take(&mut list.is_asleep) {
        waits.ring();
    }
    true
}

impl Waits {
    const fn new() -> Self {
        let list = List { objects: Vec::new(), has_thread: false, is_asleep: false };
        Self { bell: AtomicU32::new(0), list: Mutex::new(list) }
    }

    fn ring(&self) {
        self.bell.fetch_add(1, Release);
        sys::wake_one_on(&self.bell);
    }

    fn run(&self) {
        static CAN_WAIT: AtomicBool = AtomicBool::new(true);
        let mut next_look = Instant::now() + LOOK;
        let mut objects = Vec::new();
        loop {
            let bell = self.bell.load(Acquire);
            self.listed(&mut objects);
            if objects.is_empty() {
                sys::wait_on(&self.bell, bell);
                next_look = Instant::now() + LOOK;
                continue;
            }
            if Instant::now() >= next_look {
                objects.iter().for_each(|object| look(&**object));
                next_look = Instant::now() + LOOK;
            }
            let mut words = vec![(&self.bell, bell)];
            let mut must_poll = false;
            for object in &objects {
                must_poll |= watch(&**object, &mut words, CAN_WAIT.load(Relaxed));
            }
            let left = next_look.saturating_duration_since(Instant::now());
            let limit = if must_poll { left.min(POLL) } else { left };
            if let [(bell, value)] = words[..] {
                sys::wait_on_for(bell, value, limit);
            } else if sys::wait_on_any(&words, Some(limit)).is_err() {
                CAN_WAIT.store(false, Relaxed);
            }
        }
    }

    /// The objects that somebody waits for. Without one the thread is asleep from here on, until the bell rings.
    fn listed(&self, objects: &mut Vec<Arc<dyn Watched>>) {
        // Outside of the lock: the last owner of an object may be this one.
        objects.clear();
        let mut gone = Vec::new();
        let mut list = self.list.lock();
        list.objects.retain(|object| {
            let Some(object) = object.upgrade() else { return false };
            object.listing().0.store(0, SeqCst);
            // Whoever waits from here on finds that the object is in no list.
            let is_awaited = object.wait_lists().iter().any(WaitList::is_awaited);
            if is_awaited {
                object.listing().0.store(fork::generation() + 1, SeqCst);
                objects.push(object);
            } else {
                gone.push(object);
            }
            is_awaited
        });
        list.is_asleep = objects.is_empty();
        drop(list);
    }
}

/// Adds the words of an object that futures wait for; those whose words have changed are woken. `true`: some word is
/// to be looked at soon.
fn watch<'a>(object: &'a dyn Watched, words: &mut Vec<(&'a AtomicU32, u32)>, can: bool) -> bool {
    let mut must_poll = false;
    for (number, event) in object.wait_lists().iter().enumerate() {
        let word = object.word(number);
        let mut futures = event.futures.lock();
        futures.watched = None;
        if futures.count == 0 && !futures.is_used {
            continue;
        }
        // So that a future which begins to wait meanwhile finds the thread waiting with its value.
        let value = object.arm(number);
        let has_changed = futures.armed.is_some_and(|armed| armed != value);
        if has_changed && futures.count == 0 {
            // The wake-up was for a future that has gone on meanwhile. Another process may wait.
            futures.is_used = false;
            drop(futures);
            sys::wake_one_on(word);
            continue;
        }
        let woken = if has_changed { futures.take_all() } else { Vec::new() };
        let is_known = futures.armed.replace(value).is_some();
        if !is_known {
            // So that the next turn wakes them.
            futures.armed = Some(!value);
        }
        // Also if all were woken: they may soon wait again, and then need not ring.
        if is_known && can && words.len() < sys::MOST_WORDS {
            words.push((word, value));
            futures.watched = Some(value);
        } else {
            must_poll |= futures.count > 0;
        }
        drop(futures);
        wake_all(woken);
    }
    must_poll
}

fn look(object: &dyn Watched) {
    for (number, event) in object.wait_lists().iter().enumerate() {
        event.futures.lock().is_used = false;
        if !event.is_awaited() {
            continue;
        }
        match object.look(number) {
            Look::None => continue,
            Look::One => drop(sys::wake_one_on(object.word(number))),
            Look::All => sys::wake_all_on(object.word(number)),
        }
        event.wake_futures();
    }
}

/// The waits of a thread until it goes on. A pool hears of one that takes long.
pub(super) struct BlockingWait {
    since: Option<Instant>,
    deadline: Option<Instant>,
    is_told: bool,
}

impl BlockingWait {
    pub(super) fn new(deadline: Option<Instant>) -> Self {
        Self { since: None, deadline, is_told: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Begins a wait; at most for so long.
    fn begin(&mut self, awaited: impl Fn() -> Awaited) -> Option<Duration> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        if self.is_told || !context::is_in_body() {
            return left;
        }
        let quiet = QUIET.saturating_sub(now.duration_since(since));
        if quiet.is_zero() {
            self.is_told = true;
            context::about_to_block(awaited);
            return left;
        }
        Some(left.map_or(quiet, |left| left.min(quiet)))
    }
}

impl Drop for BlockingWait {
    fn drop(&mut self) {
        if self.is_told {
            context::resumed();
        }
    }
}
