//! Waiting for words in memory that processes share. In any process.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Release, fence};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec};

/// Not `PRIVATE`: other processes wait and wake.
const SHARED: futex::Flags = futex::Flags::empty();

/// The most words that [`wait_on_any`] takes.
pub(crate) const MOST_WORDS: usize = 128;

/// Blocks while the word is `value`, until it is woken, or for no reason.
pub(crate) fn wait_on(word: &AtomicU32, value: u32) {
    // An error is a signal, or a word that is another one by now.
    let _ = futex::wait(word, SHARED, value, None);
}

/// As [`wait_on`], and at most for `limit`.
pub(crate) fn wait_on_for(word: &AtomicU32, value: u32, limit: Duration) {
    // A limit that is too long for the type is none.
    let limit = Timespec::try_from(limit).ok();
    let _ = futex::wait(word, SHARED, value, limit.as_ref());
}

/// Blocks while each word has its value, until one is woken, or for no reason, and at most for `limit`. An error:
/// it can't be done for so many words, or by this kernel.
pub(crate) fn wait_on_any(words: &[(&AtomicU32, u32)], limit: Option<Duration>) -> io::Result<()> {
    let waits: Vec<_> = words
        .iter()
        .map(|(word, value)| {
            let mut wait = futex::Wait::new();
            wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
            wait.val = u64::from(*value);
            wait.flags = futex::WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let clock = ClockId::Monotonic;
    let until = limit.and_then(|limit| {
        let now = rustix::time::clock_gettime(clock);
        now.checked_add(Timespec::try_from(limit).ok()?)
    });
    match futex::waitv(&waits, futex::WaitvFlags::empty(), until.as_ref(), clock) {
        Ok(_) | Err(Errno::AGAIN | Errno::TIMEDOUT | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Wakes one of those that wait. `false`: nobody does.
pub(crate) fn wake_one_on(word: &AtomicU32) -> bool {
    futex::wake(word, SHARED, 1).is_ok_and(|woken| woken > 0)
}

pub(crate) fn wake_all_on(word: &AtomicU32) {
    let _ = futex::wake(word, SHARED, u32::MAX >> 1);
}

/// Stores 0 and wakes one of those that wait, in one system call: who is killed here has done both, or neither.
pub(crate) fn clear_and_wake_one(word: &AtomicU32) {
    use futex::{WakeOp, WakeOpCmp};
    // What this thread has done before is seen by whoever finds the 0.
    fence(Release);
    // The comparison, with a value that the word never has, is for a second word, of which there is none.
    let (op, never) = (WakeOp::Set, (1 << 12) - 1);
    let cleared = futex::wake_op(word, SHARED, 1, 0, word, op, WakeOpCmp::Eq, 0, never);
    if cleared.is_err() {
        // Some emulators lack it.
        word.store(0, Release);
        wake_one_on(word);
    }
}
