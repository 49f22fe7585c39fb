//! The parts of a value that is being written, as serde gives them to the serializer. At the end that writes.

use serde_core::Serialize;
use serde_core::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::body::Body;
use super::pack::pack;
use super::serializer::{Run, SHORTEST_RUN, Serializer};
use super::shapes::Open;
use crate::codec::error::Error;

/// Maximum number of bytes that are reserved for items, which may be shorter than the first one.
const LARGEST_GUESS: usize = 64 * 1024;

/// The items of a sequence, or the entries of a map, that is being written.
pub(in crate::codec) struct Items<'s> {
    pub(super) to: &'s mut Serializer,
    pub(super) is_map: bool,
    pub(super) start: usize,
    pub(super) announced: usize,
    pub(super) count: usize,
    /// Number of levels that end with it.
    pub(super) levels: usize,
}

impl Items<'_> {
    #[inline]
    pub(super) fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
        item.serialize(&mut *self.to)?;
        self.count += 1;
        if self.count == 1 && self.announced >= SHORTEST_RUN {
            self.reserve();
        }
        Ok(())
    }

    /// Makes room for the items behind the first one, as if they were as long.
    #[cold]
    fn reserve(&mut self) {
        let body = &mut self.to.body;
        let all = (body.len() - self.start).saturating_mul(self.announced);
        // If there is no memory for the guess, there may be for the items.
        let _ = body.reserve(all.min(LARGEST_GUESS));
    }

    /// Packs the items that come next, as far as they can be. Returns the one behind them.
    #[inline]
    pub(super) fn pack<I: Iterator<Item: Serialize>>(
        &mut self,
        items: &mut I,
    ) -> Result<Option<I::Item>, Error> {
        let Run::Of(kind) = self.to.run else { return Ok(items.next()) };
        let (count, other) = pack(kind, items, &mut self.to.body)?;
        self.count += count;
        Ok(other)
    }

    #[inline]
    fn end(mut self) -> Result<(), Error> {
        if self.count != self.announced {
            self.correct()?;
        }
        // An outer sequence is no run either: it has a sequence as an item, which has unpacked it.
        self.to.run = Run::No;
        self.to.depth += self.levels;
        Ok(())
    }

    /// Replaces the header, which has announced another number of items.
    #[cold]
    fn correct(&mut self) -> Result<(), Error> {
        let Self { ref mut to, is_map, start, announced, count, .. } = *self;
        // No item came, so no header was written.
        if to.run == Run::Undecided {
            return to.body.put_sequence(count);
        }
        let run = to.run;
        let header = |len| {
            let mut header = Body::default();
            match run {
                Run::Of(kind) => header.put_run(kind, len)?,
                _ if is_map => header.put_map(len)?,
                _ => header.put_sequence(len)?,
            }
            Ok::<_, Error>(header)
        };
        let end = start + header(announced)?.len();
        to.body.replace((start, end), &header(count)?)
    }
}

impl SerializeMap for Items<'_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.item(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.end()
    }
}

macro_rules! items {
    ($($trait:ident $serialize:ident,)*) => {$(
        impl $trait for Items<'_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $serialize<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Error> {
                self.item(item)
            }

            #[inline]
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

/// The fields of a struct that is being written.
pub(in crate::codec) struct Fields<'s> {
    pub(super) to: &'s mut Serializer,
    pub(super) open: Open,
    /// Where its header begins and ends.
    pub(super) header: (usize, usize),
    /// Number of levels that end with it.
    pub(super) levels: usize,
}

impl Fields<'_> {
    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, field: &T) -> Result<(), Error> {
        self.to.shapes().add(&mut self.open, name);
        field.serialize(&mut *self.to)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        let Self { to, open, header, levels } = self;
        to.depth += levels;
        let guessed = open.number;
        let number = to.shapes().close(open)?;
        if number == guessed { Ok(()) } else { to.correct(header, number) }
    }
}

macro_rules! fields {
    ($($trait:ident,)*) => {$(
        impl $trait for Fields<'_> {
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

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.end()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }
