//! All results of a map, in order. In the consumer's process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::future::FusedFuture;

use super::consumer::Consumer;
use super::segment::Segment;
use crate::error::Error;

/// The future of a [`Map`](super::Map) that is awaited: all results in order, or the first error in the
/// order of the input. From [`Map::into_future`](super::Map::into_future).
///
/// # Drop and cancel safety
///
/// It can be polled by reference again and again, as in `select!`. Dropping it stops the map.
#[must_use = "a map does nothing until it is polled, and dropping it stops it"]
pub struct MapFuture<T> {
    consumer: Consumer<T>,
    /// The results so far. `None` before the first poll.
    all: Option<Segment<T>>,
}

impl<T> MapFuture<T> {
    pub(super) fn new(consumer: Consumer<T>) -> Self {
        Self { consumer, all: None }
    }

    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn result(self) -> Result<Vec<T>, Error> {
        let Self { mut consumer, all } = self;
        let mut all = all.unwrap_or_else(|| consumer.gather());
        consumer.block_on(|consumer, cx| poll_all(consumer, &mut all, cx))
    }
}

fn poll_all<T>(
    consumer: &mut Consumer<T>,
    all: &mut Segment<T>,
    cx: &Context<'_>,
) -> Poll<Result<Vec<T>, Error>> {
    let failed = loop {
        match consumer.append_to(all) {
            Err(error) => break error,
            Ok(()) => match ready!(consumer.poll_more(cx)) {
                Ok(true) => {}
                Ok(false) => {
                    let all = std::mem::replace(all, Segment::empty());
                    return Poll::Ready(Ok(all.into_vec()));
                }
                Err(error) => break error,
            },
        }
    };
    consumer.finish();
    *all = Segment::empty();
    Poll::Ready(Err(failed))
}

impl<T> Future for MapFuture<T> {
    type Output = Result<Vec<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { consumer, all } = &mut *self;
        let all = all.get_or_insert_with(|| consumer.gather());
        let polled = poll_all(consumer, all, cx);
        consumer.note(&polled, cx);
        polled
    }
}

impl<T> FusedFuture for MapFuture<T> {
    fn is_terminated(&self) -> bool {
        self.consumer.is_finished()
    }
}

// No field is pinned: results are moved out, never polled in place.
impl<T> Unpin for MapFuture<T> {}

impl<T> fmt::Debug for MapFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.debug(f.debug_struct("MapFuture"))
    }
}
