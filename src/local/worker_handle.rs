//! A worker as the pool sees it: its socket, its control block, and what it was sent.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use super::control_block::SharedControlBlock;
use super::family::Family;
use crate::local::claim::{Claim, FreeSlots};
use crate::local::start::zygote::Zygote;
use crate::remote::frame::{self, Content, FrameReader, Header, Message};
use crate::remote::trace_relay;
use crate::shrink::shrink;
use crate::sync::Mutex;
use crate::sys::{AsFd, OwnedFd, PidFd, Signal, socket};
use crate::timer::Timer;

/// What is sent ahead is to keep a worker busy for about this long: the time in which the pool
/// gets round to sending more.
const AHEAD: Duration = Duration::from_micros(200);

/// A task that takes longer than this is not sent ahead: others may come to it sooner, and what a
/// worker loses between two such tasks is nothing.
const SLOW: Duration = Duration::from_millis(2);

/// The number of a frame that is no task: the initializer's.
pub(crate) const NO_TASK: u64 = 0;

/// What is used without the pool's lock. A system call under that lock would let others wait for
/// it; above all where the call wakes somebody who takes this CPU.
pub(crate) struct Link {
    pub(crate) socket: OwnedFd,
    pub(crate) block: SharedControlBlock,
    pub(crate) reader: Mutex<FrameReader>,
    /// Frames are put in line under the pool's lock, so their order is that of its decisions.
    outgoing: Mutex<Line>,
}

/// Frames that wait for room in the socket.
#[derive(Default)]
struct Line {
    frames: VecDeque<Message<Arc<Content>>>,
    /// The poller tells when there is room.
    is_stuck: bool,
}

impl Link {
    /// Sends what is in line, as far as the socket takes it. `look_for_room` has the poller tell
    /// when there is more room, or not any more.
    ///
    /// An error means that the worker is gone, which the poller will tell as well.
    pub(crate) fn flush(&self, look_for_room: impl FnOnce(bool)) {
        const MOST_PARTS: usize = 256;
        let mut line = self.outgoing.lock();
        let mut is_stuck = false;
        while !line.frames.is_empty() && !is_stuck {
            let mut parts: Vec<IoSlice<'_>> = Vec::new();
            for frame in &line.frames {
                frame.add_to(&mut parts);
                if parts.len() >= MOST_PARTS {
                    break;
                }
            }
            match socket::send(self.socket.as_fd(), &parts) {
                Ok(count) => line.passed(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => is_stuck = true,
                Err(_gone) => line.frames.clear(),
            }
        }
        if std::mem::replace(&mut line.is_stuck, is_stuck) != is_stuck {
            look_for_room(is_stuck); // still under the lock, so that the last word is right
        }
    }
}

impl Line {
    fn passed(&mut self, mut count: usize) {
        while let Some(frame) = self.frames.front_mut() {
            let missing = frame.missing();
            if count < missing {
                return frame.passed(count);
            }
            count -= missing;
            self.frames.pop_front();
            shrink(&mut self.frames);
        }
    }
}

/// A worker, under the pool's lock.
pub(crate) struct Worker {
    pub(crate) link: Arc<Link>,
    pub(crate) process: Option<(u32, PidFd)>,
    /// Try of the pool to start workers that this one was asked for in.
    pub(crate) of_try: u32,
    /// The process, and all that its tasks start.
    pub(crate) family: Family,
    /// What it was sent and has not replied to, in order.
    pub(crate) sent: VecDeque<Sent>,
    free_slots: FreeSlots,
    /// How long a task took lately.
    task_time: Option<Duration>,
    /// How many tasks it may still be sent.
    pub(crate) tasks_left: Option<usize>,
    pub(crate) replies: u64,
    /// How many replies there were when somebody looked, and when that was.
    last_look: Option<(u64, Instant)>,
    pub(crate) life: Life,
    /// Its task waits for another one.
    pub(crate) is_blocked: bool,
    /// A signal has stopped its process, and none has continued it.
    pub(crate) is_stopped: bool,
    /// To be killed as soon as its process is known.
    pub(crate) is_condemned: bool,
    /// It has sent something wrong. What it sends after that is not read.
    pub(crate) is_distrusted: bool,
    /// To be asked to end then.
    is_terminated: bool,
    pub(crate) was_dismissed: bool,
    /// Its socket has been closed for long, so it was killed, if it still lived.
    pub(crate) is_overdue: bool,
    /// The process that has forked it is dead.
    pub(crate) is_orphaned: bool,
    /// The task that it was to begin when it died.
    pub(crate) next: Option<u64>,
    /// Why the pool has killed it.
    pub(crate) fault: Option<String>,
    /// Calls that its task has submitted: what it calls them, and the task's number.
    pub(crate) calls: Vec<(u64, u64)>,
    /// It is to have ended by then.
    pub(crate) end_timer: Option<Timer>,
    /// It is sent away if it is still idle then.
    pub(crate) idle_timer: Option<Timer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Working,
    /// It gets no more tasks: it was told to end, or is about to be killed.
    Leaving,
    /// It is dead, or its socket is closed; how it ended is not known yet.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The task.
    pub(crate) number: u64,
    pub(crate) slot: u16,
}

impl Sent {
    /// What a frame from the worker is about.
    pub(crate) fn of(header: Header) -> Self {
        Self { number: header.number, slot: header.slot }
    }
}

impl Worker {
    pub(crate) fn new(
        socket: OwnedFd,
        block: SharedControlBlock,
        family: Family,
        tasks_left: Option<usize>,
        max_result_size: u64,
    ) -> Self {
        let reader = Mutex::new(FrameReader::new(max_result_size));
        Self {
            link: Arc::new(Link { socket, block, reader, outgoing: Mutex::default() }),
            process: None,
            of_try: 0,
            family,
            sent: VecDeque::new(),
            free_slots: FreeSlots::all(),
            task_time: None,
            tasks_left,
            replies: 0,
            last_look: None,
            life: Life::Working,
            is_blocked: false,
            is_stopped: false,
            is_condemned: false,
            is_distrusted: false,
            is_terminated: false,
            was_dismissed: false,
            is_overdue: false,
            is_orphaned: false,
            next: None,
            fault: None,
            calls: Vec::new(),
            end_timer: None,
            idle_timer: None,
        }
    }

