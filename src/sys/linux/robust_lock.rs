//! A lock between processes, in one word of the memory that they share. It has the number of the thread that
//! the kernel takes for its holder: see [`robust_list`](super::robust_list). In any process.
//!
//! When a holder dies, the kernel takes its number away, and wakes one of those that wait.

use std::time::{Duration, Instant};

use super::futex::{clear_and_wake_one, wait_on_for};
use super::robust_list::is_thread;
use crate::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use crate::sync::pause;

/// These bits are the kernel's: the number of a thread, and whether somebody waits. One more, of which nobody takes
/// notice here, says that the last holder has died.
const THREAD: u32 = 0x3fff_ffff;
const WAITERS: u32 = 0x8000_0000;

/// Number of looks at a word before its thread waits for it.
const SPINS: u32 = if cfg!(loom) { 1 } else { 40 };

/// Time after which a thread that waits looks again: one that was woken may have been killed before it had locked.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Locks for `holder`, unless it is locked.
#[inline]
pub(crate) fn try_lock(word: &AtomicU32, holder: u32) -> bool {
    let now = word.load(Relaxed);
    // Others may still wait. Whether they do is seen when it is unlocked.
    let locked = holder | now & WAITERS;
    now & THREAD == 0 && word.compare_exchange(now, locked, Acquire, Relaxed).is_ok()
}

/// Locks for `holder`, and blocks until that can be done, or until `deadline`. Returns whether it is locked.
#[inline]
pub(crate) fn lock(word: &AtomicU32, holder: u32, deadline: Option<Instant>) -> bool {
    let locked = word.compare_exchange(0, holder, Acquire, Relaxed);
    locked.is_ok() || lock_contended(word, holder, deadline)
}

#[cold]
fn lock_contended(word: &AtomicU32, holder: u32, deadline: Option<Instant>) -> bool {
    // Who has waited can't tell whether others do.
    let mut waiters = 0;
    let mut spins = 0;
    loop {
        let now = word.load(Relaxed);
        if now & THREAD == 0 {
            let locked = holder | now & WAITERS | waiters;
            if word.compare_exchange(now, locked, Acquire, Relaxed).is_ok() {
                return true;
            }
        } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        } else if spins < SPINS && now & WAITERS == 0 {
            spins += 1;
            pause(spins);
        } else if now & WAITERS != 0
            || word.compare_exchange(now, now | WAITERS, Relaxed, Relaxed).is_ok()
        {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            wait_on_for(word, now | WAITERS, left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN));
            waiters = WAITERS;
            // The kernel has freed what a holder of the list had. This is another process's nonsense.
            let holder = now & THREAD;
            if word.load(Relaxed) == now | WAITERS && !is_thread(holder) {
                let _ = word.compare_exchange(now | WAITERS, WAITERS, Relaxed, Relaxed);
            }
        }
    }
}

/// Returns whether threads wait, or have waited since it was locked.
#[cfg(test)]
pub(super) fn has_waiters(word: &AtomicU32) -> bool {
    word.load(Relaxed) & WAITERS != 0
}

#[inline]
pub(crate) fn unlock(word: &AtomicU32, holder: u32) {
    if word.compare_exchange(holder, 0, Release, Relaxed).is_err() {
        clear_and_wake_one(word);
    }
}
