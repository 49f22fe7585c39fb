//! The two ends of a call: packed by its submitter, run by a worker, unpacked where its result is
//! wanted. Between them there are only bytes.

use std::any::type_name;
use std::mem::needs_drop;
use std::sync::Arc;

use crate::codec::{self, Encoded};
use crate::core::Promise;
use crate::error::{CodecError, CodecSide, Error};
use crate::function::{self, Trampoline, UnknownCode};
use crate::job::Call;
use crate::local::control_block::SharedControlBlock;
use crate::panic::{PanicLocation, Panicked, catch, drop_quietly};
use crate::portable::Portable;
use crate::remote::frame::{Content, Frame, Kind};
use crate::remote::worker::parent_connection::Channel;
use crate::trace::TaskTrace;

pub(crate) fn codec_error<T>(side: CodecSide, message: impl ToString) -> CodecError {
    CodecError { side, type_name: type_name::<T>().to_owned(), message: message.to_string() }
}

/// A function that has no name for other processes.
pub(crate) fn unknown_code<A, R>(unknown: &UnknownCode) -> Error {
    Error::Codec(Box::new(codec_error::<fn(A) -> R>(CodecSide::EncodeArguments, unknown)))
}

/// Runs user code that encodes or decodes a `T`; its panics are failures like any other.
pub(crate) fn guarded<T, R, E: ToString>(
    side: CodecSide,
    f: impl FnOnce() -> Result<R, E>,
) -> Result<R, CodecError> {
    match catch(f) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(codec_error::<T>(side, error)),
        Err(panicked) => {
            let at = panicked.location().map(|at| format!(" at {at}")).unwrap_or_default();
            Err(codec_error::<T>(side, format!("it panicked{at}: {}", panicked.message())))
        }
    }
}

// ---- The submitter's end ----

/// Packs a call. The arguments are dropped here.
pub(crate) fn pack<A: Portable, R: Portable>(call: Call<A, R>) -> Result<Content, Error> {
    let (function, arguments) = call.into_parts();
    pack_for::<RunCall, A, R>(function, arguments)
}

fn pack_for<T, A: Portable, R: Portable>(
    function: fn(A) -> R,
    arguments: A,
) -> Result<Content, Error>
where
    T: Trampoline<A, R>,
{
    let code = function::name::<T, A, R>(function);
    let code = code.map_err(|unknown| unknown_code::<A, R>(&unknown))?;
    let values = guarded::<A, _, _>(CodecSide::EncodeArguments, || codec::encode(&arguments));
    drop_quietly(arguments);
    values
        .map(|values| Content { code: Some(code), values })
        .map_err(|error| Error::Codec(Box::new(error)))
}

/// Packs the call that each worker begins with.
pub(crate) fn pack_initializer<A: Portable>(
    call: Call<A, Result<(), String>>,
) -> Result<Content, Error> {
    let (function, argument) = call.into_parts();
    pack_for::<Initialize, A, Result<(), String>>(function, argument)
}

/// Longer replies are unpacked by a helper thread, so that those behind them do not wait.
const LONG: usize = 32 * 1024;

/// The worker that is to blame if another one dies of a call that it has submitted, and the task that
/// has submitted it.
#[derive(Clone, Copy)]
pub(crate) struct Suspect {
    pub(crate) worker: u32,
    pub(crate) task: u64,
}

/// Who is to have the result of a call.
pub(crate) trait Complete: Send {
    /// Whether it may take long to hand on a reply with so many bytes of values.
    fn takes_long(&self, length: usize) -> bool;

    /// Takes a part of the reply. `false`: there should be none, or not so much.
    fn part(&mut self, _frame: Frame) -> bool {
        false
    }

    /// Who has submitted the call, if a worker of which nobody else knows whether there is such a
    /// function.
    fn suspect(&self) -> Option<Suspect> {
        None
    }

    /// The worker has died. `control block` is what it has left.
    fn salvage(&mut self, _page: &SharedControlBlock) {}

    /// The same, if it had died for a task of this process, and the pool has looked at its control block: it had
    /// begun with so many items.
    fn begun(&mut self, _items: usize) {}

    /// Hands the reply on. `trace` is told of it, and `account` whether there is a value, before
    /// anybody can see it.
    fn complete(
        self: Box<Self>,
        reply: Result<Frame, Error>,
        trace: &TaskTrace,
        account: &dyn Fn(bool),
    );
}

impl<R: Portable> Complete for Promise<R> {
    fn takes_long(&self, length: usize) -> bool {
        // To unpack it, because of its callbacks, or to drop it at once.
        let now = self.look();
        length > LONG || now.is_observed() || (needs_drop::<R>() && now.is_abandoned())
    }

    fn complete(
        self: Box<Self>,
        reply: Result<Frame, Error>,
        trace: &TaskTrace,
        account: &dyn Fn(bool),
    ) {
        let outcome = reply.and_then(unpack);
        let is_value = outcome.is_ok();
        trace.outcome(outcome.as_ref().err());
        trace.close();
        self.keep(outcome, || account(is_value));
    }
}

