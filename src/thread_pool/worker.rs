//! A worker: one thread that takes tasks from the queue and runs them.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::pool::Pool;
use crate::core::Info;
use crate::core::context::{self, End, WorkerContext};
use crate::core::task::TaskId;
use crate::metrics::WorkerMetrics;
use crate::panic::catch;
use crate::shutdown::RunningTask;
use crate::sync::Mutex;

/// What others may know of a worker.
pub(super) struct Seat {
    pub(super) index: usize,
    pub(super) metrics: WorkerMetrics,
    /// It has a task. Cleared just before the task's result is published, so that the next
    /// submission finds the worker free.
    busy: AtomicBool,
    /// The tasks on its stack. The lock is the worker's own but for snapshots.
    running: Mutex<Vec<Running>>,
}

struct Running {
    id: TaskId,
    label: Option<Arc<str>>,
    since: Instant,
}

impl Seat {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            metrics: WorkerMetrics::new(),
            busy: AtomicBool::new(false),
            running: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Acquire)
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Release);
    }

    pub(super) fn running(&self) -> Vec<RunningTask> {
        let running = self.running.lock();
        let task = |running: &Running| RunningTask {
            id: running.id,
            label: running.label.clone(),
            elapsed: running.since.elapsed(),
        };
        running.iter().map(task).collect()
    }
}

/// The worker's own side of its seat.
struct Worker {
    pool: Arc<Pool>,
    seat: Arc<Seat>,
    /// Where the stack was when the thread began, and how far from there tasks may start in
    /// place. Beyond that a wait uses a spare thread, whose stack is fresh.
    stack_base: usize,
    stack_budget: usize,
    /// A child that was forked inside of a job has a copy of this worker, but the pool is not its
    /// own: nothing there may run the parent's tasks, and the lock may be held for ever.
    process: u32,
    /// Tasks on the stack.
    depth: Cell<usize>,
}

impl Worker {
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }
}

impl WorkerContext for Worker {
    fn host(&self) -> *const () {
        self.pool.address()
    }

    fn has_stack(&self) -> bool {
        self.stack_base.abs_diff(stack_position()) < self.stack_budget
    }

    fn started(&self, info: &Info, queue_time: Option<Duration>) {
        self.depth.set(self.depth.get() + 1);
        if let Some(queue_time) = queue_time {
            self.seat.metrics.started(queue_time);
        }
        let running =
            Running { id: info.id(), label: info.label().cloned(), since: Instant::now() };
        self.seat.running.lock().push(running);
    }

    fn stopped(&self, run_time: Duration, end: End) {
        self.depth.set(self.depth.get() - 1);
        self.seat.metrics.ran(run_time);
        match end {
            End::Completed => self.seat.metrics.completed(),
            End::Failed => self.seat.metrics.failed(),
            End::Uncounted => {}
        }
        let running = self.seat.running.lock().pop();
        drop(running);
        if self.depth.get() == 0 {
            self.seat.set_busy(false);
        }
    }

    fn wait_begin(&self) {
        if !self.is_forked() {
            self.pool.block();
        }
    }

    fn wait_end(&self) {
        if !self.is_forked() {
            self.pool.unblock();
        }
    }
}

/// An address in the current stack frame.
#[inline(never)]
fn stack_position() -> usize {
    let here = 0u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

pub(super) fn spawn(pool: &Arc<Pool>, seat: &Arc<Seat>) -> io::Result<JoinHandle<()>> {
    let name = format!("{}_{}", pool.config.thread_name_prefix, seat.index);
    let (pool, seat) = (Arc::clone(pool), Arc::clone(seat));
    std::thread::Builder::new().name(name).stack_size(pool.config.stack_size).spawn(move || {
        context::belong_to(pool.address());
        run(&pool, &seat);
        pool.leave(&seat);
    })
}

fn run(pool: &Arc<Pool>, seat: &Arc<Seat>) {
    let _runtime = pool.config.runtime.as_ref().map(tokio::runtime::Handle::enter);
    if let Some(initializer) = &pool.config.initializer {
        let initialized = catch(|| initializer());
        let failure = match initialized {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(panicked) => Some(panicked.into()),
        };
        if let Some(cause) = failure {
            return pool.break_with(cause);
        }
    }
    let worker = Rc::new(Worker {
        pool: Arc::clone(pool),
        seat: Arc::clone(seat),
        stack_base: stack_position(),
        stack_budget: pool.config.stack_size / 2,
        process: std::process::id(),
        depth: Cell::new(0),
    });
    context::enter_worker(worker.clone());
    while let Some(task) = pool.next_task(seat) {
        match task.claim() {
            Some(claimed) => task.run(&*worker, claimed),
            None => pool.dead_popped(),
        }
    }
    context::leave_worker();
}
