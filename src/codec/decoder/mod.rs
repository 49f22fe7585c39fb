//! The reading side: the values of a message, and their bytes. Called for arguments in a worker, and for
//! results in the process that has submitted the call. Values deserialize themselves, which is user code, so no
//! lock is held.

mod access;
mod deserializer;

use serde_core::de::{Deserialize, DeserializeOwned, IgnoredAny};

use super::error::Error;
use super::handle::{self, Given};
use super::handover::Withdraw;
use super::segment::{ElementKind, Entered, Received};
use super::{DEPTH, block, tag};

/// Reads the values of a message, one after the other.
///
/// They are only to be trusted once [`finish`](Self::finish) agrees.
pub(crate) struct Decoder<'de> {
    bytes: std::slice::Iter<'de, u8>,
    received: Received,
    shapes: Vec<Shape<'de>>,
    /// Number of levels that there may be beyond this one, and that a value may have.
    depth: usize,
    most_depth: usize,
    /// Set if structs are read by name, and not in order.
    by_name: bool,
    /// Set once a struct of this value has been read in order.
    has_ordered: bool,
    /// Set while it is uncertain where the next value begins.
    is_broken: bool,
}

/// The names of a struct's fields, or of a variant.
struct Shape<'de> {
    /// A varint for each name.
    lengths: &'de [u8],
    names: &'de str,
    count: usize,
    /// The address and number of the names that a type has, if these are of the shape.
    known: (usize, usize),
}

impl<'de> Decoder<'de> {
    pub(crate) fn new(body: &'de [u8], attached: impl Into<Received>) -> Self {
        Self::within(body, attached, DEPTH)
    }

    /// For values that are within another one, of which so many levels are left.
    pub(super) fn within(body: &'de [u8], attached: impl Into<Received>, depth: usize) -> Self {
        Self {
            bytes: body.iter(),
            received: attached.into(),
            shapes: Vec::new(),
            depth,
            most_depth: depth,
            by_name: false,
            has_ordered: false,
            is_broken: false,
        }
    }

