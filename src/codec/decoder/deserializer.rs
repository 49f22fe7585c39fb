//! The decoder as a deserializer of serde's. At the end that reads.

use serde_core::de::{self, Visitor};
use serde_core::forward_to_deserialize_any;

use super::access::{ByName, Fields, Items, Variant};
use super::{Decoder, Names, Shape};
use crate::codec::error::Error;
use crate::codec::handle::{Foreign, HANDLE};
use crate::codec::segment::{BUFFER, ElementKind, visit_numbers};
use crate::codec::{DEPTH, tag};

impl<'de> Decoder<'de> {
    /// Runs `f` a level down.
    #[inline]
    fn inner<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let depth = self.depth;
        let Some(inner) = depth.checked_sub(1) else { return self.fail(Error::too_deep()) };
        self.depth = inner;
        let value = f(self);
        self.depth = depth;
        value
    }

    #[inline]
    fn sequence<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.inner(|from| visitor.visit_seq(Items { from, left: len }))
    }

    fn map<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        // Keys and values.
        let left = len.saturating_mul(2);
        self.inner(|from| visitor.visit_map(Items { from, left }))
    }

    /// Reads a struct for a type that has fields of these names.
    #[inline]
    fn fields<V: Visitor<'de>>(
        &mut self,
        shape: usize,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.by_name || !self.shapes[shape].is_of(fields) {
            return self.by_name(shape, visitor);
        }
        self.has_ordered = true;
        let left = self.shapes[shape].count;
        self.inner(|from| visitor.visit_seq(Fields { from, left }))
    }

    fn by_name<V: Visitor<'de>>(&mut self, shape: usize, visitor: V) -> Result<V::Value, Error> {
        let Shape { lengths, names, count, .. } = self.shapes[shape];
        let names = Names { lengths: lengths.iter(), names };
        self.inner(|from| visitor.visit_map(ByName { from, names, left: count }))
    }

    fn variant_with_content<V: Visitor<'de>>(
        &mut self,
        name: Option<&'de str>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.inner(|from| visitor.visit_enum(Variant { from, name, has_content: true }))
    }

    /// Shows the value that begins with a tag that was read.
    #[inline(never)]
    fn show<V: Visitor<'de>>(&mut self, tag: u8, visitor: V) -> Result<V::Value, Error> {
        match tag {
            ..0x40 => visitor.visit_u64(tag.into()),
            0x40..0x60 | tag::STRING => {
                let len = self.argument(tag, tag::SHORT_STRING)?;
                visitor.visit_borrowed_str(self.string(len)?)
            }
            0x60..0x70 | tag::SEQUENCE => {
                let len = self.argument(tag, tag::SHORT_SEQUENCE)?;
                self.sequence(len, visitor)
            }
            0x70..0x90 | tag::STRUCT => {
                let shape = self.shape(tag, tag::NEAR_STRUCT)?;
                self.by_name(shape, visitor)
            }
            0x90..0xa0 | tag::UNIT_VARIANT => {
                let shape = self.shape(tag, tag::NEAR_UNIT_VARIANT)?;
                visitor.visit_borrowed_str(self.variant(shape)?)
            }
            0xa0..0xb0 | tag::VARIANT => {
                let shape = self.shape(tag, tag::NEAR_VARIANT)?;
                self.by_name(shape, visitor)
            }
            0xb0..0xc0 => visitor.visit_i64(-1 - i64::from(tag - tag::NEGATIVE.start)),
            tag::NIL => visitor.visit_unit(),
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag::SOME => self.show_some(visitor),
            0xc4..0xc8 => visitor.visit_u64(self.number(tag - tag::UNSIGNED.start)?),
            0xc8..0xcc => visitor.visit_i64(self.signed(tag - tag::SIGNED.start)?),
            tag::U128 => visitor.visit_u128(u128::from_le_bytes(self.array()?)),
            tag::I128 => visitor.visit_i128(i128::from_le_bytes(self.array()?)),
            tag::F32 => visitor.visit_f32(f32::from_le_bytes(self.array()?)),
            tag::F64 => visitor.visit_f64(f64::from_le_bytes(self.array()?)),
            tag::BYTES => {
                let len = self.len()?;
                visitor.visit_borrowed_bytes(self.slice(len)?)
            }
            tag::MAP => {
                let len = self.len()?;
                self.map(len, visitor)
            }
            tag::BUFFER => self.buffer()?.show_to(visitor),
            tag::HANDLE => Err(Error::new(Foreign("handle").to_string())),
            _ => {
                let kind = self.kind(tag)?;
                let run = self.run(kind)?;
                self.inner(|_| visit_numbers(kind, run, visitor))
            }
        }
    }

    /// `Some` of a value is shown as the value, unless that is nothing itself.
    fn show_some<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let rest = self.bytes.as_slice();
        // All at once, so that they take no stack.
        let more = rest.iter().take_while(|tag| **tag == tag::SOME).count();
        if more > DEPTH {
            return self.fail(Error::too_deep());
        }
        if rest.get(more) == Some(&tag::NIL) {
            return self.inner(|value| visitor.visit_some(value));
        }
        self.bytes = rest[more..].iter();
        let tag = self.byte()?;
        self.inner(|value| value.show(tag, visitor))
    }
}

/// Methods for the values that types mostly ask for; any other value is shown as it is.
macro_rules! expected {
    ($($deserialize:ident |$from:ident, $tag:ident, $visitor:ident| {
        $($pattern:pat => $visit:expr,)*
    })*) => {$(
        #[inline]
        fn $deserialize<V: Visitor<'de>>(self, $visitor: V) -> Result<V::Value, Error> {
            let $from = self;
            let $tag = $from.byte()?;
            match $tag {
                $($pattern => $visit,)*
                _ => $from.show($tag, $visitor),
            }
        }
    )*};
}

macro_rules! numbers {
    ($($deserialize:ident)*) => {
        expected! {$(
            $deserialize |from, tag, visitor| {
                ..0x40 => visitor.visit_u64(tag.into()),
                0xc4..0xc8 => visitor.visit_u64(from.number(tag - tag::UNSIGNED.start)?),
            }
        )*}
    };
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        true
    }

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i8
        deserialize_i16 deserialize_i32 deserialize_i64
    }

    expected! {
        deserialize_bool |from, tag, visitor| {
            tag::FALSE | tag::TRUE => visitor.visit_bool(tag == tag::TRUE),
        }
        deserialize_f64 |from, tag, visitor| {
            tag::F64 => visitor.visit_f64(f64::from_le_bytes(from.array()?)),
        }
        deserialize_str |from, tag, visitor| {
            0x40..0x60 => visitor.visit_borrowed_str(from.string((tag - 0x40).into())?),
        }
        deserialize_seq |from, tag, visitor| {
            0x60..0x70 => from.sequence((tag - 0x60).into(), visitor),
            // For types that take bytes item by item.
            tag::BYTES => {
                let len = from.len()?;
                visit_numbers(ElementKind::U8, from.slice(len)?, visitor)
            },
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let tag = self.byte()?;
        self.show(tag, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit map identifier
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            // Not number by number.
            tag::BUFFER => self.buffer().map(drop)?,
            tag::HANDLE => {
                self.give_descriptors().map(drop)?;
                return self.inner(|value| value.deserialize_ignored_any(visitor));
            }
            tag if tag::RUN.contains(&tag) => {
                let kind = self.kind(tag)?;
                self.run(kind).map(drop)?;
            }
            tag => return self.show(tag, visitor),
        }
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let tag = self.peek()?;
        // As with other formats, a value need not have been an option when it was written.
        if let tag::NIL | tag::SOME = tag {
            self.bytes.next();
        }
        if tag == tag::NIL {
            return visitor.visit_none();
        }
        self.inner(|value| visitor.visit_some(value))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        // An ordinary sequence will do as well.
        if name == BUFFER && self.peek()? == tag::BUFFER {
            self.bytes.next();
            return self.buffer()?.give_to(visitor);
        }
        if name == HANDLE && self.peek()? == tag::HANDLE {
            self.bytes.next();
            let given = self.give_descriptors()?;
            let visited = self.inner(|value| visitor.visit_newtype_struct(value));
            drop(given);
            return visited;
        }
        self.inner(|value| visitor.visit_newtype_struct(value))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.byte()? {
            tag @ (0x70..0x90 | tag::STRUCT) => {
                let shape = self.shape(tag, tag::NEAR_STRUCT)?;
                self.fields(shape, fields, visitor)
            }
            tag => self.show(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let start = self.bytes.clone();
        let mut tag = self.byte()?;
        // An enum asks for no option, and sees the value in it.
        while tag == tag::SOME {
            tag = self.byte()?;
        }
        match tag {
            0x90..0xa0 | tag::UNIT_VARIANT => {
                let shape = self.shape(tag, tag::NEAR_UNIT_VARIANT)?;
                let name = Some(self.variant(shape)?);
                visitor.visit_enum(Variant { from: self, name, has_content: false })
            }
            0xa0..0xb0 | tag::VARIANT => {
                let shape = self.shape(tag, tag::NEAR_VARIANT)?;
                let name = Some(self.variant(shape)?);
                self.variant_with_content(name, visitor)
            }
            // As with other formats, it may have been written as something else.
            0x70..0x90 | tag::STRUCT => {
                let shape = self.shape(tag, tag::NEAR_STRUCT)?;
                let name = Some(self.variant(shape)?);
                self.variant_with_content(name, visitor)
            }
            tag::MAP => match self.len()? {
                1 => self.variant_with_content(None, visitor),
                _ => self.fail(Error::malformed()),
            },
            _ => {
                self.bytes = start;
                visitor.visit_enum(Variant { from: self, name: None, has_content: false })
            }
        }
    }
}
