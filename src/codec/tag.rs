//! The first byte of each value, and of the declarations before it; see the table in the module docs of
//! [`codec`](super). Both ends.
//!
//! A pattern can't be made of a range that has a name, so the [decoder](super::decoder) has the bounds of
//! these as numbers.

use std::ops::Range;

/// An unsigned integer below 64: the tag is the number.
pub(super) const SMALL: Range<u8> = 0..0x40;
/// A string of 0 to 31 bytes.
pub(super) const SHORT_STRING: Range<u8> = 0x40..0x60;
/// A sequence of 0 to 15 items.
pub(super) const SHORT_SEQUENCE: Range<u8> = 0x60..0x70;
/// A struct of shape 0 to 31.
pub(super) const NEAR_STRUCT: Range<u8> = 0x70..0x90;
/// A variant without content, of shape 0 to 15.
pub(super) const NEAR_UNIT_VARIANT: Range<u8> = 0x90..0xa0;
/// A variant with content, of shape 0 to 15.
pub(super) const NEAR_VARIANT: Range<u8> = 0xa0..0xb0;
/// An integer from -1 down to -16.
pub(super) const NEGATIVE: Range<u8> = 0xb0..0xc0;

pub(super) const NIL: u8 = 0xc0;
pub(super) const FALSE: u8 = 0xc1;
pub(super) const TRUE: u8 = 0xc2;
pub(super) const SOME: u8 = 0xc3;
/// Unsigned integers of 1, 2, 4 and 8 bytes.
pub(super) const UNSIGNED: Range<u8> = 0xc4..0xc8;
/// Signed integers of 1, 2, 4 and 8 bytes.
pub(super) const SIGNED: Range<u8> = 0xc8..0xcc;
pub(super) const U128: u8 = 0xcc;
pub(super) const I128: u8 = 0xcd;
pub(super) const F32: u8 = 0xce;
pub(super) const F64: u8 = 0xcf;
pub(super) const STRING: u8 = 0xd0;
pub(super) const BYTES: u8 = 0xd1;
pub(super) const SEQUENCE: u8 = 0xd2;
pub(super) const MAP: u8 = 0xd3;
pub(super) const STRUCT: u8 = 0xd4;
pub(super) const UNIT_VARIANT: u8 = 0xd5;
pub(super) const VARIANT: u8 = 0xd6;
pub(super) const BUFFER: u8 = 0xd7;
pub(super) const HANDLE: u8 = 0xd8;
/// Packed numbers: one tag for each [`ElementKind`](super::segment::ElementKind).
pub(super) const RUN: Range<u8> = 0xe0..0xea;
pub(super) const SHAPES: u8 = 0xff;

/// The length of the longest varint: seven bits to a byte.
pub(super) const VARINT: usize = u64::BITS.div_ceil(7) as usize;
