//! The writing side of the format, as a serializer of serde's. At the end that writes.

use std::any::TypeId;
use std::sync::Arc;

use serde_core::Serialize;
use serde_core::ser::{self, SerializeSeq};

use super::body::Body;
use super::parts::{Fields, Items};
use super::shapes::{self, Shapes};
use crate::codec::error::Error;
use crate::codec::handle::{self, Descriptor, HANDLE};
use crate::codec::segment::{self, BUFFER, ElementKind};
use crate::codec::{DEPTH, Encoded, Segment, tag};
use crate::sys::MOST_DESCRIPTORS;

/// Sequences that announce fewer items are not packed: they would hardly be shorter, and a tuple
/// that begins with a number would mostly have to be unpacked again.
pub(in crate::codec) const SHORTEST_RUN: usize = 8;

/// Maximum number of bytes that are reserved for a run: what a sequence announces need not be true.
const LARGEST_RESERVE: usize = 1 << 20;

/// Writes values.
pub(in crate::codec) struct Serializer {
    pub(super) body: Body,
    pub(super) segments: Vec<Segment>,
    pub(super) descriptors: Vec<Descriptor>,
    /// Taken by the first value that needs some.
    pub(super) shapes: Option<Box<Shapes>>,
    /// Number of levels that there may be beyond this one.
    pub(super) depth: usize,
    pub(super) run: Run,
    /// Start of the sequence of a run, or of what may become one, and the number of items that the
    /// sequence has announced.
    run_start: usize,
    run_len: usize,
}

/// The state of the innermost sequence that is being written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Its items have tags, or none is being written.
    No,
    /// Its first item comes next, and will show what it is. Nothing has been written yet.
    Undecided,
    /// All items so far were numbers of this kind, and are packed.
    Of(ElementKind),
}

impl Serializer {
    pub(in crate::codec) fn new() -> Self {
        Self {
            body: Body::default(),
            segments: Vec::new(),
            descriptors: Vec::new(),
            shapes: None,
            depth: DEPTH,
            run: Run::No,
            run_start: 0,
            run_len: 0,
        }
    }

    /// Begins the next value.
    pub(super) fn start(&mut self) {
        (self.depth, self.run) = (DEPTH, Run::No);
    }

    /// The number of shapes that the message has.
    #[inline]
    pub(super) fn shape_count(&self) -> usize {
        self.shapes.as_ref().map_or(0, |shapes| shapes.len())
    }

    /// Declares the shapes that a value will probably need, which is the first one of the message.
    #[inline]
    pub(super) fn declare_expected(&mut self, value: TypeId) -> Result<(), Error> {
        if !shapes::are_expected(value) {
            return Ok(());
        }
        self.shapes.get_or_insert_with(Shapes::take).declare_expected(&mut self.body)
    }

    /// Declares the shapes that a value from `start` on has brought, from number `first` on. Of the
    /// first value of the message, those that are expected are `declared` bytes.
    #[inline]
    pub(super) fn declare(
        &mut self,
        value: TypeId,
        start: usize,
        first: usize,
        declared: usize,
    ) -> Result<(), Error> {
        match &mut self.shapes {
            Some(shapes) if start == 0 => shapes.declare_first(value, declared, &mut self.body),
            Some(shapes) if shapes.len() > first => shapes.declare(first, &mut self.body, start),
            _ => Ok(()),
        }
    }

    /// Takes the message.
    #[inline]
    pub(in crate::codec) fn finish(&mut self) -> Encoded {
        self.give_back_shapes();
        let body = std::mem::take(&mut self.body).into_vec();
        let segments = std::mem::take(&mut self.segments);
        Encoded { body, segments, descriptors: std::mem::take(&mut self.descriptors) }
    }

    #[inline]
    fn give_back_shapes(&mut self) {
        if let Some(shapes) = self.shapes.take() {
            shapes.give_back();
        }
    }

