//! Frames: what goes over the socket between the pool and a worker. Both ends.
//!
//! Little endian, one writer for each direction.
//!
//! ```text
//! header   32 bytes: kind, format, slot, number of segments (3 bytes), number of descriptors (1 byte),
//!          task, length of the body, detail
//! body     a call's code (32 bytes, of some kinds only), the segments' lengths (8 bytes each),
//!          the encoded values
//! segments raw memory, as it was registered while the values were encoded
//! ```
//!
//! The descriptors of a frame come with its first byte.
//!
//! A worker may have been wrecked by the task that it ran, so the pool believes nothing that comes
//! from one: every length is checked, memory for a body is taken as its bytes arrive, and descriptors that
//! no frame announces are closed.
//!
//! Values for which there is no memory, that are longer than the reader takes, or whose descriptors this process
//! may not have, are skipped: the frame arrives [without them](Unread), and the frames behind it as always.

use std::collections::VecDeque;
use std::io;

use crate::codec::handle::Descriptor;
use crate::codec::{Attached, Encoded, ReceivedSegment};
use crate::function::NamedCall;
use crate::sys::socket::Batch;
use crate::sys::{BorrowedFd, MOST_DESCRIPTORS, OwnedFd, socket};

pub(super) const HEADER: usize = 32;

/// The format of values. There is one; a frame with another number is garbage.
pub(super) const FORMAT: u8 = 0;

/// The length of a call's code in a body.
pub(super) const CODE: usize = NamedCall::BYTES;

/// In bytes. One read takes this much at most, unless there is a long body or a segment to fill.
const BUFFER: usize = 64 * 1024;

/// In bytes. A body that lacks more than this is read into its place directly.
const DIRECT: usize = 16 * 1024;

/// The number of kinds.
const KINDS: usize = 26;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    // To the worker:
    /// Run a function with the arguments in the body.
    Call = 1,
    /// Run the initializer; otherwise as `Call`.
    Initialize = 2,
    /// Run a function with each of the values in the body; the detail is a
    /// [`ChunkDetail`](crate::remote::map_context::ChunkDetail).
    Chunk = 3,
    /// The outcome of a task that the worker has submitted. In place of a slot it has the kind of
    /// the reply; the detail is the reply's, or of a chunk whose worker has died, how many items
    /// that had begun.
    Answer = 4,
    /// A task that the worker has submitted can't be withdrawn any more.
    TooLate = 5,
    /// Run the finalizer and end. Without this a worker ends at the end of its socket, and runs none.
    Finalize = 6,
    /// Keep what this process makes of the file of a handle, beyond the tasks that have one. The number is the
    /// file's, the detail its device.
    Keep = 7,
    /// The process of the pool has no such handle any more.
    Forget = 8,
    // From the worker, one for each task that it was sent, in order; the detail is how long the
    // task ran, in nanoseconds:
    /// The value.
    Value = 16,
    /// The task panicked; the values say how and where.
    Panicked = 17,
    /// The arguments can't be decoded.
    BadArguments = 18,
    /// The value can't be encoded.
    BadValue = 19,
    /// There is no such code in the worker.
    UnknownCode = 20,
    /// The task was withdrawn before its start.
    Skipped = 21,
    /// The initializer has returned an error; or a chunk was asked to stop, and has no results.
    /// As an answer: the pool's error.
    Failed = 22,
    /// A chunk whose worker retires: the items without a result have not begun.
    Unfinished = 23,
    // From the worker, at any time, and on to the worker that has submitted the chunk:
    /// Results of a chunk that are not the last ones; the detail says how many.
    Part = 36,
    /// Why the next item of a chunk has no value.
    ItemFailed = 37,
    // From the worker, at any time:
    /// Submit a task to the pool. In place of a slot it has the kind of the task; the detail is
    /// that of the task.
    Submit = 32,
    /// The task that runs waits. The number is that of what it waits for, which may be a call, or 0. With the
    /// detail [`UNTIL`] it goes on with the answer to that call, or, without a number, to all of its calls; with
    /// [`FOR_OTHERS`] it waits for what other processes do with something of [`ipc`](crate::ipc), and the number says
    /// of what kind that is.
    Waits = 33,
    /// The task that runs goes on.
    GoesOn = 34,
    /// An event for a subscriber, of the task or of what it has started; see
    /// [`trace_relay`](crate::remote::trace_relay).
    Event = 38,
    /// Withdraw a task that this worker has submitted; with a detail of 1, have it asked to stop if
    /// it runs, and tell if it is too late.
    Withdraw = 35,
    /// This worker begins with no further task; what it was sent behind the one that runs is skipped.
    Retires = 41,
    // In both directions, of a map; see [`map_context`](crate::remote::map_context):
    /// The context of chunks that come behind this frame, by its number.
    Context = 39,
    /// No more chunks with this context come.
    EndContext = 40,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Kind; KINDS] = [
            Kind::Call,
            Kind::Initialize,
            Kind::Chunk,
            Kind::Answer,
            Kind::TooLate,
            Kind::Finalize,
            Kind::Keep,
            Kind::Forget,
            Kind::Value,
            Kind::Panicked,
            Kind::BadArguments,
            Kind::BadValue,
            Kind::UnknownCode,
            Kind::Skipped,
            Kind::Failed,
            Kind::Part,
            Kind::ItemFailed,
            Kind::Submit,
            Kind::Waits,
            Kind::GoesOn,
            Kind::Withdraw,
            Kind::Event,
            Kind::Context,
            Kind::EndContext,
            Kind::Unfinished,
            Kind::Retires,
        ];
        const BY_BYTE: [Option<Kind>; 64] = {
            let mut kinds = [None; 64];
            let mut next = 0;
            while next < KINDS {
                kinds[ALL[next] as usize] = Some(ALL[next]);
                next += 1;
            }
            kinds
        };
        BY_BYTE.get(usize::from(byte)).copied().flatten()
    }

    /// Returns whether the body begins with a call's code.
    pub(super) fn has_code(self) -> bool {
        matches!(self, Kind::Call | Kind::Initialize | Kind::Finalize | Kind::Chunk | Kind::Submit)
    }

    /// Returns whether it is the one reply to a task.
    pub(crate) fn is_reply(self) -> bool {
        (Kind::Value as u8..Kind::Submit as u8).contains(&(self as u8))
    }
}

