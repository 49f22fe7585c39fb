//! Frames from workers: replies, and tasks of their own. In the pool's process.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::dispatch::about_to_start;
use super::state::{Parent, Place, State, Task};
use super::worker::{NO_TASK, Sent, Wait};
use super::{Completion, Finish, Pool};
use crate::clock;
use crate::codec;
use crate::core::{Options, TaskId};
use crate::error::{CodecError, CodecSide, Error};
use crate::function::{Checked, UnknownCode};
use crate::lifecycle::{Accepting, Phase};
use crate::reactor::UserCode;
use crate::remote::call::unpack_initializer_error;
use crate::remote::error_codec;
use crate::remote::frame::{Content, Frame, Header, Kind, Unread};
use crate::remote::map::Parts;
use crate::remote::map_context::{ChunkDetail, MapContext};
use crate::remote::options_codec::{self, HAS_OPTIONS};
use crate::remote::reply::{self, Reply};
use crate::remote::scheduler::transport::{Hub, Transport, WorkerLink};
use crate::remote::submission::{Counted, ReplySink, Submission, Suspect};
use crate::remote::trace_relay;
use crate::trace::TaskTrace;

/// The sink of a call that a worker has submitted, to which the answer goes.
pub(super) struct Forward<T: Transport> {
    pool: Arc<Pool<T>>,
    worker: u32,
    /// The worker's number for it.
    request: u64,
    suspect: Option<Suspect>,
    /// Results that came before the reply; of a chunk only.
    parts: Option<Parts>,
}

/// The check of a frame's call. Made before the pool's lock is taken, since it may walk through the
/// images of the process, under a lock of the C library.
pub(crate) type CheckedCall = Result<Checked, UnknownCode>;

/// The answer to a call of a worker of which `what` was skipped.
fn without_values(header: Header, kind: Kind, what: &str, unread: Unread) -> Frame {
    let (side, type_name) = (CodecSide::DecodeArguments, "unknown".to_owned());
    let error = CodecError { side, type_name, message: unread.describe(what) };
    let Reply { kind, values } = Reply::codec(kind, error);
    Frame::of(Header { kind, ..header }, values.body)
}

impl<T: Transport> ReplySink for Forward<T> {
    fn suspect(&self) -> Option<Suspect> {
        self.suspect
    }

    fn part(&mut self, frame: Frame) -> bool {
        self.parts.as_mut().is_some_and(|parts| parts.take(frame))
    }

    fn salvage(&mut self, checkpoint: &[AtomicU64]) {
        if let Some(parts) = &mut self.parts {
            parts.salvage(checkpoint);
        }
    }

    fn takes_long(&self, _length: usize) -> bool {
        // The answer is put in line as it is, and not decoded here.
        false
    }

    fn complete(
        self: Box<Self>,
        reply: Result<Frame, Error>,
        _trace: &TaskTrace,
        account: &dyn Fn(Counted),
    ) {
        account(match &self.parts {
            Some(parts) => Counted::Items(parts.values(&reply)),
            None => Counted::of(reply.as_ref().is_ok_and(|frame| frame.header.kind == Kind::Value)),
        });
        Arc::clone(&self.pool).answer(*self, reply);
    }
}

impl<T: Transport> Pool<T> {
    /// Takes in what a worker has sent: frames, with what their calls were found to be, and then the end
    /// or garbage. Returns user code to run, before what is left to the hub. The frames are taken out of
    /// their list.
    pub(crate) fn received(
        self: &Arc<Self>,
        number: u32,
        frames: &mut Vec<(Option<CheckedCall>, Frame)>,
        end: bool,
        mut garbage: Option<String>,
    ) -> Option<Box<dyn UserCode>> {
        let mut state = self.state.lock();
        let is_distrusted = state.worker(number).is_some_and(|worker| worker.is_distrusted);
        // At once, and not in steps.
        state.done.reserve(frames.len());
        // The socket of a worker that is to be killed may still have frames.
        for (call, frame) in frames.drain(..).filter(|_| !is_distrusted) {
            if let Err(text) = self.take_frame(&mut state, number, call, frame) {
                garbage.get_or_insert(text);
                break;
            }
        }
        if let Some(text) = garbage {
            self.distrust(&mut state, number, &text);
        } else if end {
            self.on_closed(&mut state, number);
        } else {
            self.fill_up(&mut state, number);
        }
        self.dispatch(&mut state);
        let mut due = self.unlock_and_flush(state);
        let first = due.next();
        let mut others = due.peekable();
        // As a rule there is one piece, and the line of the thread that reads is left alone.
        if others.peek().is_some() {
            self.hub.deliver(others);
        }
        first
    }