    pub(crate) fn claim(&self, number: u16) -> Claim<'_> {
        Claim::new(&self.link.block, number)
    }

    /// The number of the process, once it has begun. For people only: until the pool has taken the
    /// worker's notice, it is what the control block says, to which a task can write.
    pub(crate) fn pid(&self) -> Option<u32> {
        let told = self.process.as_ref().map(|(pid, _)| *pid);
        told.or(Some(self.link.block.pid.load(Acquire)).filter(|pid| *pid != 0))
    }

    /// Whether it has come as far as to a task.
    pub(crate) fn has_begun(&self) -> bool {
        let is_task = |sent: &&Sent| sent.number != NO_TASK;
        self.replies > 0
            || self.sent.iter().filter(is_task).any(|sent| self.claim(sent.slot).has_started())
    }

    /// Whether it would begin with a task at once.
    pub(crate) fn is_idle(&self) -> bool {
        self.room() > 0 && self.sent.iter().all(|sent| sent.number == NO_TASK)
    }

    /// Whether it counts against `max_workers`: it takes tasks, and gets on with them.
    pub(crate) fn is_active(&self) -> bool {
        self.life == Life::Working && !self.is_blocked && !self.is_stopped
    }

    /// How many tasks it may be sent now.
    pub(crate) fn room(&self) -> usize {
        if !self.is_active() {
            return 0;
        }
        let depth = match self.task_time {
            None => 1,
            Some(time) if time > SLOW => 1,
            Some(time) => {
                (AHEAD.div_duration_f64(time) as usize).clamp(2, crate::local::control_block::SLOTS)
            }
        };
        // The initializer is not a task.
        let initializer = self.sent.iter().filter(|sent| sent.number == NO_TASK).count();
        let room = (depth + initializer).saturating_sub(self.sent.len());
        room.min(self.tasks_left.unwrap_or(room))
    }

