//! The context of a running job: its task, and the worker that it runs on.
//!
//! Each worker thread keeps a stack of frames, one for each task that is on it. There is more
//! than one when a job waits for a queued task and runs it in place.

use std::cell::{Cell, RefCell};
use std::iter;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::waits::{Awaited, FrameId, Wait, Waits};
use crate::core::cell::{RunningTask, TaskRef, Typed};
use crate::core::extra::Extra;
use crate::core::stop_flag::StopFlag;
use crate::label::Label;

/// A worker thread, as the tasks that run on it see it.
pub(crate) trait WorkerContext {
    /// Returns the address of the pool, to compare.
    fn host(&self) -> *const ();

    /// Returns whether the stack has room for one more task in place.
    fn has_stack(&self) -> bool;

    /// Records that a task starts here, for the first time or not. Returns when, in ticks.
    fn started(&self, task: &TaskRef, first: bool, label: Option<&Label>) -> u64;

    /// Records that the task, which was here since `since`, leaves the worker. Returns how long it was here, in
    /// ticks.
    fn stopped(&self, since: u64, end: End) -> u64;

    /// Lends the worker's place out, since it is about to block for what is awaited, as far as that is
    /// known. With `until`, it goes on as soon as that is done; else it may wait for more.
    fn wait_begin(&self, awaited: Option<Awaited>, until: bool);

    /// Takes the worker's place back, since it goes on.
    fn wait_end(&self);

    /// Asks again for a thread in the place of this worker, which is blocked, if the system has refused one.
    /// Returns when to ask once more.
    fn seek_spare(&self) -> Option<Duration> {
        None
    }

    /// Keeps the waker of a pending future until `wait_end`: another executor may park the job, and is to poll
    /// again if a thread in the place of this worker is refused.
    fn keep_waker(&self, _waker: &Waker) {}

    /// Marks the worker as busy until it looks for its next task: code of the user's is to run here before.
    fn keep_busy(&self) {}

    /// Has the worker begin with no further task. `false`: it goes on.
    fn retire(&self) -> bool {
        false
    }

    /// Returns the place for notes on what the worker's jobs wait for, if they can be seen from outside.
    fn waits(&self) -> Option<&Waits> {
        None
    }
}

/// The end of a stay on the worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Failed,
    /// No end that the worker counts: an async body was suspended, or the task was finished from elsewhere.
    Uncounted,
}

/// A stay of a task on this thread: its body, and then what belongs to its end, which is callbacks,
/// destructors and wakers. It lies on the stack of the function that runs the task, and knows the
/// one below; so to begin and to end a stay costs a few moves.
struct Frame<'a> {
    /// `None` for the lowest, in which no code of the user's runs.
    below: Option<&'a Frame<'a>>,
    /// The task, as long as its body runs.
    task: Cell<Option<RunningTask>>,
    /// A stop request besides the task's own: that of a map.
    stop: RefCell<Option<Arc<StopFlag>>>,
    /// Set while a future that is the body is polled: futures that are pending in that block no thread.
    asynchronous: Cell<bool>,
    /// The frame's number, from the first future that was pending here.
    id: Cell<Option<FrameId>>,
    /// The number of futures that were found pending here and are still there.
    pending: Cell<usize>,
    /// Set while the worker's place is lent out; only in the top frame.
    lent: Cell<bool>,
    /// Set while there is a note of what the thread blocks for.
    blocked: Cell<bool>,
}

impl Frame<'_> {
    /// Returns the frame's number, which it gets now if it has none.
    fn named(&self) -> FrameId {
        self.id.get().unwrap_or_else(|| {
            let id = next_frame();
            self.id.set(Some(id));
            id
        })
    }

    /// Notes what its task waits for, where others can see it.
    fn note(&self, change: impl FnOnce(&mut Wait)) {
        let (Some(task), Some(worker)) = (self.task.get(), worker()) else { return };
        if let Some(waits) = worker.waits() {
            // Futures that were pending in a job may outlive it.
            waits.retain(|id| with_top(|top| frames(top).any(|frame| frame.id.get() == Some(id))));
            waits.change(self.named(), task.with(TaskRef::id), change);
        }
    }

    /// Ends the body. Futures that were pending in it and are still there have no part in what follows.
    #[inline]
    fn leave_body(&self) {
        self.task.set(None);
        if self.id.get().is_some() {
            // Without the number, a `Pending` that still has it finds no frame, and changes no
            // count.
            self.id.set(None);
            self.pending.set(0);
            self.blocked.set(false);
        }
        if self.lent.take() {
            take_back();
        }
    }
}

