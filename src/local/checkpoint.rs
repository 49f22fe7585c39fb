//! How far a worker has come with a chunk, in the area behind the shared control block: there it outlives
//! the worker.
//!
//! The bytes of the message that the worker is putting together are copied as they are appended.
//! What else the pool needs to read them, the length and the seal, is written to one of two places
//! in turn, and the number of results says which; so it fits the number at any moment. The worker
//! writes that number last.
//!
//! What is found there is no more to be trusted than what comes over the socket.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::codec::{Encoder, Format};
use crate::local::control_block::SharedControlBlock;
use crate::remote::frame::{Frame, Header, Kind};
use crate::sys::RESULTS;

// Words of the area. The first one belongs to the control block.
const BEGUN: usize = 1;
/// The index of the first item whose result is in the message, and how many there are.
const FIRST: usize = 2;
const COUNT: usize = 3;
/// Two records of three words each.
const RECORDS: usize = 4;
const BYTES: usize = 10;

/// The room for a message.
const CAPACITY: usize = RESULTS - 8 * BYTES;

/// The worker's side.
pub(crate) struct Progress<'a> {
    block: &'a SharedControlBlock,
    first: u64,
    /// How much of the message is there.
    copied: usize,
}

impl<'a> Progress<'a> {
    /// Of a chunk that has not begun. What an earlier one has left is gone, before anybody could
    /// take it for this one's.
    pub(crate) fn new(block: &'a SharedControlBlock) -> Self {
        let progress = Self { block, first: 0, copied: 0 };
        progress.restart();
        progress.block.results()[BEGUN].store(0, Release);
        progress
    }

    fn store(&self, word: usize, value: u64) {
        self.block.results()[word].store(value, Relaxed);
    }

    /// There is nothing in the message.
    fn restart(&self) {
        self.block.results()[COUNT].store(0, Release);
        self.block.results()[FIRST].store(self.first, Release);
    }

    /// The worker begins with the item of this index.
    pub(crate) fn begin(&self, index: u64) {
        self.block.results()[BEGUN].store(index + 1, Release);
    }

    /// Another result is in the message. `false`: it has got too long for this place.
    pub(crate) fn note(&mut self, message: &Encoder) -> bool {
        let body = message.body();
        if body.len() > CAPACITY || message.has_segments() {
            return false;
        }
        // From the word on that was not full.
        let word = self.copied / 8;
        if !self.block.copy_in(BYTES + word, &body[8 * word..]) {
            return false;
        }
        self.copied = body.len();
        let count = message.len() as u64;
        let record = RECORDS + 3 * (count as usize % 2);
        self.store(record, body.len() as u64);
        self.store(record + 1, u64::from(u32::from_le_bytes(message.seal())));
        self.store(record + 2, message.format() as u64);
        self.block.results()[COUNT].store(count, Release);
        true
    }

    /// The message was sent; it had so many results.
    pub(crate) fn sent(&mut self, count: usize) {
        self.first += count as u64;
        self.copied = 0;
        self.restart();
    }
}

/// How many items a dead worker had begun.
pub(crate) fn begun(block: &SharedControlBlock) -> usize {
    usize::try_from(block.results()[BEGUN].load(Acquire)).unwrap_or(usize::MAX)
}

/// The results that a dead worker had not sent, if those before `received` have been; and how many.
pub(crate) fn finished(block: &SharedControlBlock, received: usize) -> Option<(Frame, usize)> {
    let load = |word: usize| block.results()[word].load(Acquire);
    let count = load(COUNT);
    if count == 0 || load(FIRST) != received as u64 {
        return None; // They were on their way, and have arrived.
    }
    let record = RECORDS + 3 * (count as usize % 2);
    let length = usize::try_from(load(record)).ok().filter(|length| *length <= CAPACITY)?;
    let seal = u32::try_from(load(record + 1)).ok()?;
    let format = u8::try_from(load(record + 2)).ok().and_then(Format::from_byte)?;
    let mut body = vec![0; length];
    if !block.copy_out(BYTES, &mut body) {
        return None;
    }
    if let (Format::Compact, Some(place)) = (format, body.first_chunk_mut()) {
        *place = seal.to_le_bytes();
    }
    let header = Header { kind: Kind::Value, slot: 0, number: 0, detail: 0 };
    Some((Frame::of(header, format, body), usize::try_from(count).ok()?))
}
