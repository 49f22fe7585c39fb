//! A map's context: the value that the function sees beside each item. Both ends.
//!
//! It is encoded once, and goes to a worker in a frame of its own, before the first chunk of its map that
//! is sent there. The worker keeps it for the chunks behind that, until it is told of the map's end. A
//! chunk names the context in its detail.
//!
//! ```text
//!         submitter (a task)          pool                         worker
//! start   Context, once        -->    kept with the worker
//! chunk   Submit, names it     -->    kept with the task     -->   Context, if it has not got it
//!                                                            -->   Chunk, names it by the pool's number
//! end     EndContext           -->    released               -->   EndContext, to all that have it
//! ```
//!
//! In the pool a context lives as long as its map or a task of it: the pool sees by the reference count
//! when there is none left. All of that is in the order of frames, so no answer is needed. A worker that
//! is lost takes its contexts with it, and the one in its place is sent them again.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Once};

use super::frame::{Content, Frame, Header, Kind};
use super::message::Payload;
use super::reply::{check_read, codec_error, guarded};
use crate::codec;
use crate::error::{CodecError, CodecSide};
use crate::panic::Quiet;
use crate::portable::Portable;

/// A context in the process of its map, or of the pool.
pub(crate) struct MapContext {
    number: u32,
    payload: Payload,
    /// A worker has sent it to its pool.
    announced: Once,
}

impl MapContext {
    pub(crate) fn new(content: Content) -> Arc<Self> {
        // Used again after 2^32 contexts, when the first ones have ended. 0 is none.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let next = || NEXT.fetch_add(1, Relaxed);
        let number = match next() {
            0 => next(),
            number => number,
        };
        Arc::new(Self { number, payload: content.into(), announced: Once::new() })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.into()
    }

    pub(crate) fn payload(&self) -> &Payload {
        &self.payload
    }

    pub(crate) fn header(&self) -> Header {
        Header { kind: Kind::Context, slot: 0, number: self.number(), detail: 0 }
    }

    /// Calls `send` if this is the first call. Any other one returns after that.
    pub(crate) fn announce(&self, send: impl FnOnce()) {
        self.announced.call_once(send);
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced.is_completed()
    }
}

/// The detail of a chunk: the number of its context, or 0, and that of its items.
#[derive(Clone, Copy)]
pub(crate) struct ChunkDetail {
    pub(crate) context: u64,
    pub(crate) items: u64,
}

impl ChunkDetail {
    /// The largest number of items of a chunk.
    pub(crate) const MOST_ITEMS: usize = u32::MAX as usize;

    pub(crate) fn pack(context: Option<&MapContext>, items: u64) -> u64 {
        let context = context.map_or(0, |context| context.number);
        u64::from(context) << 32 | items
    }

    pub(crate) fn unpack(detail: u64) -> Self {
        Self { context: detail >> 32, items: detail & u64::from(u32::MAX) }
    }
}

/// The contexts that a worker has.
#[derive(Default)]
pub(crate) struct Contexts(Vec<(u64, Held)>);

/// A context in the process that runs the map's chunks.
pub(crate) enum Held {
    /// No chunk has needed it so far, and only those know its type.
    Encoded(Frame),
    Decoded(Quiet<Box<dyn Any>>),
    Failed(CodecError),
}

impl Contexts {
    /// Keeps a context that has arrived.
    pub(crate) fn insert(&mut self, frame: Frame) {
        self.0.push((frame.header.number, Held::Encoded(frame)));
    }

    /// Takes a context, for a chunk or to drop it.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Held> {
        let at = self.0.iter().position(|(other, _)| *other == number)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Puts back what a chunk has taken.
    pub(crate) fn put_back(&mut self, number: u64, held: Held) {
        self.0.push((number, held));
    }
}

impl Held {
    /// Returns the context, which the first call decodes.
    pub(crate) fn open<C: Portable>(&mut self) -> Result<&C, CodecError> {
        let side = CodecSide::DecodeArguments;
        if let Self::Encoded(frame) = self {
            let attached = std::mem::take(&mut frame.attached);
            let decode =
                || guarded::<C, _, _>(side, || codec::decode::<C>(frame.values(), attached));
            let decoded = check_read::<C>(frame, side, "a context").and_then(|()| decode());
            *self = match decoded {
                Ok(context) => Self::Decoded(Quiet::new(Box::new(context))),
                Err(error) => Self::Failed(error),
            };
        }
        match self {
            Self::Decoded(context) => {
                let context = (**context).downcast_ref();
                context.ok_or_else(|| codec_error::<C>(side, "it is that of another map"))
            }
            Self::Failed(error) => Err(error.clone()),
            Self::Encoded(_) => unreachable!("it was decoded above"),
        }
    }
}
