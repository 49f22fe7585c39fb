//! Frames on their way out: their bytes, in as few pieces of memory as they need. Both ends.

use std::borrow::Borrow;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::frame::{CODE, Content, FORMAT, HEADER, Header};
use crate::codec::Encoded;
use crate::codec::handle::Descriptor;
use crate::sys::{AsFd, BorrowedFd, socket};

/// In bytes. A body that is no longer is copied behind the header, so that there is one piece of
/// memory to send. Values of a longer one are sent from where they are.
pub(super) const SHORT: usize = 1024;

/// In bytes. A message takes in further frames up to this length.
const FULL: usize = 16 * 1024;

/// In bytes. Room that is kept from one message to the next: for as many calls without much of a value
/// as a worker may have.
const MOST_ROOM: usize = 8 * 1024;

/// The content of a frame that may be sent more than once. A long one is shared with its messages.
pub(crate) enum Payload {
    Short(Content),
    Long(Arc<Content>),
}

impl From<Content> for Payload {
    fn from(content: Content) -> Self {
        if is_whole(&content) { Self::Short(content) } else { Self::Long(Arc::new(content)) }
    }
}

impl Payload {
    pub(crate) fn has_descriptors(&self) -> bool {
        !self.descriptors().is_empty()
    }

    pub(crate) fn descriptors(&self) -> &[Descriptor] {
        match self {
            // All that has some is long.
            Self::Short(_) => &[],
            Self::Long(content) => &content.values.descriptors,
        }
    }
}

impl Borrow<Content> for Payload {
    fn borrow(&self) -> &Content {
        match self {
            Self::Short(content) => content,
            Self::Long(content) => content,
        }
    }
}

impl Clone for Payload {
    fn clone(&self) -> Self {
        match self {
            // It has nothing but a body. Its message has a copy, so that this is not called.
            Self::Short(Content { code, values }) => {
                let values = Encoded { body: values.body.clone(), ..Encoded::default() };
                Self::Short(Content { code: *code, values })
            }
            Self::Long(content) => Self::Long(Arc::clone(content)),
        }
    }
}

/// Returns whether all of a content is copied behind its header.
fn is_whole(content: &Content) -> bool {
    content.values.is_body() && content.values.body.len() <= SHORT - CODE
}

/// A frame on its way out, or several ones in one piece of memory.
pub(crate) struct Message<C> {
    /// Header, code, lengths, and values that are short; and the same of the frames behind it.
    head: Vec<u8>,
    /// The content, if not all of it is in the head. No frame follows then.
    content: Option<C>,
    /// The values are in the head.
    is_short: bool,
    sent: usize,
}

impl<C: Borrow<Content> + Clone> Message<C> {
    /// A message of one frame, whose head is put together in `head`, which is empty and may have room.
    pub(crate) fn new(mut head: Vec<u8>, header: Header, content: &C) -> Self {
        let is_short = put_head(&mut head, header, content.borrow());
        let is_whole = is_short && content.borrow().values.is_body();
        Self { head, content: (!is_whole).then(|| content.clone()), is_short, sent: 0 }
    }

    /// Puts one more frame behind the others. `false`: it is to have a message of its own.
    pub(crate) fn append(&mut self, header: Header, content: &C) -> bool {
        if !is_whole(content.borrow()) || self.content.is_some() || self.head.len() > FULL {
            return false;
        }
        put_head(&mut self.head, header, content.borrow())
    }

    /// Returns the number of bytes that are left to send.
    pub(crate) fn missing(&self) -> usize {
        let all = || self.pieces().map(<[u8]>::len).sum::<usize>() - self.sent;
        self.piece().map_or_else(all, <[u8]>::len)
    }

    /// Returns the descriptors that are to go with the next byte.
    pub(crate) fn descriptors(&self) -> &[Descriptor] {
        match &self.content {
            Some(content) if self.sent == 0 => &content.borrow().values.descriptors,
            _ => &[],
        }
    }

    /// Returns what is left to send, if that is one piece.
    pub(crate) fn piece(&self) -> Option<&[u8]> {
        if self.content.is_none() { self.head.get(self.sent..) } else { None }
    }

