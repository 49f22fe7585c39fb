//! Handles to what processes share: they go to worker processes, and back, inside of arguments, results and items.
//!
//! [`SharedSlice`] is a large array that many tasks read: copied once into memory that all processes map, and
//! that none can write to. [`SharedVec`] is its memory before that.
//!
//! A handle has file descriptors, which go beside the message that it is in. So it travels with the process
//! pool's own messages alone, in any value that a type made of serde's traits can have: in a struct, a `Vec`, an
//! `Option`, a map's items. Other serialisers refuse it. On a thread pool and inline nothing is serialised, and
//! the same code works.
//!
//! Nothing here has a name in the file system, so nothing is left behind, however processes end: the memory is
//! free when the last process that has it is gone. Linux only so far; elsewhere making one is an
//! [`Error`](enum@Error).

mod channel;
mod error;
mod event_word;
mod mapped;
mod slice;
mod waits;

pub use channel::{
    Duplex, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender,
    TryRecvError, TrySendError, channel, duplex,
};
pub use error::Error;
pub use slice::{SharedSlice, SharedVec};
