use rmp::Marker;
use rmp::encode::{self, ValueWriteError};
use serde_core::Serialize;
use serde_core::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{BUFFERED, SOME};
use crate::codec::body::Body;
use crate::codec::error::Error;
use crate::codec::segment::{self, BUFFER};
use crate::codec::{DEPTH, Segment};

/// Writes one value.
pub(in crate::codec) struct Serializer<'a> {
    body: &'a mut Body,
    segments: &'a mut Vec<Segment>,
    /// How many more levels there may be.
    depth: usize,
}

/// A body can only be out of memory.
fn done<T, E>(written: Result<T, E>) -> Result<(), Error> {
    written.map(|_| ()).map_err(|_| Error::no_memory())
}

fn length(len: usize) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| Error::new("it is too long for the named format"))
}

type Header = fn(&mut Body, u32) -> Result<Marker, ValueWriteError>;

const ARRAY: Header = encode::write_array_len;
const MAP: Header = encode::write_map_len;

impl<'a> Serializer<'a> {
    pub(in crate::codec) fn new(body: &'a mut Body, segments: &'a mut Vec<Segment>) -> Self {
        Self { body, segments, depth: DEPTH }
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.depth = self.depth.checked_sub(1).ok_or_else(Error::too_deep)?;
        Ok(())
    }

    fn inner<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.depth += 1;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        length(text.len())?;
        done(encode::write_str(self.body, text))
    }

    /// A map from the variant's name to what follows, which is a level of its own.
    fn variant(&mut self, name: &str) -> Result<(), Error> {
        self.enter()?;
        done(encode::write_map_len(self.body, 1))?;
        self.text(name)
    }

    /// The parts of a value, which may turn out to be more or less than `len`.
    fn parts(&mut self, header: Header, len: Option<usize>) -> Result<Parts<'_, 'a>, Error> {
        self.enter()?;
        let start = self.body.len();
        done(header(self.body, length(len.unwrap_or(0))?))?;
        let end = self.body.len();
        Ok(Parts { serializer: self, header, start, end, announced: len, count: 0, levels: 1 })
    }

    fn buffer(&mut self, offer: segment::Offer) -> Result<(), Error> {
        let (record, inline) = segment::enter(offer, self.segments)?;
        let inline = inline.as_deref().unwrap_or_default();
        let len = length(record.len() + inline.len())?;
        done(encode::write_ext_meta(self.body, len, BUFFERED))?;
        self.body.append(&record)?;
        self.body.append(inline)
    }
}

macro_rules! numbers {
    ($($serialize:ident($type:ty) $write:ident;)*) => {$(
        fn $serialize(self, number: $type) -> Result<(), Error> {
            done(encode::$write(self.body, number.into()))
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
        true
    }

    numbers! {
        serialize_bool(bool) write_bool;
        serialize_i8(i8) write_sint;
        serialize_i16(i16) write_sint;
        serialize_i32(i32) write_sint;
        serialize_i64(i64) write_sint;
        serialize_u8(u8) write_uint;
        serialize_u16(u16) write_uint;
        serialize_u32(u32) write_uint;
        serialize_u64(u64) write_uint;
        serialize_f32(f32) write_f32;
        serialize_f64(f64) write_f64;
    }

    fn serialize_i128(self, number: i128) -> Result<(), Error> {
        self.serialize_bytes(&number.to_be_bytes())
    }

    fn serialize_u128(self, number: u128) -> Result<(), Error> {
        self.serialize_bytes(&number.to_be_bytes())
    }

    fn serialize_char(self, char: char) -> Result<(), Error> {
        self.text(char.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        self.text(text)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        length(bytes.len())?;
        done(encode::write_bin(self.body, bytes))
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        const NIL: u8 = Marker::Null.to_u8();
        const SOMES: [u8; 2] = [Marker::FixExt1.to_u8(), SOME as u8];

        let start = self.body.len();
        self.inner(value)?;
        let somes = match &self.body[start..] {
            [NIL] => 1_u8,
            [marker, kind, somes] if [*marker, *kind] == SOMES => {
                somes.checked_add(1).ok_or_else(Error::too_deep)?
            }
            _ => return Ok(()),
        };
        self.body.as_vec().truncate(start);
        self.body.append(&[SOMES[0], SOMES[1], somes])
    }

    fn serialize_unit(self) -> Result<(), Error> {
        done(encode::write_nil(self.body))
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        done(encode::write_array_len(self.body, 0))
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if name == BUFFER {
            if let Some(offer) = segment::take_offer() {
                return self.buffer(offer);
            }
        }
        self.inner(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth += 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'s, 'a>, Error> {
        self.parts(ARRAY, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Parts<'s, 'a>, Error> {
        self.parts(ARRAY, Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Parts<'s, 'a>, Error> {
        self.parts(ARRAY, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'s, 'a>, Error> {
        self.variant(variant)?;
        Ok(Parts { levels: 2, ..self.parts(ARRAY, Some(len))? })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'s, 'a>, Error> {
        self.parts(MAP, len)
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Parts<'s, 'a>, Error> {
        self.parts(MAP, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts<'s, 'a>, Error> {
        self.variant(variant)?;
        Ok(Parts { levels: 2, ..self.parts(MAP, Some(len))? })
    }
}

/// The parts of a value that is being written.
pub(in crate::codec) struct Parts<'s, 'a> {
    serializer: &'s mut Serializer<'a>,
    /// What was written, or is to be, from `start` to `end`.
    header: Header,
    start: usize,
    end: usize,
    announced: Option<usize>,
    count: usize,
    /// How many levels end with it.
    levels: usize,
}

impl Parts<'_, '_> {
    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        self.count += 1;
        item.serialize(&mut *self.serializer)
    }

    fn end(self) -> Result<(), Error> {
        let Self { serializer, header, start, end, levels, .. } = self;
        if self.announced != Some(self.count) {
            let mut real = Body::default();
            done(header(&mut real, length(self.count)?))?;
            serializer.body.reserve(real.len())?;
            serializer.body.as_vec().splice(start..end, real.into_vec());
        }
        serializer.depth += levels;
        Ok(())
    }
}

impl SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.item(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.serializer)
    }

    fn end(self) -> Result<(), Error> {
        self.end()
    }
}

macro_rules! items {
    ($($trait:ident $serialize:ident,)*) => {$(
        impl $trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $serialize<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
                self.item(item)
            }

            fn end(self) -> Result<(), Error> {
                self.end()
            }
        }
    )*};
}

items! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! fields {
    ($($trait:ident,)*) => {$(
        impl $trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                field: &T,
            ) -> Result<(), Error> {
                self.serializer.text(name)?;
                self.item(field)
            }

            fn end(self) -> Result<(), Error> {
                self.end()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }
