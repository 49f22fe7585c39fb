//! The thread that waits for descriptors: one for all pools of a process, in that process.
//!
//! It runs from the first owner of descriptors to the end of the last. The user code that a message
//! leads to runs there as well, unless it is known that it may take long; a second thread takes over if
//! it does all the same. See [`relay`]. While the system refuses a thread for time limits, these threads
//! keep those of the pools too.

pub(crate) mod relay;
pub(crate) mod turn;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use self::relay::{Read, Reader, Relay};
use crate::fork::Own;
use crate::sync::Mutex;
use crate::sys::{BorrowedFd, Event, Poller, explain};
use crate::timer;

/// An owner of descriptors.
pub(crate) trait Ready: Send + Sync + 'static {
    /// Handles a descriptor that is ready, by the number that the owner has given it. Runs no user code,
    /// but returns the first piece that is due and leaves further ones to [`Registration::deliver`].
    fn on_ready(
        self: Arc<Self>,
        number: u32,
        readable: bool,
        writable: bool,
    ) -> Option<Box<dyn UserCode>>;
}

/// A piece of user code to run.
pub(crate) trait UserCode: Send {
    fn run(self: Box<Self>);
}

/// The reactor of this process, as long as there are owners. A forked child has none, and starts its own.
static CURRENT: Own<Mutex<Current>> = Own::from_start(Current::none(), Current::none);

struct Current {
    reactor: Option<Arc<Reactor>>,
    /// Threads of reactors whose last owner has left: they have ended, or are about to.
    ended: Vec<JoinHandle<()>>,
    next_owner: u32,
}

impl Current {
    const fn none() -> Mutex<Self> {
        Mutex::new(Self { reactor: None, ended: Vec::new(), next_owner: 0 })
    }
}

pub(crate) struct Reactor {
    poller: Poller,
    /// The owners, by the upper half of their descriptors' keys.
    owners: Mutex<BTreeMap<u32, Arc<dyn Ready>>>,
    relay: Relay<Task>,
}

/// A task of the thread that reads, besides reading.
pub(crate) enum Task {
    Run(Box<dyn UserCode>),
    /// Runs the time limits that have passed, for want of a timer thread.
    KeepTime,
}

/// An owner's access to the reactor.
#[derive(Clone)]
pub(crate) struct Registration {
    reactor: Arc<Reactor>,
    owner: u32,
}

impl Registration {
    /// Watches a descriptor: for input, and for room as soon as that is asked for by
    /// [`set_writable`](Self::set_writable).
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, number: u32) -> io::Result<()> {
        self.reactor.poller.add(fd, self.key(number), true, false)
    }

    /// Starts or stops reporting to the owner that there is room in a descriptor.
    pub(crate) fn set_writable(
        &self,
        fd: BorrowedFd<'_>,
        number: u32,
        is_wanted: bool,
    ) -> io::Result<()> {
        self.reactor.poller.change(fd, self.key(number), true, is_wanted)
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.reactor.poller.remove(fd)
    }

    fn key(&self, number: u32) -> u64 {
        u64::from(self.owner) << 32 | u64::from(number)
    }

    /// Leaves user code to the thread that reads, which may be this one.
    pub(crate) fn deliver(&self, jobs: impl Iterator<Item = Box<dyn UserCode>>) {
        self.reactor.relay.push(jobs.map(Task::Run));
    }

    /// As [`deliver`](Self::deliver), before what was left to that thread so far.
    pub(crate) fn deliver_next(&self, job: Option<Box<dyn UserCode>>) {
        self.reactor.relay.push_front(job.map(Task::Run));
    }

    /// Has the thread that reads look for what was left to it.
    pub(crate) fn wake(&self) {
        self.reactor.poller.wake();
    }

    /// Takes the owner, which has ended, from the reactor. After the last one the threads end.
    pub(crate) fn leave(&self) {
        // Both locks: no owner joins, and the thread that reads does not look for one, until the
        // threads are taken.
        let mut current = CURRENT.lock();
        let mut owners = self.reactor.owners.lock();
        let owner = owners.remove(&self.owner);
        if owners.is_empty() {
            current.reactor = None;
            // Beside those of an earlier reactor, which may still be waited for.
            relay::join_finished(&mut current.ended);
            current.ended.extend(self.reactor.relay.take_threads());
            // The thread may wait without a limit: it is to see that there is no owner.
            self.reactor.poller.wake();
        }
        // Unlocked first: this may be the owner's last reference, and its destructor may do
        // anything.
        drop((owners, current));
        drop(owner);
    }
}

