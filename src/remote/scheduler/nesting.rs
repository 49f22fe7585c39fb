//! Tasks that wait for others of their pool: their places, and the order in which their children run. In the
//! pool's process, under the pool's lock.
//!
//! A *place* is one of `max_workers`. A task that waits lends its place out, and takes it back when it
//! goes on. The place is for its children first: see the README.

use super::Pool;
use super::state::{Parent, Place, State};
use super::worker::{IfWithdrawn, Life, NO_TASK, Sent, Wait, Worker};
use crate::dump::Awaited;
use crate::remote::frame::{FOR_OTHERS, Header, UNTIL};
use crate::remote::scheduler::transport::{EndBy, Transport};
use crate::shrink::shrink;

/// The tasks that one more worker may be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Free {
    Nothing,
    /// A child in the place of its parent, which is about to go on, or has none working for it.
    Child,
    Anything,
}

impl<T: Transport> Pool<T> {
    /// Returns what may be sent to a worker that is idle, or to one that runs a task already.
    pub(super) fn free(&self, state: &State<T>, is_idle: bool) -> Free {
        let places = self.config.max_workers;
        // The rule in programs that do not nest: each worker has a place.
        if state.workers.len() <= places && state.answered.is_empty() {
            return Free::Anything;
        }
        // An idle worker would be one more. A task that was answered and has not gone on counts as
        // busy, and its child may run in its place.
        let busy = state.busy() + usize::from(is_idle);
        if busy <= places {
            Free::Anything
        } else if busy <= places + state.answered() && state.answered_child().is_some() {
            Free::Child
        } else if busy - state.held_back() <= places && state.stalled_child().is_some() {
            // A task that waits for another one is not held up by those that wait for other processes.
            Free::Child
        } else {
            Free::Nothing
        }
    }

    /// Dismisses idle workers that have no place. As many stay as there are tasks that have waited, which
    /// may wait again.
    pub(super) fn dismiss_spares(&self, state: &mut State<T>) {
        let places = self.config.max_workers;
        while state.workers.len() > places {
            let is_idle = |number: &u32| state.worker(*number).is_some_and(Worker::<T>::is_idle);
            // The list has the one first that has been idle for longest.
            let Some(longest) = state.idle.iter().position(is_idle) else { return };
            let has_waited =
                |worker: &&Worker<T>| worker.life == Life::Working && worker.wait != Wait::Never;
            let spares = state.workers.values().filter(has_waited).count();
            if state.active() <= places + spares {
                return;
            }
            let number = state.idle.remove(longest);
            state.end_worker(number, EndBy::Dismissal, None);
        }
    }
}

