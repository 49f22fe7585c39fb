//! A worker as the scheduler knows it: what it was sent, and how it gets on. In the pool's process, under
//! the pool's lock.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::state::Parent;
use crate::codec::handle::{HandleFd, Identity};
use crate::dump::Awaited;
use crate::error::Error;
use crate::remote::frame::{Content, Header, Kind, Unread};
use crate::remote::map_context::MapContext;
use crate::remote::message::Payload;
use crate::remote::scheduler::transport::{Transport, Withdrawn, WorkerLink};
use crate::remote::slots::{FreeSlots, SLOTS};

/// Time for which the tasks sent ahead are to keep a worker busy: the time in which the pool
/// gets round to sending more.
const AHEAD: u64 = 200_000; // nanoseconds, as all durations of tasks here

/// A task that takes longer than this is not sent ahead: others may come to it sooner, and what a
/// worker loses between two such tasks is nothing.
const SLOW: u64 = 2_000_000;

/// A worker that lives for so long has started well, also if it has had no task.
const LONG_ALIVE: Duration = Duration::from_secs(1);

/// The number of a frame that is no task: of the initializer and the finalizer.
pub(crate) const NO_TASK: u64 = 0;

pub(crate) struct Worker<T: Transport> {
    pub(crate) link: T::Worker,
    /// Its place in the pool, which no other worker has until its end is told.
    pub(super) index: u32,
    /// Try of the pool to start workers that this one was asked for in, and when that was.
    pub(super) of_try: u32,
    started: Duration,
    /// Tasks that it was sent and has not replied to, in order.
    pub(crate) sent: VecDeque<Sent>,
    free_slots: FreeSlots,
    /// The duration of a task, as a moving average.
    task_time: Option<u64>,
    /// Number of tasks that it may still be sent.
    pub(super) tasks_left: Option<usize>,
    /// It begins with no further task, and is dismissed once it has replied.
    pub(super) is_retiring: bool,
    /// It was sent a call that may be of no function. No task comes behind it: whatever the call does to
    /// the process, no other task is hurt.
    pub(super) has_suspect: bool,
    /// Number of replies, with those of the initializer and of tasks that were skipped.
    pub(super) replies: u64,
    /// Number of replies at the last look, and when that was.
    last_look: Option<(u64, Duration)>,
    pub(crate) life: Life,
    /// There is a process, and it takes tasks.
    pub(super) is_spawned: bool,
    pub(super) wait: Wait,
    /// The parent of the task that it was sent last. While that waits, its other children come next.
    pub(super) serves: Option<Parent>,
    /// A signal has stopped its process, and none has continued it.
    pub(super) is_stopped: bool,
    /// The pool has killed it.
    pub(super) is_killed: bool,
    /// It has sent something wrong. What it sends after that is not read.
    pub(super) is_distrusted: bool,
    pub(super) was_dismissed: bool,
    /// The task that was first in its pipeline and not begun when its end was seen.
    pub(super) next: Option<u64>,
    /// Tasks that it was asked to withdraw, and has not answered for.
    pub(super) asked: Vec<(Sent, IfWithdrawn)>,
    /// Calls that its task has submitted: what it calls them, and the task's number.
    pub(super) calls: Vec<(u64, u64)>,
    /// Some of its task's calls that were answered, by what it calls them, the last one first.
    pub(super) answered: VecDeque<u64>,
    /// Contexts of maps that it was sent, by their numbers.
    pub(super) contexts: Vec<(u64, Weak<MapContext>)>,
    /// Contexts of its tasks' maps, by what it calls them; or why one was skipped on arrival.
    pub(super) offered: Vec<(u64, Result<Arc<MapContext>, Unread>)>,
    /// The descriptors of which it keeps what it makes of their files.
    pub(super) kept: Vec<(Identity, Weak<HandleFd>)>,
    /// Dismisses it after the idle timeout; dropped when it is sent a task.
    pub(super) idle_timer: Option<super::TimerOf<T>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Working,
    /// It gets no more tasks: it was told to end, or is about to be killed.
    Leaving,
    /// It is dead, or nothing more comes from it; how it ended is not known yet.
    Gone,
}

