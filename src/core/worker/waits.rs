//! The waits of a worker's jobs, for dumps. Written when a job is about to block, so that they cost
//! nothing beside the wait itself.

use std::fmt;
use std::num::NonZeroU32;

use crate::core::id::TaskId;
use crate::sync::Mutex;

/// The thing that a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Awaited {
    /// A single future: a task, perhaps of another pool, or a promise.
    Task(TaskId),
    /// A set of this many futures: by [`wait`](crate::wait()), or those that were left, by
    /// [`as_completed`](crate::as_completed()).
    Set(usize),
    /// The results of a map.
    Map,
    /// The end of an executor.
    Shutdown,
    /// A stop request.
    Stop,
    /// An item of a channel between processes, or room for one.
    Channel,
    /// A lock between processes: a `Lock` of `ipc`, a `Chunk`, or the change of another process to a `Value`.
    Lock,
    /// A state of a `Value`.
    Value,
    /// A permit of a `Semaphore`.
    Semaphore,
    /// An `Event`.
    Event,
    /// The others at a `Barrier`.
    Barrier,
}

/// The waits for other processes, in the order of their numbers in frames.
const OF_OTHERS: [Awaited; 6] = [
    Awaited::Channel,
    Awaited::Lock,
    Awaited::Value,
    Awaited::Semaphore,
    Awaited::Event,
    Awaited::Barrier,
];

impl Awaited {
    /// Returns whether it is what other processes do, with something of `ipc`.
    pub(crate) fn is_of_others(self) -> bool {
        OF_OTHERS.contains(&self)
    }
}

#[cfg(feature = "process")]
impl Awaited {
    /// Returns its number among the waits for what other processes do; `None`: it is another.
    pub(crate) fn number_of_others(self) -> Option<u64> {
        (0..).zip(OF_OTHERS).find(|(_, other)| *other == self).map(|(number, _)| number)
    }

    /// The inverse of [`number_of_others`](Self::number_of_others), for whatever number a worker has sent.
    pub(crate) fn of_others(number: u64) -> Self {
        usize::try_from(number).ok().and_then(|at| OF_OTHERS.get(at)).copied().unwrap_or(Self::Lock)
    }
}

impl Awaited {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Awaited::Task(one), Awaited::Task(other)) => one == other,
            // How many are left of a set may have changed.
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Awaited::Task(id) => write!(f, "task {id}"),
            Awaited::Set(1) => write!(f, "a set of 1 future"),
            Awaited::Set(count) => write!(f, "a set of {count} futures"),
            Awaited::Map => write!(f, "a map"),
            Awaited::Shutdown => write!(f, "the end of an executor"),
            Awaited::Stop => write!(f, "a stop request"),
            Awaited::Channel => write!(f, "a channel"),
            Awaited::Lock => write!(f, "a lock between processes"),
            Awaited::Value => write!(f, "a state of a value that processes share"),
            Awaited::Semaphore => write!(f, "a permit of a semaphore between processes"),
            Awaited::Event => write!(f, "an event between processes"),
            Awaited::Barrier => write!(f, "a barrier between processes"),
        }
    }
}

/// Maximum number of futures pending in one job that are named; of the others only the number is known.
const MOST_NAMED: usize = 8;

/// The waits of one worker.
pub(crate) struct Waits(Mutex<Vec<Wait>>);

/// Tells the frames of a context apart for as long as a future may remember one; small, since every
/// future has room for one.
pub(super) type FrameId = NonZeroU32;

/// The waits of one job.
pub(crate) struct Wait {
    frame: FrameId,
    task: TaskId,
    /// The thing for which it blocks its thread.
    blocked: Option<Awaited>,
    /// The futures that it has polled and that were pending.
    pending: Vec<Awaited>,
    more_pending: usize,
}

