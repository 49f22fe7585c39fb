//! The errors of channels. In any process.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use super::ring::Damaged;
use crate::error::CodecError;
use crate::ipc::Error;

/// Why nothing was sent or received.
pub(super) enum Failure {
    WouldWait,
    Disconnected,
    Codec(CodecError),
    Io(Error),
}

impl From<Damaged> for Failure {
    fn from(_: Damaged) -> Self {
        Self::Io(Error::Damaged)
    }
}

/// For `map_err`.
pub(super) fn refused(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::Io(Error::io(doing)(error))
}

macro_rules! send_error {
    ($(#[$doc:meta])* $name:ident, $($(#[$wait_doc:meta])* $wait:ident $text:literal)?) => {
        $(#[$doc])*
        #[derive(Clone)]
        #[non_exhaustive]
        pub enum $name<T> {
            $($(#[$wait_doc])* $wait(T),)?
            /// There is no receiver any more, in any process. The item comes back.
            Disconnected(T),
            /// The item can't be encoded. It comes back.
            Codec(T, CodecError),
            /// The system has refused something that the item needs: memory, or a descriptor. The item comes back.
            Io(T, Error),
        }

        impl<T> $name<T> {
            pub(super) fn new(item: T, failure: Failure) -> Self {
                match failure {
                    Failure::WouldWait => send_error!(@wait item $($wait)?),
                    Failure::Disconnected => Self::Disconnected(item),
                    Failure::Codec(error) => Self::Codec(item, error),
                    Failure::Io(error) => Self::Io(item, error),
                }
            }

            /// The item that was not sent.
            pub fn into_inner(self) -> T {
                match self {
                    $(Self::$wait(item) => item,)?
                    Self::Disconnected(item) | Self::Codec(item, _) | Self::Io(item, _) => item,
                }
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$wait(_) => f.write_str($text),)?
                    Self::Disconnected(_) => f.write_str("the channel has no receiver any more"),
                    Self::Codec(_, error) => error.fmt(f),
                    Self::Io(_, error) => error.fmt(f),
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}: {self}", stringify!($name))
            }
        }

        impl<T> StdError for $name<T> {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                match self {
                    Self::Io(_, error) => error.source(),
                    _ => None,
                }
            }
        }
    };
    (@wait $item:ident $wait:ident) => { Self::$wait($item) };
    (@wait $item:ident) => { unreachable!("it waits without a limit") };
}

send_error! {
    /// Why [`send`](super::Sender::send) has not sent an item.
    SendError,
}

send_error! {
    /// Why [`try_send`](super::Sender::try_send) has not sent an item.
    TrySendError,
    /// There is no room for the item. It comes back.
    Full "the channel is full"
}

send_error! {
    /// Why [`send_timeout`](super::Sender::send_timeout) has not sent an item.
    SendTimeoutError,
    /// There was no room for the item in this time. It comes back.
    Timeout "the channel was full for the whole time"
}

macro_rules! receive_error {
    ($(#[$doc:meta])* $name:ident, $($(#[$wait_doc:meta])* $wait:ident $text:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, thiserror::Error)]
        #[non_exhaustive]
        pub enum $name {
            $(
                $(#[$wait_doc])*
                #[error($text)]
                $wait,
            )?
            /// The channel is empty, and there is no sender any more, in any process.
            #[error("the channel is empty and has no sender any more")]
            Disconnected,
            /// An item came that can't be decoded. It is lost; the next one may come.
            #[error(transparent)]
            Codec(CodecError),
            /// The system has refused something that the channel needs.
            #[error(transparent)]
            Io(Error),
        }

        impl From<Failure> for $name {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::Disconnected => Self::Disconnected,
                    Failure::Codec(error) => Self::Codec(error),
                    Failure::Io(error) => Self::Io(error),
                    Failure::WouldWait => receive_error!(@wait $($wait)?),
                }
            }
        }
    };
    (@wait $wait:ident) => { Self::$wait };
    (@wait) => { unreachable!("it waits without a limit") };
}

receive_error! {
    /// Why [`recv`](super::Receiver::recv) has no item.
    RecvError,
}

receive_error! {
    /// Why [`try_recv`](super::Receiver::try_recv) has no item.
    TryRecvError,
    /// There is no item now.
    Empty "the channel is empty"
}

receive_error! {
    /// Why [`recv_timeout`](super::Receiver::recv_timeout) has no item.
    RecvTimeoutError,
    /// No item came in this time.
    Timeout "no item came in time"
}
