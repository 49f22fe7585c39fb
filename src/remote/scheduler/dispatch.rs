//! Which worker gets which task, and when there is one worker more.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::state::{Place, RoomLeft, State, Task};
use super::{HELPER, Pool};
use crate::clock;
use crate::local::control_block::SharedControlBlock;
use crate::local::family::Family;
use crate::local::start::zygote::{WorkerSettings, Zygote};
use crate::local::worker_handle::{NO_TASK, Worker};
use crate::metrics::WorkerMetrics;
use crate::process_pool::builder::{Config, WorkerStderr};
use crate::remote::frame::Kind;
use crate::sys::{AsFd, explain, socket};
use crate::trace::Outbox;

/// So many workers in a row may die before they have run anything. Then the pool is broken.
const MOST_FALSE_STARTS: usize = 5;

fn is_hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Nothing lies between the task and its worker any more.
pub(super) fn about_to_start(
    task: &mut Task,
    metrics: &WorkerMetrics,
    outbox: &mut Outbox,
    room_left: &mut RoomLeft,
) {
    room_left.count += usize::from(std::mem::take(&mut task.holds_room));
    let waited = clock::now().saturating_sub(task.submitted);
    metrics.started(waited);
    outbox.started(&task.trace, waited);
}

impl Pool {
    /// Gives queued tasks to idle workers, and starts workers for the others.
    pub(super) fn dispatch(self: &Arc<Self>, state: &mut State) {
        while state.queued > 0 {
            let worker = match self.idle_worker(state) {
                Some(worker) => worker,
                None if !self.may_start_worker(state) => break,
                None => match self.start_worker(state) {
                    Ok(worker) => worker,
                    // The helper process has died. The poller is about to tell, and then there will
                    // be another one.
                    Err(error) if is_hung_up(&error) => break,
                    Err(error) => {
                        let of_try = state.starts.current_try();
                        self.on_start_refused(state, of_try, &error);
                        break;
                    }
                },
            };
            self.send_next(state, worker);
            state.flush_later(worker);
        }
    }

    fn may_start_worker(&self, state: &State) -> bool {
        // Those of which it is not known yet may prove to be false starts.
        let false_starts = state.false_starts + state.unexplained();
        state.active() < self.config.max_workers
            && false_starts < MOST_FALSE_STARTS
            && !state.zygote_is_ending
            && state.starts.may_ask(|| state.has_pending())
    }

    /// A worker has ended before its first task, or its start failed.
    pub(super) fn began_in_vain(self: &Arc<Self>, state: &mut State, how: impl FnOnce() -> String) {
        state.false_starts += 1;
        if state.false_starts >= MOST_FALSE_STARTS {
            let text = format!(
                "{MOST_FALSE_STARTS} worker processes in a row have ended before their first task, the last: {}",
                how()
            );
            self.break_with(state, text.into());
        }
    }

    pub(super) fn idle_worker(&self, state: &mut State) -> Option<u32> {
        while let Some(number) = state.idle.pop() {
            if state.worker(number).is_some_and(Worker::is_idle) {
                return Some(number);
            }
        }
        None
    }

    /// Puts the next task in line for a worker that has room.
    pub(super) fn send_next(self: &Arc<Self>, state: &mut State, number: u32) {
        let Some(task_number) = state.pop() else { return };
        let State { workers, tasks, metrics, outbox, room_left, .. } = state;
        let (Some(worker), Some(task)) = (workers.get_mut(&number), tasks.get_mut(&task_number))
        else {
            return;
        };
        let is_next = worker.sent.is_empty();
        let limit = task.options.timeout;
        let Some(slot) = worker.send(task.kind, task_number, task.detail, &task.content) else {
            // There are as many claims as a worker may have tasks, so this does not happen; the
            // task keeps its place.
            state.queue.push_front(task_number);
            state.queued += 1;
            return;
        };
        if task.sink.suspect().is_some() {
            worker.tasks_left = Some(0); // whatever the call does to the process, no other task is hurt
        }
        task.place = Place::Sent { worker: number, slot };
        if is_next {
            about_to_start(task, metrics, outbox, room_left);
        }
        if let Some(limit) = limit {
            let pool = Arc::clone(self);
            let timer = self.timer(limit, move || pool.ran_too_long(task_number, limit));
            task.run_timer = Some(timer);
        }
        self.watch_memory(state);
    }

