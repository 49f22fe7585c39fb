//! The error of what processes share. In any process.

use std::error::Error as StdError;
use std::fmt;
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
    /// An array would have more chunks than it may have.
    #[error(
        "{chunks} chunks are more than {most}, the most that an array may have; make each at least {chunk_len} \
         elements long"
    )]
    #[non_exhaustive]
    TooManyChunks {
        /// The number of chunks.
        chunks: usize,
        /// The most that an array may have.
        most: usize,
        /// The length that they need at least, in elements.
        chunk_len: usize,
    },
    /// A process was killed while it had a chunk locked, which may be half written.
    #[error("{ABANDONED}")]
    Abandoned,
    /// A setting is out of its range.
    #[error("{0}")]
    InvalidSetting(&'static str),
    /// The value can't be encoded, or decoded.
    #[error("the value can't go to another process")]
    Codec(#[source] Box<CodecError>),
}

pub(super) const ABANDONED: &str =
    "a process was killed while it had the chunk locked, so what is in it may be half written";

impl Error {
    /// For `map_err`.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, source: Arc::new(error) }
    }
}

/// Why an array can't be frozen yet. It comes back, and is as it was.
///
/// From [`SharedArray::freeze`](super::SharedArray::freeze) and [`SharedChunks::freeze`](super::SharedChunks::freeze).
#[derive(Clone)]
#[non_exhaustive]
pub enum FreezeError<A> {
    /// Another process has the array mapped: a task that runs has it, or one that waits in a worker.
    OtherProcess(A),
    /// This process has another handle to the array: a clone, or a chunk, or the guard of one.
    OtherHandle(A),
    /// The system has refused something else.
    Io(A, Error),
}

impl<A> FreezeError<A> {
    /// The system has refused the seal.
    pub(super) fn of(error: io::Error, array: A) -> Self {
        match error.kind() {
            io::ErrorKind::ResourceBusy => Self::OtherProcess(array),
            _ => Self::Io(array, Error::io("the array can't be frozen")(error)),
        }
    }

    pub(super) fn map<B>(self, array: impl FnOnce(A) -> B) -> FreezeError<B> {
        match self {
            Self::OtherProcess(it) => FreezeError::OtherProcess(array(it)),
            Self::OtherHandle(it) => FreezeError::OtherHandle(array(it)),
            Self::Io(it, error) => FreezeError::Io(array(it), error),
        }
    }

    /// The array.
    pub fn into_inner(self) -> A {
        match self {
            Self::OtherProcess(array) | Self::OtherHandle(array) | Self::Io(array, _) => array,
        }
    }
}

impl<A> fmt::Display for FreezeError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherProcess(_) => {
                "the array can't be frozen: another process has it mapped; wait for the tasks that have it"
            }
            Self::OtherHandle(_) => {
                "the array can't be frozen: this process has another handle to it; drop that first"
            }
            Self::Io(_, error) => return error.fmt(f),
        })
    }
}

impl<A> fmt::Debug for FreezeError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreezeError: {self}")
    }
}

impl<A> StdError for FreezeError<A> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Io(_, error) => error.source(),
            Self::OtherProcess(_) | Self::OtherHandle(_) => None,
        }
    }
}
