use serde_core::de::value::U32Deserializer;
use serde_core::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use crate::codec::DEPTH;
use crate::codec::error::Error;
use crate::codec::form::{Form, Leaf, SEAL};
use crate::codec::segment::{BUFFER, Entered, Received};

/// How much memory of a message's values may stand for no bytes at all, and how many such values
/// there may be: the items of a `Vec<()>`.
const FOR_NOTHING: usize = 1 << 20;

/// Reads the values of a message, before which is a seal.
pub(in crate::codec) struct Message<'de> {
    values: Deserializer<'de>,
    form: Form,
    /// `None`: the message is too short for it.
    seal: Option<[u8; SEAL]>,
}

impl<'de> Message<'de> {
    pub(in crate::codec) fn new(body: &'de [u8], segments: Received) -> Self {
        let (bytes, seal) = match body.split_first_chunk() {
            Some((seal, bytes)) => (bytes, Some(*seal)),
            None => (body, None),
        };
        Self { values: Deserializer::new(bytes, segments), form: Form::default(), seal }
    }

    #[inline]
    pub(in crate::codec) fn next<T: Deserialize<'de>>(&mut self) -> Result<T, Error> {
        let value = self.values.value()?;
        self.form.push(self.values.form());
        Ok(value)
    }

    #[inline]
    pub(in crate::codec) fn finish(self) -> Result<(), Error> {
        self.values.finish()?;
        match self.seal {
            Some(seal) if seal == self.form.seal() => Ok(()),
            Some(_) => Err(Error::not_as_written()),
            None => Err(Error::too_short()),
        }
    }
}

/// Reads values.
pub(in crate::codec) struct Deserializer<'de> {
    bytes: std::slice::Iter<'de, u8>,
    segments: Received,
    form: Form,
    /// How many more levels there may be.
    depth: usize,
    for_nothing: usize,
    /// The value was left in its middle.
    is_broken: bool,
}

impl<'de> Deserializer<'de> {
    pub(in crate::codec) fn new(bytes: &'de [u8], segments: Received) -> Self {
        let form = Form::default();
        let bytes = bytes.iter();
        let for_nothing = FOR_NOTHING;
        Self { bytes, segments, form, depth: DEPTH, for_nothing, is_broken: false }
    }

    #[inline]
    pub(in crate::codec) fn value<T: Deserialize<'de>>(&mut self) -> Result<T, Error> {
        self.depth = DEPTH;
        T::deserialize(self)
    }

    /// The form of what was read last.
    #[inline]
    pub(in crate::codec) fn form(&self) -> Form {
        self.form
    }

    #[inline]
    pub(in crate::codec) fn finish(self) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::broken_off());
        }
        if self.bytes.len() > 0 || !self.segments.are_all_met() {
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

    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        match self.bytes.next() {
            Some(byte) => Ok(*byte),
            None => self.fail(Error::too_short()),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((array, rest)) = self.bytes.as_slice().split_first_chunk() else {
            return self.fail(Error::too_short());
        };
        self.bytes = rest.iter();
        Ok(*array)
    }

    #[inline]
    fn len(&mut self) -> Result<usize, Error> {
        let len = u64::from_varint(self)?;
        usize::try_from(len).or_else(|_| self.fail(Error::malformed()))
    }

    /// With its length before it.
    #[inline]
    fn slice(&mut self) -> Result<&'de [u8], Error> {
        let len = self.len()?;
        let Some((slice, rest)) = self.bytes.as_slice().split_at_checked(len) else {
            return self.fail(Error::too_short());
        };
        self.bytes = rest.iter();
        Ok(slice)
    }

    #[inline]
    fn text(&mut self) -> Result<&'de str, Error> {
        let text = self.slice()?;
        std::str::from_utf8(text).or_else(|_| self.fail(Error::malformed()))
    }

    fn char(&mut self) -> Result<char, Error> {
        let mut chars = self.text()?.chars();
        match (chars.next(), chars.next()) {
            (Some(char), None) => Ok(char),
            _ => self.fail(Error::malformed()),
        }
    }

    #[inline]
    fn bool(&mut self) -> Result<bool, Error> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => self.fail(Error::malformed()),
        }
    }

    /// A level down.
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
    fn parts<T>(
        &mut self,
        what: Leaf,
        len: usize,
        visit: impl FnOnce(Parts<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let form = Form::of(what);
        self.inner(|deserializer| visit(Parts { deserializer, form, left: len }))
    }

    #[inline]
    fn tuple<V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.parts(Leaf::Tuple, len, |elements| visitor.visit_seq(elements))
    }

    #[inline]
    fn fields<V: Visitor<'de>>(
        &mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.parts(Leaf::Struct, names.len(), |fields| {
            visitor.visit_seq(Fields { fields, names: names.iter() })
        })
    }
}

