//! Where encoded bytes go. A value too large for the memory is an error, and does not end the
//! process.

use std::io;

use super::error::Error;

/// The bytes of a message.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), Error> {
        self.0.try_reserve(count).map_err(|_| Error::no_memory())
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) -> Result<(), Error> {
        self.append(&[byte])
    }

    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // With the room known here there is no second look for it.
        if self.0.capacity() - self.0.len() < bytes.len() {
            return self.grow_and_append(bytes);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    #[cold]
    fn grow_and_append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.reserve(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn as_vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// For the named format.
impl io::Write for Body {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