thread_local! {
    /// The pool that this thread belongs to, from its first moment to its last: the initializer and
    /// the destructors of thread-locals can't wait for the pool's end either.
    // `HOST` has no destructor, so the destructors of other thread-locals can read it.
    static HOST: Cell<*const ()> = const { Cell::new(std::ptr::null()) };
    static WORKER: RefCell<Option<Rc<dyn WorkerContext>>> = const { RefCell::new(None) };
    /// The top frame, without its lifetime.
    static TOP: Cell<*const Frame<'static>> = const { Cell::new(ptr::null()) };
}

/// Calls `f` with the top frame of this thread, if there is one.
fn with_top<R>(f: impl for<'a> FnOnce(Option<&'a Frame<'a>>) -> R) -> R {
    // SAFETY: `run_frame` has put the address there and takes it away before the frame ends. What `f`
    // calls may put frames on top and takes them away again, so this one is there until `f` returns;
    // and `f` can't keep it for longer.
    f(unsafe { TOP.get().as_ref() })
}

/// Returns `top` and all frames below.
fn frames<'a>(top: Option<&'a Frame<'a>>) -> impl Iterator<Item = &'a Frame<'a>> {
    iter::successors(top, |above| above.below)
}

/// Runs `f` in a new frame on top.
fn run_frame<R>(task: Option<RunningTask>, f: impl FnOnce(&Frame<'_>) -> R) -> R {
    struct Pop<'a>(&'a Frame<'a>);
    impl Drop for Pop<'_> {
        fn drop(&mut self) {
            TOP.set(address(self.0.below));
            if self.0.lent.get() {
                take_back();
            }
            // The job below goes on with futures that are pending, so it lends its place out as
            // before.
            if let Some(below) = self.0.below.filter(|below| below.pending.get() > 0) {
                below.lent.set(true);
                lend(None, false);
            }
        }
    }
    fn address(frame: Option<&Frame<'_>>) -> *const Frame<'static> {
        frame.map_or(ptr::null(), |frame| ptr::from_ref(frame).cast())
    }
    with_top(|below| {
        if below.is_some_and(|below| below.lent.take()) {
            take_back(); // What is to run here computes.
        }
        let frame = Frame {
            below,
            task: Cell::new(task),
            stop: RefCell::new(None),
            asynchronous: Cell::new(false),
            id: Cell::new(None),
            pending: Cell::new(0),
            lent: Cell::new(false),
            blocked: Cell::new(false),
        };
        TOP.set(address(Some(&frame)));
        let _pop = Pop(&frame);
        f(&frame)
    })
}

fn lend(awaited: Option<Awaited>, until: bool) {
    if let Some(worker) = worker() {
        worker.wait_begin(awaited, until);
    }
}

fn take_back() {
    if let Some(worker) = worker() {
        worker.wait_end();
    }
}

/// Makes this thread a worker for the length of `f`.
pub(crate) fn run_as_worker(worker: Rc<dyn WorkerContext>, f: impl FnOnce()) {
    WORKER.set(Some(worker));
    run_frame(None, |_| f());
    let worker = WORKER.take();
    drop(worker);
}

/// Returns the worker that this thread is. `None` also where the thread's storage is gone already.
pub(crate) fn worker() -> Option<Rc<dyn WorkerContext>> {
    WORKER.try_with(|worker| worker.borrow().clone()).ok().flatten()
}

/// Returns whether this thread is a worker of the pool at `host`.
pub(crate) fn is_worker_of(host: *const ()) -> bool {
    HOST.get() == host
}

/// Makes this thread one of the pool at `host`, for the rest of its life.
pub(crate) fn belong_to(host: *const ()) {
    HOST.set(host);
}

/// Runs `body` as the body of `task`, and then `end` with what it returned. Both may run code of the
/// user's: where that waits, the worker's place is lent out.
pub(in crate::core) fn run_in_frame<K, P, R>(
    task: Typed<K>,
    body: impl FnOnce(&Typed<K>) -> P,
    end: impl FnOnce(Typed<K>, P) -> R,
) -> R {
    struct Leave<'a>(&'a Frame<'a>);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.leave_body();
        }
    }
    // SAFETY: the frame forgets it in `Leave`, before `task` is given away or dropped, and nothing
    // keeps it for longer than a call.
    let running = unsafe { RunningTask::new(task.untyped()) };
    run_frame(Some(running), move |frame| {
        // `task` outlives `leave`, also if the body unwinds: the frame forgets the task first.
        let task = task;
        let leave = Leave(frame);
        let polled = body(&task);
        drop(leave);
        end(task, polled)
    })
}

