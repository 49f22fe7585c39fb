//! The pool at one moment, for people. In the pool's process.

use super::Pool;
use super::state::State;
use super::worker::{Life, Wait, Worker};
use crate::clock;
use crate::core::TaskId;
use crate::dump::{self, Awaited, Dump, Noted};
use crate::executor_state::ExecutorState;
use crate::remote::scheduler::transport::{Transport, WorkerLink};

/// Maximum number of calls that a task waits for and a dump names.
const MOST_NAMED: usize = 8;

impl<T: Transport> Pool<T> {
    pub(crate) fn executor_state(&self) -> ExecutorState {
        let state = self.state.lock();
        state.life.state(state.has_ended)
    }

    pub(crate) fn dump(&self) -> Dump {
        let now = clock::now();
        // Texts are made once the lock is released.
        let (phase, workers, count, queued) = {
            let state = self.state.lock();
            let phase = state.life.state(state.has_ended);
            let workers: Vec<_> =
                state.workers.iter().map(|(number, worker)| state.seen(*number, worker)).collect();
            let running: usize = workers.iter().map(|seen: &Seen| seen.tasks.len()).sum();
            let queued: Vec<_> = state.queued_tasks(now).take(dump::LOOKED_AT).collect();
            (phase, workers, state.tasks.len().saturating_sub(running), queued)
        };
        let workers = workers.into_iter().map(|seen| dump::Worker {
            name: format!("{}_{}", self.config.name, seen.index),
            pid: seen.pid,
            cpu_time: None,
            peak_memory: None,
            tasks: seen.tasks,
            is_leaving: seen.is_leaving,
            is_stopped: seen.is_stopped,
            is_frozen: false,
        });
        Dump {
            pool: self.config.name.clone(),
            state: phase,
            max_workers: self.config.max_workers,
            workers: workers.collect(),
            queue: dump::Queue::new(count, self.config.queue_capacity, queued),
            suspended: Vec::new(),
        }
    }
}

/// A worker, as it is noted under the pool's lock.
struct Seen {
    index: u32,
    pid: Option<u32>,
    tasks: Vec<dump::Running>,
    is_leaving: bool,
    is_stopped: bool,
}

impl<T: Transport> State<T> {
    fn seen(&self, number: u32, worker: &Worker<T>) -> Seen {
        // With a wait for one child its other calls are named too: a dump does not tell them apart.
        let children = worker.calls.iter().filter(|_| worker.is_blocked());
        let mut named: Vec<_> = children
            .filter_map(|(_, call)| TaskId::from_number(*call).map(Awaited::Task))
            .collect();
        if let Wait::ForOthers(awaited) = worker.wait {
            named = vec![awaited];
        }
        let started = worker.sent.iter().filter_map(|sent| {
            let progress = worker.link.progress(sent.slot);
            let task = self.tasks.get(&sent.number)?;
            if !self.is_with(number, *sent) || !progress.has_started() {
                return None;
            }
            Some(dump::Running {
                id: TaskId::from_number(sent.number)?,
                label: task.options.label.clone(),
                elapsed: progress.elapsed().unwrap_or_default(),
                attempt: u32::try_from(task.lost.len() + 1).unwrap_or(u32::MAX),
                stop_requested: worker.link.is_asked_to_stop(sent.slot),
                waits_for: named.iter().take(MOST_NAMED).copied().collect(),
                waits_for_more: named.len().saturating_sub(MOST_NAMED),
            })
        });
        Seen {
            index: worker.index,
            pid: worker.link.pid(),
            tasks: started.collect(),
            is_leaving: worker.life != Life::Working,
            is_stopped: worker.is_stopped,
        }
    }

    /// Tasks that were sent ahead and have not started, then those in the queue.
    fn queued_tasks(&self, now: u64) -> impl Iterator<Item = Noted> {
        let ahead = self.workers.iter().flat_map(|(number, worker)| {
            worker.sent.iter().filter(|sent| self.is_with(*number, **sent)).map(|sent| sent.number)
        });
        let ahead = ahead.filter(|task| self.tasks.get(task).is_some_and(|t| !self.has_started(t)));
        // Stale entries count as looked at, which bounds the time under the lock.
        let queue = self.queue.iter().take(dump::LOOKED_AT).copied();
        let queue =
            queue.filter(move |task| self.tasks.get(task).is_some_and(|task| task.is_queued()));
        ahead.chain(queue).filter_map(move |number| {
            let task = self.tasks.get(&number)?;
            Some(Noted {
                id: TaskId::from_number(number)?,
                label: task.options.label.clone(),
                ticks: now.saturating_sub(task.submitted),
            })
        })
    }
}
