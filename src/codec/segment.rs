//! Buffers: their elements go beside the body, in segments, and only a record of them into it.
//!
//! A buffer meets its serialiser through serde, which knows nothing of segments. So a buffer
//! leaves an offer in a thread-local and presents itself as a newtype struct of the name
//! [`BUFFER`]. The codec knows the name, and takes the offer; any other serialiser goes on to the
//! elements, and the buffer withdraws the offer. In the other direction the codec gives. An offer
//! lasts for one call of serde's, in which no other buffer can come to speak, so calls that are
//! nested don't mix them up; guards see to it that a panic leaves nothing behind.

use std::any::{TypeId, type_name};
use std::cell::Cell;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;

use bytemuck::{AnyBitPattern, NoUninit};
use serde_core::Serialize;
use serde_core::de::value::BorrowedBytesDeserializer;
use serde_core::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_core::forward_to_deserialize_any;

use super::encoder::serializer::Serializer;
use super::error::Error;
use super::handle::Descriptor;
use super::handover::{Withdraw, put};
use crate::sys::OwnedFd;
use crate::sys::memory::{ReceivedSegment, Segment};

/// The name of a buffer as a newtype struct. No other type has such a name.
pub(crate) const BUFFER: &str = "$concurrent_futures::Buffer";

/// Buffers below this many bytes are copied into the body: a segment costs its own allocation on
/// the other side, and a part of its own in a system call.
const INLINE: usize = 4096;

/// A frame has 24 bits for their number.
const MOST_SEGMENTS: u32 = (1 << 24) - 1;

/// Clones of one buffer are sent once, if there are no more than so many other segments between
/// them.
const LOOK_BACK: usize = 8;

macro_rules! numbers {
    ($($kind:ident $number:ident $visit:ident,)*) => {
        /// The type of packed numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum ElementKind { $($kind,)* }

        impl ElementKind {
            fn of<T: 'static>() -> Option<Self> {
                let element = TypeId::of::<T>();
                $(
                    if element == TypeId::of::<$number>() {
                        return Some(Self::$kind);
                    }
                )*
                None
            }

            #[inline]
            pub(super) fn from_byte(byte: u8) -> Option<Self> {
                const ALL: &[ElementKind] = &[$(ElementKind::$kind,)*];
                ALL.get(usize::from(byte)).copied()
            }

            fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($number),)* }
            }

            /// The bytes of one number.
            #[inline]
            pub(super) fn size(self) -> usize {
                match self { $(Self::$kind => size_of::<$number>(),)* }
            }
        }

        $(
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

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    Numbers(ElementKind),
    /// Of another type, which has this digest.
    Other(u64),
}

impl Elements {
    pub(crate) fn of<T: 'static>() -> Self {
        match ElementKind::of::<T>() {
            Some(kind) => Self::Numbers(kind),
            None => Self::Other(type_digest::<T>()),
        }
    }
}

impl fmt::Display for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbers(kind) => f.write_str(kind.name()),
            Self::Other(_) => f.write_str("another type"),
        }
    }
}

/// Tells types of one program from each other, in all of its processes.
fn type_digest<T>() -> u64 {
    // Its keys are constants.
    let mut hasher = DefaultHasher::new();
    (type_name::<T>(), size_of::<T>(), align_of::<T>()).hash(&mut hasher);
    hasher.finish()
}

/// Copies elements from bytes, which may lie anywhere, so that they can't just be looked at as elements.
/// An incomplete element at the end is left out.
pub(crate) fn copy_elements<T: NoUninit + AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    if let Ok(elements) = bytemuck::try_cast_slice(bytes) {
        return elements.to_vec();
    }
    let mut elements = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    let whole = bytemuck::cast_slice_mut(&mut elements);
    whole.copy_from_slice(&bytes[..whole.len()]);
    elements
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
    elements: Elements,
}

/// The codec's offer for a buffer.
pub(crate) struct Given {
    pub(crate) elements: Elements,
    /// `None`: the elements come as bytes.
    pub(crate) segment: Option<Segment>,
}

thread_local! {
    static OFFERED: Cell<Option<Offer>> = const { Cell::new(None) };
    static GIVEN: Cell<Option<Given>> = const { Cell::new(None) };
}

