//! The receiving side of a channel. In any process.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::end::End;
use super::error::{Failure, RecvError, RecvTimeoutError, TryRecvError};
use super::item::Incoming;
use super::shared::Channel;
use crate::blocking::{Blocking, BlockingNext};
use crate::codec::{self, codec_error, guarded};
use crate::error::CodecSide;
use crate::ipc::waiting::Waiting;
use crate::next::Next;
use crate::portable::Portable;

/// The receiving side of a [`channel`](super::channel()).
///
/// It is a [`Stream`] of the items, which ends when the channel is empty and there is no sender any more. A clone is
/// the same side once more: each item goes to one receiver. It travels to worker processes in any value: see
/// [`ipc`](crate::ipc).
///
/// # Drop
///
/// When no process has a receiver any more, sends fail. What is in the channel then is dropped.
pub struct Receiver<T> {
    pub(super) end: Arc<End>,
    /// Of the stream.
    waiting: Waiting<Channel>,
    has_ended: bool,
    items: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    pub(super) fn of(end: Arc<End>) -> Self {
        Self { end, waiting: Waiting::default(), has_ended: false, items: PhantomData }
    }

    /// The number of items in the channel. Other processes may change it at any time.
    pub fn len(&self) -> usize {
        self.end.channel().ring().count() as usize
    }

    /// Returns whether there is no item in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most items that wait in the channel.
    pub fn capacity(&self) -> usize {
        self.end.channel().capacity() as usize
    }
}

impl<T: Portable> Receiver<T> {
    /// Receives the next item, and waits while there is none.
    ///
    /// An item is lost only if this process is killed after it has taken it.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](RecvError::Disconnected) if the channel is empty and has no sender any more, which is told
    /// at once, or within 20 ms if the last sender was killed. The others are as [`RecvError`] says.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; no item is lost.
    pub async fn recv(&self) -> Result<T, RecvError> {
        let mut waiting = Waiting::default();
        let taken = std::future::poll_fn(|cx| self.end.poll(&mut waiting, cx, End::take)).await;
        taken.and_then(|item| self.decode(item)).map_err(RecvError::from)
    }

    /// Receives the next item, if there is one now.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty); the others as [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.block(Some(Instant::now())).map_err(TryRecvError::from)
    }

    /// Receives the next item, and blocks the thread while there is none. In a task of a process pool the worker's
    /// place is lent out meanwhile.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn recv_blocking(&self) -> Result<T, RecvError> {
        self.block(None).map_err(RecvError::from)
    }

    /// As [`recv_blocking`](Self::recv_blocking), for `limit` at most.
    ///
    /// # Errors
    ///
    /// [`Timeout`](RecvTimeoutError::Timeout); the others as [`recv`](Self::recv).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        // A limit beyond the clock's range is none.
        self.block(Instant::now().checked_add(limit)).map_err(RecvTimeoutError::from)
    }

    /// The next item of the stream; `None` at its end. As [`recv`](Self::recv) otherwise.
    #[allow(clippy::should_implement_trait, reason = "it is `next` of a stream")]
    pub fn next(&mut self) -> Next<'_, Self> {
        Next::new(self)
    }

    /// An iterator over the items, which blocks the thread while there is none and ends with the stream.
    pub fn blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }

    #[cfg_attr(debug_assertions, track_caller)]
    fn block(&self, deadline: Option<Instant>) -> Result<T, Failure> {
        self.end.block(deadline, End::take).and_then(|item| self.decode(item))
    }

    fn decode(&self, item: Incoming) -> Result<T, Failure> {
        let side = CodecSide::DecodeItem;
        let (decoded, room) = item.open(|body, attached| {
            Ok(guarded::<T, _, _>(side, || codec::decode::<T>(body, attached)))
        });
        self.end.received.leave(room);
        let decoded = decoded.unwrap_or_else(|error| Err(codec_error::<T>(side, error)));
        decoded.map_err(Failure::Codec)
    }
}

/// An item, or the end of the stream.
fn next_of<T>(received: Result<T, RecvError>) -> Option<Result<T, RecvError>> {
    match received {
        Err(RecvError::Disconnected) => None,
        received => Some(received),
    }
}

impl<T: Portable> Stream for Receiver<T> {
    type Item = Result<T, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        let taken = ready!(this.end.poll(&mut this.waiting, cx, End::take));
        let next = next_of(taken.and_then(|item| this.decode(item)).map_err(RecvError::from));
        this.has_ended = next.is_none();
        Poll::Ready(next)
    }
}

impl<T: Portable> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

impl<T: Portable> BlockingNext for Receiver<T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let next = next_of(self.recv_blocking());
        self.has_ended = next.is_none();
        next
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.end))
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity) = (self.len(), self.capacity());
        f.debug_struct("Receiver").field("len", &len).field("capacity", &capacity).finish()
    }
}
