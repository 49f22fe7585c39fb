//! The form of a value: which calls of serde's it consists of.
//!
//! The compact format has only the leaves of a value, in order. Whoever decodes it has to make the
//! same calls as who encoded it, or takes one field for another. Serde does not promise that, and
//! attributes of its derive break it: a field that is only written (`skip_deserializing`, the tag
//! of a struct) or only read (`skip_serializing`), or a skipped variant, after which the later ones
//! have different numbers on the two sides. In formats with names all of these are well.
//!
//! So both sides compute a hash of the calls, and a message carries that of its encoder as a seal.
//! If the decoder's differs, the value is not what was encoded. The seal is no protection against
//! an adversary.
//!
//! A value's form is made of those of its parts. The last one that is complete lies with the
//! encoder or decoder; who has parts takes it from there after each of them, and gathers them in a
//! variable of its own. So a long list costs little: what is in memory is written to only, and
//! nothing waits for that.

/// What has no parts, and the marks of what has.
#[derive(Clone, Copy)]
pub(super) enum Leaf {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Bytes,
    None,
    Some,
    Unit,
    UnitStruct,
    Seq,
    Map,
    Tuple,
    Struct,
    Buffer,
}

/// How long a seal is.
pub(super) const SEAL: usize = size_of::<u32>();

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form(u64);

impl Form {
    #[inline]
    pub(super) const fn of(leaf: Leaf) -> Self {
        Self(scattered(leaf as u64))
    }

    #[inline]
    pub(super) fn variant(name: &str) -> Self {
        Self(hash(name))
    }

    /// The form of a part that has a name.
    #[inline]
    pub(super) fn field(name: &str, field: Self) -> Self {
        Self::variant(name).around(field)
    }

    /// Something with one part.
    #[inline]
    pub(super) fn around(self, part: Self) -> Self {
        Self(mix(self.0, part.0))
    }

    /// Adds one of several parts; as they can be many, with what takes two cycles.
    #[inline]
    pub(super) fn push(&mut self, part: Self) {
        self.0 = self.0.wrapping_mul(5).wrapping_add(part.0);
    }

    #[inline]
    pub(super) fn seal(self) -> [u8; SEAL] {
        ((mix(self.0, 0) >> 32) as u32).to_le_bytes()
    }
}

/// Numbers with nothing in common: the steps of SplitMix64.
const fn scattered(n: u64) -> u64 {
    let z = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A step of FxHash: names are short, and mostly constants to the compiler.
#[inline]
pub(super) const fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// Word by word, the last one overlapping: quicker than a loop over the bytes.
#[inline]
pub(super) fn hash(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = bytes.len() as u64;
    if let Some(last) = bytes.last_chunk::<8>() {
        let mut rest = bytes;
        while let Some((word, behind)) = rest.split_first_chunk::<8>() {
            hash = mix(hash, u64::from_le_bytes(*word));
            rest = behind;
        }
        mix(hash, u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        mix(mix(hash, u32::from_le_bytes(*first).into()), u32::from_le_bytes(*last).into())
    } else {
        bytes.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
    }
}
