//! The writing side: values put into a message. Called for arguments in the process that submits them, and for
//! results in a worker. Values serialize themselves, which is user code, so no lock is held.

pub(super) mod body;
mod pack;
mod parts;
pub(super) mod serializer;
pub(super) mod shapes;

use std::any::TypeId;

use self::serializer::Serializer;
use super::error::Error;
use super::{DEPTH, Encoded, block};
use crate::portable::Portable;

/// Encodes a message with one value.
pub(crate) fn encode<T: Portable>(value: &T) -> Result<Encoded, Error> {
    let mut encoder = Encoder::new();
    encoder.push(value)?;
    Ok(encoder.finish())
}

/// Encodes a message with one value; its body takes the place of what is in `room`.
pub(crate) fn encode_within<T: Portable>(value: &T, room: Vec<u8>) -> Result<Encoded, Error> {
    let mut encoder = Encoder::new();
    encoder.to.body = body::Body::within(room);
    encoder.push(value)?;
    Ok(encoder.finish())
}

/// Room for a small value and its tags; larger ones let it grow.
const ROOM: usize = 64;

/// Puts values into one message.
pub(crate) struct Encoder {
    values: usize,
    to: Serializer,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { values: 0, to: Serializer::new() }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.values
    }

    /// Returns whether all of the message is in its body.
    pub(crate) fn is_body(&self) -> bool {
        self.to.segments.is_empty() && self.to.descriptors.is_empty()
    }

    /// The bytes so far, which are those of whole values. [`push`](Self::push) appends to them, and
    /// never changes them.
    pub(crate) fn body(&self) -> &[u8] {
        &self.to.body
    }

    /// Appends a value. After an error, or a panic of the value's, the message is as before.
    pub(crate) fn push<T: Portable>(&mut self, value: &T) -> Result<(), Error> {
        let mut draft = Draft::new(&mut self.to);
        if !block::write(value, &mut draft.to.body)? {
            draft.serialize(value)?;
        }
        // The value is complete: the drop of the draft would take it back.
        std::mem::forget(draft);
        self.values += 1;
        Ok(())
    }

    /// Takes the message. The next value is the first one of another message.
    #[inline]
    pub(crate) fn finish(&mut self) -> Encoded {
        self.values = 0;
        self.to.finish()
    }
}

/// A value that is being appended. If this is dropped, there was none.
struct Draft<'a> {
    to: &'a mut Serializer,
    start: usize,
    segments: usize,
    descriptors: usize,
    shapes: usize,
}

impl<'a> Draft<'a> {
    #[inline]
    fn new(to: &'a mut Serializer) -> Self {
        let (start, segments, shapes) = (to.body.len(), to.segments.len(), to.shape_count());
        let descriptors = to.descriptors.len();
        Self { to, start, segments, descriptors, shapes }
    }

    #[inline]
    fn serialize<T: Portable>(&mut self, value: &T) -> Result<(), Error> {
        let value_type = TypeId::of::<T>();
        // Only the first value: declarations that were guessed wrongly are replaced at its end.
        if self.start == 0 {
            self.to.body.reserve(ROOM + size_of::<T>())?;
            self.to.declare_expected(value_type)?;
        }
        let declared = self.to.body.len() - self.start;
        self.to.start();
        value.serialize(&mut *self.to)?;
        if self.to.depth != DEPTH {
            // A part of the value was begun and not ended.
            return Err(Error::new("the type has ignored an error of the encoder"));
        }
        self.to.declare(value_type, self.start, self.shapes, declared)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.to.body.as_vec().truncate(self.start);
        self.to.segments.truncate(self.segments);
        self.to.descriptors.truncate(self.descriptors);
        if let Some(shapes) = &mut self.to.shapes {
            shapes.truncate(self.shapes);
        }
    }
}
