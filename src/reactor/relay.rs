//! A thread that reads for many, and the user code that what it reads leads to: a `Deserialize`, a
//! waker, a destructor, a callback, a subscriber.
//!
//! That code runs on the thread that reads, since a change of threads for each result would cost more
//! than all the rest. It may take long, or wait for what is still to be read. So a second thread
//! stands by: when user code has not come back within [`PATIENCE`], it takes over the reading, and the
//! user code that is due, and a further thread stands by for it. The thread that comes back finds its
//! [`Turn`] taken, and stands by or ends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::panic::{catch, drop_quietly};
use crate::reactor::turn::{Reading, Standby, Turn};
use crate::shrink::shrink;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release, Ordering::SeqCst};

/// The time between two looks of the standby: the longest time that user code may keep the thread. It is
/// seen after twice that at most. The standby begins with the first one, and goes on to the second, by
/// steps, while it finds that user code comes back: each look takes the time of a task from who has one
/// CPU for both.
const PATIENCE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(8)];

/// Time without any user code after which the standby sleeps. Until then it need not be woken by the
/// next piece.
const REST: Duration = Duration::from_millis(16);

/// The time between two attempts to start a standby that the system refuses.
const BACK_OFF: Duration = Duration::from_millis(10);

/// A source of messages, and of user code to run for them.
pub(crate) trait Reader: Send + Sync + 'static {
    /// User code to run for what was read.
    type Job: Send;

    /// State of the thread that reads, lost with its turn.
    type Own: Default;

    const THREAD: &'static str;

    fn relay(&self) -> &Relay<Self::Job>;

    /// Waits until there is something to read, and reads it. Runs no user code, but returns the next
    /// job, and leaves further ones to [`Relay::push`].
    fn read(&self, own: &mut Self::Own) -> Read<Self::Job>;

    fn run(&self, job: Self::Job);
}

pub(crate) enum Read<J> {
    /// Before those that were pushed.
    Job(J),
    /// No job, or none but those.
    Nothing,
    /// There will be nothing more.
    End,
}

impl<J> From<Option<J>> for Read<J> {
    fn from(job: Option<J>) -> Self {
        job.map_or(Self::Nothing, Self::Job)
    }
}

pub(crate) struct Relay<J> {
    turn: Turn,
    /// The first turn, until the first thread takes it.
    first: Mutex<Option<Reading>>,
    /// Jobs to run, in this order.
    jobs: Mutex<VecDeque<J>>,
    /// Set while `jobs` has any, so that `next_job` need not lock them. Changed under their lock.
    has_jobs: AtomicBool,
    has_ended: AtomicBool,
    standby: Standby<Thread>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    /// Those that were started and may not have ended.
    all: Vec<JoinHandle<()>>,
    /// They were taken to be joined: a further one would outlive the end that was waited for.
    are_taken: bool,
    /// The system has refused a standby, and is not asked again before that.
    retry_at: Option<Instant>,
}

impl<J> Relay<J> {
    pub(crate) fn new() -> Self {
        let (turn, first) = Turn::new();
        Self {
            turn,
            first: Mutex::new(Some(first)),
            jobs: Mutex::default(),
            has_jobs: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            standby: Standby::none(),
            threads: Mutex::default(),
        }
    }

    /// Has jobs run, in this order, by the thread that reads, after its current read. Does not wake
    /// it.
    pub(crate) fn push(&self, added: impl Iterator<Item = J>) {
        let mut jobs = self.jobs.lock();
        jobs.extend(added);
        self.has_jobs.store(!jobs.is_empty(), Release);
    }

    pub(crate) fn push_front(&self, added: Option<J>) {
        let mut jobs = self.jobs.lock();
        added.into_iter().for_each(|job| jobs.push_front(job));
        self.has_jobs.store(!jobs.is_empty(), Release);
    }

    fn next_job(&self) -> Option<J> {
        if !self.has_jobs.load(Acquire) {
            return None;
        }
        let mut jobs = self.jobs.lock();
        let job = jobs.pop_front();
        shrink(&mut *jobs);
        if jobs.is_empty() {
            self.has_jobs.store(false, Release);
        }
        job
    }

