//! The limit on the memory that a worker uses: the pool looks at it while there are tasks. In the pool's
//! process.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{ProcessPool, Processes};
use crate::error::{BrokenPool, Error};
use crate::local::memory_limit::{self, PAUSE, UNKNOWN};
use crate::local::start::zygote::Zygote;
use crate::remote::scheduler::state::State;
use crate::remote::scheduler::transport::{EndBy, WorkerLink};
use crate::remote::scheduler::worker::{Life, Worker};
use crate::sys::{self, ExitStatus, explain};
use crate::timer::Timer;

/// Returns the helper once it can fork, if a worker uses less than `limit` bytes at its start.
pub(super) fn check_limit(zygote: Zygote, limit: u64) -> Result<Zygote, Error> {
    match zygote.wait_until_ready() {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            let how = ExitStatus::describe(zygote.end());
            let text = format!("the process that starts workers {how} before it could begin");
            return Err(BrokenPool::new(text).into());
        }
        ready => ready.map_err(BrokenPool::new)?,
    }
    // Whatever it uses, its workers use from their start.
    let memory = sys::private_memory(zygote.pid()).map_err(explain(UNKNOWN));
    let used = memory.map_err(BrokenPool::new)?.map_or(0, |memory| memory.used);
    if used < limit {
        return Ok(zygote);
    }
    let rule = format!("must be more than the {used} bytes that a worker uses at its start");
    Err(Error::InvalidSetting { setting: "memory_limit", rule })
}

/// The limit, and the next look.
pub(super) struct MemoryLimit {
    limit: Option<u64>,
    timer: Option<Timer>,
}

impl MemoryLimit {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, timer: None }
    }
}

impl ProcessPool {
    /// Has the memory of workers looked at from now on, if that is limited, as long as one has a task.
    pub(super) fn watch_memory(self: &Arc<Self>, state: &mut State<Processes>) {
        let memory = &mut state.transport.memory;
        if let (Some(limit), None) = (memory.limit, &memory.timer) {
            let pool = Arc::clone(self);
            memory.timer = Some(self.timer(PAUSE[0], move || pool.look_at_memory(limit)));
        }
    }

    /// Kills workers that use more memory than they may.
    fn look_at_memory(self: &Arc<Self>, limit: u64) {
        let has_task =
            |worker: &Worker<Processes>| worker.life != Life::Gone && !worker.sent.is_empty();
        let busy: Vec<(u32, u32)> = {
            let state = self.state();
            let busy = state.workers.iter().filter(|(_, worker)| has_task(worker));
            busy.filter_map(|(number, worker)| Some((*number, worker.link.pid()?))).collect()
        };
        // Not under the lock, since files are read.
        let mut pause = PAUSE[1];
        let mut over = Vec::new();
        for (number, pid) in busy {
            match memory_limit::look(pid, limit) {
                Ok(next) => pause = pause.min(next),
                Err(reason) => over.push((number, reason)),
            }
        }
        let mut state = self.state();
        for (number, reason) in over {
            state.end_worker(number, EndBy::Kill, Some(reason));
        }
        // Under the lock under which tasks are sent: one that is sent from here on finds either
        // this timer, or none and sets one.
        let next = state.workers.values().any(has_task).then(|| {
            let pool = Arc::clone(self);
            self.timer(pause, move || pool.look_at_memory(limit))
        });
        let old = std::mem::replace(&mut state.transport.memory.timer, next);
        self.release(state);
        drop(old);
    }
}
