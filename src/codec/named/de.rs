use rmp::Marker;
use serde_core::de::value::SeqDeserializer;
use serde_core::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_core::forward_to_deserialize_any;

use super::{BUFFERED, SOME};
use crate::codec::DEPTH;
use crate::codec::error::Error;
use crate::codec::segment::{BUFFER, Entered, Received, visit_numbers};

/// Reads values.
pub(in crate::codec) struct Deserializer<'de> {
    bytes: &'de [u8],
    segments: Received,
    /// How many more levels there may be.
    depth: usize,
    /// A value was left in its middle.
    is_broken: bool,
}

impl<'de> Deserializer<'de> {
    pub(in crate::codec) fn new(bytes: &'de [u8], segments: Received) -> Self {
        Self { bytes, segments, depth: DEPTH, is_broken: false }
    }

    pub(in crate::codec) fn value<T: Deserialize<'de>>(&mut self) -> Result<T, Error> {
        self.depth = DEPTH;
        T::deserialize(self)
    }

    pub(in crate::codec) fn finish(self) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::broken_off());
        }
        if !self.bytes.is_empty() || !self.segments.are_all_met() {
            return Err(Error::left_over());
        }
        Ok(())
    }

    /// An error after which the next value can't be found.
    #[cold]
    fn fail<T>(&mut self, error: Error) -> Result<T, Error> {
        self.is_broken = true;
        Err(error)
    }

    fn peek(&mut self) -> Result<Marker, Error> {
        match self.bytes.first() {
            Some(byte) => Ok(Marker::from_u8(*byte)),
            None => self.fail(Error::too_short()),
        }
    }

    fn marker(&mut self) -> Result<Marker, Error> {
        let [byte] = self.take()?;
        Ok(Marker::from_u8(byte))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((taken, rest)) = self.bytes.split_first_chunk() else {
            return self.fail(Error::too_short());
        };
        self.bytes = rest;
        Ok(*taken)
    }

    /// What a marker says besides its kind: a number, or how long something is. Big endian.
    fn unsigned(&mut self, marker: Marker) -> Result<u64, Error> {
        use Marker::*;
        Ok(match marker {
            FixPos(number) => number.into(),
            FixStr(len) | FixArray(len) | FixMap(len) => len.into(),
            FixExt1 => 1,
            FixExt2 => 2,
            FixExt4 => 4,
            FixExt8 => 8,
            FixExt16 => 16,
            U8 | Str8 | Bin8 | Ext8 => u8::from_be_bytes(self.take()?).into(),
            U16 | Str16 | Bin16 | Ext16 | Array16 | Map16 => {
                u16::from_be_bytes(self.take()?).into()
            }
            U32 | Str32 | Bin32 | Ext32 | Array32 | Map32 => {
                u32::from_be_bytes(self.take()?).into()
            }
            U64 => u64::from_be_bytes(self.take()?),
            _ => return Err(Error::malformed()),
        })
    }

    fn signed(&mut self, marker: Marker) -> Result<i64, Error> {
        Ok(match marker {
            Marker::FixNeg(number) => number.into(),
            Marker::I8 => i8::from_be_bytes(self.take()?).into(),
            Marker::I16 => i16::from_be_bytes(self.take()?).into(),
            Marker::I32 => i32::from_be_bytes(self.take()?).into(),
            Marker::I64 => i64::from_be_bytes(self.take()?),
            _ => return Err(Error::malformed()),
        })
    }

    fn len(&mut self, marker: Marker) -> Result<usize, Error> {
        usize::try_from(self.unsigned(marker)?).map_err(|_| Error::malformed())
    }

    fn slice(&mut self, len: usize) -> Result<&'de [u8], Error> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return self.fail(Error::too_short());
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn text(&mut self, marker: Marker) -> Result<&'de str, Error> {
        let len = self.len(marker)?;
        std::str::from_utf8(self.slice(len)?).map_err(|_| Error::malformed())
    }

    fn extension(&mut self, marker: Marker) -> Result<Extension<'de>, Error> {
        let len = self.len(marker)?;
        let kind = i8::from_be_bytes(self.take()?);
        match (kind, self.slice(len)?) {
            (SOME, &[somes]) if somes > 0 => Ok(Extension::Somes(Somes(somes))),
            (BUFFERED, record) => {
                Ok(Extension::Buffer(Entered::parse(record, &mut self.segments)?))
            }
            _ => Err(Error::malformed()),
        }
    }

    /// A level down.
    fn inner<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let depth = self.depth;
        let Some(inner) = depth.checked_sub(1) else { return self.fail(Error::too_deep()) };
        self.depth = inner;
        let value = f(self);
        self.depth = depth;
        value
    }

    fn array<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.inner(|deserializer| visitor.visit_seq(Parts { deserializer, left: len }))
    }

    fn map<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.inner(|deserializer| visitor.visit_map(Parts { deserializer, left: len }))
    }

    /// What begins with a marker that was read.
    fn show<V: Visitor<'de>>(&mut self, marker: Marker, visitor: V) -> Result<V::Value, Error> {
        use Marker::*;
        match marker {
            Null => visitor.visit_unit(),
            False => visitor.visit_bool(false),
            True => visitor.visit_bool(true),
            FixPos(_) | U8 | U16 | U32 | U64 => visitor.visit_u64(self.unsigned(marker)?),
            FixNeg(_) | I8 | I16 | I32 | I64 => visitor.visit_i64(self.signed(marker)?),
            F32 => visitor.visit_f32(f32::from_be_bytes(self.take()?)),
            F64 => visitor.visit_f64(f64::from_be_bytes(self.take()?)),
            FixStr(_) | Str8 | Str16 | Str32 => visitor.visit_borrowed_str(self.text(marker)?),
            Bin8 | Bin16 | Bin32 => {
                let len = self.len(marker)?;
                visitor.visit_borrowed_bytes(self.slice(len)?)
            }
            FixArray(_) | Array16 | Array32 => {
                let len = self.len(marker)?;
                self.array(len, visitor)
            }
            FixMap(_) | Map16 | Map32 => {
                let len = self.len(marker)?;
                self.map(len, visitor)
            }
            FixExt1 | FixExt2 | FixExt4 | FixExt8 | FixExt16 | Ext8 | Ext16 | Ext32 => {
                match self.extension(marker)? {
                    Extension::Somes(somes) => somes.show(visitor),
                    Extension::Buffer(buffer) => {
                        visit_numbers(buffer.kind, buffer.bytes(), visitor)
                    }
                }
            }
            Reserved => self.fail(Error::malformed()),
        }
    }

    /// For those who take bytes item by item.
    fn sequence<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.marker()? {
            marker @ (Marker::Bin8 | Marker::Bin16 | Marker::Bin32) => {
                let len = self.len(marker)?;
                let bytes = self.slice(len)?.iter().copied();
                visitor.visit_seq(SeqDeserializer::<_, Error>::new(bytes))
            }
            marker => self.show(marker, visitor),
        }
    }

    /// The bytes of a number of 128 bits, or what else is there instead.
    fn long<V: Visitor<'de>>(
        &mut self,
        visitor: V,
        visit: impl FnOnce(V, [u8; 16]) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        match self.marker()? {
            marker @ Marker::Bin8 => match self.unsigned(marker)? {
                16 => visit(visitor, self.take()?),
                _ => Err(Error::malformed()),
            },
            marker => self.show(marker, visitor),
        }
    }
}

