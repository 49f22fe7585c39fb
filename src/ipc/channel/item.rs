//! An item on its way through a channel: a record in the ring, and a message in the lane if it has descriptors. In any
//! process.
//!
//! A record is a word, which has the length of the body in bytes in its low half, then 24 bits for the number of
//! segments and 8 for that of the descriptors; a ticket, if it has descriptors; the lengths of the segments; the body,
//! and the segments, each from a word on. The ticket is that of the lane's message with the descriptors.
//!
//! A large item is an [`image`] in sealed memory of its own, whose descriptor is its last one.

use std::io;
use std::sync::Arc;

use super::error::{Failure, refused};
use super::ring::{Damaged, Reader, Writer};
use crate::codec::handle::Descriptor;
use crate::codec::{Attached, Encoded, Received, ReceivedSegment, Segment};
use crate::ipc::image;
use crate::sys::{OwnedFd, SealedMemory};

/// In place of the length of the body: the item is in sealed memory.
const LARGE: u64 = u32::MAX as u64;

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
        let Self { body, segments, descriptors, .. } = self;
        let mut encoded = Encoded { body, segments, descriptors };
        let (_, memory) = image::write(&encoded)?;
        encoded.descriptors.push(Descriptor::new(memory.into()));
        let descriptors = encoded.descriptors;
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
    pub(super) fn read(reader: &mut Reader<'_>, room: Vec<u64>) -> Result<Self, Failure> {
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
            // The item stays where it is.
            let segment = ReceivedSegment::new(length);
            let mut segment = segment.map_err(refused("there is no memory for an item"))?;
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
        let image = image::read(Segment::from(Arc::new(memory))).ok_or_else(garbled)?;
        let descriptors = self.descriptors.into_iter().map(|fd| Descriptor::new(fd.into()));
        decode(&image.body, (image.segments, descriptors.collect()).into())
    }
}