    /// The threads, to be joined once there is nothing more to read. No further one starts.
    pub(crate) fn take_threads(&self) -> Vec<JoinHandle<()>> {
        let mut threads = self.threads.lock();
        threads.are_taken = true;
        std::mem::take(&mut threads.all)
    }

    fn end(&self) {
        // In this order: a thread that becomes the standby after the `take` sees that all has
        // ended, and does not park.
        self.has_ended.store(true, SeqCst);
        if let Some(standby) = self.standby.take() {
            standby.unpark();
        }
    }
}

/// Starts to read, on a thread of its own.
pub(crate) fn start<R: Reader>(reader: &Arc<R>) -> io::Result<()> {
    let own = Arc::clone(reader);
    reader.relay().threads.lock().spawn(R::THREAD, move || {
        // A standby is started now, since the system may refuse one when it is needed.
        wake_standby(&own);
        let first = own.relay().first.lock().take();
        if let Some(reading) = first {
            go_on(&own, reading);
        }
    })?;
    Ok(())
}

/// Reads, until there is nothing more, or the turn is taken over.
fn go_on<R: Reader>(reader: &Arc<R>, mut reading: Reading) {
    let relay = reader.relay();
    let mut own = R::Own::default();
    let mut next = relay.next_job();
    loop {
        while let Some(job) = next {
            if relay.turn.leave(&mut reading) {
                // No standby watches: one is called first, for the job may never come back.
                wake_standby(reader);
            }
            // The hook has reported a panic. Reading goes on for all the others.
            if let Err(panicked) = catch(|| reader.run(job)) {
                drop_quietly(panicked);
            }
            if !relay.turn.come_back(&mut reading) {
                // Another thread reads by now, from `R::Own::default()`: this one must not look at
                // its own state.
                return stand_by_again(reader);
            }
            next = relay.next_job();
        }
        next = match reader.read(&mut own) {
            Read::Job(job) => Some(job),
            Read::Nothing => relay.next_job(),
            Read::End => return relay.end(),
        };
    }
}

/// Has the standby look at the turn now and then; starts one if there is none.
fn wake_standby<R: Reader>(reader: &Arc<R>) {
    let relay = reader.relay();
    relay.standby.wake(&relay.turn, Thread::unpark, || {
        let mut threads = relay.threads.lock();
        // Without a standby the job runs unwatched, and the next one tries again.
        if threads.are_taken || threads.retry_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let own = Arc::clone(reader);
        let started = threads.spawn(R::THREAD, move || stand_by(&own));
        threads.retry_at = started.is_err().then(|| Instant::now() + BACK_OFF);
        started.ok()
    });
}

/// Makes this thread, which has lost its turn, the standby, unless there is one.
fn stand_by_again<R: Reader>(reader: &Arc<R>) {
    let relay = reader.relay();
    if !relay.has_ended() && relay.standby.enlist(&relay.turn, thread::current) {
        stand_by(reader);
    }
}

/// Watches the turn, and reads once it has taken it over.
fn stand_by<R: Reader>(reader: &Arc<R>) {
    let relay = reader.relay();
    let [least, most] = PATIENCE;
    let mut before = relay.turn.look();
    let (mut patience, mut unchanged) = (least, Duration::ZERO);
    while !relay.has_ended() {
        relay.pause(patience);
        let now = relay.turn.look();
        if now != before {
            (before, unchanged) = (now, Duration::ZERO);
            patience = most.min(2 * patience);
            continue;
        }
        // For a whole pause the word has not changed; the take-over fails unless it is that of user
        // code.
        if let Some(reading) = relay.standby.take_over(&relay.turn, now) {
            return go_on(reader, reading);
        }
        unchanged += patience;
        // Only with a reader that waits for input: user code would have been taken over.
        if unchanged >= REST {
            relay.sleep();
            before = relay.turn.look();
            (patience, unchanged) = (least, Duration::ZERO);
        }
    }
}

impl<J> Relay<J> {
    fn has_ended(&self) -> bool {
        self.has_ended.load(SeqCst)
    }

