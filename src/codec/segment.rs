//! Buffers: their numbers go beside the body, in segments, and only a record of them into it.
//!
//! A buffer meets its serialiser through serde, which knows nothing of segments. So a buffer
//! leaves an offer in a thread-local and presents itself as a newtype struct of the name
//! [`BUFFER`]. The codec knows the name, and takes the offer; any other serialiser goes on to the
//! numbers, and the buffer withdraws the offer. In the other direction the codec gives. An offer
//! lasts for one call of serde's, in which no other buffer can come to speak, so calls that are
//! nested don't mix them up; guards see to it that a panic leaves nothing behind.

use std::cell::Cell;
use std::marker::PhantomData;

use serde_core::Serialize;
use serde_core::de::value::BorrowedBytesDeserializer;
use serde_core::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_core::forward_to_deserialize_any;

use super::encoder::serializer::Serializer;
use super::error::Error;
use crate::sys::memory::{ReceivedSegment, Segment};

/// The name of a buffer as a newtype struct. No other type has such a name.
pub(crate) const BUFFER: &str = "$concurrent_futures::Buffer";

/// Buffers below this many bytes are copied into the body: a segment costs its own allocation on
/// the other side, and a part of its own in a system call.
const INLINE: usize = 4096;

/// Clones of one buffer are sent once, if there are no more than so many other segments between
/// them.
const LOOK_BACK: usize = 8;

macro_rules! numbers {
    ($($kind:ident $number:ident $visit:ident,)*) => {
        /// The type of a buffer's numbers.
        #[allow(unnameable_types, reason = "it is an item of a sealed trait")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum ElementKind { $($kind,)* }

        impl ElementKind {
            #[inline]
            pub(super) fn from_byte(byte: u8) -> Option<Self> {
                const ALL: &[ElementKind] = &[$(ElementKind::$kind,)*];
                ALL.get(usize::from(byte)).copied()
            }

            /// The bytes of one number.
            #[inline]
            pub(super) fn size(self) -> usize {
                match self { $(Self::$kind => size_of::<$number>(),)* }
            }
        }

        $(
            impl Number for $number {
                const KIND: ElementKind = ElementKind::$kind;
            }

            impl<'de> Deserializer<'de> for Packed<$number> {
                type Error = Error;

                #[inline]
                fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                    visitor.$visit(self.0)
                }

                #[inline]
                fn deserialize_option<V: Visitor<'de>>(
                    self,
                    visitor: V,
                ) -> Result<V::Value, Error> {
                    visitor.visit_some(self)
                }

                #[inline]
                fn deserialize_newtype_struct<V: Visitor<'de>>(
                    self,
                    _name: &'static str,
                    visitor: V,
                ) -> Result<V::Value, Error> {
                    visitor.visit_newtype_struct(self)
                }

                forward_to_deserialize_any! {
                    bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes
                    byte_buf unit unit_struct seq tuple tuple_struct map struct enum identifier
                    ignored_any
                }
            }
        )*

        /// Writes packed numbers one by one.
        pub(super) fn write_numbers(
            kind: ElementKind,
            packed: &[u8],
            to: &mut Serializer,
        ) -> Result<(), Error> {
            match kind {
                $(
                    ElementKind::$kind => {
                        let mut numbers = packed.chunks_exact(size_of::<$number>());
                        numbers.try_for_each(|number| {
                            bytemuck::pod_read_unaligned::<$number>(number).serialize(&mut *to)
                        })
                    }
                )*
            }
        }

        /// Shows packed numbers to a visitor of sequences.
        #[inline]
        pub(super) fn visit_numbers<'de, V: Visitor<'de>>(
            kind: ElementKind,
            bytes: &[u8],
            visitor: V,
        ) -> Result<V::Value, Error> {
            match kind {
                $(
                    ElementKind::$kind => {
                        type Bytes = [u8; size_of::<$number>()];
                        // A corrupt buffer may end within a number: `cast_slice` would panic.
                        let whole = bytes.len() - bytes.len() % size_of::<$number>();
                        let numbers = bytemuck::cast_slice::<u8, Bytes>(&bytes[..whole]);
                        let mut numbers = Run(numbers.iter().map(|n| <$number>::from_ne_bytes(*n)));
                        let value = visitor.visit_seq(&mut numbers)?;
                        match numbers.0.len() {
                            0 => Ok(value),
                            _ => Err(Error::broken_off()),
                        }
                    }
                )*
            }
        }
    };
}

