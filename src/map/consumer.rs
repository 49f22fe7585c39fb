//! The consumer's side of a map: what it wants next, and what it has. In the consumer's process.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::chunk::ChunkItems;
use super::segment::Segment;
use super::source::{Settings, Source, Taken, Wanted};
use crate::core::{Awaited, context, parker};
use crate::error::Error;
use crate::label::Label;
use crate::timer::Delay;

/// The part that all kinds of results share.
pub(super) struct Consumer<T> {
    source: Arc<dyn Source<T>>,
    settings: Settings,
    limit: Option<Duration>,
    has_started: bool,
    /// Maximum number of items that the workers may run ahead. 0 before the start.
    window: usize,
    /// The limit, since the start.
    delay: Option<Delay>,
    /// The next item that is wanted; `None`: any.
    next: Option<usize>,
    /// Set if all results are wanted together, so that there is no hurry for the next one.
    wants_all: bool,
    /// The chunk in hand, and the index of its next item.
    items: ChunkItems<T>,
    index: usize,
    count: usize,
    /// The item of the last poll, which the consumer may still work on.
    handed_out: bool,
    /// Delivered items that the workers have not been told of.
    untold: usize,
    /// Set once the limit has passed: results that are there are delivered, and nothing more is
    /// computed.
    is_late: bool,
    finished: bool,
    pending_here: context::Pending,
}

impl<T> Consumer<T> {
    pub(super) fn new(source: Arc<dyn Source<T>>) -> Self {
        Self {
            source,
            settings: Settings::default(),
            limit: None,
            has_started: false,
            window: 0,
            delay: None,
            next: Some(0),
            wants_all: false,
            items: ChunkItems::empty(),
            index: 0,
            count: 0,
            handed_out: false,
            untold: 0,
            is_late: false,
            finished: false,
            pending_here: context::Pending::default(),
        }
    }

    #[track_caller]
    pub(super) fn buffer_size(&mut self, n: usize) {
        self.check_settable();
        assert!(n > 0, "buffer_size must be at least 1, so that an item can be taken");
        self.settings.window = Some(n);
    }

    #[track_caller]
    pub(super) fn chunk_size(&mut self, n: usize) {
        self.check_settable();
        assert!(n > 0, "chunk_size must be at least 1");
        self.settings.chunk_size = Some(n);
    }

    #[track_caller]
    pub(super) fn label(&mut self, label: Label) {
        self.check_settable();
        self.settings.label = Some(label);
    }

    pub(super) fn timeout(&mut self, limit: Duration) {
        self.limit = Some(limit);
        if self.has_started {
            self.delay = Some(Delay::new(limit));
        }
    }

    #[track_caller]
    fn check_settable(&self) {
        assert!(
            !self.has_started,
            "the map has started: set its sizes and its label before `start`"
        );
    }

    pub(super) fn take_in_any_order(&mut self) {
        self.next = None;
    }

    pub(super) fn start(&mut self) {
        if self.has_started {
            return;
        }
        self.has_started = true;
        self.delay = self.limit.map(Delay::new);
        self.window = Arc::clone(&self.source).start(self.settings.clone());
    }

    /// Has all results gathered from now on, and returns the place of those that have been taken.
    pub(super) fn gather(&mut self) -> Segment<T> {
        self.wants_all = true;
        self.window = self.keep_all();
        // Before the start: batches that are taken from here on come with slots of this segment.
        let place = self.source.gather(self.count, self.window);
        self.start();
        place
    }

    /// Has the workers run ahead without limit if none was set: the consumer keeps all results anyway.
    /// Returns the window.
    pub(super) fn keep_all(&mut self) -> usize {
        *self.settings.window.get_or_insert(usize::MAX)
    }

