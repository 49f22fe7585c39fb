//! A worker process as its owner reaches it: its socket, its control block, its process. In the owner's
//! process, under the owner's lock.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::time::Duration;

use super::UNFIT;
use super::claim::{self, Claim};
use super::control_block::SharedControlBlock;
use super::family::Family;
use super::outgoing::Outgoing;
use super::start::zygote::{Exit, WorkerSettings, Zygote};
use crate::error::{HowEnded, LossCause, WorkerLost};
use crate::function::NamedCall;
use crate::reactor::Registration;
use crate::remote::frame::{Frame, FrameReader, Header};
use crate::remote::message::{self, DESCRIPTORS_RETRY, Payload};
use crate::remote::scheduler::CheckedCall;
use crate::remote::scheduler::transport::{EndBy, Hub, Loss, Progress, Withdrawn, WorkerLink};
use crate::remote::slots::SLOTS;
use crate::remote::trace_relay;
use crate::sync::Mutex;
use crate::sys::{AsFd, ExitStatus, OwnedFd, PidFd, Signal, explain, socket};
use crate::timer::Timer;

/// Longest time from the end of a worker's socket to the report of its exit. After that it is
/// killed, since it may have closed the socket itself and live on.
pub(crate) const DEATH_LIMIT: Duration = Duration::from_millis(500);

/// Longest time from that kill to the report: as long as a machine with much else to do may take.
pub(crate) const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// The connection to a worker, used without the owner's lock: a system call under that lock would
/// make other threads wait, above all if the call wakes a process that takes this CPU.
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) block: SharedControlBlock,
    // Uncontended: one thread at a time has the turn to read for all pools.
    incoming: Mutex<Incoming>,
    outgoing: Outgoing,
    registration: Registration,
    /// The worker's number with the reactor.
    number: u32,
    /// Flushes the line again, for which too many descriptors were under way.
    retry: Mutex<Option<Timer>>,
}

/// The frames that come from a worker.
pub(crate) struct Incoming {
    reader: FrameReader,
    /// A list without entries, and the room that the last ones took.
    room: Vec<ReceivedFrame>,
}

/// A frame, with what its call was found to be.
pub(crate) type ReceivedFrame = (Option<CheckedCall>, Frame);

/// Frames that were read from a worker, and then perhaps its end, or garbage.
pub(crate) struct Received {
    pub(crate) frames: Vec<ReceivedFrame>,
    pub(crate) is_end: bool,
    pub(crate) garbage: Option<String>,
}

impl Connection {
    /// Receives what a worker has sent: what there is, or, if it is dead, to the last byte.
    pub(crate) fn receive(&self, to_the_end: bool) -> Received {
        let mut incoming = self.incoming.lock();
        let Incoming { reader, room } = &mut *incoming;
        let mut frames = std::mem::take(room);
        loop {
            let is_end = match reader.fill(self.socket.as_fd()) {
                Ok(0) => true,
                Ok(_) => false,
                // Of a dead worker this is all: a process that has inherited its socket may keep it
                // open.
                Err(error) if error.kind() == ErrorKind::WouldBlock => to_the_end,
                Err(_gone) => true,
            };
            let garbage = loop {
                match reader.next() {
                    // Checked without the lock: the check walks through the images of this process.
                    Ok(Some(frame)) => frames.push((frame.code.map(NamedCall::check), frame)),
                    Ok(None) => break None,
                    Err(garbage) => break Some(garbage.to_string()),
                }
            };
            // One read for each report of the poller, so that one busy worker does not hold up the
            // others.
            if is_end || garbage.is_some() || !to_the_end {
                return Received { frames, is_end, garbage };
            }
        }
    }

