//! The state of a pool: its tasks and workers. In the pool's process, all of it under the pool's lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::TimerOf;
use super::number_map::NumberMap;
use super::starts::Starts;
use super::worker::{IfWithdrawn, Life, NO_TASK, Sent, Worker};
use crate::core::Options;
use crate::error::{Error, LossCause, WorkerLost};
use crate::lifecycle::Lifecycle;
use crate::metrics::WorkerMetrics;
use crate::reactor::UserCode;
use crate::remote::frame::{Content, Header, Kind};
use crate::remote::map_context::MapContext;
use crate::remote::message::Payload;
use crate::remote::scheduler::transport::{EndBy, Transport, WorkerLink};
use crate::remote::submission::ReplySink;
use crate::shrink::shrink;
use crate::sync::Mutex;
use crate::trace::{Outbox, TaskTrace};

pub(crate) struct State<T: Transport> {
    pub(super) life: Lifecycle,
    pub(crate) transport: T,
    /// Tasks by number, in the order of their start. Numbers that are no task any more are skipped.
    pub(super) queue: VecDeque<u64>,
    /// Number of tasks whose place is [`Place::Queued`]; the queue may have more entries.
    pub(super) queued: usize,
    pub(super) tasks: NumberMap<Box<Task<T>>>,
    pub(crate) workers: BTreeMap<u32, Worker<T>>,
    /// Workers that may be idle; the last one has worked last, and is the first to get a task, so
    /// that the others reach their idle timeout.
    pub(super) idle: Vec<u32>,
    /// Workers whose tasks have lent their places out, the last one last, until the places are taken.
    pub(super) lent: Vec<u32>,
    /// Workers whose tasks were [answered](super::worker::Wait::Answered), and some that have gone on.
    pub(super) answered: Vec<u32>,
    /// Workers for which frames were put in line.
    pub(super) to_flush: Vec<(u32, FlushOf<T>)>,
    pub(super) next_worker: u32,
    max_waiting: usize,
    /// Sent to each worker that is dismissed; `None` once workers are ended by force.
    pub(super) finalizer: Option<Arc<Content>>,
    /// Number of the worker at which the search for stuck workers goes on.
    pub(super) next_look: u32,
    /// Workers in a row that ended before their first task. A reply sets it to 0.
    pub(super) failed_starts: usize,
    pub(super) starts: Starts<TimerOf<T>>,
    /// Room in the queue that is to be given back once the lock is released.
    pub(super) room_left: RoomLeft,
    pub(super) submitted: u64,
    pub(super) cancelled: u64,
    /// Workers that died with a task.
    pub(super) workers_lost: u64,
    pub(super) metrics: WorkerMetrics,
    pub(super) grace_timer: Option<TimerOf<T>>,
    pub(super) outbox: Outbox,
    /// Futures to finish, once the lock is released.
    pub(super) done: Vec<Box<dyn UserCode>>,
    /// Set when nothing is left but to release what the pool has, by the thread that does so.
    pub(super) has_ended: bool,
    /// Set once what the pool had is released and its workers are gone; a shutdown returns then.
    pub(super) is_over: bool,
}

pub(super) type FlushOf<T> = <<T as Transport>::Worker as WorkerLink>::Flush;

/// Room in the queue that tasks have left. Those who wait for it, or for the end of the queue, are woken, which is
/// user code.
#[derive(Default, PartialEq, Eq)]
pub(super) struct RoomLeft {
    pub(super) count: usize,
    /// There will be no more room.
    pub(super) is_closed: bool,
}

/// A task that is accepted and not done.
pub(super) struct Task<T: Transport> {
    /// `None`: its worker has the only copy, see [`let_go`](Self::let_go).
    pub(super) content: Option<Payload>,
    pub(super) kind: Kind,
    pub(super) detail: u64,
    pub(super) sink: Box<dyn ReplySink>,
    pub(super) place: Place,
    pub(super) parent: Option<Parent>,
    /// It holds room in the queue, until nothing lies between it and its worker.
    pub(super) holds_room: bool,
    /// Moment of its submission, in ticks.
    pub(super) submitted: u64,
    /// Losses after which it was tried again, the first one first.
    pub(super) lost: Vec<WorkerLost>,
    /// Workers that died, unkilled, while this task was first in their pipeline and not started.
    pub(super) suspect_deaths: u32,
    pub(super) options: Options,
    #[expect(dead_code, reason = "it is there to be dropped with the task")]
    pub(super) queue_timer: Option<TimerOf<T>>,
    pub(super) run_timer: Option<TimerOf<T>>,
    pub(super) trace: TaskTrace,
    /// Of a chunk: its map's.
    pub(super) context: Option<Arc<MapContext>>,
}

