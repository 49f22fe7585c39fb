//! The named format: MessagePack, with the names of fields and variants.
//!
//! It is what rmp-serde writes with names, byte by byte, except where that is not enough:
//!
//! * `Some` of something that is nothing itself, `Some(None)` or `Some(())`, would come back as
//!   `None`. It is an extension of type [`SOME`].
//! * Buffers are extensions of type [`BUFFERED`].
//! * Lengths above `u32::MAX` are errors; they are not cut off.
//! * Nesting is limited in options and enums too, which a decoder may otherwise follow until the
//!   stack is used up.
//!
//! The format says that it is human-readable. It has to: what is buffered for untagged enums and
//! the like is read again as if it was, so an address that was written as four numbers would then
//! be expected to be a text.

mod de;
mod ser;

pub(super) use de::Deserializer;
pub(super) use ser::Serializer;

/// The extension's data is one byte: how many times `Some` is around nil.
const SOME: i8 = 1;

/// The extension's data is the buffer's record.
const BUFFERED: i8 = 2;
