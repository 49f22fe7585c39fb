//! Starts of workers that the system refuses: for want of processes, descriptors or memory.
//!
//! A refused start is not the death of a worker. The pool goes on with the workers that it has, and
//! tries again after a back-off, with one worker at a time, as long as tasks wait. It is broken only
//! when no worker lives and several tries have failed.
//!
//! The reading thread is called back for the next try, since the thread of the timers is one that a
//! system which refuses processes may refuse as well.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Pool;
use super::state::State;
use crate::local::worker_handle::{Life, Worker};
use crate::sys::AsFd;

/// The back-off after the first refusal. It doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);

const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// Number of refusals in a row, without a worker that lives, that break the pool. The last try is
/// 630 ms after the first.
const MOST_REFUSALS_ALONE: u32 = 7;

/// The refusals since a worker was started for the last time.
#[derive(Default)]
pub(super) struct Starts {
    /// Counts tries: workers that were asked for together, and are refused one by one, are one try.
    refusals: u32,
    /// Those of them while no worker lived.
    alone: u32,
    retry_at: Option<Instant>,
}

impl Starts {
    /// Whether a worker may be asked for now. `is_pending`: another one was, and has not begun.
    pub(super) fn may_ask(&self, is_pending: impl FnOnce() -> bool) -> bool {
        self.retry_at.is_none_or(|at| at <= Instant::now() && !is_pending())
    }

    /// The try that a worker belongs to which is asked for now.
    pub(super) fn current_try(&self) -> u32 {
        self.refusals
    }

    /// Records that the try has failed. `None`: that was the last one.
    fn on_refused(&mut self, lives: bool) -> Option<Instant> {
        let back_off = FIRST_BACK_OFF.saturating_mul(1 << self.refusals.min(16));
        self.refusals += 1;
        self.alone = if lives { 0 } else { self.alone + 1 };
        let at = Instant::now() + back_off.min(LONGEST_BACK_OFF);
        self.retry_at = Some(at);
        (self.alone < MOST_REFUSALS_ALONE).then_some(at)
    }
}

impl Pool {
    /// Records that a worker could not be started, which was asked for in the try `of_try`.
    pub(super) fn on_start_refused(
        self: &Arc<Self>,
        state: &mut State,
        of_try: u32,
        error: &io::Error,
    ) {
        if of_try != state.starts.current_try() {
            return; // The try has failed already, with another worker.
        }
        let lives = |worker: &Worker| worker.life == Life::Working && worker.process.is_some();
        let lives = state.workers.values().any(lives);
        match state.starts.on_refused(lives) {
            Some(at) => self.registration.call_back(at),
            None => {
                let text = format!("a worker process could not be started: {error}");
                self.break_with(state, text.into());
            }
        }
    }

    /// The helper process could not start a worker. What it was sent goes back to the queue.
    pub(super) fn on_spawn_failed(
        self: &Arc<Self>,
        state: &mut State,
        number: u32,
        error: &io::Error,
    ) {
        state.take_back(number, 0);
        let Some(worker) = state.workers.remove(&number) else { return };
        if worker.life != Life::Gone {
            let _ = self.registration.remove(worker.link.socket.as_fd());
        }
        self.on_start_refused(state, worker.of_try, error);
        self.dispatch(state);
    }

    /// A worker has begun: there may be further ones.
    pub(super) fn on_spawned(self: &Arc<Self>, state: &mut State) {
        state.starts = Starts::default();
        state.outbox.worker_started(&self.config.worker_name);
        self.dispatch(state)
    }

    /// Tries again to start workers, if tasks wait for them.
    pub(crate) fn retry_starts(self: &Arc<Self>) {
        let mut state = self.state.lock();
        match state.starts.retry_at {
            Some(at) if at > Instant::now() => self.registration.call_back(at), // This call was for another pool.
            Some(_) => {
                self.dispatch(&mut state);
                self.release_to_reader(state);
                self.registration.wake(); // It may be about to wait.
            }
            None => {}
        }
    }
}