impl<T: Transport> Task<T> {
    pub(super) fn is_queued(&self) -> bool {
        self.place == Place::Queued
    }

    /// Returns what it is in a count of tasks. A map's chunk is none: its items are counted.
    pub(super) fn count(&self) -> u64 {
        u64::from(self.kind != Kind::Chunk)
    }

    /// Returns whether the worker was sent it, and it was not taken back.
    pub(super) fn is_with(&self, number: u32) -> bool {
        matches!(self.place, Place::Sent { worker, .. } if worker == number)
    }

    /// Returns whether there are handles in it. Such a task is sent only to a worker that begins with it at
    /// once: while it lay behind another one, its handles would live on in the socket.
    pub(super) fn has_descriptors(&self) -> bool {
        self.content.as_ref().is_some_and(Payload::has_descriptors)
    }

    /// Drops the pool's copy of the handles in a call that its worker is to begin with next, so that they live
    /// where the call has them and nowhere else. The call can't be sent again after that.
    pub(super) fn let_go(&mut self, worker: &Worker<T>, slot: u16) {
        // A map has its items until they have results, as those that a dead worker had not begun are sent again.
        // A worker that is not there yet may be refused; one that is asked for the task may give it back.
        let is_final = self.kind == Kind::Call && self.options.retries == 0;
        let may_come_back = !worker.is_spawned || worker.is_asked_for(slot);
        if self.has_descriptors() && is_final && !may_come_back {
            self.content = None;
        }
    }
}

/// The task that has submitted another one, and its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) worker: u32,
    pub(super) task: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Queued,
    Sent { worker: u32, slot: u16 },
}

/// Number of workers that may die while a task is first in their pipeline and not started. If one
/// more dies, it is of the task that they have died: for want of memory to receive it, for example.
const MOST_SUSPECT_DEATHS: u32 = 2;

impl<T: Transport> State<T> {
    pub(super) fn new(life: Lifecycle, transport: T, max_waiting: usize) -> Self {
        Self {
            life,
            transport,
            queue: VecDeque::new(),
            queued: 0,
            tasks: NumberMap::default(),
            workers: BTreeMap::new(),
            idle: Vec::new(),
            lent: Vec::new(),
            answered: Vec::new(),
            to_flush: Vec::new(),
            next_worker: 0,
            max_waiting,
            finalizer: None,
            next_look: 0,
            failed_starts: 0,
            starts: Starts::default(),
            room_left: RoomLeft::default(),
            submitted: 0,
            cancelled: 0,
            workers_lost: 0,
            metrics: WorkerMetrics::new(),
            grace_timer: None,
            outbox: Outbox::new(),
            done: Vec::new(),
            has_ended: false,
            is_over: false,
        }
    }

    /// The state of the pool in a forked child, where the workers are the parent's.
    pub(super) fn abroad() -> Mutex<Self> {
        let state = Self::new(Lifecycle::abroad(), T::abroad(), 0);
        Mutex::new(Self { has_ended: true, is_over: true, ..state })
    }

    /// Workers that count against `max_workers`.
    pub(super) fn active(&self) -> usize {
        self.count_of(Worker::is_active)
    }

    /// The number of such workers, and of those that wait for other processes and are too many to be replaced.
    fn count_of(&self, is_one: impl Fn(&Worker<T>) -> bool) -> usize {
        let mut waiting = 0;
        let is_counted = |worker: &&Worker<T>| {
            waiting += usize::from(worker.waits_for_others());
            is_one(worker)
        };
        let count = self.workers.values().filter(is_counted).count();
        count + waiting.saturating_sub(self.max_waiting)
    }

    /// The number of workers that wait for other processes and keep their places.
    pub(super) fn held_back(&self) -> usize {
        self.count_of(|_| false)
    }

    /// Workers that take tasks, or will when their own goes on.
    pub(super) fn working(&self) -> usize {
        self.workers.values().filter(|worker| worker.life == Life::Working).count()
    }

    /// Workers that run tasks and get on with them.
    pub(super) fn busy(&self) -> usize {
        self.count_of(|worker| worker.is_active() && !worker.is_idle())
    }

    /// Returns whether a worker was asked for that has not begun.
    pub(super) fn has_pending(&self) -> bool {
        let is_pending = |worker: &Worker<T>| worker.life == Life::Working && !worker.is_spawned;
        self.workers.values().any(is_pending)
    }

    /// Number of workers that are gone unkilled, as it seems before their first task, and whose end
    /// is not explained yet.
    pub(super) fn unexplained(&self) -> usize {
        let is_unexplained = |worker: &&Worker<T>| {
            worker.life == Life::Gone && !worker.is_killed && !worker.has_begun()
        };
        self.workers.values().filter(is_unexplained).count()
    }

