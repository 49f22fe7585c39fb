//! The pool, as its worker sees it: a socket from which tasks come, and through which the tasks
//! submit calls to the pool that they belong to. In a worker.
//!
//! The main thread reads the socket while it has no task. A task that submits a call waits for an
//! answer while the main thread is busy with that very task; so the first such call starts a thread
//! that reads from then on. The answers are handed on there, which is user code: see [`relay`].

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::error::{BrokenPool, Error};
use crate::fork;
use crate::local::claim::Claim;
use crate::local::control_block::{RETIRES_AFTER_PANIC, SharedControlBlock};
use crate::reactor::relay::{self, Read, Reader, Relay};
use crate::remote::error_codec;
use crate::remote::frame::{Content, Frame, FrameReader, Header, Kind};
use crate::remote::map_context::{ChunkDetail, MapContext};
use crate::remote::message;
use crate::remote::options_codec::{self, HAS_OPTIONS};
use crate::remote::parent_pool::{self, Parent};
use crate::remote::run::Desk;
use crate::remote::submission::{ReplySink, Submission};
use crate::remote::worker::PoolLink;
use crate::shrink::shrink;
use crate::sync::{Condvar, Mutex};
use crate::sys::{self, AsFd, OwnedFd};
use crate::thread_pool::ThreadPoolExecutor;
use crate::trace::TaskTrace;

pub(crate) struct ParentConnection {
    socket: OwnedFd,
    block: SharedControlBlock,
    reader: Mutex<FrameReader>,
    /// Held while a frame is written, since the threads of a task may write as well: the room that it is
    /// put together in.
    writing: Mutex<Vec<u8>>,
    relay: Relay<Answer>,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    /// An answer was read, or it is known that a task could not be withdrawn.
    answered: Condvar,
    /// Threads for maps: their input, and what they send and receive.
    helpers: OnceLock<ThreadPoolExecutor>,
    /// The pool was told that this worker begins with no further task.
    is_retiring: AtomicBool,
    /// The [`fork::generation`] of this process. One that a task forks has the socket too, but must
    /// not use it.
    generation: u32,
}

#[derive(Default)]
struct Inbox {
    /// A thread reads.
    has_reader: bool,
    /// Tasks that the reading thread has read for the main thread.
    tasks: VecDeque<Frame>,
    is_closed: bool,
    /// Tasks that were submitted and have no answer yet, or are about to be told that they were withdrawn.
    calls: HashMap<u64, Call>,
}

struct Call {
    /// `None`: the answer is that it was withdrawn, and the sink is about to be told.
    sink: Option<Box<dyn ReplySink>>,
    /// It could not be withdrawn.
    is_too_late: bool,
}

impl Inbox {
    fn take_call(&mut self, number: u64) -> Option<Box<dyn ReplySink>> {
        let call = self.calls.remove(&number);
        shrink(&mut self.calls);
        call.and_then(|call| call.sink)
    }

    /// Takes the sink of a call that has its answer. One that was withdrawn stays until the sink was told:
    /// a thread that looks for it in between would find its future unfinished.
    fn take_sink(&mut self, number: u64, is_withdrawn: bool) -> Option<Box<dyn ReplySink>> {
        if is_withdrawn {
            return self.calls.get_mut(&number).and_then(|call| call.sink.take());
        }
        self.take_call(number)
    }
}

impl ParentConnection {
    /// Makes this process a worker, whose tasks belong to the pool at the other end of `socket`.
    pub(crate) fn install(socket: OwnedFd, block: SharedControlBlock) -> Arc<Self> {
        let channel = Self::without_pool(socket, block);
        parent_pool::install(Arc::clone(&channel) as Arc<dyn Parent>);
        channel
    }

    /// The connection of a process whose call belongs to no pool.
    pub(crate) fn without_pool(socket: OwnedFd, block: SharedControlBlock) -> Arc<Self> {
        // Before the generation is read: without the watch a fork would go unnoticed.
        fork::watch();
        Self::new(socket, block)
    }

    fn new(socket: OwnedFd, block: SharedControlBlock) -> Arc<Self> {
        Arc::new(Self {
            socket,
            block,
            // The pool is trusted, so a frame may have any length for which there is memory.
            reader: Mutex::new(FrameReader::new(u64::MAX)),
            writing: Mutex::default(),
            relay: Relay::new(),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            answered: Condvar::new(),
            helpers: OnceLock::new(),
            is_retiring: AtomicBool::new(false),
            generation: fork::generation(),
        })
    }