impl Reactor {
    /// Adds an owner, which `make` makes. Starts the reactor if there is none. If that is refused, `make`
    /// is dropped, without the lock: it has user code, whose destructors may make or end owners.
    pub(crate) fn join<R: Ready>(make: impl FnOnce(Registration) -> Arc<R>) -> io::Result<Arc<R>> {
        // Held until the owner is entered: the new thread looks for owners under this lock, and
        // would end without one.
        let mut current = CURRENT.lock();
        let owner = current.next_owner;
        current.next_owner = owner.wrapping_add(1);
        let reactor = match &current.reactor {
            Some(reactor) => Arc::clone(reactor),
            None => {
                let reactor = Arc::new(Self {
                    poller: Poller::new()
                        .map_err(explain("there is nothing to wait for workers with"))?,
                    owners: Mutex::default(),
                    relay: Relay::new(),
                });
                relay::start(&reactor)
                    .map_err(explain("the thread that reads what workers send can't be started"))?;
                reactor
            }
        };
        let made = make(Registration { reactor: Arc::clone(&reactor), owner });
        // An event before this finds no owner, and is dropped: the poller reports it again.
        reactor.owners.lock().insert(owner, Arc::clone(&made) as Arc<dyn Ready>);
        current.reactor = Some(reactor);
        Ok(made)
    }

    /// Waits for the threads, if they end.
    pub(crate) fn join_ended() {
        let ended = std::mem::take(&mut CURRENT.lock().ended);
        let current = std::thread::current().id();
        // The caller may be one of them, in user code; a thread cannot join itself.
        for thread in ended.into_iter().filter(|thread| thread.thread().id() != current) {
            let _ = thread.join();
        }
    }
}

impl Reader for Reactor {
    type Job = Task;

    /// Descriptors that are ready and were not looked at, the next one last. A thread that takes
    /// over finds them in the poller again.
    type Own = Vec<Event>;

    const THREAD: &'static str = "process-pool-io";

    fn relay(&self) -> &Relay<Task> {
        &self.relay
    }

    fn read(&self, ready: &mut Vec<Event>) -> Read<Task> {
        if ready.is_empty() {
            // Under the lock under which a new owner joins, so that none joins a reactor that ends.
            let current = CURRENT.lock();
            if self.owners.lock().is_empty() {
                return Read::End;
            }
            drop(current);
            let kept = timer::stand_in();
            if kept.is_some_and(|left| left.is_zero()) {
                return Read::Job(Task::KeepTime);
            }
            // An error would be one of ours; to look again is all that can be done.
            let _ = self.poller.wait(ready, kept);
            // Taken from the back, one for each call: the user code that an event leads to runs
            // before the next is looked at.
            ready.reverse();
        }
        let Some(event) = ready.pop() else { return Read::Nothing };
        let (owner, number) = ((event.key >> 32) as u32, event.key as u32);
        // A clone, so that the lock is not held while the owner reads.
        let owner = self.owners.lock().get(&owner).map(Arc::clone);
        let job = owner.and_then(|owner| owner.on_ready(number, event.readable, event.writable));
        job.map(Task::Run).into()
    }

    fn run(&self, task: Task) {
        match task {
            Task::Run(job) => job.run(),
            Task::KeepTime => timer::run_due(),
        }
    }
}
