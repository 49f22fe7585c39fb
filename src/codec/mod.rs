//! How arguments and results become bytes.
//!
//! There are two formats. The [`compact`] one is small and quick, but not all types can go by it:
//! some have to be asked what comes next, and in some the two sides don't agree on what there is.
//! These go by the [`named`] one, which describes itself. The [`encoder`] chooses: it uses the
//! compact format as long as all is well, and keeps in mind, by what is [`known`] of each type,
//! what isn't. So a value arrives as it was, or there is an error.
//!
//! A message has one or several values in one format. Large buffers are not copied into its
//! [`body`], but go beside it as a [`segment`]. Whatever is decoded may come from a process whose
//! memory is corrupt: it gives some value or an error, in bounded time, memory and depth.

mod body;
pub(crate) mod buffer;
mod compact;
mod encoder;
mod error;
mod form;
mod known;
mod named;
mod segment;
#[cfg(test)]
mod tests;

pub(crate) use encoder::{Encoder, Pushed, encode};
pub(crate) use error::Error;
#[allow(unreachable_pub, reason = "it seals a public trait")]
pub use segment::Number;
pub(crate) use segment::{BUFFER, Given, offer, take_given};

pub(crate) use crate::sys::memory::{ReceivedSegment, Segment};

use serde_core::de::DeserializeOwned;

use self::segment::Received;

/// How deep values may be nested. A level can take some kilobytes of stack, of which a thread has
/// two megabytes.
const DEPTH: usize = 256;

/// The format of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    #[default]
    Compact = 0,
    Named = 1,
}

impl Format {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Compact, Self::Named].into_iter().find(|format| *format as u8 == byte)
    }
}

/// A message to be sent.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) format: Format,
    pub(crate) body: Vec<u8>,
    /// Sent from where they are.
    pub(crate) segments: Vec<Segment>,
}

/// The value of a message that has one.
pub(crate) fn decode<T: DeserializeOwned>(
    format: Format,
    body: &[u8],
    segments: Vec<ReceivedSegment>,
) -> Result<T, Error> {
    let segments = Received::from(segments);
    match format {
        Format::Compact => {
            let mut values = compact::Message::new(body, segments);
            let value = values.next()?;
            values.finish().map(|()| value)
        }
        Format::Named => {
            let mut values = named::Deserializer::new(body, segments);
            let value = values.value()?;
            values.finish().map(|()| value)
        }
    }
}

/// Reads the values of a message, one after the other.
///
/// They are only to be trusted once [`finish`](Self::finish) agrees.
pub(crate) struct Decoder<'de> {
    values: Values<'de>,
}

enum Values<'de> {
    Compact(compact::Message<'de>),
    Named(named::Deserializer<'de>),
}

impl<'de> Decoder<'de> {
    pub(crate) fn new(format: Format, body: &'de [u8], segments: Vec<ReceivedSegment>) -> Self {
        let segments = Received::from(segments);
        let values = match format {
            Format::Compact => Values::Compact(compact::Message::new(body, segments)),
            Format::Named => Values::Named(named::Deserializer::new(body, segments)),
        };
        Self { values }
    }

    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        match &mut self.values {
            Values::Compact(values) => values.next(),
            Values::Named(values) => values.value(),
        }
    }

    /// Whether that was all, and what was encoded.
    pub(crate) fn finish(self) -> Result<(), Error> {
        match self.values {
            Values::Compact(values) => values.finish(),
            Values::Named(values) => values.finish(),
        }
    }
}
