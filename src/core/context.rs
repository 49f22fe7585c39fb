//! What a running job can find out: its task, and the worker that it runs on.
//!
//! Each worker thread keeps a stack of frames, one for each task that is on it. There is more
//! than one when a job waits for a queued task and runs it in place.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::task::{Info, Runnable};

/// What a worker thread offers to the tasks that run on it.
pub(crate) trait WorkerContext {
    /// The address of the pool, to compare.
    fn host(&self) -> *const ();

    /// Whether the stack has room for one more task in place.
    fn has_stack(&self) -> bool;

    /// A task starts here. `queue_time`: at its first start, how long it has waited.
    fn started(&self, info: &Info, queue_time: Option<Duration>);

    /// The task leaves the worker.
    fn stopped(&self, run_time: Duration, end: End);

    /// The worker is about to block; its place is lent out.
    fn wait_begin(&self);

    /// The worker goes on.
    fn wait_end(&self);
}

/// How a stay on the worker ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Failed,
    /// Not an end that the worker counts: an async body was suspended, or the task was finished
    /// from elsewhere.
    Uncounted,
}

struct Frame {
    task: Option<Arc<dyn Runnable>>,
    /// A stop request besides the task's own: that of a map.
    stop: Option<Arc<AtomicBool>>,
    /// Polled, so a future that is pending here blocks nobody.
    asynchronous: bool,
    /// The worker's place is lent out.
    waiting: bool,
}

struct Local {
    worker: Option<Rc<dyn WorkerContext>>,
    frames: Vec<Frame>,
}

thread_local! {
    static LOCAL: RefCell<Local> = const {
        RefCell::new(Local { worker: None, frames: Vec::new() })
    };
}

/// Reads this thread's context; `None` where the thread's storage is gone already.
fn with_local<R>(f: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL.try_with(|local| f(&mut local.borrow_mut())).ok()
}

fn with_frame<R>(f: impl FnOnce(&mut Frame) -> Option<R>) -> Option<R> {
    with_local(|local| local.frames.last_mut().and_then(f)).flatten()
}

/// Makes this thread a worker. The base frame stands for what runs between tasks: callbacks and
/// wakers.
pub(crate) fn enter_worker(worker: Rc<dyn WorkerContext>) {
    with_local(|local| local.worker = Some(worker));
    push(None, false);
}

/// Makes this thread an ordinary one again.
pub(crate) fn leave_worker() {
    let old = with_local(|local| (local.worker.take(), std::mem::take(&mut local.frames)));
    drop(old);
}

fn push(task: Option<Arc<dyn Runnable>>, asynchronous: bool) {
    with_local(|local| {
        local.frames.push(Frame { task, stop: None, asynchronous, waiting: false });
    });
}

/// The worker that this thread is.
pub(crate) fn worker() -> Option<Rc<dyn WorkerContext>> {
    with_local(|local| local.worker.clone()).flatten()
}

/// Whether this thread is a worker of the pool at `host`.
pub(crate) fn is_worker_of(host: *const ()) -> bool {
    with_local(|local| local.worker.as_ref().is_some_and(|worker| worker.host() == host))
        .unwrap_or(false)
}

/// Runs `f` as the body of `task`.
pub(crate) fn run_in_frame<R>(
    task: Arc<dyn Runnable>,
    asynchronous: bool,
    f: impl FnOnce() -> R,
) -> R {
    struct Pop;
    impl Drop for Pop {
        fn drop(&mut self) {
            resumed();
            let frame = with_local(|local| local.frames.pop());
            drop(frame);
        }
    }
    push(Some(task), asynchronous);
    let _pop = Pop;
    f()
}

/// Lets `is_cancelled` be true as well while `stop` is set, for the rest of this frame.
pub(crate) fn also_stop_for(stop: Arc<AtomicBool>) {
    with_frame(|frame| frame.stop.replace(stop));
}

/// A future of ours is pending on this thread. If that is a worker inside a synchronous job, the
/// job is about to block on it, so the worker's place is lent out until [`resumed`].
pub(crate) fn pending() {
    lend_out(false);
}

/// As [`pending`], for a caller that certainly blocks.
pub(crate) fn about_to_block() {
    lend_out(true);
}

fn lend_out(even_if_asynchronous: bool) {
    let worker = with_local(|local| {
        let frame = local.frames.last_mut()?;
        if frame.waiting || (frame.asynchronous && !even_if_asynchronous) {
            return None;
        }
        frame.waiting = true;
        local.worker.clone()
    });
    if let Some(worker) = worker.flatten() {
        worker.wait_begin();
    }
}

/// The wait is over.
pub(crate) fn resumed() {
    let worker = with_local(|local| {
        let frame = local.frames.last_mut()?;
        if !std::mem::take(&mut frame.waiting) {
            return None;
        }
        local.worker.clone()
    });
    if let Some(worker) = worker.flatten() {
        worker.wait_end();
    }
}

pub(crate) fn is_stop_requested() -> bool {
    with_frame(|frame| {
        let by_map = frame.stop.as_ref().is_some_and(|stop| stop.load(Relaxed));
        let by_task = frame.task.as_ref().is_some_and(|task| task.is_stop_requested());
        Some(by_map || by_task)
    })
    .unwrap_or(false)
}

/// Applies `f` to the description of the task that runs here.
pub(crate) fn with_task<R>(f: impl FnOnce(&Info) -> R) -> Option<R> {
    with_frame(|frame| frame.task.as_ref().map(|task| f(task.info())))
}

/// When the task that runs here reaches its time limit.
pub(crate) fn deadline() -> Option<Instant> {
    with_task(Info::deadline).flatten()
}
