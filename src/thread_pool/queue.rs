//! Tasks in the order of their submission.
//!
//! A task that is withdrawn, or run in place by a job that waits for it, leaves its entry behind;
//! the entry keeps the emptied cell and nothing of the user's. Dead entries are counted, and
//! swept out once they are the larger part, so that a withdrawal costs O(1) on average and the
//! queue is never more than twice as long as what waits in it.

use std::collections::VecDeque;

use crate::core::TaskRef;
use crate::shrink::shrink;

pub(super) type Tasks = Vec<TaskRef>;

/// Below this many dead entries a sweep is not worth its while.
const FEW: usize = 32;

#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<TaskRef>,
    /// Number of dead entries. It includes those that a worker has popped and not counted off yet,
    /// and those in local queues.
    dead: usize,
}

impl Queue {
    pub(super) fn push(&mut self, task: TaskRef) {
        self.entries.push_back(task);
    }

    /// The oldest entry, which may be dead.
    pub(super) fn pop(&mut self) -> Option<TaskRef> {
        let entry = self.entries.pop_front();
        shrink(&mut self.entries);
        entry
    }

    /// The oldest `count` entries, which may be dead.
    pub(super) fn pop_many(&mut self, count: usize) -> impl Iterator<Item = TaskRef> {
        // The caller must take all of them: the drop of a `Drain` drops the entries that are left
        // in it.
        self.entries.drain(..count.min(self.entries.len()))
    }

    /// Puts tasks back that were taken out and not started, oldest first.
    pub(super) fn put_back(&mut self, tasks: Tasks) {
        // Backwards, so that the first of `tasks` becomes the first of the queue.
        for task in tasks.into_iter().rev() {
            self.entries.push_front(task);
        }
    }

    /// Those of the first `most` entries that are not dead; no others are looked at.
    pub(super) fn first(&self, most: usize) -> impl Iterator<Item = &TaskRef> {
        let is_queued = |task: &&TaskRef| task.header().state.look().is_queued();
        self.entries.iter().take(most).filter(is_queued)
    }

    /// Returns the number of entries, dead ones included.
    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of dead entries, here or in the workers' local queues.
    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    /// Counts an entry that has died in its place. Returns what was swept out, to be dropped after
    /// the queue's lock is released.
    pub(super) fn one_died(&mut self) -> Tasks {
        self.dead += 1;
        if self.dead <= FEW || self.dead <= self.entries.len() / 2 {
            return Vec::new();
        }
        let swept = self.remove(|task| !task.header().state.look().is_queued());
        // Not 0: the others are in local queues, or with a worker that has not counted them off.
        self.dead = self.dead.saturating_sub(swept.len());
        swept
    }

    /// Counts off a dead entry that a worker has popped.
    pub(super) fn dead_popped(&mut self) {
        // `take_unstarted` may have set the count to 0 while the worker had the entry.
        self.dead = self.dead.saturating_sub(1);
    }

    /// Takes all tasks out that have not started, and all dead entries.
    pub(super) fn take_unstarted(&mut self) -> Tasks {
        self.dead = 0;
        self.remove(|task| {
            let now = task.header().state.look();
            // A started task that was woken stays: it runs on, unless its pool withdraws all async
            // tasks.
            !now.is_started() || !now.is_queued()
        })
    }

    fn remove(&mut self, is_out: impl Fn(&TaskRef) -> bool) -> Tasks {
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
