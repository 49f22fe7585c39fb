//! An item on its way through a channel: a record in the ring, and a message in the lane if it has descriptors. In any
//! process.
//!
//! A record is a word, which has the length of the body in bytes in its low half, then 24 bits for the number of
//! segments and 8 for that of the descriptors; a ticket, if it has descriptors; the lengths of the segments; the body,
//! and the segments, each from a word on. The ticket is that of the lane's message with the descriptors.
//!
//! A large item is in sealed memory of its own, whose descriptor is its last one: first the length of the body, and
//! the number of segments, a word each; then the same.

use std::io;
use std::sync::Arc;

use super::ring::{Damaged, Reader, Writer};
use crate::codec::handle::Descriptor;
use crate::codec::{Attached, Encoded, Received, ReceivedSegment, Segment};
use crate::sys::{OwnedFd, SealedMemory, UnsealedMemory};

/// In place of the length of the body: the item is in sealed memory.
const LARGE: u64 = u32::MAX as u64;

/// Segments in sealed memory are aligned for whatever their elements are.
const ALIGNED: usize = 64;

/// An item that is to be sent.
pub(super) struct Outgoing {
    body: Vec<u8>,
    segments: Vec<Segment>,
    pub(super) descriptors: Vec<Descriptor>,
    is_large: bool,
}

impl Outgoing {
    /// `most` is the length of the longest record, in words.
    pub(super) fn new(encoded: Encoded, most: usize) -> io::Result<Self> {
        let Encoded { body, segments, descriptors } = encoded;
        let item = Self { body, segments, descriptors, is_large: false };
        let fits = item.body.len() < LARGE as usize && item.words() <= most;
        if fits { Ok(item) } else { item.into_memory() }
    }

    fn into_memory(self) -> io::Result<Self> {
        let Self { body, segments, mut descriptors, .. } = self;
        let lengths = segments.iter().map(|segment| segment.len());
        let mut head: Vec<u64> = vec![body.len() as u64, segments.len() as u64];
        head.extend(lengths.clone().map(|length| length as u64));
        let places = places(8 * head.len() + body.len(), lengths);
        let end = places.last().map_or(8 * head.len() + body.len(), |last| last.end);
        let mut memory = UnsealedMemory::new(end)?;
        let bytes = memory.bytes_mut();
        let (first, rest) = bytes.split_at_mut(8 * head.len());
        first.copy_from_slice(bytemuck::cast_slice(&head));
        rest[..body.len()].copy_from_slice(&body);
        for (segment, place) in segments.iter().zip(places) {
            bytes[place].copy_from_slice(segment);
        }
        let (_, descriptor) = memory.seal()?;
        descriptors.push(Descriptor::new(descriptor.into()));
        Ok(Self { body: Vec::new(), segments: Vec::new(), descriptors, is_large: true })
    }

    /// The length of the record.
    pub(super) fn words(&self) -> usize {
        let head = 1 + usize::from(!self.descriptors.is_empty()) + self.segments.len();
        let segments = self.segments.iter().map(|segment| segment.len().div_ceil(8));
        head + self.body.len().div_ceil(8) + segments.sum::<usize>()
    }

    /// The memory of the body.
    pub(super) fn into_room(self) -> Vec<u8> {
        self.body
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>, ticket: u64) {
        let length = if self.is_large { LARGE } else { self.body.len() as u64 };
        let (segments, descriptors) = (self.segments.len() as u64, self.descriptors.len() as u64);
        writer.word(length | segments << 32 | descriptors << 56);
        if descriptors > 0 {
            writer.word(ticket);
        }
        for segment in &self.segments {
            writer.word(segment.len() as u64);
        }
        writer.bytes(&self.body);
        for segment in &self.segments {
            writer.bytes(segment);
        }
    }
}

/// Where the segments are in sealed memory, behind so many bytes.
fn places(behind: usize, lengths: impl Iterator<Item = usize>) -> Vec<std::ops::Range<usize>> {
    let place = |end: &mut usize, length: usize| {
        let start = end.checked_next_multiple_of(ALIGNED)?;
        *end = start.checked_add(length)?;
        Some(start..*end)
    };
    // A sum that is too large ends the list before its end.
    lengths.scan(behind, place).collect()
}

