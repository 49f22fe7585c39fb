//! Starts of workers that the system refuses: for want of processes, descriptors or memory. In the pool's
//! process.
//!
//! A refused start is not the death of a worker. The pool goes on with the workers that it has, and
//! tries again after a back-off, with one worker at a time, as long as tasks wait or there are fewer
//! than `min_workers`. It is broken only
//! when several tries have failed and no worker gets on: none lives, or each waits for a task that
//! waits for a worker.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use super::state::{Place, State};
use super::worker::{Sent, Worker};
use crate::remote::scheduler::transport::{Hub, Transport};

/// The back-off after the first refusal. It doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);

const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// Number of refusals in a row, without a worker that gets on, that break the pool. The last try is
/// 630 ms after the first.
const MOST_REFUSALS_STUCK: u32 = 7;

/// The refusals since a worker was started for the last time.
pub(super) struct Starts<Timer> {
    /// Counts tries: workers that were asked for together, and are refused one by one, are one try.
    refusals: u32,
    /// Those of them while no worker got on.
    stuck: u32,
    /// Makes the next try, after the back-off.
    retry: Option<Timer>,
}

impl<Timer> Default for Starts<Timer> {
    fn default() -> Self {
        Self { refusals: 0, stuck: 0, retry: None }
    }
}

impl<Timer> Starts<Timer> {
    /// Returns whether a worker may be asked for now. `is_pending`: another one was, and has not begun.
    pub(super) fn may_ask(&self, is_pending: impl FnOnce() -> bool) -> bool {
        self.refusals == 0 || (self.retry.is_none() && !is_pending())
    }

    /// The try that a worker belongs to which is asked for now.
    pub(super) fn current_try(&self) -> u32 {
        self.refusals
    }

    /// Records that the try has failed. `None`: that was the last one.
    fn on_refused(&mut self, is_stuck: bool) -> Option<Duration> {
        // The exponent has a bound, so that the shift is in range; the back-off has its own.
        let back_off = FIRST_BACK_OFF.saturating_mul(1 << self.refusals.min(16));
        self.refusals += 1;
        // A worker that gets on will free a place, so only tries without one break the pool.
        self.stuck = if is_stuck { self.stuck + 1 } else { 0 };
        (self.stuck < MOST_REFUSALS_STUCK).then_some(back_off.min(LONGEST_BACK_OFF))
    }
}

impl<T: Transport> Pool<T> {
    /// Records that a worker could not be started, which was asked for in the try `of_try`.
    pub(super) fn on_start_refused(
        self: &Arc<Self>,
        state: &mut State<T>,
        of_try: u32,
        error: &io::Error,
    ) {
        if of_try != state.starts.current_try() {
            return; // The try has failed already, with another worker.
        }
        // Without a task there is nothing to fail: `min_workers` are tried again and again.
        let is_stuck = !state.tasks.is_empty() && !state.workers.values().any(Worker::<T>::gets_on);
        match state.starts.on_refused(is_stuck) {
            Some(back_off) => {
                let pool = Arc::clone(self);
                let timer = self.timer(back_off, move || pool.retry_starts());
                state.starts.retry = Some(timer);
            }
            None => {
                let waits =
                    if state.workers.is_empty() { "" } else { ", and all others wait for tasks" };
                let text = format!("a worker process could not be started{waits}: {error}");
                self.break_with(state, text.into());
            }
        }
    }

    /// Records that a worker that was asked for is refused. What it was sent goes back to the queue.
    pub(crate) fn on_refused(
        self: &Arc<Self>,
        state: &mut State<T>,
        number: u32,
        error: &io::Error,
    ) {
        // No answer comes from a worker that was never there; it has begun nothing.
        self.close_questions(state, number);
        state.take_back(number, 0);
        let Some(worker) = state.workers.remove(&number) else { return };
        self.on_start_refused(state, worker.of_try, error);
        self.dispatch(state);
    }

    /// Records that a worker has begun: there may be further ones.
    pub(crate) fn on_spawned(self: &Arc<Self>, state: &mut State<T>, number: u32) {
        let State { workers, tasks, .. } = state;
        if let Some(worker) = workers.get_mut(&number) {
            worker.is_spawned = true;
            if let Some(Sent { number: next, slot }) = worker.sent.front().copied() {
                let place = Place::Sent { worker: number, slot };
                let task = tasks.get_mut(&next).filter(|task| task.place == place);
                task.into_iter().for_each(|task| task.let_go(worker, slot));
            }
        }
        // The system grants workers again, so several may be asked for at a time.
        state.starts = Starts::default();
        state.outbox.worker_started(&self.config.name);
        self.dispatch(state);
    }

    /// Tries again to start workers, if there are to be any.
    fn retry_starts(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let fired = state.starts.retry.take();
        self.dispatch(&mut state);
        self.release_to_reader(state);
        drop(fired);
        // This may be the timer's thread; the one that reads is to run what was left to it.
        self.hub.wake();
    }
}