    /// The next result and its index; what a stream does.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<T, Error>)>> {
        let polled = self.poll_item(cx);
        self.note(&polled, cx);
        polled
    }

    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn next_blocking(&mut self) -> Option<(usize, Result<T, Error>)> {
        self.block_on(|this, cx| this.poll_item(cx))
    }

    /// Waits by blocking this thread, which computes items itself where it may.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn block_on<R>(
        &mut self,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<R>,
    ) -> R {
        // Before the limit is looked at, which counts from here.
        self.start();
        let deadline = self.delay.as_mut().map(Delay::keep_by_caller);
        let waited = parker::block_on(
            || Awaited::Map,
            deadline,
            |cx| {
                loop {
                    let polled = poll(self, cx);
                    // This thread may compute a chunk next, so it takes its place back.
                    context::resumed();
                    if polled.is_ready() || !Arc::clone(&self.source).help() {
                        return polled;
                    }
                }
            },
        );
        match waited {
            Some(result) => result,
            None => unreachable!("a wait ends with a result, at its limit too"),
        }
    }

    /// Shows the wait in dumps.
    pub(super) fn note<R>(&mut self, polled: &Poll<R>, cx: &mut Context<'_>) {
        self.pending_here.note(polled, cx, || Awaited::Map);
    }

    pub(super) fn poll_item(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Option<(usize, Result<T, Error>)>> {
        self.start();
        // The item of the last poll counts as delivered only now, when the next one is asked for.
        self.untold += usize::from(std::mem::take(&mut self.handed_out));
        loop {
            if let Some(result) = self.items.next() {
                // Not with the next chunk: in a window the workers may wait for this room.
                if self.untold > 0 && self.window < usize::MAX {
                    Arc::clone(&self.source).delivered(std::mem::take(&mut self.untold));
                }
                let index = self.index;
                self.pass(1);
                self.handed_out = true;
                return Poll::Ready(Some((index, result)));
            }
            match ready!(self.poll_more(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some((self.count, Err(error)))),
            }
        }
    }

    /// Waits until there are items in hand. `false`: there are no others. After an error there
    /// are none either.
    pub(super) fn poll_more(&mut self, cx: &Context<'_>) -> Poll<Result<bool, Error>> {
        if self.finished {
            return Poll::Ready(Ok(false));
        }
        if !self.is_late && self.delay.as_ref().is_some_and(Delay::has_passed) {
            // Not late if all is computed: then the map ends as it would without a limit.
            self.is_late = self.source.halt();
        }
        let wanted = match self.next {
            None => Wanted::Any,
            Some(next) if self.wants_all => Wanted::All(next),
            Some(next) => Wanted::From(next),
        };
        let untold = std::mem::take(&mut self.untold);
        match Arc::clone(&self.source).poll_chunk(wanted, untold, cx) {
            Poll::Ready(Taken::Chunk(first, chunk)) => {
                self.items = chunk.into_iter();
                self.index = first;
                Poll::Ready(Ok(true))
            }
            // The next result is not there, and none comes any more.
            _ if self.is_late => Poll::Ready(Err(self.time_out())),
            Poll::Ready(Taken::Finished) => {
                self.finish();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Taken::Failed(error)) => {
                self.finish();
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                let Some(delay) = &mut self.delay else { return Poll::Pending };
                ready!(delay.poll(cx));
                Poll::Ready(Err(self.time_out()))
            }
        }
    }

    /// Ends the map with the error of its time limit.
    fn time_out(&mut self) -> Error {
        let limit = self.delay.as_ref().map(Delay::limit).unwrap_or_default();
        let started = self.source.is_taken(self.next.unwrap_or(self.count));
        self.finish();
        Error::TimedOut { limit, started }
    }

    /// Moves the values at hand to `all`, up to the first error.
    pub(super) fn append_to(&mut self, all: &mut Segment<T>) -> Result<(), Error> {
        self.untold += usize::from(std::mem::take(&mut self.handed_out));
        let count = self.items.append_to(all);
        self.pass(count);
        self.untold += count;
        match self.items.next() {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Counts the next `count` items in hand as the consumer's.
    fn pass(&mut self, count: usize) {
        self.index += count;
        self.count += count;
        self.next = self.next.map(|next| next + count);
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
        // An empty rest of a chunk may still share the memory that `into_vec` is to take over.
        self.items = ChunkItems::empty();
        self.source.stop();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The rest of the input, by the length that it told.
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        if self.finished {
            return (0, Some(0));
        }
        let (least, most) = self.source.size_hint();
        let (least, most) =
            (least.saturating_sub(self.count), most.map(|most| most.saturating_sub(self.count)));
        // The error of the limit stands for all that is left.
        (if self.limit.is_some() { least.min(1) } else { least }, most)
    }

    pub(super) fn debug(&self, mut debug: fmt::DebugStruct<'_, '_>) -> fmt::Result {
        debug
            .field("delivered", &self.count)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.source.stop();
    }
}
