//! A worker process as its owner reaches it: its socket, its control block, its process. In the owner's
//! process, under the owner's lock.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::time::Duration;

use super::claim::{self, Claim};
use super::control_block::SharedControlBlock;
use super::family::Family;
use super::outgoing::Outgoing;
use super::start::zygote::Zygote;
use crate::error::LossCause;
use crate::reactor::Registration;
use crate::remote::frame::{Frame, FrameReader, Header};
use crate::remote::message::{self, DESCRIPTORS_RETRY, Payload};
use crate::remote::scheduler::CheckedCall;
use crate::remote::scheduler::transport::{EndBy, Hub, Progress, Withdrawn, WorkerLink};
use crate::remote::trace_relay;
use crate::sync::Mutex;
use crate::sys::{AsFd, OwnedFd, PidFd, Signal, socket};
use crate::timer::Timer;

/// The connection to a worker, used without the owner's lock: a system call under that lock would
/// make other threads wait, above all if the call wakes a process that takes this CPU.
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) block: SharedControlBlock,
    // Uncontended: one thread at a time has the turn to read for all pools.
    pub(crate) incoming: Mutex<Incoming>,
    outgoing: Outgoing,
    registration: Registration,
    /// The worker's number with the reactor.
    number: u32,
    /// Flushes the line again, for which too many descriptors were under way.
    retry: Mutex<Option<Timer>>,
}

/// The frames that come from a worker.
pub(crate) struct Incoming {
    pub(crate) reader: FrameReader,
    /// A list without entries, and the room that the last ones took.
    pub(crate) room: Vec<(Option<CheckedCall>, Frame)>,
}

impl Connection {
    /// Sends what is in line, as far as the socket takes it.
    pub(crate) fn flush(self: &Arc<Self>) {
        /// After any other error the worker may live, as where the system has no memory for the send. An end
        /// is what both sides handle. A broken pipe is one, or follows a dismissal.
        const EXPECTED: [ErrorKind; 3] =
            [ErrorKind::WouldBlock, ErrorKind::ResourceBusy, ErrorKind::BrokenPipe];
        let fd = self.socket.as_fd();
        // Under the line's lock alone; several threads may come here at once.
        self.outgoing.flush(
            |parts, descriptors| {
                message::send(fd, parts, descriptors).inspect_err(|error| {
                    if !EXPECTED.contains(&error.kind()) {
                        let _ = socket::end(fd);
                    }
                })
            },
            |is_stuck| {
                // An error means that the worker is gone, and its socket not watched any more.
                let _ = self.registration.set_writable(fd, self.number, is_stuck);
            },
            || {
                let connection = Arc::clone(self);
                let timer = self
                    .registration
                    .timer(DESCRIPTORS_RETRY, Box::new(move || connection.flush()));
                *self.retry.lock() = Some(timer);
            },
        );
    }
}

/// A worker process, from the moment in which it is asked for.
pub(crate) struct WorkerHandle {
    pub(crate) connection: Arc<Connection>,
    /// The process's number and descriptor, once the worker has announced them.
    pub(crate) process: Option<(u32, PidFd)>,
    /// The process, and all that its tasks start.
    pub(crate) family: Family,
    /// The signal that the owner has sent; or sends as soon as the process is known.
    ended_by: Option<Signal>,
    /// The socket had been closed beyond the owner's limit without an exit report, so SIGKILL was
    /// sent.
    pub(crate) is_overdue: bool,
    /// The zygote that forked it is dead, so no exit report will come.
    pub(crate) is_orphaned: bool,
    /// The reason for its end, as far as the owner knows one, for the error of its tasks.
    pub(crate) fault: Option<LossCause>,
    /// Fires if the end is not reported in time.
    pub(crate) end_timer: Option<Timer>,
}

impl WorkerHandle {
    /// A worker whose number with the reactor is `number`.
    pub(crate) fn new(
        socket: OwnedFd,
        block: SharedControlBlock,
        family: Family,
        registration: Registration,
        number: u32,
        max_result_size: u64,
    ) -> Self {
        let reader = FrameReader::new(max_result_size);
        let incoming = Mutex::new(Incoming { reader, room: Vec::new() });
        let outgoing = Outgoing::new();
        let retry = Mutex::new(None);
        let connection =
            Connection { socket, block, incoming, outgoing, registration, number, retry };
        Self {
            connection: Arc::new(connection),
            process: None,
            family,
            ended_by: None,
            is_overdue: false,
            is_orphaned: false,
            fault: None,
            end_timer: None,
        }
    }

    fn claim(&self, slot: u16) -> Claim<'_> {
        Claim::new(&self.connection.block, slot)
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.ended_by == Some(Signal::Kill)
    }

    /// Records the process, and sends the signal that was requested before the process was known.
    pub(crate) fn on_spawned(&mut self, pid: u32, process: PidFd, zygote: Option<&Zygote>) {
        self.process = Some((pid, process));
        if let Some(signal) = self.ended_by {
            self.signal(signal, zygote);
        }
    }

    pub(crate) fn end(&mut self, how: EndBy, zygote: Option<&Zygote>) {
        let signal = match how {
            EndBy::Dismissal => {
                // Half a close: the worker reads what was sent before and then the end, and its
                // replies still arrive. An error means that it has ended by itself.
                let _ = socket::finish_writing(self.connection.socket.as_fd());
                return;
            }
            EndBy::Termination => Signal::Terminate,
            EndBy::Kill => Signal::Kill,
        };
        // A kill is final: a later SIGTERM does not replace the one that `on_spawned` has still to
        // send.
        if !self.is_killed() {
            self.ended_by = Some(signal);
        }
        self.signal(signal, zygote);
    }

    /// Signals the process, if it is known. Where this process may not do that, as after a
    /// `setuid`, the zygote does, which has the worker's rights.
    pub(crate) fn signal(&self, signal: Signal, zygote: Option<&Zygote>) {
        let Some((pid, process)) = &self.process else { return };
        // Any other error means that the process has ended by itself.
        let sent = process.signal(signal);
        if sent.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
            // Without a zygote, or with one that has ended, the kernel kills the worker for the
            // death of its parent.
            let _ = zygote.map(|zygote| zygote.signal(*pid, signal));
        }
    }
}

