//! Channels between processes. In any process.
//!
//! [`ring`] is the queue, in shared memory; [`shared`] a process's view of that; [`end`] a side of the channel, which
//! takes, puts and waits; [`Sender`] and [`Receiver`] have values in place of bytes, which [`item`] carries.

mod builder;
mod end;
mod error;
mod handle;
mod item;
mod receiver;
mod ring;
mod sender;
mod shared;

pub use builder::ChannelBuilder;
pub use error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use receiver::Receiver;
pub use sender::Sender;

use super::error::Error;
use crate::portable::Portable;

/// Makes a channel in which at most `capacity` items wait, and 16 MiB of them; [`ChannelBuilder`] has another number
/// of bytes.
///
/// Its ends go to worker processes, in arguments, results, items of maps, and through channels; each can be cloned,
/// so that there are many of both. Items are received in the order in which they were sent, each by one receiver.
///
/// * **Its end.** The channel is closed when all senders are gone, in all processes and on their way to one, however
///   these have ended. Then receivers get what is left, and [`Disconnected`](RecvError::Disconnected). So drop the
///   sender that you have no use for: one that is forgotten keeps the channel open.
/// * **A killed process** wedges nothing, whatever it was about. What it had sent is there; what it had received and
///   not used is lost with it.
/// * **Large items**, of more than a quarter of the channel's bytes, go through memory of their own, and their
///   [`Buffer`](crate::Buffer)s are not copied at the receiver.
/// * **In a task** that waits for an item or for room, the worker's place is lent out, so a pool of one worker can run
///   a consumer and its producer. Each task that waits has a process of its own meanwhile, up to a
///   [number](crate::ProcessPoolBuilder::max_waiting): beyond that, consumers that are submitted before their
///   producer keep it in the queue.
/// * **On threads** it works as well; a channel of your runtime's is quicker there. A task on the inline executor that
///   blocks holds up the thread that submits it, so another thread or process must end its wait: nothing tells
///   one that waits for ever from one whose item is about to come.
///
/// # Errors
///
/// [`InvalidSetting`](Error::InvalidSetting) if the capacity is not 1 to 1,048,576. [`Io`](Error::Io) if the system
/// refuses memory, a descriptor (a channel takes three) or a thread.
///
/// ```
/// use concurrent_futures::ipc::{Receiver, Sender, channel};
///
/// fn produce(queue: Sender<u32>) {
///     for n in 0..10 {
///         queue.send_blocking(n).unwrap();
///     }
/// }
///
/// fn consume(queue: Receiver<u32>) -> u32 {
///     queue.blocking().map(|n| n.unwrap()).sum()
/// }
///
/// # use std::thread::spawn;
/// let (sender, receiver) = channel(4)?;
/// // On a process pool: pool.submit(call!(produce(sender))), pool.submit(call!(consume(receiver)))
/// let producer = spawn(|| produce(sender));
/// assert_eq!(consume(receiver), 45);
/// # producer.join().unwrap();
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
pub fn channel<T: Portable>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), Error> {
    ChannelBuilder::new(capacity).build()
}

/// One end of a [`duplex`] connection.
pub type Duplex<Out, In> = (Sender<Out>, Receiver<In>);

/// Makes two channels, one in each direction: what one side sends the other one receives.
///
/// # Errors
///
/// As [`channel`].
///
/// ```
/// use concurrent_futures::ipc::duplex;
///
/// let ((ask, answer), (requests, replies)) = duplex::<String, usize>(1)?;
/// ask.send_blocking("hello".to_owned()).unwrap();
/// let length = replies.recv_blocking().unwrap().len();
/// requests.send_blocking(length).unwrap();
/// assert_eq!(answer.recv_blocking().unwrap(), 5);
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
#[allow(clippy::type_complexity, reason = "it is two of them")]
pub fn duplex<A: Portable, B: Portable>(
    capacity: usize,
) -> Result<(Duplex<A, B>, Duplex<B, A>), Error> {
    ChannelBuilder::new(capacity).build_duplex()
}
