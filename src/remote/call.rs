//! A call in its submitter's process: packed, and its reply unpacked.

use std::mem::needs_drop;
use std::time::Duration;

use super::frame::{Content, Frame, Kind};
use super::reply::{self, codec_error, guarded};
use super::run::{Initialize, RunCall, RunOutside};
use super::submission::{Counted, ReplySink};
use crate::clock;
use crate::codec;
use crate::core::Promise;
use crate::error::{CodecSide, Error};
use crate::function::{self, Trampoline, UnknownCode};
use crate::initializer::{BoxedError, InitializerOutcome};
use crate::job::Call;
use crate::panic::drop_quietly;
use crate::portable::Portable;
use crate::portable_error::PortableError;
use crate::trace::TaskTrace;

/// Returns the error for a function that has no name in other processes.
pub(crate) fn unknown_code<A, R>(unknown: &UnknownCode) -> Error {
    Error::Codec(Box::new(codec_error::<fn(A) -> R>(CodecSide::EncodeArguments, unknown)))
}

/// Packs a call. The arguments are dropped here.
pub(crate) fn pack<A: Portable, R: Portable>(call: Call<A, R>) -> Result<Content, Error> {
    let (function, arguments) = call.into_parts();
    pack_for::<RunCall, A, R>(function, arguments)
}

fn pack_for<T, A: Portable, R>(function: fn(A) -> R, arguments: A) -> Result<Content, Error>
where
    T: Trampoline<fn(A) -> R>,
{
    let code = function::name::<T, _>(function);
    let code = code.map_err(|unknown| unknown_code::<A, R>(&unknown))?;
    let values = guarded::<A, _, _>(CodecSide::EncodeArguments, || codec::encode(&arguments));
    drop_quietly(arguments);
    values
        .map(|values| Content { code: Some(code), values })
        .map_err(|error| Error::Codec(Box::new(error)))
}

/// Packs the call that each worker begins with.
pub(crate) fn pack_initializer<A: Portable, R: InitializerOutcome>(
    call: Call<A, R>,
) -> Result<Content, Error> {
    let (function, arguments) = call.into_parts();
    pack_for::<Initialize, A, R>(function, arguments)
}

/// Packs a call for [`run_outside`](super::run::run_outside).
pub(crate) fn pack_outside<A: Portable, R: InitializerOutcome>(
    call: Call<A, R>,
) -> Result<Content, Error> {
    let (function, arguments) = call.into_parts();
    pack_for::<RunOutside, A, R>(function, arguments)
}

/// In bytes. Longer replies are unpacked by a helper thread, so that those behind them do not wait.
const LONG: usize = 32 * 1024;

impl<R: Portable> ReplySink for Promise<R> {
    fn takes_long(&self, length: usize) -> bool {
        // To unpack the value, to run callbacks, or to drop a value that is not wanted.
        let now = self.look();
        length > LONG || now.is_observed() || (needs_drop::<R>() && now.is_abandoned())
    }

    fn complete(
        self: Box<Self>,
        reply: Result<Frame, Error>,
        trace: &TaskTrace,
        account: &dyn Fn(Counted),
    ) {
        if let Ok(reply) = &reply {
            self.ran(clock::ticks(Duration::from_nanos(reply.header.detail)));
        }
        let outcome = reply.and_then(unpack);
        let is_value = outcome.is_ok();
        // Before the result is published: its consumer finds the span closed.
        trace.outcome(outcome.as_ref().err());
        trace.close();
        self.keep(outcome, || account(Counted::of(is_value)));
    }
}

/// Returns the value of a reply, or its error.
fn unpack<R: Portable>(mut frame: Frame) -> Result<R, Error> {
    reply::check_read::<R>(&frame, CodecSide::DecodeResult, "a result")
        .map_err(|error| Error::Codec(Box::new(error)))?;
    let attached = std::mem::take(&mut frame.attached);
    match frame.header.kind {
        Kind::Value => guarded::<R, _, _>(CodecSide::DecodeResult, || {
            codec::decode::<R>(frame.values(), attached)
        })
        .map_err(|error| Error::Codec(Box::new(error))),
        _ => Err(reply::unpack_error(&frame)),
    }
}

/// Returns the error with which an initializer has failed.
pub(crate) fn unpack_initializer_error(frame: &Frame) -> BoxedError {
    match frame.header.kind {
        Kind::Failed => match reply::decode_text::<PortableError>(frame) {
            Some(error) => error.into_boxed(),
            None => Box::new(reply::garbled()),
        },
        _ => match reply::unpack_error(frame) {
            Error::Panicked(panicked) => panicked,
            error => Box::new(error),
        },
    }
}
