//! The input of a map, and the shares of it that workers take. In the consumer's process.

use std::vec;

use super::integers::{Integers, same_type};
use super::segment::Segment;
use crate::panic::catch;

/// The input of a map.
pub(super) enum Input<A, I> {
    /// A share is cut off in no time, and without running code of the user's.
    Known(Items<A>),
    /// Must be asked for each item, which may take long, block or panic.
    Unknown(I),
}

/// Neighbouring items.
pub(super) enum Items<A> {
    Values(Segment<A>),
    Integers(Integers<A>),
}

impl<A: 'static, I: Iterator<Item = A> + 'static> Input<A, I> {
    pub(super) fn new(input: I) -> Self {
        if let Some(integers) = Integers::of(&input) {
            return Self::Known(Items::Integers(integers));
        }
        match same_type::<I, vec::IntoIter<A>>(input) {
            // The memory of an iterator that has not begun becomes the `Vec`'s: no item moves.
            Ok(values) => Self::Known(Items::Values(values.collect::<Vec<_>>().into())),
            Err(input) => Self::Unknown(input),
        }
    }

    /// Number of items that there will be, if that is sure.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Known(items) => Some(items.len()),
            Self::Unknown(_) => None,
        }
    }

    /// The length, as far as the input tells it.
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Known(items) => (items.len(), Some(items.len())),
            // A panic comes again, and is told, when the input is asked for items.
            Self::Unknown(input) => catch(|| input.size_hint()).unwrap_or((0, None)),
        }
    }
}

impl<A: 'static> Items<A> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Integers(integers) => integers.len(),
        }
    }

    /// Takes the first `count`; all, if there are no more.
    pub(super) fn cut(&mut self, count: usize) -> Self {
        match self {
            Self::Values(values) => Self::Values(values.cut(count)),
            Self::Integers(integers) => Self::Integers(integers.cut(count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The input in parts of `by`, if it is known.
    fn parts<A: 'static, I: Iterator<Item = A> + 'static>(
        input: I,
        by: usize,
    ) -> Option<Vec<Vec<A>>> {
        let input = Input::new(input);
        let length = input.len();
        let Input::Known(mut items) = input else { return None };
        assert_eq!(length, Some(items.len()));
        let mut parts = Vec::new();
        while items.len() > 0 {
            parts.push(match items.cut(by) {
                Items::Values(values) => values.collect(),
                Items::Integers(integers) => integers.collect(),
            });
        }
        Some(parts)
    }

    #[test]
    fn vecs_and_ranges_are_known() {
        let words = ["a", "b", "c", "d", "e"].map(String::from).to_vec();
        let mut begun = words.clone().into_iter();
        begun.next();
        assert_eq!(
            parts(words.into_iter(), 2).unwrap(),
            [vec!["a", "b"], vec!["c", "d"], vec!["e"]]
        );
        assert_eq!(parts(begun, 3).unwrap(), [vec!["b", "c", "d"], vec!["e"]]);
        assert_eq!(parts(1..=3, 2).unwrap(), [vec![1, 2], vec![3]]);
        assert_eq!(parts(Vec::<u8>::new().into_iter(), 1).unwrap(), [[0u8; 0]; 0]);
    }

    #[test]
    fn others_must_be_asked() {
        assert!(parts([1, 2].into_iter(), 1).is_none());
        assert!(parts((0..5).filter(|n| *n > 2), 1).is_none());
        assert!(parts(vec![1].into_iter().rev(), 1).is_none());
    }
}
