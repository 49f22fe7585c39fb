//! A map's chunks in its submitter's process: many items in one frame, and many results.
//!
//! A chunk is one task to the pool. Its reply has a result for each item, in order; a part of them
//! may come before it. While it runs, the worker leaves its [`checkpoint`] in the shared control block: so
//! when it dies, one item is lost, the one that it ran. Results before that are taken from the
//! control block, and the items behind it are sent again.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::frame::{Content, Frame, Kind};
use super::reply::{self, guarded};
use super::run_chunk::RunChunk;
use super::submission::{ReplySink, Submission, Submit};
use super::{call, checkpoint};
use crate::codec::{Decoder, Encoder};
use crate::core::{Options, Promise};
use crate::error::{CodecSide, Error};
use crate::function::{self, NamedCall, UnknownCode};
use crate::future::TaskFuture;
use crate::map::apply::Remote;
use crate::panic::drop_quietly;
use crate::portable::Portable;
use crate::sync::Mutex;
use crate::trace::TaskTrace;

/// A map's function, for the pool's workers.
pub(crate) struct Chunks<A, R, P> {
    pool: P,
    code: Result<NamedCall, UnknownCode>,
    types: std::marker::PhantomData<fn(A) -> R>,
    under_way: Mutex<UnderWay>,
}

/// The chunks that were submitted and are not done.
#[derive(Default)]
struct UnderWay {
    tasks: Vec<u64>,
    is_stopped: bool,
}

/// The outcome of a chunk.
struct Outcome {
    parts: Parts,
    /// The reply, without its results.
    reply: Result<Frame, Error>,
}

/// The results of a chunk that came before its reply.
pub(crate) struct Parts {
    items: usize,
    /// Messages with results, in order, and how many each has.
    pub(crate) messages: Vec<(Frame, usize)>,
    /// Number of items that had been begun when the worker died.
    pub(crate) begun: usize,
}

impl Parts {
    pub(crate) fn of(items: usize) -> Self {
        Self { items, messages: Vec::new(), begun: 0 }
    }

    /// Returns the number of results.
    fn count(&self) -> usize {
        self.messages.iter().map(|(_, count)| count).sum()
    }

    /// Takes a message. `false`: it should not be, or has too many results.
    pub(crate) fn take(&mut self, frame: Frame) -> bool {
        let count = usize::try_from(frame.header.detail).unwrap_or(usize::MAX);
        let left = self.items - self.count();
        let most = if frame.header.kind == Kind::ItemFailed { left.min(1) } else { left };
        let is_right = (1..=most).contains(&count);
        if is_right {
            self.messages.push((frame, count));
        }
        is_right
    }

    /// Takes what a dead worker has left.
    pub(crate) fn salvage(&mut self, checkpoint: &[AtomicU64]) {
        self.begun = checkpoint::begun(checkpoint);
        if let Some((frame, count)) = checkpoint::finished(checkpoint, self.count()) {
            if count <= self.items - self.count() {
                self.messages.push((frame, count));
            }
        }
    }
}

struct ChunkPromise {
    promise: Promise<Outcome>,
    parts: Parts,
}

impl ReplySink for ChunkPromise {
    fn takes_long(&self, _length: usize) -> bool {
        false
    }

    fn part(&mut self, frame: Frame) -> bool {
        self.parts.take(frame)
    }

    fn salvage(&mut self, checkpoint: &[AtomicU64]) {
        self.parts.salvage(checkpoint);
    }

    fn begun(&mut self, items: usize) {
        self.parts.begun = items;
    }

    fn complete(
        self: Box<Self>,
        reply: Result<Frame, Error>,
        _trace: &TaskTrace,
        account: &dyn Fn(bool),
    ) {
        let is_value = reply.as_ref().is_ok_and(|reply| reply.header.kind == Kind::Value);
        let Self { promise, parts } = *self;
        promise.keep(Ok(Outcome { parts, reply }), || account(is_value));
    }
}

impl<A: Portable, R: Portable, P: Submit> Chunks<A, R, P> {
    pub(crate) fn new(pool: P, function: fn(A) -> R) -> Self {
        let code = function::name::<RunChunk, A, R>(function);
        Self { pool, code, types: std::marker::PhantomData, under_way: Mutex::default() }
    }