    #[inline]
    fn enter(&mut self) -> Result<(), Error> {
        self.depth = self.depth.checked_sub(1).ok_or_else(Error::too_deep)?;
        Ok(())
    }

    #[inline]
    fn inner<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.depth += 1;
        Ok(())
    }

    // ---- Runs ----

    /// Called before a value that is not packed. In a sequence all items have tags from here on.
    #[inline]
    fn plain(&mut self) -> Result<(), Error> {
        if self.run == Run::No { Ok(()) } else { self.unpack() }
    }

    #[cold]
    fn unpack(&mut self) -> Result<(), Error> {
        // Before numbers are written again, which would be packed otherwise.
        let run = std::mem::replace(&mut self.run, Run::No);
        let Run::Of(kind) = run else { return self.body.put_sequence(self.run_len) };
        let mut header = Body::default();
        header.put_run(kind, self.run_len)?;
        let packed = self.body.as_vec().split_off(self.run_start + header.len());
        self.body.as_vec().truncate(self.run_start);
        self.body.put_sequence(self.run_len)?;
        segment::write_numbers(kind, &packed, self)
    }

    /// Called before a number. `true`: it is to be packed.
    #[inline]
    fn is_packed(&mut self, kind: ElementKind) -> Result<bool, Error> {
        if self.run == Run::No {
            Ok(false)
        } else if self.run == Run::Of(kind) {
            Ok(true)
        } else {
            self.decide(kind)
        }
    }

    #[cold]
    fn decide(&mut self, kind: ElementKind) -> Result<bool, Error> {
        // A number of another kind than those before it.
        if self.run != Run::Undecided {
            return self.unpack().map(|()| false);
        }
        let all = kind.size().saturating_mul(self.run_len);
        self.body.reserve(all.min(LARGEST_RESERVE) + tag::VARINT)?;
        self.body.put_run(kind, self.run_len)?;
        self.run = Run::Of(kind);
        Ok(true)
    }

    // ---- Leaves ----

    #[inline]
    fn unsigned(&mut self, number: u64) -> Result<(), Error> {
        if number < tag::SMALL.end.into() {
            return self.body.push(number as u8);
        }
        let size = match number {
            0..0x100 => 0,
            0x100..0x1_0000 => 1,
            0x1_0000..0x1_0000_0000 => 2,
            _ => 3,
        };
        self.body.put_number(tag::UNSIGNED.start + size, 1 << size, number)
    }

    #[inline]
    fn signed(&mut self, number: i64) -> Result<(), Error> {
        if number >= 0 {
            return self.unsigned(number as u64);
        }
        if number >= -16 {
            return self.body.push(tag::NEGATIVE.start + (-1 - number) as u8);
        }
        let size = match number {
            -0x80.. => 0,
            -0x8000..-0x80 => 1,
            -0x8000_0000..-0x8000 => 2,
            _ => 3,
        };
        self.body.put_number(tag::SIGNED.start + size, 1 << size, number as u64)
    }

    #[inline]
    fn string(&mut self, string: &str) -> Result<(), Error> {
        self.body.put_tag(tag::SHORT_STRING, tag::STRING, string.len())?;
        self.body.append(string.as_bytes())
    }

    fn buffer(&mut self, offer: segment::Offer) -> Result<(), Error> {
        let (record, inline) = segment::enter(offer, &mut self.segments)?;
        let inline = inline.as_deref().unwrap_or_default();
        self.body.push(tag::BUFFER)?;
        self.body.put_varint((record.len() + inline.len()) as u64)?;
        self.body.append(&record)?;
        self.body.append(inline)
    }

    /// Writes the tag of a handle, and the numbers of its descriptors: of those that the message has already
    /// there are no others.
    #[cold]
    fn handle(&mut self) -> Result<(), Error> {
        let offered =
            handle::take_offer().ok_or_else(|| Error::new("a thread that ends sends no handle"))?;
        self.body.push(tag::HANDLE)?;
        self.body.put_varint(offered.len() as u64)?;
        for descriptor in offered {
            let known = self.descriptors.iter().position(|known| Arc::ptr_eq(known, &descriptor));
            let number = known.unwrap_or(self.descriptors.len());
            if number >= MOST_DESCRIPTORS {
                let most = format!(
                    "too many handles in one value: they have {MOST_DESCRIPTORS} descriptors at most"
                );
                return Err(Error::new(most));
            }
            if known.is_none() {
                self.descriptors.push(descriptor);
            }
            self.body.push(number as u8)?;
        }
        Ok(())
    }

    // ---- Compound values ----

    /// Begins a sequence, whose number of items may turn out to be another one than `len`.
    #[inline]
    fn items(&mut self, len: Option<usize>) -> Result<Items<'_>, Error> {
        self.plain()?;
        self.enter()?;
        let (start, announced) = (self.body.len(), len.unwrap_or(0));
        if announced >= SHORTEST_RUN {
            (self.run, self.run_start, self.run_len) = (Run::Undecided, start, announced);
        } else {
            self.body.put_sequence(announced)?;
        }
        Ok(Items { to: self, is_map: false, start, announced, count: 0, levels: 1 })
    }

    /// Replaces the header of a struct, whose shape has another number.
    #[cold]
    pub(super) fn correct(&mut self, at: (usize, usize), shape: usize) -> Result<(), Error> {
        if shape < tag::NEAR_STRUCT.len() && at.1 - at.0 == 1 {
            self.body.as_vec()[at.0] = tag::NEAR_STRUCT.start + shape as u8;
            return Ok(());
        }
        let mut header = Body::default();
        header.put_tag(tag::NEAR_STRUCT, tag::STRUCT, shape)?;
        self.body.replace(at, &header)
    }

    #[inline]
    pub(super) fn shapes(&mut self) -> &mut Shapes {
        self.shapes.get_or_insert_with(Shapes::take)
    }

    #[inline]
    fn variant(&mut self, name: &'static str) -> Result<(), Error> {
        self.plain()?;
        self.enter()?;
        let shape = self.shapes().variant(name)?;
        self.body.put_tag(tag::NEAR_VARIANT, tag::VARIANT, shape)
    }

    #[inline]
    fn fields(&mut self, name: &'static str, len: usize) -> Result<Fields<'_>, Error> {
        self.plain()?;
        self.enter()?;
        let open = self.shapes().open(name, len);
        let start = self.body.len();
        self.body.put_tag(tag::NEAR_STRUCT, tag::STRUCT, open.number)?;
        let header = (start, self.body.len());
        Ok(Fields { to: self, open, header, levels: 1 })
    }
}

