//! The sending side of a channel. In any process.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::end::End;
use super::error::{Failure, SendError, SendTimeoutError, TrySendError};
use super::item::Outgoing;
use crate::codec::{self, guarded};
use crate::error::CodecSide;
use crate::ipc::Error;
use crate::ipc::waiting::Waiting;
use crate::portable::Portable;

/// The sending side of a [`channel`](super::channel()).
///
/// A clone is the same side once more. It travels to worker processes in any value: see [`ipc`](crate::ipc).
///
/// # Drop
///
/// When no process has a sender any more, the channel's stream ends behind what was sent.
pub struct Sender<T> {
    pub(super) end: Arc<End>,
    items: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    pub(super) fn of(end: Arc<End>) -> Self {
        Self { end, items: PhantomData }
    }

    /// The number of items in the channel. Other processes may change it at any time.
    pub fn len(&self) -> usize {
        self.end.channel().ring().count() as usize
    }

    /// Returns whether there is no item in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether there are as many items in the channel as it may have. It may be full by the items' bytes
    /// before that.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// The most items that wait in the channel.
    pub fn capacity(&self) -> usize {
        self.end.channel().capacity() as usize
    }

    /// Returns whether there is no receiver any more, in any process: nothing that is sent now can arrive.
    pub fn is_closed(&self) -> bool {
        self.end.is_alone()
    }

    /// Waits until there is no receiver any more, in any process. That is told at once, or within 20 ms if the last
    /// one was killed.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn closed(&self) {
        let mut waiting = Waiting::default();
        poll_fn(|cx| self.end.poll_closed(&mut waiting, cx)).await;
    }
}

impl<T: Portable> Sender<T> {
    /// Sends an item, and waits while there is no room for it.
    ///
    /// When it returns `Ok`, the item is in the channel, whatever becomes of this process. That does not mean that it
    /// is received: the last receiver may go meanwhile.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](SendError::Disconnected) if there is no receiver any more. A sender that need not wait looks
    /// only now and then. The others are as [`SendError`] says. The item comes back with each of them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the item was not sent.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        let outgoing = match self.encode(&item) {
            Ok(outgoing) => outgoing,
            Err(failure) => return Err(SendError::new(item, failure)),
        };
        let mut waiting = Waiting::default();
        let sent = poll_fn(|cx| self.end.poll(&mut waiting, cx, |end| end.put(&outgoing))).await;
        self.end.encoded.leave(outgoing.into_room());
        sent.map_err(|failure| SendError::new(item, failure))
    }

    /// Sends an item, if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full); the others as [`send`](Self::send). The item comes back.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let sent = self.block(&item, Some(Instant::now()));
        sent.map_err(|failure| TrySendError::new(item, failure))
    }

    /// Sends an item, and blocks the thread while there is no room for it. In a task of a process pool the worker's
    /// place is lent out meanwhile.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn send_blocking(&self, item: T) -> Result<(), SendError<T>> {
        self.block(&item, None).map_err(|failure| SendError::new(item, failure))
    }

    /// As [`send_blocking`](Self::send_blocking), for `limit` at most.
    ///
    /// # Errors
    ///
    /// [`Timeout`](SendTimeoutError::Timeout); the others as [`send`](Self::send). The item comes back.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn send_timeout(&self, item: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        // A limit beyond the clock's range is none.
        let sent = self.block(&item, Instant::now().checked_add(limit));
        sent.map_err(|failure| SendTimeoutError::new(item, failure))
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn block(&self, item: &T, deadline: Option<Instant>) -> Result<(), Failure> {
        let outgoing = self.encode(item)?;
        let sent = self.end.block(deadline, |end| end.put(&outgoing));
        self.end.encoded.leave(outgoing.into_room());
        sent
    }

    fn encode(&self, item: &T) -> Result<Outgoing, Failure> {
        let room = self.end.encoded.take();
        let encoded =
            guarded::<T, _, _>(CodecSide::EncodeItem, || codec::encode_within(item, room));
        let encoded = encoded.map_err(Failure::Codec)?;
        let longest = self.end.channel().longest();
        let outgoing = Outgoing::new(encoded, longest);
        outgoing.map_err(|error| {
            Failure::Io(Error::io("there is no shared memory for an item of the channel")(error))
        })
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.end))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity) = (self.len(), self.capacity());
        f.debug_struct("Sender").field("len", &len).field("capacity", &capacity).finish()
    }
}
