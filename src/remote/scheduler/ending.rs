//! The end of a pool: in submission, by force, or because it is broken. And maps, which go on beyond the
//! moment at which it is closed. In the pool's process.

use std::sync::Arc;
use std::sync::atomic::{Ordering::Acquire, Ordering::Release};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::starts::Starts;
use super::state::{Place, State};
use super::{Pool, TimerOf};
use crate::core::TaskId;
use crate::error::{BrokenPool, Error, LossCause};
use crate::future::TaskFuture;
use crate::instruments::Measured;
use crate::lifecycle::{self, Accepting, Lifecycle, Phase};
use crate::map::crew::Crew;
use crate::panic::wake_all;
use crate::remote::scheduler::transport::{EndBy, Hub, Transport, WorkerLink};
use crate::room::Room;
use crate::shutdown::{self, Closing, RunningTask, Shutdown, ShutdownReport};
use crate::thread_pool::ThreadPoolExecutor;

/// A job on a helper thread that has not ended.
struct Unfinished<T: Transport>(Arc<Pool<T>>);

impl<T: Transport> Drop for Unfinished<T> {
    fn drop(&mut self) {
        self.0.finished();
    }
}

/// Work that is left at the end, to be done after the lock is released.
pub(super) struct End<T: Transport> {
    remains: T::Remains,
    starts: Starts<TimerOf<T>>,
    grace_timer: Option<TimerOf<T>>,
}

impl<T: Transport> Accepting for Pool<T> {
    fn life<R>(&self, look: impl FnOnce(&mut Lifecycle) -> R) -> R {
        look(&mut self.state.lock().life)
    }

    fn room(&self) -> Option<&Room> {
        self.room.as_ref().filter(|_| self.state.is_home())
    }

    /// Without the lock as long as the pool is open: a submission looks again under the lock.
    fn check_open(&self) -> Result<(), Error> {
        let is_open = self.state.is_home() && self.is_open.load(Acquire);
        if is_open { Ok(()) } else { Err(self.refusal()) }
    }

    fn close(self: &Arc<Self>, how: Shutdown) {
        let mut state = self.state.lock();
        let counts = self.counts(&state);
        state.life.close(how, counts);
        self.is_open.store(false, Release);
        self.finishing.close();
        state.room_left.is_closed = true;
        if how == Shutdown::CancelQueued {
            self.withdraw_all(&mut state, &|| Error::Cancelled);
        }
        self.release(state);
    }
}

impl<T: Transport> Pool<T> {
    /// Sends workers away when nothing more will come; the end itself, if this is it.
    pub(super) fn end(&self, state: &mut State<T>) -> Option<End<T>> {
        if state.life.is_open() || !state.tasks.is_empty() || state.has_ended {
            return None;
        }
        let numbers: Vec<u32> = state.workers.keys().copied().collect();
        for number in numbers {
            let Some(worker) = state.worker(number) else { continue };
            let is_done = worker.sent.is_empty();
            let (is_stopped, is_killed) = (worker.is_stopped, worker.is_killed);
            if is_done || is_stopped {
                state.end_worker(number, EndBy::Dismissal, None);
            }
            if is_stopped && !is_killed {
                // No task is left, and a stopped process does not see that it is to end.
                state.end_worker(number, EndBy::Kill, None);
            }
        }
        // The last exit, completion or word of the transport looks for the end again.
        let is_busy = !self.finishing.is_none() || !state.transport.may_end();
        if !state.workers.is_empty() || is_busy {
            return None;
        }
        state.has_ended = true;
        Some(End {
            remains: state.transport.take_remains(),
            starts: std::mem::take(&mut state.starts),
            grace_timer: state.grace_timer.take(),
        })
    }

    pub(super) fn on_end(&self, end: Option<End<T>>) {
        let Some(End { remains, starts, grace_timer }) = end else { return };
        drop((starts, grace_timer));
        T::let_go(&self.hub, remains);
        if let Some(helpers) = self.helpers.get() {
            drop(helpers.shutdown(Shutdown::Drain));
        }
        self.hub.leave();
        self.export();
        let wakers = {
            let mut state = self.state.lock();
            // Not before: a shutdown returns when all is released.
            state.is_over = true;
            state.life.take_waiting()
        };
        wake_all(wakers);
    }

    /// Runs a map's driver on a helper thread.
    pub(crate) fn start_driver(
        self: &Arc<Self>,
        driver: Box<dyn FnOnce() + Send>,
    ) -> TaskFuture<()> {
        let state = self.state.lock();
        if !state.life.goes_on() || state.has_ended {
            drop(state);
            return TaskFuture::ready(Err(self.withdrawal()));
        }
        // Counted under the lock under which the pool goes on, so that it does not end before.
        let job = self.unfinished(driver);
        drop(state);
        self.helpers().go_on(job)
    }

    /// Runs code of the user's on a helper thread, for something that is not finished.
    pub(super) fn run_on_helper(self: &Arc<Self>, job: Box<dyn FnOnce() + Send>) -> TaskFuture<()> {
        self.helpers().go_on(self.unfinished(job))
    }