    pub(super) fn start_worker(&self, state: &mut State) -> io::Result<u32> {
        if state.zygote.is_none() {
            let ended = || io::Error::other("the pool has ended");
            let launch = state.launch.as_ref().ok_or_else(ended)?;
            let zygote = Zygote::start(launch)?;
            Self::watch_helper(&self.registration, &zygote)?;
            state.zygote = Some(zygote);
            state.zygote_is_ready = false;
        }
        let Some(zygote) = &state.zygote else { unreachable!("it was started above") };
        let number = state.next_worker;
        state.next_worker = number.wrapping_add(1) % HELPER;
        let (ours, theirs) = socket::pair().map_err(explain("its socket can't be made"))?;
        let (block, memory) = SharedControlBlock::create()
            .map_err(explain("the memory that it shares with this process can't be made"))?;
        let most = u32::try_from(self.config.max_workers).unwrap_or(u32::MAX);
        block.max_workers.store(most, Relaxed);
        let settings = WorkerSettings {
            number,
            name: format!("{}{number}", self.config.worker_name),
            family: Family::new().map_err(explain("there are no random numbers"))?,
            memory_limit: self.config.memory_limit,
            keep_stderr: self.config.stderr == WorkerStderr::Tail,
        };
        zygote
            .spawn(&settings, theirs, memory.as_fd())
            .map_err(explain("the process that starts workers can't be asked for it"))?;
        self.registration
            .add(ours.as_fd(), number)
            .map_err(explain("its socket can't be waited for"))?;
        let Config { max_tasks_per_child, max_result_size, .. } = self.config;
        let mut worker =
            Worker::new(ours, block, settings.family, max_tasks_per_child, max_result_size);
        worker.of_try = state.starts.current_try();
        if let Some(initializer) = &self.config.initializer {
            worker.send(Kind::Initialize, NO_TASK, 0, initializer);
        }
        state.workers.insert(number, worker);
        Ok(number)
    }

    /// Sends a worker that has replied as much as it may have, or lets it be idle, or go.
    pub(super) fn fill_up(self: &Arc<Self>, state: &mut State, number: u32) {
        self.free_stuck(state);
        let fair = state.queued.div_ceil(state.active().max(1));
        let Some(worker) = state.workers.get_mut(&number) else { return };
        if worker.tasks_left == Some(0) && worker.sent.is_empty() {
            return worker.dismiss();
        }
        let room = worker.room();
        let is_idle = worker.is_idle();
        if state.queued == 0 && is_idle {
            self.take_over(state, number);
        }
        let count = room.min(state.queued).min(fair.max(1));
        for _ in 0..count {
            self.send_next(state, number);
        }
        if count > 0 {
            state.flush_later(number);
        } else if is_idle && state.worker(number).is_some_and(Worker::is_idle) {
            self.rest(state, number);
        }
    }

    /// A worker has nothing to do.
    fn rest(self: &Arc<Self>, state: &mut State, number: u32) {
        // One too many has stood in for a worker that goes on.
        let is_spare = state.active() > self.config.max_workers;
        let Some(worker) = state.workers.get_mut(&number) else { return };
        if is_spare {
            return worker.dismiss();
        }
        if let Some(limit) = self.config.idle_timeout {
            let (pool, replies) = (Arc::clone(self), worker.replies);
            let timer = self.timer(limit, move || pool.idle_too_long(number, replies));
            worker.idle_timer = Some(timer);
        }
        state.idle.retain(|other| *other != number);
        state.idle.push(number);
    }

    /// Sends a worker away that has had nothing to do since it gave so many replies.
    fn idle_too_long(&self, number: u32, replies: u64) {
        let mut state = self.state.lock();
        let worker = state.workers.get_mut(&number);
        if let Some(worker) = worker.filter(|worker| worker.is_idle() && worker.replies == replies)
        {
            worker.dismiss();
        }
    }

    /// Takes back what was sent ahead to a worker whose task takes unexpectedly long, so that it is
    /// not passed over by what was submitted later. Each call looks at one worker.
    fn free_stuck(&self, state: &mut State) {
        let next = state.workers.range(state.next_look..).next();
        let Some((&number, _)) = next.or_else(|| state.workers.iter().next()) else { return };
        state.next_look = number + 1;
        let Some(worker) = state.workers.get_mut(&number) else { return };
        if worker.sent.len() > 1 && worker.is_stuck() {
            state.take_back(number, 1);
        }
    }

    /// An idle worker takes over half of what another one has in front of it.
    pub(super) fn take_over(self: &Arc<Self>, state: &mut State, number: u32) {
        let others = state.workers.keys().filter(|other| **other != number);
        let most = others.map(|other| (state.sent_ahead(*other).count(), *other)).max();
        let Some((count @ 1.., other)) = most else { return };
        let Some(keep) = state.sent_ahead(other).nth(count / 2) else { return };
        state.take_back(other, keep);
        if state.queued > 0 {
            self.send_next(state, number);
            state.flush_later(number);
        }
    }
}