    /// Has what is in line for the worker sent once the lock is released.
    pub(super) fn flush_later(&mut self, number: u32) {
        let Some(worker) = self.workers.get(&number) else { return };
        if !self.to_flush.iter().any(|(other, _)| *other == number) {
            self.to_flush.push((number, worker.link.to_flush()));
        }
    }

    /// Returns the lowest place that no worker has, also none of those that are ending.
    pub(super) fn free_index(&self) -> u32 {
        let mut is_taken = vec![false; self.workers.len() + 1];
        for worker in self.workers.values() {
            if let Some(is_taken) = is_taken.get_mut(worker.index as usize) {
                *is_taken = true;
            }
        }
        // One place more than there are workers, so that one is free.
        is_taken.iter().position(|is_taken| !is_taken).unwrap_or(is_taken.len()) as u32
    }

    /// Ends a worker. The reason is told with its loss.
    pub(crate) fn end_worker(&mut self, number: u32, how: EndBy, reason: Option<LossCause>) {
        let Self { workers, transport, finalizer, .. } = self;
        let Some(worker) = workers.get_mut(&number) else { return };
        match how {
            // One that ends for another reason does not count as dismissed, so its loss is told.
            EndBy::Dismissal if worker.life != Life::Working => return,
            EndBy::Dismissal => {
                worker.was_dismissed = true;
                if let Some(finalizer) = finalizer {
                    worker.life = Life::Leaving;
                    // It ends when it has run that. A dismissal by the transport might overtake the
                    // frame.
                    let header =
                        Header { kind: Kind::Finalize, slot: 0, number: NO_TASK, detail: 0 };
                    worker.link.tell(header, &Payload::Long(Arc::clone(finalizer)));
                    return self.flush_later(number);
                }
            }
            EndBy::Termination => {}
            EndBy::Kill => worker.is_killed = true,
        }
        if worker.life == Life::Working {
            worker.life = Life::Leaving;
        }
        transport.end(&mut worker.link, how, reason);
    }

    /// Lets go of a context of a map. If nothing else needs it, the workers that have it are told so.
    pub(super) fn release_context(&mut self, context: Arc<MapContext>) {
        // Others may let go of it at the same time, without the lock; each of them comes here after that.
        if Arc::into_inner(context).is_none() {
            return;
        }
        let mut told = Vec::new();
        for (number, worker) in &mut self.workers {
            if worker.end_contexts() {
                told.push(*number);
            }
        }
        told.into_iter().for_each(|number| self.flush_later(number));
    }

    pub(crate) fn worker(&self, number: u32) -> Option<&Worker<T>> {
        self.workers.get(&number)
    }

    /// Returns whether the worker has the task in this slot, and it was not withdrawn.
    pub(super) fn is_with(&self, number: u32, sent: Sent) -> bool {
        let task = self.tasks.get(&sent.number);
        task.is_some_and(|task| task.place == Place::Sent { worker: number, slot: sent.slot })
    }

    /// Returns whether the worker has begun with a task that it was sent.
    pub(super) fn has_started(&self, task: &Task<T>) -> bool {
        match task.place {
            Place::Queued => false,
            Place::Sent { worker, slot } => {
                self.worker(worker).is_some_and(|worker| worker.has_started(slot))
            }
        }
    }

    /// The oldest task of the queue, and its parent.
    pub(super) fn oldest(&mut self) -> Option<(u64, Option<Parent>)> {
        // Skips tasks that are out of the pool, or were sent out of turn, as children are.
        while let Some(&number) = self.queue.front() {
            if let Some(task) = self.tasks.get(&number).filter(|task| task.is_queued()) {
                return Some((number, task.parent));
            }
            self.queue.pop_front();
            shrink(&mut self.queue);
        }
        None
    }

    /// Records that a task is not queued any more. Its number stays in the queue.
    pub(super) fn leave_queue(&mut self, number: u64) {
        self.queued -= 1;
        // The queue would grow without end if tasks came and went behind a busy worker.
        if self.queue.len() > 64 && self.queue.len() > 2 * self.queued {
            let Self { queue, tasks, .. } = self;
            let is_queued = |other: &u64| tasks.get(other).is_some_and(|task| task.is_queued());
            // The task itself still counts as queued: the caller changes its place after this.
            queue.retain(|other| *other != number && is_queued(other));
            shrink(queue);
        }
    }

    /// Takes a task out of the pool that has not started and is not to. `None`: it has started, or
    /// is done; or its worker is asked, and if it agrees the task ends with `why`.
    pub(super) fn withdraw(
        &mut self,
        number: u64,
        why: impl FnOnce() -> Error,
    ) -> Option<Box<Task<T>>> {
        let task = self.tasks.get(&number)?;
        if let Place::Sent { worker, slot } = task.place {
            let sent = Sent { number, slot };
            // Its number stays in `sent`, and its slot in use, until the worker has skipped it.
            let worker = self.workers.get_mut(&worker)?;
            if !worker.withdraw(sent, || IfWithdrawn::End(why())) {
                return None;
            }
        }
        self.cancelled += task.count();
        self.remove(number)
    }

    /// Takes a task out of the pool, and out of the queue if it is there. The room that it holds is given
    /// back: it may have started without the pool knowing, behind a task whose reply is on the way.
    pub(super) fn remove(&mut self, number: u64) -> Option<Box<Task<T>>> {
        let mut task = self.tasks.remove(&number)?;
        shrink(&mut self.tasks);
        if let Some(context) = task.context.take() {
            self.release_context(context);
        }
        if task.is_queued() {
            self.leave_queue(number);
        }
        self.room_left.count += usize::from(task.holds_room);
        if let Some(parent) = task.parent {
            // From here on the parent has its place back, if it has waited for this task only.
            self.on_child_gone(parent);
        }
        Some(task)
    }

    /// Sets the stop request of a task that runs. Called only after a failed withdrawal: in a
    /// shared claim that is free, the request would keep the task from starting.
    pub(super) fn ask_to_stop(&self, number: u64) {
        if let Some(Place::Sent { worker, slot }) = self.tasks.get(&number).map(|task| task.place) {
            if let Some(worker) = self.worker(worker) {
                worker.link.ask_to_stop(slot);
            }
        }
    }

    /// Takes back what a dead worker has not begun. If others have died with the first of that before
    /// them, it stays with the worker, as if it had begun.
    pub(super) fn requeue_unstarted(&mut self, number: u32) {
        // Before the tasks are taken back: then none is with the worker.
        let next = self.next_of(number);
        let task = next.and_then(|next| self.tasks.get(&next));
        let is_fatal = task.is_some_and(|task| task.suspect_deaths >= MOST_SUSPECT_DEATHS);
        self.take_back(number, usize::from(is_fatal));
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.next = next;
        }
    }

    /// The task that the worker is to begin, if it has begun none.
    fn next_of(&self, number: u32) -> Option<u64> {
        let worker = self.workers.get(&number)?;
        let sent = worker.sent.front()?;
        let is_next = self.is_with(number, *sent) && !worker.has_started(sent.slot);
        is_next.then_some(sent.number)
    }

    /// The places, in what the worker was sent, of tasks that are behind its first one and still with
    /// it. Those that were taken back stay there until the worker has skipped them, which one whose
    /// task waits does not get to.
    pub(super) fn sent_ahead(&self, number: u32) -> impl Iterator<Item = usize> + '_ {
        let sent = self.worker(number).into_iter().flat_map(|worker| worker.sent.iter());
        let ahead = sent.enumerate().skip(1);
        ahead.filter(move |(_, sent)| self.is_with(number, **sent)).map(|(place, _)| place)
    }

    /// Takes back what the worker has not begun, but for the first `keep` of it; it goes to the
    /// front of the queue, in submission.
    pub(super) fn take_back(&mut self, worker: u32, keep: usize) {
        let count = self.worker(worker).map_or(0, |from| from.sent.len());
        // From the last to the first, so that they have their old order at the front of the queue.
        for place in (keep..count).rev() {
            let Some(from) = self.workers.get_mut(&worker) else { return };
            let sent = from.sent[place];
            // One that was taken back before may be with another worker by now.
            let place = self.tasks.get(&sent.number).map(|task| task.place);
            let is_there = place == Some(Place::Sent { worker, slot: sent.slot });
            let may_move = self.tasks.get(&sent.number).is_some_and(|task| task.content.is_some());
            if is_there && may_move && from.withdraw(sent, || IfWithdrawn::Requeue) {
                self.put_back(worker, sent.number);
            }
        }
    }

    /// Puts a task that its worker will not begin at the front of the queue.
    pub(super) fn put_back(&mut self, worker: u32, number: u64) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        task.place = Place::Queued;
        self.queue.push_front(number);
        self.queued += 1;
        if let Some(from) = self.workers.get_mut(&worker) {
            // The task was counted when it was sent, and has not run.
            from.tasks_left = from.tasks_left.map(|left| left + 1);
            from.has_suspect &= task.sink.suspect().is_none();
        }
    }
}
