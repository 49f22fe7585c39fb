//! The outgoing line of a worker: frames that wait for room in its socket. In the owner's process.
//!
//! Decisions are made under the owner's lock; a system call there would let others wait. So a frame is
//! put in line under that lock, and sent after it is released, by the thread that has released it. Two
//! such threads may come to the line in any order:
//!
//! | order | kept by |
//! | --- | --- |
//! | of frames in line: that of the decisions | the owner's lock, which both are made under |
//! | of bytes in the socket: that of the line | the line's lock, held during the send |
//! | of words to the reactor: that of the looks at the socket | the line's lock, held during the word |
//!
//! A frame is sent by the thread that has put it in line, by another one before that, or, if there is no
//! room, by the reactor's, which is told of the room.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

use crate::codec::handle::Descriptor;
use crate::remote::frame::Header;
use crate::remote::message::{Message, Payload};
use crate::shrink::shrink;
use crate::sync::Mutex;

pub(crate) struct Outgoing(Mutex<Line>);

struct Line {
    frames: VecDeque<Message<Payload>>,
    /// The room of a message that was sent, for the next one.
    room: Vec<u8>,
    /// The last send found no room, and the reactor watches for it.
    is_stuck: bool,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Line { frames: VecDeque::new(), room: Vec::new(), is_stuck: false }))
    }

    /// Puts a frame in line, under the owner's lock.
    pub(crate) fn push(&self, header: Header, content: &Payload) {
        let mut line = self.0.lock();
        // Short frames go together: one piece of memory for all, and one part to send.
        if !line.frames.back_mut().is_some_and(|last| last.append(header, content)) {
            let room = std::mem::take(&mut line.room);
            line.frames.push_back(Message::new(room, header, content));
        }
    }

    /// Sends what is in line, as far as the socket takes it, without the owner's lock. `watch` is
    /// called if that has changed since the last flush: with `true` if there is no room, and the
    /// line is to be flushed once there is. `retry` is called if too many descriptors are under way: the line
    /// is to be flushed a while later. Any other error of `send` has to be the connection's end,
    /// which the reactor reports: half a frame may have been sent.
    pub(crate) fn flush(
        &self,
        send: impl Fn(&[IoSlice<'_>], &[Descriptor]) -> io::Result<usize>,
        watch: impl FnOnce(bool),
        retry: impl FnOnce(),
    ) {
        // Bounds the list for one call. A single frame may have more parts; what the call does not
        // take is sent by the next one.
        const MOST_PARTS: usize = 256;
        let mut line = self.0.lock();
        let mut is_stuck = false;
        while !line.frames.is_empty() && !is_stuck {
            // With the line locked, so that bytes keep its order whichever thread sends them. A
            // short send is no reason to wait: if the socket is full, the next one says so.
            let sent = match line.only_piece() {
                Some(piece) => send(&[IoSlice::new(piece)], &[]),
                None => {
                    let mut parts: Vec<IoSlice<'_>> = Vec::new();
                    let mut descriptors: &[Descriptor] = &[];
                    for frame in &line.frames {
                        // They go with the first byte of a call.
                        match (parts.is_empty(), frame.descriptors()) {
                            (true, of_frame) => descriptors = of_frame,
                            (false, []) => {}
                            (false, _) => break,
                        }
                        frame.add_to(&mut parts);
                        if parts.len() >= MOST_PARTS {
                            break;
                        }
                    }
                    send(&parts, descriptors)
                }
            };
            match sent {
                Ok(count) => line.remove_sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => is_stuck = true,
                Err(error) if error.kind() == ErrorKind::ResourceBusy => return retry(),
                Err(_ended) => line.frames.clear(),
            }
        }
        if std::mem::replace(&mut line.is_stuck, is_stuck) != is_stuck {
            watch(is_stuck); // still under the lock, so that the last word is right
        }
    }
}

impl Line {
    /// Returns what is left to send, if that is one piece.
    fn only_piece(&self) -> Option<&[u8]> {
        if self.frames.len() == 1 { self.frames.front()?.piece() } else { None }
    }

    /// Removes the first `count` bytes, which have been sent.
    fn remove_sent(&mut self, mut count: usize) {
        while let Some(frame) = self.frames.front_mut() {
            let missing = frame.missing();
            if count < missing {
                return frame.passed(count);
            }
            count -= missing;
            if let Some(sent) = self.frames.pop_front() {
                self.room = sent.into_room();
            }
            shrink(&mut self.frames);
        }
    }
}