    /// Whether it has not replied for long; to be asked again and again.
    pub(crate) fn is_stuck(&mut self) -> bool {
        let now = Instant::now();
        match self.last_look {
            Some((replies, since)) if replies == self.replies => now - since > SLOW,
            _ => {
                self.last_look = Some((self.replies, now));
                false
            }
        }
    }

    /// Puts a frame in line that gets a reply; [`Link::flush`] sends it.
    pub(crate) fn send(
        &mut self,
        kind: frame::Kind,
        number: u64,
        detail: u64,
        content: &Arc<Content>,
    ) -> Option<u16> {
        let slot = self.free_slots.take()?;
        self.idle_timer = None;
        trace_relay::note_level(&self.link.block.level);
        self.claim(slot).issue();
        self.post(Header { kind, slot, number, detail }, content);
        self.sent.push_back(Sent { number, slot });
        if number != NO_TASK {
            self.tasks_left = self.tasks_left.map(|left| left.saturating_sub(1));
        }
        Some(slot)
    }

    /// Puts a frame in line that gets no reply.
    pub(crate) fn post(&mut self, header: Header, content: &Arc<Content>) {
        let frame = Message::new(header, Arc::clone(content));
        self.link.outgoing.lock().frames.push_back(frame);
    }

    /// The reply to the first of what was sent, if it is that.
    pub(crate) fn replied(&mut self, header: Header) -> Option<Sent> {
        if self.sent.front() != Some(&Sent::of(header)) {
            return None;
        }
        self.free_slots.give_back(header.slot);
        self.replies += 1;
        self.sent.pop_front()
    }

    /// A task took so long.
    pub(crate) fn learn(&mut self, time: Duration) {
        let time = time.max(Duration::from_nanos(100));
        // A slow one counts at once, quick ones by and by.
        self.task_time = Some(match self.task_time {
            Some(before) if time < before => before.mul_f64(0.75) + time.mul_f64(0.25),
            _ => time,
        });
    }

    /// Ends the process by force, now or as soon as it is known.
    pub(crate) fn kill(&mut self, zygote: Option<&Zygote>) {
        self.is_condemned = true;
        if self.life == Life::Working {
            self.life = Life::Leaving;
        }
        self.strike(zygote);
    }

    /// Kills the process, if it is there.
    pub(crate) fn strike(&self, zygote: Option<&Zygote>) {
        self.signal(Signal::Kill, zygote);
    }

    /// Asks the process to end, now or as soon as it is known.
    pub(crate) fn terminate(&mut self, zygote: Option<&Zygote>) {
        self.is_terminated = true;
        if self.life == Life::Working {
            self.life = Life::Leaving;
        }
        self.signal(Signal::Terminate, zygote);
    }

    /// Signals the process, if it is there. Where this process may not do that, as after a `setuid`,
    /// the zygote does, which has the worker's rights.
    fn signal(&self, signal: Signal, zygote: Option<&Zygote>) {
        let Some((pid, process)) = &self.process else { return };
        // With other errors it has ended by itself.
        let sent = process.signal(signal);
        if sent.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
            // Without a zygote, or if it does not hear that any more, the worker ends with it.
            let _ = zygote.map(|zygote| zygote.signal(*pid, signal));
        }
    }

    /// The process is known, a moment after it has begun.
    pub(crate) fn is_born(&mut self, pid: u32, process: PidFd, zygote: Option<&Zygote>) {
        self.process = Some((pid, process));
        if self.is_condemned {
            self.kill(zygote);
        } else if self.is_terminated {
            self.terminate(zygote);
        }
    }

    /// Tells the worker to end when it has done what it was sent.
    pub(crate) fn dismiss(&mut self) {
        if self.life == Life::Working {
            self.life = Life::Leaving;
            self.was_dismissed = true;
            // It fails if the worker has ended by itself.
            let _ = socket::finish_writing(self.link.socket.as_fd());
        }
    }
}
