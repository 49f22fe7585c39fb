//! A worker: one thread that takes tasks from the queue and runs them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use super::pool::{Pool, PoolHost};
use super::runtime::Runtime;
use crate::clock;
use crate::core::TaskId;
use crate::core::TaskRef;
use crate::core::context::{self, End, WorkerContext};
use crate::core::local_queue::{LocalQueue, OwnLocalQueue};
use crate::core::runnable::Claimed;
use crate::core::waits::{Awaited, Waits};
use crate::dump;
use crate::fork;
use crate::label::Label;
use crate::metrics::WorkerMetrics;
use crate::panic::{self, KeptWaker, catch};
use crate::shutdown::RunningTask;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use crate::sync::thread::{Builder, JoinHandle};
use crate::worker_info::WorkerInfo;

/// A task of less ticks is quick: some microseconds.
const QUICK: u64 = 8_000;

/// Ticks, tens of milliseconds, after which a worker that has not come back is held up by a waker.
/// Far longer than a thread waits for its CPU, so that what follows a result finds the same worker.
const HELD_UP: u64 = 1 << 26;

/// Values of [`Seat::free_since`].
const BUSY: u64 = u64::MAX;
const LOOKS: u64 = 0;

/// The part of a worker that others see.
pub(super) struct Seat {
    pub(super) index: usize,
    pub(super) metrics: WorkerMetrics,
    /// Tasks that are its turn next.
    pub(super) local_queue: LocalQueue,
    /// The local queue as it was when another worker last looked at it.
    seen: AtomicU64,
    /// [`BUSY`] with a task; [`LOOKS`] while it looks for one or waits for one; in between, when its
    /// task ended: set just before the task's result is published, so that the next submission finds
    /// the worker free.
    free_since: AtomicU64,
    /// The task at the bottom of its stack, if that has no label: its number, or 0, and since
    /// when. Written by the worker alone.
    id: AtomicU64,
    since: AtomicU64,
    /// Other tasks on its stack.
    others: Mutex<Vec<Running>>,
    /// The tasks that these tasks wait for.
    pub(super) waits: Waits,
    /// The waker of the last future that was found pending here, while the worker's place is lent out.
    waker: Mutex<Option<KeptWaker>>,
}

struct Running {
    id: TaskId,
    label: Option<Label>,
    since: u64,
}

impl Running {
    fn report(&self, now: u64) -> RunningTask {
        let elapsed = clock::duration(now.saturating_sub(self.since));
        RunningTask { id: self.id, label: self.label.clone(), elapsed }
    }
}

impl Seat {
    pub(super) fn new(index: usize, local_queue: LocalQueue) -> Self {
        Self {
            index,
            metrics: WorkerMetrics::new(),
            local_queue,
            seen: AtomicU64::new(0),
            free_since: AtomicU64::new(LOOKS),
            id: AtomicU64::new(0),
            since: AtomicU64::new(0),
            others: Mutex::new(Vec::new()),
            waits: Waits::new(),
            waker: Mutex::new(None),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.free_since.load(Acquire) == BUSY
    }

    pub(super) fn set_busy(&self) {
        self.free_since.store(BUSY, Release);
    }

    /// Marks the worker as looking for a task. Called by the worker, under the pool's lock.
    pub(super) fn looks(&self) {
        self.free_since.store(LOOKS, Release);
    }

    fn ended(&self, now: u64) {
        self.free_since.store(now, Release);
    }

    /// Returns whether it will come to the queue within a moment.
    pub(super) fn is_about_to_look(&self, now: u64) -> bool {
        match self.free_since.load(Acquire) {
            BUSY => false,
            LOOKS => true,
            ended => now.saturating_sub(ended) < HELD_UP,
        }
    }

    fn keep_waker(&self, waker: &Waker) {
        // Mostly it is the same one, which needs no clone.
        if self.waker.lock().as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            return;
        }
        let new = KeptWaker::new(waker);
        let old = self.waker.lock().replace(new);
        drop(old);
    }

    pub(super) fn take_waker(&self) -> Option<KeptWaker> {
        self.waker.lock().take()
    }

    /// Returns whether the local queue is as it was at the last call, and not empty. Called under
    /// the pool's lock.
    pub(super) fn is_stuck(&self) -> bool {
        let version = self.local_queue.version();
        self.seen.swap(version, Relaxed) == version && !self.local_queue.is_empty()
    }

    /// The tasks on its stack, outermost first.
    pub(super) fn running(&self) -> Vec<RunningTask> {
        let now = clock::now();
        let bottom = self.bottom().map(|running| running.report(now));
        let others = self.others.lock();
        bottom.into_iter().chain(others.iter().map(|running| running.report(now))).collect()
    }