impl Waits {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Changes the waits of the task in this frame.
    pub(super) fn change(&self, frame: FrameId, task: TaskId, change: impl FnOnce(&mut Wait)) {
        let mut waits = self.0.lock();
        let place = waits.iter().position(|wait| wait.frame == frame).unwrap_or_else(|| {
            let (blocked, pending, more_pending) = (None, Vec::new(), 0);
            waits.push(Wait { frame, task, blocked, pending, more_pending });
            waits.len() - 1
        });
        change(&mut waits[place]);
        // Nothing is left of a job that waits no more, so the list is no longer than the worker's
        // stack.
        if waits[place].is_over() {
            waits.swap_remove(place);
        }
    }

    /// Forgets the waits in frames that are gone.
    pub(super) fn retain(&self, is_there: impl Fn(FrameId) -> bool) {
        self.0.lock().retain(|wait| is_there(wait.frame));
    }

    /// Returns the waits of `task` that are known by name, and the number of others.
    pub(crate) fn of(&self, task: TaskId) -> (Vec<Awaited>, usize) {
        let waits = self.0.lock();
        let Some(wait) = waits.iter().find(|wait| wait.task == task) else {
            return (Vec::new(), 0);
        };
        // The thread blocks on one thing, which may be among the futures that it has polled.
        let mut named: Vec<_> = wait.blocked.into_iter().collect();
        named.extend(wait.pending.iter().filter(|pending| wait.blocked != Some(**pending)));
        (named, wait.more_pending)
    }
}

impl Wait {
    fn is_over(&self) -> bool {
        self.blocked.is_none() && self.pending.is_empty() && self.more_pending == 0
    }

    pub(super) fn block(&mut self, awaited: Awaited) {
        self.blocked = Some(awaited);
    }

    pub(super) fn unblock(&mut self) {
        self.blocked = None;
    }

    pub(super) fn add(&mut self, awaited: Awaited) {
        if self.pending.len() < MOST_NAMED {
            self.pending.push(awaited);
        } else {
            self.more_pending += 1;
        }
    }

    /// Removes a future that is pending no more; `None`: it is not known which.
    pub(super) fn remove(&mut self, awaited: Option<Awaited>) {
        let is_it = |pending: &Awaited| awaited.is_some_and(|awaited| pending.is_same(&awaited));
        let named = self.pending.iter().position(is_it);
        match named {
            Some(place) => drop(self.pending.remove(place)),
            None if self.more_pending > 0 => self.more_pending -= 1,
            // Which one is not known: the newest goes, so that the number is right.
            None => drop(self.pending.pop()),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn task() -> Awaited {
        Awaited::Task(TaskId::next())
    }

    #[test]
    fn what_is_awaited_is_named_as_long_as_it_is_little() {
        let (waits, frame, id) = (Waits::new(), FrameId::MIN, TaskId::next());
        let all: Vec<_> = (0..MOST_NAMED + 3).map(|_| task()).collect();
        for awaited in &all {
            waits.change(frame, id, |wait| wait.add(*awaited));
        }
        assert_eq!(waits.of(id), (all[..MOST_NAMED].to_vec(), 3));
        waits.change(frame, id, |wait| wait.remove(Some(all[MOST_NAMED])));
        waits.change(frame, id, |wait| wait.remove(Some(all[0])));
        waits.change(frame, id, |wait| wait.remove(None));
        assert_eq!(waits.of(id), (all[1..MOST_NAMED].to_vec(), 1));
        for awaited in &all[1..MOST_NAMED + 1] {
            waits.change(frame, id, |wait| wait.remove(Some(*awaited)));
        }
        assert!(waits.0.lock().is_empty(), "nothing is left of a wait that is over");
    }

    #[test]
    fn a_job_may_block_for_what_it_has_polled() {
        let (waits, frame, id) = (Waits::new(), FrameId::MIN, TaskId::next());
        let (one, other) = (task(), task());
        waits.change(frame, id, |wait| wait.add(one));
        waits.change(frame, id, |wait| wait.add(other));
        waits.change(frame, id, |wait| wait.block(other));
        assert_eq!(waits.of(id), (vec![other, one], 0));
        waits.change(frame, id, Wait::unblock);
        assert_eq!(waits.of(id), (vec![one, other], 0));
        waits.retain(|_| false);
        assert_eq!(waits.of(id), (Vec::new(), 0));
    }
}