/// Details of [`Kind::Waits`].
pub(crate) const UNTIL: u64 = 1;
pub(crate) const FOR_OTHERS: u64 = 2;

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) slot: u16,
    /// The task.
    pub(crate) number: u64,
    pub(crate) detail: u64,
}

/// The part of a frame that is the same however often it is sent.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) code: Option<NamedCall>,
    pub(crate) values: Encoded,
}

/// Why a frame has arrived without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    /// Number of bytes of values that there were.
    size: u64,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NoMemory,
    /// There were more bytes than the reader takes: the number of those.
    TooLong(u64),
    NoDescriptors,
}

impl Unread {
    /// The error, for people; `what` they were.
    pub(crate) fn describe(self, what: &str) -> String {
        let Self { size, why } = self;
        match why {
            Why::NoMemory => format!("no memory for {what} of {size} bytes"),
            Why::TooLong(limit) => {
                format!("{what} of {size} bytes is longer than `max_result_size`, {limit} bytes")
            }
            Why::NoDescriptors => format!(
                "this process can't have as many more open files as {what} has handles; raise the limit (`ulimit -n`)"
            ),
        }
    }

    /// Returns whether another process of this program may be able to read them.
    pub(crate) fn is_for_want_of_memory(self) -> bool {
        self.why == Why::NoMemory
    }
}

/// A frame that has arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) code: Option<NamedCall>,
    /// Set if its values were skipped: there are none then.
    pub(crate) unread: Option<Unread>,
    /// The values begin at an offset.
    body: Vec<u8>,
    values_at: usize,
    pub(crate) attached: Attached,
}

impl Frame {
    /// A frame of values that did not come in one.
    pub(crate) fn of(header: Header, body: Vec<u8>) -> Self {
        Self { header, code: None, unread: None, body, values_at: 0, attached: Attached::default() }
    }

    fn without_values(self) -> Self {
        let code = self.code;
        Self { code, ..Self::of(self.header, Vec::new()) }
    }

    /// Makes room for the next segment that is not empty. `false`: there is none.
    fn make_room(&mut self, lengths: &mut std::vec::IntoIter<usize>) -> io::Result<bool> {
        for length in lengths {
            self.attached.segments.push(ReceivedSegment::new(length)?);
            if length > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn values(&self) -> &[u8] {
        &self.body[self.values_at..]
    }

    /// Takes code and values, to be sent on.
    pub(crate) fn into_content(self) -> Content {
        let mut body = self.body;
        body.drain(..self.values_at); // in place: there may be no memory for a copy
        let Attached { segments, descriptors } = self.attached;
        let segments = segments.into_iter().map(Into::into).collect();
        let descriptors = descriptors.into_iter().map(|fd| Descriptor::new(fd.into())).collect();
        Content { code: self.code, values: Encoded { body, segments, descriptors } }
    }

    /// Returns the number of bytes of values.
    pub(crate) fn len(&self) -> usize {
        let segments = self.attached.segments.iter();
        self.values().len() + segments.map(|segment| segment.len()).sum::<usize>()
    }
}

/// Something that is not a frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Garbage {
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a frame in an unknown format {0}")]
    Format(u8),
    #[error("a frame with a body of {0} bytes, too short for what it should hold")]
    Short(u64),
    #[error("a frame of {0} bytes, for which there is no memory")]
    Long(u64),
    #[error("a frame with other descriptors than it announces")]
    Descriptors,
}

/// The longest segment that is taken for one: an address space has no more.
const LONGEST: u64 = 1 << 47;

/// Puts frames together from what a socket has.
pub(crate) struct FrameReader {
    buffer: Box<[u8]>,
    /// Range of the buffer that was read and not looked at yet.
    start: usize,
    end: usize,
    stage: Stage,
    /// Maximum number of bytes of values in a frame.
    limit: u64,
    /// Descriptors that have come, of frames whose headers were not looked at yet.
    batches: VecDeque<Batch>,
    /// Those of the frame that is being put together.
    descriptors: Vec<OwnedFd>,
}

enum Stage {
    Header,
    /// `missing` bytes of the body are still to come.
    Body {
        shape: Shape,
        body: Vec<u8>,
        missing: usize,
        /// Why its values are not kept.
        unread: Option<Unread>,
    },
    /// The last one of the frame's segments is filled up to `filled`; `lengths` are of the others.
    Segments {
        frame: Frame,
        filled: usize,
        lengths: std::vec::IntoIter<usize>,
    },
    /// `missing` bytes of the segments are still to be skipped.
    Skip {
        frame: Frame,
        missing: u64,
    },
}

/// The fields of a header that describe its frame.
#[derive(Clone, Copy)]
struct Shape {
    header: Header,
    segments: usize,
    descriptors: usize,
    length: usize,
}

impl Shape {
    /// The length of what comes before the values: code, and the segments' lengths.
    fn before(&self) -> usize {
        let code = if self.header.kind.has_code() { CODE } else { 0 };
        code + 8 * self.segments
    }

    fn size(&self) -> u64 {
        (self.length - self.before()) as u64
    }

    fn unread(&self, why: Why) -> Unread {
        Unread { size: self.size(), why }
    }

