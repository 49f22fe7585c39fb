//! A value in cache lines of its own.

use std::ops::Deref;

/// Keeps threads that write to the value from slowing down those that read what lies beside it. 128
/// bytes, since processors fetch 64-byte lines in pairs, and some ARM processors have lines of 128.
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
