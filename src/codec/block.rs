//! Vectors of numbers that are a whole value, or a call's only argument: they are copied as one block, where
//! a part of a value is visited number by number. Both ends.
//!
//! The bytes are the same. As a value's type is `'static`, it can be asked for; serde does not say
//! what the items of a sequence are.

use std::any::Any;

use super::decoder::Decoder;
use super::encoder::body::Body;
use super::encoder::serializer::SHORTEST_RUN;
use super::error::Error;
use super::segment::{ElementKind, copy_elements};
use super::tag;

/// The tag of a tuple of one, before the block of an argument.
const ARGUMENT: &[u8] = &[tag::SHORT_SEQUENCE.start + 1];

/// Returns whether `T` can be one of these at all, which the compiler knows.
const fn may_be_vector<T>() -> bool {
    size_of::<T>() == size_of::<Vec<u8>>() && std::mem::needs_drop::<T>()
}

macro_rules! vectors {
    ($($number:ident $kind:ident,)*) => {
        /// Writes a value, if it is one block.
        #[inline]
        pub(super) fn write<T: 'static>(value: &T, body: &mut Body) -> Result<bool, Error> {
            if !may_be_vector::<T>() {
                return Ok(false);
            }
            let value: &dyn Any = value;
            $(
                if let Some(numbers) = value.downcast_ref::<Vec<$number>>() {
                    return put(body, &[], ElementKind::$kind, bytemuck::cast_slice(numbers));
                }
                if let Some((numbers,)) = value.downcast_ref::<(Vec<$number>,)>() {
                    return put(body, ARGUMENT, ElementKind::$kind, bytemuck::cast_slice(numbers));
                }
            )*
            Ok(false)
        }

        /// Reads a value, if it is one block.
        #[inline]
        pub(super) fn read<T: 'static>(from: &mut Decoder<'_>) -> Option<T> {
            if !may_be_vector::<T>() {
                return None;
            }
            let mut value: Option<T> = None;
            let place: &mut dyn Any = &mut value;
            $(
                if let Some(place) = place.downcast_mut::<Option<Vec<$number>>>() {
                    // `?`: it was not packed, or is malformed, and is read in the ordinary way.
                    *place = Some(copy_elements(from.block(&[], ElementKind::$kind)?));
                } else if let Some(place) = place.downcast_mut::<Option<(Vec<$number>,)>>() {
                    *place = Some((copy_elements(from.block(ARGUMENT, ElementKind::$kind)?),));
                }
            )*
            value
        }
    };
}

vectors! {
    u8 U8, i8 I8, u16 U16, i16 I16, u32 U32, i32 I32, u64 U64, i64 I64, f32 F32, f64 F64,
}

fn put(body: &mut Body, outer: &[u8], kind: ElementKind, bytes: &[u8]) -> Result<bool, Error> {
    let len = bytes.len() / kind.size();
    // As the serializer does, so that the bytes are the same.
    if len < SHORTEST_RUN {
        return Ok(false);
    }
    body.reserve(outer.len() + 1 + tag::VARINT + bytes.len())?;
    body.append(outer)?;
    body.put_run(kind, len)?;
    body.append(bytes)?;
    Ok(true)
}
