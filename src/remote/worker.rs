//! A worker in its own process: takes one task after the other from its pool, runs it, and replies before
//! it looks at the next. So what has finished is never lost with what crashes later.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::checkpoint::Checkpoint;
use super::frame::{Content, FOR_OTHERS, Frame, Header, Kind, UNTIL};
use super::map_context::{ChunkDetail, Contexts};
use super::parent_pool::Parent;
use super::reply::Reply;
use super::run::{Desk, Running, run_outside};
use super::trace_relay::Sender;
use crate::core::context::{self, End, WorkerContext};
use crate::core::stop_flag::Remote;
use crate::core::waits::Awaited;
use crate::core::{Extra, Options, Promise, Source, StopFlag, TaskId, TaskRef};
use crate::fork;
use crate::ipc;
use crate::label::Label;
use crate::panic::{Panicked, install_hook};

/// A worker's connection to its pool.
pub(crate) trait PoolLink: Desk + Parent + 'static {
    /// Waits for the next task. `None`: the pool sends no more.
    fn next_task(&self) -> io::Result<Option<Frame>>;

    /// Claims the task in this slot. `false`: the pool has withdrawn it.
    fn start(&self, slot: u16) -> bool;
}

/// Runs what the pool sends, until it sends no more. An error means that the pool is gone.
pub(crate) fn serve<C: PoolLink>(connection: &Arc<C>) -> io::Result<()> {
    let served = as_worker(connection, |desk, worker| serve_tasks(&**connection, desk, worker));
    if let Some(finalizer) = served? {
        // Outside of the worker context: it is no task.
        finalize(finalizer);
    }
    Ok(())
}

/// Makes one call, and returns the kind of the reply. `None`: there is no call. An error means that the
/// owner is gone.
pub(crate) fn serve_one<C: PoolLink>(connection: &Arc<C>) -> io::Result<Option<Kind>> {
    as_worker(connection, |desk, worker| {
        let Some(call) =
            connection.next_task()?.filter(|frame| connection.start(frame.header.slot))
        else {
            return Ok(None);
        };
        run_and_reply(desk, worker, &Sender::new(desk), call, &mut Contexts::default()).map(Some)
    })
}

/// Runs `serve` with this thread as the worker.
fn as_worker<C: PoolLink, R>(
    connection: &Arc<C>,
    serve: impl FnOnce(&Arc<dyn Desk>, &Worker) -> io::Result<Option<R>>,
) -> io::Result<Option<R>> {
    install_hook();
    let desk: Arc<dyn Desk> = Arc::clone(connection) as _;
    let mut served = Ok(None);
    let worker = Rc::new(Worker {
        desk: Arc::clone(&desk),
        runs_task: Cell::new(false),
        generation: fork::generation(),
    });
    context::run_as_worker(worker.clone(), || served = serve(&desk, &worker));
    served
}

/// Returns the frame of the finalizer, if that is to run.
fn serve_tasks(
    connection: &impl PoolLink,
    desk: &Arc<dyn Desk>,
    worker: &Worker,
) -> io::Result<Option<Frame>> {
    let events = Sender::new(desk);
    let (mut contexts, mut finalizer) = (Contexts::default(), None);
    while let Some(frame) = connection.next_task()? {
        let header = frame.header;
        match header.kind {
            Kind::Finalize => {
                finalizer = Some(frame);
                break;
            }
            Kind::Context => {
                contexts.insert(frame);
                continue;
            }
            Kind::EndContext => {
                let ended = contexts.remove(header.number);
                // Its destructor is user code, and may wait for tasks of the pool as a job does.
                run_in_frame(desk, header.slot, None, Extra::new(Options::default()), || {
                    drop(ended)
                });
                continue;
            }
            Kind::Keep => {
                ipc::keep((header.detail, header.number));
                continue;
            }
            Kind::Forget => {
                let forgotten = ipc::forget((header.detail, header.number));
                // As that of a context.
                run_in_frame(desk, header.slot, None, Extra::new(Options::default()), || {
                    drop(forgotten)
                });
                continue;
            }
            // Before the claim: what is here counts as results of a chunk that has started.
            Kind::Chunk => drop(Checkpoint::new(desk.checkpoint())),
            _ => {}
        }
        // One that retires has told the pool, which has taken back what is not begun.
        if desk.is_retiring() || !connection.start(header.slot) {
            // A reply as well: the pool uses the slot again after it.
            let header = Header { kind: Kind::Skipped, detail: 0, ..header };
            desk.send(header, &Content::default())?;
            continue;
        }
        let kind = run_and_reply(desk, worker, &events, frame, &mut contexts)?;
        if header.kind == Kind::Initialize && kind != Kind::Value {
            break; // Tasks that were sent along are not to run, nor is the finalizer.
        }
    }
    // Of maps that have not ended. What waits in there for tasks is told that the pool takes none.
    run_in_frame(desk, 0, None, Extra::new(Options::default()), || drop(contexts));
    Ok(finalizer)
}

