//! The pool, as its worker sees it: a socket from which tasks come, and through which the tasks
//! submit calls to the pool that they belong to.
//!
//! The main thread reads the socket while it has no task. A task that submits a call waits for an
//! answer while the main thread is busy with that very task; so the first such call starts a thread
//! that reads from then on. The answers are handed on there, which is user code: see [`relay`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::error::{BrokenPool, Error};
use crate::fork;
use crate::local::claim::Claim;
use crate::local::control_block::SharedControlBlock;
use crate::reactor::relay::{self, Read, Reader, Relay};
use crate::remote::error_codec;
use crate::remote::frame::{self, Content, Frame, FrameReader, Header, Kind};
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
    /// Held while a frame is written, since the threads of a task may write as well.
    writing: Mutex<()>,
    relay: Relay<Answer>,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    /// An answer has come, or it is known that a task could not be withdrawn.
    answered: Condvar,
    /// Threads for maps: their input, and what they send and receive.
    helpers: OnceLock<ThreadPoolExecutor>,
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
    /// Tasks that were submitted and have no answer yet.
    calls: HashMap<u64, Box<dyn ReplySink>>,
    /// Tasks that could not be withdrawn.
    too_late: HashSet<u64>,
}

impl Inbox {
    fn take_call(&mut self, number: u64) -> Option<Box<dyn ReplySink>> {
        let complete = self.calls.remove(&number);
        shrink(&mut self.calls);
        complete
    }
}

impl ParentConnection {
    /// Makes this process a worker, whose tasks belong to the pool at the other end of `socket`.
    pub(crate) fn install(socket: OwnedFd, block: SharedControlBlock) -> Arc<Self> {
        // Before the generation below is read: without the watch a fork would go unnoticed.
        fork::watch();
        let channel = Arc::new(Self {
            socket,
            block,
            // The pool is trusted, so a frame may have any length for which there is memory.
            reader: Mutex::new(FrameReader::new(u64::MAX)),
            writing: Mutex::new(()),
            relay: Relay::new(),
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            answered: Condvar::new(),
            helpers: OnceLock::new(),
            generation: fork::generation(),
        });
        parent_pool::install(Arc::clone(&channel) as Arc<dyn Parent>);
        channel
    }

    fn claim(&self, number: u16) -> Claim<'_> {
        Claim::new(&self.block, number)
    }

    fn read(&self) -> io::Result<Option<Frame>> {
        let mut reader = self.reader.lock();
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    return match frame.unread {
                        // This worker ends, with the task unstarted: another one may have the
                        // memory.
                        Some(unread) if frame.header.kind != Kind::Answer => {
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
                let sink = self.inbox.lock().take_call(number);
                // An answer has the reply's kind in place of a slot.
                let kind = u8::try_from(frame.header.slot).ok().and_then(Kind::from_byte);
                frame.header.kind = kind.unwrap_or(Kind::Failed);
                // For a chunk whose worker was lost: the items that it had begun. Other sinks do
                // not use the number.
                let begun = usize::try_from(frame.header.detail).unwrap_or(usize::MAX);
                sink.map_or(Sorted::Done, |mut sink| {
                    sink.begun(begun);
                    Sorted::Answer(Answer { sink, frame })
                })
            }
            Kind::Part | Kind::ItemFailed => {
                if let Some(sink) = self.inbox.lock().calls.get_mut(&number) {
                    sink.part(frame); // the pool has counted
                }
                Sorted::Done
            }
            Kind::TooLate => {
                self.inbox.lock().too_late.insert(number);
                self.answered.notify_all();
                Sorted::Done
            }
            _ => Sorted::Task(frame),
        }
    }

    /// Finishes the future of a call, and wakes the threads that wait in `withdraw`.
    fn hand_on(&self, answer: Answer) {
        let Answer { sink, frame } = answer;
        let reply = match frame.header.kind {
            Kind::Failed => Err(error_codec::unpack(&frame)),
            _ => Ok(frame),
        };
        sink.complete(reply, &TaskTrace::none(), &|_| ());
        self.answered.notify_all();
    }
}

impl Desk for ParentConnection {
    fn is_asked_to_stop(&self, slot: u16) -> bool {
        self.claim(slot).is_asked_to_stop()
    }

    /// Sends a reply after the text that the task wrote to stdout, by Rust or by C, so that the
    /// caller who has the result finds that text also if this process is killed next.
    fn reply(&self, header: Header, content: &Content) -> io::Result<()> {
        let _ = io::stdout().flush();
        sys::flush_c_stdout();
        self.send(header, content)
    }

    fn send(&self, header: Header, content: &Content) -> io::Result<()> {
        let _writing = self.writing.lock();
        frame::write(self.socket.as_fd(), header, content)
    }

    fn event_level(&self) -> u32 {
        self.block.level.load(Relaxed)
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
            drop(inbox);
            let Some(frame) = self.read()? else { return Ok(None) };
            match self.sort(frame) {
                Sorted::Task(task) => return Ok(Some(task)),
                Sorted::Answer(answer) => self.hand_on(answer),
                Sorted::Done => {}
            }
        }
    }
}

impl Parent for ParentConnection {
    fn submit(self: Arc<Self>, submission: Submission) {
        let Submission { number, kind, content, sink, detail, .. } = submission;
        if !self.is_here() {
            let error = Error::BrokenPool(BrokenPool::abroad());
            return sink.complete(Err(error), &TaskTrace::none(), &|_| ());
        }
        // Before the frame is sent: the reading thread may have the answer at once.
        self.inbox.lock().calls.insert(number, sink);
        let header = Header { kind: Kind::Submit, slot: kind as u16, number, detail };
        if self.start_reader().and_then(|()| self.send(header, &content)).is_err() {
            let sink = self.inbox.lock().take_call(number);
            if let Some(sink) = sink {
                sink.complete(Err(Error::ShutDown), &TaskTrace::none(), &|_| ());
            }
        }
    }

    fn withdraw(&self, number: u64, stop: bool) {
        if !self.is_here() || self.tell(Kind::Withdraw, number, u64::from(stop)).is_err() || !stop {
            return;
        }
        let mut inbox = self.inbox.lock();
        // An answer takes the call out of `calls`; `TooLate` comes in place of one while the task
        // runs, and is taken out here. The end of the socket is the end of all answers.
        while !inbox.is_closed
            && inbox.calls.contains_key(&number)
            && !inbox.too_late.remove(&number)
        {
            inbox = self.answered.wait(inbox);
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
    sink: Box<dyn ReplySink>,
    frame: Frame,
}

impl Reader for ParentConnection {
    type Job = Answer;
    type Own = ();

    const THREAD: &'static str = "worker-io";

    fn relay(&self) -> &Relay<Answer> {
        &self.relay
    }

    fn read(&self, (): &mut ()) -> Read<Answer> {
        let Ok(Some(frame)) = Self::read(self) else {
            // The end, or an error, which is the same to this process: the main thread returns once
            // it has done the tasks that were read before.
            self.inbox.lock().is_closed = true;
            self.arrived.notify_one();
            self.answered.notify_all();
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