    fn claim(&self, number: u16) -> Claim<'_> {
        Claim::new(&self.block, number)
    }

    fn read(&self, reader: &mut FrameReader) -> io::Result<Option<Frame>> {
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    return match frame.unread {
                        // This worker ends, with the task unstarted: another one may have the
                        // memory.
                        Some(unread)
                            if frame.header.kind != Kind::Answer
                                && unread.is_for_want_of_memory() =>
                        {
                            Err(io::Error::other(unread.describe("arguments")))
                        }
                        _ => Ok(Some(frame)),
                    };
                }
                Ok(None) => {}
                Err(garbage) => return Err(io::Error::other(garbage.to_string())),
            }
            // Blocks, with the reader's lock held: a second thread here gets the frame after this
            // one.
            if reader.fill(self.socket.as_fd())? == 0 {
                return Ok(None);
            }
        }
    }

    fn start_reader(self: &Arc<Self>) -> io::Result<()> {
        // Two threads may submit the first call at once; under the lock one of them starts the
        // thread.
        let mut inbox = self.inbox.lock();
        if !inbox.has_reader {
            relay::start(self)?;
            inbox.has_reader = true;
        }
        Ok(())
    }

    /// Takes an answer or a part to the call that it belongs to; a task is returned.
    fn sort(&self, mut frame: Frame) -> Sorted {
        let number = frame.header.number;
        match frame.header.kind {
            Kind::Answer => {
                // An answer has the reply's kind in place of a slot.
                let kind = u8::try_from(frame.header.slot).ok().and_then(Kind::from_byte);
                frame.header.kind = kind.unwrap_or(Kind::Failed);
                // For a chunk whose worker was lost: the items that it had begun. Other sinks do
                // not use the number.
                let begun = usize::try_from(frame.header.detail).unwrap_or(usize::MAX);
                let reply = match frame.header.kind {
                    Kind::Failed => Err(error_codec::unpack(&frame)),
                    _ => Ok(frame),
                };
                let is_withdrawn = matches!(reply, Err(Error::Cancelled));
                let sink = self.inbox.lock().take_sink(number, is_withdrawn);
                self.answered.notify_all();
                sink.map_or(Sorted::Done, |mut sink| {
                    sink.begun(begun);
                    Sorted::Answer(Answer { number, sink, reply })
                })
            }
            Kind::Part | Kind::ItemFailed => {
                let mut inbox = self.inbox.lock();
                let call = inbox.calls.get_mut(&number);
                if let Some(sink) = call.and_then(|call| call.sink.as_mut()) {
                    sink.part(frame); // the pool has counted
                }
                Sorted::Done
            }
            Kind::TooLate => {
                // The answer may have come first.
                if let Some(call) = self.inbox.lock().calls.get_mut(&number) {
                    call.is_too_late = true;
                }
                self.answered.notify_all();
                Sorted::Done
            }
            _ => Sorted::Task(frame),
        }
    }

    /// Finishes the future of a call.
    fn hand_on(&self, answer: Answer) {
        let Answer { number, sink, reply } = answer;
        let is_withdrawn = matches!(reply, Err(Error::Cancelled));
        sink.complete(reply, &TaskTrace::none(), &|_| ());
        if is_withdrawn {
            self.inbox.lock().take_call(number);
        }
    }
}

impl Desk for ParentConnection {
    fn is_asked_to_stop(&self, slot: u16) -> bool {
        self.claim(slot).is_asked_to_stop()
    }

    fn watch(&self, slot: u16, is_over: &dyn Fn() -> bool) {
        self.claim(slot).watch(is_over);
    }

    fn end_watch(&self, slot: u16) {
        self.claim(slot).end_watch();
    }

    /// Sends a reply after the text that the task wrote to stdout, by Rust or by C, so that the
    /// caller who has the result finds that text also if this process is killed next.
    fn reply(&self, header: Header, content: &Content) -> io::Result<()> {
        let _ = io::stdout().flush();
        sys::flush_c_stdout();
        self.send(header, content)
    }

    fn send(&self, header: Header, content: &Content) -> io::Result<()> {
        let mut room = self.writing.lock();
        message::write(self.socket.as_fd(), header, content, &mut room)
    }

    fn event_level(&self) -> u32 {
        self.block.level.load(Relaxed)
    }

    fn retire(&self) {
        if !self.is_retiring.swap(true, Relaxed) {
            // If the pool is gone, so is this process soon.
            let _ = self.tell(Kind::Retires, 0, 0);
        }
    }

    fn is_retiring(&self) -> bool {
        self.is_retiring.load(Relaxed)
    }

    fn retires_after_panic(&self) -> bool {
        self.block.settings.load(Relaxed) & RETIRES_AFTER_PANIC != 0
    }