enum Extension<'de> {
    Somes(Somes),
    Buffer(Entered<'de>),
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        true
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let marker = self.marker()?;
        self.show(marker, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit map
        identifier ignored_any
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.long(visitor, |visitor, bytes| visitor.visit_i128(i128::from_be_bytes(bytes)))
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.long(visitor, |visitor, bytes| visitor.visit_u128(u128::from_be_bytes(bytes)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek()? {
            Marker::Null => {
                self.bytes = &self.bytes[1..];
                visitor.visit_none()
            }
            // `Some` of nothing, which is shown as such.
            Marker::FixExt1 => self.deserialize_any(visitor),
            _ => self.inner(|value| visitor.visit_some(value)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.marker()? {
            Marker::FixArray(0) => visitor.visit_unit(),
            marker => self.show(marker, visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == BUFFER {
            use Marker::*;
            // An ordinary sequence will do as well.
            if let marker @ (FixExt8 | FixExt16 | Ext8 | Ext16 | Ext32) = self.peek()? {
                self.marker()?;
                return match self.extension(marker)? {
                    Extension::Buffer(buffer) => buffer.give_to(visitor),
                    Extension::Somes(_) => Err(Error::malformed()),
                };
            }
        }
        self.inner(|value| visitor.visit_newtype_struct(value))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.sequence(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.sequence(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.sequence(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        use Marker::*;
        match self.peek()? {
            marker @ (FixMap(_) | Map16 | Map32) => {
                self.marker()?;
                if self.len(marker)? != 1 {
                    return self.fail(Error::malformed());
                }
                let value = self.inner(|deserializer| visitor.visit_enum(Variant { deserializer }));
                // The rest of the entry may still be there.
                self.is_broken |= value.is_err();
                value
            }
            _ => visitor.visit_enum(UnitVariant { deserializer: self }),
        }
    }
}

/// Nil with so many `Some` around it.
#[derive(Clone, Copy)]
struct Somes(u8);

impl Somes {
    fn show<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.checked_sub(1) {
            Some(inner) => visitor.visit_some(Somes(inner)),
            None => visitor.visit_unit(),
        }
    }
}

impl<'de> de::Deserializer<'de> for Somes {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.show(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            0 => visitor.visit_none(),
            _ => self.show(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The parts of a value that is being read.
struct Parts<'d, 'de> {
    deserializer: &'d mut Deserializer<'de>,
    left: usize,
}

impl<'de> Parts<'_, 'de> {
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        match self.left.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.left = left;
                seed.deserialize(&mut *self.deserializer).map(Some)
            }
        }
    }

    /// Not more than there can be, since memory may be reserved for them.
    fn hint(&self) -> usize {
        self.left.min(self.deserializer.bytes.len())
    }
}

impl Drop for Parts<'_, '_> {
    fn drop(&mut self) {
        // It stopped early, or took no notice of an error.
        if self.left > 0 {
            self.deserializer.is_broken = true;
        }
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(&mut *self.deserializer)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

/// A variant with something in it.
struct Variant<'d, 'de> {
    deserializer: &'d mut Deserializer<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(&mut *self.deserializer)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Deserialize::deserialize(self.deserializer)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.deserializer)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserializer.sequence(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.deserializer, visitor)
    }
}

/// A variant's name alone.
struct UnitVariant<'d, 'de> {
    deserializer: &'d mut Deserializer<'de>,
}

impl<'de> EnumAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((seed.deserialize(&mut *self.deserializer)?, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _seed: S) -> Result<S::Value, Error> {
        Err(Error::malformed())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::malformed())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        Err(Error::malformed())
    }
}