/// Runs a task that this worker has claimed, and replies. Returns the kind of the reply.
fn run_and_reply(
    desk: &Arc<dyn Desk>,
    worker: &Worker,
    events: &Sender,
    frame: Frame,
    contexts: &mut Contexts,
) -> io::Result<Kind> {
    let header = frame.header;
    events.begin(header);
    let start = Instant::now();
    worker.runs_task.set(header.kind != Kind::Initialize);
    let (Reply { kind, values }, setup) = run(desk, frame, contexts, start);
    worker.runs_task.set(false);
    events.end();
    let time = start.elapsed().saturating_sub(setup);
    let detail = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    desk.reply(Header { kind, detail, ..header }, &Content { code: None, values })?;
    Ok(kind)
}

fn finalize(frame: Frame) {
    // A panic was reported by the hook. The pool takes no more replies.
    if let Some(error) = run_outside(frame).err().filter(|error| !error.is::<Panicked>()) {
        eprintln!("concurrent-futures: the finalizer did not run: {error}");
    }
}

/// Returns the reply, and the part of the time that is not the task's.
fn run(
    desk: &Arc<dyn Desk>,
    frame: Frame,
    contexts: &mut Contexts,
    start: Instant,
) -> (Reply, Duration) {
    let refused = |reply| (reply, Duration::ZERO);
    let Some(code) = frame.code else {
        return refused(Reply::unknown_code("the frame names no code"));
    };
    let resolved = match code.resolve::<Running>() {
        Ok(resolved) => resolved,
        Err(unknown) => return refused(Reply::unknown_code(unknown)),
    };
    // The detail of a chunk is not a limit, but the number of its items.
    let limit = if frame.header.kind == Kind::Call { frame.header.detail } else { 0 };
    let timeout = (limit > 0).then(|| Duration::from_nanos(limit));
    let deadline = timeout.and_then(|limit| start.checked_add(limit));
    let (slot, id) = (frame.header.slot, TaskId::from_number(frame.header.number));
    let extra = Extra::with_deadline(Options { timeout, ..Options::default() }, deadline);
    let is_chunk = frame.header.kind == Kind::Chunk;
    let context = if is_chunk { ChunkDetail::unpack(frame.header.detail).context } else { 0 };
    let mut call = Running::new(Arc::clone(desk), frame);
    call.context = contexts.remove(context);
    // All code of the user's runs in this frame: what decodes, encodes and drops as well.
    run_in_frame(desk, slot, id, extra, || resolved.call(&mut call));
    if let Some(held) = call.context {
        contexts.put_back(context, held);
    }
    (call.reply.unwrap_or_else(|| Reply::unknown_code("the code gave no reply")), call.setup)
}

/// Runs user code as the body of a task.
fn run_in_frame(
    desk: &Arc<dyn Desk>,
    slot: u16,
    id: Option<TaskId>,
    extra: Extra,
    body: impl FnOnce(),
) {
    let task = RunningTask { desk: Arc::clone(desk), slot, stop: OnceLock::new(), id, extra };
    let (promise, mut outcome) = Promise::<()>::of(task);
    promise.run_body(body);
    outcome.abandon();
    // The two are dropped before the reply, after which the pool uses the slot again: tokens look at it
    // no more.
}

