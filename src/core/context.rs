//! What a running job can find out: its task, and the worker that it runs on.
//!
//! Each worker thread keeps a stack of frames, one for each task that is on it. There is more
//! than one when a job waits for a queued task and runs it in place.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::Poll;
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
    /// Set when the first future is pending here.
    id: Option<FrameId>,
    /// Futures that were found pending here and are still there.
    pending: usize,
    /// The worker's place is lent out. Only while this is the top frame.
    lent: bool,
}

struct Local {
    worker: Option<Rc<dyn WorkerContext>>,
    frames: Vec<Frame>,
}

thread_local! {
    /// The pool that this thread belongs to, from its first moment to its last: the initializer and
    /// the destructors of thread-locals can't wait for the pool's end either.
    static HOST: Cell<*const ()> = const { Cell::new(std::ptr::null()) };
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
    let worker = with_local(|local| {
        let below = local.frames.last_mut();
        // What is to run here computes.
        let taken_back = below.is_some_and(|frame| std::mem::take(&mut frame.lent));
        let frame = Frame { task, stop: None, asynchronous, id: None, pending: 0, lent: false };
        local.frames.push(frame);
        taken_back.then(|| local.worker.clone()).flatten()
    });
    if let Some(worker) = worker.flatten() {
        worker.wait_end();
    }
}

/// The worker that this thread is.
pub(crate) fn worker() -> Option<Rc<dyn WorkerContext>> {
    with_local(|local| local.worker.clone()).flatten()
}

/// Whether this thread is a worker of the pool at `host`.
pub(crate) fn is_worker_of(host: *const ()) -> bool {
    HOST.get() == host
}

/// This thread is one of the pool at `host`.
pub(crate) fn belong_to(host: *const ()) {
    HOST.set(host);
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
            let popped = with_local(|local| {
                let frame = local.frames.pop();
                let below = local.frames.last_mut();
                let lend = below.is_some_and(|below| {
                    below.lent = below.pending > 0;
                    below.lent
                });
                (frame, lend, local.worker.clone())
            });
            if let Some((frame, lend, Some(worker))) = popped {
                if frame.is_some_and(|frame| frame.lent) {
                    worker.wait_end();
                }
                if lend {
                    worker.wait_begin();
                }
            }
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

/// A future's note of the frame in which it was last found pending. As long as a synchronous job
/// has such futures it may be blocked on one of them, so its worker's place is lent out; a future
/// that becomes ready, or is dropped, takes back its own share of that and no other's.
#[derive(Default)]
pub(crate) struct Pending(Option<FrameId>);

impl Pending {
    pub(crate) fn note<T>(&mut self, polled: &Poll<T>) {
        match polled {
            Poll::Pending => self.enter(),
            Poll::Ready(_) => self.leave(),
        }
    }

    fn enter(&mut self) {
        if self.0.is_some() && self.0 != with_frame(|frame| frame.id) {
            self.leave(); // It was pending in another frame.
        }
        let worker = with_local(|local| {
            let worker = local.worker.as_ref()?;
            let frame = local.frames.last_mut()?;
            // Callbacks and wakers do not block, or say so.
            if frame.asynchronous || frame.task.is_none() {
                return None;
            }
            let id = *frame.id.get_or_insert_with(next_frame);
            if self.0 != Some(id) {
                self.0 = Some(id);
                frame.pending += 1;
            }
            (!std::mem::replace(&mut frame.lent, true)).then(|| worker.clone())
        });
        if let Some(worker) = worker.flatten() {
            worker.wait_begin();
        }
    }

    fn leave(&mut self) {
        let Some(id) = self.0.take() else { return };
        let worker = with_local(|local| {
            let frame = local.frames.iter_mut().rev().find(|frame| frame.id == Some(id))?;
            frame.pending -= 1;
            let over = frame.pending == 0 && std::mem::take(&mut frame.lent);
            over.then(|| local.worker.clone()).flatten()
        });
        if let Some(worker) = worker.flatten() {
            worker.wait_end();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Tells frames apart for as long as a future may remember one; small, since every future has
/// room for one.
type FrameId = NonZeroU32;

fn next_frame() -> FrameId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    FrameId::new(NEXT.fetch_add(1, Relaxed)).unwrap_or(FrameId::MAX)
}

/// This thread blocks now.
pub(crate) fn about_to_block() {
    let worker = with_local(|local| {
        let frame = local.frames.last_mut()?;
        let lend = !std::mem::replace(&mut frame.lent, true);
        lend.then(|| local.worker.clone()).flatten()
    });
    if let Some(worker) = worker.flatten() {
        worker.wait_begin();
    }
}

/// It does not any more.
pub(crate) fn resumed() {
    let worker = with_local(|local| {
        let frame = local.frames.last_mut()?;
        let over = frame.pending == 0 && std::mem::take(&mut frame.lent);
        over.then(|| local.worker.clone()).flatten()
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
