//! The numbers that several processes may write to at the same time. In any process.

use std::fmt;
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, Ordering::Relaxed,
};

use crate::codec::buffer::Element;

/// An element of a [`SharedArray`](super::SharedArray): a number that is read and written in one step.
///
/// These are the integers of up to 64 bits, `usize`, `isize`, `f32` and `f64`. For a `bool` take a `u8`, and for
/// structs an array for each of their fields.
///
/// The trait is sealed: new numbers are not a breaking change.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an element of a `SharedArray`",
    label = "not a number that processes can add to in one step",
    note = "elements are integers of up to 64 bits, `usize`, `isize`, `f32` and `f64`",
    note = "structs that all processes only read go into a `SharedSlice`"
)]
pub trait AtomicElement: Element + PartialEq + fmt::Debug + sealed::Atomic {}

pub(super) mod sealed {
    use crate::sys::atomic_word::AtomicWord;

    /// Keeps [`AtomicElement`](super::AtomicElement) to this crate, and has its operations. Each gives the number
    /// from before it.
    #[allow(unnameable_types, reason = "that is what seals the trait above")]
    pub trait Atomic: Copy + 'static {
        #[doc(hidden)]
        type Word: AtomicWord;

        #[doc(hidden)]
        fn load(word: &Self::Word) -> Self;
        #[doc(hidden)]
        fn store(word: &Self::Word, value: Self);
        #[doc(hidden)]
        fn swap(word: &Self::Word, value: Self) -> Self;
        #[doc(hidden)]
        fn add(word: &Self::Word, value: Self) -> Self;
        #[doc(hidden)]
        fn sub(word: &Self::Word, value: Self) -> Self;
        #[doc(hidden)]
        fn max(word: &Self::Word, value: Self) -> Self;
        #[doc(hidden)]
        fn min(word: &Self::Word, value: Self) -> Self;
        #[doc(hidden)]
        fn compare_exchange(word: &Self::Word, current: Self, new: Self) -> Result<Self, Self>;
        #[doc(hidden)]
        fn update(word: &Self::Word, update: impl FnMut(Self) -> Self) -> Self;
    }
}

macro_rules! integers {
    ($($number:ty = $word:ty),* $(,)?) => {$(
        impl AtomicElement for $number {}

        impl sealed::Atomic for $number {
            type Word = $word;

            #[inline]
            fn load(word: &$word) -> Self {
                word.load(Relaxed)
            }

            #[inline]
            fn store(word: &$word, value: Self) {
                word.store(value, Relaxed);
            }

            #[inline]
            fn swap(word: &$word, value: Self) -> Self {
                word.swap(value, Relaxed)
            }

            #[inline]
            fn add(word: &$word, value: Self) -> Self {
                word.fetch_add(value, Relaxed)
            }

            #[inline]
            fn sub(word: &$word, value: Self) -> Self {
                word.fetch_sub(value, Relaxed)
            }

            #[inline]
            fn max(word: &$word, value: Self) -> Self {
                word.fetch_max(value, Relaxed)
            }

            #[inline]
            fn min(word: &$word, value: Self) -> Self {
                word.fetch_min(value, Relaxed)
            }

            #[inline]
            fn compare_exchange(word: &$word, current: Self, new: Self) -> Result<Self, Self> {
                word.compare_exchange(current, new, Relaxed, Relaxed)
            }

            #[inline]
            fn update(word: &$word, mut update: impl FnMut(Self) -> Self) -> Self {
                let updated = word.fetch_update(Relaxed, Relaxed, |old| Some(update(old)));
                updated.unwrap_or_else(|old| old)
            }
        }
    )*};
}

integers!(
    u8 = AtomicU8,
    u16 = AtomicU16,
    u32 = AtomicU32,
    u64 = AtomicU64,
    usize = AtomicUsize,
    i8 = AtomicI8,
    i16 = AtomicI16,
    i32 = AtomicI32,
    i64 = AtomicI64,
    isize = AtomicIsize,
);

