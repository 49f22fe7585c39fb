//! Replies that are no values: what they say, and how that travels. Both ends.

use super::frame::{Frame, Kind, Unread};
use crate::codec::{self, Encoded};
pub(crate) use crate::codec::{codec_error, guarded};
use crate::error::{CodecError, CodecSide, Error};
use crate::panic::{PanicLocation, Panicked, Raised};
use crate::portable::Portable;

/// Returns an error if the values of a frame, which are `what`, were skipped on arrival.
pub(crate) fn check_read<T>(frame: &Frame, side: CodecSide, what: &str) -> Result<(), CodecError> {
    frame.unread.map_or(Ok(()), |unread| Err(codec_error::<T>(side, unread.describe(what))))
}

/// The reply to a call, in the worker's process.
pub(crate) struct Reply {
    pub(crate) kind: Kind,
    pub(crate) values: Encoded,
}

impl Reply {
    pub(crate) fn text<T: Portable>(kind: Kind, text: &T) -> Self {
        // For want of memory an empty text: the submitter finds the reply garbled, but has one.
        match codec::encode(text) {
            Ok(values) => Self { kind, values },
            Err(_) => Self { kind, values: Encoded::default() },
        }
    }

    pub(crate) fn panicked(panicked: &Panicked) -> Self {
        Self::text::<PanicText>(Kind::Panicked, &panic_text(panicked))
    }

    pub(crate) fn codec(kind: Kind, error: CodecError) -> Self {
        Self::text(kind, &(error.type_name, error.message))
    }

    /// A reply without a value, which is not wanted any more.
    pub(crate) fn stopped() -> Self {
        Self { kind: Kind::Failed, values: Encoded::default() }
    }

    /// The reply to a chunk whose other items are for another worker.
    pub(crate) fn unfinished() -> Self {
        Self { kind: Kind::Unfinished, values: Encoded::default() }
    }

    pub(crate) fn unknown_code(error: impl ToString) -> Self {
        let type_name = "the function".to_owned();
        Self::text(Kind::UnknownCode, &(type_name, error.to_string()))
    }
}

/// The error that a reply without a value tells of. Its texts come from the worker, and are only
/// texts.
pub(crate) fn unpack_error(reply: &Frame) -> Error {
    let side = match reply.header.kind {
        Kind::Panicked => {
            return decode_text::<PanicText>(reply).map_or_else(garbled, panicked);
        }
        Kind::BadValue => CodecSide::EncodeResult,
        _ => CodecSide::DecodeArguments,
    };
    match decode_text::<(String, String)>(reply) {
        Some((type_name, message)) => CodecError { side, type_name, message }.into(),
        None => garbled(),
    }
}

pub(crate) fn decode_text<T: Portable>(reply: &Frame) -> Option<T> {
    codec::decode(reply.values(), Vec::new()).ok()
}

pub(crate) fn garbled() -> Error {
    let message = "the worker's reply is garbled".to_owned();
    let type_name = "a reply".to_owned();
    CodecError { side: CodecSide::DecodeResult, type_name, message }.into()
}

/// A panic as it travels: message; file, line and column; backtrace.
pub(crate) type PanicText = (String, Option<(String, u32, u32)>, Option<String>);

fn panicked((message, location, backtrace): PanicText) -> Error {
    let raised = location.map(|(file, line, column)| {
        Raised::elsewhere(PanicLocation { file, line, column }, backtrace)
    });
    Panicked::raised(Box::new(message), raised).into()
}

pub(crate) fn panic_text(panicked: &Panicked) -> PanicText {
    let location = panicked.location().map(|at| (at.file.clone(), at.line, at.column));
    (panicked.message().to_owned(), location, panicked.backtrace())
}

/// The error of one item as it travels: the kind of a reply, a type, and the panic, or a message alone.
pub(crate) type ItemError = (u8, String, PanicText);

/// The error of an item whose result was skipped on arrival.
pub(crate) fn unread_item(unread: Unread) -> ItemError {
    let text = (unread.describe("a result"), None, None);
    (Kind::BadValue as u8, "unknown".to_owned(), text)
}

pub(crate) fn item_error(frame: &Frame) -> Error {
    let packed = codec::decode::<ItemError>(frame.values(), Vec::new());
    let Ok((kind, type_name, text)) = packed else { return garbled() };
    if kind == Kind::Panicked as u8 {
        return panicked(text);
    }
    let (message, ..) = text;
    let is_value = kind == Kind::BadValue as u8;
    let side = if is_value { CodecSide::EncodeResult } else { CodecSide::DecodeArguments };
    CodecError { side, type_name, message }.into()
}
