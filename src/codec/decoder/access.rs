//! The parts of a value that is being read, as serde gives them to a visitor. At the end that reads.

use serde_core::de::value::BorrowedStrDeserializer;
use serde_core::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::{Decoder, Names};
use crate::codec::error::Error;

/// The items of a sequence, or the entries of a map, that is being read.
pub(super) struct Items<'d, 'de> {
    pub(super) from: &'d mut Decoder<'de>,
    /// The number of values that are left; an entry is two.
    pub(super) left: usize,
}

impl<'de> Items<'_, 'de> {
    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        if self.from.is_broken {
            // Items that take no bytes would be made from nothing, up to a length that is a lie.
            return Err(Error::broken_off());
        }
        self.left = left;
        seed.deserialize(&mut *self.from).map(Some)
    }

    /// Returns at most as many as there are bytes, since memory may be reserved for them.
    fn hint(&self) -> usize {
        self.left.min(self.from.bytes.len())
    }
}

impl Drop for Items<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // The visitor stopped early, or took no notice of an error.
        if self.left > 0 {
            self.from.is_broken = true;
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
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

impl<'de> MapAccess<'de> for Items<'_, 'de> {
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
        // It is an error to ask for more values than keys.
        self.next(seed)?.ok_or_else(Error::too_short)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint() / 2)
    }
}

/// The fields of a struct that is being read in order.
pub(super) struct Fields<'d, 'de> {
    pub(super) from: &'d mut Decoder<'de>,
    pub(super) left: usize,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            // The type has a field that was not written, so others may have been taken for it.
            self.from.is_broken = true;
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.from).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl Drop for Fields<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if self.left > 0 {
            self.from.is_broken = true;
        }
    }
}

/// The fields of a struct that is being read by name.
pub(super) struct ByName<'d, 'de> {
    pub(super) from: &'d mut Decoder<'de>,
    pub(super) names: Names<'de>,
    /// The number of values that are left.
    pub(super) left: usize,
}

impl<'de> MapAccess<'de> for ByName<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        // `left` is counted down with the value, since a name takes no bytes here.
        let name = self.names.next()?;
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        // It is an error to ask for more values than names.
        self.left = self.left.checked_sub(1).ok_or_else(Error::too_short)?;
        seed.deserialize(&mut *self.from)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl Drop for ByName<'_, '_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.from.is_broken = true;
        }
    }
}

/// A variant that is being read.
pub(super) struct Variant<'d, 'de> {
    pub(super) from: &'d mut Decoder<'de>,
    /// `None`: it is the next value.
    pub(super) name: Option<&'de str>,
    /// Set while there is content that has not been read.
    pub(super) has_content: bool,
}

impl<'de> Variant<'_, 'de> {
    #[inline]
    fn content<T>(
        mut self,
        read: impl FnOnce(&mut Decoder<'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if !self.has_content {
            return Err(Error::malformed());
        }
        let content = read(&mut *self.from)?;
        self.has_content = false;
        Ok(content)
    }
}

impl Drop for Variant<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // The visitor stopped early, or has failed, and may have left the content.
        if self.has_content {
            self.from.is_broken = true;
        }
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let variant = match self.name {
            Some(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            None => seed.deserialize(&mut *self.from),
        };
        Ok((variant?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    #[inline]
    fn unit_variant(self) -> Result<(), Error> {
        if self.has_content { self.content(|from| Deserialize::deserialize(from)) } else { Ok(()) }
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        self.content(|from| seed.deserialize(from))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        self.content(|from| from.deserialize_seq(visitor))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content(|from| from.deserialize_struct("", fields, visitor))
    }
}
