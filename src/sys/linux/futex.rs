//! Waiting for a word in memory that two processes share.

use std::sync::atomic::AtomicU32;

use rustix::thread::futex;

/// Blocks while the word is `value`, until [`wake_all_on`], or for no reason.
pub(crate) fn wait_on(word: &AtomicU32, value: u32) {
    // An error is a signal, or a word that is another one by now. Not `PRIVATE`: other processes wake.
    let _ = futex::wait(word, futex::Flags::empty(), value, None);
}

pub(crate) fn wake_all_on(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::empty(), u32::MAX >> 1);
}
