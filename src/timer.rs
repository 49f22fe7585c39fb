//! Time limits that hold on any executor, and for tasks that nobody polls.
//!
//! One thread for the whole process sleeps until the next limit and runs what was left for it.
//! It starts with the first limit and ends when it has had none for [`LINGER`], so that a
//! program without time limits never sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::panic::drop_quietly;
use crate::sync::{Condvar, Mutex};

/// How long the thread waits for another time limit before it ends.
const LINGER: Duration = Duration::from_millis(100);

type Action = Box<dyn FnOnce() + Send>;

/// Ordered by time; the number keeps equal times apart.
type Key = (Instant, u64);

struct Clock {
    pending: BTreeMap<Key, Action>,
    next_number: u64,
    running: bool,
}

static CLOCK: Mutex<Clock> =
    Mutex::new(Clock { pending: BTreeMap::new(), next_number: 0, running: false });
static EARLIER: Condvar = Condvar::new();

/// Keeps an action pending; dropped, the action is dropped unrun. O(log n) in pending limits.
pub(crate) struct Timer(Key);

impl Timer {
    /// Runs `action` on the timer thread once `at` has come. It must be short and must not block.
    ///
    /// If the system refuses a thread, the action waits for the next limit that gets one.
    pub(crate) fn new(at: Instant, action: Action) -> Self {
        let mut clock = CLOCK.lock();
        let key = (at, clock.next_number);
        clock.next_number += 1;
        let first = clock.pending.first_key_value().is_none_or(|(k, _)| key < *k);
        clock.pending.insert(key, action);
        if !clock.running {
            drop(clock);
            keep_time();
        } else if first {
            drop(clock);
            EARLIER.notify_one();
        }
        Self(key)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let action = CLOCK.lock().pending.remove(&self.0);
        drop_quietly(action);
    }
}

/// Starts a thread that keeps the time, if there is none.
fn keep_time() {
    if std::mem::replace(&mut CLOCK.lock().running, true) {
        return;
    }
    let thread = std::thread::Builder::new().name("cf-timer".to_owned());
    if thread.spawn(run).is_err() {
        CLOCK.lock().running = false;
    }
}

fn run() {
    let mut clock = CLOCK.lock();
    let mut idle_since = None;
    loop {
        let now = Instant::now();
        let next = clock.pending.first_key_value().map(|(key, _)| key.0);
        match next {
            Some(at) if at <= now => {
                let action = clock.pending.pop_first().map(|(_, action)| action);
                clock.running = false;
                let others_wait = !clock.pending.is_empty();
                drop(clock);
                // The action may run user code, which may block: somebody else keeps the time.
                if others_wait {
                    keep_time();
                }
                // An action that panics must not end the clock for all the others.
                if let Some(action) = action {
                    drop_quietly(std::panic::catch_unwind(std::panic::AssertUnwindSafe(action)));
                }
                clock = CLOCK.lock();
                if clock.running {
                    return;
                }
                clock.running = true;
                idle_since = None;
            }
            Some(at) => {
                clock = EARLIER.wait_timeout(clock, at - now);
                idle_since = None;
            }
            None => {
                let since = *idle_since.get_or_insert(now);
                if now - since >= LINGER {
                    clock.running = false;
                    return;
                }
                clock = EARLIER.wait_timeout(clock, LINGER);
            }
        }
    }
}

/// A time limit that a future polls beside its own work.
pub(crate) struct Delay {
    limit: Duration,
    at: Instant,
    timer: Option<Timer>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Delay {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, at: deadline(limit), timer: None, waker: Arc::default() }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    pub(crate) fn has_passed(&self) -> bool {
        Instant::now() >= self.at
    }

    /// Ready with the limit once it has passed; until then the waker of the last poll is woken
    /// at that time.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Duration> {
        if self.has_passed() {
            return Poll::Ready(self.limit);
        }
        let old = self.waker.lock().replace(cx.waker().clone());
        drop(old);
        if self.timer.is_none() {
            let waker = Arc::clone(&self.waker);
            let action = move || {
                let waker = waker.lock().take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            };
            self.timer = Some(Timer::new(self.at, Box::new(action)));
            // The limit may have passed, and the action may have run, before the waker was there
            // to be seen; but the waker was stored first, so the action saw it.
        }
        Poll::Pending
    }
}

/// The moment `limit` from now; a limit beyond the clock's range becomes one of 30 years.
pub(crate) fn deadline(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or_else(|| now + Duration::from_secs(30 * 365 * 24 * 3600))
}