/// Runs `f`, which polls the future that is the body of the task here, and does not panic.
pub(crate) fn run_polled<R>(f: impl FnOnce() -> R) -> R {
    let set = |polled| {
        with_top(|top| {
            if let Some(frame) = top {
                frame.asynchronous.set(polled);
            }
        });
    };
    set(true);
    let polled = f();
    set(false);
    polled
}

/// Calls `f` while this frame is asked to stop by `stop` as well.
pub(crate) fn also_stop_for<R>(stop: Arc<StopFlag>, f: impl FnOnce() -> R) -> R {
    let replace = |stop| with_top(|top| top.and_then(|frame| frame.stop.replace(stop)));
    let outer = replace(Some(stop));
    let value = f();
    // The frame may be that of a job which has a map computed inline.
    drop(replace(outer));
    value
}

/// The pause of a job without a spare at each poll, so that it does not keep a CPU busy. Other futures that
/// it polls are as late.
const BREAK: Duration = Duration::from_millis(1);

/// A future's note of the frame in which it was last found pending. As long as a synchronous job
/// has such futures it may be blocked on one of them, so its worker's place is lent out; a future
/// that becomes ready, or is dropped, takes back its own share of that and no other's.
#[derive(Default)]
pub(crate) struct Pending(Option<FrameId>);

impl Pending {
    /// `awaited` is the future, as others are to see it.
    #[inline]
    pub(crate) fn note<T>(
        &mut self,
        polled: &Poll<T>,
        cx: &Context<'_>,
        awaited: impl Fn() -> Awaited,
    ) {
        match polled {
            Poll::Pending => self.enter(cx, awaited),
            Poll::Ready(_) => self.over(awaited),
        }
    }

    /// Ends the note: the future is ready, or about to be dropped.
    #[inline]
    pub(crate) fn over(&mut self, awaited: impl Fn() -> Awaited) {
        #[cold]
        fn leave(pending: &mut Pending, awaited: impl Fn() -> Awaited) {
            pending.leave(Some(awaited()));
        }
        if self.0.is_some() {
            leave(self, awaited);
        }
    }

    #[inline(never)]
    fn enter(&mut self, cx: &Context<'_>, awaited: impl Fn() -> Awaited) {
        let top = with_top(|top| top.and_then(|frame| frame.id.get()));
        if self.0.is_some() && self.0 != top {
            self.leave(Some(awaited())); // It was pending in another frame.
        }
        if !with_top(|top| top.is_some_and(|frame| self.enter_frame(frame, awaited))) {
            return;
        }
        // Before the look at the pool, so that a refusal after that look finds the waker.
        if let Some(worker) = worker() {
            worker.keep_waker(cx.waker());
        }
        if let Some(pause) = seek_spare() {
            // Nothing wakes the job when there is a thread again. So it is polled until then, and
            // takes a break each time.
            std::thread::sleep(pause.min(BREAK));
            cx.waker().wake_by_ref();
        }
    }

    /// Notes the future in the top frame. `false`: the job there can't be blocked on it.
    fn enter_frame(&mut self, frame: &Frame<'_>, awaited: impl Fn() -> Awaited) -> bool {
        // An async body gives its worker back when it is pending, and the lowest frame has no job.
        if frame.asynchronous.get() || frame.below.is_none() {
            return false;
        }
        let id = frame.named();
        if self.0 != Some(id) {
            self.0 = Some(id);
            frame.pending.set(frame.pending.get() + 1);
            let awaited = awaited();
            frame.note(|wait| wait.add(awaited));
        }
        // Once for all futures: a worker has one place. `false`, since the job may wait for others
        // as well.
        if !frame.lent.replace(true) {
            lend(Some(awaited()), false);
        }
        true
    }

