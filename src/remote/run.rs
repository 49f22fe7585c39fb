//! A call in the process that runs it, a worker.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::frame::{Content, Frame, Header, Kind};
use super::map_context::Held;
use super::reply::{Reply, check_read, guarded};
use crate::codec;
use crate::error::{CodecError, CodecSide};
use crate::function::Trampoline;
use crate::initializer::{BoxedError, InitializerOutcome};
use crate::panic::{catch, drop_quietly};
use crate::portable::Portable;
use crate::portable_error::PortableError;

/// The process that a call runs in, as the call needs it.
pub(crate) trait Desk: Send + Sync {
    /// Returns whether the task in this slot is asked to stop.
    fn is_asked_to_stop(&self, slot: u16) -> bool;

    /// Blocks until `is_over`, which is looked at when the task in this slot is asked to stop, and after
    /// [`end_watch`](Self::end_watch).
    fn watch(&self, slot: u16, is_over: &dyn Fn() -> bool);

    /// Ends a watch at the end of the task in this slot, before its reply.
    fn end_watch(&self, slot: u16);

    /// Sends a frame. An error means that the pool is gone, and that this process is about to end.
    fn send(&self, header: Header, content: &Content) -> std::io::Result<()>;

    /// Sends a frame without values that is no reply.
    fn tell(&self, kind: Kind, number: u64, detail: u64) -> std::io::Result<()> {
        self.send(Header { kind, slot: 0, number, detail }, &Content::default())
    }

    /// Sends results, after what their task has printed.
    fn reply(&self, header: Header, content: &Content) -> std::io::Result<()>;

    /// The level of events that somebody listens to in the pool's process: 0 is nobody, 5 is to all.
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "no events are sent"))]
    fn event_level(&self) -> u32;

    /// Has this process begin with no further task.
    fn retire(&self) {}

    fn is_retiring(&self) -> bool {
        false
    }

    /// Returns whether this process is to retire when a job has panicked.
    fn retires_after_panic(&self) -> bool {
        false
    }

    /// Memory that outlives a crash of this process; empty if there is none.
    fn checkpoint(&self) -> &[AtomicU64];
}

/// A call as the body of a task: its arguments, and then its reply.
pub(crate) struct Running {
    pub(crate) desk: Arc<dyn Desk>,
    pub(crate) frame: Frame,
    pub(crate) reply: Option<Reply>,
    /// Of a chunk: the context of its map, if that has one.
    pub(crate) context: Option<Held>,
    /// The time it took to decode the context, which is no item's.
    pub(crate) setup: Duration,
}

impl Running {
    pub(crate) fn new(desk: Arc<dyn Desk>, frame: Frame) -> Self {
        Self { desk, frame, reply: None, context: None, setup: Duration::ZERO }
    }

    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.desk.is_asked_to_stop(self.frame.header.slot)
    }

    /// Records that the function has panicked.
    pub(crate) fn on_panic(&self) {
        if self.desk.retires_after_panic() {
            self.desk.retire();
        }
    }
}

/// Decodes the arguments, calls the function as the body of the task, encodes the value.
pub(crate) struct RunCall;

impl<A: Portable, R: Portable> Trampoline<fn(A) -> R> for RunCall {
    type Context = Running;

    fn call(function: fn(A) -> R, call: &mut Running) {
        call.reply = Some(match call.run(function) {
            Ok(value) => encoded(value),
            Err(reply) => reply,
        });
    }
}

/// As [`RunCall`]; the reply says whether the worker may go on.
pub(crate) struct Initialize;

impl<A: Portable, R: InitializerOutcome> Trampoline<fn(A) -> R> for Initialize {
    type Context = Running;

    fn call(function: fn(A) -> R, call: &mut Running) {
        // The error's texts are code of the user's as well.
        let initialize = |arguments| function(arguments).into_result().map_err(PortableError::from);
        call.reply = Some(match call.run(initialize) {
            Ok(Ok(())) => encoded(()),
            Ok(Err(error)) => Reply::text(Kind::Failed, &error),
            Err(reply) => reply,
        });
    }
}

/// A call outside of tasks: of the finalizer, or of the preloaded function.
pub(crate) struct OutsideCall {
    frame: Frame,
    /// Why it has failed.
    failure: Option<BoxedError>,
}

/// Decodes the arguments, calls the function, and takes what it returns.
pub(crate) struct RunOutside;

impl<A: Portable, R: InitializerOutcome> Trampoline<fn(A) -> R> for RunOutside {
    type Context = OutsideCall;

    fn call(function: fn(A) -> R, call: &mut OutsideCall) {
        let mut run = || -> Result<(), BoxedError> {
            let arguments = take_arguments::<A>(&mut call.frame)?;
            // The error's texts are code of the user's as well.
            let outcome = catch(|| function(arguments).into_result().map_err(PortableError::from));
            outcome?.map_err(PortableError::into_boxed)
        };
        call.failure = run().err();
    }
}

/// Runs a call that was packed outside of tasks. The error is a [`Panicked`](crate::panic::Panicked), or
/// says why the call could not be made, or is its own.
pub(crate) fn run_outside(frame: Frame) -> Result<(), BoxedError> {
    let code = frame.code.ok_or("the frame names no code")?;
    let mut call = OutsideCall { frame, failure: None };
    code.resolve::<OutsideCall>()?.call(&mut call);
    call.failure.map_or(Ok(()), Err)
}

/// Takes the arguments out of a frame. They may keep the memory of its segments.
fn take_arguments<A: Portable>(frame: &mut Frame) -> Result<A, CodecError> {
    check_read::<A>(frame, CodecSide::DecodeArguments, "an argument")?;
    let attached = std::mem::take(&mut frame.attached);
    guarded::<A, _, _>(CodecSide::DecodeArguments, || codec::decode::<A>(frame.values(), attached))
}

impl Running {
    /// The value of the function, or the reply that says why there is none.
    fn run<A: Portable, R>(&mut self, function: impl FnOnce(A) -> R) -> Result<R, Reply> {
        let arguments = take_arguments::<A>(&mut self.frame);
        let arguments = arguments.map_err(|error| Reply::codec(Kind::BadArguments, error))?;
        catch(|| function(arguments)).map_err(|panicked| {
            self.on_panic();
            Reply::panicked(&panicked)
        })
    }
}

fn encoded<R: Portable>(value: R) -> Reply {
    let values = guarded::<R, _, _>(CodecSide::EncodeResult, || codec::encode(&value));
    drop_quietly(value);
    match values {
        Ok(values) => Reply { kind: Kind::Value, values },
        Err(error) => Reply::codec(Kind::BadValue, error),
    }
}
