//! The seam between the scheduler and what carries its calls to workers. In the pool's process.
//!
//! A transport knows descriptors, processes and shared memory, or ranks; and no future, queue or
//! retry. It is under the scheduler's lock: it queues what is to be sent and makes no system call
//! that waits. What happens at the other end it tells by the `on_` functions of [`Pool`], from a
//! thread of its own. Of one worker it tells, in this order:
//!
//! 1. [`on_spawned`](Pool::on_spawned) or [`on_refused`](Pool::on_refused), which is not a death
//!    and the last of that worker;
//! 2. frames, by [`received`](Pool::received), and answers, by [`on_withdrawn`](Pool::on_withdrawn);
//! 3. [`on_closed`](Pool::on_closed): nothing more comes from it;
//! 4. [`on_exited`](Pool::on_exited), once for each worker that was not refused, and
//!    nothing after it. The transport keeps the time limits that guarantee this.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::Pool;
use super::state::State;
use crate::error::{LossCause, WorkerLost};
use crate::reactor::UserCode;
use crate::remote::frame::Header;
use crate::remote::message::Payload;

/// The carrier of calls to workers, which starts and ends these.
pub(crate) trait Transport: Sized + Send + 'static {
    type Worker: WorkerLink;
    type Hub: Hub;

    /// Resources to let go of, without the lock, once the pool has ended.
    type Remains: Send + 'static;

    /// A transport for the child of a fork, where the pool is broken: there are no workers.
    fn abroad() -> Self;

    /// Asks for a worker, which is to know its place, `index`. It may be sent to at once.
    fn start(
        &mut self,
        hub: &Self::Hub,
        number: u32,
        index: u32,
    ) -> Result<Self::Worker, NotStarted>;

    /// Ends a worker, as soon as there is one. The reason is told with its loss; the first one counts.
    fn end(&mut self, worker: &mut Self::Worker, how: EndBy, reason: Option<LossCause>);

    /// Records that a worker was sent a task.
    fn on_sent(_pool: &Arc<Pool<Self>>, _state: &mut State<Self>) {}

    /// Called when nothing more is taken from a worker: the transport then has a limited time
    /// to tell how it ended.
    fn on_gone(_pool: &Arc<Pool<Self>>, _state: &mut State<Self>, _number: u32) {}

    /// Returns whether nothing is under way that has to come to its end before the pool does.
    fn may_end(&self) -> bool;

    /// Takes the resources, under the lock. Called once.
    fn take_remains(&mut self) -> Self::Remains;

    /// Lets go of what the transport had. Waits until no worker is left.
    fn let_go(hub: &Self::Hub, remains: Self::Remains);
}

/// The reason why no worker was asked for.
pub(crate) enum NotStarted {
    /// The starter of workers has ended, which is about to be told.
    StarterIsGone,
    Refused(io::Error),
}

/// A way to end a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndBy {
    /// Once it has done what it was sent.
    Dismissal,
    /// Asked to end; it may take no notice.
    Termination,
    /// By force, at once.
    Kill,
}

/// A worker, as its transport reaches it. Slots are the scheduler's.
pub(crate) trait WorkerLink: Send + 'static {
    /// Sends what was queued, once the lock is released.
    type Flush: Send;

    /// Queues a task. Its claim is as new before it can arrive.
    fn send(&mut self, header: Header, content: &Payload);

    /// Queues a frame that gets no reply and has no slot.
    fn tell(&mut self, header: Header, content: &Payload);

    /// Returns a handle by which frames are sent without the lock, also if the worker is gone then.
    fn to_flush(&self) -> Self::Flush;

    /// Sends what is in line, as far as there is room; the transport sees to the rest.
    fn flush(flush: Self::Flush);

    /// Keeps a task that was sent from starting. Also after the worker's loss, when it is not
    /// [`Asked`](Withdrawn::Asked) any more.
    fn withdraw(&self, slot: u16) -> Withdrawn;

    /// Sets the stop request of a task whose withdrawal has failed.
    fn ask_to_stop(&self, slot: u16);

    fn is_asked_to_stop(&self, slot: u16) -> bool;

    /// Returns what is known of a task that was sent, also after the worker's loss.
    fn progress(&self, slot: u16) -> Progress;

    /// The checkpoint of the chunk that the worker had begun, after its loss too.
    fn checkpoint(&self) -> &[AtomicU64];

    /// The process of the worker, for people.
    fn pid(&self) -> Option<u32>;
}

/// The outcome of a withdrawal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    Yes,
    /// The task has started.
    TooLate,
    /// The worker is asked, and will answer by [`on_withdrawn`](Pool::on_withdrawn), unless its reply
    /// comes first. It is asked for each task once.
    Asked,
}

/// The progress of a worker with a task that it was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    NotStarted,
    /// Started this long ago, if that is known. [`Duration::MAX`] if what is known can't be.
    Started(Option<Duration>),
}

impl Progress {
    pub(crate) fn has_started(self) -> bool {
        self != Self::NotStarted
    }

    /// The time since the start, for people; zero, if it is not known.
    pub(crate) fn elapsed(self) -> Option<Duration> {
        match self {
            Self::NotStarted => None,
            Self::Started(elapsed) => {
                Some(elapsed.filter(|elapsed| *elapsed < Duration::MAX).unwrap_or_default())
            }
        }
    }
}

/// The loss of a worker.
pub(crate) struct Loss {
    pub(crate) lost: WorkerLost,
    /// It has failed by itself: nobody has killed it, and it had been set up.
    pub(crate) has_failed: bool,
    /// It was lost with what had started it, which is counted as one failure.
    pub(crate) is_orphaned: bool,
}

/// Where a pool's user code and timers run.
pub(crate) trait Hub: Send + Sync + 'static {
    type Timer: Send + 'static;

    /// Runs `action` after `limit`. Dropping the timer cancels that.
    fn timer(&self, limit: Duration, action: Box<dyn FnOnce() + Send>) -> Self::Timer;

    /// The time since some moment in the past.
    fn now(&self) -> Duration;

    /// Leaves user code to the thread that reads, which may be this one.
    fn deliver(&self, jobs: impl Iterator<Item = Box<dyn UserCode>>);

    /// Has the thread that reads look for what was left to it.
    fn wake(&self);

    /// Tells that the pool has ended. After the last one the threads of the hub end.
    fn leave(&self);

    /// Waits for these threads, if they end.
    fn join_ended(&self);
}