    /// Reads the next value. After one that can't be decoded, the one behind it is the next.
    #[inline]
    pub(crate) fn next<T: DeserializeOwned + 'static>(&mut self) -> Result<T, Error> {
        if self.is_broken {
            return Err(Error::broken_off());
        }
        if let Some(value) = block::read(self) {
            return Ok(value);
        }
        // Only here: inside of a value a declaration is malformed.
        if self.bytes.as_slice().first() == Some(&tag::SHAPES) {
            self.declarations()?;
        }
        (self.depth, self.has_ordered) = (self.most_depth, false);
        let (start, met, by_name) = (self.bytes.clone(), self.received.met, self.by_name);
        let attempt = Attempt { from: self, start, met, by_name };
        let value = T::deserialize(&mut *attempt.from);
        if value.is_ok() && !attempt.from.is_broken {
            std::mem::forget(attempt);
            return value;
        }
        attempt.again(value)
    }

    #[cfg(test)]
    pub(super) fn read_by_name(&mut self) {
        self.by_name = true;
    }

    /// Checks that all was read, and nothing left in its middle.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::broken_off());
        }
        if self.bytes.len() > 0 || !self.received.are_all_met() {
            return Err(Error::left_over());
        }
        Ok(())
    }

    /// Fails with an error after which the next value can't be found.
    #[cold]
    fn fail<T>(&mut self, error: Error) -> Result<T, Error> {
        self.is_broken = true;
        Err(error)
    }

    // ---- Bytes ----

    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        match self.bytes.next() {
            Some(byte) => Ok(*byte),
            None => self.fail(Error::too_short()),
        }
    }

    #[inline]
    fn peek(&mut self) -> Result<u8, Error> {
        match self.bytes.as_slice().first() {
            Some(byte) => Ok(*byte),
            None => self.fail(Error::too_short()),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((array, rest)) = self.bytes.as_slice().split_first_chunk() else {
            return self.fail(Error::too_short());
        };
        self.bytes = rest.iter();
        Ok(*array)
    }

    #[inline]
    fn slice(&mut self, len: usize) -> Result<&'de [u8], Error> {
        let Some((slice, rest)) = self.bytes.as_slice().split_at_checked(len) else {
            return self.fail(Error::too_short());
        };
        self.bytes = rest.iter();
        Ok(slice)
    }

    #[inline]
    fn len(&mut self) -> Result<usize, Error> {
        match self.byte()? {
            len @ ..0x80 => Ok(len.into()),
            first => self.long_len(first),
        }
    }

    fn long_len(&mut self, first: u8) -> Result<usize, Error> {
        let (mut len, mut shift, mut byte) = (u64::from(first & 0x7f), 0, first);
        while byte >= 0x80 {
            byte = self.byte()?;
            shift += 7;
            let bits = u64::from(byte & 0x7f);
            // Bits that do not fit are an error: cut off, they would give another length.
            if shift >= u64::BITS || (bits << shift) >> shift != bits {
                return self.fail(Error::malformed());
            }
            len |= bits << shift;
        }
        usize::try_from(len).or_else(|_| self.fail(Error::malformed()))
    }

    #[inline]
    fn string(&mut self, len: usize) -> Result<&'de str, Error> {
        let string = self.slice(len)?;
        std::str::from_utf8(string).or_else(|_| self.fail(Error::malformed()))
    }

    /// Reads the number that is in a tag, or behind it.
    #[inline]
    fn argument(&mut self, tag: u8, short: std::ops::Range<u8>) -> Result<usize, Error> {
        if short.contains(&tag) { Ok((tag - short.start).into()) } else { self.len() }
    }

    /// Reads the 1, 2, 4 or 8 bytes of a number, for a size of 0, 1, 2 or 3; the others are zero.
    #[inline]
    fn number(&mut self, size: u8) -> Result<u64, Error> {
        let len = 1 << size;
        // One load of eight bytes, where there are so many; those behind the number are masked.
        if let Some(number) = self.bytes.as_slice().first_chunk() {
            self.bytes = self.bytes.as_slice()[len..].iter();
            return Ok(u64::from_le_bytes(*number) & (u64::MAX >> (64 - 8 * len)));
        }
        let mut number = [0; 8];
        number[..len].copy_from_slice(self.slice(len)?);
        Ok(u64::from_le_bytes(number))
    }

    fn signed(&mut self, size: u8) -> Result<i64, Error> {
        let unused = 64 - (8 << size);
        Ok((self.number(size)? << unused) as i64 >> unused)
    }

    /// The packed numbers of a run.
    #[inline]
    fn run(&mut self, kind: ElementKind) -> Result<&'de [u8], Error> {
        let len = self.len()?;
        match len.checked_mul(kind.size()) {
            Some(len) => self.slice(len),
            None => self.fail(Error::too_short()),
        }
    }

    fn kind(&mut self, tag: u8) -> Result<ElementKind, Error> {
        let kind = tag.checked_sub(tag::RUN.start).and_then(ElementKind::from_byte);
        kind.map_or_else(|| self.fail(Error::malformed()), Ok)
    }

    fn buffer(&mut self) -> Result<Entered<'de>, Error> {
        let len = self.len()?;
        let record = self.slice(len)?;
        Entered::parse(record, &mut self.received)
    }

    /// Gives the descriptors of the handle whose tag was read to it.
    fn give_descriptors(&mut self) -> Result<Withdraw<Given>, Error> {
        let count = self.len()?;
        let numbers = self.slice(count)?;
        let found = numbers.iter().map(|number| self.received.descriptor(usize::from(*number)));
        match found.collect() {
            Some(descriptors) => Ok(handle::give((descriptors, self.depth))),
            None => self.fail(Error::new("a handle has no descriptor")),
        }
    }

    /// The numbers of a value that is one packed vector; else nothing is read. `outer` is what comes
    /// before it.
    #[inline]
    pub(super) fn block(&mut self, outer: &[u8], kind: ElementKind) -> Option<&'de [u8]> {
        let start = self.bytes.clone();
        let rest = self.bytes.as_slice().strip_prefix(outer)?;
        let rest = rest.strip_prefix(&[tag::RUN.start + kind as u8])?;
        self.bytes = rest.iter();
        let run = self.run(kind).ok();
        if run.is_none() {
            // The ordinary way comes to the same error, and reports it.
            (self.bytes, self.is_broken) = (start, false);
        }
        run
    }

    // ---- Shapes ----

    fn declarations(&mut self) -> Result<(), Error> {
        self.bytes.next();
        for _ in 0..self.len()? {
            let count = self.len()?;
            let start = self.bytes.as_slice();
            let mut total = 0_usize;
            // A length takes a byte, so a count that is not true ends with the bytes.
            for _ in 0..count {
                total = total.saturating_add(self.len()?);
            }
            let lengths = &start[..start.len() - self.bytes.len()];
            let names = self.string(total)?;
            self.shapes.push(Shape { lengths, names, count, known: (0, 0) });
        }
        Ok(())
    }

    #[inline]
    fn shape(&mut self, tag: u8, short: std::ops::Range<u8>) -> Result<usize, Error> {
        let number = self.argument(tag, short)?;
        if number < self.shapes.len() { Ok(number) } else { self.fail(Error::malformed()) }
    }

    /// The name of the variant that is a shape.
    fn variant(&mut self, shape: usize) -> Result<&'de str, Error> {
        match self.shapes[shape] {
            Shape { names, count: 1, .. } => Ok(names),
            _ => self.fail(Error::malformed()),
        }
    }
}

