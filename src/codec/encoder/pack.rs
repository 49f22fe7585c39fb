//! Numbers of a sequence, packed many at a time. At the end that writes.
//!
//! Each number of a long vector would otherwise go through the [`Serializer`](super::serializer::Serializer),
//! whose state is in memory. Here the numbers of one kind go into a small array first.

use std::fmt::{self, Display};

use serde_core::Serialize;
use serde_core::ser::{self, Impossible};

use super::body::Body;
use crate::codec::error::Error;
use crate::codec::segment::ElementKind;

/// Number of numbers that are put together before they are appended.
const CHUNK: usize = 64;

/// Appends numbers of `kind`, without tags, until the iterator gives something else. Returns that, and
/// how many there were before it.
#[inline]
pub(super) fn pack<I: Iterator<Item: Serialize>>(
    kind: ElementKind,
    items: &mut I,
    body: &mut Body,
) -> Result<(usize, Option<I::Item>), Error> {
    match kind.size() {
        1 => pack_sized::<1, I>(kind, items, body),
        2 => pack_sized::<2, I>(kind, items, body),
        4 => pack_sized::<4, I>(kind, items, body),
        _ => pack_sized::<8, I>(kind, items, body),
    }
}

#[inline]
fn pack_sized<const N: usize, I: Iterator<Item: Serialize>>(
    kind: ElementKind,
    items: &mut I,
    body: &mut Body,
) -> Result<(usize, Option<I::Item>), Error> {
    let mut count = 0;
    loop {
        let mut chunk = [[0; N]; CHUNK];
        let (mut filled, mut other) = (0, None);
        for place in &mut chunk {
            other = items.next();
            // Nothing of an item that is refused is written, so the caller can serialise it again.
            let Some(Ok(number)) = other.as_ref().map(|item| item.serialize(Probe(kind))) else {
                break;
            };
            place.copy_from_slice(&number.to_ne_bytes()[..N]);
            filled += 1;
        }
        body.append(chunk[..filled].as_flattened())?;
        count += filled;
        if filled < CHUNK {
            return Ok((count, other));
        }
    }
}

/// Takes a number of one kind, and nothing else: gives its bytes, the rest is zero.
struct Probe(ElementKind);

/// It is something else.
#[derive(Debug)]
struct Other;

impl Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number of the kind")
    }
}

impl std::error::Error for Other {}

impl ser::Error for Other {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

macro_rules! numbers {
    ($($serialize:ident $number:ident $kind:ident,)*) => {$(
        #[inline]
        fn $serialize(self, number: $number) -> Result<u64, Other> {
            let mut bytes = [0; 8];
            bytes[..size_of::<$number>()].copy_from_slice(&number.to_ne_bytes());
            if self.0 == ElementKind::$kind { Ok(u64::from_ne_bytes(bytes)) } else { Err(Other) }
        }
    )*};
}

macro_rules! others {
    ($($serialize:ident($($argument:ty),*) -> $ok:ty;)*) => {$(
        #[inline]
        fn $serialize(self, $(_: $argument),*) -> Result<$ok, Other> {
            Err(Other)
        }
    )*};
}

type Name = &'static str;
type Parts = Impossible<u64, Other>;

impl ser::Serializer for Probe {
    type Ok = u64;
    type Error = Other;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    numbers! {
        serialize_u8 u8 U8,
        serialize_i8 i8 I8,
        serialize_u16 u16 U16,
        serialize_i16 i16 I16,
        serialize_u32 u32 U32,
        serialize_i32 i32 I32,
        serialize_u64 u64 U64,
        serialize_i64 i64 I64,
        serialize_f32 f32 F32,
        serialize_f64 f64 F64,
    }

    others! {
        serialize_bool(bool) -> u64;
        serialize_char(char) -> u64;
        serialize_str(&str) -> u64;
        serialize_bytes(&[u8]) -> u64;
        serialize_none() -> u64;
        serialize_unit() -> u64;
        serialize_unit_struct(Name) -> u64;
        serialize_unit_variant(Name, u32, Name) -> u64;
        serialize_seq(Option<usize>) -> Parts;
        serialize_tuple(usize) -> Parts;
        serialize_tuple_struct(Name, usize) -> Parts;
        serialize_tuple_variant(Name, u32, Name, usize) -> Parts;
        serialize_map(Option<usize>) -> Parts;
        serialize_struct(Name, usize) -> Parts;
        serialize_struct_variant(Name, u32, Name, usize) -> Parts;
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<u64, Other> {
        Err(Other)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<u64, Other> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<u64, Other> {
        Err(Other)
    }
}
