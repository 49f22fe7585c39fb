//! A word that says when what somebody waits for has changed; it is beside a lock between processes. In any process.
//!
//! Bit 0 is set while a thread or a future may wait, and bit 1 if one has begun to since the last change; the rest
//! counts changes. A waiter sets both, under the lock or before it takes it, looks under the lock whether it has to
//! wait, and waits while the word stays as it was when it set them. A process that changes something under the lock
//! looks at bit 0; and if it finds no waiter to wake, it takes that bit away, unless bit 1 says that a wait has begun
//! meanwhile.

use crate::sync::atomic::{
    AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst, fence,
};
use crate::sys;

const WAITS: u32 = 1;
const ARMED: u32 = 2;
const CHANGE: u32 = 4;

/// Notes that the caller may have to wait, which it looks at afterwards. Returns the value to wait with.
pub(crate) fn arm(word: &AtomicU32) -> u32 {
    word.fetch_or(WAITS | ARMED, Acquire) | WAITS | ARMED
}

/// Under the lock, by one who has changed something: the value to [`wake`] with, once the lock is released.
#[inline]
pub(crate) fn notify(word: &AtomicU32) -> Option<u32> {
    let changed = |value: u32| (value & WAITS != 0).then(|| (value & !ARMED).wrapping_add(CHANGE));
    if word.load(Relaxed) & WAITS == 0 {
        return None;
    }
    word.fetch_update(Relaxed, Relaxed, changed).ok().and_then(changed)
}

/// Wakes one of those who wait.
pub(crate) fn wake(word: &AtomicU32, value: u32) {
    if !sys::wake_one_on(word) {
        let _ = word.compare_exchange(value, value & !WAITS, Relaxed, Relaxed);
    }
}

/// Wakes all of them, if there are any. Without a lock: one that begins to wait after this, and has a fence (SeqCst)
/// before it looks at what has changed, sees that.
pub(crate) fn wake_waiting(word: &AtomicU32) {
    fence(SeqCst);
    let changed =
        |value: u32| (value & WAITS != 0).then(|| (value & !(WAITS | ARMED)).wrapping_add(CHANGE));
    if word.fetch_update(Relaxed, Relaxed, changed).is_ok() {
        sys::wake_all_on(word);
    }
}

/// Wakes all of them, without the lock. One that begins to wait after this sees what was done before.
pub(crate) fn wake_all(word: &AtomicU32) {
    word.fetch_add(CHANGE, Release);
    sys::wake_all_on(word);
}