    /// Returns the room of the head, unless that has become long.
    pub(crate) fn into_room(self) -> Vec<u8> {
        let mut room = self.head;
        room.clear();
        if room.capacity() <= MOST_ROOM { room } else { Vec::new() }
    }

    /// Adds what is left to `parts`.
    pub(crate) fn add_to<'a>(&'a self, parts: &mut Vec<IoSlice<'a>>) {
        let mut sent = self.sent;
        for piece in self.pieces() {
            let skipped = sent.min(piece.len());
            sent -= skipped;
            if skipped < piece.len() {
                parts.push(IoSlice::new(&piece[skipped..]));
            }
        }
    }

    /// Records that `count` more bytes have been sent.
    pub(crate) fn passed(&mut self, count: usize) {
        self.sent += count;
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let values = self.content.iter().map(|content| &content.borrow().values);
        let is_short = self.is_short;
        let rest = values.flat_map(move |values| {
            let body = if is_short { &[][..] } else { &values.body };
            let segments = values.segments.iter().map(|segment| &segment[..]);
            [body].into_iter().chain(segments)
        });
        [&self.head[..]].into_iter().chain(rest)
    }
}

/// Appends header, code, the lengths of segments, and values that are short. Returns whether these are.
fn put_head(head: &mut Vec<u8>, header: Header, content: &Content) -> bool {
    let Content { code, values } = content;
    debug_assert_eq!(header.kind.has_code(), code.is_some());
    let before = if code.is_some() { CODE } else { 0 } + 8 * values.segments.len();
    // The segments are not in the length of the body; their own lengths come before the values.
    let length = before + values.body.len();
    let is_short = length <= SHORT;
    head.reserve(HEADER + if is_short { length } else { before });
    let mut fixed = [0; HEADER];
    fixed[0] = header.kind as u8;
    fixed[1] = FORMAT;
    fixed[2..4].copy_from_slice(&header.slot.to_le_bytes());
    // The encoder has seen to it that both fit.
    fixed[4..8].copy_from_slice(&(values.segments.len() as u32).to_le_bytes());
    fixed[7] = values.descriptors.len() as u8;
    fixed[8..16].copy_from_slice(&header.number.to_le_bytes());
    fixed[16..24].copy_from_slice(&(length as u64).to_le_bytes());
    fixed[24..].copy_from_slice(&header.detail.to_le_bytes());
    head.extend_from_slice(&fixed);
    if let Some(code) = code {
        head.extend_from_slice(&code.to_bytes());
    }
    for segment in &values.segments {
        head.extend_from_slice(&(segment.len() as u64).to_le_bytes());
    }
    if is_short {
        head.extend_from_slice(&values.body);
    }
    is_short
}

/// Sends `parts`, and descriptors with the first byte.
pub(crate) fn send(
    to: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptors: &[Descriptor],
) -> io::Result<usize> {
    if descriptors.is_empty() {
        return socket::send(to, parts);
    }
    let descriptors: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    socket::send_with(to, parts, &descriptors)
}

/// Time after which descriptors are sent again of which there were too many under way.
pub(crate) const DESCRIPTORS_RETRY: Duration = Duration::from_millis(10);

/// Writes a whole frame to a socket that blocks. Its head is put together in `room`, which the next
/// one finds there.
pub(crate) fn write(
    to: BorrowedFd<'_>,
    header: Header,
    content: &Content,
    room: &mut Vec<u8>,
) -> io::Result<()> {
    let mut message = Message::new(std::mem::take(room), header, &content);
    let mut missing = message.missing();
    while missing > 0 {
        let sent = match message.piece() {
            Some(piece) => socket::send(to, &[IoSlice::new(piece)])?,
            None => {
                let mut parts = Vec::new();
                message.add_to(&mut parts);
                match send(to, &parts, message.descriptors()) {
                    Err(busy) if busy.kind() == ErrorKind::ResourceBusy => {
                        // The system does not tell when others have arrived.
                        thread::sleep(DESCRIPTORS_RETRY);
                        continue;
                    }
                    sent => sent?,
                }
            }
        };
        message.passed(sent);
        missing -= sent;
    }
    *room = message.into_room();
    Ok(())
}
