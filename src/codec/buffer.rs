//! Arrays that travel without a copy in the codec. Both ends.

use std::any::type_name;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Deref, Range, RangeBounds};

use bytemuck::{AnyBitPattern, NoUninit};
use serde_core::de::{Deserialize, Deserializer, Error, Visitor};
use serde_core::ser::{Serialize, Serializer};

use crate::codec::{self, BUFFER, Elements, Given};
use crate::sys::memory::Shared;

/// An array of numbers, or of plain structs, that travels to a worker process, and back, without a copy in
/// the codec.
///
/// The elements are sent from where they are, and used where they have been received. Those of a
/// `Vec` are copied into a message and out of it again. Buffers of less than 4 KiB are copied as well,
/// since that takes less time.
///
/// It is immutable and shared: a clone is another handle to the same memory, and so is a
/// [`slice`](Self::slice) of it. It is made from a `Vec`, a slice, an array or an iterator, and is read
/// as a slice.
///
/// ```
/// use concurrent_futures::Buffer;
///
/// fn mean(samples: Buffer<f32>) -> f32 {
///     samples.iter().sum::<f32>() / samples.len() as f32
/// }
///
/// let samples = Buffer::from(vec![1.0, 2.0, 6.0]);
/// assert_eq!(mean(samples.clone()), 3.0);
/// assert_eq!(samples[2], 6.0);
/// ```
///
/// It may be a part of other values, which travel as usual:
///
/// ```
/// use concurrent_futures::Buffer;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Image {
///     width: usize,
///     pixels: Buffer<u8>,
/// }
///
/// fn brighten(image: Image) -> Image {
///     let pixels = image.pixels.iter().map(|pixel| pixel.saturating_add(16)).collect();
///     Image { pixels, ..image }
/// }
/// # let image = brighten(Image { width: 1, pixels: vec![250, 1].into() });
/// # assert_eq!((image.width, image.pixels.into_vec()), (1, vec![255, 17]));
/// ```
///
/// The elements are numbers, arrays of them, or structs that say by `bytemuck`'s derives that they are
/// plain memory (see [`Element`]):
///
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use concurrent_futures::Buffer;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Copy, Pod, Zeroable, Serialize, Deserialize)]
/// #[repr(C)]
/// struct Particle {
///     place: [f32; 3],
///     speed: [f32; 3],
/// }
///
/// fn step(particles: Buffer<Particle>, seconds: f32) -> Buffer<Particle> {
///     let moved = particles.iter().map(|particle| {
///         let [x, y, z] = particle.place;
///         let [dx, dy, dz] = particle.speed.map(|speed| speed * seconds);
///         Particle { place: [x + dx, y + dy, z + dz], ..*particle }
///     });
///     moved.collect()
/// }
/// # let particles = Buffer::from([Particle { place: [1.0; 3], speed: [2.0; 3] }]);
/// # assert_eq!(step(particles, 0.5)[0].place, [2.0; 3]);
/// ```
///
/// # Serde
///
/// For all other serialisers it is an ordinary sequence; that is why its elements have serde's traits.
/// Inside of an untagged or internally tagged enum, or of a flattened field, serde itself puts numbers one
/// by one into a store of its own, which takes some 32 bytes for each: keep large buffers out of those. A
/// buffer of structs can't be read from there, which is an error of the task: use a `Vec`.
///
/// The elements keep the byte order of the machine, as both processes run on the same one.
pub struct Buffer<T>(Shared<T>);

impl<T: Element> Buffer<T> {
    pub(crate) fn of_shared(elements: Shared<T>) -> Self {
        Self(elements)
    }

    /// The elements as a `Vec`. There is no copy if the buffer was made from a `Vec` in this process
    /// and has no other clone.
    ///
    /// ```
    /// use concurrent_futures::Buffer;
    ///
    /// let numbers = vec![1_u64, 2, 3];
    /// let at = numbers.as_ptr();
    /// let numbers = Buffer::from(numbers).into_vec();
    /// assert_eq!(numbers.as_ptr(), at);
    /// ```
    pub fn into_vec(self) -> Vec<T> {
        self.0.into_vec()
    }
}