/// An item that was taken out of the ring, and is to be decoded.
pub(super) struct Incoming {
    body: Vec<u64>,
    length: usize,
    segments: Vec<ReceivedSegment>,
    /// The descriptors that the lane has for it: their number, and the ticket.
    pub(super) sent_with: Option<(usize, u64)>,
    pub(super) descriptors: Vec<OwnedFd>,
    is_large: bool,
}

impl Incoming {
    /// Its body takes the place of what is in `room`.
    pub(super) fn read(reader: &mut Reader<'_>, room: Vec<u64>) -> Result<Self, Damaged> {
        let head = reader.word()?;
        let (length, segments) = (head & LARGE, head >> 32 & 0xff_ffff);
        let (is_large, descriptors) = (length == LARGE, (head >> 56) as usize);
        let sent_with = if descriptors > 0 { Some((descriptors, reader.word()?)) } else { None };
        let mut lengths = Vec::new();
        for _ in 0..segments {
            lengths.push(usize::try_from(reader.word()?).map_err(|_| Damaged)?);
        }
        let length = if is_large { 0 } else { length as usize };
        let mut body = room;
        reader.words(length, &mut body)?;
        let mut received = Vec::new();
        for length in lengths {
            reader.has(length)?;
            let mut segment = ReceivedSegment::new(length).map_err(|_| Damaged)?;
            reader.bytes(segment.as_mut())?;
            received.push(segment);
        }
        let descriptors = Vec::new();
        Ok(Self { body, length, segments: received, sent_with, descriptors, is_large })
    }

    /// Calls `decode` with the body and what came beside it. Gives the memory of the body back.
    pub(super) fn open<R>(
        mut self,
        decode: impl FnOnce(&[u8], Received) -> Result<R, String>,
    ) -> (Result<R, String>, Vec<u64>) {
        let body = std::mem::take(&mut self.body);
        (self.open_body(&body, decode), body)
    }

    fn open_body<R>(
        mut self,
        body: &[u64],
        decode: impl FnOnce(&[u8], Received) -> Result<R, String>,
    ) -> Result<R, String> {
        if let Some((count, _)) = self.sent_with {
            if self.descriptors.len() != count {
                return Err(
                    "this process may not have as many open files as came with it; raise the limit with `ulimit -n`"
                        .to_owned(),
                );
            }
        }
        if !self.is_large {
            let Self { length, segments, descriptors, .. } = self;
            let attached = Attached { segments, descriptors };
            return decode(&bytemuck::cast_slice(body)[..length], attached.into());
        }
        let garbled = || "it is garbled".to_owned();
        let memory = self.descriptors.pop().ok_or_else(garbled)?;
        let memory = SealedMemory::map(memory);
        let memory = memory.map_err(|error| format!("its memory can't be mapped: {error}"))?;
        let all = Segment::from(Arc::new(memory));
        let (body, places) = layout(&all).ok_or_else(garbled)?;
        let segments: Vec<_> = places.into_iter().map(|place| all.slice(place)).collect();
        let descriptors = self.descriptors.into_iter().map(|fd| Descriptor::new(fd.into()));
        decode(&all[body], (segments, descriptors.collect()).into())
    }
}

type Range = std::ops::Range<usize>;

/// Where the body of a large item is, and its segments. `None`: it is no such item.
fn layout(all: &[u8]) -> Option<(Range, Vec<Range>)> {
    let word = |number: usize| {
        let word = all.get(8 * number..)?.first_chunk()?;
        usize::try_from(u64::from_ne_bytes(*word)).ok()
    };
    let (length, count) = (word(0)?, word(1)?);
    // Each has a word at least.
    let lengths = (0..count.min(all.len())).map(|number| word(2 + number));
    let lengths = lengths.collect::<Option<Vec<_>>>()?;
    let start = 8 * (2 + lengths.len());
    let body = start..start.checked_add(length)?;
    let places = places(body.end, lengths.into_iter());
    let end = places.last().map_or(body.end, |last| last.end);
    (places.len() == count && end <= all.len()).then_some((body, places))
}