    #[cold]
    fn leave(&mut self, awaited: Option<Awaited>) {
        let Some(id) = self.0.take() else { return };
        with_top(|top| {
            // No frame: the body has ended, or the future was sent to another thread. Its share
            // then stays with the job until that ends.
            let Some(frame) = frames(top).find(|frame| frame.id.get() == Some(id)) else { return };
            frame.pending.set(frame.pending.get() - 1);
            frame.note(|wait| wait.remove(awaited));
            if frame.pending.get() == 0 && frame.lent.take() {
                take_back();
            }
        });
    }
}

impl Drop for Pending {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.leave(None);
        }
    }
}

/// Runs `f`, code of the user's that may block unseen: the worker's place is lent out meanwhile.
pub(crate) fn lend_during<R>(f: impl FnOnce() -> R) -> R {
    struct TakeBack;
    impl Drop for TakeBack {
        fn drop(&mut self) {
            in_job(|frame| {
                frame.pending.set(frame.pending.get() - 1);
                if frame.pending.get() == 0 && frame.lent.take() {
                    take_back();
                }
            });
        }
    }
    fn in_job(f: impl FnOnce(&Frame<'_>)) {
        with_top(|top| top.filter(|frame| frame.below.is_some()).map(f));
    }
    in_job(|frame| {
        // As a pending future, so that other waits of `f` do not take the place back at their end.
        frame.pending.set(frame.pending.get() + 1);
        if !frame.lent.replace(true) {
            lend(None, false);
        }
    });
    let _take_back = TakeBack;
    f()
}

fn next_frame() -> FrameId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    FrameId::new(NEXT.fetch_add(1, Relaxed)).unwrap_or(FrameId::MAX)
}

/// Begins a wait that blocks this thread; ended by [`resumed`].
pub(crate) fn about_to_block(awaited: impl Fn() -> Awaited) {
    with_top(|top| {
        let Some(frame) = top else { return };
        if !frame.blocked.replace(true) {
            let awaited = awaited();
            frame.note(|wait| wait.block(awaited));
        }
        // `true`: the thread goes on as soon as this is done. Not told again if a pending future
        // has lent the place out.
        if !frame.lent.replace(true) {
            lend(Some(awaited()), true);
        }
    });
}

/// Asks for a spare thread again, if one was refused while this thread blocks. Returns when this is
/// to be called again.
pub(super) fn seek_spare() -> Option<Duration> {
    let is_lent = with_top(|top| top.is_some_and(|frame| frame.lent.get()));
    // A job that has its place needs no spare.
    if is_lent { worker()?.seek_spare() } else { None }
}

/// Ends the wait that [`about_to_block`] began, if it did.
pub(crate) fn resumed() {
    with_top(|top| {
        let Some(frame) = top else { return };
        if frame.blocked.take() {
            frame.note(Wait::unblock);
        }
        // While futures are pending, another executor may block the thread for them, unseen.
        if frame.pending.get() == 0 && frame.lent.take() {
            take_back();
        }
    });
}

/// Returns whether the body of a task runs here, and not what belongs to its end.
pub(crate) fn is_in_body() -> bool {
    with_top(|top| top.is_some_and(|frame| frame.task.get().is_some()))
}

pub(crate) fn is_stop_requested() -> bool {
    let by_map = |stop: &Arc<StopFlag>| stop.is_raised();
    let by_task = |task: RunningTask| task.with(|task| task.runnable().is_stop_requested());
    with_top(|top| {
        top.is_some_and(|frame| {
            frame.stop.borrow().as_ref().is_some_and(by_map)
                || frame.task.get().is_some_and(by_task)
        })
    })
}

/// Returns the flags that [`is_stop_requested`] looks at; none outside of a job.
pub(crate) fn stop_flags() -> Vec<Arc<StopFlag>> {
    with_top(|top| {
        let mut flags = with_task(|task| task.runnable().stop_flags()).unwrap_or_default();
        flags.extend(top.and_then(|frame| frame.stop.borrow().clone()));
        flags
    })
}

/// Applies `f` to the task that runs here.
pub(crate) fn with_task<R>(f: impl FnOnce(&TaskRef) -> R) -> Option<R> {
    with_top(|top| top.and_then(|frame| frame.task.get()).map(|task| task.with(f)))
}

/// Returns the time limit of the task that runs here, and when the task reaches it.
pub(crate) fn limit() -> Option<(Duration, Instant)> {
    with_task(|task| task.runnable().extra().and_then(Extra::limit)).flatten()
}