impl<T: Element> Buffer<T> {
    /// A part of the same memory, in O(1). It keeps the whole alive, and travels as what it is: its own
    /// elements.
    ///
    /// # Panics
    ///
    /// As slices do, if the range is not within the buffer.
    ///
    /// ```
    /// use concurrent_futures::Buffer;
    ///
    /// let samples = Buffer::from([1, 2, 3, 4, 5]);
    /// let halves = [samples.slice(..2), samples.slice(2..)];
    /// assert_eq!(halves[1], [3, 4, 5]);
    /// assert_eq!(halves[1].as_ptr(), &samples[2]);
    /// ```
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        Self(self.0.slice((range.start_bound().cloned(), range.end_bound().cloned())))
    }
}

impl<T: Element> From<&[T]> for Buffer<T> {
    /// Copies the elements.
    fn from(elements: &[T]) -> Self {
        elements.to_vec().into()
    }
}

impl<T: Element> From<Box<[T]>> for Buffer<T> {
    /// Takes over the memory of the box.
    fn from(elements: Box<[T]>) -> Self {
        elements.into_vec().into()
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Buffer<T> {
    fn from(elements: [T; N]) -> Self {
        Vec::from(elements).into()
    }
}

impl<T: Element> From<Vec<T>> for Buffer<T> {
    /// Takes over the memory of the `Vec`.
    fn from(elements: Vec<T>) -> Self {
        Self(elements.into())
    }
}

impl<T: Element> FromIterator<T> for Buffer<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Vec::from_iter(elements).into()
    }
}

impl<T: Element> Default for Buffer<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> AsRef<[T]> for Buffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for Buffer<T> {}

impl<T: PartialEq> PartialEq<[T]> for Buffer<T> {
    fn eq(&self, other: &[T]) -> bool {
        self[..] == *other
    }
}

impl<T: PartialEq> PartialEq<Vec<T>> for Buffer<T> {
    fn eq(&self, other: &Vec<T>) -> bool {
        self[..] == other[..]
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Buffer<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self[..] == other[..]
    }
}

impl<'a, T> IntoIterator for &'a Buffer<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Element> IntoIterator for Buffer<T> {
    type Item = T;
    type IntoIter = BufferIntoIter<T>;

    /// Iterates over the elements by value. Their memory stays where it is.
    ///
    /// ```
    /// use concurrent_futures::Buffer;
    ///
    /// let lengths = Buffer::from([3.0, 4.0]);
    /// let squares: Vec<f64> = lengths.into_iter().map(|length| length * length).collect();
    /// assert_eq!(squares, [9.0, 16.0]);
    /// ```
    fn into_iter(self) -> BufferIntoIter<T> {
        BufferIntoIter { rest: 0..self.len(), buffer: self }
    }
}

/// An iterator over the elements of a [`Buffer`] by value. From its `into_iter`.
///
/// It is a handle to the buffer's memory, and keeps the whole alive.
#[must_use = "iterators do nothing unless they are consumed"]
pub struct BufferIntoIter<T> {
    buffer: Buffer<T>,
    /// Indices of the elements that are left.
    rest: Range<usize>,
}

impl<T> BufferIntoIter<T> {
    /// Returns the elements that are left.
    pub fn as_slice(&self) -> &[T] {
        &self.buffer[self.rest.clone()]
    }
}

impl<T: Element> Iterator for BufferIntoIter<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.rest.next().map(|index| self.buffer[index])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rest.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<T> {
        self.rest.nth(n).map(|index| self.buffer[index])
    }

    /// By the slice, whose loop has no check of indices.
    fn fold<B, F: FnMut(B, T) -> B>(self, first: B, f: F) -> B {
        self.as_slice().iter().copied().fold(first, f)
    }
}

impl<T: Element> DoubleEndedIterator for BufferIntoIter<T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        self.rest.next_back().map(|index| self.buffer[index])
    }
}

impl<T: Element> ExactSizeIterator for BufferIntoIter<T> {}

