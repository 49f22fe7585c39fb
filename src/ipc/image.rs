//! An encoded value in sealed memory, with the buffers beside it. In any process.
//!
//! ```text
//! number of segments, length of the body, lengths of the segments    8 bytes each
//! body
//! segments, each aligned to 64 bytes
//! ```

use std::io;

use crate::codec::Encoded;
use crate::sys::memory::Segment;
use crate::sys::{OwnedFd, SealedMemory, UnsealedMemory};

/// In bytes: as memory is aligned that a segment is received into.
const ALIGN: usize = 64;

const WORD: usize = size_of::<u64>();

/// The parts of an image, in its memory.
pub(super) struct Image {
    pub(super) body: Segment,
    pub(super) segments: Vec<Segment>,
}

/// Copies an encoded value into memory that no process can write to any more.
pub(super) fn write(values: &Encoded) -> io::Result<(SealedMemory, OwnedFd)> {
    let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
    let mut memory = UnsealedMemory::new(length(values).ok_or_else(too_long)?)?;
    write_to(values, memory.bytes_mut());
    memory.seal()
}

fn parts(values: &Encoded) -> impl Iterator<Item = &[u8]> {
    [&values.body[..]].into_iter().chain(values.segments.iter().map(|segment| &segment[..]))
}

/// The length of the image of a value, in bytes.
pub(super) fn length(values: &Encoded) -> Option<usize> {
    let lengths: Vec<usize> = parts(values).map(<[u8]>::len).collect();
    places(&lengths)?.last().map(|place| place.end)
}

/// Writes the image of a value into memory of its [`length`].
pub(super) fn write_to(values: &Encoded, bytes: &mut [u8]) {
    let lengths: Vec<usize> = parts(values).map(<[u8]>::len).collect();
    let places = places(&lengths).unwrap_or_default();
    let words = [values.segments.len()].into_iter().chain(lengths);
    for (word, to) in words.zip(bytes.chunks_exact_mut(WORD)) {
        to.copy_from_slice(&(word as u64).to_ne_bytes());
    }
    for (part, place) in parts(values).zip(places) {
        bytes[place].copy_from_slice(part);
    }
}

/// Finds the parts in memory that came from another process, which may have put in anything.
pub(super) fn read(all: Segment) -> Option<Image> {
    let mut words = all.chunks_exact(WORD).map(|word| {
        let word = word.try_into().ok().map(u64::from_ne_bytes)?;
        usize::try_from(word).ok()
    });
    let count = words.next()??.checked_add(1)?;
    // There are no more of them than there are bytes.
    let lengths: Vec<usize> = words.take(count).collect::<Option<_>>()?;
    let places = if lengths.len() == count { places(&lengths)? } else { return None };
    if places.iter().any(|place| place.end > all.len()) {
        return None;
    }
    let mut parts = places.into_iter().map(|place| all.slice(place));
    Some(Image { body: parts.next()?, segments: parts.collect() })
}

/// Where the parts are, whose lengths these are; the body is the first.
fn places(lengths: &[usize]) -> Option<Vec<std::ops::Range<usize>>> {
    let mut end = lengths.len().checked_add(1)?.checked_mul(WORD)?;
    let mut place = |(number, length): (usize, &usize)| {
        let start = if number == 0 { end } else { end.checked_next_multiple_of(ALIGN)? };
        end = start.checked_add(*length)?;
        Some(start..end)
    };
    lengths.iter().enumerate().map(&mut place).collect()
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn parts_are_read_as_they_were_written() {
        for lengths in [vec![], vec![0], vec![5000, 1, 0, 64]] {
            let part = |len: &usize| Segment::from(vec![*len as u8; *len]);
            let segments: Vec<Segment> = lengths.iter().map(part).collect();
            let values = Encoded { body: vec![9; 11], segments, ..Encoded::default() };
            let (memory, _) = write(&values).unwrap();
            let image = read(Segment::from(Arc::new(memory))).unwrap();
            assert_eq!(image.body[..], values.body);
            assert_eq!(image.segments.len(), lengths.len());
            for (read, written) in image.segments.iter().zip(&values.segments) {
                assert_eq!(read[..], written[..]);
                assert_eq!(read.as_ptr().addr() % ALIGN, 0);
            }
        }
    }

    #[test]
    fn memory_that_is_no_image_is_refused() {
        let max = u64::MAX;
        let wrong: [&[u64]; 9] = [
            &[],
            &[0],
            &[1, 8],
            &[max, 8, 8],
            &[max - 1, 0, 0],
            &[0, 9, 0],
            &[0, max],
            &[1, 0, max],
            &[1, 8, 9, 0, 0, 0, 0, 0, 0],
        ];
        for words in wrong {
            let (memory, _) = SealedMemory::of(bytemuck::cast_slice(words)).unwrap();
            assert!(read(Segment::from(Arc::new(memory))).is_none(), "{words:?}");
        }
        let (memory, _) = SealedMemory::of(&[0; 7]).unwrap();
        assert!(read(Segment::from(Arc::new(memory))).is_none());
    }
}
