//! A future's wait for an object that processes share. In any process.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::waits::{WaitList, Watched};
use crate::core::context::Pending;
use crate::core::waiters::Place;
use crate::sys;

/// The wait of a future, which is over when it is dropped.
pub(super) struct Waiting<O: Watched> {
    place: Place,
    /// The event that it waits for.
    on: Option<(Arc<O>, usize)>,
    pending_here: Pending,
}

impl<O: Watched + 'static> Waiting<O> {
    /// Polls: `poll` is given this wait, to [keep](Self::keep) it if it is pending. `event` is what it waits for.
    pub(super) fn polled<R>(
        &mut self,
        object: &O,
        event: usize,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let polled = poll(self, cx);
        if polled.is_ready() {
            if let Some((object, event)) = self.on.take() {
                object.wait_lists()[event].give_up(&mut self.place);
            }
        }
        self.pending_here.note(&polled, cx, || object.awaited(event));
        polled
    }

    /// Waits for an event. `armed` is its word while nothing happens; `None`: it is not known.
    pub(super) fn keep(
        &mut self,
        object: &Arc<O>,
        event: usize,
        cx: &mut Context<'_>,
        armed: Option<u32>,
    ) {
        WaitList::keep(object, event, &mut self.place, cx.waker(), armed);
        self.on = Some((Arc::clone(object), event));
    }

    /// Returns whether it has waited since it was last over.
    pub(super) fn has_waited(&self) -> bool {
        self.on.is_some()
    }
}

impl<O: Watched> Default for Waiting<O> {
    fn default() -> Self {
        let (place, pending_here) = Default::default();
        Self { place, on: None, pending_here }
    }
}

impl<O: Watched> Drop for Waiting<O> {
    fn drop(&mut self) {
        let Some((object, event)) = self.on.take() else { return };
        if object.wait_lists()[event].give_up(&mut self.place) {
            // It was woken, and has not looked. Somebody else may have been asleep.
            sys::wake_one_on(object.word(event));
        }
        self.pending_here.over(|| object.awaited(event));
    }
}