    /// Makes room in the body for `count` of the `missing` bytes. If there is no memory for them, the
    /// values are no longer kept.
    fn make_room(&self, body: &mut Vec<u8>, count: usize, missing: usize) -> Option<Unread> {
        if count <= body.capacity() - body.len() {
            return None;
        }
        // At most doubled, so that no memory is taken that a wrong length asks for.
        let more = missing.min(body.len().max(BUFFER));
        body.try_reserve_exact(more).err()?;
        // The code and the lengths of the segments are still needed, to find the end of the frame.
        body.truncate(self.before());
        body.shrink_to_fit();
        Some(self.unread(Why::NoMemory))
    }
}

impl FrameReader {
    /// Frames with more than `limit` bytes of values arrive without these.
    pub(crate) fn new(limit: u64) -> Self {
        let buffer = vec![0; BUFFER].into();
        Self {
            buffer,
            start: 0,
            end: 0,
            stage: Stage::Header,
            limit,
            batches: VecDeque::new(),
            descriptors: Vec::new(),
        }
    }

    /// Reads once. 0: the other side has closed.
    pub(crate) fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        match &mut self.stage {
            Stage::Segments { frame, filled, .. } => {
                let segment = frame.attached.segments.last_mut();
                let Some(segment) = segment else { unreachable!("one is open") };
                // The buffer is empty: `next` has taken all of it, and wants more.
                let received = socket::receive(from, &mut segment.as_mut()[*filled..])?;
                *filled += received;
                return Ok(received);
            }
            Stage::Body { shape, body, missing, unread } if *missing > DIRECT => {
                // More memory only once this is full, so that it is taken as the bytes arrive.
                *unread = unread.or_else(|| shape.make_room(body, 1, *missing));
                if unread.is_none() {
                    let received = socket::receive_behind(from, body, *missing)?;
                    *missing -= received;
                    return Ok(received);
                }
            }
            // Values that are not kept, and short rests of bodies, go through the buffer.
            _ => {}
        }
        // The rest is a part of a header at most.
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        // The other reads are within a frame, to its end at most, where there are none.
        let (received, batch) = socket::receive_with(from, &mut self.buffer[self.end..])?;
        self.end += received;
        self.batches.extend(batch);
        Ok(received)
    }

    /// Returns whether a frame has arrived in part.
    #[cfg(test)]
    pub(crate) fn is_inside(&self) -> bool {
        self.start < self.end || !matches!(self.stage, Stage::Header)
    }

    /// The next frame, if all of it has been read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Garbage> {
        let frame = self.assemble()?;
        let has_come = frame.is_some();
        // Descriptors come with the first byte of a frame: of one whose header has come in part, if it has none.
        let is_in_header = matches!(self.stage, Stage::Header) && self.start < self.end;
        if !has_come && self.batches.len() > usize::from(is_in_header) {
            return Err(Garbage::Descriptors);
        }
        Ok(frame.map(|mut frame| {
            if !self.descriptors.is_empty() {
                let descriptors = std::mem::take(&mut self.descriptors);
                // Values that were skipped have none.
                frame.attached.descriptors =
                    if frame.unread.is_none() { descriptors } else { Vec::new() };
            }
            frame
        }))
    }

    /// Takes the descriptors of the frame that begins with a header. An error if they are others than it
    /// announces.
    #[cold]
    fn take_descriptors(&mut self, shape: &Shape) -> Result<Option<Unread>, Garbage> {
        let batch = self.batches.pop_front().ok_or(Garbage::Descriptors)?;
        if !batch.is_whole {
            return Ok(Some(shape.unread(Why::NoDescriptors)));
        }
        if batch.descriptors.len() != shape.descriptors {
            return Err(Garbage::Descriptors);
        }
        self.descriptors = batch.descriptors;
        Ok(None)
    }

    fn assemble(&mut self) -> Result<Option<Frame>, Garbage> {
        if let Stage::Header = self.stage {
            // As a rule there is a whole frame, or nothing of one.
            if self.end - self.start < HEADER {
                return Ok(None);
            }
            if let Some(frame) = self.whole()? {
                return Ok(Some(frame));
            }
        }
        loop {
            let available = &self.buffer[self.start..self.end];
            match std::mem::replace(&mut self.stage, Stage::Header) {
                Stage::Header => {
                    let Some(bytes) = available.first_chunk::<HEADER>() else { return Ok(None) };
                    let shape = parse_header(bytes)?;
                    let is_too_long = shape.size() > self.limit;
                    let unread = is_too_long.then(|| shape.unread(Why::TooLong(self.limit)));
                    let unread = match shape.descriptors {
                        0 => unread,
                        _ => unread.or(self.take_descriptors(&shape)?),
                    };
                    let (body, missing) = (Vec::new(), shape.length);
                    self.stage = Stage::Body { shape, body, missing, unread };
                    self.start += HEADER;
                }
                Stage::Body { shape, mut body, mut missing, mut unread } => {
                    let count = missing.min(available.len());
                    unread = unread.or_else(|| shape.make_room(&mut body, count, missing));
                    let kept = match unread {
                        None => count,
                        Some(_) => count.min(shape.before().saturating_sub(body.len())),
                    };
                    body.extend_from_slice(&available[..kept]);
                    self.start += count;
                    missing -= count;
                    if missing > 0 {
                        self.stage = Stage::Body { shape, body, missing, unread };
                        return Ok(None);
                    }
                    let (frame, lengths) = parse_body(shape, body, unread)?;
                    if let Some(frame) = self.open_segment(frame, lengths.into_iter())? {
                        return Ok(Some(frame));
                    }
                }
                Stage::Segments { mut frame, mut filled, lengths } => {
                    let segment = frame.attached.segments.last_mut();
                    let Some(segment) = segment else { unreachable!("one is open") };
                    let missing = &mut segment.as_mut()[filled..];
                    let count = missing.len().min(available.len());
                    missing[..count].copy_from_slice(&available[..count]);
                    self.start += count;
                    filled += count;
                    if filled < segment.len() {
                        self.stage = Stage::Segments { frame, filled, lengths };
                        return Ok(None);
                    }
                    if let Some(frame) = self.open_segment(frame, lengths)? {
                        return Ok(Some(frame));
                    }
                }
                Stage::Skip { frame, mut missing } => {
                    let count = usize::try_from(missing).unwrap_or(usize::MAX).min(available.len());
                    self.start += count;
                    missing -= count as u64;
                    if missing == 0 {
                        return Ok(Some(frame));
                    }
                    self.stage = Stage::Skip { frame, missing };
                    return Ok(None);
                }
            }
        }
    }

    /// The next frame, if all of it is in the buffer, and its values are to be kept. Otherwise nothing is changed, and the frame is put together from its parts.
    #[inline]
    fn whole(&mut self) -> Result<Option<Frame>, Garbage> {
        let available = &self.buffer[self.start..self.end];
        let Some((header, rest)) = available.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let shape = parse_header(header)?;
        let is_alone = shape.segments == 0 && shape.descriptors == 0;
        let is_whole = is_alone && shape.length <= rest.len();
        let mut body = Vec::new();
        if !is_whole || shape.size() > self.limit || body.try_reserve_exact(shape.length).is_err() {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..shape.length]);
        self.start += HEADER + shape.length;
        let (frame, _) = parse_body(shape, body, None)?;
        Ok(Some(frame))
    }

    /// Goes on with the next segment that is not empty, in memory of its own or by skipping it.
    /// Returns the frame if there is none.
    fn open_segment(
        &mut self,
        mut frame: Frame,
        mut lengths: std::vec::IntoIter<usize>,
    ) -> Result<Option<Frame>, Garbage> {
        let missing = lengths.as_slice().iter().try_fold(0_u64, |sum, length| {
            let length = *length as u64;
            let sum = sum.checked_add(length).filter(|_| length <= LONGEST);
            sum.ok_or(Garbage::Long(length))
        })?;
        let read = frame.unread.map_or(frame.len() as u64, |unread| unread.size);
        let size = read.saturating_add(missing);
        let unread = match frame.unread {
            Some(unread) => Unread { size, ..unread },
            None if size > self.limit => Unread { size, why: Why::TooLong(self.limit) },
            None => match frame.make_room(&mut lengths) {
                Ok(false) => return Ok(Some(frame)),
                Ok(true) => {
                    self.stage = Stage::Segments { frame, filled: 0, lengths };
                    return Ok(None);
                }
                Err(_no_memory) => Unread { size, why: Why::NoMemory },
            },
        };
        let frame = Frame { unread: Some(unread), ..frame.without_values() };
        if missing == 0 {
            return Ok(Some(frame));
        }
        self.stage = Stage::Skip { frame, missing };
        Ok(None)
    }
}

