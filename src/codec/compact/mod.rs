//! The compact format: postcard, guarded.
//!
//! The bytes are those of postcard's wire format, version 1. That crate itself is not used, as it
//! trusts too much:
//!
//! * the two sides of a type to make the same calls; see [`form`](super::form). Here, also a call
//!   that the decoder would not know of, [`skip_field`][skip], is an error, and a number of items
//!   that turns out different from what was announced;
//! * the bytes: a list may claim to have 2^60 items that take no bytes, or nest as deep as it
//!   likes.
//!
//! And it has no room for the texts of the errors that a type's own code raises.
//!
//! [skip]: serde_core::ser::SerializeStruct::skip_field

mod de;
mod ser;

pub(super) use de::{Deserializer, Message};
pub(super) use ser::Serializer;