impl<T: Element> FusedIterator for BufferIntoIter<T> {}

impl<T> Clone for BufferIntoIter<T> {
    fn clone(&self) -> Self {
        Self { buffer: self.buffer.clone(), rest: self.rest.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for BufferIntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferIntoIter").field(&self.as_slice()).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Element + Serialize> Serialize for Buffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The crate's codec takes up the offer; another serialiser sees the elements. So does the codec of
        // those without a size, whose number can't be told from bytes.
        let has_bytes = size_of::<T>() > 0;
        let offer = has_bytes.then(|| codec::offer(self.0.bytes(), Elements::of::<T>()));
        let serialized = serializer.serialize_newtype_struct(BUFFER, &self[..]);
        drop(offer);
        serialized
    }
}

impl<'de, T: Element + Deserialize<'de>> Deserialize<'de> for Buffer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(BUFFER, BufferVisitor(PhantomData))
    }
}

struct BufferVisitor<T>(PhantomData<T>);

impl<'de, T: Element + Deserialize<'de>> Visitor<'de> for BufferVisitor<T> {
    type Value = Buffer<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a buffer of {}", type_name::<T>())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, other: D) -> Result<Buffer<T>, D::Error> {
        match codec::take_given() {
            // Another format, or a sequence that was not written as a buffer.
            None => Vec::deserialize(other).map(Buffer::from),
            Some(Given { elements, .. }) if elements != Elements::of::<T>() => {
                Err(D::Error::custom(format_args!(
                    "a buffer of {elements} instead of {}",
                    type_name::<T>()
                )))
            }
            Some(Given { segment: Some(segment), .. }) => match segment.cast() {
                Some(elements) => Ok(Buffer(elements)),
                // An alignment that the memory does not have, or no whole number of elements.
                None => self.visit_bytes(&segment),
            },
            Some(Given { segment: None, .. }) => other.deserialize_bytes(self),
        }
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Buffer<T>, E> {
        if bytes.len().checked_rem(size_of::<T>()) != Some(0) {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(codec::copy_elements(bytes).into())
    }
}

/// An element of a [`Buffer`]: plain memory, in which each byte is initialised and each bit pattern is a
/// value.
///
/// These are integers, floats, arrays of them, and structs with `#[repr(C)]` and the derives of `Pod` and
/// `Zeroable` of the crate `bytemuck`, version 1, with its feature `derive`. A `bool`, a `char`, a reference
/// or a struct with padding is none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an element of a `Buffer`",
    label = "not plain memory",
    note = "a struct needs `#[repr(C)]` and `#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]`, with the \
            feature `derive` of `bytemuck`",
    note = "elements that are not plain memory go into a `Vec`"
)]
pub trait Element: NoUninit + AnyBitPattern + Send + Sync {}

// The error is that of `Element`, not of the traits of another crate.
#[diagnostic::do_not_recommend]
impl<T: NoUninit + AnyBitPattern + Send + Sync> Element for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_iterated_by_value_without_a_copy() {
        let whole = Buffer::from(Vec::from_iter(0..10_u32));
        let mut rest = whole.slice(1..9).into_iter();
        assert_eq!(rest.as_slice().as_ptr(), &whole[1]);
        assert_eq!(
            (rest.next(), rest.next_back(), rest.nth(1), rest.nth_back(1)),
            (Some(1), Some(8), Some(3), Some(6))
        );
        let (other, debug) = (rest.clone(), format!("{rest:?}"));
        assert_eq!(
            (rest.len(), rest.as_slice(), &*debug),
            (2, &whole[4..6], "BufferIntoIter([4, 5])")
        );
        assert_eq!((rest.fold(0, |sum, n| 10 * sum + n), other.rev().collect()), (45, vec![5, 4]));
        let mut short = whole.into_iter();
        assert_eq!(
            (short.nth(10), short.next(), short.next_back(), short.len()),
            (None, None, None, 0)
        );
        assert_eq!(Buffer::from([[0_u8; 0]; 3]).into_iter().count(), 3);
    }
}
