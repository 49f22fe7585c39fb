//! The error of what processes share. In any process.

use std::io;
use std::sync::Arc;

use crate::error::CodecError;

/// Why something that processes share can't be made, or used.
///
/// It is cloned in O(1).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system has refused something: memory, or a file descriptor. On systems other than Linux it refuses
    /// everything here so far ([`ErrorKind::Unsupported`](io::ErrorKind::Unsupported)).
    #[error("{doing}")]
    #[non_exhaustive]
    Io {
        /// The step that was refused.
        doing: &'static str,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// Another process has written nonsense into the shared memory.
    #[error("a process has damaged the shared memory, and what was in it is lost")]
    Damaged,
    /// The encoded value is larger than the memory that a [`Value`](super::Value) has for it. The value is as it was.
    #[error(
        "the value takes {size} bytes, and its memory has {capacity}; make it by `Value::with_capacity`"
    )]
    #[non_exhaustive]
    TooLarge {
        /// Of the encoded value, in bytes.
        size: usize,
        /// In bytes.
        capacity: usize,
    },
    /// A setting is out of its range.
    #[error("{0}")]
    InvalidSetting(&'static str),
    /// The value can't be encoded, or decoded.
    #[error("the value can't go to another process")]
    Codec(#[source] Box<CodecError>),
}

impl Error {
    /// For `map_err`.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, source: Arc::new(error) }
    }
}
