//! Counts, and the pool at one moment.

use super::{Pool, Seat, State};
use crate::clock;
use crate::core::TaskRef;
use crate::dump::{self, Dump, Noted};
use crate::executor_state::ExecutorState;
use crate::instruments::Measured;
use crate::lifecycle::Counts;
use crate::metrics::{Metrics, Totals};
use crate::sync::atomic::Ordering::Relaxed;

impl Pool {
    pub(super) fn totals(&self, state: &State) -> Totals {
        let mut totals = state.totals.clone();
        for seat in state.seats() {
            totals.add(&seat.metrics);
        }
        totals.failed += self.timed_out.load(Relaxed);
        totals
    }

    pub(super) fn counts(&self, state: &State) -> Counts {
        let Totals { completed, failed, .. } = self.totals(state);
        Counts { completed, failed, cancelled: self.cancelled.load(Relaxed) }
    }

    /// Counts items of a map for which there is a value.
    pub(crate) fn count_items(&self, count: usize) {
        self.items.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn metrics(&self) -> Metrics {
        // Only what must fit together is read under the lock; submitters and workers need it.
        let (mut totals, submitted, seats, workers, idle, queued) = {
            let state = self.state.lock();
            let seats: Vec<_> = state.seats().cloned().collect();
            let idle = seats.iter().filter(|seat| !seat.is_busy()).count();
            // A copy: a worker that retires after this is in `seats`, and not in these totals as
            // well.
            let totals = state.totals.clone();
            (totals, state.pushed - state.uncounted, seats, state.live, idle, state.waiting())
        };
        for seat in &seats {
            totals.add(&seat.metrics);
        }
        totals.failed += self.timed_out.load(Relaxed);
        let (completed, failed) = (totals.completed, totals.failed);
        let (queue_time, run_time) = totals.times();
        Metrics {
            workers,
            idle,
            queued,
            running: seats.iter().map(|seat| seat.running().len()).sum(),
            submitted,
            completed,
            failed,
            cancelled: self.cancelled.load(Relaxed),
            items: self.items.load(Relaxed),
            workers_lost: 0,
            queue_time,
            run_time,
        }
    }

    /// The name of a worker's thread.
    pub(crate) fn worker_name(&self, seat: &Seat) -> String {
        format!("{}_{}", self.config.name, seat.index)
    }

    pub(crate) fn state(&self) -> ExecutorState {
        let state = self.state.lock();
        state.life.state(state.has_ended())
    }

    pub(crate) fn dump(&self) -> Dump {
        let now = clock::now();
        let note = |task: &TaskRef| Noted {
            id: task.id(),
            label: task.runnable().label().cloned(),
            ticks: task.header().state.waited(now),
        };
        let note_suspended = |task: &TaskRef| {
            let now = task.header().state.look();
            // A task that runs is with its worker, and one that is queued again in the queue.
            (now.is_at_rest() && !now.is_queued()).then(|| note(task))
        };
        // Only what must fit together is read under the lock; submitters and workers need it.
        let (state, seats, asked_to_stop, count, queued, suspended) = {
            let mut state = self.state.lock();
            // The first entries of the queue are then the tasks that come next, wherever they were.
            state.gather_local_queues(now);
            let phase = state.life.state(state.has_ended());
            let seats: Vec<_> = state.seats().cloned().collect();
            let queued = state.queue.first(dump::LOOKED_AT);
            let queued: Vec<_> = queued.map(note).collect();
            let suspended = state.async_tasks.look(dump::LOOKED_AT, note_suspended);
            (phase, seats, state.asked_to_stop.clone(), state.waiting(), queued, suspended)
        };
        let stopping = self.stopping.is_raised();
        let stop_requested = |id| stopping || asked_to_stop.contains(&id);
        let workers = seats.iter().map(|seat| dump::Worker {
            name: self.worker_name(seat),
            pid: None,
            cpu_time: None,
            peak_memory: None,
            tasks: seat.dump(stop_requested),
            is_leaving: false,
            is_stopped: false,
            is_frozen: false,
        });
        Dump {
            pool: self.config.name.clone(),
            state,
            max_workers: self.config.max_workers,
            workers: workers.collect(),
            suspended: Noted::into_waiting(suspended),
            queue: dump::Queue::new(count, self.config.queue_capacity, queued),
        }
    }

    pub(crate) fn max_workers(&self) -> usize {
        self.config.max_workers
    }
}

impl Measured for Pool {
    fn export(&self) {
        self.config.instruments.export(|| self.metrics());
    }
}