/// The last wait of the task that a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Never,
    /// For a child, or for something else. With `until`, the task goes on at the end of that child; if
    /// none is named, of all its children.
    For {
        child: Option<u64>,
        until: bool,
    },
    /// For what other processes do with something of [`ipc`](crate::ipc).
    ForOthers(Awaited),
    /// The awaited task has ended, but the one that waits has not said yet that it goes on.
    Answered,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The task.
    pub(crate) number: u64,
    pub(crate) slot: u16,
}

impl Sent {
    /// The task that a frame from the worker is about.
    pub(super) fn of(header: Header) -> Self {
        Self { number: header.number, slot: header.slot }
    }
}

/// The purpose of a question: what becomes of the task if its worker has withdrawn it.
pub(super) enum IfWithdrawn {
    End(Error),
    Requeue,
}

impl<T: Transport> Worker<T> {
    pub(super) fn new(
        link: T::Worker,
        index: u32,
        of_try: u32,
        tasks_left: Option<usize>,
        now: Duration,
    ) -> Self {
        Self {
            link,
            index,
            of_try,
            started: now,
            sent: VecDeque::new(),
            free_slots: FreeSlots::all(),
            task_time: None,
            tasks_left,
            is_retiring: false,
            has_suspect: false,
            replies: 0,
            last_look: None,
            life: Life::Working,
            is_spawned: false,
            wait: Wait::Never,
            serves: None,
            is_stopped: false,
            is_killed: false,
            is_distrusted: false,
            was_dismissed: false,
            next: None,
            asked: Vec::new(),
            calls: Vec::new(),
            answered: VecDeque::new(),
            contexts: Vec::new(),
            offered: Vec::new(),
            kept: Vec::new(),
            idle_timer: None,
        }
    }

    pub(super) fn has_started(&self, slot: u16) -> bool {
        self.link.progress(slot).has_started()
    }

    /// Returns whether it has come as far as to a task.
    pub(super) fn has_begun(&self) -> bool {
        let is_task = |sent: &&Sent| sent.number != NO_TASK;
        // The reply may be that of the initializer, behind which the worker takes tasks.
        self.replies > 0 || self.sent.iter().filter(is_task).any(|sent| self.has_started(sent.slot))
    }

    /// Returns whether it has been there for too long to have died of its start.
    pub(super) fn has_lived(&self, now: Duration) -> bool {
        now.saturating_sub(self.started) >= LONG_ALIVE
    }

    /// Returns whether it is not to be sent any more tasks.
    pub(super) fn is_used_up(&self) -> bool {
        self.has_suspect || self.is_retiring || self.tasks_left == Some(0)
    }

    /// Returns whether it would begin with a task at once.
    pub(super) fn is_idle(&self) -> bool {
        // The initializer is no obstacle: the first task is sent behind it.
        self.sent.len() == self.initializers() && self.room() > 0
    }

    /// The number of initializers among what it was sent: one at most, before all tasks.
    fn initializers(&self) -> usize {
        usize::from(self.sent.front().is_some_and(|sent| sent.number == NO_TASK))
    }

    /// Returns whether it counts against `max_workers`: it takes tasks, and gets on with them.
    pub(super) fn is_active(&self) -> bool {
        self.life == Life::Working && !self.is_blocked() && !self.is_stopped
    }

