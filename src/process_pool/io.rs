//! The thread that reads what workers send, for all pools of the process.
//!
//! It starts with the first pool and ends after the last. While the system refuses a thread for time
//! limits, it keeps those of the pools too. It runs no code of the user's but
//! wakers, and `Deserialize` of short results; what may take longer goes to a pool's helper
//! threads.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::pool::Pool;
use super::sys::{BorrowedFd, Poller, explain};
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
    /// The thread that was the last to end, or is about to.
    ended: Option<JoinHandle<()>>,
    next_pool: u32,
}

pub(super) struct Io {
    pub(super) poller: Poller,
    /// The pools that have not ended.
    pools: Mutex<HashMap<u32, Arc<Pool>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// When the pools are to try again to start workers.
    call_back_at: Mutex<Option<Instant>>,
}

impl Thread {
    const fn none() -> Mutex<Self> {
        Mutex::new(Self { io: None, ended: None, next_pool: 0 })
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
                    thread: Mutex::new(None),
                    call_back_at: Mutex::new(None),
                };
                (Arc::new(io), true)
            }
        };
        let pool = make(&io, id)?;
        if is_new {
            let own = Arc::clone(&io);
            let name = "process-pool-io".to_owned();
            let spawned = std::thread::Builder::new()
                .name(name)
                .spawn(move || own.run())
                .map_err(explain("the thread that reads what workers send can't be started"))?;
            *io.thread.lock() = Some(spawned);
        }
        io.pools.lock().insert(id, Arc::clone(&pool));
        thread.io = Some(io);
        Ok(pool)
    }

    /// A pool has ended. After the last one the thread ends.
    pub(super) fn leave(&self, id: u32) {
        let mut thread = THREAD.lock();
        let mut pools = self.pools.lock();
        let pool = pools.remove(&id);
        if pools.is_empty() {
            thread.io = None;
            thread.ended = self.thread.lock().take();
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
            self.poller.wake();
        }
    }

    /// Calls the pools back if it is time for that. Returns the time until the next call.
    fn call_back_if_due(&self) -> Option<Duration> {
        loop {
            let mut next = self.call_back_at.lock();
            let left = (*next)?.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Some(left);
            }
            *next = None;
            drop(next);
            let pools: Vec<_> = self.pools.lock().values().map(Arc::clone).collect();
            pools.iter().for_each(Pool::retry_starts);
        }
    }

    /// Waits for the thread, if it ends.
    pub(super) fn join_ended() {
        let ended = THREAD.lock().ended.take();
        if let Some(thread) = ended.filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }

    fn run(&self) {
        let mut events = Vec::new();
        loop {
            // An error would be one of ours; to look again is all that can be done.
            let limit = self.call_back_if_due().into_iter().chain(timer::stand_in()).min();
            let _ = self.poller.wait(&mut events, limit);
            for event in events.drain(..) {
                let (pool, worker) = ((event.key >> 32) as u32, event.key as u32);
                let pool = self.pools.lock().get(&pool).map(Arc::clone);
                match pool {
                    Some(pool) if worker == CONTROL => pool.on_control(),
                    Some(pool) => pool.on_worker(worker, event.readable, event.writable),
                    None => {}
                }
            }
            // Under the lock under which a new pool would join.
            let _thread = THREAD.lock();
            if self.pools.lock().is_empty() {
                return;
            }
        }
    }
}
