//! Spans and events for `tracing`. Without that feature every type here is zero-sized and every method a
//! no-op.
//!
//! A subscriber is user code. It is called where no lock is held, a panic of it is reported by the
//! panic hook and ends here, and what it submits from there is not traced itself, which would have no
//! end.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is told"))]

#[cfg(feature = "tracing")]
mod spans;

use std::marker::PhantomData;
#[cfg(feature = "tracing")]
use std::sync::Arc;

use crate::error::Error;
use crate::label::Label;

#[cfg(all(feature = "tracing", feature = "process"))]
use self::spans::Note;
#[cfg(all(feature = "tracing", feature = "process"))]
pub(crate) use self::spans::Record;
#[cfg(feature = "tracing")]
use self::spans::{Slot, Traced};

/// Returns whether a subscriber would be told of what begins now.
#[inline]
pub(crate) fn is_listened_to() -> bool {
    #[cfg(feature = "tracing")]
    return spans::is_listened_to();
    #[cfg(not(feature = "tracing"))]
    false
}

/// Tells of a task that has failed after its future was dropped or detached.
pub(crate) fn unobserved(task: u64, label: Option<&str>, pool: &str, error: &Error) {
    #[cfg(feature = "tracing")]
    if is_listened_to() {
        spans::tell_unobserved(task, label, pool, error);
    }
}

/// A task's span.
pub(crate) struct TaskTrace {
    /// `None` if there was no subscriber at the submission, which is seen without a call.
    #[cfg(feature = "tracing")]
    slot: Option<Box<Slot>>,
}

impl TaskTrace {
    #[inline]
    pub(crate) fn none() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            slot: None,
        }
    }

    /// Makes the span, a child of the current one.
    #[inline]
    pub(crate) fn new(id: u64, label: Option<&Label>, pool: &str) -> Self {
        #[cfg(feature = "tracing")]
        if is_listened_to() {
            return Self { slot: Some(Slot::of_task(id, label, pool)) };
        }
        Self::none()
    }

    /// Records the start of the task, after so many ticks in the queue.
    #[inline]
    pub(crate) fn started(&self, queue_time: impl FnOnce() -> u64) {
        #[cfg(feature = "tracing")]
        if let Some(slot) = &self.slot {
            slot.started(queue_time());
        }
    }

    /// Enters the span on this thread until the returned guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> Entered {
        Entered {
            #[cfg(feature = "tracing")]
            task: self.slot.as_ref().and_then(|slot| slot.enter()),
        }
    }

    /// Tells of the task's result.
    #[inline]
    pub(crate) fn outcome(&self, error: Option<&Error>) {
        #[cfg(feature = "tracing")]
        if let Some(slot) = &self.slot {
            slot.outcome(error);
        }
    }

    /// Ends the span, with the task. A drop does so as well.
    #[inline]
    pub(crate) fn close(&self) {
        #[cfg(feature = "tracing")]
        if let Some(slot) = &self.slot {
            slot.close();
        }
    }
}

#[cfg(feature = "process")]
impl TaskTrace {
    /// Takes the current span, for work that has no events of its own.
    pub(crate) fn of_current() -> Self {
        #[cfg(feature = "tracing")]
        if is_listened_to() {
            return Self { slot: Some(Slot::of_current()) };
        }
        Self::none()
    }

    /// Takes the span of this task, for work that has no events of its own.
    pub(crate) fn shared(&self) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            slot: self.slot.as_ref().and_then(|slot| slot.shared()),
        }
    }

    /// Adds nanoseconds that the task was on a worker.
    pub(crate) fn ran(&self, nanos: u64) {
        #[cfg(feature = "tracing")]
        if let Some(slot) = &self.slot {
            slot.ran(nanos);
        }
    }
}

/// A task's span, for as long as it is entered on this thread.
pub(crate) struct Entered {
    /// With the ticks of its beginning.
    #[cfg(feature = "tracing")]
    task: Option<(Arc<Traced>, u64)>,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        #[cfg(feature = "tracing")]
        if let Some((traced, since)) = self.task.take() {
            traced.leave(since);
        }
    }
}