    fn checkpoint(&self) -> &[AtomicU64] {
        self.block.area()
    }
}

impl PoolLink for ParentConnection {
    fn start(&self, slot: u16) -> bool {
        self.claim(slot).start()
    }

    fn next_task(&self) -> io::Result<Option<Frame>> {
        loop {
            let mut inbox = self.inbox.lock();
            // The reading thread stays until the end of the socket: once there is one, this thread
            // only takes what it hands over, also after that end.
            while inbox.has_reader {
                if let Some(frame) = inbox.tasks.pop_front() {
                    return Ok(Some(frame));
                }
                if inbox.is_closed {
                    return Ok(None);
                }
                inbox = self.arrived.wait(inbox);
            }
            // Under the inbox's lock, under which a reading thread starts: one that starts from here on
            // reads what comes behind this thread's frame.
            let mut reader = self.reader.lock();
            drop(inbox);
            let Some(frame) = self.read(&mut reader)? else { return Ok(None) };
            let sorted = self.sort(frame);
            // After the sorting: an answer must not overtake the parts before it.
            drop(reader);
            match sorted {
                Sorted::Task(task) => return Ok(Some(task)),
                Sorted::Answer(answer) => self.hand_on(answer),
                Sorted::Done => {}
            }
        }
    }
}

impl Parent for ParentConnection {
    fn submit(self: Arc<Self>, submission: Submission) {
        let Submission { number, kind, mut content, sink, mut detail, options, context, .. } =
            submission;
        if !self.is_here() {
            let error = Error::BrokenPool(BrokenPool::abroad());
            return sink.complete(Err(error), &TaskTrace::none(), &|_| ());
        }
        // Before the frame is sent: the reading thread may have the answer at once.
        {
            let mut inbox = self.inbox.lock();
            if inbox.is_closed {
                drop(inbox);
                return sink.complete(Err(Error::ShutDown), &TaskTrace::none(), &|_| ());
            }
            inbox.calls.insert(number, Call { sink: Some(sink), is_too_late: false });
        }
        if kind == Kind::Chunk {
            detail = ChunkDetail::pack(context.as_deref(), detail);
        }
        if let Some(context) = &context {
            // If that fails, so does the send below.
            let send = || self.send(context.header(), context.payload().borrow());
            context.announce(|| drop(send()));
        }
        let has_options = options_codec::append(&options, &mut content.values.body);
        let slot = kind as u16 | if has_options { HAS_OPTIONS } else { 0 };
        let header = Header { kind: Kind::Submit, slot, number, detail };
        if self.start_reader().and_then(|()| self.send(header, &content)).is_err() {
            let sink = self.inbox.lock().take_call(number);
            if let Some(sink) = sink {
                sink.complete(Err(Error::ShutDown), &TaskTrace::none(), &|_| ());
            }
        }
    }

    fn withdraw(&self, number: u64, stop: bool) -> bool {
        if !self.is_here() || self.tell(Kind::Withdraw, number, u64::from(stop)).is_err() || !stop {
            return false;
        }
        let mut inbox = self.inbox.lock();
        loop {
            match inbox.calls.get(&number) {
                // It has an answer.
                None => return false,
                Some(Call { sink: None, .. }) => return true,
                // `TooLate` comes in place of an answer while the task runs. The end of the socket is
                // the end of all answers.
                Some(call) if call.is_too_late || inbox.is_closed => return false,
                Some(_) => inbox = self.answered.wait(inbox),
            }
        }
    }

    fn end_context(&self, context: &MapContext) {
        if self.is_here() && context.is_announced() {
            // An error means that the pool is gone.
            let _ = self.tell(Kind::EndContext, context.number(), 0);
        }
    }

    fn helpers(&self) -> &ThreadPoolExecutor {
        self.helpers.get_or_init(ThreadPoolExecutor::internal)
    }

    fn max_workers(&self) -> usize {
        self.block.max_workers.load(Relaxed) as usize
    }

    fn is_here(&self) -> bool {
        self.generation == fork::generation()
    }
}

/// A frame that was read, by what is still to be done with it.
enum Sorted {
    Task(Frame),
    Answer(Answer),
    Done,
}

/// The answer to a call of a task of this worker.
pub(crate) struct Answer {
    number: u64,
    sink: Box<dyn ReplySink>,
    reply: Result<Frame, Error>,
}

impl Reader for ParentConnection {
    type Job = Answer;
    type Own = ();

    const THREAD: &'static str = "worker-io";

    fn relay(&self) -> &Relay<Answer> {
        &self.relay
    }