/// The number in the first `N` bytes.
fn number<const N: usize>(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[..N]);
    u64::from_le_bytes(number)
}

fn parse_header(bytes: &[u8; HEADER]) -> Result<Shape, Garbage> {
    let kind = Kind::from_byte(bytes[0]).ok_or(Garbage::Kind(bytes[0]))?;
    if bytes[1] != FORMAT {
        return Err(Garbage::Format(bytes[1]));
    }
    let segments = number::<3>(&bytes[4..]);
    let descriptors = usize::from(bytes[7]);
    if descriptors > MOST_DESCRIPTORS {
        return Err(Garbage::Descriptors);
    }
    let length = number::<8>(&bytes[16..]);
    let code = if kind.has_code() { CODE as u64 } else { 0 };
    // This can't overflow: the number of segments has 24 bits.
    if length < code + 8 * segments {
        return Err(Garbage::Short(length));
    }
    // Nothing in memory is longer than that.
    let length = isize::try_from(length).map_err(|_| Garbage::Long(length))?.unsigned_abs();
    let header = Header {
        kind,
        slot: number::<2>(&bytes[2..]) as u16,
        number: number::<8>(&bytes[8..]),
        detail: number::<8>(&bytes[24..]),
    };
    Ok(Shape { header, segments: segments as usize, descriptors, length })
}

/// A frame without its segments, and their lengths.
fn parse_body(
    shape: Shape,
    body: Vec<u8>,
    unread: Option<Unread>,
) -> Result<(Frame, Vec<usize>), Garbage> {
    let Shape { header, segments, .. } = shape;
    // `parse_header` has seen to it that the body is long enough.
    let values_at = shape.before().min(body.len());
    let code = body.first_chunk().filter(|_| header.kind.has_code());
    let code = code.map(|code| NamedCall::from_bytes(*code));
    // No more memory than the lengths have taken in the body, which has arrived.
    let mut lengths = Vec::with_capacity(segments);
    for bytes in body[values_at - 8 * segments..values_at].chunks_exact(8) {
        let length = number::<8>(bytes);
        lengths.push(usize::try_from(length).map_err(|_| Garbage::Long(length))?);
    }
    let frame = Frame { header, code, unread, body, values_at, attached: Attached::default() };
    Ok((frame, lengths))
}