    pub(super) fn take_frame(
        self: &Arc<Self>,
        state: &mut State<T>,
        number: u32,
        call: Option<CheckedCall>,
        frame: Frame,
    ) -> Result<(), String> {
        // What was withdrawn is not with the worker any more: it is queued, elsewhere or out.
        if frame.header.kind == Kind::Skipped && state.is_with(number, Sent::of(frame.header)) {
            return Err("that it has skipped a task which was not withdrawn".to_owned());
        }
        let Some(worker) = state.workers.get_mut(&number) else { return Ok(()) };
        match frame.header.kind {
            Kind::Waits => {
                state.on_wait(number, frame.header);
                Ok(())
            }
            Kind::GoesOn => {
                worker.wait = Wait::Over;
                Ok(())
            }
            Kind::Part | Kind::ItemFailed => {
                let sent = Sent::of(frame.header);
                let is_first = worker.sent.front() == Some(&sent);
                let is_there = state.is_with(number, sent);
                let is_taken = is_first
                    && state
                        .tasks
                        .get_mut(&sent.number)
                        // One that was killed or cancelled meanwhile is not there any more.
                        .is_none_or(|task| is_there && task.sink.part(frame));
                if is_taken { Ok(()) } else { Err("results that it was not asked for".to_owned()) }
            }
            // An event that is longer than results may be is dropped.
            Kind::Event if frame.unread.is_some() => Ok(()),
            Kind::Event => {
                let (sent, pid) = (Sent::of(frame.header), worker.link.pid());
                let is_there = state.is_with(number, sent);
                let task = state.tasks.get(&sent.number).filter(|_| is_there);
                let trace = task.map(|task| &task.trace);
                let is_taken = trace_relay::take(&frame, pid, trace, &mut state.outbox);
                if is_taken { Ok(()) } else { Err("an event that is none".to_owned()) }
            }
            Kind::Submit => match call {
                Some(Ok(checked)) => self.submitted(state, number, checked, frame),
                Some(Err(unknown)) => Err(format!("a call of what is no function: {unknown}")),
                None => Err("a call without a function".to_owned()),
            },
            Kind::Retires => {
                worker.is_retiring = true;
                let has_started = |sent: &Sent| worker.has_started(sent.slot);
                let keep = worker.sent.iter().take_while(|sent| has_started(sent)).count();
                state.take_back(number, keep);
                Ok(())
            }
            Kind::Context => {
                let request = frame.header.number;
                if worker.offered.iter().any(|(other, _)| *other == request) {
                    return Err("a context that it has sent before".to_owned());
                }
                let content = frame.unread.map_or_else(|| Ok(frame.into_content()), Err);
                worker.offered.push((request, content.map(MapContext::new)));
                Ok(())
            }
            Kind::EndContext => {
                let offered = &mut worker.offered;
                let at = offered.iter().position(|(request, _)| *request == frame.header.number);
                let Some(at) = at else {
                    return Err("the end of a context that it has not sent".to_owned());
                };
                if let (_, Ok(context)) = offered.swap_remove(at) {
                    state.release_context(context);
                }
                Ok(())
            }
            Kind::Withdraw => {
                let calls = &worker.calls;
                let call = calls.iter().find(|(request, _)| *request == frame.header.number);
                let stop = frame.header.detail != 0;
                if let Some((_, task)) = call.copied() {
                    // Otherwise the worker does not wait, or is told by the answer.
                    if !self.cancel_or_stop(state, task, stop) && stop {
                        self.too_late(state, number, frame.header.number);
                    }
                }
                Ok(())
            }
            kind if kind.is_reply() => {
                let Some(sent) = worker.take_replied(frame.header) else {
                    return Err("a reply to a task that it was not given".to_owned());
                };
                self.replied(state, number, sent, frame);
                Ok(())
            }
            _ => Err("a frame that only the pool may send".to_owned()),
        }
    }

