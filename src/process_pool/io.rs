//! The reading of what workers send, for all pools of the process.
//!
//! A thread does that from the first pool to the end of the last. The user code that a result leads
//! to runs there as well, unless it is known that it may take long; a second thread takes over if it
//! does all the same. See [`relay`]. While the system refuses a thread for time limits, these threads
//! keep those of the pools too.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::pool::{Delivery, Pool};
use super::relay::{self, Read, Reader, Relay};
use super::sys::{BorrowedFd, Event, Poller, explain};
use crate::fork::Own;
use crate::sync::Mutex;
use crate::timer;

/// In place of a worker's number: the helper process of the pool.
pub(super) const CONTROL: u32 = u32::MAX;

/// A forked child has none, and starts its own.
static THREAD: Own<Mutex<Thread>> = Own::from_start(Thread::none(), Thread::none);

struct Thread {
    /// While there are pools.
    io: Option<Arc<Io>>,
    /// The threads that were the last to end, or are about to.
    ended: Vec<JoinHandle<()>>,
    next_pool: u32,
}

pub(super) struct Io {
    pub(super) poller: Poller,
    /// The pools that have not ended.
    pools: Mutex<HashMap<u32, Arc<Pool>>>,
    relay: Relay<Job>,
    /// When the pools are to try again to start workers.
    call_back_at: Mutex<Option<Instant>>,
    /// That is set.
    has_call_back: AtomicBool,
}

/// User code that the thread which reads has to run.
pub(super) enum Job {
    Deliver(Delivery),
    /// Time limits have passed, and nobody else keeps them.
    KeepTime,
}

impl Thread {
    const fn none() -> Mutex<Self> {
        Mutex::new(Self { io: None, ended: Vec::new(), next_pool: 0 })
    }
}

impl Io {
    /// What the poller calls a socket.
    pub(super) fn key(pool: u32, worker: u32) -> u64 {
        u64::from(pool) << 32 | u64::from(worker)
    }

    /// Watches the control socket of a pool's helper process.
    pub(super) fn watch_helper(&self, pool: u32, control: BorrowedFd<'_>) -> io::Result<()> {
        self.poller
            .add(control, Self::key(pool, CONTROL), true, false)
            .map_err(explain("the process that starts workers can't be waited for"))
    }

    /// Adds a pool, which `make` makes.
    pub(super) fn join(
        make: impl FnOnce(&Arc<Self>, u32) -> io::Result<Arc<Pool>>,
    ) -> io::Result<Arc<Pool>> {
        let mut thread = THREAD.lock();
        let id = thread.next_pool;
        thread.next_pool = id.wrapping_add(1);
        let (io, is_new) = match &thread.io {
            Some(io) => (Arc::clone(io), false),
            None => {
                let io = Self {
                    poller: Poller::new()
                        .map_err(explain("there is nothing to wait for workers with"))?,
                    pools: Mutex::default(),
                    relay: Relay::new(),
                    call_back_at: Mutex::new(None),
                    has_call_back: AtomicBool::new(false),
                };
                (Arc::new(io), true)
            }
        };
        let pool = make(&io, id)?;
        if is_new {
            relay::start(&io)
                .map_err(explain("the thread that reads what workers send can't be started"))?;
        }
        io.pools.lock().insert(id, Arc::clone(&pool));
        thread.io = Some(io);
        Ok(pool)
    }

    /// A pool has ended. After the last one the threads end.
    pub(super) fn leave(&self, id: u32) {
        let mut thread = THREAD.lock();
        let mut pools = self.pools.lock();
        let pool = pools.remove(&id);
        if pools.is_empty() {
            thread.io = None;
            thread.ended = self.relay.take_threads();
            self.poller.wake();
        }
        drop((pools, thread));
        drop(pool);
    }

    /// Has the pools try again at `at` to start workers.
    pub(super) fn call_back(&self, at: Instant) {
        let mut next = self.call_back_at.lock();
        if next.is_none_or(|next| at < next) {
            *next = Some(at);
            self.has_call_back.store(true, Release);
            self.poller.wake();
        }
    }

    /// Calls the pools back if it is time for that. Returns the time until the next call.
    fn call_back_if_due(&self) -> Option<Duration> {
        while self.has_call_back.load(Acquire) {
            let mut next = self.call_back_at.lock();
            let left = (*next)?.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Some(left);
            }
            *next = None;
            self.has_call_back.store(false, Release);
            drop(next);
            let pools: Vec<_> = self.pools.lock().values().map(Arc::clone).collect();
            pools.iter().for_each(Pool::retry_starts);
        }
        None
    }

    /// Waits for the threads, if they end.
    pub(super) fn join_ended() {
        let ended = std::mem::take(&mut THREAD.lock().ended);
        let current = std::thread::current().id();
        for thread in ended.into_iter().filter(|thread| thread.thread().id() != current) {
            let _ = thread.join();
        }
    }

    /// Leaves user code to the thread that reads, which may be this one.
    pub(super) fn deliver(&self, deliveries: impl Iterator<Item = Delivery>) {
        self.relay.push(deliveries.map(Job::Deliver));
    }

    /// As [`deliver`](Self::deliver), before what was left to it.
    pub(super) fn deliver_next(&self, delivery: Option<Delivery>) {
        self.relay.push_front(delivery.map(Job::Deliver));
    }

    /// Has the thread that reads look for what was left to it.
    pub(super) fn wake(&self) {
        self.poller.wake();
    }
}

impl Reader for Io {
    type Job = Job;

    /// Sockets that are ready and were not looked at, the next one last. Who takes over is told of
    /// them again.
    type Own = Vec<Event>;

    const THREAD: &'static str = "process-pool-io";

    fn relay(&self) -> &Relay<Job> {
        &self.relay
    }

    fn read(&self, ready: &mut Vec<Event>) -> Read<Job> {
        if ready.is_empty() {
            // Under the lock under which a new pool would join.
            let thread = THREAD.lock();
            if self.pools.lock().is_empty() {
                return Read::End;
            }
            drop(thread);
            let kept = timer::stand_in();
            if kept.is_some_and(|left| left.is_zero()) {
                return Read::Job(Job::KeepTime);
            }
            // An error would be one of ours; to look again is all that can be done.
            let limit = self.call_back_if_due().into_iter().chain(kept).min();
            let _ = self.poller.wait(ready, limit);
            ready.reverse();
        }
        let Some(event) = ready.pop() else { return Read::Nothing };
        let (pool, worker) = ((event.key >> 32) as u32, event.key as u32);
        let pool = self.pools.lock().get(&pool).map(Arc::clone);
        match pool {
            Some(pool) if worker == CONTROL => {
                pool.on_control();
                Read::Nothing
            }
            Some(pool) => {
                let next = pool.on_worker(worker, event.readable, event.writable);
                next.map(Job::Deliver).into()
            }
            None => Read::Nothing,
        }
    }

    fn run(&self, job: Job) {
        match job {
            Job::Deliver(delivery) => delivery.run(),
            Job::KeepTime => timer::run_due(),
        }
    }
}
