//! A map's chunks in its submitter's process: many items in one frame, and many results.
//!
//! A chunk is one task to the pool. Its reply has a result for each item, in order; a part of them
//! may come before it. While it runs, the worker leaves its [`checkpoint`] in the shared control
//! block: so when it dies, one item is lost, the one that it ran. Results before that are taken from
//! the control block, and the items behind it are sent again.
//!
//! No thread waits for a reply: it is left to a helper thread as the next step of its chunk.

use std::marker::PhantomData;
use std::mem::needs_drop;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::frame::{Content, Frame, Kind};
use super::map_context::{ChunkDetail, MapContext};
use super::reply::{self, guarded};
use super::run_chunk::{RunChunk, RunChunkWith};
use super::submission::{Counted, ReplySink, Submission, Submit};
use super::{call, checkpoint};
use crate::codec::{self, Decoder, Encoder};
use crate::core::{Options, TaskId};
use crate::error::{CodecSide, Error};
use crate::function::{self, NamedCall, UnknownCode};
use crate::map::apply::Computed;
use crate::map::elsewhere::{Remote, Results};
use crate::panic::drop_quietly;
use crate::portable::Portable;
use crate::sync::Mutex;
use crate::trace::TaskTrace;

/// A map's function, for the pool's workers.
pub(crate) struct Chunks<A, R, P: Submit>(Arc<Shared<A, R, P>>);

struct Shared<A, R, P: Submit> {
    pool: P,
    /// The function's name, or the error that each item gets for want of one.
    code: Result<NamedCall, UnknownCode>,
    types: PhantomData<fn(A) -> R>,
    /// The value that the function sees beside each item, if it takes one; or why the map can't start.
    context: Result<Option<Arc<MapContext>>, Error>,
    under_way: Mutex<UnderWay>,
}

impl<A, R, P: Submit> Drop for Shared<A, R, P> {
    fn drop(&mut self) {
        // Each chunk that is not done has its map.
        if let Ok(Some(context)) = std::mem::replace(&mut self.context, Ok(None)) {
            self.pool.end_context(context);
        }
    }
}

/// The chunks that were submitted and are not done.
#[derive(Default)]
struct UnderWay {
    tasks: Vec<u64>,
    is_stopped: bool,
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

    /// Returns the number of values that there are with this reply.
    pub(crate) fn values(&self, reply: &Result<Frame, Error>) -> usize {
        let failed = |(frame, _): &&(Frame, usize)| frame.header.kind == Kind::ItemFailed;
        let before = self.count();
        let last = match reply {
            Ok(frame) if frame.header.kind == Kind::Value => self.items - before,
            _ => 0,
        };
        before + last - self.messages.iter().filter(failed).count()
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
            // The dead worker may have written any number.
            if count <= self.items - self.count() {
                self.messages.push((frame, count));
            }
        }
    }
}

impl<A: Portable, R: Portable, P: Submit> Chunks<A, R, P> {
    pub(crate) fn new(pool: P, function: fn(A) -> R) -> Self {
        Self::of(pool, function::name::<RunChunk, _>(function), Ok(None))
    }

    /// A function that takes a context as well, which is encoded here.
    pub(crate) fn with<C: Portable>(pool: P, context: C, function: fn(&C, A) -> R) -> Self {
        let code = function::name::<RunChunkWith, _>(function);
        let values = guarded::<C, _, _>(CodecSide::EncodeArguments, || codec::encode(&context));
        drop_quietly(context);
        let context = values
            .map(|values| Some(MapContext::new(Content { code: None, values })))
            .map_err(|error| Error::Codec(Box::new(error)));
        Self::of(pool, code, context)
    }

    fn of(
        pool: P,
        code: Result<NamedCall, UnknownCode>,
        context: Result<Option<Arc<MapContext>>, Error>,
    ) -> Self {
        let under_way = Mutex::default();
        Self(Arc::new(Shared { pool, code, types: PhantomData, context, under_way }))
    }
}

impl<A: Portable, R: Portable, P: Submit> Remote<A, R> for Chunks<A, R, P> {
    fn check(&self) -> Result<(), Error> {
        self.0.context.as_ref().map(drop).map_err(Clone::clone)
    }

    fn compute(&self, items: Vec<A>, results: Results<R>) -> Option<Computed<R>> {
        let chunk = Chunk { map: Arc::clone(&self.0), items: Kept(items), time: None };
        chunk.send(results)
    }

    fn stop(&self) {
        let tasks = {
            let mut under_way = self.0.under_way.lock();
            under_way.is_stopped = true;
            std::mem::take(&mut under_way.tasks)
        };
        for task in tasks {
            self.0.pool.cancel(task);
        }
    }
}

/// Neighbouring items on their way to a worker and back.
struct Chunk<A, R, P: Submit> {
    map: Arc<Shared<A, R, P>>,
    items: Kept<A>,
    /// The time that workers have computed; `None`: none has told.
    time: Option<Duration>,
}

/// Items that are kept to the end, since those that a dead worker had not begun are sent again.
struct Kept<A>(Vec<A>);

impl<A> Drop for Kept<A> {
    fn drop(&mut self) {
        if needs_drop::<A>() {
            self.0.drain(..).for_each(drop_quietly);
        }
    }
}

impl<A: Portable, R: Portable, P: Submit> Chunk<A, R, P> {
    /// Sends the items that have no result, as many as go into one message; or finishes the results.
    fn send(self, mut results: Results<R>) -> Option<Computed<R>> {
        while results.len() < self.items.0.len() {
            match self.map.pack(&self.items.0[results.len()..]) {
                Ok((content, count)) => return self.submit(content, count, results),
                Err(error) => results.push(Err(error)),
            }
        }
        results.finish(self.time)
    }