    /// Keeps the room that received frames have taken, for the next ones.
    pub(crate) fn reuse(&self, frames: Vec<ReceivedFrame>) {
        // As many as a worker may have tasks; a list that has grown beyond is not kept.
        if frames.capacity() <= 2 * SLOTS {
            self.incoming.lock().room = frames;
        }
    }

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

/// The settings of a worker that the description of its loss takes into account.
pub(crate) struct Limits {
    /// The most private memory that it may use, in bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) keeps_stderr: bool,
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
    /// Asks for a worker, with these settings in its control block.
    pub(crate) fn ask_for(
        settings: &WorkerSettings,
        zygote: &Zygote,
        registration: &Registration,
        max_result_size: u64,
        set_up: impl FnOnce(&SharedControlBlock),
    ) -> io::Result<Self> {
        let (ours, theirs) = socket::pair().map_err(explain("its socket can't be made"))?;
        let (block, memory) = SharedControlBlock::create()
            .map_err(explain("the memory that it shares with this process can't be made"))?;
        set_up(&block);
        zygote
            .spawn(settings, theirs, memory.as_fd())
            .map_err(explain("the process that starts workers can't be asked for it"))?;
        // If this fails, `ours` is closed, and the worker that was asked for ends when it reads
        // that. It reports under a number that no worker has.
        let (number, registration) = (settings.number, registration.clone());
        let watched = registration.add(ours.as_fd(), number);
        watched.map_err(explain("its socket can't be waited for"))?;
        Ok(Self::new(ours, block, settings.family, registration, number, max_result_size))
    }

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

    /// Records that the zygote has ended, and this worker with it; `how` says how that was. Of what its
    /// tasks had started, its group is killed here, and its family was, unless that has failed.
    pub(crate) fn on_zygote_lost(&mut self, how: &str, family_killed: &io::Result<()>) {
        self.is_orphaned = true;
        let fault = self.fault.take().unwrap_or_else(|| LossCause::Other(format!("since {how}")));
        // A worker that has not announced its process has run nothing. Of one that was reaped since,
        // by who has adopted it, what is left is found by family.
        let killed = self.process.as_ref().map_or(Ok(()), |(_, process)| process.kill_group());
        let killed = killed.as_ref().and(family_killed.as_ref());
        self.fault = Some(match killed {
            Ok(_) => fault,
            Err(error) => LossCause::Other(format!(
                "{fault}; what its tasks had started could not be killed: {error}"
            )),
        });
    }

    /// Describes how the worker was lost. `None`: its end was not reported.
    pub(crate) fn loss(&self, exit: Option<&Exit>, limits: &Limits) -> Loss {
        let failed =
            |exit: &Exit| ![ExitStatus::KILLED, ExitStatus::Code(UNFIT)].contains(&exit.status);
        Loss {
            lost: self.describe(exit, limits),
            has_failed: exit.is_some_and(failed),
            is_orphaned: self.is_orphaned,
        }
    }

    fn describe(&self, exit: Option<&Exit>, limits: &Limits) -> WorkerLost {
        let stderr = exit.map(|exit| String::from_utf8_lossy(&exit.stderr_tail).into_owned());
        let stderr = stderr.unwrap_or_default();
        let HowEnded { signal, exit_code } = ExitStatus::describe(exit.map(|exit| exit.status));
        // The owner's own reason counts first; what follows are signs, the surest first.
        let cause = self.fault.clone().or_else(|| {
            if signal.is_some_and(|signal| self.connection.block.is_stack_overflow(signal)) {
                return Some(LossCause::StackOverflow);
            }
            if exit.is_some_and(|exit| exit.out_of_memory) {
                return Some(LossCause::OutOfMemory);
            }
            // It may as well have been dead for long, and the notice late: then this is not the signal.
            if self.is_overdue && exit.is_none_or(|exit| exit.status == ExitStatus::KILLED) {
                let text = "probably since it had closed its socket and lived on";
                return Some(LossCause::Other(text.to_owned()));
            }
            // An allocation that fails is an abort like any other. What Rust's standard library says
            // before it is known only where stderr is kept.
            let aborted = exit.is_some_and(|exit| exit.status == ExitStatus::ABORTED);
            let limit = limits.memory.filter(|_| aborted)?;
            if limits.keeps_stderr && !stderr.contains("memory allocation of") {
                return None;
            }
            Some(LossCause::MemoryLimit { limit, used: None, is_certain: limits.keeps_stderr })
        });
        let pid = exit.map(|exit| exit.pid).or(self.pid()).unwrap_or(0);
        let cpu_time = exit.map(|exit| exit.usage.cpu_time);
        let peak_memory = exit.map(|exit| exit.usage.peak_memory);
        let earlier = Vec::new();
        WorkerLost { pid, signal, exit_code, cause, cpu_time, peak_memory, stderr, earlier }
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