macro_rules! numbers {
    ($($serialize:ident($type:ty) $kind:ident: |$this:ident, $number:ident| $plain:expr;)*) => {$(
        #[inline]
        fn $serialize($this, $number: $type) -> Result<(), Error> {
            if $this.is_packed(ElementKind::$kind)? {
                return $this.body.append(&$number.to_ne_bytes());
            }
            $plain
        }
    )*};
}

impl<'s> ser::Serializer for &'s mut Serializer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'s>;
    type SerializeTuple = Items<'s>;
    type SerializeTupleStruct = Items<'s>;
    type SerializeTupleVariant = Items<'s>;
    type SerializeMap = Items<'s>;
    type SerializeStruct = Fields<'s>;
    type SerializeStructVariant = Fields<'s>;

    fn is_human_readable(&self) -> bool {
        true
    }

    numbers! {
        serialize_i8(i8) I8: |self, number| self.signed(number.into());
        serialize_i16(i16) I16: |self, number| self.signed(number.into());
        serialize_i32(i32) I32: |self, number| self.signed(number.into());
        serialize_i64(i64) I64: |self, number| self.signed(number);
        serialize_u8(u8) U8: |self, number| self.unsigned(number.into());
        serialize_u16(u16) U16: |self, number| self.unsigned(number.into());
        serialize_u32(u32) U32: |self, number| self.unsigned(number.into());
        serialize_u64(u64) U64: |self, number| self.unsigned(number);
        serialize_f32(f32) F32: |self, number| {
            self.body.put_number(tag::F32, 4, number.to_bits().into())
        };
        serialize_f64(f64) F64: |self, number| {
            self.body.put_number(tag::F64, 8, number.to_bits())
        };
    }

    fn serialize_i128(self, number: i128) -> Result<(), Error> {
        self.plain()?;
        match (u64::try_from(number), i64::try_from(number)) {
            (Ok(number), _) => self.unsigned(number),
            (_, Ok(number)) => self.signed(number),
            _ => {
                self.body.push(tag::I128)?;
                self.body.append(&number.to_le_bytes())
            }
        }
    }

    fn serialize_u128(self, number: u128) -> Result<(), Error> {
        self.plain()?;
        if let Ok(number) = u64::try_from(number) {
            return self.unsigned(number);
        }
        self.body.push(tag::U128)?;
        self.body.append(&number.to_le_bytes())
    }

    #[inline]
    fn serialize_bool(self, is: bool) -> Result<(), Error> {
        self.plain()?;
        self.body.push(if is { tag::TRUE } else { tag::FALSE })
    }

    fn serialize_char(self, char: char) -> Result<(), Error> {
        self.serialize_str(char.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, string: &str) -> Result<(), Error> {
        self.plain()?;
        self.string(string)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        self.plain()?;
        self.body.push(tag::BYTES)?;
        self.body.put_varint(bytes.len() as u64)?;
        self.body.append(bytes)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.plain()?;
        self.body.push(tag::SOME)?;
        self.inner(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.plain()?;
        self.body.push(tag::NIL)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.plain()?;
        let shape = self.shapes().variant(variant)?;
        self.body.put_tag(tag::NEAR_UNIT_VARIANT, tag::UNIT_VARIANT, shape)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if name == BUFFER {
            // Without an offer, in a thread that is ending, the elements are written as a sequence.
            if let Some(offer) = segment::take_offer() {
                self.plain()?;
                return self.buffer(offer);
            }
        }
        if name == HANDLE {
            self.plain()?;
            self.handle()?;
        }
        self.inner(value)
    }

    #[inline]
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

    fn collect_seq<I>(self, items: I) -> Result<(), Error>
    where
        I: IntoIterator<Item: Serialize>,
    {
        let mut items = items.into_iter();
        let len = match items.size_hint() {
            (least, Some(most)) if least == most => Some(least),
            _ => None,
        };
        let mut sequence = self.serialize_seq(len)?;
        let mut next = items.next();
        while let Some(item) = next {
            // The serializer decides whether there is a run; `pack` takes the others of its kind.
            sequence.item(&item)?;
            next = sequence.pack(&mut items)?;
        }
        sequence.end()
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'s>, Error> {
        self.items(len)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Items<'s>, Error> {
        self.items(Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Items<'s>, Error> {
        self.items(Some(len))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'s>, Error> {
        self.variant(variant)?;
        Ok(Items { levels: 2, ..self.items(Some(len))? })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Items<'s>, Error> {
        self.plain()?;
        self.enter()?;
        let (start, announced) = (self.body.len(), len.unwrap_or(0));
        self.body.put_map(announced)?;
        Ok(Items { to: self, is_map: true, start, announced, count: 0, levels: 1 })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields<'s>, Error> {
        self.fields(name, len)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Fields<'s>, Error> {
        self.variant(variant)?;
        Ok(Fields { levels: 2, ..self.fields(variant, len)? })
    }
}

impl Drop for Serializer {
    #[inline]
    fn drop(&mut self) {
        self.give_back_shapes();
    }
}
