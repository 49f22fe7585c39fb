//! The bytes of a message that is being encoded. A value too large for the memory is an error, and does not
//! end the process. At the end that writes.

use std::ops::Range;

use crate::codec::error::Error;
use crate::codec::segment::ElementKind;
use crate::codec::tag;

/// The bytes of a message.
#[derive(Default)]
pub(in crate::codec) struct Body(Vec<u8>);

impl Body {
    /// An empty one, which has room already.
    pub(in crate::codec) fn within(mut room: Vec<u8>) -> Self {
        room.clear();
        Self(room)
    }

    pub(in crate::codec) fn reserve(&mut self, count: usize) -> Result<(), Error> {
        self.0.try_reserve(count).map_err(|_| Error::no_memory())
    }

    #[inline]
    pub(in crate::codec) fn push(&mut self, byte: u8) -> Result<(), Error> {
        self.append(&[byte])
    }

    #[inline]
    pub(in crate::codec) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // With the room known here there is no second look for it.
        if self.0.capacity() - self.0.len() < bytes.len() {
            return self.grow_and_append(bytes);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a tag and the lowest `size` bytes of a number, little endian.
    ///
    /// The nine bytes are put together in a register: what is written to memory in parts and read as
    /// a whole makes the processor wait.
    #[inline]
    pub(in crate::codec) fn put_number(
        &mut self,
        tag: u8,
        size: usize,
        number: u64,
    ) -> Result<(), Error> {
        if self.0.capacity() - self.0.len() < 9 {
            self.reserve(9)?;
        }
        self.0.extend_from_slice(&(number << 8 | u64::from(tag)).to_le_bytes());
        self.0.push((number >> 56) as u8);
        let len = self.0.len() - (8 - size);
        self.0.truncate(len);
        Ok(())
    }

    #[cold]
    fn grow_and_append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.reserve(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a varint: seven bits to a byte, the lowest first; a byte that is followed by another
    /// one is marked.
    #[inline]
    pub(in crate::codec) fn put_varint(&mut self, mut number: u64) -> Result<(), Error> {
        while number >= 0x80 {
            self.push(number as u8 | 0x80)?;
            number >>= 7;
        }
        self.push(number as u8)
    }

    /// Appends a tag of the range for a number that is small enough, else `long` and the number.
    #[inline]
    pub(in crate::codec) fn put_tag(
        &mut self,
        short: Range<u8>,
        long: u8,
        number: usize,
    ) -> Result<(), Error> {
        if number < short.len() {
            return self.push(short.start + number as u8);
        }
        self.push(long)?;
        self.put_varint(number as u64)
    }

    #[inline]
    pub(in crate::codec) fn put_sequence(&mut self, len: usize) -> Result<(), Error> {
        self.put_tag(tag::SHORT_SEQUENCE, tag::SEQUENCE, len)
    }

    #[inline]
    pub(in crate::codec) fn put_map(&mut self, len: usize) -> Result<(), Error> {
        self.push(tag::MAP)?;
        self.put_varint(len as u64)
    }

    #[inline]
    pub(in crate::codec) fn put_run(&mut self, kind: ElementKind, len: usize) -> Result<(), Error> {
        self.push(tag::RUN.start + kind as u8)?;
        self.put_varint(len as u64)
    }

    /// Puts other bytes in the place of those from `start` to `end`.
    #[cold]
    pub(in crate::codec) fn replace(
        &mut self,
        (start, end): (usize, usize),
        by: &[u8],
    ) -> Result<(), Error> {
        self.reserve(by.len())?;
        self.0.splice(start..end, by.iter().copied());
        Ok(())
    }

    pub(in crate::codec) fn as_vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    pub(in crate::codec) fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
