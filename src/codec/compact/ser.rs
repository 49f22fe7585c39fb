use serde_core::Serialize;
use serde_core::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use crate::codec::body::Body;
use crate::codec::error::Error;
use crate::codec::form::{Form, Leaf};
use crate::codec::known::{Known, Place, Turns, Way};
use crate::codec::segment::{self, BUFFER};
use crate::codec::{DEPTH, Segment};

/// Writes one value.
pub(in crate::codec) struct Serializer<'a> {
    body: &'a mut Body,
    segments: &'a mut Vec<Segment>,
    /// Of what was written last.
    form: Form,
    turns: Turns,
    /// How many more levels there may be.
    depth: usize,
}

impl<'a> Serializer<'a> {
    pub(in crate::codec) fn new(
        body: &'a mut Body,
        segments: &'a mut Vec<Segment>,
        known: &'static Known,
    ) -> Self {
        Self { body, segments, form: Form::default(), turns: Turns::new(known), depth: DEPTH }
    }

    /// The form of the value that was written, and those of its turns that are to be checked.
    pub(in crate::codec) fn finish(self) -> (Form, Vec<u16>) {
        (self.form, self.turns.unchecked())
    }

    #[inline]
    fn put_len(&mut self, len: usize) -> Result<(), Error> {
        self.put_varint(len as u64)
    }

    /// Seven bits to a byte, the lowest first; a byte that is followed by another one is marked.
    #[inline]
    fn put_varint(&mut self, number: u64) -> Result<(), Error> {
        if number < 0x80 {
            return self.body.push(number as u8);
        }
        self.put_several(number)
    }

    fn put_several(&mut self, mut number: u64) -> Result<(), Error> {
        const MOST: usize = u64::BITS.div_ceil(7) as usize;
        let start = self.body.len();
        // Room for as many as there can be, all at once.
        self.body.append(&[0; MOST])?;
        let bytes = self.body.as_vec();
        let mut at = start;
        while number >= 0x80 {
            bytes[at] = number as u8 | 0x80;
            number >>= 7;
            at += 1;
        }
        bytes[at] = number as u8;
        bytes.truncate(at + 1);
        Ok(())
    }

    fn put_long_varint(&mut self, mut number: u128) -> Result<(), Error> {
        while number >= 0x80 {
            self.body.push(number as u8 | 0x80)?;
            number >>= 7;
        }
        self.body.push(number as u8)
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.put_len(bytes.len())?;
        self.body.append(bytes)
    }

    /// The parts of a value, `len` of them.
    #[inline]
    fn parts(&mut self, what: Leaf, place: Place, len: usize) -> Result<Parts<'_, 'a>, Error> {
        let depth = self.depth;
        self.depth = depth.checked_sub(1).ok_or_else(Error::too_deep)?;
        let outer = std::mem::replace(&mut self.turns.place, place);
        let form = Form::of(what);
        Ok(Parts { serializer: self, place, left: len, form, variant: None, outer, depth })
    }

    #[inline]
    fn items(&mut self, what: Leaf, len: Option<usize>) -> Result<Parts<'_, 'a>, Error> {
        let Some(len) = len else {
            return Err(Error::new("a sequence or map does not know its length"));
        };
        self.put_len(len)?;
        if len > 0 {
            self.turns.take(Way::Items);
        }
        self.parts(what, self.turns.place.element(0), len)
    }

    /// Gives the place that is the variant's.
    #[inline]
    fn variant(&mut self, name: &str, index: u32, variant: &str) -> Result<Place, Error> {
        self.put_varint(index.into())?;
        Ok(self.turns.take_variant(name, variant))
    }

    /// A value inside of another one.
    #[inline]
    fn inner<T: Serialize + ?Sized>(&mut self, place: Place, value: &T) -> Result<(), Error> {
        let depth = self.depth;
        self.depth = depth.checked_sub(1).ok_or_else(Error::too_deep)?;
        let outer = std::mem::replace(&mut self.turns.place, place);
        value.serialize(&mut *self)?;
        self.turns.place = outer;
        self.depth = depth;
        Ok(())
    }

    fn buffer(&mut self, offer: segment::Offer) -> Result<(), Error> {
        self.form = Form::of(Leaf::Buffer);
        let (record, inline) = segment::enter(offer, self.segments)?;
        let inline = inline.as_deref().unwrap_or_default();
        self.put_len(record.len() + inline.len())?;
        self.body.append(&record)?;
        self.body.append(inline)
    }
}

/// The sign is the lowest bit.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn long_zigzag(number: i128) -> u128 {
    ((number << 1) ^ (number >> 127)) as u128
}

macro_rules! leaves {
    ($($serialize:ident($type:ty) $leaf:ident: |$this:ident, $value:ident| $write:expr;)*) => {$(
        #[inline]
        fn $serialize($this, $value: $type) -> Result<(), Error> {
            $this.form = Form::of(Leaf::$leaf);
            $write
        }
    )*};
}