/// The task that runs here, as its job sees it.
struct RunningTask {
    desk: Arc<dyn Desk>,
    slot: u16,
    /// The stop request as tokens see it.
    stop: OnceLock<Arc<StopFlag>>,
    id: Option<TaskId>,
    extra: Extra,
}

impl Source for RunningTask {
    fn withdraw(&self, _task: TaskId, _stop: bool) -> bool {
        false
    }

    fn is_running(&self, _task: TaskId) -> bool {
        true
    }

    fn is_stop_requested(&self) -> bool {
        self.desk.is_asked_to_stop(self.slot)
    }

    fn stop_flags(&self) -> Vec<Arc<StopFlag>> {
        let request = || Request {
            desk: Arc::clone(&self.desk),
            slot: self.slot,
            is_watched: AtomicBool::new(false),
        };
        let flag = || Arc::new(StopFlag::elsewhere(Box::new(request())));
        vec![Arc::clone(self.stop.get_or_init(flag))]
    }

    fn id(&self) -> Option<TaskId> {
        self.id
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.get() {
            stop.close();
        }
    }
}

/// The pool's request to stop the task in a slot.
struct Request {
    desk: Arc<dyn Desk>,
    slot: u16,
    is_watched: AtomicBool,
}

impl Remote for Request {
    fn is_stop_requested(&self) -> bool {
        self.desk.is_asked_to_stop(self.slot)
    }

    fn watch(&self, flag: &Arc<StopFlag>) -> bool {
        if self.is_watched.load(Relaxed) {
            return true;
        }
        let (desk, slot, flag) = (Arc::clone(&self.desk), self.slot, Arc::clone(flag));
        let watch = move || {
            desk.watch(slot, &|| flag.is_set() || flag.is_closed());
            if flag.is_set() {
                flag.wake();
            }
        };
        let is_watched = thread::Builder::new().name("cf-stop".to_owned()).spawn(watch).is_ok();
        self.is_watched.store(is_watched, Relaxed);
        is_watched
    }

    fn end(&self) {
        if self.is_watched.load(Relaxed) {
            self.desk.end_watch(self.slot);
        }
    }
}

/// The main thread, as the tasks that run on it see it.
struct Worker {
    desk: Arc<dyn Desk>,
    /// Set while a task runs, and not the initializer or a destructor.
    runs_task: Cell<bool>,
    /// The [`fork::generation`] of this process.
    generation: u32,
}

impl WorkerContext for Worker {
    fn host(&self) -> *const () {
        Arc::as_ptr(&self.desk).cast()
    }

    fn has_stack(&self) -> bool {
        false
    }

    fn started(&self, _task: &TaskRef, _first: bool, _label: Option<&Label>) -> u64 {
        0
    }

    fn stopped(&self, _since: u64, _end: End) -> u64 {
        0 // The pool is told by the reply.
    }

    // If the pool is gone, so is this process soon.

    fn wait_begin(&self, awaited: Option<Awaited>, until: bool) {
        let until = if until { UNTIL } else { 0 };
        let others = awaited.and_then(Awaited::number_of_others);
        let (number, detail) = match (awaited, others) {
            (_, Some(number)) => (number, FOR_OTHERS),
            (Some(Awaited::Task(task)), _) => (task.get(), until),
            // Without a number the pool takes the wait as one for all calls of the task.
            (Some(Awaited::Set(_)), _) => (0, until),
            _ => (0, 0),
        };
        let _ = self.desk.tell(Kind::Waits, number, detail);
    }

    fn wait_end(&self) {
        let _ = self.desk.tell(Kind::GoesOn, 0, 0);
    }

    fn retire(&self) -> bool {
        // A process that a task has forked is no worker.
        let may_retire = self.runs_task.get() && self.generation == fork::generation();
        if may_retire {
            self.desk.retire();
        }
        may_retire
    }
}
