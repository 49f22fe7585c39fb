//! The atomics that memory may be used as which several processes write to. In any process.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};

/// An atomic number.
///
/// # Safety
///
/// Any bytes are a value of the type, it is as large as its alignment, which is less than a page's, and all that a
/// shared reference gives access to is atomic.
#[allow(unnameable_types, unreachable_pub, reason = "bound of a type in a sealed trait")]
pub unsafe trait AtomicWord: Send + Sync + 'static {}

macro_rules! atomic_words {
    ($($word:ty),*) => {$(
        // SAFETY: an atomic of std's has the size and the values of its integer, is aligned to its size, and is
        // accessed atomically alone.
        unsafe impl AtomicWord for $word {}

        const _: () = assert!(size_of::<$word>() == align_of::<$word>() && size_of::<$word>() <= 8);
    )*};
}

atomic_words!(
    AtomicI8,
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicIsize,
    AtomicU8,
    AtomicU16,
    AtomicU32,
    AtomicU64,
    AtomicUsize
);