    /// Lets user code that runs now come back.
    fn pause(&self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.has_ended() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Sleeps until user code is begun, or there is nothing more to read.
    fn sleep(&self) {
        if self.turn.stop_watching() {
            while self.turn.is_unwatched() && !self.has_ended() {
                thread::park();
            }
        } else {
            // A job has begun since, and its thread may have seen a watcher: the watch goes on.
            self.turn.watch();
        }
    }
}

impl Threads {
    fn spawn(&mut self, name: &str, main: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        let handle = thread::Builder::new().name(name.to_owned()).spawn(main)?;
        let thread = handle.thread().clone();
        // The caller holds the lock, so `take_threads` finds every thread that was started.
        join_finished(&mut self.all);
        self.all.push(handle);
        Ok(thread)
    }
}

/// Joins the threads that have done all but end. Without that one of them might outlive the end that was
/// waited for: it is about to leave the system, and on a busy machine that takes its time.
pub(super) fn join_finished(threads: &mut Vec<JoinHandle<()>>) {
    let all = std::mem::take(threads).into_iter();
    let (finished, others): (Vec<_>, _) = all.partition(JoinHandle::is_finished);
    *threads = others;
    for thread in finished {
        if let Err(panicked) = thread.join() {
            drop_quietly(panicked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has nothing to read.
    struct Idle(Relay<()>);

    impl Reader for Idle {
        type Job = ();
        type Own = ();

        const THREAD: &'static str = "idle";

        fn relay(&self) -> &Relay<()> {
            &self.0
        }

        fn read(&self, (): &mut ()) -> Read<()> {
            Read::End
        }

        fn run(&self, (): ()) {}
    }

    /// Reads a piece of quick user code again and again.
    #[cfg(all(target_os = "linux", not(miri)))]
    struct Quick {
        relay: Relay<u32>,
        read: std::sync::atomic::AtomicU32,
        done: std::sync::mpsc::SyncSender<()>,
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    impl Quick {
        const PIECES: u32 = 2_000;
        const PAUSE: Duration = Duration::from_micros(100);
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    impl Reader for Quick {
        type Job = u32;
        type Own = ();

        const THREAD: &'static str = "quick-relay";

        fn relay(&self) -> &Relay<u32> {
            &self.relay
        }

        fn read(&self, (): &mut ()) -> Read<u32> {
            thread::sleep(Self::PAUSE);
            let read = self.read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // One more than is waited for.
            if read > Self::PIECES { Read::End } else { Read::Job(read) }
        }

        fn run(&self, piece: u32) {
            if piece == Self::PIECES {
                // Until the looks are counted.
                let _ = self.done.send(());
                let _ = self.done.send(());
            }
        }
    }

    /// The fewest waits of the threads of this name.
    #[cfg(all(target_os = "linux", not(miri)))]
    fn fewest_waits(name: &str) -> Option<u128> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let waits = tasks.filter_map(|task| {
            let of = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let waits =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            waits.filter(|_| of.trim() == name)?.trim().parse().ok()
        });
        waits.min()
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn the_standby_looks_seldom_while_user_code_comes_back() {
        // The threads change their parts if the one that reads loses its CPU for long enough.
        let is_seldom = (0..10).any(|_| {
            let (done, is_done) = std::sync::mpsc::sync_channel(0);
            let read = std::sync::atomic::AtomicU32::new(0);
            let quick = Arc::new(Quick { relay: Relay::new(), read, done });
            let begin = Instant::now();
            start(&quick).unwrap();
            is_done.recv().unwrap();
            let (looks, took) = (fewest_waits(Quick::THREAD).unwrap(), begin.elapsed());
            drop(is_done);
            for thread in quick.relay.take_threads() {
                thread.join().unwrap();
            }
            looks < took.as_millis() / 4
        });
        assert!(is_seldom);
    }

    #[test]
    fn no_standby_starts_once_the_threads_were_taken() {
        let idle = Arc::new(Idle(Relay::new()));
        start(&idle).unwrap();
        for thread in idle.0.take_threads() {
            thread.join().unwrap();
        }
        wake_standby(&idle);
        assert_eq!(idle.0.take_threads().len(), 0);
    }
}
