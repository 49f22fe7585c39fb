//! Handles to what processes share: they go to worker processes, and back, inside of arguments, results and items.
//!
//! Which of them is for what, the page [Sharing](crate::guide::sharing) of the guide says, with what each costs.
//!
//! [`SharedSlice`] is a large array that many tasks read: copied once into memory that all processes map, and
//! that none can write to. [`SharedVec`] is its memory before that. [`Shared`] is a value of any type that many
//! tasks read: encoded once, and decoded once in each worker. [`SharedArray`] is an array of numbers that all tasks
//! write to, and [`SharedChunks`] one whose parts have a lock each. [`Value`] is a value of any type that processes
//! change, as a whole or not at all. [`channel()`] is a queue between any number of processes, [`duplex`] two of them.
//! [`Lock`], [`Semaphore`], [`Event`] and [`Barrier`] are what they wait for.
//!
//! A handle has file descriptors, which go beside the message that it is in. So it travels with this crate's own
//! messages alone, those of pools and channels, in any value that a type made of serde's traits can have: in a struct,
//! a `Vec`, an `Option`, a map's items. Other serialisers refuse it. On a thread pool and inline nothing is serialised,
//! and the same code works.
//!
//! A handle that was moved into a task lives where the task has it, and nowhere else: the pool lets go of its own
//! copy as soon as the task is sent. So such a task is sent only to a worker that begins with it at once, and it is
//! [`WorkerLost`](crate::Error::WorkerLost) if that dies before it begins, where any other would go to the next
//! worker. No such task is sent ahead, so each costs a round trip: where they take microseconds, a map is quicker,
//! which sends many items at a time. A task with [`retries`](crate::TaskBuilder::retries) is sent again, so the
//! pool keeps its handles until the last try; a map keeps those of an item until that has its result, or its error;
//! an initializer's live as long as the pool.
//!
//! A process that is killed wedges nothing here: the kernel says what it had, and the others go on. Nothing here has a
//! name in the file system, so nothing is left behind, however processes end: the memory is
//! free when the last process that has it is gone. Linux only so far; elsewhere making one is an
//! [`Error`](enum@Error).

mod array;
mod atomic_element;
mod barrier;
mod channel;
mod chunk;
mod chunks;
mod error;
mod event;
mod event_word;
mod halves;
mod held;
mod image;
mod journal;
mod lock;
mod mapped;
mod mapped_chunks;
mod object;
mod registry;
mod room;
mod semaphore;
mod shared;
mod slice;
mod slots;
mod value;
mod waiting;
mod waits;
mod writable;

pub use array::SharedArray;
pub use atomic_element::AtomicElement;
pub use barrier::{Barrier, BarrierWaitResult, BrokenBarrier};
pub use channel::{
    ChannelBuilder, Duplex, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    Sender, TryRecvError, TrySendError, channel, duplex,
};
pub use chunk::{Abandoned, Chunk, ChunkGuard};
pub use chunks::SharedChunks;
pub use error::{Error, FreezeError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub(crate) use registry::{Items, forget, keep};
pub use semaphore::{Semaphore, SemaphorePermit};
pub use shared::Shared;
pub use slice::{SharedSlice, SharedVec};
pub use value::Value;