/// Seven bits to a byte, the lowest first; a byte that is followed by another one is marked.
trait Varint: Sized {
    fn from_varint(from: &mut Deserializer<'_>) -> Result<Self, Error>;
}

macro_rules! varints {
    ($($unsigned:ident $signed:ident,)*) => {$(
        impl Varint for $unsigned {
            #[inline]
            fn from_varint(from: &mut Deserializer<'_>) -> Result<Self, Error> {
                let mut number = 0;
                let mut shift = 0;
                loop {
                    let byte = from.byte()?;
                    let bits = Self::from(byte & 0x7f);
                    if (bits << shift) >> shift != bits {
                        return from.fail(Error::malformed());
                    }
                    number |= bits << shift;
                    if byte < 0x80 {
                        return Ok(number);
                    }
                    shift += 7;
                    if shift >= Self::BITS {
                        return from.fail(Error::malformed());
                    }
                }
            }
        }

        /// Zigzag: the sign is the lowest bit.
        impl Varint for $signed {
            #[inline]
            fn from_varint(from: &mut Deserializer<'_>) -> Result<Self, Error> {
                let number = $unsigned::from_varint(from)?;
                Ok((number >> 1) as $signed ^ -((number & 1) as $signed))
            }
        }
    )*};
}

varints! { u16 i16, u32 i32, u64 i64, u128 i128, }

#[cold]
fn too_much_of_nothing() -> Error {
    Error::new("a list claims to have too many empty items")
}

#[cold]
fn not_described() -> Error {
    Error::new("the type asks what comes next, which the compact format does not say")
}

macro_rules! leaves {
    ($($deserialize:ident $visit:ident $leaf:ident: |$this:ident| $read:expr;)*) => {$(
        #[inline]
        fn $deserialize<V: Visitor<'de>>($this, visitor: V) -> Result<V::Value, Error> {
            $this.form = Form::of(Leaf::$leaf);
            visitor.$visit($read)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    leaves! {
        deserialize_bool visit_bool Bool: |self| self.bool()?;
        deserialize_i8 visit_i8 I8: |self| i8::from_le_bytes(self.array()?);
        deserialize_i16 visit_i16 I16: |self| Varint::from_varint(self)?;
        deserialize_i32 visit_i32 I32: |self| Varint::from_varint(self)?;
        deserialize_i64 visit_i64 I64: |self| Varint::from_varint(self)?;
        deserialize_i128 visit_i128 I128: |self| Varint::from_varint(self)?;
        deserialize_u8 visit_u8 U8: |self| self.byte()?;
        deserialize_u16 visit_u16 U16: |self| Varint::from_varint(self)?;
        deserialize_u32 visit_u32 U32: |self| Varint::from_varint(self)?;
        deserialize_u64 visit_u64 U64: |self| Varint::from_varint(self)?;
        deserialize_u128 visit_u128 U128: |self| Varint::from_varint(self)?;
        deserialize_f32 visit_f32 F32: |self| f32::from_le_bytes(self.array()?);
        deserialize_f64 visit_f64 F64: |self| f64::from_le_bytes(self.array()?);
        deserialize_char visit_char Char: |self| self.char()?;
        deserialize_str visit_borrowed_str Str: |self| self.text()?;
        deserialize_string visit_borrowed_str Str: |self| self.text()?;
        deserialize_bytes visit_borrowed_bytes Bytes: |self| self.slice()?;
        deserialize_byte_buf visit_borrowed_bytes Bytes: |self| self.slice()?;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        self.fail(not_described())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        self.fail(not_described())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        self.fail(not_described())
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.bool()? {
            let value = self.inner(|value| visitor.visit_some(value))?;
            self.form = Form::of(Leaf::Some).around(self.form);
            Ok(value)
        } else {
            self.form = Form::of(Leaf::None);
            visitor.visit_none()
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.form = Form::of(Leaf::Unit);
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.form = Form::of(Leaf::UnitStruct);
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == BUFFER {
            self.form = Form::of(Leaf::Buffer);
            let record = self.slice()?;
            return Entered::parse(record, &mut self.segments)?.give_to(visitor);
        }
        self.inner(|value| visitor.visit_newtype_struct(value))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let len = self.len()?;
        self.parts(Leaf::Seq, len, |items| visitor.visit_seq(items))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.tuple(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.tuple(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let len = self.len()?;
        self.parts(Leaf::Map, len, |entries| visitor.visit_map(entries))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.fields(fields, visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Enum { deserializer: self, variants })
    }
}

/// The parts of a value that is being read.
struct Parts<'d, 'de> {
    deserializer: &'d mut Deserializer<'de>,
    form: Form,
    left: usize,
}

impl<'de> Parts<'_, 'de> {
    #[inline]
    fn read<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let before = self.deserializer.bytes.len();
        let part = seed.deserialize(&mut *self.deserializer)?;
        if self.deserializer.bytes.len() == before {
            let cost = size_of::<S::Value>().max(1);
            match self.deserializer.for_nothing.checked_sub(cost) {
                Some(rest) => self.deserializer.for_nothing = rest,
                None => return self.deserializer.fail(too_much_of_nothing()),
            }
        }
        Ok(part)
    }

    #[inline]
    fn item<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let item = self.read(seed)?;
        self.form.push(self.deserializer.form);
        Ok(item)
    }

    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        match self.left.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.left = left;
                self.item(seed).map(Some)
            }
        }
    }