    pub(super) fn submitted(
        self: &Arc<Self>,
        state: &mut State<T>,
        worker: u32,
        checked: Checked,
        frame: Frame,
    ) -> Result<(), String> {
        let request = frame.header.number;
        let number = TaskId::next().get();
        let pool = Arc::clone(self);
        // By the order of frames the task that runs, whichever thread of the process has submitted.
        let submitter = state.worker(worker).and_then(|worker| worker.sent.front().copied());
        let suspect = submitter.filter(|_| checked == Checked::Unknown);
        let suspect = suspect.map(|sent| Suspect { worker, task: sent.number });
        // In place of a slot the frame has the kind of the task.
        let has_options = frame.header.slot & HAS_OPTIONS != 0;
        let is_chunk = frame.header.slot & !HAS_OPTIONS == Kind::Chunk as u16;
        let ChunkDetail { context, items } = ChunkDetail::unpack(frame.header.detail);
        let parts = is_chunk.then(|| Parts::of(usize::try_from(items).unwrap_or(usize::MAX)));
        let context = if is_chunk && context > 0 {
            let mut offered = state.worker(worker).into_iter().flat_map(|it| &it.offered);
            let found = offered.find(|(request, _)| *request == context);
            let Some((_, context)) = found else {
                return Err("a chunk with a context that it has not sent".to_owned());
            };
            Some(context.clone()).transpose()
        } else {
            Ok(None)
        };
        let sink = Box::new(Forward { pool, worker, request, suspect, parts });
        let unread = frame.unread.map(|unread| ("an argument", unread));
        let unread = unread.or(context.as_ref().err().map(|unread| ("a context", *unread)));
        if let Some((what, unread)) = unread {
            let reply = without_values(frame.header, Kind::BadArguments, what, unread);
            // Not accepted, so that no counter may change.
            let finish =
                Finish { sink, trace: TaskTrace::none(), reply: Ok(reply), is_counted: true };
            state.done.push(Completion::of(self, finish));
            return Ok(());
        }
        let detail = frame.header.detail;
        let mut content = frame.into_content();
        let options = match has_options {
            false => Options::default(),
            true => options_codec::split_off(&mut content.values.body)
                .ok_or("a call with options that are none")?,
        };
        let room = match (&state.life.phase, self.room()) {
            (Phase::Open, None) => Ok(()),
            // No wait for room: the task that submits holds a worker meanwhile.
            (Phase::Open, Some(room)) => {
                room.take().map_err(|no_room| no_room.into_error(|| Error::ShutDown))
            }
            (Phase::Closed(_), _) => Err(Error::ShutDown),
            (Phase::Broken(cause), _) => Err(Error::BrokenPool(cause.clone())),
        };
        if let Err(error) = room {
            let finish =
                Finish { sink, trace: TaskTrace::none(), reply: Err(error), is_counted: true };
            state.done.push(Completion::of(self, finish));
            return Ok(());
        }
        // While its parent waits, it comes before the rest of the queue. It has its parent's span.
        let parent = submitter.map(|sent| Parent { worker, task: sent.number });
        let submitter = submitter.and_then(|sent| state.tasks.get(&sent.number));
        let trace = submitter.map_or_else(TaskTrace::none, |task| task.trace.shared());
        if let Some(worker) = state.workers.get_mut(&worker) {
            worker.calls.push((request, number));
        }
        let submission = Submission {
            number,
            kind: if is_chunk { Kind::Chunk } else { Kind::Call },
            detail: if is_chunk { items } else { detail },
            content,
            sink,
            options,
            holds_room: self.room.is_some(),
            trace,
            context: context.ok().flatten(),
        };
        self.enqueue(state, submission, parent);
        Ok(())
    }

    /// Ends a task that has not started; asks one that runs to stop, if `stop` says so.
    pub(super) fn cancel_or_stop(
        self: &Arc<Self>,
        state: &mut State<T>,
        number: u64,
        stop: bool,
    ) -> bool {
        match state.withdraw(number, || Error::Cancelled) {
            Some(task) => {
                self.end_withdrawn(state, *task, Error::Cancelled);
                true
            }
            None => {
                if stop {
                    state.ask_to_stop(number);
                }
                false
            }
        }
    }

