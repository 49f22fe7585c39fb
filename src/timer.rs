//! Time limits that hold on any executor, and for tasks that nobody polls.
//!
//! One thread per process sleeps until the next deadline and runs the actions that are due. It
//! starts with the first limit and ends when it has had none for [`LINGER`], so that a program
//! without time limits never sees it.
//!
//! The system may refuse the thread. It is asked again at each use, and until it grants one:
//!
//! * [`Timer::new`] fails, and whoever has asked for the limit gets the error;
//! * a [`Delay`] holds all the same: a blocking wait keeps its own deadline, and a future is polled
//!   again and again;
//! * a timer [`with_stand_in`](Timer::with_stand_in) is kept by a thread of its owner's.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::fork::{self, Own};
use crate::panic::{KeptWaker, drop_quietly, quietly};
#[cfg(feature = "process")]
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use crate::sync::{Condvar, Mutex};

/// Time for which the thread waits for another time limit before it ends.
const LINGER: Duration = Duration::from_millis(100);

/// Time for which a future without a timer is held up at each poll, so that it does not keep a CPU busy.
const BREAK: Duration = Duration::from_millis(1);

/// Time after which a stand-in asks for a thread again.
#[cfg(feature = "process")]
const RETRY: Duration = Duration::from_millis(20);

type Action = Box<dyn FnOnce() + Send>;

/// Ordered by time; the number keeps equal times apart.
type Key = (Instant, u64);

struct Clock {
    pending: BTreeMap<Key, Action>,
    next_number: u64,
    /// Threads that keep the time, or that run an action and may keep the time after it.
    threads: usize,
    /// Set while one of them waits for the next deadline. No two wait at the same time.
    is_kept: bool,
}

struct Keeper {
    clock: Mutex<Clock>,
    earlier: Condvar,
    /// Set while there are limits and no thread: under the lock, by the call that adds such a
    /// limit. Cleared under the lock, by the stand-in that finds it otherwise.
    #[cfg(feature = "process")]
    is_unkept: AtomicBool,
}

/// A forked child has neither the thread nor the limits.
static KEEPER: Own<Keeper> = Own::from_start(Keeper::new(), Keeper::new);

/// Keeps an action pending; dropped, the action is dropped unrun. O(log n) in pending limits.
pub(crate) struct Timer {
    keeper: &'static Keeper,
    key: Key,
}

impl Timer {
    /// Runs `action` on the timer thread once `at` has come. It must be short and must not block.
    ///
    /// # Errors
    ///
    /// If there is no such thread and the system refuses it. The action is dropped.
    pub(crate) fn new(at: Instant, action: Action) -> io::Result<Self> {
        let keeper = KEEPER.get();
        let mut clock = keeper.clock.lock();
        match keeper.see_to_thread(&mut clock) {
            Ok(()) => Ok(keeper.add(&mut clock, at, action)),
            Err(refused) => {
                // The action may have the last reference to a task: dropped without the lock.
                drop(clock);
                drop_quietly(action);
                Err(refused)
            }
        }
    }

    /// The same, for an owner that has a thread which calls [`stand_in`]. `false`: that thread is to
    /// be woken, since there is no other.
    #[cfg(feature = "process")]
    pub(crate) fn with_stand_in(at: Instant, action: Action) -> (Self, bool) {
        let keeper = KEEPER.get();
        let mut clock = keeper.clock.lock();
        // The lock is held until the limit is in the table, so `stand_in` does not clear the flag
        // before.
        let is_kept = keeper.see_to_thread(&mut clock).is_ok();
        if !is_kept {
            keeper.is_unkept.store(true, Relaxed);
        }
        (keeper.add(&mut clock, at, action), is_kept)
    }

    /// Returns whether it is not one of the process that this one was forked from.
    fn is_here(&self) -> bool {
        std::ptr::eq(self.keeper, KEEPER.get())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.is_here() {
            // The table has no action that runs or has run. The drop does not wait for the run.
            let action = self.keeper.clock.lock().pending.remove(&self.key);
            drop_quietly(action);
        }
    }
}

impl Keeper {
    const fn new() -> Self {
        Self {
            clock: Mutex::new(Clock {
                pending: BTreeMap::new(),
                next_number: 0,
                threads: 0,
                is_kept: false,
            }),
            earlier: Condvar::new(),
            #[cfg(feature = "process")]
            is_unkept: AtomicBool::new(false),
        }
    }