    /// Returns whether its task waits: for another one, or for other processes. Of the latter, those beyond
    /// `max_waiting` count against `max_workers` all the same.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(self.wait, Wait::For { .. } | Wait::ForOthers(_))
    }

    /// Returns whether its task waits for what other processes do.
    pub(super) fn waits_for_others(&self) -> bool {
        let waits = matches!(self.wait, Wait::ForOthers(_));
        self.life == Life::Working && waits && !self.is_stopped
    }

    /// Returns whether its task ends without any other worker, as far as is known.
    pub(super) fn gets_on(&self) -> bool {
        // Any other wait is not known to be for tasks of the pool, and may end by itself.
        let waits = matches!(self.wait, Wait::For { until: true, .. });
        self.life == Life::Working && self.is_spawned && !waits
    }

    /// The number of tasks that it may be sent now.
    pub(super) fn room(&self) -> usize {
        if !self.is_active() || self.is_retiring {
            return 0;
        }
        let depth = match self.task_time {
            // The time of its tasks is not known before the first reply.
            None => 1,
            Some(time) if time > SLOW => 1,
            // Two at least: one is on its way while the other runs.
            Some(time) => (AHEAD / time).clamp(2, SLOTS as u64) as usize,
        };
        // The initializer is not a task.
        let room = (depth + self.initializers()).saturating_sub(self.sent.len());
        room.min(self.tasks_left.unwrap_or(room))
    }

    /// Returns whether it has not replied for long; to be asked again and again.
    pub(super) fn check_stuck(&mut self, now: Duration) -> bool {
        match self.last_look {
            Some((replies, since)) if replies == self.replies => {
                now - since > Duration::from_nanos(SLOW)
            }
            _ => {
                self.last_look = Some((self.replies, now));
                false
            }
        }
    }

    /// Queues a frame that gets a reply.
    pub(super) fn send(
        &mut self,
        kind: Kind,
        number: u64,
        detail: u64,
        content: &Payload,
    ) -> Option<u16> {
        let slot = self.free_slots.take()?;
        self.idle_timer = None;
        self.link.send(Header { kind, slot, number, detail }, content);
        self.sent.push_back(Sent { number, slot });
        if number != NO_TASK {
            self.tasks_left = self.tasks_left.map(|left| left.saturating_sub(1));
        }
        Some(slot)
    }

    /// Queues the context of the chunk that is sent next, if the worker has not got it.
    pub(super) fn send_context(&mut self, context: &Arc<MapContext>) {
        let number = context.number();
        if self.contexts.iter().all(|(other, _)| *other != number) {
            self.link.tell(context.header(), context.payload());
            self.contexts.push((number, Arc::downgrade(context)));
        }
    }

    /// Queues the ends of contexts that nothing needs any more. `false`: there are none.
    pub(super) fn end_contexts(&mut self) -> bool {
        let count = self.contexts.len();
        self.contexts.retain(|(number, context)| {
            let is_needed = context.strong_count() > 0;
            if !is_needed {
                let header = Header { kind: Kind::EndContext, slot: 0, number: *number, detail: 0 };
                self.link.tell(header, &Content::default().into());
            }
            is_needed
        });
        self.contexts.len() < count
    }

    /// Keeps a task that it was sent from starting. `false`: that has started, or the worker is asked.
    pub(super) fn withdraw(&mut self, sent: Sent, then: impl FnOnce() -> IfWithdrawn) -> bool {
        if let Some((_, purpose)) = self.asked.iter_mut().find(|(asked, _)| *asked == sent) {
            // A wish to end the task outweighs the one to have it back; the first end stays.
            if let IfWithdrawn::Requeue = purpose {
                *purpose = then();
            }
            return false;
        }
        let withdrawn = self.link.withdraw(sent.slot);
        if withdrawn == Withdrawn::Asked {
            self.asked.push((sent, then()));
        }
        withdrawn == Withdrawn::Yes
    }

    pub(super) fn is_asked_for(&self, slot: u16) -> bool {
        self.asked.iter().any(|(sent, _)| sent.slot == slot)
    }

    /// Takes the first of what was sent, if this is the reply to it.
    pub(super) fn take_replied(&mut self, header: Header) -> Option<Sent> {
        let sent = Sent::of(header);
        // Replies come in the order of the tasks; any other one is made up.
        if self.sent.front() != Some(&sent) {
            return None;
        }
        self.asked.retain(|(asked, _)| *asked != sent);
        // Not before the reply: until then the worker may still look at the slot's claim.
        self.free_slots.give_back(header.slot);
        self.replies += 1;
        self.sent.pop_front()
    }

    /// Records that a call of its task has its answer.
    pub(super) fn record_answer(&mut self, request: u64) {
        self.calls.retain(|(other, _)| *other != request);
        // A `Waits` that was sent before the answer came may name the call; the last ones are kept.
        self.answered.truncate(SLOTS - 1);
        self.answered.push_front(request);
    }

    /// Records how many nanoseconds a task took.
    pub(super) fn record_time(&mut self, time: u64) {
        let time = time.max(100);
        // An EWMA with a weight of 1/4 for a shorter time; a longer one counts at once.
        self.task_time = Some(match self.task_time {
            Some(before) if time < before => before - (before - time) / 4,
            _ => time,
        });
    }
}