    /// Tells a worker that a call of its task can't be withdrawn any more.
    pub(super) fn too_late(&self, state: &mut State<T>, worker: u32, request: u64) {
        if let Some(worker) = state.workers.get_mut(&worker) {
            let header = Header { kind: Kind::TooLate, slot: 0, number: request, detail: 0 };
            worker.link.tell(header, &Content::default().into());
        }
        state.flush_later(worker);
    }

    /// Sends a worker the answer to a call of its own, after what came before the reply.
    pub(super) fn answer(&self, call: Forward<T>, reply: Result<Frame, Error>) {
        let Parts { messages, begun, .. } = call.parts.unwrap_or_else(|| Parts::of(0));
        let content = |frame: Frame| Content { code: None, ..frame.into_content() };
        let number = call.request;
        let mut frames: Vec<(Header, Content)> = Vec::with_capacity(messages.len() + 1);
        for (frame, count) in messages {
            if let Some(unread) = frame.unread {
                let failed = reply::unread_item(unread);
                let header = Header { kind: Kind::ItemFailed, slot: 0, number, detail: 1 };
                frames.extend((0..count).map(|_| {
                    (
                        header,
                        Content { code: None, values: codec::encode(&failed).unwrap_or_default() },
                    )
                }));
                continue;
            }
            // What a checkpoint has left comes as a `Value`, like a reply.
            let kind =
                if frame.header.kind == Kind::ItemFailed { Kind::ItemFailed } else { Kind::Part };
            frames.push((Header { kind, slot: 0, number, detail: count as u64 }, content(frame)));
        }
        let (kind, detail, content) = match reply {
            Ok(frame) => {
                let frame = match frame.unread {
                    None => frame,
                    Some(it) => without_values(frame.header, Kind::BadValue, "a result", it),
                };
                (frame.header.kind, frame.header.detail, content(frame))
            }
            Err(error) => {
                let content = Content { code: None, values: error_codec::pack(&error) };
                // The submitter fails the items that were begun, and sends those behind them again.
                (Kind::Failed, begun as u64, content)
            }
        };
        frames.push((Header { kind: Kind::Answer, slot: kind as u16, number, detail }, content));
        let mut state = self.state.lock();
        // The worker is gone, and the task that has submitted the call with it.
        let Some(worker) = state.workers.get_mut(&call.worker) else { return };
        worker.record_answer(call.request);
        for (header, content) in frames {
            worker.link.tell(header, &content.into());
        }
        // Nothing else has changed, so there is no need of `release`.
        let flush = worker.link.to_flush();
        drop(state);
        T::Worker::flush(flush);
    }

    pub(super) fn replied(
        self: &Arc<Self>,
        state: &mut State<T>,
        number: u32,
        sent: Sent,
        frame: Frame,
    ) {
        let State { workers, tasks, metrics, outbox, room_left, .. } = state;
        let Some(worker) = workers.get_mut(&number) else { return };
        // A task that has replied does not wait, also if it has not said that it goes on.
        worker.wait = Wait::Never;
        worker.answered.clear();
        if sent.number != NO_TASK && frame.header.kind != Kind::Skipped {
            let nanos = frame.header.detail;
            worker.record_time(nanos);
            metrics.ran(clock::ticks(Duration::from_nanos(nanos)));
        }
        // The task behind this one is next. A withdrawn one is skipped, by a reply of its own.
        if let Some(next) = worker.sent.front() {
            let place = Place::Sent { worker: number, slot: next.slot };
            // One that was taken back is queued or with another worker.
            if let Some(task) = tasks.get_mut(&next.number).filter(|task| task.place == place) {
                about_to_start(task, metrics, outbox, room_left, &self.config);
                task.let_go(worker, next.slot);
            }
        }
        // A worker that replies has not started in vain.
        state.failed_starts = 0;
        if sent.number == NO_TASK {
            if frame.header.kind != Kind::Value {
                self.break_with(state, unpack_initializer_error(&frame));
            }
            return;
        }
        // A task that was skipped, killed or too slow is out already; its slot is free now.
        if frame.header.kind == Kind::Skipped || !state.is_with(number, sent) {
            return;
        }
        if let Some(task) = state.remove(sent.number) {
            let Task { sink, trace, .. } = *task;
            trace.ran(frame.header.detail);
            state.done.push(Completion::of(
                self,
                Finish { sink, trace, reply: Ok(frame), is_counted: false },
            ));
        }
    }
}
