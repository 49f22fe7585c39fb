//! Workers: how they are started, what they do next, and how they leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Called, Pool, RETRY, Refused, Rouse, STUCK, Seat, State, worker};
use crate::core::TaskRef;
use crate::core::local_queue::OwnLocalQueue;
use crate::error::BrokenPool;
use crate::panic::wake_all;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::thread::Thread;
use crate::timer::{Timer, deadline};

impl Pool {
    /// Starts the workers that there are to be without tasks.
    pub(crate) fn start_first_workers(self: &Arc<Self>) {
        for _ in 0..self.config.min_workers {
            let mut state = self.state.lock();
            if state.refused.is_some() {
                return; // As if it had not been tried: tasks have workers started.
            }
            let (seat, own) = state.new_seat();
            self.rouse(state, Rouse::New(seat, own));
        }
    }

    pub(super) fn start_worker(self: &Arc<Self>, seat: Arc<Seat>, own: OwnLocalQueue) {
        let spawned = worker::spawn(self, &seat, own);
        let mut state = self.state.lock();
        // In one critical section with the push of the handle: a thread that sees the end of the
        // pool in between would not join this one.
        state.starting -= 1;
        // Handles of workers that have retired are dropped, so that the list does not grow. Not at
        // the end: `join` also waits for destructors of thread-locals, which a thread that
        // `is_finished` may still run.
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
                // The worker may have left before it was in the list: then the pool ends here.
                let wakers = state.wakers_at_end();
                drop(state);
                wake_all(wakers);
            }
            Err(refused) => self.on_refusal(state, &seat, &refused),
        }
    }

    /// Handles the refusal of a thread for the worker at `seat`. The other workers do its work. If there are
    /// none, a timer asks again for [`STUCK`], and then all that waits ends with the system's reason.
    pub(super) fn on_refusal<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        seat: &Arc<Seat>,
        refused: &std::io::Error,
    ) {
        state.ended(seat);
        let now = Instant::now();
        let earlier = state.refused.take().and_then(|refused| refused.stuck_since);
        let stuck_since = state.is_stuck().then(|| earlier.unwrap_or(now));
        let mut retry = None;
        if stuck_since.is_some_and(|since| now.duration_since(since) < STUCK) {
            // Without the lock, since the timer may start its thread.
            drop(state);
            retry = self.retry_later();
            state = self.state.lock();
        }
        let cause = (state.is_stuck() && retry.is_none()).then(|| {
            BrokenPool::new(format!("the system refused to start a worker thread: {refused}"))
        });
        state.refused = Some(Refused { at: now, stuck_since, retry, cause: cause.clone() });
        if let Some(cause) = cause {
            return self.fail_all(state, cause, !self.config.is_internal);
        }
        // A closed pool may have waited for this thread alone.
        let (mut blocked, mut parked) = (Vec::new(), state.wakers_at_end());
        // No worker will look at the queue: one of those that are blocked is to ask again.
        if state.is_starved() {
            self.starved.store(true, Relaxed);
            blocked.extend(state.threads.iter().map(|thread| thread.thread().clone()));
            parked.extend(state.seats().filter_map(|seat| seat.take_waker()));
        }
        drop(state);
        // Those that are blocked see that they have to try again; another executor, only by its waker.
        blocked.iter().for_each(Thread::unpark);
        wake_all(parked);
    }

    /// Has the timer ask for a thread again. `None`: it has no thread either.
    fn retry_later(self: &Arc<Self>) -> Option<Timer> {
        let pool = Arc::downgrade(self);
        let retry = move || {
            let Some(pool) = pool.upgrade() else { return };
            let mut state = pool.state.lock();
            if state.is_stuck() {
                let (seat, own) = state.new_seat();
                pool.rouse(state, Rouse::New(seat, own));
            }
        };
        Timer::new(deadline(RETRY), Box::new(retry)).ok()
    }

    /// Tries to start another worker for a blocked one, if the pool is starved and no thread was
    /// refused a moment ago. Returns when to ask again; `None` if the pool is not starved.
    pub(crate) fn seek_spare(self: &Arc<Self>) -> Option<Duration> {
        // Without the lock, since a blocked worker asks before each park. A refusal after this look
        // unparks it.
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
        // Until the new worker takes a task, or its thread is refused as well.
        Some(RETRY)
    }

    /// Takes the next task of the worker at `seat` from its local queue.
    #[inline]
    pub(crate) fn take_local(&self, seat: &Seat, own: &OwnLocalQueue) -> Option<TaskRef> {
        // In a forked child the tasks are the parent's.
        if seat.local_queue.is_empty() || !self.state.is_home() {
            return None;
        }
        // Busy before a task is taken, so that no submission counts on this worker to look at the
        // queue.
        seat.set_busy();
        own.take()
    }

    /// Returns the next task for the worker at `seat`, whose local queue is empty; waits for one. With
    /// it the worker may take up to `more` others into its local queue. `None`: the worker is to end.
    pub(crate) fn next_task(
        self: &Arc<Self>,
        seat: &Arc<Seat>,
        own: &mut OwnLocalQueue,
        more: usize,
    ) -> Option<TaskRef> {
        let mut state = self.state.lock();
        seat.looks();
        let mut has_watched = false;
        let mut idle_until = None;
        loop {
            // From here on the worker's own local queue is empty, so it leaves no task behind if it
            // retires.
            if state.active() > self.config.max_workers {
                // One too many, since a worker that was blocked has gone on.
                // A call that this worker was counted on for must reach another one.
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
                // More may wait than workers will look for; the thread that was to help was
                // refused.
                if state.refused.is_some() {
                    let rouse = self.find_worker(&mut state);
                    self.rouse(state, rouse);
                }
                return Some(task);
            }
            if state.is_over() {
                // `leave` wakes those that wait for the end.
                state.retire(seat);
                return None;
            }
            // After the looks at the queue, so that no call that counted on this worker is lost.
            if let Some(limit) = self.config.idle_timeout {
                if state.live <= self.config.min_workers {
                    idle_until = None; // It stays until it is called.
                } else if *idle_until.get_or_insert_with(|| deadline(limit)) <= Instant::now() {
                    state.retire(seat);
                    return None;
                }
            }
            state = self.sleep.wait(self.state.get(), state, &mut has_watched, idle_until);
        }
    }

    pub(crate) fn dead_popped(&self) {
        self.state.lock().queue.dead_popped();
    }

    /// Takes a worker out of the pool, as its last step.
    pub(crate) fn leave(&self, seat: &Arc<Seat>) {
        let wakers = {
            let mut state = self.state.lock();
            state.ended(seat);
            state.wakers_at_end()
        };
        wake_all(wakers);
    }

    /// Lends the place of a worker out that is about to wait, inside of a job or of what belongs to
    /// its end. Its local queue goes to others.
    pub(crate) fn block(self: &Arc<Self>, seat: &Seat) {
        let mut state = self.state.lock();
        state.blocked += 1;
        // In one step with the count: a submission in between would find no worker for it.
        self.hold_up(state, seat);
    }

    /// Marks a worker as busy that counted as about to look for a task: it runs user code first.
    pub(crate) fn keep_busy(self: &Arc<Self>, seat: &Seat) {
        self.hold_up(self.state.lock(), seat);
    }

    /// Has submissions count on the worker at `seat` no more. What waits for it is for others.
    pub(super) fn hold_up(self: &Arc<Self>, mut state: MutexGuard<'_, State>, seat: &Seat) {
        seat.set_busy();
        state.queue.put_back(std::iter::from_fn(|| seat.local_queue.take()).collect());
        // One worker is enough: one place is lent out, or one worker less is about to look.
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