impl<'s, 'a> ser::Serializer for &'s mut Serializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'s, 'a>;
    type SerializeTuple = Parts<'s, 'a>;
    type SerializeTupleStruct = Parts<'s, 'a>;
    type SerializeTupleVariant = Parts<'s, 'a>;
    type SerializeMap = Parts<'s, 'a>;
    type SerializeStruct = Parts<'s, 'a>;
    type SerializeStructVariant = Parts<'s, 'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        serialize_bool(bool) Bool: |self, is| self.body.push(is.into());
        serialize_i8(i8) I8: |self, number| self.body.append(&number.to_le_bytes());
        serialize_i16(i16) I16: |self, number| self.put_varint(zigzag(number.into()));
        serialize_i32(i32) I32: |self, number| self.put_varint(zigzag(number.into()));
        serialize_i64(i64) I64: |self, number| self.put_varint(zigzag(number));
        serialize_i128(i128) I128: |self, number| self.put_long_varint(long_zigzag(number));
        serialize_u8(u8) U8: |self, number| self.body.push(number);
        serialize_u16(u16) U16: |self, number| self.put_varint(number.into());
        serialize_u32(u32) U32: |self, number| self.put_varint(number.into());
        serialize_u64(u64) U64: |self, number| self.put_varint(number);
        serialize_u128(u128) U128: |self, number| self.put_long_varint(number);
        serialize_f32(f32) F32: |self, number| self.body.append(&number.to_le_bytes());
        serialize_f64(f64) F64: |self, number| self.body.append(&number.to_le_bytes());
        serialize_char(char) Char: |self, c| self.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        serialize_str(&str) Str: |self, text| self.put_slice(text.as_bytes());
        serialize_bytes(&[u8]) Bytes: |self, bytes| self.put_slice(bytes);
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.turns.take(Way::None);
        self.form = Form::of(Leaf::None);
        self.body.push(0)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.turns.take(Way::Some);
        self.body.push(1)?;
        self.inner(self.turns.place, value)?;
        self.form = Form::of(Leaf::Some).around(self.form);
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.form = Form::of(Leaf::Unit);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.form = Form::of(Leaf::UnitStruct);
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.variant(name, index, variant)?;
        self.form = Form::variant(variant);
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if name == BUFFER {
            return match segment::take_offer() {
                Some(offer) => self.buffer(offer),
                None => Err(Error::new("a buffer has nothing to offer")),
            };
        }
        self.inner(Place::of(name), value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let place = self.variant(name, index, variant)?;
        self.inner(place, value)?;
        self.form = Form::variant(variant).around(self.form);
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'s, 'a>, Error> {
        self.items(Leaf::Seq, len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Parts<'s, 'a>, Error> {
        self.parts(Leaf::Tuple, self.turns.place, len)
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Parts<'s, 'a>, Error> {
        self.parts(Leaf::Tuple, self.turns.place, len)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'s, 'a>, Error> {
        let place = self.variant(name, index, variant)?;
        let parts = self.parts(Leaf::Tuple, place, len)?;
        Ok(Parts { variant: Some(variant), ..parts })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'s, 'a>, Error> {
        self.items(Leaf::Map, len)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Parts<'s, 'a>, Error> {
        self.parts(Leaf::Struct, Place::of(name), len)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'s, 'a>, Error> {
        let place = self.variant(name, index, variant)?;
        let parts = self.parts(Leaf::Struct, place, len)?;
        Ok(Parts { variant: Some(variant), ..parts })
    }
}

/// The parts of a value that is being written.
pub(in crate::codec) struct Parts<'s, 'a> {
    serializer: &'s mut Serializer<'a>,
    place: Place,
    /// How many are still to come; wraps around if there are too many.
    left: usize,
    form: Form,
    /// The variant whose parts they are.
    variant: Option<&'static str>,
    /// The serializer's, for afterwards.
    outer: Place,
    depth: usize,
}

impl Parts<'_, '_> {
    #[inline]
    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        item.serialize(&mut *self.serializer)?;
        self.form.push(self.serializer.form);
        Ok(())
    }

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Error> {
        self.left = self.left.wrapping_sub(1);
        self.serializer.turns.place = self.place.element(self.left);
        self.item(element)
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, field: &T) -> Result<(), Error> {
        self.left = self.left.wrapping_sub(1);
        self.serializer.turns.place = self.place.field(name);
        field.serialize(&mut *self.serializer)?;
        self.form.push(Form::field(name, self.serializer.form));
        Ok(())
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        if self.left != 0 {
            return Err(Error::new("a value does not have as many parts as it announced"));
        }
        self.serializer.form = match self.variant {
            None => self.form,
            Some(name) => Form::variant(name).around(self.form),
        };
        self.serializer.turns.place = self.outer;
        self.serializer.depth = self.depth;
        Ok(())
    }
}

#[cold]
fn skipped() -> Error {
    Error::new("a field is left out, as with `skip_serializing_if`")
}

impl SerializeSeq for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        self.left = self.left.wrapping_sub(1);
        self.item(item)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.end()
    }
}

impl SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.left = self.left.wrapping_sub(1);
        self.item(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.end()
    }
}

macro_rules! elements {
    ($($trait:ident $serialize:ident,)*) => {$(
        impl $trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $serialize<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Error> {
                self.element(element)
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.end()
            }
        }
    )*};
}

elements! {
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! fields {
    ($($trait:ident,)*) => {$(
        impl $trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                field: &T,
            ) -> Result<(), Error> {
                self.field(name, field)
            }

            fn skip_field(&mut self, _name: &'static str) -> Result<(), Error> {
                Err(skipped())
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.end()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }
