//! A chunk in the process that runs it, a worker: its items, one after the other.

use std::any::type_name;
use std::cell::Cell;
use std::mem::needs_drop;
use std::time::Instant;

use super::checkpoint::Checkpoint;
use super::frame::{Content, Header, Kind};
use super::map_context::{ChunkDetail, Held};
use super::reply::{ItemError, Reply, check_read, codec_error, guarded, panic_text};
use super::run::Running;
use crate::codec::{self, Decoder, Encoded, Encoder};
use crate::error::{CodecError, CodecSide};
use crate::function::Trampoline;
use crate::ipc;
use crate::panic::{Panicked, catch, drop_quietly};
use crate::portable::Portable;

/// Runs the function for each item.
pub(crate) struct RunChunk;

impl<A: Portable, R: Portable> Trampoline<fn(A) -> R> for RunChunk {
    type Context = Running;

    fn call(function: fn(A) -> R, call: &mut Running) {
        let reply = run_chunk(function, call);
        call.reply = Some(reply.unwrap_or_else(|error| Reply::codec(Kind::BadArguments, error)));
    }
}

/// Runs the function for each item, with the map's context.
pub(crate) struct RunChunkWith;

impl<C: Portable, A: Portable, R: Portable> Trampoline<fn(&C, A) -> R> for RunChunkWith {
    type Context = Running;

    fn call(function: fn(&C, A) -> R, call: &mut Running) {
        let mut context = call.context.take();
        let start = Instant::now();
        let opened = context.as_mut().map(Held::open::<C>);
        // The first chunk takes no longer than others by that, or it would have the map cut its items
        // into smaller chunks.
        call.setup = start.elapsed();
        let reply = match opened {
            Some(Ok(context)) => run_chunk(|item| function(context, item), call),
            Some(Err(error)) => Err(error),
            None => {
                Err(codec_error::<C>(CodecSide::DecodeArguments, "the map's context is not there"))
            }
        };
        call.context = context;
        call.reply = Some(reply.unwrap_or_else(|error| Reply::codec(Kind::BadArguments, error)));
    }
}

fn run_chunk<A: Portable, R: Portable>(
    function: impl Fn(A) -> R,
    call: &mut Running,
) -> Result<Reply, CodecError> {
    check_read::<A>(&call.frame, CodecSide::DecodeArguments, "an item")?;
    let attached = std::mem::take(&mut call.frame.attached);
    let call = &*call;
    let frame = &call.frame;
    let ChunkDetail { items: count, .. } = ChunkDetail::unpack(frame.header.detail);
    let mut handles = (!attached.descriptors.is_empty()).then(ipc::Items::default);
    let mut items = Decoder::new(frame.values(), attached);
    let mut results = Results::new(call);
    let mut index = 0;
    while index < count {
        // One landing pad serves many items, so that one that does not panic pays nothing for it.
        let step = Cell::new(Step::Decode);
        let ran = catch(|| {
            while index < count && !call.is_asked_to_stop() && !call.desk.is_retiring() {
                // Before the item is decoded, since that may kill the process as well.
                results.checkpoint.begin(index);
                step.set(Step::Decode);
                let item = match &mut handles {
                    None => items.next::<A>(),
                    Some(handles) => handles.decode(|| items.next::<A>()),
                };
                if index + 1 == count {
                    // Before the last result: when that has come, the items have nothing here any more.
                    handles = None;
                }
                let item = item.map_err(Step::Decode.failed::<A>())?;
                step.set(Step::Run);
                let value = function(item);
                step.set(Step::Encode);
                let pushed = results.push(&value);
                if needs_drop::<R>() {
                    drop_quietly(value);
                }
                pushed.map_err(Step::Encode.failed::<R>())?;
                index += 1;
            }
            Ok(())
        });
        let error = match ran {
            Ok(Ok(())) => break,
            Ok(Err(error)) => error,
            Err(panicked) => {
                if let Step::Run = step.get() {
                    call.on_panic();
                }
                step.get().panicked::<A, R>(&panicked)
            }
        };
        results.push_error(&error);
        index += 1;
    }
    if index < count {
        // Asked to stop, or this worker retires. What has been computed may still be wanted: a map
        // outlives a shutdown.
        results.send_part();
        let is_stopped = call.is_asked_to_stop();
        return Ok(if is_stopped { Reply::stopped() } else { Reply::unfinished() });
    }
    guarded::<A, _, _>(CodecSide::DecodeArguments, || items.finish())?;
    Ok(Reply { kind: Kind::Value, values: results.values.finish() })
}

/// A step of the work on an item.
#[derive(Clone, Copy)]
enum Step {
    Decode,
    Run,
    Encode,
}

impl Step {
    fn failed<T>(self) -> impl FnOnce(codec::Error) -> ItemError {
        move |error| self.error::<T>(error.to_string())
    }