/// A map's span.
pub(crate) struct MapTrace {
    #[cfg(feature = "tracing")]
    span: Option<crate::panic::Quiet<tracing::Span>>,
}

impl MapTrace {
    /// Makes the span, a child of the current one.
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: is_listened_to().then(spans::span_of_map).flatten(),
        }
    }

    /// Enters the span on this thread until the returned guard is dropped.
    pub(crate) fn enter(&self) -> EnteredMap<'_> {
        #[cfg(feature = "tracing")]
        if let Some(span) = &self.span {
            spans::enter(span);
        }
        EnteredMap {
            #[cfg(feature = "tracing")]
            span: self.span.as_deref(),
            map: PhantomData,
        }
    }
}

/// A map's span, for as long as it is entered on this thread.
pub(crate) struct EnteredMap<'a> {
    #[cfg(feature = "tracing")]
    span: Option<&'a tracing::Span>,
    map: PhantomData<&'a MapTrace>,
}

impl Drop for EnteredMap<'_> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(feature = "tracing")]
        if let Some(span) = self.span {
            spans::exit(span);
        }
    }
}

/// Events that happen under a pool's lock, to be told once the lock is released.
#[cfg(feature = "process")]
pub(crate) struct Outbox {
    #[cfg(feature = "tracing")]
    notes: Vec<Note>,
    /// Workers that were lost and not replaced.
    #[cfg(feature = "tracing")]
    to_replace: usize,
}

#[cfg(feature = "process")]
impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            notes: Vec::new(),
            #[cfg(feature = "tracing")]
            to_replace: 0,
        }
    }

    /// Notes the start of a task, its first or a later one, after so many ticks in the queue.
    pub(crate) fn started(&mut self, task: &TaskTrace, queue_time: u64) {
        #[cfg(feature = "tracing")]
        if let Some(traced) = task.slot.as_ref().and_then(|slot| slot.get_aloud()) {
            if traced.begins(queue_time) {
                self.notes.push(Note::Started(traced));
            }
        }
    }

    /// Notes an event of a worker, in the span of the task that the worker has, if it has one.
    #[cfg(feature = "tracing")]
    pub(crate) fn record(&mut self, task: Option<&TaskTrace>, pid: Option<u32>, record: Record) {
        let task = task.and_then(|task| task.slot.as_ref()).and_then(|slot| slot.get());
        self.notes.push(Note::Record { task, pid, record });
    }

    pub(crate) fn worker_lost(&mut self, how: impl FnOnce() -> String, was_killed: bool) {
        #[cfg(feature = "tracing")]
        {
            // Counted without a subscriber too: there may be one when the next worker starts.
            self.to_replace += 1;
            if is_listened_to() {
                self.notes.push(Note::Lost { how: how(), was_killed });
            }
        }
    }

    pub(crate) fn worker_started(&mut self, pool: &str) {
        #[cfg(feature = "tracing")]
        if self.to_replace > 0 {
            self.to_replace -= 1;
            if is_listened_to() {
                self.notes.push(Note::Replaced { pool: pool.to_owned() });
            }
        }
    }

    /// Takes what was noted, for [`tell`](Self::tell).
    pub(crate) fn take(&mut self) -> Self {
        Self {
            #[cfg(feature = "tracing")]
            notes: std::mem::take(&mut self.notes),
            #[cfg(feature = "tracing")]
            // The count stays in the pool, since a replacement may start much later.
            to_replace: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(feature = "tracing")]
        return self.notes.is_empty();
        #[cfg(not(feature = "tracing"))]
        true
    }

    /// Tells the subscriber what was noted. Called without the pool's lock.
    pub(crate) fn tell(self) {
        #[cfg(feature = "tracing")]
        for note in self.notes {
            spans::tell(|| note.tell());
        }
    }
}
