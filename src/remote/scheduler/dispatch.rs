//! Which worker gets which task, and when there is one worker more. In the pool's process.

use std::sync::Arc;

use super::Pool;
use super::config::Config;
use super::nesting::Free;
use super::state::{Place, RoomLeft, State, Task};
use super::worker::{NO_TASK, Worker};
use crate::clock;
use crate::metrics::WorkerMetrics;
use crate::remote::frame::Kind;
use crate::remote::map_context::ChunkDetail;
use crate::remote::message::Payload;
use crate::remote::scheduler::transport::{EndBy, Hub, NotStarted, Transport};
use crate::trace::Outbox;

/// Number of workers in a row that die before they have run anything, which breaks the pool.
const MOST_FAILED_STARTS: usize = 5;

/// Numbers of workers begin again here. The last one is the transport's.
const MOST_NUMBER: u32 = u32::MAX;

/// Records that nothing lies between a task and its worker any more: for the pool, its start.
pub(super) fn about_to_start<T: Transport>(
    task: &mut Task<T>,
    metrics: &WorkerMetrics,
    outbox: &mut Outbox,
    room_left: &mut RoomLeft,
    config: &Config,
) {
    if config.queue_capacity != Some(0) {
        // Once: a task that is tried again has given its room back.
        room_left.count += usize::from(std::mem::take(&mut task.holds_room));
    }
    let waited = clock::now().saturating_sub(task.submitted);
    metrics.started(waited);
    outbox.started(&task.trace, waited);
}

impl<T: Transport> Pool<T> {
    /// Gives queued tasks to idle workers, and starts workers for the others.
    pub(crate) fn dispatch(self: &Arc<Self>, state: &mut State<T>) {
        while state.queued > 0 {
            let free = self.free(state, true);
            if free == Free::Nothing {
                break;
            }
            let worker = match self.idle_worker(state) {
                Some(worker) => worker,
                None => match self.try_start_worker(state, free) {
                    Some(worker) => worker,
                    None => break,
                },
            };
            if !self.send_next(state, worker, free) {
                break;
            }
            // The frame of a new worker's initializer, which is in front, goes out with the task's.
            state.flush_later(worker);
        }
        self.dismiss_spares(state);
        self.start_missing(state);
    }

    /// Starts workers until there are `min_workers`, in the place of those that were lost or have ended.
    fn start_missing(self: &Arc<Self>, state: &mut State<T>) {
        let min = self.config.min_workers;
        // Most pools have no such number, and their workers need not be counted.
        while min > 0 && state.life.is_open() && state.working() < min {
            let Some(worker) = self.try_start_worker(state, Free::Anything) else { return };
            self.rest(state, worker);
            state.flush_later(worker);
        }
    }

    fn try_start_worker(self: &Arc<Self>, state: &mut State<T>, free: Free) -> Option<u32> {
        if !self.may_start_worker(state, free) {
            return None;
        }
        match self.start_worker(state) {
            Ok(worker) => Some(worker),
            // The transport is about to tell of the starter's end, and dispatches again.
            Err(NotStarted::StarterIsGone) => None,
            Err(NotStarted::Refused(error)) => {
                let of_try = state.starts.current_try();
                self.on_start_refused(state, of_try, &error);
                None
            }
        }
    }

    fn may_start_worker(&self, state: &State<T>, free: Free) -> bool {
        // A child runs in the place of its parent, which is about to go on.
        let has_place = free == Free::Child || state.active() < self.config.max_workers;
        // Workers whose end is not explained yet may prove to be failed starts.
        has_place
            && state.failed_starts + state.unexplained() < MOST_FAILED_STARTS
            && state.starts.may_ask(|| state.has_pending())
    }

    /// Records a failed start: a worker has ended before its first task, or all workers with their
    /// starter before any had begun.
    pub(super) fn record_failed_start(
        self: &Arc<Self>,
        state: &mut State<T>,
        how: impl FnOnce() -> String,
    ) {
        state.failed_starts += 1;
        if state.failed_starts >= MOST_FAILED_STARTS {
            let text = format!(
                "{MOST_FAILED_STARTS} worker processes in a row have ended before their first task, the last: {}",
                how()
            );
            self.break_with(state, text.into());
        }
    }

    pub(super) fn idle_worker(&self, state: &mut State<T>) -> Option<u32> {
        while let Some(number) = state.idle.pop() {
            // A worker of the list may have left meanwhile, or have got a task from `fill_up`.
            if state.worker(number).is_some_and(Worker::<T>::is_idle) {
                return Some(number);
            }
        }
        None
    }