    fn panicked<A, R>(self, panicked: &Panicked) -> ItemError {
        let message = || format!("it panicked: {}", panicked.message());
        match self {
            Step::Decode => self.error::<A>(message()),
            Step::Encode => self.error::<R>(message()),
            Step::Run => (Kind::Panicked as u8, String::new(), panic_text(panicked)),
        }
    }

    fn error<T>(self, message: String) -> ItemError {
        let is_value = matches!(self, Step::Encode);
        let kind = if is_value { Kind::BadValue } else { Kind::BadArguments };
        (kind as u8, type_name::<T>().to_owned(), (message, None, None))
    }
}

/// The values of a chunk that have not been sent.
struct Results<'a> {
    call: &'a Running,
    values: Encoder,
    checkpoint: Checkpoint<'a>,
}

impl<'a> Results<'a> {
    fn new(call: &'a Running) -> Self {
        Self { call, values: Encoder::new(), checkpoint: Checkpoint::new(call.desk.checkpoint()) }
    }

    fn push<R: Portable>(&mut self, value: &R) -> Result<(), codec::Error> {
        self.values.push(value)?;
        // A message that fits the checkpoint survives a crash, and grows on; else it is sent.
        if !self.checkpoint.note(&self.values) {
            self.send_part();
        }
        Ok(())
    }

    fn push_error(&mut self, error: &ItemError) {
        // Before the error, since results are told in the order of the items.
        self.send_part();
        self.send(Kind::ItemFailed, 1, codec::encode(error).unwrap_or_default());
    }

    fn send_part(&mut self) {
        let count = self.values.len();
        if count > 0 {
            let values = self.values.finish();
            self.send(Kind::Part, count, values);
        }
    }

    /// Sends results. If the pool is gone, so is this process soon.
    fn send(&mut self, kind: Kind, count: usize, values: Encoded) {
        let header = Header { kind, detail: count as u64, ..self.call.frame.header };
        let _ = self.call.desk.reply(header, &Content { code: None, values });
        // Not before: until the results are in the socket, the checkpoint has them.
        self.checkpoint.sent(count);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use super::*;
    use crate::remote::frame::Frame;
    use crate::remote::run::Desk;
    use crate::sync::Mutex;

    /// A worker that keeps what it sends. A stop request comes with the run of item 2.
    #[derive(Default)]
    struct Recorder {
        checkpoint: Vec<AtomicU64>,
        sent: Mutex<Vec<(Kind, Vec<u64>)>>,
    }

    static IS_STOPPED: AtomicBool = AtomicBool::new(false);

    impl Desk for Recorder {
        fn is_asked_to_stop(&self, _: u16) -> bool {
            IS_STOPPED.load(SeqCst)
        }

        fn watch(&self, _: u16, _: &dyn Fn() -> bool) {}

        fn end_watch(&self, _: u16) {}

        fn send(&self, header: Header, content: &Content) -> io::Result<()> {
            self.reply(header, content)
        }

        fn reply(&self, header: Header, content: &Content) -> io::Result<()> {
            self.sent.lock().push((header.kind, values(&content.values, header.detail)));
            Ok(())
        }

        fn event_level(&self) -> u32 {
            0
        }

        fn checkpoint(&self) -> &[AtomicU64] {
            &self.checkpoint
        }
    }

    fn values(encoded: &Encoded, count: u64) -> Vec<u64> {
        let mut values = Decoder::new(&encoded.body, Vec::new());
        (0..count).map(|_| values.next().unwrap()).collect()
    }

    fn stops_at_two(n: u64) -> u64 {
        IS_STOPPED.fetch_or(n == 2, SeqCst);
        10 * n
    }

    #[test]
    fn a_chunk_that_is_asked_to_stop_sends_what_it_has_computed() {
        for count in [3, 5] {
            IS_STOPPED.store(false, SeqCst);
            let mut items = Encoder::new();
            (0..count).for_each(|n: u64| items.push(&n).unwrap());
            let header = Header { kind: Kind::Chunk, slot: 0, number: 1, detail: count };
            let frame = Frame::of(header, items.finish().body);
            let checkpoint = (0..64).map(|_| AtomicU64::new(0)).collect();
            let desk = Arc::new(Recorder { checkpoint, ..Recorder::default() });
            let mut call = Running::new(desk.clone(), frame);
            let reply = run_chunk(stops_at_two, &mut call).unwrap();
            let sent = desk.sent.lock();
            if count == 3 {
                // It came too late to stop anything.
                assert!(sent.is_empty() && reply.kind == Kind::Value);
                assert_eq!(values(&reply.values, count), [0, 10, 20]);
            } else {
                assert_eq!(*sent, [(Kind::Part, vec![0, 10, 20])]);
                assert!(reply.kind == Kind::Failed && reply.values.body.is_empty());
            }
        }
    }
}