#[cfg(all(test, target_os = "linux", not(no_process_pool)))]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::remote::message::{Message, SHORT, write};
    use crate::sys::descriptors::may_have_many;
    use crate::sys::{self, AsFd, OwnedFd};

    fn kinds() -> Vec<Kind> {
        (0..=u8::MAX).filter_map(Kind::from_byte).collect()
    }

    /// All there is of a frame.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Parsed {
        kind: Kind,
        slot: u16,
        number: u64,
        detail: u64,
        code: Option<NamedCall>,
        values: Vec<u8>,
        segments: Vec<Vec<u8>>,
    }

    impl Parsed {
        fn of(mut frame: Frame) -> Self {
            let Header { kind, slot, number, detail } = frame.header;
            let (code, values) = (frame.code, frame.values().to_vec());
            let segments = frame.attached.segments.iter_mut();
            let segments = segments.map(|it| it.as_mut().to_vec()).collect();
            Self { kind, slot, number, detail, code, values, segments }
        }

        fn header(&self) -> Header {
            let Self { kind, slot, number, detail, .. } = *self;
            Header { kind, slot, number, detail }
        }

        fn content(&self) -> Content {
            let segments = self.segments.iter().map(|bytes| {
                let mut segment = ReceivedSegment::new(bytes.len()).unwrap();
                segment.as_mut().copy_from_slice(bytes);
                segment.into()
            });
            let (body, segments) = (self.values.clone(), segments.collect());
            let values = Encoded { body, segments, ..Encoded::default() };
            Content { code: self.code, values }
        }

        /// As it goes over the wire.
        fn bytes(&self) -> Vec<u8> {
            let content = self.content();
            let message = Message::new(Vec::new(), self.header(), &&content);
            let mut parts = Vec::new();
            message.add_to(&mut parts);
            parts.iter().flat_map(|part| part.to_vec()).collect()
        }

        /// How many bytes it takes there.
        fn length(&self) -> usize {
            let code = if self.code.is_some() { CODE } else { 0 };
            let segments: usize = self.segments.iter().map(|segment| 8 + segment.len()).sum();
            HEADER + code + self.values.len() + segments
        }
    }

    /// The same numbers every time.
    struct Numbers(u64);

    impl Numbers {
        /// By xorshift64*, from "Numerical Recipes", with the constants of Vigna (2016).
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn below(&mut self, limit: usize) -> usize {
            (self.next() >> 32) as usize % limit
        }

        fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
            all[self.below(all.len())]
        }

        fn bytes(&mut self, most: usize) -> Vec<u8> {
            let length = self.below(most + 1);
            (0..length).map(|_| self.next() as u8).collect()
        }

        fn frame(&mut self) -> Parsed {
            let kind = self.one_of(&kinds());
            let code = kind.has_code().then(|| {
                let mut code = [0; CODE];
                code.fill_with(|| self.next() as u8);
                NamedCall::from_bytes(code)
            });
            let segments = self.one_of(&[0, 0, 0, 1, 3]);
            Parsed {
                kind,
                slot: self.next() as u16,
                number: self.next(),
                detail: self.next(),
                code,
                values: self.bytes(80),
                segments: (0..segments).map(|_| self.bytes(20)).collect(),
            }
        }
    }

    /// A reader with its socket.
    struct Line {
        reader: FrameReader,
        socket: OwnedFd,
        theirs: OwnedFd,
    }

    impl Line {
        fn new() -> Self {
            let (socket, theirs) = socket::pair().unwrap();
            Self { reader: FrameReader::new(u64::MAX), socket, theirs }
        }

        /// Reads what was sent, then sends `bytes` in pieces, and reads each of them before the next is sent.
        fn carry(&mut self, bytes: &[u8], piece: usize) -> (Vec<Parsed>, Option<Garbage>) {
            self.carry_and(bytes, piece, |_| ())
        }

        /// The same, with a look at each frame.
        fn carry_and(
            &mut self,
            bytes: &[u8],
            piece: usize,
            mut look: impl FnMut(&Frame),
        ) -> (Vec<Parsed>, Option<Garbage>) {
            let mut frames = Vec::new();
            if let Some(garbage) = self.read(&mut frames, &mut look) {
                return (frames, Some(garbage));
            }
            for piece in bytes.chunks(piece) {
                let sent = socket::send(self.theirs.as_fd(), &[IoSlice::new(piece)]).unwrap();
                assert_eq!(sent, piece.len());
                if let Some(garbage) = self.read(&mut frames, &mut look) {
                    return (frames, Some(garbage));
                }
            }
            (frames, None)
        }

        /// Reads all there is.
        fn read(
            &mut self,
            frames: &mut Vec<Parsed>,
            look: &mut impl FnMut(&Frame),
        ) -> Option<Garbage> {
            loop {
                match self.reader.fill(self.socket.as_fd()) {
                    Ok(received) => assert!(received > 0),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                    Err(error) => panic!("{error}"),
                }
                loop {
                    match self.reader.next() {
                        Ok(Some(frame)) => {
                            look(&frame);
                            frames.push(Parsed::of(frame));
                        }
                        Ok(None) => break,
                        Err(garbage) => return Some(garbage),
                    }
                }
            }
        }

        /// How much memory the reader has taken for a frame that is not complete.
        fn memory(&self) -> usize {
            match &self.reader.stage {
                Stage::Header => 0,
                Stage::Body { body, .. } => body.capacity(),
                Stage::Segments { frame, .. } | Stage::Skip { frame, .. } => frame.body.capacity(),
            }
        }
    }

    #[test]
    fn a_kind_is_told_by_its_number() {
        use Kind::{
            BadArguments, BadValue, Failed, Panicked, Skipped, Unfinished, UnknownCode, Value,
        };
        assert!((0..=u8::MAX).all(|byte| Kind::from_byte(byte).is_none_or(|it| it as u8 == byte)));
        let replies: Vec<Kind> = kinds().into_iter().filter(|kind| kind.is_reply()).collect();
        assert_eq!(
            replies,
            [Value, Panicked, BadArguments, BadValue, UnknownCode, Skipped, Failed, Unfinished]
        );
    }

    #[test]
    fn a_frame_arrives_as_it_was_however_it_is_cut() {
        let mut numbers = Numbers(1);
        let mut line = Line::new();
        for piece in [1, 2, 7, 31, 32, 33, 64, usize::MAX] {
            let frames: Vec<Parsed> = (0..40).map(|_| numbers.frame()).collect();
            let bytes: Vec<u8> = frames.iter().flat_map(Parsed::bytes).collect();
            assert_eq!(bytes.len(), frames.iter().map(Parsed::length).sum::<usize>());
            let (arrived, garbage) = line.carry(&bytes, piece);
            assert!(garbage.is_none());
            assert_eq!(arrived, frames);
            assert!(!line.reader.is_inside());
        }
    }

    /// Bodies on both sides of each length at which something changes, and segments like them.
    /// Some go together, while what is before them is being sent.
    #[test]
    fn frames_in_line_arrive_as_they_were() {
        let mut numbers = Numbers(0x11e5);
        let mut frames: Vec<Parsed> = (0..1_000).map(|_| numbers.frame()).collect();
        for (at, length) in [(100, SHORT - CODE), (200, SHORT), (300, SHORT + 1), (400, BUFFER)] {
            frames[at].values = vec![7; length];
        }
        let contents: Vec<Content> = frames.iter().map(Parsed::content).collect();
        let mut line: Vec<Message<&Content>> = Vec::new();
        let (mut bytes, mut together) = (Vec::new(), 0);
        for (frame, content) in frames.iter().zip(&contents) {
            let header = frame.header();
            if line.last_mut().is_some_and(|last| last.append(header, &content)) {
                together += 1;
            } else {
                line.push(Message::new(Vec::new(), header, &content));
            }
            let Some(first) = line.first_mut() else { continue };
            let mut parts = Vec::new();
            first.add_to(&mut parts);
            let parts: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            assert_eq!(parts.len(), first.missing());
            assert!(first.piece().is_none_or(|piece| piece == parts));
            let count = numbers.below(parts.len().min(200) + 1);
            bytes.extend(&parts[..count]);
            first.passed(count);
            if first.missing() == 0 {
                line.remove(0);
            }
        }
        for message in line {
            let mut parts = Vec::new();
            message.add_to(&mut parts);
            bytes.extend(parts.iter().flat_map(|part| part.to_vec()));
        }
        assert!(together > 100, "{together}");
        let (arrived, garbage) = Line::new().carry(&bytes, 10_000);
        assert!(garbage.is_none());
        assert!(arrived == frames);
    }

    #[test]
    fn long_frames_arrive_as_they_were() {
        let mut numbers = Numbers(2);
        for length in [SHORT, DIRECT, BUFFER, 2 * BUFFER, 3 * BUFFER + 5] {
            for (body, segment) in [(length, 0), (0, length), (length, length)] {
                for more in [0, 1, HEADER] {
                    let mut frame = numbers.frame();
                    frame.values = vec![numbers.next() as u8; body + more];
                    frame.segments = vec![vec![numbers.next() as u8; segment + more]; 2];
                    let sent = [frame, numbers.frame()];
                    let bytes: Vec<u8> = sent.iter().flat_map(Parsed::bytes).collect();
                    let (arrived, garbage) = Line::new().carry(&bytes, BUFFER - 1);
                    assert!(garbage.is_none());
                    assert!(arrived == sent, "{body} {segment} {more}");
                }
            }
        }
    }

    /// By `write`, which sends as much at a time as there is room for.
    #[test]
    fn a_written_frame_is_read() {
        let Line { mut reader, socket, theirs } = Line::new();
        let mut frame = Numbers(3).frame();
        frame.values = vec![5; 3 << 20];
        frame.segments = vec![vec![6; 1 << 20]; 2];
        let (header, content) = (frame.header(), frame.content());
        let writer = std::thread::spawn(move || {
            write(theirs.as_fd(), header, &content, &mut Vec::new()).unwrap();
        });
        let arrived = loop {
            if let Some(frame) = reader.next().unwrap() {
                break frame;
            }
            match reader.fill(socket.as_fd()) {
                Ok(received) => assert!(received > 0),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        writer.join().unwrap();
        assert!(Parsed::of(arrived) == frame);
        assert_eq!(reader.fill(socket.as_fd()).unwrap(), 0); // the writer has closed its end
    }

    /// What no worker sends, in the place of a header's field.
    #[test]
    fn what_is_no_frame_is_found_out() {
        let (kind, code) = (Kind::Call, Some(NamedCall::from_bytes([1; CODE])));
        let (values, segments) = (vec![5; 10], vec![Vec::new(); 2]);
        let bytes = Parsed { kind, code, values, segments, ..Numbers(4).frame() }.bytes();
        let with = |at: usize, field: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..][..field.len()].copy_from_slice(field);
            Line::new().carry(&bytes, usize::MAX).1.map(|garbage| garbage.to_string())
        };
        let too_long = "for which there is no memory";
        for (at, field, text) in [
            (0, &[0][..], "a frame of unknown kind 0"),
            (0, &[255], "a frame of unknown kind 255"),
            (1, &[2], "a frame in an unknown format 2"),
            (16, &47_u64.to_le_bytes(), "a frame with a body of 47 bytes, too short"),
            (16, &u64::MAX.to_le_bytes(), too_long),
            (16, &(1_u64 << 63).to_le_bytes(), too_long),
            (4, &[255; 3], "too short for what it should hold"),
            (7, &[1], "other descriptors than it announces"),
            (7, &[254], "other descriptors than it announces"),
            (HEADER + CODE, &u64::MAX.to_le_bytes(), too_long),
            (HEADER + CODE + 8, &(1_u64 << 63).to_le_bytes(), too_long),
            (HEADER + CODE + 8, &(1_u64 << 62).to_le_bytes(), too_long),
        ] {
            let garbage = with(at, field).unwrap_or_default();
            assert!(garbage.contains(text), "{at} {field:?}: {garbage:?}");
        }
        // Code and lengths fill the body to its last byte.
        assert_eq!(with(16, &48_u64.to_le_bytes()), None);
    }

    #[test]
    fn garbage_stays_garbage() {
        let mut line = Line::new();
        assert!(line.carry(&[0; HEADER], usize::MAX).1.is_some());
        let frame = Numbers(5).frame().bytes();
        assert!(line.carry(&frame, usize::MAX).1.is_some());
        assert!(line.reader.next().is_err());
    }

    /// Of both sides of the limit, in the body and beside it, however they are cut.
    #[test]
    fn what_is_longer_than_the_limit_is_skipped() {
        const LIMIT: usize = 3 * DIRECT;
        let mut numbers = Numbers(8);
        for piece in [7, DIRECT, BUFFER - 1] {
            for (values, segments) in [
                (LIMIT, &[][..]),
                (LIMIT + 1, &[]),
                (BUFFER + LIMIT, &[0, 5, 0]),
                (LIMIT - 100, &[50, 0, 50]),
                (LIMIT - 100, &[50, 51]),
                (0, &[0, LIMIT, 0, 1, 0]),
            ] {
                let mut frame = numbers.frame();
                frame.values = vec![3; values];
                frame.segments = segments.iter().map(|length| vec![4; *length]).collect();
                let next = numbers.frame();
                let size = values + segments.iter().sum::<usize>();
                let mut line = Line::new();
                line.reader.limit = LIMIT as u64;
                let mut unread = None;
                let bytes = [frame.bytes(), next.bytes()].concat();
                let (arrived, garbage) = line.carry_and(&bytes, piece, |frame| {
                    unread = unread.or(frame.unread);
                });
                assert!(garbage.is_none());
                assert_eq!(arrived.len(), 2, "{values} {segments:?} {piece}");
                assert!(arrived[1] == next, "{values} {segments:?} {piece}");
                if size <= LIMIT {
                    assert!(unread.is_none() && arrived[0] == frame);
                } else {
                    let why = Why::TooLong(LIMIT as u64);
                    assert_eq!(unread, Some(Unread { size: size as u64, why }));
                    let without = (arrived[0].kind, arrived[0].number, arrived[0].code);
                    assert!(without == (frame.kind, frame.number, frame.code));
                    assert!(arrived[0].values.is_empty() && arrived[0].segments.is_empty());
                }
            }
        }
    }

    /// Makes `count` descriptors, each of another file.
    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| sys::memory_file(0).unwrap()).collect()
    }

    fn identities(all: impl IntoIterator<Item = impl AsFd>) -> Vec<(u64, u64)> {
        all.into_iter().map(|fd| sys::identity(fd).unwrap()).collect()
    }

    fn with_descriptors(frame: &Parsed, descriptors: usize) -> Vec<u8> {
        let mut bytes = frame.bytes();
        bytes[7] = descriptors as u8;
        bytes
    }

    /// W-12.
    #[test]
    fn descriptors_arrive_with_their_frame_however_it_is_cut() {
        if !may_have_many() {
            return;
        }
        let mut numbers = Numbers(0xfd);
        for piece in [1, 31, 32, 33, 60, usize::MAX] {
            let mut line = Line::new();
            let (mut sent, mut arrived) = (Vec::new(), Vec::new());
            let mut frames = Vec::new();
            for count in [0, 1, 2, 0, 0, MOST_DESCRIPTORS, 1, 0] {
                let frame = numbers.frame();
                let all = descriptors(count);
                sent.push(identities(&all));
                let bytes = with_descriptors(&frame, count);
                let (first, rest) = bytes.split_at(piece.min(bytes.len()));
                let borrowed: Vec<_> = all.iter().map(AsFd::as_fd).collect();
                let parts = [IoSlice::new(first)];
                let theirs = line.theirs.as_fd();
                assert_eq!(socket::send_with(theirs, &parts, &borrowed).unwrap(), first.len());
                drop(all);
                let look = |frame: &Frame| arrived.push(identities(&frame.attached.descriptors));
                let (got, garbage) = line.carry_and(rest, piece, look);
                assert!(garbage.is_none());
                assert_eq!(got, [frame]);
                frames.push(got);
            }
            assert_eq!(arrived, sent);
        }
    }

    /// W-12: several frames that are sent before the first is read, as a worker does that has much to say.
    #[test]
    fn descriptors_of_frames_that_are_read_together_keep_to_their_frames() {
        let mut numbers = Numbers(0xfdfd);
        let mut line = Line::new();
        let mut sent = Vec::new();
        for count in [2, 0, 1, 3, 0, 0, 1] {
            let all: Vec<_> =
                descriptors(count).into_iter().map(|fd| Descriptor::new(fd.into())).collect();
            sent.push(identities(all.iter().map(|fd| fd.as_fd())));
            let frame = numbers.frame();
            let mut content = frame.content();
            content.values.descriptors = all;
            write(line.theirs.as_fd(), frame.header(), &content, &mut Vec::new()).unwrap();
        }
        let mut arrived = Vec::new();
        let look = |frame: &Frame| arrived.push(identities(&frame.attached.descriptors));
        assert!(line.carry_and(&[], 1, look).1.is_none());
        assert_eq!(arrived, sent);
    }

    /// W-13.
    #[test]
    fn other_descriptors_than_a_frame_announces_are_garbage() {
        if !may_have_many() {
            return;
        }
        let frame = Numbers(3).frame();
        let header = |announced: usize| with_descriptors(&frame, announced);
        for (announced, come) in [(1, 0), (0, 1), (1, 2), (2, 1), (254, 253), (255, 0)] {
            let mut line = Line::new();
            let all = descriptors(come);
            let borrowed: Vec<_> = all.iter().map(AsFd::as_fd).collect();
            let bytes = header(announced);
            socket::send_with(line.theirs.as_fd(), &[IoSlice::new(&bytes)], &borrowed).unwrap();
            let (_, garbage) = line.carry_and(&[], 1, |_| ());
            assert!(matches!(garbage, Some(Garbage::Descriptors)), "{announced} {come}");
        }
        // More than one for a header that has not come.
        let mut line = Line::new();
        for _ in 0..2 {
            let fd = &descriptors(1)[0];
            let (theirs, byte) = (line.theirs.as_fd(), [IoSlice::new(&[16])]);
            socket::send_with(theirs, &byte, &[fd.as_fd()]).unwrap();
        }
        assert!(matches!(line.carry_and(&[], 1, |_| ()).1, Some(Garbage::Descriptors)));
    }

    #[test]
    fn memory_for_a_body_is_taken_as_its_bytes_arrive() {
        for claimed in [1_u64 << 20, 1 << 40, i64::MAX as u64] {
            let mut line = Line::new();
            let mut bytes = Numbers(6).frame().bytes();
            bytes.truncate(HEADER);
            bytes[0] = Kind::Value as u8;
            bytes[4..8].fill(0);
            bytes[16..24].copy_from_slice(&claimed.to_le_bytes());
            bytes.resize(300 * 1024, 7);
            for sent in [1000, 20_000, 300 * 1024] {
                let mut line = Line::new();
                let (frames, garbage) = line.carry(&bytes[..sent], 1024);
                assert!(frames.is_empty() && garbage.is_none());
                assert!(line.reader.is_inside());
                assert!(line.memory() <= 2 * sent + 2 * BUFFER, "{claimed} {sent}");
            }
            // The lengths alone of the most segments there can be would take 128 MiB.
            bytes[4..7].fill(255);
            bytes[16..24].copy_from_slice(&(8_u64 << 24).to_le_bytes());
            assert!(line.carry(&bytes, 1024).1.is_none());
            assert!(line.memory() <= 2 * bytes.len() + 2 * BUFFER);
        }
    }

    /// Also where the last bytes come by way of the buffer.
    #[test]
    fn a_body_takes_as_much_memory_as_it_is_long() {
        for length in [DIRECT, BUFFER, 4 * BUFFER, 16 * BUFFER] {
            for more in [0, HEADER, DIRECT] {
                let mut frame = Numbers(9).frame();
                frame.values = vec![8; length + more];
                let mut line = Line::new();
                line.carry_and(&frame.bytes(), BUFFER, |frame| {
                    assert_eq!(frame.body.capacity(), frame.body.len(), "{length} {more}");
                });
            }
        }
    }

    /// What a stream is, told at a glance: its frames, and how it ends.
    fn by_the_book(mut bytes: &[u8]) -> (Vec<Parsed>, End) {
        let mut frames = Vec::new();
        let number = |bytes: &[u8]| {
            bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        loop {
            let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
                return (frames, End::Inside(!bytes.is_empty()));
            };
            let Some(kind) = Kind::from_byte(header[0]) else { return (frames, End::Garbage) };
            if header[1] != FORMAT {
                return (frames, End::Garbage);
            }
            let (count, length) = (number(&header[4..7]), number(&header[16..24]));
            let before = if kind.has_code() { CODE as u64 } else { 0 } + 8 * count;
            // No descriptors come along.
            if header[7] > 0 || length < before || length > isize::MAX as u64 {
                return (frames, End::Garbage);
            }
            let Some((body, mut rest)) = rest.split_at_checked(length as usize) else {
                return (frames, End::Inside(true));
            };
            let (before, values) = body.split_at(before as usize);
            let (code, lengths) = before.split_at(before.len() - 8 * count as usize);
            let mut segments = Vec::new();
            for length in lengths.chunks(8).map(number) {
                let Some((segment, behind)) = rest.split_at_checked(length as usize) else {
                    // There may be memory for it, or not.
                    let is_too_long = length > 1 << 47;
                    return (frames, if is_too_long { End::Garbage } else { End::Either });
                };
                segments.push(segment.to_vec());
                rest = behind;
            }
            frames.push(Parsed {
                kind,
                slot: number(&header[2..4]) as u16,
                number: number(&header[8..16]),
                detail: number(&header[24..32]),
                code: (!code.is_empty()).then(|| NamedCall::from_bytes(code.try_into().unwrap())),
                values: values.to_vec(),
                segments,
            });
            bytes = rest;
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum End {
        Garbage,
        /// Within a frame, or between two.
        Inside(bool),
        /// Within a segment, unless that is too long.
        Either,
    }

    /// Streams of frames with something wrong in them. The reader finds in each just what is there,
    /// however the stream is cut, and takes no more memory than a few times what it was sent.
    #[test]
    fn a_damaged_stream_is_read_as_far_as_it_is_one() {
        const CASES: usize = 20_000;
        const LENGTHS: [u64; 12] = [
            0,
            1,
            7,
            8,
            31,
            32,
            33,
            DIRECT as u64 + 1,
            1 << 31,
            u32::MAX as u64,
            1 << 62,
            u64::MAX,
        ];
        let mut numbers = Numbers(7);
        let mut seen = [0; 4];
        for case in 0..CASES {
            let frames = 1 + numbers.below(3);
            let mut bytes: Vec<u8> = (0..frames).flat_map(|_| numbers.frame().bytes()).collect();
            for _ in 0..numbers.below(4) {
                let at = numbers.below(bytes.len());
                match numbers.below(6) {
                    0 => bytes[at] ^= 1 << numbers.below(8),
                    1 => bytes[at] = numbers.one_of(&[0, 1, 0x7f, 0x80, 0xff]),
                    2 => bytes.truncate(at + 1),
                    3 => drop(bytes.drain(at..(at + 1 + numbers.below(40)).min(bytes.len() - 1))),
                    4 => drop(bytes.splice(at..at, numbers.bytes(40)).count()),
                    // A number in its place, in the first frame or wherever.
                    _ => {
                        let at = if numbers.below(2) == 0 { 8 * numbers.below(8) } else { at };
                        let number = numbers.one_of(&LENGTHS).to_le_bytes();
                        let end = bytes.len().min(at + 8);
                        if let Some(field) = bytes.get_mut(at..end) {
                            field.copy_from_slice(&number[..field.len()]);
                        }
                    }
                }
            }
            let small = 1 + numbers.below(50);
            let piece = numbers.one_of(&[small, usize::MAX]);
            let (expected, end) = by_the_book(&bytes);
            let mut line = Line::new();
            let (arrived, garbage) = line.carry(&bytes, piece);
            assert_eq!(arrived, expected, "case {case}");
            let found = match (garbage, end) {
                (None | Some(Garbage::Long(_)), End::Either) => End::Either,
                (Some(_), _) => End::Garbage,
                (None, _) => End::Inside(line.reader.is_inside()),
            };
            assert_eq!(found, end, "case {case}");
            assert!(line.memory() <= 2 * bytes.len() + 2 * BUFFER, "case {case}");
            seen[match end {
                End::Garbage => 0,
                End::Inside(true) => 1,
                End::Inside(false) => 2,
                End::Either => 3,
            }] += 1;
        }
        // All of it happens, so all of it was tested.
        assert!(seen.iter().all(|count| *count > CASES / 100), "{seen:?}");
    }
}