macro_rules! floats {
    ($($number:ty = $word:ty),* $(,)?) => {$(
        impl AtomicElement for $number {}

        // By their bits: no processor adds floats in memory in one step.
        impl sealed::Atomic for $number {
            type Word = $word;

            #[inline]
            fn load(word: &$word) -> Self {
                Self::from_bits(word.load(Relaxed))
            }

            #[inline]
            fn store(word: &$word, value: Self) {
                word.store(value.to_bits(), Relaxed);
            }

            #[inline]
            fn swap(word: &$word, value: Self) -> Self {
                Self::from_bits(word.swap(value.to_bits(), Relaxed))
            }

            #[inline]
            fn add(word: &$word, value: Self) -> Self {
                Self::update(word, |old| old + value)
            }

            #[inline]
            fn sub(word: &$word, value: Self) -> Self {
                Self::update(word, |old| old - value)
            }

            #[inline]
            fn max(word: &$word, value: Self) -> Self {
                Self::update(word, |old| old.max(value))
            }

            #[inline]
            fn min(word: &$word, value: Self) -> Self {
                Self::update(word, |old| old.min(value))
            }

            #[inline]
            fn compare_exchange(word: &$word, current: Self, new: Self) -> Result<Self, Self> {
                let (current, new) = (current.to_bits(), new.to_bits());
                let exchanged = word.compare_exchange(current, new, Relaxed, Relaxed);
                exchanged.map(Self::from_bits).map_err(Self::from_bits)
            }

            #[inline]
            fn update(word: &$word, mut update: impl FnMut(Self) -> Self) -> Self {
                let update = |bits| Some(update(Self::from_bits(bits)).to_bits());
                let updated = word.fetch_update(Relaxed, Relaxed, update);
                Self::from_bits(updated.unwrap_or_else(|old| old))
            }
        }
    )*};
}

floats!(f32 = AtomicU32, f64 = AtomicU64);

#[cfg(test)]
mod tests {
    use super::sealed::Atomic;
    use super::*;

    macro_rules! operations {
        ($($name:ident: $number:ty;)*) => {$(
            #[test]
            fn $name() {
                let [zero, two, five] = [0, 2, 5].map(|n: u8| n as $number);
                let word = <$number as Atomic>::Word::default();
                assert_eq!(<$number>::load(&word), zero);
                <$number>::store(&word, two);
                assert_eq!(<$number>::swap(&word, five), two);
                assert_eq!(Atomic::max(&word, two), five);
                assert_eq!(Atomic::min(&word, two), five);
                assert_eq!(Atomic::max(&word, five), two);
                assert_eq!(Atomic::sub(&word, two), five);
                assert_eq!(Atomic::add(&word, two), five - two);
                assert_eq!(<$number>::compare_exchange(&word, two, zero), Err(five));
                assert_eq!(<$number>::compare_exchange(&word, five, two), Ok(five));
                assert_eq!(<$number>::update(&word, |old| old + old), two);
                assert_eq!(<$number>::load(&word), two + two);
            }
        )*};
    }

    operations! {
        operations_of_u8: u8;
        operations_of_u16: u16;
        operations_of_u32: u32;
        operations_of_u64: u64;
        operations_of_usize: usize;
        operations_of_i8: i8;
        operations_of_i16: i16;
        operations_of_i32: i32;
        operations_of_i64: i64;
        operations_of_isize: isize;
        operations_of_f32: f32;
        operations_of_f64: f64;
    }

    #[test]
    fn integers_wrap_and_signed_ones_are_below_zero() {
        let word = AtomicU8::new(255);
        assert_eq!(Atomic::add(&word, 3_u8), 255);
        assert_eq!(u8::load(&word), 2);
        let word = AtomicI64::new(-4);
        assert_eq!(Atomic::max(&word, -3_i64), -4);
        assert_eq!(Atomic::sub(&word, i64::MAX), -3);
        assert_eq!(i64::load(&word), i64::MAX - 1);
    }

    #[test]
    fn a_number_goes_before_nan_and_floats_are_compared_by_their_bits() {
        let word = AtomicU64::new(f64::NAN.to_bits());
        assert!(Atomic::max(&word, 1.0_f64).is_nan());
        assert_eq!(Atomic::min(&word, f64::NAN), 1.0);
        assert_eq!(f64::load(&word), 1.0);
        f64::store(&word, 0.0);
        assert!(f64::compare_exchange(&word, -0.0, 1.0).is_err());
        f64::store(&word, f64::NAN);
        assert!(f64::compare_exchange(&word, f64::NAN, 1.0).is_ok());
    }

    #[test]
    fn threads_that_add_floats_lose_nothing() {
        let word = AtomicU32::new(0);
        let each = if cfg!(miri) { 50 } else { 10_000 };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..each).for_each(|_| _ = Atomic::add(&word, 1.0_f32)));
            }
        });
        assert_eq!(f32::load(&word), 2.0 * each as f32);
    }
}