    pub(super) fn runs(&self, id: TaskId) -> bool {
        self.id.load(Acquire) == id.get() || self.others.lock().iter().any(|other| other.id == id)
    }

    /// The tasks on its stack, and what they wait for.
    pub(super) fn dump(&self, stop_requested: impl Fn(TaskId) -> bool) -> Vec<dump::Running> {
        let dump = |RunningTask { id, label, elapsed }| {
            let (waits_for, waits_for_more) = self.waits.of(id);
            let stop_requested = stop_requested(id);
            dump::Running {
                id,
                label,
                elapsed,
                attempt: 1,
                stop_requested,
                waits_for,
                waits_for_more,
            }
        };
        self.running().into_iter().map(dump).collect()
    }

    fn bottom(&self) -> Option<Running> {
        loop {
            let id = TaskId::from_number(self.id.load(Acquire))?;
            // A `since` of a later task or poll was stored after `id` was cleared, so the second
            // look at `id` finds 0 or the number that this `since` belongs to.
            let since = self.since.load(Acquire);
            // Unless another task has come meanwhile; numbers are not used again.
            if self.id.load(Relaxed) == id.get() {
                return Some(Running { id, label: None, since });
            }
        }
    }
}

/// The worker's own side of its seat.
struct Worker {
    pool: Arc<Pool>,
    seat: Arc<Seat>,
    /// Where the stack was when the thread began, and how far from there tasks may start in
    /// place: such that `stack_size` is left for each. Beyond that a wait uses a spare thread.
    stack_base: usize,
    stack_budget: usize,
    /// A child that was forked inside of a job has a copy of this worker, but the pool is not its
    /// own: nothing there may run the parent's tasks, and the lock may be held for ever.
    generation: u32,
    /// Tasks on the stack; one more for the rest of a run that [`keep_busy`](WorkerContext::keep_busy)
    /// has found at its end.
    depth: Cell<usize>,
    /// Recent duration of a task, in ticks: a mean in which each task counts for an
    /// eighth.
    pace: Cell<u64>,
    /// When the last task ended, if the next one follows at once: then it begins at that moment.
    last_end: Cell<Option<u64>>,
}

impl Worker {
    /// Makes the worker that this thread is from here on.
    fn new(pool: &Arc<Pool>, seat: &Arc<Seat>) -> Rc<Self> {
        Rc::new(Self {
            pool: Arc::clone(pool),
            seat: Arc::clone(seat),
            stack_base: stack_position(),
            stack_budget: reserved_stack(pool) - pool.config.stack_size,
            generation: fork::generation(),
            depth: Cell::new(0),
            pace: Cell::new(0),
            last_end: Cell::new(None),
        })
    }

    /// Returns the most tasks that the worker takes into its local queue at once. Those of some
    /// microseconds are taken one by one: to take the lock costs little against them.
    fn local_queue_room(&self) -> usize {
        // A new worker has a pace of 0: it takes several until one has turned out to be slow.
        if self.pace.get() < QUICK { usize::MAX } else { 0 }
    }

    /// Returns the next task; waits for one. `None`: the worker is to end.
    #[inline]
    fn next(&self, own: &mut OwnLocalQueue) -> Option<TaskRef> {
        self.depth.set(0); // `keep_busy` may have left 1.
        self.pool.take_local(&self.seat, own).or_else(|| {
            self.last_end.set(None); // The next one may have to be waited for.
            self.pool.next_task(&self.seat, own, self.local_queue_room())
        })
    }

    /// Runs tasks whose jobs see `runtime`, the current one of this thread: `first`, and those that come. Returns the
    /// first of another runtime. `None`: the worker is to end.
    fn run_in(
        &self,
        runtime: &Runtime,
        first: Option<Claimed>,
        own: &mut OwnLocalQueue,
    ) -> Option<Claimed> {
        if let Some(first) = first {
            first.run(self);
        }
        let runtime = runtime.id();
        let is_other = |host: &Arc<PoolHost>| host.runtime.id() != runtime;
        while let Some(task) = self.next(own) {
            match task.claim() {
                // The task was withdrawn, or run in place, and this entry was left behind.
                None => self.pool.dead_popped(),
                Some(task) if task.host().is_some_and(is_other) => return Some(task),
                Some(task) => task.run(self),
            }
        }
        None
    }

    fn is_forked(&self) -> bool {
        self.generation != fork::generation()
    }
}

impl WorkerContext for Worker {
    fn host(&self) -> *const () {
        self.pool.address()
    }