/// A value that is being read. If this is dropped, also by a panic, the value is skipped.
struct Attempt<'d, 'de> {
    from: &'d mut Decoder<'de>,
    start: std::slice::Iter<'de, u8>,
    met: usize,
    by_name: bool,
}

impl Attempt<'_, '_> {
    /// Reads a value again, which is not what its type expects: by name, if that is different.
    #[cold]
    fn again<T: DeserializeOwned>(mut self, mut value: Result<T, Error>) -> Result<T, Error> {
        if self.from.has_ordered {
            self.rewind();
            self.from.by_name = true;
            value = T::deserialize(&mut *self.from);
        }
        if value.is_ok() && self.from.is_broken {
            value = Err(Error::broken_off());
        }
        if value.is_ok() {
            // Other values of the type will be the same in that, so they are read by name, too.
            std::mem::forget(self);
        }
        value
    }

    fn rewind(&mut self) {
        self.from.bytes = self.start.clone();
        self.from.received.met = self.met;
        (self.from.depth, self.from.is_broken) = (self.from.most_depth, false);
    }
}

impl Drop for Attempt<'_, '_> {
    #[cold]
    fn drop(&mut self) {
        self.rewind();
        self.from.by_name = self.by_name;
        // By its own tags, whatever its type has read of it.
        if IgnoredAny::deserialize(&mut *self.from).is_err() {
            self.from.is_broken = true;
        }
    }
}

impl<'de> Shape<'de> {
    /// Returns whether these are the names of fields that a type has, in its order. A type may have more: the
    /// other names of a field are among them.
    #[inline]
    fn is_of(&mut self, fields: &'static [&'static str]) -> bool {
        let known = (fields.as_ptr().addr(), fields.len());
        self.known == known || self.compare(fields, known)
    }

    #[inline(never)]
    fn compare(&mut self, fields: &'static [&'static str], known: (usize, usize)) -> bool {
        let mut fields = fields.iter();
        let mut names = Names { lengths: self.lengths.iter(), names: self.names };
        for _ in 0..self.count {
            let Ok(name) = names.next() else { return false };
            if !fields.any(|field| *field == name) {
                return false;
            }
        }
        self.known = known;
        true
    }
}

/// The names of a shape, one after the other.
struct Names<'de> {
    lengths: std::slice::Iter<'de, u8>,
    names: &'de str,
}

impl<'de> Names<'de> {
    #[inline]
    fn next(&mut self) -> Result<&'de str, Error> {
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = *self.lengths.next().ok_or_else(Error::malformed)?;
            // `declarations` has read these bytes as varints, so the shift is in range.
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let (name, rest) = self.names.split_at_checked(len).ok_or_else(Error::malformed)?;
        self.names = rest;
        Ok(name)
    }
}