    /// Starts a thread if none keeps the time. An error if there is no other either.
    fn see_to_thread(&'static self, clock: &mut Clock) -> io::Result<()> {
        if clock.is_kept {
            return Ok(());
        }
        // Before there is a thread: a child that is forked after this knows that it has none.
        fork::watch();
        // It waits for the lock, so it finds itself counted.
        let thread = std::thread::Builder::new().name("cf-timer".to_owned());
        match thread.spawn(|| self.run()) {
            Ok(_detached) => {
                clock.threads += 1;
                clock.is_kept = true;
                Ok(())
            }
            // A thread that runs an action looks for the next limit after it, late by the rest of
            // that action.
            Err(_refused) if clock.threads > 0 => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    fn add(&'static self, clock: &mut Clock, at: Instant, action: Action) -> Timer {
        let key = (at, clock.next_number);
        clock.next_number += 1;
        if clock.pending.first_key_value().is_none_or(|(first, _)| key < *first) {
            // The keeper sleeps until the limit that was the first, or lingers.
            self.earlier.notify_one();
        }
        clock.pending.insert(key, action);
        Timer { keeper: self, key }
    }

    fn run(&'static self) {
        let mut clock = self.clock.lock();
        let mut idle_since = None;
        loop {
            let now = Instant::now();
            match clock.next() {
                Some(at) if at <= now => {
                    let action = clock.pending.pop_first().map(|(_, action)| action);
                    clock.is_kept = false;
                    // The action may run user code, which may block: somebody else keeps the time.
                    if !clock.pending.is_empty() {
                        let _ = self.see_to_thread(&mut clock);
                    }
                    drop(clock);
                    perform(action);
                    clock = self.clock.lock();
                    // Another thread has taken over meanwhile: one is enough.
                    if clock.is_kept {
                        clock.threads -= 1;
                        return;
                    }
                    clock.is_kept = true;
                    idle_since = None;
                }
                Some(at) => {
                    clock = self.earlier.wait_timeout(clock, at - now);
                    idle_since = None;
                }
                None => {
                    let since = *idle_since.get_or_insert(now);
                    if now - since >= LINGER {
                        // Under the lock: a limit that comes after this starts a thread.
                        clock.is_kept = false;
                        clock.threads -= 1;
                        return;
                    }
                    clock = self.earlier.wait_timeout(clock, LINGER);
                }
            }
        }
    }
}

impl Clock {
    fn next(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(key, _)| key.0)
    }
}

/// Runs an action. Its panic must not end the clock for all the others.
fn perform(action: Option<Action>) {
    if let Some(action) = action {
        quietly(action);
    }
}

/// Asks for a timer thread, if there are limits and none. Called again and again by a thread that
/// can keep the time beside its own work. Returns when to call again at the latest, if the system
/// refuses the thread: zero means after [`run_due`]. `None` if no stand-in is needed.
#[cfg(feature = "process")]
pub(crate) fn stand_in() -> Option<Duration> {
    let keeper = KEEPER.get();
    if !keeper.is_unkept.load(Relaxed) {
        return None;
    }
    let mut clock = keeper.clock.lock();
    let next = clock.next();
    // A thread is asked for only if there is a limit left.
    let Some(next) = next.filter(|_| keeper.see_to_thread(&mut clock).is_err()) else {
        keeper.is_unkept.store(false, Relaxed);
        return None;
    };
    Some(next.saturating_duration_since(Instant::now()).min(RETRY))
}

/// Runs what is due, in place of the timer thread.
#[cfg(feature = "process")]
pub(crate) fn run_due() {
    let keeper = KEEPER.get();
    loop {
        let mut clock = keeper.clock.lock();
        if clock.next().is_none_or(|next| next > Instant::now()) {
            return;
        }
        let action = clock.pending.pop_first().map(|(_, action)| action);
        // One at a time: an action is user code, and may add or drop limits.
        drop(clock);
        perform(action);
    }
}

/// A time limit that a future polls beside its own work.
pub(crate) struct Delay {
    limit: Duration,
    at: Instant,
    timer: Option<Timer>,
    /// The code that polls does so again at the limit.
    is_kept_by_caller: bool,
    waker: Arc<Mutex<Option<KeptWaker>>>,
}

impl Delay {
    pub(crate) fn new(limit: Duration) -> Self {
        let (at, waker) = (deadline(limit), Arc::default());
        Self { limit, at, timer: None, is_kept_by_caller: false, waker }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    pub(crate) fn has_passed(&self) -> bool {
        Instant::now() >= self.at
    }

    /// From now on the caller polls again at the moment that this returns, whether it is woken or not.
    pub(crate) fn keep_by_caller(&mut self) -> Instant {
        self.is_kept_by_caller = true;
        self.at
    }

    /// Ready with the limit once it has passed; until then the waker of the last poll is woken
    /// at that time.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Duration> {
        if self.has_passed() {
            return Poll::Ready(self.limit);
        }
        if self.is_kept_by_caller {
            return Poll::Pending;
        }
        let waker = KeptWaker::new(cx.waker());
        let old = self.waker.lock().replace(waker);
        drop(old);
        // One timer for all polls: it wakes the waker of the last. That of a parent process never
        // runs here.
        if !self.timer.as_ref().is_some_and(Timer::is_here) {
            let waker = Arc::clone(&self.waker);
            let action = move || {
                let waker = waker.lock().take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            };
            // The limit may pass, and the action may run, before the waker is there to be seen; but
            // the waker was stored first, so the action sees it.
            self.timer = Timer::new(self.at, Box::new(action)).ok();
            if self.timer.is_none() {
                // Nothing else wakes the future at its limit, so it is polled again and again.
                std::thread::sleep(BREAK);
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

/// The moment `limit` from now; a limit beyond the clock's range becomes one of 30 years.
pub(crate) fn deadline(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or_else(|| now + Duration::from_secs(30 * 365 * 24 * 3600))
}