/// What a reply says.
fn unpack<R: Portable>(mut reply: Frame) -> Result<R, Error> {
    check_result::<R>(&reply).map_err(|error| Error::Codec(Box::new(error)))?;
    let segments = std::mem::take(&mut reply.segments);
    match reply.header.kind {
        Kind::Value => guarded::<R, _, _>(CodecSide::DecodeResult, || {
            codec::decode::<R>(reply.format, reply.values(), segments)
        })
        .map_err(|error| Error::Codec(Box::new(error))),
        _ => Err(unpack_error(&reply)),
    }
}

/// The error of a result that was skipped.
pub(crate) fn check_result<R>(reply: &Frame) -> Result<(), CodecError> {
    match reply.unread {
        None => Ok(()),
        Some(unread) => Err(codec_error::<R>(CodecSide::DecodeResult, unread.describe("a result"))),
    }
}

/// Why a worker can't begin.
pub(crate) fn unpack_initializer_error(reply: &Frame) -> Box<dyn std::error::Error + Send + Sync> {
    match reply.header.kind {
        Kind::Failed => match decode_text::<String>(reply) {
            Some(text) => format!("the initializer failed: {text}").into(),
            None => Box::new(garbled()),
        },
        _ => match unpack_error(reply) {
            Error::Panicked(panicked) => panicked,
            error => Box::new(error),
        },
    }
}

/// The error that a reply without a value tells of. Its texts come from the worker, and are only
/// texts.
pub(crate) fn unpack_error(reply: &Frame) -> Error {
    let side = match reply.header.kind {
        Kind::Panicked => {
            return match decode_text::<PanicText>(reply) {
                Some((message, location)) => panicked(message, location),
                None => garbled(),
            };
        }
        Kind::BadValue => CodecSide::EncodeResult,
        _ => CodecSide::DecodeArguments,
    };
    match decode_text::<(String, String)>(reply) {
        Some((type_name, message)) => {
            Error::Codec(Box::new(CodecError { side, type_name, message }))
        }
        None => garbled(),
    }
}

fn decode_text<T: Portable>(reply: &Frame) -> Option<T> {
    codec::decode(reply.format, reply.values(), Vec::new()).ok()
}

pub(crate) fn garbled() -> Error {
    let message = "the worker's reply is garbled".to_owned();
    let type_name = "a reply".to_owned();
    Error::Codec(Box::new(CodecError { side: CodecSide::DecodeResult, type_name, message }))
}

/// A panic as it travels: message, and file, line and column.
pub(crate) type PanicText = (String, Option<(String, u32, u32)>);

pub(crate) fn panicked(message: String, location: Option<(String, u32, u32)>) -> Error {
    let location = location.map(|(file, line, column)| PanicLocation { file, line, column });
    Error::Panicked(Box::new(Panicked::new(Box::new(message), location)))
}

pub(crate) fn panic_text(panicked: &Panicked) -> PanicText {
    let location = panicked.location().map(|at| (at.file.clone(), at.line, at.column));
    (panicked.message().to_owned(), location)
}

// ---- The worker's end ----

/// A call in the worker, as the body of a task: its arguments, and then its reply.
pub(crate) struct Running {
    pub(crate) channel: Arc<Channel>,
    pub(crate) frame: Frame,
    pub(crate) reply: Option<Reply>,
}

impl Running {
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.channel.claim(self.frame.header.slot).is_asked_to_stop()
    }
}

pub(crate) struct Reply {
    pub(crate) kind: Kind,
    pub(crate) values: Encoded,
}

impl Reply {
    fn text<T: Portable>(kind: Kind, text: &T) -> Self {
        match codec::encode(text) {
            Ok(values) => Self { kind, values },
            Err(_) => Self { kind, values: Encoded::default() },
        }
    }

    fn panicked(panicked: &Panicked) -> Self {
        Self::text::<PanicText>(Kind::Panicked, &panic_text(panicked))
    }

    pub(crate) fn codec(kind: Kind, error: CodecError) -> Self {
        Self::text(kind, &(error.type_name, error.message))
    }

    /// Nobody wants the value any more.
    pub(crate) fn stopped() -> Self {
        Self { kind: Kind::Failed, values: Encoded::default() }
    }

    pub(crate) fn unknown_code(error: impl ToString) -> Self {
        let type_name = "the function".to_owned();
        Self::text(Kind::UnknownCode, &(type_name, error.to_string()))
    }
}

/// Decodes the arguments, calls the function as the body of the task, encodes the value.
pub(crate) struct RunCall;

impl<A: Portable, R: Portable> Trampoline<A, R> for RunCall {
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

impl<A: Portable> Trampoline<A, Result<(), String>> for Initialize {
    type Context = Running;

    fn call(function: fn(A) -> Result<(), String>, call: &mut Running) {
        call.reply = Some(match call.run(function) {
            Ok(Ok(())) => encoded(()),
            Ok(Err(text)) => Reply::text(Kind::Failed, &text),
            Err(reply) => reply,
        });
    }
}

impl Running {
    /// The value of the function, or the reply that says why there is none.
    fn run<A: Portable, R>(&mut self, function: fn(A) -> R) -> Result<R, Reply> {
        let segments = std::mem::take(&mut self.frame.segments);
        let arguments = guarded::<A, _, _>(CodecSide::DecodeArguments, || {
            codec::decode::<A>(self.frame.format, self.frame.values(), segments)
        });
        let arguments = arguments.map_err(|error| Reply::codec(Kind::BadArguments, error))?;
        catch(|| function(arguments)).map_err(|panicked| Reply::panicked(&panicked))
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
