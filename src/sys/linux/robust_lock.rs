//! A lock between processes, in one word of the memory that they share. It has the number of the thread that
//! the kernel takes for its holder: see [`robust_list`](super::robust_list). In any process.
//!
//! When a holder dies, the kernel takes its number away, and wakes one of those that wait.

use std::time::{Duration, Instant};

use super::futex::{clear_and_wake_one, wait_on_for};
use super::robust_list::is_thread;
use crate::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use crate::sync::pause;

/// These bits are the kernel's: the number of a thread, whether the last holder has died, and whether somebody waits.
const THREAD: u32 = 0x3fff_ffff;
const DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

/// Number of looks at a word before its thread waits for it.
const SPINS: u32 = if cfg!(loom) { 1 } else { 40 };

/// Time after which a thread that waits looks again: one that was woken may have been killed before it had locked.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Locks for `holder`, unless it is locked.
#[inline]
pub(crate) fn try_lock(word: &AtomicU32, holder: u32) -> bool {
    take(word, holder, false).is_some()
}

/// Locks for `holder`, unless it is locked. `has_waited`: the caller has waited, so others may wait as well. Returns
/// whether the last holder died while it had the lock.
#[inline]
pub(crate) fn take(word: &AtomicU32, holder: u32, has_waited: bool) -> Option<bool> {
    let now = word.load(Relaxed);
    // Whether others wait is seen when it is unlocked.
    let waiters = if has_waited { WAITERS } else { now & WAITERS };
    let is_free = now & THREAD == 0;
    let taken = is_free && word.compare_exchange(now, holder | waiters, Acquire, Relaxed).is_ok();
    taken.then_some(now & DIED != 0)
}

/// Marks the lock as one that somebody waits for, unless it is free. Returns its value, to wait with if it
/// [is held](is_held).
pub(crate) fn arm(word: &AtomicU32) -> u32 {
    let wait = |now: u32| (now & THREAD != 0 && now & WAITERS == 0).then_some(now | WAITERS);
    match word.fetch_update(Relaxed, Relaxed, wait) {
        Ok(now) => now | WAITERS,
        Err(free_or_marked) => free_or_marked,
    }
}

/// Returns whether this is the value of a lock that a process has.
pub(crate) fn is_held(value: u32) -> bool {
    value & THREAD != 0
}

/// The process that has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    None,
    Alive,
    /// It was killed, and nobody has had the lock since.
    Died,
}

pub(crate) fn holder_of(word: &AtomicU32) -> Holder {
    match word.load(Acquire) {
        now if now & THREAD != 0 => Holder::Alive,
        now if now & DIED != 0 => Holder::Died,
        _ => Holder::None,
    }
}

/// Frees a lock that has the number of no thread: the kernel has freed what a holder of the list had, so this is
/// another process's nonsense.
pub(crate) fn free_nonsense(word: &AtomicU32) {
    let now = word.load(Relaxed);
    let holder = now & THREAD;
    if holder != 0 && !is_thread(holder) {
        let _ = word.compare_exchange(now, DIED | WAITERS, Relaxed, Relaxed);
    }
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
            if word.load(Relaxed) == now | WAITERS {
                free_nonsense(word);
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