impl WorkerLink for WorkerHandle {
    type Flush = Arc<Connection>;

    fn send(&mut self, header: Header, content: &Payload) {
        trace_relay::note_level(&self.connection.block.level);
        // Before the frame is in line: from then on any thread that flushes the line may send it,
        // and the worker start the task.
        self.claim(header.slot).issue();
        self.tell(header, content);
    }

    fn tell(&mut self, header: Header, content: &Payload) {
        self.connection.outgoing.push(header, content);
    }

    fn to_flush(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    fn flush(connection: Arc<Connection>) {
        connection.flush();
    }

    fn withdraw(&self, slot: u16) -> Withdrawn {
        if self.claim(slot).withdraw() { Withdrawn::Yes } else { Withdrawn::TooLate }
    }

    fn ask_to_stop(&self, slot: u16) {
        self.claim(slot).ask_to_stop();
    }

    fn is_asked_to_stop(&self, slot: u16) -> bool {
        self.claim(slot).is_asked_to_stop()
    }

    fn progress(&self, slot: u16) -> Progress {
        let claim = self.claim(slot);
        if !claim.has_started() {
            return Progress::NotStarted;
        }
        // A start later than now is a spoilt control block; `MAX` exceeds every time limit, so the
        // task ends at its own.
        let elapsed = |start| claim::now().checked_sub(start).unwrap_or(Duration::MAX);
        Progress::Started(claim.started_at().map(elapsed))
    }

    fn checkpoint(&self) -> &[AtomicU64] {
        self.connection.block.area()
    }

    /// Returns the announced number; before that the one in the control block, to which a task can
    /// write. Nothing is signalled by the latter.
    fn pid(&self) -> Option<u32> {
        let told = self.process.as_ref().map(|(pid, _)| *pid);
        told.or(Some(self.connection.block.pid.load(Acquire)).filter(|pid| *pid != 0))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::IoSlice;

    use super::*;
    use crate::codec::handle::Descriptor;
    use crate::codec::{self, Encoded};
    use crate::reactor::{Reactor, Ready, UserCode};
    use crate::remote::frame::{Content, Kind};
    use crate::sys::{self, control};

    struct Owner;

    impl Ready for Owner {
        fn on_ready(self: Arc<Self>, _: u32, _: bool, _: bool) -> Option<Box<dyn UserCode>> {
            None
        }
    }

    #[test]
    fn the_connection_to_a_worker_that_lives_ends_if_nothing_can_be_sent() {
        // Refuses a message that is longer than its buffer.
        let (ours, theirs) = control::pair().unwrap();
        let (block, _) = SharedControlBlock::create().unwrap();
        let mut registration = None;
        Reactor::join(|joined| {
            registration = Some(joined);
            Arc::new(Owner)
        })
        .unwrap();
        let registration = registration.unwrap();
        let mut worker = WorkerHandle::new(ours, block, Family(0), registration.clone(), 0, 0);
        let values = codec::encode(&vec![1_u8; 1 << 23]).unwrap();
        let header = Header { kind: Kind::Answer, slot: 0, number: 1, detail: 0 };
        worker.tell(header, &Content { code: None, values }.into());
        WorkerHandle::flush(worker.to_flush());
        for end in [&worker.connection.socket, &theirs] {
            assert_eq!(socket::receive(end.as_fd(), &mut [0; 8]).unwrap(), 0);
        }
        registration.leave();
    }

    /// W-11.
    #[test]
    fn a_frame_begins_a_call_of_its_own_if_it_has_descriptors_and_waits_if_they_are_too_many() {
        let outgoing = Outgoing::new();
        let descriptor = Descriptor::new(sys::memory_file(0).unwrap().into());
        for count in [0, 2, 0, 1] {
            let descriptors = vec![Arc::clone(&descriptor); count];
            let values = Encoded { body: vec![7; 100], descriptors, ..Encoded::default() };
            let header = Header { kind: Kind::Value, slot: 0, number: 1, detail: 0 };
            outgoing.push(header, &Content { code: None, values }.into());
        }
        let (sent, is_busy, retries) = (RefCell::new(Vec::new()), Cell::new(true), Cell::new(0));
        let send = |parts: &[IoSlice<'_>], descriptors: &[Descriptor]| {
            if !descriptors.is_empty() && is_busy.get() {
                return Err(ErrorKind::ResourceBusy.into());
            }
            let length = parts.iter().map(|part| part.len()).sum::<usize>();
            sent.borrow_mut().push((descriptors.len(), length));
            Ok(length)
        };
        let flush =
            || outgoing.flush(send, |_| panic!("it waits"), || retries.set(retries.get() + 1));
        flush();
        flush();
        assert_eq!((&sent.borrow()[..], retries.get()), (&[(0, 132)][..], 2));
        is_busy.set(false);
        flush();
        // What follows goes along, up to the next one with descriptors.
        assert_eq!(sent.borrow()[1..], [(2, 264), (1, 132)]);
        assert_eq!(retries.get(), 2);
    }
}