    fn read(&self, (): &mut ()) -> Read<Answer> {
        let read = Self::read(self, &mut self.reader.lock());
        let Ok(Some(frame)) = read else {
            // The end, or an error, which is the same to this process: the main thread returns once
            // it has done the tasks that were read before.
            let calls = {
                let mut inbox = self.inbox.lock();
                inbox.is_closed = true;
                std::mem::take(&mut inbox.calls)
            };
            self.arrived.notify_one();
            self.answered.notify_all();
            // No answer comes any more: what still waits, such as the destructor of a map's context,
            // must not keep this process.
            for sink in calls.into_values().filter_map(|call| call.sink) {
                sink.complete(Err(Error::ShutDown), &TaskTrace::none(), &|_| ());
            }
            return Read::End;
        };
        match self.sort(frame) {
            Sorted::Task(frame) => {
                self.inbox.lock().tasks.push_back(frame);
                // Only the main thread waits for tasks.
                self.arrived.notify_one();
                Read::Nothing
            }
            Sorted::Answer(answer) => Read::Job(answer),
            Sorted::Done => Read::Nothing,
        }
    }

    fn run(&self, answer: Answer) {
        self.hand_on(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::job;
    use crate::remote::call::pack;
    use crate::remote::message;
    use crate::remote::parent_pool::ParentPool;
    use crate::sys::socket;

    fn call() -> job::Call<(), ()> {
        job::Call::new(|()| (), ())
    }

    /// A connection, and the pool's end of it.
    fn connection() -> (Arc<ParentConnection>, OwnedFd) {
        let (pool, worker) = socket::pair().unwrap();
        let (block, _) = SharedControlBlock::create().unwrap();
        (ParentConnection::new(worker, block), pool)
    }

    /// As if the test was the thread that reads.
    fn read_here(connection: &ParentConnection) {
        connection.inbox.lock().has_reader = true;
    }

    fn answer(number: u64, kind: Kind, values: Vec<u8>) -> Frame {
        let header = Header { kind: Kind::Answer, slot: kind as u16, number, detail: 0 };
        Frame::of(header, values)
    }

    #[test]
    fn a_cancelled_call_is_cancelled_before_its_future_is_told() {
        let (connection, _pool) = connection();
        read_here(&connection);
        let future = ParentPool::of(connection.clone()).submit(call());
        let values = error_codec::pack(&Error::Cancelled).body;
        let sorted = connection.sort(answer(future.id().get(), Kind::Failed, values));
        let Sorted::Answer(told) = sorted else { panic!("it is an answer") };
        assert!(future.cancel());
        connection.hand_on(told);
        assert!(matches!(future.result(), Err(Error::Cancelled)));
        assert!(connection.inbox.lock().calls.is_empty());
    }

    #[test]
    fn a_call_that_could_not_be_cancelled_leaves_nothing_behind() {
        let (connection, _pool) = connection();
        read_here(&connection);
        let future = ParentPool::of(connection.clone()).submit(call());
        let number = future.id().get();
        let too_late = || {
            let header = Header { kind: Kind::TooLate, slot: 0, number, detail: 0 };
            assert!(matches!(connection.sort(Frame::of(header, Vec::new())), Sorted::Done));
        };
        too_late();
        assert!(!future.cancel());
        let values = codec::encode(&()).unwrap().body;
        let sorted = connection.sort(answer(number, Kind::Value, values));
        let Sorted::Answer(told) = sorted else { panic!("it is an answer") };
        assert!(!future.cancel(), "its value is on the way");
        too_late();
        assert!(connection.inbox.lock().calls.is_empty());
        connection.hand_on(told);
        future.result().unwrap();
    }

    /// The thread that submits starts the one that reads.
    #[test]
    fn tasks_keep_their_order_while_a_thread_submits_the_first_call() {
        for _ in 0..200 {
            let (connection, pool) = connection();
            let task = |number| Header { kind: Kind::Call, slot: 0, number, detail: 0 };
            let submitter = Arc::clone(&connection);
            let submits = std::thread::spawn(move || {
                drop(ParentPool::of(submitter).submit(call()));
            });
            for number in 1..=2 {
                let content = pack(call()).unwrap();
                message::write(pool.as_fd(), task(number), &content, &mut Vec::new()).unwrap();
            }
            for number in 1..=2 {
                assert_eq!(connection.next_task().unwrap().unwrap().header.number, number);
            }
            submits.join().unwrap();
            drop(pool);
            // The thread that reads ends with that. A call without an answer would keep the connection.
            while !connection.inbox.lock().is_closed {
                std::thread::yield_now();
            }
            let calls = std::mem::take(&mut connection.inbox.lock().calls);
            drop(calls);
        }
    }
}
