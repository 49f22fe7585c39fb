//! Iteration by blocking, for code without a runtime.

use std::fmt;
use std::iter::FusedIterator;

use futures_core::stream::FusedStream;

/// A stream whose next item a thread can wait for.
///
/// It seals what [`Blocking`] can be made of.
#[allow(unnameable_types, reason = "that is what seals it")]
pub trait BlockingNext: FusedStream {
    /// Waits for the next item by blocking this thread.
    #[doc(hidden)]
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Self::Item>;
}

/// An iterator over the items of a stream of this crate, which blocks the calling thread while there is
/// none. From the `blocking` methods of [`Map`](crate::Map), [`AsCompleted`](crate::AsCompleted) and their
/// kin.
///
/// It is for synchronous code: inside of a runtime read the stream itself, since a blocked thread runs no
/// other task. Inside of a job the worker's place is lent out meanwhile.
///
/// # Drop
///
/// As that of the stream, which [`into_inner`](Self::into_inner) gives back.
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Blocking<S> {
    stream: S,
}

impl<S> Blocking<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream }
    }

    /// Gives the stream back, with the items that were not taken.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: BlockingNext> Iterator for Blocking<S> {
    type Item = S::Item;

    #[cfg_attr(debug_assertions, track_caller)]
    fn next(&mut self) -> Option<S::Item> {
        self.stream.next_blocking()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl<S: BlockingNext> FusedIterator for Blocking<S> {}

impl<S: fmt::Debug> fmt::Debug for Blocking<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").field("stream", &self.stream).finish()
    }
}