numbers! {
    U8 u8 visit_u8,
    I8 i8 visit_i8,
    U16 u16 visit_u16,
    I16 i16 visit_i16,
    U32 u32 visit_u32,
    I32 i32 visit_i32,
    U64 u64 visit_u64,
    I64 i64 visit_i64,
    F32 f32 visit_f32,
    F64 f64 visit_f64,
}

/// The elements of buffers.
#[allow(unnameable_types, reason = "that is what seals the trait of the elements")]
pub trait Number:
    bytemuck::Pod + Serialize + DeserializeOwned + std::fmt::Debug + PartialEq + Send + Sync
{
    #[doc(hidden)]
    const KIND: ElementKind;
}

/// Copies packed numbers, which may lie anywhere, so that they can't just be looked at as numbers.
pub(crate) fn copy_numbers<T: Number>(bytes: &[u8]) -> Vec<T> {
    if let Ok(numbers) = bytemuck::try_cast_slice(bytes) {
        return numbers.to_vec();
    }
    let mut numbers = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut(&mut numbers).copy_from_slice(bytes);
    numbers
}

/// A number of a run, as a deserializer.
struct Packed<T>(T);

/// The numbers of a run.
struct Run<I>(I);

impl<'de, T, I: ExactSizeIterator<Item = T>> SeqAccess<'de> for Run<I>
where
    Packed<T>: Deserializer<'de, Error = Error>,
{
    type Error = Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.0.next() {
            Some(number) => seed.deserialize(Packed(number)).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

// ---- Handing over ----

/// A buffer's memory, for the codec to take.
pub(crate) struct Offer {
    segment: Segment,
    kind: ElementKind,
}

/// The codec's offer for a buffer.
pub(crate) struct Given {
    pub(crate) kind: ElementKind,
    /// `None`: the numbers come as bytes.
    pub(crate) segment: Option<Segment>,
}

thread_local! {
    static OFFERED: Cell<Option<Offer>> = const { Cell::new(None) };
    static GIVEN: Cell<Option<Given>> = const { Cell::new(None) };
}

/// Empties a thread-local when dropped.
#[must_use]
pub(crate) struct Withdraw<T: 'static> {
    from: &'static std::thread::LocalKey<Cell<Option<T>>>,
    not_send: PhantomData<*const ()>,
}

impl<T> Drop for Withdraw<T> {
    fn drop(&mut self) {
        // A thread that is ending has no offers any more.
        let _ = self.from.try_with(Cell::take);
    }
}

fn put<T>(into: &'static std::thread::LocalKey<Cell<Option<T>>>, value: T) -> Withdraw<T> {
    // In a thread that is ending there is no place for the value: the numbers go as a sequence.
    let _ = into.try_with(|cell| cell.set(Some(value)));
    Withdraw { from: into, not_send: PhantomData }
}

/// Offers a buffer's memory to the codec for as long as the guard is there.
pub(crate) fn offer(segment: Segment, kind: ElementKind) -> Withdraw<Offer> {
    put(&OFFERED, Offer { segment, kind })
}

/// The offer of the buffer that calls itself [`BUFFER`] right now.
pub(super) fn take_offer() -> Option<Offer> {
    OFFERED.try_with(Cell::take).ok().flatten()
}

/// The codec's offer for the buffer that is asked to visit a newtype struct right now.
pub(crate) fn take_given() -> Option<Given> {
    GIVEN.try_with(Cell::take).ok().flatten()
}

// ---- The record in the body: kind, 0 or the segment's number from 1, and the bytes if 0 ----

const RECORD: usize = 5;

/// Enters a buffer: gives the record, and the bytes that belong behind it.
pub(super) fn enter(
    offer: Offer,
    segments: &mut Vec<Segment>,
) -> Result<([u8; RECORD], Option<Segment>), Error> {
    let Offer { segment, kind } = offer;
    let (place, inline) = if segment.len() < INLINE {
        (0, Some(segment))
    } else {
        let earlier = segments.len().saturating_sub(LOOK_BACK);
        let known = segments[earlier..].iter().position(|known| known.is(&segment));
        let index = match known {
            Some(offset) => earlier + offset,
            None => {
                segments.push(segment);
                segments.len() - 1
            }
        };
        // 0 stands for numbers that are in the record.
        let place = u32::try_from(index + 1).map_err(|_| Error::new("too many buffers"))?;
        (place, None)
    };
    let [a, b, c, d] = place.to_le_bytes();
    Ok(([kind as u8, a, b, c, d], inline))
}

/// A record that was read.
pub(super) struct Entered<'de> {
    pub(super) kind: ElementKind,
    segment: Option<Segment>,
    inline: &'de [u8],
}

