//! Tasks in the order of their submission.
//!
//! A task that is withdrawn, or run in place by a job that waits for it, leaves its entry behind;
//! the entry keeps the emptied cell and nothing of the user's. Dead entries are counted, and
//! swept out once they are the larger part, so that a withdrawal costs O(1) on average and the
//! queue is never more than twice as long as what waits in it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core::Runnable;

pub(super) type Tasks = Vec<Arc<dyn Runnable>>;

/// Below this many dead entries a sweep is not worth its while.
const FEW: usize = 32;

#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Arc<dyn Runnable>>,
    /// How many entries are dead, at least: a worker may have taken one out and not said so yet.
    dead: usize,
}

impl Queue {
    pub(super) fn push(&mut self, task: Arc<dyn Runnable>) {
        self.entries.push_back(task);
    }

    /// The oldest entry, which may be dead.
    pub(super) fn pop(&mut self) -> Option<Arc<dyn Runnable>> {
        let entry = self.entries.pop_front();
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        entry
    }

    /// How many tasks wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len().saturating_sub(self.dead)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entry has died where it is. The answer is what was swept out, to be dropped once the
    /// queue's lock is released.
    pub(super) fn one_died(&mut self) -> Tasks {
        self.dead += 1;
        if self.dead <= FEW || self.dead <= self.entries.len() / 2 {
            return Vec::new();
        }
        let swept = self.remove(|task| !task.is_queued());
        self.dead = self.dead.saturating_sub(swept.len());
        swept
    }

    /// A popped entry was found to be dead.
    pub(super) fn dead_popped(&mut self) {
        self.dead = self.dead.saturating_sub(1);
    }

    /// Takes all tasks out that have not started, and all dead entries.
    pub(super) fn take_unstarted(&mut self) -> Tasks {
        self.dead = 0;
        self.remove(|task| !task.is_started() || !task.is_queued())
    }

    fn remove(&mut self, is_out: impl Fn(&Arc<dyn Runnable>) -> bool) -> Tasks {
        let (mut out, mut kept) = (Vec::new(), VecDeque::new());
        for task in std::mem::take(&mut self.entries) {
            if is_out(&task) {
                out.push(task);
            } else {
                kept.push_back(task);
            }
        }
        self.entries = kept;
        out
    }
}
