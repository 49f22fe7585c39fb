//! An integer range, of whatever integer type: it can be cut, and counting through it is as quick for `a..=b`
//! as for `a..b`. In the consumer's process.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::{Range, RangeInclusive};

pub(super) struct Integers<A> {
    /// Widened; for a negative one with its sign.
    first: u128,
    /// The ones that are left, counted from the first.
    left: Range<usize>,
    integer: PhantomData<fn() -> A>,
}

macro_rules! for_each_integer_type {
    ($do:ident) => { $do!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize) };
}

impl<A: 'static> Integers<A> {
    /// `None`: the iterator is no integer range, or too long to be counted.
    pub(super) fn of<I: Iterator<Item = A> + 'static>(input: &I) -> Option<Self> {
        let input: &dyn Any = input;
        macro_rules! look {
            ($($integer:ty)*) => {$(
                // The upper bound is exact; `None` if a `usize` can't hold it. That of a range at
                // its end is 0, whatever its start is then.
                if let Some(range) = input.downcast_ref::<Range<$integer>>() {
                    return Self::new(range.start as u128, range.size_hint().1);
                }
                if let Some(range) = input.downcast_ref::<RangeInclusive<$integer>>() {
                    return Self::new(*range.start() as u128, range.size_hint().1);
                }
            )*};
        }
        for_each_integer_type!(look);
        None
    }

    fn new(first: u128, count: Option<usize>) -> Option<Self> {
        Some(Self { first, left: 0..count?, integer: PhantomData })
    }

    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    /// Takes the first `count`; all, if there are no more.
    pub(super) fn cut(&mut self, count: usize) -> Self {
        let start = self.left.start;
        self.left.start += count.min(self.len());
        Self { first: self.first, left: start..self.left.start, integer: PhantomData }
    }
}

impl<A: 'static> Iterator for Integers<A> {
    type Item = A;

    #[inline]
    fn next(&mut self) -> Option<A> {
        let at = self.left.next()?;
        Some(narrowed(self.first.wrapping_add(at as u128)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

/// The integer as an `A`. Which type that is, is known when this is compiled, so nothing is left
/// of the search.
#[inline]
fn narrowed<A: 'static>(integer: u128) -> A {
    macro_rules! narrow {
        ($($integer:ty)*) => {$(
            if let Ok(narrow) = same_type(integer as $integer) {
                return narrow;
            }
        )*};
    }
    for_each_integer_type!(narrow);
    unreachable!("made for integers only")
}

/// The value as a `U`, if its type is that.
#[inline]
pub(super) fn same_type<T: 'static, U: 'static>(value: T) -> Result<U, T> {
    let mut value = Some(value);
    let same = (&mut value as &mut dyn Any).downcast_mut::<Option<U>>().and_then(Option::take);
    match (same, value) {
        (Some(same), _) => Ok(same),
        (None, Some(value)) => Err(value),
        (None, None) => unreachable!("the value is in one of the two"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The range in parts of `by`.
    fn parts<A: 'static>(range: impl Iterator<Item = A> + 'static, by: usize) -> Vec<Vec<A>> {
        let mut all = Integers::of(&range).expect("an integer range");
        assert_eq!(all.len(), range.count());
        let mut parts = Vec::new();
        while all.len() > 0 {
            parts.push(all.cut(by).collect());
        }
        parts
    }

    #[test]
    fn the_parts_are_those_of_the_range() {
        for by in [1, 3, 7, 10, 100] {
            let of = |all: Vec<i8>| all.chunks(by).map(<[i8]>::to_vec).collect::<Vec<_>>();
            assert_eq!(parts(-5..5i8, by), of((-5..5).collect()));
            assert_eq!(parts(i8::MIN..=i8::MAX, by), of((i8::MIN..=i8::MAX).collect()));
        }
        assert_eq!(
            parts(u64::MAX - 2..=u64::MAX, 2),
            [vec![u64::MAX - 2, u64::MAX - 1], vec![u64::MAX]]
        );
        assert_eq!(parts(i128::MIN..i128::MIN + 1, 2), [[i128::MIN]]);
        assert_eq!(parts(-1..2i128, 2), [vec![-1, 0], vec![1]]);
    }

    #[test]
    fn a_range_may_be_empty_or_begun() {
        assert!(parts(5..5u16, 1).is_empty());
        #[expect(clippy::reversed_empty_ranges, reason = "what a user may pass")]
        let reversed = 5..=4isize;
        assert!(parts(reversed, 1).is_empty());
        let mut begun = 1..=3u32;
        begun.next();
        assert_eq!(parts(begun.clone(), 5), [[2, 3]]);
        begun.by_ref().for_each(drop);
        assert!(parts(begun, 1).is_empty());
    }

    #[test]
    fn others_are_not_taken_for_a_range() {
        assert!(Integers::of(&(0..10).rev()).is_none());
        assert!(Integers::of(&(0..)).is_none());
        assert!(Integers::of(&('a'..'f')).is_none());
        assert!(Integers::of(&(0..=u64::MAX)).is_none(), "more than can be counted");
    }
}
