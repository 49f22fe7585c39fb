//! Workers: how they are started, what they do next, and how they leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Called, Pool, RETRY, Refused, Rouse, Seat, State, worker};
use crate::core::TaskRef;
use crate::core::local_queue::OwnLocalQueue;
use crate::error::BrokenPool;
use crate::panic::wake_all;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::thread::Thread;

impl Pool {
    pub(super) fn start_worker(self: &Arc<Self>, seat: Arc<Seat>, own: OwnLocalQueue) {
        let spawned = worker::spawn(self, &seat, own);
        let mut state = self.state.lock();
        state.starting -= 1;
        // The threads of workers that have retired meanwhile need no one to wait for them. Not at
        // the end: it waits for the destructors of thread-locals as well, which may still run.
        if state.life.is_open() {
            state.threads.retain(|thread| !thread.is_finished());
        }
        match spawned {
            Ok(thread) => {
                if self.starved.load(Relaxed) {
                    thread.thread().unpark(); // It may have blocked before it was in the list.
                }
                state.threads.push(thread);
                state.refused = None;
                let wakers = state.wakers_at_end();
                drop(state);
                wake_all(wakers);
            }
            Err(refused) => self.on_refusal(state, &seat, &refused),
        }
    }

    /// The worker at `seat` has no thread. Those that there are do its work; if there is none, all
    /// that waits ends with the system's reason.
    pub(super) fn on_refusal(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        seat: &Arc<Seat>,
        refused: &std::io::Error,
    ) {
        state.retire(seat);
        let cause = format!("the system refused to start a worker thread: {refused}");
        let cause = BrokenPool::new(cause.into());
        state.refused = Some(Refused { at: Instant::now(), cause: cause.clone() });
        if state.live == 0 {
            return self.fail_all(state, cause, !self.config.is_internal);
        }
        let mut blocked = Vec::new();
        if state.is_starved() {
            self.starved.store(true, Relaxed);
            blocked.extend(state.threads.iter().map(|thread| thread.thread().clone()));
        }
        drop(state);
        // Those that are blocked see that they have to try again.
        blocked.iter().for_each(Thread::unpark);
    }

    /// For a blocked worker: if the pool is starved, tries to start another worker unless that was
    /// refused a moment ago. The answer is when to ask again; `None`: the pool is not starved.
    pub(crate) fn seek_spare(self: &Arc<Self>) -> Option<Duration> {
        if !self.starved.load(Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        if !state.is_starved() {
            self.starved.store(false, Relaxed);
            return None;
        }
        let pause = state.refused.as_ref().map_or(Duration::ZERO, Refused::pause);
        if !pause.is_zero() {
            return Some(pause);
        }
        let rouse = self.find_worker(&mut state);
        self.rouse(state, rouse);
        Some(RETRY)
    }

    /// The next task for the worker at `seat`; waits for one. With it the worker may take up to
    /// `more` others into its local queue. `None`: the worker is to end.
    pub(crate) fn next_task(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        own: &mut OwnLocalQueue,
        more: usize,
    ) -> Option<TaskRef> {
        if !seat.local_queue.is_empty() {
            // Before it takes one: nobody is to count on it to look at the queue.
            seat.set_busy();
            if let Some(task) = own.take() {
                return Some(task);
            }
        }
        let mut state = self.state.lock();
        seat.looks();
        let mut has_watched = false;
        loop {
            if state.active() > self.config.max_workers {
                // One too many, since a worker that was blocked has gone on.
                let waits = state.waiting() > 0;
                let called =
                    if waits { self.sleep.call(&mut state.sleepers) } else { Called::Nobody };
                state.retire(seat);
                drop(state);
                self.sleep.wake(called);
                return None;
            }
            if let Some(task) = state.take_tasks(own, more) {
                seat.set_busy();
                if state.refused.is_some() {
                    let rouse = self.find_worker(&mut state);
                    self.rouse(state, rouse);
                }
                return Some(task);
            }
            if state.is_over() {
                state.retire(seat);
                return None;
            }
            state = self.sleep.wait(self.state.get(), state, &mut has_watched);
        }
    }

    pub(crate) fn dead_popped(&self) {
        self.state.lock().queue.dead_popped();
    }

    /// The worker's last step.
    pub(crate) fn leave(&self, seat: &Arc<Seat>) {
        let wakers = {
            let mut state = self.state.lock();
            state.retire(seat);
            state.wakers_at_end()
        };
        wake_all(wakers);
    }

    /// A worker is about to wait inside of a job, or of what belongs to its end: its place and its
    /// local queue are free for others.
    pub(crate) fn block(self: &Arc<Self>, seat: &Seat) {
        let mut state = self.state.lock();
        state.blocked += 1;
        // In one step with the count: a submission in between would find no worker for it.
        self.hold_up(state, seat);
    }

    /// A worker that counted as about to look for a task is to run code of the user's first.
    pub(crate) fn keep_busy(self: &Arc<Self>, seat: &Seat) {
        self.hold_up(self.state.lock(), seat);
    }

    /// The worker at `seat` is not to be counted on: what waits for it is for others.
    pub(super) fn hold_up(self: &Arc<Self>, mut state: MutexGuard<'_, State>, seat: &Seat) {
        seat.set_busy();
        state.queue.put_back(std::iter::from_fn(|| seat.local_queue.take()).collect());
        let rouse = if state.waiting() == 0 { Rouse::Nobody } else { self.find_worker(&mut state) };
        self.rouse(state, rouse);
    }

    pub(crate) fn unblock(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.blocked -= 1;
        // One too many now; it must be an idle one that goes, as this one has a job to finish.
        let rouse = if state.active() > self.config.max_workers {
            Rouse::Called(self.sleep.call(&mut state.sleepers)) // to retire
        } else {
            Rouse::Nobody
        };
        self.rouse(state, rouse);
    }
}