    fn submit(
        self,
        content: Content,
        count: usize,
        mut results: Results<R>,
    ) -> Option<Computed<R>> {
        let map = Arc::clone(&self.map);
        let number = TaskId::next().get();
        {
            let mut under_way = map.under_way.lock();
            if under_way.is_stopped {
                drop(under_way);
                self.fail(&mut results, self.items.0.len(), || map.pool.withdrawal());
                return results.finish(self.time);
            }
            // Before the pool has the task, so that `stop` finds it in the list if it comes later.
            under_way.tasks.push(number);
        }
        let label = results.label();
        map.pool.submit(Submission {
            number,
            kind: Kind::Chunk,
            detail: count as u64,
            content,
            sink: Box::new(ChunkSink { chunk: self, number, parts: Parts::of(count), results }),
            options: Options { label, ..Options::default() },
            holds_room: false,
            trace: TaskTrace::of_current(), // the map's, which this thread is in
            context: map.context.clone().ok().flatten(),
        });
        // `stop` may have taken the list before the pool had the task, and cancelled nothing.
        if map.under_way.lock().is_stopped {
            map.pool.cancel(number);
        }
        None
    }

    /// Gives the items before `end` that have no result an error.
    fn fail(&self, results: &mut Results<R>, end: usize, error: impl Fn() -> Error) {
        (results.len()..end).for_each(|_| results.push(Err(error())));
    }

    /// Takes in the reply to a message, and goes on with the items behind it.
    fn replied(
        mut self,
        reply: Result<Frame, Error>,
        parts: Parts,
        mut results: Results<R>,
    ) -> Option<Computed<R>> {
        let Parts { items, messages, begun } = parts;
        let first = results.len();
        let end = first + items;
        let took = |reply: &Frame| Duration::from_nanos(reply.header.detail);
        for (message, count) in messages {
            unpack(message, count, &mut results);
        }
        match reply {
            Ok(reply) if reply.header.kind == Kind::Value => {
                *self.time.get_or_insert_default() += took(&reply);
                let left = end - results.len();
                unpack(reply, left, &mut results);
            }
            // The worker retires, and another one goes on, behind one item at least.
            Ok(reply) if reply.header.kind == Kind::Unfinished && results.len() > first => {
                *self.time.get_or_insert_default() += took(&reply);
            }
            Err(Error::WorkerLost(lost)) if results.len() < end => {
                // All that it had begun is lost, but for what it has left; that is one item.
                // One item at least: each loss brings the chunk on. The number may be wrong.
                let begun = first.saturating_add(begun).clamp(results.len() + 1, end);
                self.fail(&mut results, begun, || Error::WorkerLost(lost.clone()));
            }
            // The worker had computed all, and not replied.
            Err(Error::WorkerLost(_)) => {}
            Ok(frame) if frame.header.kind != Kind::Failed => {
                self.fail(&mut results, end, || reply::unpack_error(&frame));
            }
            // It was asked to stop; or it was withdrawn or refused.
            Ok(_) | Err(_) => self.fail(&mut results, end, || self.map.pool.withdrawal()),
        }
        self.send(results)
    }
}

impl<A: Portable, R: Portable, P: Submit> Shared<A, R, P> {
    /// A message with the first of the items, as many as go into one. The error is the first one's.
    fn pack(&self, items: &[A]) -> Result<(Content, usize), Error> {
        let side = CodecSide::EncodeArguments;
        let code = *self.code.as_ref().map_err(call::unknown_code::<A, R>)?;
        let items = &items[..items.len().min(ChunkDetail::MOST_ITEMS)];
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

/// Pushes the results of a message.
fn unpack<R: Portable>(mut frame: Frame, count: usize, results: &mut Results<R>) {
    if let Err(error) = reply::check_read::<R>(&frame, CodecSide::DecodeResult, "a result") {
        return (0..count).for_each(|_| results.push(Err(Error::Codec(Box::new(error.clone())))));
    }
    if frame.header.kind == Kind::ItemFailed {
        return results.push(Err(reply::item_error(&frame)));
    }
    let attached = std::mem::take(&mut frame.attached);
    let mut done = 0;
    let unpacked = guarded::<R, _, _>(CodecSide::DecodeResult, || {
        let mut values = Decoder::new(frame.values(), attached);
        while done < count {
            results.push(Ok(values.next::<R>()?));
            done += 1;
        }
        values.finish()
    });
    if let Err(error) = unpacked {
        // Where one value can't be read, those behind it can't be told apart.
        (done..count).for_each(|_| results.push(Err(Error::Codec(Box::new(error.clone())))));
    }
}

/// The receiver of a message's reply.
struct ChunkSink<A: Portable, R: Portable, P: Submit> {
    chunk: Chunk<A, R, P>,
    number: u64,
    parts: Parts,
    results: Results<R>,
}

impl<A: Portable, R: Portable, P: Submit> ReplySink for ChunkSink<A, R, P> {
    fn takes_long(&self, _length: usize) -> bool {
        // The reply is unpacked in the next step of the chunk, on a helper thread.
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
        account: &dyn Fn(Counted),
    ) {
        let Self { chunk, number, parts, results } = *self;
        account(Counted::Items(parts.values(&reply)));
        let map = Arc::clone(&chunk.map);
        map.under_way.lock().tasks.retain(|other| *other != number);
        map.pool.go_on(results.into_job(move |results| chunk.replied(reply, parts, results)));
    }
}