    /// The pool does not end before the job has run, or was dropped.
    fn unfinished(
        self: &Arc<Self>,
        job: Box<dyn FnOnce() + Send>,
    ) -> impl FnOnce() + Send + 'static {
        self.finishing.begin(1);
        let running = Unfinished(Arc::clone(self));
        move || {
            job();
            drop(running); // the last, also if the job is dropped
        }
    }

    /// Why the pool does not go on with a map that it had accepted.
    pub(crate) fn withdrawal(&self) -> Error {
        if let Phase::Broken(cause) = &self.state.lock().life.phase {
            return Error::BrokenPool(cause.clone());
        }
        // Or the system has refused threads for maps, which the helper pool knows.
        self.helpers.get().map_or(Error::Cancelled, Crew::refusal)
    }

    /// Withdraws all that has not started.
    pub(super) fn withdraw_all(self: &Arc<Self>, state: &mut State<T>, error: &dyn Fn() -> Error) {
        let mut all: Vec<u64> = state.tasks.keys().copied().collect();
        // In the order of submission.
        all.sort_unstable();
        for number in all {
            if let Some(task) = state.withdraw(number, error) {
                self.end_withdrawn(state, *task, error());
            }
        }
    }

    /// Breaks the pool: takes nothing more, and withdraws what has not started. The first cause
    /// counts.
    pub(crate) fn break_with(
        self: &Arc<Self>,
        state: &mut State<T>,
        cause: Box<dyn std::error::Error + Send + Sync>,
    ) {
        if !matches!(state.life.phase, Phase::Broken(_)) {
            state.life.phase = Phase::Broken(BrokenPool::new(cause));
            self.is_open.store(false, Release);
            self.finishing.close();
        }
        let Phase::Broken(cause) = &state.life.phase else { return };
        let cause = cause.clone();
        state.room_left.is_closed = true;
        self.withdraw_all(state, &|| Error::BrokenPool(cause.clone()));
    }

    /// Ends the pool by force: what waits is cancelled, and all workers are killed.
    pub(crate) fn kill_workers(self: &Arc<Self>) {
        self.state.lock().finalizer = None;
        // First, so that no task of a worker that is killed is tried again.
        self.close(Shutdown::CancelQueued);
        let mut state = self.state.lock();
        let numbers: Vec<u32> = state.workers.keys().copied().collect();
        for number in numbers {
            let reason = LossCause::Other("since the pool's workers were killed".to_owned());
            state.end_worker(number, EndBy::Kill, Some(reason));
        }
        self.release(state);
    }

    /// As [`kill_workers`](Self::kill_workers), with SIGTERM first.
    pub(crate) fn terminate_workers(self: &Arc<Self>, grace: Duration) {
        self.state.lock().finalizer = None;
        self.close(Shutdown::CancelQueued);
        let mut state = self.state.lock();
        let numbers: Vec<u32> = state.workers.keys().copied().collect();
        for number in numbers {
            let reason = LossCause::Other("since the pool's workers were terminated".to_owned());
            state.end_worker(number, EndBy::Termination, Some(reason));
        }
        if !state.has_ended {
            // The action keeps the pool alive, until the end takes the timer.
            let pool = Arc::clone(self);
            state.grace_timer = Some(self.timer(grace, move || pool.kill_workers()));
        }
        self.release(state);
    }
}

/// The end of a pool, as a shutdown waits for it.
pub(crate) struct Ending<T: Transport>(pub(crate) Arc<Pool<T>>);

impl<T: Transport> Closing for Ending<T> {
    fn poll_ended(&self, place: &mut shutdown::Place, waker: &Waker) -> Poll<()> {
        lifecycle::poll_ended(
            &self.0.state,
            |state| (!state.is_over).then_some(&mut state.life),
            place,
            waker,
        )
    }

    fn give_up(&self, place: shutdown::Place) {
        drop(self.0.life(|life| life.give_up_wait(place)));
    }

    fn report(&self) -> ShutdownReport {
        let state = self.0.state.lock();
        let running: Vec<_> = state
            .tasks
            .iter()
            .filter_map(|(number, task)| {
                let Place::Sent { worker, slot } = task.place else { return None };
                let elapsed = state.worker(worker)?.link.progress(slot).elapsed()?;
                Some(RunningTask {
                    id: TaskId::from_number(*number)?,
                    label: task.options.label.clone(),
                    elapsed,
                })
            })
            .collect();
        let queued = state.tasks.len() - running.len();
        state.life.report(self.0.counts(&state), queued, running)
    }

    fn escalate(&self) {
        self.0.close(Shutdown::CancelQueued);
        let state = self.0.state.lock();
        // What had not started was withdrawn just now.
        state.tasks.keys().for_each(|number| state.ask_to_stop(*number));
    }

    fn is_inside(&self) -> bool {
        // The pool does not end before its callbacks, and what else it calls, have come back.
        self.0.is_delivering_here()
            || self.0.helpers.get().is_some_and(ThreadPoolExecutor::is_running_here)
    }

    fn join(&self) {
        if let Some(helpers) = self.0.helpers.get() {
            let _ = helpers.shutdown_blocking(Shutdown::Drain);
        }
        self.0.hub.join_ended();
    }
}