    fn has_stack(&self) -> bool {
        !self.is_forked() && self.stack_base.abs_diff(stack_position()) < self.stack_budget
    }

    fn started(&self, task: &TaskRef, first: bool, label: Option<&Label>) -> u64 {
        // One reading of the clock is both the end of a task and the start of the next.
        let now = self.last_end.take().unwrap_or_else(clock::now);
        let header = task.header();
        if first {
            self.seat.metrics.started(header.state.waited(now));
        }
        let depth = self.depth.replace(self.depth.get() + 1);
        if depth == 0 && label.is_none() {
            // The number last: a reader that sees it sees the time as well.
            self.seat.since.store(now, Release);
            self.seat.id.store(header.id().get(), Release);
        } else {
            let running = Running { id: header.id(), label: label.cloned(), since: now };
            self.seat.others.lock().push(running);
        }
        now
    }

    fn stopped(&self, since: u64, end: End) -> u64 {
        let now = clock::now();
        self.depth.set(self.depth.get() - 1);
        let run_time = now.saturating_sub(since);
        // All of it before the result is published: a reader of the result finds it counted.
        self.seat.metrics.ran(run_time);
        self.pace.set(self.pace.get() - self.pace.get() / 8 + run_time / 8);
        match end {
            End::Completed => self.seat.metrics.completed(),
            End::Failed => self.seat.metrics.failed(),
            End::Uncounted => {}
        }
        // At depth 0 `id` is set exactly if the task has no label; all others are in `others`.
        if self.depth.get() == 0 && self.seat.id.load(Relaxed) != 0 {
            self.seat.id.store(0, Release);
        } else {
            let running = self.seat.others.lock().pop();
            drop(running);
        }
        if self.depth.get() == 0 {
            self.last_end.set(Some(now));
            // Last: from here on submissions count on this worker to look at the queue. Of the
            // user's code only wakers are still to run, or the pool is told by `keep_busy`.
            self.seat.ended(now);
        }
        run_time
    }

    fn wait_begin(&self, _awaited: Option<Awaited>, _until: bool) {
        if !self.is_forked() {
            self.pool.block(&self.seat);
        }
    }

    fn wait_end(&self) {
        if !self.is_forked() {
            drop(self.seat.take_waker());
            self.pool.unblock();
        }
    }

    fn keep_waker(&self, waker: &Waker) {
        if !self.is_forked() {
            self.seat.keep_waker(waker);
        }
    }

    fn seek_spare(&self) -> Option<Duration> {
        if self.is_forked() { None } else { self.pool.seek_spare() }
    }

    fn keep_busy(&self) {
        // With a task on the stack it is busy.
        if self.depth.get() == 0 && !self.is_forked() {
            // As a task, so that the end of one that runs in place does not mark the worker as free.
            self.depth.set(1);
            self.last_end.set(None);
            self.pool.keep_busy(&self.seat);
        }
    }

    fn waits(&self) -> Option<&Waits> {
        (!self.is_forked()).then_some(&self.seat.waits)
    }
}