/// Offers a buffer's memory to the codec for as long as the guard is there.
pub(crate) fn offer(segment: Segment, elements: Elements) -> Withdraw<Offer> {
    put(&OFFERED, Offer { segment, elements })
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

/// In place of the kind, if the elements are no numbers: their digest follows the segment's number.
const OTHER: u8 = 0xff;

const DIGEST: usize = 8;

/// The beginning of a record, up to the bytes of its elements.
pub(super) struct Record {
    bytes: [u8; RECORD + DIGEST],
    len: usize,
}

impl Record {
    fn new(elements: Elements, place: u32) -> Self {
        let (kind, digest, len) = match elements {
            Elements::Numbers(kind) => (kind as u8, 0, RECORD),
            Elements::Other(digest) => (OTHER, digest, RECORD + DIGEST),
        };
        let mut bytes = [0; RECORD + DIGEST];
        bytes[0] = kind;
        bytes[1..RECORD].copy_from_slice(&place.to_le_bytes());
        bytes[RECORD..].copy_from_slice(&digest.to_le_bytes());
        Self { bytes, len }
    }
}

impl Deref for Record {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Enters a buffer: gives the record, and the bytes that belong behind it.
pub(super) fn enter(
    offer: Offer,
    segments: &mut Vec<Segment>,
) -> Result<(Record, Option<Segment>), Error> {
    let Offer { segment, elements } = offer;
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
        let place = u32::try_from(index + 1).ok().filter(|place| *place <= MOST_SEGMENTS);
        let place = place.ok_or_else(|| Error::new("too many buffers"))?;
        (place, None)
    };
    Ok((Record::new(elements, place), inline))
}

/// A record that was read.
pub(super) struct Entered<'de> {
    pub(super) elements: Elements,
    segment: Option<Segment>,
    inline: &'de [u8],
}

impl<'de> Entered<'de> {
    pub(super) fn parse(record: &'de [u8], segments: &mut Received) -> Result<Self, Error> {
        let malformed = || Error::new("a buffer is malformed");
        let (record, inline) = record.split_first_chunk::<RECORD>().ok_or_else(malformed)?;
        let [kind, place @ ..] = *record;
        let (elements, inline) = if kind == OTHER {
            let (digest, inline) = inline.split_first_chunk().ok_or_else(malformed)?;
            (Elements::Other(u64::from_le_bytes(*digest)), inline)
        } else {
            let kind = ElementKind::from_byte(kind).ok_or_else(malformed)?;
            (Elements::Numbers(kind), inline)
        };
        let place = u32::from_le_bytes(place);
        let segment = match place.checked_sub(1) {
            None => None,
            Some(index) => Some(segments.get(index)?),
        };
        if segment.is_some() && !inline.is_empty() {
            return Err(malformed());
        }
        Ok(Self { elements, segment, inline })
    }

    /// Shows the elements to a visitor that is not a buffer's.
    pub(super) fn show_to<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Error> {
        match self.elements {
            Elements::Numbers(kind) => {
                visit_numbers(kind, self.segment.as_deref().unwrap_or(self.inline), visitor)
            }
            // Their bytes don't say what is in them.
            Elements::Other(_) => Err(Error::new(
                "a buffer of structs can only be read as one, and not within an untagged or \
                 internally tagged enum or a flattened field: use a `Vec` there",
            )),
        }
    }

    /// Gives it to the buffer that `visitor` is of.
    pub(super) fn give_to<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let withdraw = put(&GIVEN, Given { elements: self.elements, segment: self.segment });
        // A buffer takes what was given; these bytes are for one whose elements are in the record.
        let visited = visitor.visit_newtype_struct(BorrowedBytesDeserializer::new(self.inline));
        drop(withdraw);
        visited
    }
}

/// The parts of a message that came beside its body.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub(crate) segments: Vec<ReceivedSegment>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl From<Vec<ReceivedSegment>> for Attached {
    fn from(segments: Vec<ReceivedSegment>) -> Self {
        Self { segments, ..Self::default() }
    }
}

/// The segments of a message that is decoded. They were numbered as they were first met, and are
/// met again in this order. The descriptors have the numbers in which they came.
pub(crate) struct Received {
    all: Vec<Segment>,
    pub(super) met: usize,
    descriptors: Vec<Descriptor>,
}

#[cold]
fn shared(received: Vec<ReceivedSegment>) -> Vec<Segment> {
    received.into_iter().map(Segment::from).collect()
}

#[cold]
fn descriptors(received: Vec<OwnedFd>) -> Vec<Descriptor> {
    received.into_iter().map(|fd| Descriptor::new(fd.into())).collect()
}

impl From<Attached> for Received {
    #[inline]
    fn from(Attached { segments, descriptors }: Attached) -> Self {
        // Most messages have none.
        let all = if segments.is_empty() { Vec::new() } else { shared(segments) };
        let is_empty = descriptors.is_empty();
        let descriptors = if is_empty { Vec::new() } else { self::descriptors(descriptors) };
        Self { all, met: 0, descriptors }
    }
}

impl From<Vec<ReceivedSegment>> for Received {
    fn from(segments: Vec<ReceivedSegment>) -> Self {
        Attached::from(segments).into()
    }
}

impl From<(Vec<Segment>, Vec<Descriptor>)> for Received {
    fn from((all, descriptors): (Vec<Segment>, Vec<Descriptor>)) -> Self {
        Self { all, met: 0, descriptors }
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

    pub(super) fn descriptor(&self, index: usize) -> Option<Descriptor> {
        self.descriptors.get(index).cloned()
    }

    pub(super) fn are_all_met(&self) -> bool {
        self.met == self.all.len()
    }
}