impl<'de> Entered<'de> {
    pub(super) fn parse(record: &'de [u8], segments: &mut Received) -> Result<Self, Error> {
        let malformed = || Error::new("a buffer is malformed");
        let (record, inline) = record.split_first_chunk::<RECORD>().ok_or_else(malformed)?;
        let [kind, place @ ..] = *record;
        let kind = ElementKind::from_byte(kind).ok_or_else(malformed)?;
        let place = u32::from_le_bytes(place);
        let segment = match place.checked_sub(1) {
            None => None,
            Some(index) => Some(segments.get(index)?),
        };
        if segment.is_some() && !inline.is_empty() {
            return Err(malformed());
        }
        Ok(Self { kind, segment, inline })
    }

    /// The numbers, byte by byte.
    pub(super) fn bytes(&self) -> &[u8] {
        self.segment.as_deref().unwrap_or(self.inline)
    }

    /// Gives it to the buffer that `visitor` is of.
    pub(super) fn give_to<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let withdraw = put(&GIVEN, Given { kind: self.kind, segment: self.segment });
        // A buffer takes what was given; these bytes are for one whose numbers are in the record.
        let visited = visitor.visit_newtype_struct(BorrowedBytesDeserializer::new(self.inline));
        drop(withdraw);
        visited
    }
}

/// The segments of a message that is decoded. They were numbered as they were first met, and are
/// met again in this order.
pub(super) struct Received {
    all: Vec<Segment>,
    pub(super) met: usize,
}

#[cold]
fn shared(received: Vec<ReceivedSegment>) -> Vec<Segment> {
    received.into_iter().map(Segment::from).collect()
}

impl From<Vec<ReceivedSegment>> for Received {
    #[inline]
    fn from(received: Vec<ReceivedSegment>) -> Self {
        // Most messages have none.
        let is_empty = received.is_empty();
        let all = if is_empty { Vec::new() } else { shared(received) };
        Self { all, met: 0 }
    }
}

impl Received {
    fn get(&mut self, index: u32) -> Result<Segment, Error> {
        let index = index as usize;
        match self.all.get(index) {
            // One that was met, or the next: none is left out, so `are_all_met` needs no list.
            Some(segment) if index <= self.met => {
                self.met = self.met.max(index + 1);
                Ok(segment.clone())
            }
            _ => Err(Error::new("a buffer has no segment")),
        }
    }

    pub(super) fn are_all_met(&self) -> bool {
        self.met == self.all.len()
    }
}