impl<T: Transport> State<T> {
    /// Records that the task of a worker waits, as its frame says.
    pub(super) fn on_wait(&mut self, number: u32, waits: Header) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        let Header { number: request, detail, .. } = waits;
        let has_calls = !worker.calls.is_empty() || !worker.answered.is_empty();
        // A call that was answered a moment ago is a child that is out: its number is in no table.
        let call = worker.calls.iter().rev().find(|(other, _)| *other == request);
        let is_answered = worker.answered.contains(&request);
        let child = call.map(|(_, child)| *child).or(is_answered.then_some(NO_TASK));
        // A future that is none of the pool's has a number too; nothing here tells when it is done.
        let until = detail == UNTIL && (child.is_some() || (request == 0 && has_calls));
        worker.wait = match detail {
            FOR_OTHERS => Wait::ForOthers(Awaited::of_others(request)),
            _ => Wait::For { child, until },
        };
        // What was sent ahead would wait for this task, and this task perhaps for that.
        self.take_back(number, 0);
        if let Some(child) = child {
            // Another worker may have the child, behind a task that takes long.
            self.take_back_child(child);
        }
        self.lend(number);
        self.look_at_wait(number);
    }

    /// Lends a place out, before those that were lent out earlier.
    pub(super) fn lend(&mut self, number: u32) {
        self.lent.retain(|other| *other != number);
        self.lent.push(number);
    }

    /// Takes the next task for a worker out of the queue: a child of the task that it stands in for; if
    /// it is idle, a child of the one that has lent its place out last; else the oldest. Behind a task
    /// that it runs already comes only one with the same parent.
    pub(super) fn next_for(&mut self, number: u32, free: Free) -> Option<u64> {
        let worker = self.worker(number).filter(|worker| !worker.has_suspect)?;
        let (serves, is_idle) = (worker.serves, worker.is_idle());
        let child = match free {
            Free::Nothing => return None,
            Free::Child => Some(self.answered_child().or_else(|| self.stalled_child())?),
            Free::Anything => self.next_child(serves, is_idle),
        };
        if let Some((child, parent)) = child {
            if !is_idle && (serves != Some(parent) || self.has_descriptors(child)) {
                return None;
            }
            if let Some(worker) = self.workers.get_mut(&parent.worker) {
                if worker.wait == Wait::Answered {
                    worker.wait = Wait::For { child: Some(child), until: true }; // if it does not go on before
                }
            }
            self.leave_queue(child);
            return Some(child);
        }
        let (oldest, parent) = self.oldest()?;
        if !is_idle && (serves != parent || self.has_descriptors(oldest)) {
            return None;
        }
        self.queue.pop_front();
        shrink(&mut self.queue);
        self.queued -= 1;
        Some(oldest)
    }

    fn has_descriptors(&self, task: u64) -> bool {
        self.tasks.get(&task).is_some_and(|task| task.has_descriptors())
    }

    /// A queued child of the parent that is served, or of one that has lent its place out.
    fn next_child(&mut self, serves: Option<Parent>, is_idle: bool) -> Option<(u64, Parent)> {
        let served = serves.filter(|parent| self.waiting(parent.worker) == Some(*parent));
        let mut child = served.and_then(|parent| self.child_of(parent));
        while is_idle && child.is_none() {
            // Not looked at again, until its task waits anew or the worker that stands in rests.
            let lender = self.lent.pop()?;
            child = self.waiting(lender).and_then(|parent| self.child_of(parent));
        }
        child
    }

    /// A child of the task that was answered last, of those with queued ones.
    fn answered_child(&self) -> Option<(u64, Parent)> {
        self.answered.iter().rev().find_map(|number| {
            self.worker(*number).filter(|worker| worker.wait == Wait::Answered)?;
            self.child_of(self.waiting(*number)?)
        })
    }

    /// The child that a task waits for, or one of its children, if it waits for any and none has started.
    fn stalled_child(&self) -> Option<(u64, Parent)> {
        self.workers.iter().rev().find_map(|(number, worker)| {
            let Wait::For { child: awaited, .. } = worker.wait else { return None };
            let parent = self.waiting(*number)?;
            let queued = self.child_of(parent)?;
            let mut calls = worker.calls.iter().filter_map(|(_, call)| self.tasks.get(call));
            let has_started = calls.any(|task| task.parent == Some(parent) && !task.is_queued());
            (awaited == Some(queued.0) || !has_started).then_some(queued)
        })
    }

    /// Returns the number of tasks that have an answer and have not gone on yet.
    fn answered(&self) -> usize {
        let workers = self.answered.iter().filter_map(|number| self.worker(*number));
        workers.filter(|worker| worker.is_active() && worker.wait == Wait::Answered).count()
    }

    /// Records that a task has left the pool, for which its parent may have waited.
    pub(super) fn on_child_gone(&mut self, parent: Parent) {
        if self.waiting(parent.worker) == Some(parent) {
            self.look_at_wait(parent.worker);
        }
    }

    /// Gives a task its place back if it has nothing left to wait for. It goes on when it has the answer;
    /// until then only another child of its own may take the place, for which a callback may wait.
    fn look_at_wait(&mut self, number: u32) {
        let (Some(parent), Some(worker)) = (self.waiting(number), self.worker(number)) else {
            return;
        };
        let is_there =
            |child: &u64| self.tasks.get(child).is_some_and(|task| task.parent == Some(parent));
        let is_answered = match worker.wait {
            Wait::For { child: Some(child), until: true } => !is_there(&child),
            Wait::For { child: None, until: true } => {
                !worker.calls.iter().any(|(_, child)| is_there(child))
            }
            // Any other wait ends with `GoesOn`.
            _ => false,
        };
        if is_answered {
            self.on_answered(number);
        }
    }

    fn on_answered(&mut self, number: u32) {
        let Self { answered, workers, .. } = self;
        // Workers that have gone on leave the list here, so that it stays short.
        answered.retain(|other| {
            *other != number
                && workers.get(other).is_some_and(|worker| worker.wait == Wait::Answered)
        });
        if let Some(worker) = workers.get_mut(&number) {
            worker.wait = Wait::Answered;
            answered.push(number);
        }
    }

    /// The task of a worker, if it waits or is about to go on.
    fn waiting(&self, number: u32) -> Option<Parent> {
        let worker = self.worker(number)?;
        let waits =
            worker.life == Life::Working && (worker.is_blocked() || worker.wait == Wait::Answered);
        let first = worker.sent.front().filter(|_| waits)?;
        Some(Parent { worker: number, task: first.number })
    }

    /// The queued child of a task that is to run next: the one that is waited for, else the oldest.
    fn child_of(&self, parent: Parent) -> Option<(u64, Parent)> {
        let worker = self.worker(parent.worker)?;
        let awaited = if let Wait::For { child, .. } = worker.wait { child } else { None };
        // Among them are calls that an earlier task of the worker has left behind.
        let children = worker.calls.iter().map(|(_, child)| *child);
        let child = awaited.into_iter().chain(children).find(|child| {
            let task = self.tasks.get(child);
            task.is_some_and(|task| task.is_queued() && task.parent == Some(parent))
        });
        Some((child?, parent))
    }

    /// Takes back a task that was sent ahead.
    fn take_back_child(&mut self, child: u64) {
        let Some(task) = self.tasks.get(&child) else { return };
        let Place::Sent { worker, slot } = task.place else { return };
        let Some(from) = self.workers.get_mut(&worker) else { return };
        let is_first = from.sent.front().is_some_and(|sent| sent.number == child);
        let sent = Sent { number: child, slot };
        // The first one has started, or is about to.
        if !is_first && from.withdraw(sent, || IfWithdrawn::Requeue) {
            self.put_back(worker, child);
        }
    }
}