/// An address in the current stack frame.
#[inline(never)]
fn stack_position() -> usize {
    let here = 0u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// The stack of a thread: twice what a task may rely on, so that tasks that run in place have that
/// until the first half is used. Only address space is taken for it; memory comes with use.
fn reserved_stack(pool: &Pool) -> usize {
    let stack_size = pool.config.stack_size;
    stack_size.checked_mul(2).unwrap_or(stack_size) // which the system refuses
}

thread_local! {
    /// The pool of this worker, unless it is one of the crate's own.
    static POOL: RefCell<Weak<Pool>> = const { RefCell::new(Weak::new()) };
}

/// The pool that this thread is a worker of.
pub(super) fn current_pool() -> Option<Arc<Pool>> {
    POOL.try_with(|pool| pool.borrow().upgrade()).ok().flatten()
}

pub(super) fn spawn(
    pool: &Arc<Pool>,
    seat: &Arc<Seat>,
    mut own: OwnLocalQueue,
) -> io::Result<JoinHandle<()>> {
    let name = pool.worker_name(seat);
    let (pool, seat) = (Arc::clone(pool), Arc::clone(seat));
    Builder::new().name(name).stack_size(reserved_stack(&pool)).spawn(move || {
        if !pool.config.print_panics {
            panic::report_by(|_| context::is_in_body());
        }
        // Before the initializer, in which a wait for the pool's end is refused as in a job.
        context::belong_to(pool.address());
        if !pool.config.is_internal {
            POOL.set(Arc::downgrade(&pool));
        }
        let info = WorkerInfo::new(seat.index, &pool.config.name);
        info.enter(|| run(&pool, &seat, &mut own));
        // The pool may end with this. Destructors of thread-locals are still to run; `join` waits
        // for them.
        pool.leave(&seat);
    })
}

fn run(pool: &Arc<Pool>, seat: &Arc<Seat>, own: &mut OwnLocalQueue) {
    // For the initializer too.
    let _entered = pool.config.runtime.enter();
    if let Some(initializer) = &pool.config.initializer {
        // The thread has no worker context yet, so a wait in the initializer lends no place out.
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
    let worker = Worker::new(pool, seat);
    context::run_as_worker(worker.clone(), || {
        let mut next = worker.run_in(&pool.config.runtime, None, own);
        while let Some(task) = next {
            let host = task.host::<PoolHost>().cloned();
            let runtime = host.as_ref().map_or(&pool.config.runtime, |host| &host.runtime);
            let _entered = runtime.enter();
            next = worker.run_in(runtime, Some(task), own);
        }
    });
    if let Some(finalizer) = &pool.config.finalizer {
        // In a forked child this is the copy of a worker that goes on in the parent.
        if !worker.is_forked() {
            // As the initializer, without a worker context: the worker has no place to lend out.
            let _reported_by_the_hook = catch(|| finalizer());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::core::promise::Promise;
    use crate::shutdown::Shutdown;
    use crate::thread_pool::ThreadPoolExecutor;

    /// Runs `test` on a worker of a pool that has no task for it.
    fn on_worker(test: impl FnOnce(&Worker, &mut OwnLocalQueue)) {
        let pool = ThreadPoolExecutor::new();
        drop(pool.shutdown(Shutdown::Drain));
        let mut own = OwnLocalQueue::new();
        let worker = Worker::new(pool.pool(), &Arc::new(Seat::new(0, own.clone())));
        context::run_as_worker(worker.clone(), || test(&worker, &mut own));
    }

    fn starts(worker: &Worker, task: &TaskRef) -> u64 {
        worker.seat.set_busy(); // As `next` does.
        worker.started(task, true, None)
    }

    #[test]
    fn a_callback_of_the_last_moment_runs_while_its_worker_counts_as_busy() {
        for has_others in [false, true] {
            on_worker(|worker, _| {
                let (promise, outcome) = Promise::<()>::of(());
                if has_others {
                    outcome.add_callback(|_| ());
                }
                let (tell, told) = mpsc::channel();
                let since = starts(worker, promise.task());
                promise.keep(Ok(()), || {
                    worker.stopped(since, End::Completed);
                    assert!(!worker.seat.is_busy());
                    let seat = Arc::clone(&worker.seat);
                    outcome.add_callback(move |_| tell.send(seat.is_busy()).unwrap());
                });
                assert_eq!(told.try_recv(), Ok(true));
            });
        }
    }

    #[test]
    fn a_task_that_runs_in_a_destructor_of_the_last_moment_leaves_its_worker_busy() {
        struct RunsInPlace(Arc<Seat>, mpsc::Sender<bool>);

        impl Drop for RunsInPlace {
            fn drop(&mut self) {
                let worker = context::worker().unwrap();
                let (inner, _outcome) = Promise::<()>::of(());
                let since = worker.started(inner.task(), true, None);
                assert_eq!(self.0.running().len(), 1);
                worker.stopped(since, End::Completed);
                assert_eq!(self.0.running().len(), 0);
                self.1.send(self.0.is_busy()).unwrap();
            }
        }

        on_worker(|worker, own| {
            let (promise, mut outcome) = Promise::of(());
            let (tell, told) = mpsc::channel();
            let since = starts(worker, promise.task());
            promise.keep(Ok(RunsInPlace(Arc::clone(&worker.seat), tell)), || {
                worker.stopped(since, End::Completed);
                outcome.abandon();
            });
            assert_eq!(told.try_recv(), Ok(true));
            assert!(worker.next(own).is_none());
            assert!(!worker.seat.is_busy(), "it has looked");
        });
    }

    #[test]
    fn a_task_that_had_to_be_waited_for_does_not_begin_with_the_end_of_the_one_before() {
        on_worker(|worker, own| {
            let (promise, _outcome) = Promise::<()>::of(());
            let since = starts(worker, promise.task());
            own.fill(std::iter::once(promise.task().clone()));
            worker.stopped(since, End::Completed);
            assert!(worker.last_end.get().is_some());
            drop(own.take()); // Another worker is faster.
            assert!(worker.next(own).is_none());
            assert_eq!(worker.last_end.get(), None);
        });
    }
}
