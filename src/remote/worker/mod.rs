//! The worker process: takes one task after the other from its socket, runs it, and writes its
//! reply before it looks at the next. So what has finished is never lost with what crashes later.

pub(crate) mod parent_connection;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::context::{self, End, WorkerContext};
use crate::core::{Extra, Options, Promise, Source, TaskId, TaskRef};
use crate::local::checkpoint::Progress;
use crate::local::start::zygote::WorkerStart;
use crate::panic::install_hook;
use crate::remote::call::{Reply, Running};
use crate::remote::frame::{Content, Frame, Header, Kind};
use crate::remote::trace_relay::Sender;
use crate::remote::worker::parent_connection::Channel;

/// The life of a worker, from its first task to the end of its socket. The answer is its exit code.
pub(crate) fn main(start: WorkerStart) -> i32 {
    install_hook();
    let channel = Channel::install(start.socket, start.block);
    let mut code = 1;
    let worker = Rc::new(Worker(Arc::clone(&channel)));
    context::run_as_worker(worker, || {
        code = match serve(&channel) {
            Ok(()) => 0,
            Err(_the_pool_is_gone) => 1,
        };
    });
    code
}

fn serve(channel: &Arc<Channel>) -> io::Result<()> {
    let events = Sender::new(channel);
    while let Some(frame) = channel.next_task()? {
        let header = frame.header;
        if header.kind == Kind::Chunk {
            Progress::new(channel.block()); // before the start
        }
        if !channel.claim(header.slot).start() {
            let header = Header { kind: Kind::Skipped, detail: 0, ..header };
            channel.write(header, &Content::default())?;
            continue;
        }
        events.begin(header);
        let start = Instant::now();
        let Reply { kind, values } = run(channel, frame, start);
        events.end();
        let detail = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        channel.reply(Header { kind, detail, ..header }, &Content { code: None, values })?;
        if header.kind == Kind::Initialize && kind != Kind::Value {
            break; // What was sent along is not to run.
        }
    }
    Ok(())
}

fn run(channel: &Arc<Channel>, frame: Frame, start: Instant) -> Reply {
    let Some(code) = frame.code else { return Reply::unknown_code("the frame names no code") };
    let resolved = match code.resolve::<Running>() {
        Ok(resolved) => resolved,
        Err(unknown) => return Reply::unknown_code(unknown),
    };
    // Of a chunk it is the number of items.
    let limit = if frame.header.kind == Kind::Call { frame.header.detail } else { 0 };
    let deadline = (limit > 0).then(|| start.checked_add(Duration::from_nanos(limit))).flatten();
    let task = RunningTask {
        channel: Arc::clone(channel),
        slot: frame.header.slot,
        id: TaskId::from_number(frame.header.number),
        extra: Extra::with_deadline(Options::default(), deadline),
    };
    let (promise, mut outcome) = Promise::<()>::of(task);
    let task = promise.task().clone();
    let mut call = Running { channel: Arc::clone(channel), frame, reply: None };
    // All code of the user's is in it: what decodes, encodes and drops as well.
    context::run_in_frame(task, |_| resolved.call(&mut call), |_, ()| ());
    outcome.abandon();
    call.reply.unwrap_or_else(|| Reply::unknown_code("the code gave no reply"))
}

/// The task that runs here, as its job sees it.
struct RunningTask {
    channel: Arc<Channel>,
    slot: u16,
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
        self.channel.claim(self.slot).is_asked_to_stop()
    }

    fn id(&self) -> Option<TaskId> {
        self.id
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }
}

struct Worker(Arc<Channel>);

impl WorkerContext for Worker {
    fn host(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    fn has_stack(&self) -> bool {
        false
    }

    fn started(&self, _task: &TaskRef, _first: bool, _label: Option<&Arc<str>>) -> u64 {
        0
    }

    fn stopped(&self, _since: u64, _end: End) {}

    // If the pool is gone, so is this process soon.

    fn wait_begin(&self) {
        let _ = self.0.tell(Kind::Waits, 0, 0);
    }

    fn wait_end(&self) {
        let _ = self.0.tell(Kind::GoesOn, 0, 0);
    }
}