    /// Has a worker compute a chunk, and waits for it. `None`: the pool takes nothing more, or the
    /// map was stopped.
    fn run(&self, content: Content, items: usize) -> Option<Outcome> {
        let (promise, outcome) = Promise::new();
        let number = promise.id().get();
        {
            let mut under_way = self.under_way.lock();
            if under_way.is_stopped {
                return None;
            }
            under_way.tasks.push(number);
        }
        let sink = ChunkPromise { promise, parts: Parts::of(items) };
        let is_accepted = self.pool.submit(Submission {
            number,
            kind: Kind::Chunk,
            detail: items as u64,
            content,
            sink: Box::new(sink),
            options: Options::default(),
            retries: 0,
            holds_room: false,
            trace: TaskTrace::of_current(), // the map's, which this thread is in
        });
        let outcome = is_accepted.then(|| TaskFuture::new(outcome).result());
        self.under_way.lock().tasks.retain(|other| *other != number);
        outcome?.ok()
    }

    /// Puts the results of a message.
    fn unpack(&self, mut frame: Frame, count: usize, put: &mut dyn FnMut(Result<R, Error>)) {
        if let Err(error) = call::check_result::<R>(&frame) {
            return (0..count).for_each(|_| put(Err(Error::Codec(Box::new(error.clone())))));
        }
        if frame.header.kind == Kind::ItemFailed {
            return put(Err(reply::item_error(&frame)));
        }
        let segments = std::mem::take(&mut frame.segments);
        let mut done = 0;
        let unpacked = guarded::<R, _, _>(CodecSide::DecodeResult, || {
            let mut values = Decoder::new(frame.values(), segments);
            while done < count {
                put(Ok(values.next::<R>()?));
                done += 1;
            }
            values.finish()
        });
        if let Err(error) = unpacked {
            // Where one value can't be read, those behind it can't be told apart.
            (done..count).for_each(|_| put(Err(Error::Codec(Box::new(error.clone())))));
        }
    }
}

impl<A: Portable, R: Portable, P: Submit> Chunks<A, R, P> {
    /// Computes neighbouring items, and puts their results.
    fn compute_all(&self, mut items: &[A], put: &mut dyn FnMut(Result<R, Error>)) -> Duration {
        let mut time = Duration::ZERO;
        while !items.is_empty() {
            let (content, count) = match self.pack(items) {
                Ok(packed) => packed,
                Err(error) => {
                    put(Err(error));
                    items = &items[1..];
                    continue;
                }
            };
            let Some(outcome) = self.run(content, count) else {
                items.iter().for_each(|_| put(Err(self.pool.withdrawal())));
                return time;
            };
            let Outcome { parts: Parts { messages, begun, .. }, reply } = outcome;
            let mut done = 0;
            for (message, results) in messages {
                self.unpack(message, results, put);
                done += results;
            }
            match reply {
                Ok(reply) if reply.header.kind == Kind::Value => {
                    time += Duration::from_nanos(reply.header.detail);
                    self.unpack(reply, count - done, put);
                    done = count;
                }
                Err(Error::WorkerLost(lost)) if done < count => {
                    // All that it had begun is lost, but for what it has left; that is one item.
                    let begun = begun.clamp(done + 1, count);
                    (done..begun).for_each(|_| put(Err(Error::WorkerLost(lost.clone()))));
                    done = begun;
                }
                Err(Error::WorkerLost(_)) => {}
                Ok(frame) => {
                    (done..count).for_each(|_| put(Err(reply::unpack_error(&frame))));
                    done = count;
                }
                Err(_) => {
                    (done..count).for_each(|_| put(Err(self.pool.withdrawal())));
                    done = count;
                }
            }
            items = &items[done..];
        }
        time
    }

    /// A message with the first of the items, as many as go into one. The error is the first one's.
    fn pack(&self, items: &[A]) -> Result<(Content, usize), Error> {
        let side = CodecSide::EncodeArguments;
        let code = *self.code.as_ref().map_err(call::unknown_code::<A, R>)?;
        let mut encoder = Encoder::new();
        let pushed =
            guarded::<A, _, _>(side, || items.iter().try_for_each(|item| encoder.push(item)));
        match (pushed, encoder.len()) {
            (Err(error), 0) => Err(Error::Codec(Box::new(error))),
            // If there was an error, its item comes first the next time.
            (_, count) => Ok((Content { code: Some(code), values: encoder.finish() }, count)),
        }
    }
}

impl<A: Portable, R: Portable, P: Submit> Remote<A, R> for Chunks<A, R, P> {
    fn compute(
        &self,
        items: &mut dyn Iterator<Item = A>,
        put: &mut dyn FnMut(Result<R, Error>),
    ) -> Duration {
        // Kept to the end, since those that a dead worker had not begun are sent again.
        let items: Vec<A> = items.collect();
        let time = self.compute_all(&items, put);
        items.into_iter().for_each(drop_quietly);
        time
    }

    fn stop(&self) {
        let tasks = {
            let mut under_way = self.under_way.lock();
            under_way.is_stopped = true;
            std::mem::take(&mut under_way.tasks)
        };
        for task in tasks {
            self.pool.cancel(task);
        }
    }
}