    /// Not more than there can be, since memory may be reserved for them.
    fn hint(&self) -> usize {
        self.left.min(self.deserializer.bytes.len())
    }
}

impl Drop for Parts<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // If some were not read, the form tells.
        self.deserializer.form = self.form;
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    #[inline]
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

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.item(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

/// The parts of a struct.
struct Fields<'d, 'de> {
    fields: Parts<'d, 'de>,
    /// Those that are left.
    names: std::slice::Iter<'static, &'static str>,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(name) = self.names.next() else { return Ok(None) };
        self.fields.left -= 1;
        let field = self.fields.read(seed)?;
        self.fields.form.push(Form::field(name, self.fields.deserializer.form));
        Ok(Some(field))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.names.len())
    }
}

struct Enum<'d, 'de> {
    deserializer: &'d mut Deserializer<'de>,
    variants: &'static [&'static str],
}

impl<'d, 'de> EnumAccess<'de> for Enum<'d, 'de> {
    type Error = Error;
    type Variant = Variant<'d, 'de>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Variant<'d, 'de>), Error> {
        let Self { deserializer, variants } = self;
        let index = u32::from_varint(deserializer)?;
        let Some(name) = variants.get(index as usize) else {
            return deserializer.fail(Error::new(format!("there is no variant {index}")));
        };
        let variant = Variant { deserializer, name };
        let index: U32Deserializer<Error> = index.into_deserializer();
        Ok((seed.deserialize(index)?, variant))
    }
}

struct Variant<'d, 'de> {
    deserializer: &'d mut Deserializer<'de>,
    name: &'static str,
}

impl<'de> Variant<'_, 'de> {
    #[inline]
    fn around<T>(
        self,
        read: impl FnOnce(&mut Deserializer<'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let value = read(self.deserializer)?;
        self.deserializer.form = Form::variant(self.name).around(self.deserializer.form);
        Ok(value)
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    #[inline]
    fn unit_variant(self) -> Result<(), Error> {
        self.deserializer.form = Form::variant(self.name);
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.around(|deserializer| deserializer.inner(|value| seed.deserialize(value)))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.around(|deserializer| deserializer.tuple(len, visitor))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.around(|deserializer| deserializer.fields(fields, visitor))
    }
}