    /// Puts the next task in line for a worker that has room. `false`: there is none for it.
    pub(super) fn send_next(
        self: &Arc<Self>,
        state: &mut State<T>,
        number: u32,
        free: Free,
    ) -> bool {
        let Some(task_number) = state.next_for(number, free) else { return false };
        let State { workers, tasks, metrics, outbox, room_left, .. } = state;
        let (Some(worker), Some(task)) = (workers.get_mut(&number), tasks.get_mut(&task_number))
        else {
            return false;
        };
        worker.serves = task.parent;
        // The initializer or a withdrawn task may be in front; its reply makes this one the next.
        let is_next = worker.sent.is_empty();
        let limit = task.options.timeout;
        let mut detail = task.detail;
        if task.kind == Kind::Chunk {
            detail = ChunkDetail::pack(task.context.as_deref(), detail);
        }
        if let Some(context) = &task.context {
            self.announce(worker, context.payload());
            worker.send_context(context);
        }
        let content = task.content.as_ref();
        content.into_iter().for_each(|content| self.announce(worker, content));
        let slot = content.and_then(|it| worker.send(task.kind, task_number, detail, it));
        let Some(slot) = slot else {
            // There are as many claims as a worker may have tasks, so this does not happen; the
            // task keeps its place.
            state.queue.push_front(task_number);
            state.queued += 1;
            return false;
        };
        worker.has_suspect |= task.sink.suspect().is_some();
        task.place = Place::Sent { worker: number, slot };
        if is_next {
            about_to_start(task, metrics, outbox, room_left, &self.config);
            task.let_go(worker, slot);
        }
        if let Some(limit) = limit {
            let pool = Arc::clone(self);
            // The limit can't have passed before this fires; the action looks at the true start.
            let timer = self.timer(limit, move || pool.ran_too_long(task_number, limit));
            task.run_timer = Some(timer);
        }
        T::on_sent(self, state);
        true
    }

    fn start_worker(self: &Arc<Self>, state: &mut State<T>) -> Result<u32, NotStarted> {
        let number = state.next_worker;
        // Used up also if the start fails: what has come of it all the same is told by this number.
        state.next_worker = number.wrapping_add(1) % MOST_NUMBER;
        let index = state.free_index();
        let link = state.transport.start(&self.hub, number, index)?;
        let Config { max_tasks_per_worker, .. } = self.config;
        let (of_try, now) = (state.starts.current_try(), self.hub.now());
        let mut worker = Worker::new(link, index, of_try, max_tasks_per_worker, now);
        if let Some(initializer) = &self.config.initializer {
            let initializer = Payload::Long(Arc::clone(initializer));
            self.announce(&mut worker, &initializer);
            worker.send(Kind::Initialize, NO_TASK, 0, &initializer);
        }
        state.workers.insert(number, worker);
        Ok(number)
    }

    /// Sends a worker that has replied as much as it may have, or lets it be idle, or go.
    pub(super) fn fill_up(self: &Arc<Self>, state: &mut State<T>, number: u32) {
        self.free_stuck(state);
        let Some(worker) = state.workers.get_mut(&number) else { return };
        if worker.is_used_up() && worker.sent.is_empty() {
            return state.end_worker(number, EndBy::Dismissal, None);
        }
        let room = worker.room();
        let is_idle = worker.is_idle();
        if state.queued == 0 && is_idle && self.free(state, true) == Free::Anything {
            Self::take_over(state, number);
        }
        let free = self.free(state, is_idle);
        // An equal share, so that one worker does not take ahead what others could run.
        let fair = state.queued.div_ceil(state.active().max(1));
        let count = match free {
            Free::Nothing => 0,
            // One place is free, for one child.
            Free::Child => 1,
            Free::Anything => room.min(state.queued).min(fair.max(1)),
        };
        let _all = (0..count).all(|_| self.send_next(state, number, free));
        if count > 0 {
            state.flush_later(number);
        } else if is_idle {
            self.rest(state, number);
        }
    }

    /// A worker has nothing to do.
    fn rest(self: &Arc<Self>, state: &mut State<T>, number: u32) {
        let Some(worker) = state.workers.get_mut(&number) else { return };
        let served = worker.serves.take();
        if let Some(limit) = self.config.idle_timeout {
            // By the number of replies the action sees that the worker has had a task since.
            let (pool, replies) = (Arc::clone(self), worker.replies);
            let timer = self.timer(limit, move || pool.idle_too_long(number, replies));
            worker.idle_timer = Some(timer);
        }
        state.idle.retain(|other| *other != number);
        state.idle.push(number);
        if let Some(parent) = served {
            state.lend(parent.worker); // to the next worker that looks for a task
        }
    }

    /// Sends a worker away that has had nothing to do since it gave so many replies.
    fn idle_too_long(self: &Arc<Self>, number: u32, replies: u64) {
        let mut state = self.state.lock();
        let worker = state.worker(number);
        let has_been_idle =
            worker.is_some_and(|worker| worker.is_idle() && worker.replies == replies);
        // One of the last stays until it has had another task.
        if has_been_idle && state.working() > self.config.min_workers {
            state.end_worker(number, EndBy::Dismissal, None);
            self.release(state);
        }
    }

    /// Takes back what was sent ahead to a worker whose task takes unexpectedly long, so that it is
    /// not passed over by what was submitted later. Each call looks at one worker.
    fn free_stuck(&self, state: &mut State<T>) {
        let next = state.workers.range(state.next_look..).next();
        let Some((&number, _)) = next.or_else(|| state.workers.iter().next()) else { return };
        state.next_look = number + 1;
        let Some(worker) = state.workers.get_mut(&number) else { return };
        if worker.sent.len() > 1 && worker.check_stuck(self.hub.now()) {
            // The first one has started, or is about to.
            state.take_back(number, 1);
        }
    }

    /// Puts half of what another worker has in front of it back into the queue, for an idle one.
    fn take_over(state: &mut State<T>, number: u32) {
        let others = state.workers.keys().filter(|other| **other != number);
        let most = others.map(|other| (state.sent_ahead(*other).count(), *other)).max();
        let Some((count @ 1.., other)) = most else { return };
        // The later half, rounded up: the busy worker would come to it last.
        let Some(keep) = state.sent_ahead(other).nth(count / 2) else { return };
        state.take_back(other, keep);
    }
}
