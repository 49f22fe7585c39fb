//! Values as bytes: the format of arguments and results, for both ends.
//!
//! The pool's process encodes the arguments of a call when it is submitted, and decodes its result
//! where that is wanted; a worker decodes the arguments and encodes the result. Either runs code of the
//! user's types, so no lock is held meanwhile; `remote/call.rs` and `remote/map.rs` are the callers.
//!
//! # The format
//!
//! A message is a sequence of values. Each value begins with a tag, one byte:
//!
//! | tag | value |
//! | --- | --- |
//! | `00..3f` | the unsigned integer 0 to 63 |
//! | `40..5f` | a string of 0 to 31 bytes, which follow |
//! | `60..6f` | a sequence or tuple of 0 to 15 items, which follow |
//! | `70..8f` | a struct of shape 0 to 31; the values of its fields follow |
//! | `90..9f` | a variant without content, of shape 0 to 15 |
//! | `a0..af` | a variant of shape 0 to 15; its content follows, one value |
//! | `b0..bf` | the integer -1 to -16 |
//! | `c0` | `None`, `()` or a unit struct |
//! | `c1` `c2` | `false`, `true` |
//! | `c3` | `Some` of the value that follows |
//! | `c4..c7` | an unsigned integer of 1, 2, 4 or 8 bytes |
//! | `c8..cb` | a signed integer of 1, 2, 4 or 8 bytes |
//! | `cc` `cd` | a `u128` or `i128` that 8 bytes can't hold |
//! | `ce` `cf` | an `f32`, an `f64` |
//! | `d0` | a string: length, bytes |
//! | `d1` | bytes: length, bytes |
//! | `d2` | a sequence or tuple: number of items, items |
//! | `d3` | a map: number of entries, each a key and a value |
//! | `d4` | a struct: shape, values |
//! | `d5` | a variant without content: shape |
//! | `d6` | a variant: shape, content |
//! | `d7` | a [`Buffer`](buffer::Buffer): length of its record, record; see [`segment`] |
//! | `d8` | a [handle]: number of its descriptors, the numbers of these in the message; a value follows |
//! | `e0..e9` | a sequence of numbers of one kind, [`u8` to `f64`](segment::ElementKind): how many, and all of them packed |
//! | `ff` | shapes: how many, and for each the number of its names, their lengths, and all names; a value follows |
//!
//! Lengths, numbers of items and shapes are varints: seven bits to a byte, the lowest first, and a mark
//! on all bytes but the last. Integers are little endian, and have no more bytes than they need.
//! Packed numbers have the byte order of the machine, as both processes run on the same one. A
//! `char` is a string; newtype structs are what is in them.
//!
//! # Why it is so
//!
//! * It describes itself, since serde's types may ask what comes next, and their two sides need not
//!   agree on what there is: `flatten`, `untagged`, fields that are only written or only read.
//!   In a format without names such a type can't be carried, or a field is taken for another one.
//! * It says that it is human-readable. What serde buffers for untagged enums is read again as if it
//!   was, so an address that was written as four numbers would then be expected to be a string.
//! * A *shape* is the list of names of a struct, or the name of a variant. It is declared once in a
//!   message, before the first value that needs it, so that a list of structs costs one byte for each.
//!   [`encoder::shapes`] says how shapes are numbered.
//! * A struct is read in order, as by formats without names, if the names of its shape are those of
//!   the type; other names of its fields may be among these. A value that can't be read like that, or
//!   whose type asks for more fields than there are, is read again from its begin, by names.
//! * `Some(None)` and `Some(())` are not `None`. A type that asks for no option sees the value in a
//!   `Some`, as in JSON.
//! * Numbers are packed if there are at least eight of them: they are copied, where others are
//!   visited. A whole value that is such a vector is one copy; see [`block`].
//! * The same value has the same bytes, whatever was encoded before. Bytes of a value are final when
//!   [`Encoder::push`] returns: a worker leaves a copy of them in shared memory, see `remote/checkpoint.rs`.
//!
//! Large buffers are not copied into the message, but go beside it as a segment. A message may come
//! from a process whose memory is corrupt: it gives some value or an error, in bounded time, memory
//! and depth. Each item takes at least a byte, and memory is reserved for no more items than
//! there are bytes.

mod block;
pub(crate) mod buffer;
mod decoder;
mod encoder;
mod error;
mod guarded;
pub(crate) mod handle;
mod handover;
mod segment;
mod tag;
#[cfg(test)]
mod tests;

use self::handle::Descriptor;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::{Encoder, encode, encode_within};
pub(crate) use error::Error;
pub(crate) use guarded::{codec_error, guarded};
pub(crate) use segment::{
    Attached, BUFFER, Elements, Given, Received, copy_elements, offer, take_given,
};

pub(crate) use crate::sys::memory::{ReceivedSegment, Segment};

use serde_core::de::DeserializeOwned;

/// Maximum depth of nested values. A level can take some kilobytes of stack, of which a thread has
/// two megabytes.
const DEPTH: usize = 256;

/// A message to be sent.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// Sent from where they are.
    pub(crate) segments: Vec<Segment>,
    pub(crate) descriptors: Vec<Descriptor>,
}

impl Encoded {
    /// Returns whether all of it is in the body.
    pub(crate) fn is_body(&self) -> bool {
        self.segments.is_empty() && self.descriptors.is_empty()
    }
}

/// Decodes the value of a message that has one.
pub(crate) fn decode<T: DeserializeOwned + 'static>(
    body: &[u8],
    attached: impl Into<Received>,
) -> Result<T, Error> {
    decode_within(body, attached, DEPTH)
}

/// As [`decode`], for a value within another one that has so many levels left.
pub(crate) fn decode_within<T: DeserializeOwned + 'static>(
    body: &[u8],
    attached: impl Into<Received>,
    depth: usize,
) -> Result<T, Error> {
    let mut values = Decoder::within(body, attached, depth);
    let value = values.next()?;
    values.finish().map(|()| value)
}
