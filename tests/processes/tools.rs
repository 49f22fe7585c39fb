//! What puts a test and its jobs in other processes in order, and what is known of processes.
//!
//! A test and its job have nothing in common but files. Each tool is made by the test and given to
//! the job as an argument; what travels is its path.

#![allow(dead_code, reason = "no test binary uses all of it")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use concurrent_futures::{
    Error, ProcessPoolBuilder, ProcessPoolExecutor, Shutdown, TaskFuture, WorkerLost, call,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A limit that no test reaches.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A limit that every test that sets it waits for.
pub(crate) const SHORT: Duration = Duration::from_millis(20);

/// The panics of jobs are reported on stderr, which no test harness captures: at least in short.
pub(crate) fn builder(max_workers: usize) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(max_workers).env("RUST_BACKTRACE", "0")
}

pub(crate) fn pool(max_workers: usize) -> ProcessPoolExecutor {
    builder(max_workers).build().unwrap()
}

/// A file of its own, which goes with this.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // Tests that were killed leave such files, and numbers of processes come again.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let (pid, count) = (process::id(), COUNT.fetch_add(1, Relaxed));
        let name = format!("concurrent-futures-{now}-{pid}-{count}");
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Closed until it is opened, then open for ever. It opens with the last of the test's clones, so
/// that a failed test leaves no job behind.
///
/// The test has the file locked, and a job waits for a lock that it shares with other jobs.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Gate {
    path: PathBuf,
    #[serde(skip)]
    closed: Option<Arc<(Place, File)>>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let file = File::create_new(&place.0).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        Self { path: place.0.clone(), closed: Some(Arc::new((place, file))) }
    }

    pub(crate) fn open(&self) {
        let (_, file) = &**self.closed.as_ref().expect("the test opens it");
        flock(file, FlockOperation::Unlock).unwrap();
    }

    /// Blocks until the gate is open.
    pub(crate) fn wait(&self) {
        let Ok(file) = File::open(&self.path) else { return }; // the test is over
        while flock(&file, FlockOperation::LockShared) == Err(Errno::INTR) {}
    }
}

/// What jobs have reported: numbers, in the order in which they came. A counter if one only looks
/// at how many there are.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Reports {
    path: PathBuf,
    #[serde(skip)]
    inbox: Option<Arc<Mutex<Inbox>>>,
}

struct Inbox {
    /// Open for both directions, so that it never comes to its end.
    fifo: File,
    read: Vec<u32>,
    _place: Place,
}

impl Inbox {
    fn read_one(&mut self) {
        let mut number = [0; 4];
        self.fifo.read_exact(&mut number).unwrap();
        self.read.push(u32::from_ne_bytes(number));
    }
}

impl Reports {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let path = place.0.clone();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fifo = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let inbox = Inbox { fifo, read: Vec::new(), _place: place };
        Self { path, inbox: Some(Arc::new(Mutex::new(inbox))) }
    }

    /// In a job. Up to 16,000 reports that the test has not read find room.
    pub(crate) fn add(&self, number: u32) {
        // Both directions: it does not wait for a reader, who may be gone.
        let fifo = OpenOptions::new().read(true).write(true).open(&self.path);
        fifo.unwrap().write_all(&number.to_ne_bytes()).unwrap();
    }

    /// Blocks until there are `n` reports in all, and tells which.
    pub(crate) fn wait_for(&self, n: usize) -> Vec<u32> {
        let mut inbox = self.inbox().lock().unwrap();
        while inbox.read.len() < n {
            inbox.read_one();
        }
        inbox.read.clone()
    }

    /// All reports that have come.
    pub(crate) fn get(&self) -> Vec<u32> {
        let mut inbox = self.inbox().lock().unwrap();
        for _ in 0..ioctl_fionread(&inbox.fifo).unwrap() / 4 {
            inbox.read_one();
        }
        inbox.read.clone()
    }

    fn inbox(&self) -> &Mutex<Inbox> {
        self.inbox.as_ref().expect("the test reads them")
    }
}

// ---- Jobs ----

/// The process that runs the job.
pub(crate) fn own_pid() -> u32 {
    process::id()
}

/// Reports its process, and returns `value` once the gate is open.
pub(crate) fn hold(started: Reports, gate: Gate, value: u32) -> u32 {
    started.add(process::id());
    gate.wait();
    value
}

/// As [`hold`], and returns its process.
fn hold_for_pid(started: Reports, gate: Gate) -> u32 {
    hold(started, gate, process::id())
}

/// Occupies a worker until the gate is opened. Returns when the job runs; its value is its process.
pub(crate) fn occupy(pool: &ProcessPoolExecutor, gate: &Gate) -> TaskFuture<u32> {
    let started = Reports::new();
    let future = pool.submit(call!(hold_for_pid(started.clone(), gate.clone())));
    started.wait_for(1);
    future
}

/// Occupies every worker with a job that returns 42 once the gate is open. Returns when they all
/// run.
pub(crate) fn occupy_all(pool: &ProcessPoolExecutor, gate: &Gate) -> Vec<TaskFuture<u32>> {
    let started = Reports::new();
    let futures = (0..pool.max_workers())
        .map(|_| pool.submit(call!(hold(started.clone(), gate.clone(), 42))))
        .collect();
    started.wait_for(pool.max_workers());
    futures
}

// ---- Processes ----

/// Whether there is such a process, be it one that has ended and was not reaped.
pub(crate) fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[track_caller]
pub(crate) fn assert_gone(pids: &[u32]) {
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(status.is_err(), "{}", status.unwrap());
    }
}

/// Blocks until the process has ended.
pub(crate) fn until_ended(pid: u32) {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => {
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            while poll(&mut ended, None) == Err(Errno::INTR) {}
        }
        Err(error) => assert_eq!(error, Errno::SRCH),
    }
}

/// The parent of a process; `None` if there is no such process any more.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name comes before, in brackets, and may have brackets and blanks itself.
    let parent = status.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok();
    parent.filter(|parent| *parent != 0) // as it is of a process that is being reaped
}

/// The processes of a pool: its workers, and the one that has forked them.
pub(crate) fn family(pool: &ProcessPoolExecutor) -> Vec<u32> {
    let workers = pool.worker_pids();
    let mut family: Vec<u32> = workers.iter().filter_map(|pid| parent_of(*pid)).collect();
    family.dedup();
    assert!(family.len() <= 1, "the parents of {workers:?} are {family:?}");
    family.extend(workers);
    family
}

/// Ends a pool and sees that none of its processes is left.
#[track_caller]
pub(crate) fn end(pool: &ProcessPoolExecutor) {
    let family = family(pool);
    let report = pool.shutdown_blocking(Shutdown::Drain).unwrap();
    assert_eq!(report.running, []);
    assert_eq!((pool.metrics().workers, pool.worker_pids().len()), (0, 0));
    assert_gone(&family);
}

/// As [`end`], in async code.
pub(crate) async fn ended(pool: &ProcessPoolExecutor) {
    let family = family(pool);
    let report = pool.shutdown(Shutdown::Drain).await;
    assert_eq!(report.running, []);
    assert_eq!((pool.metrics().workers, pool.worker_pids().len()), (0, 0));
    assert_gone(&family);
}

// ---- Outcomes ----

#[track_caller]
pub(crate) fn lost<T: std::fmt::Debug>(outcome: Result<T, Error>) -> WorkerLost {
    match outcome {
        Err(Error::WorkerLost(lost)) => *lost,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_panicked<T: std::fmt::Debug>(outcome: &Result<T, Error>, text: &str) {
    match outcome {
        Err(Error::Panicked(panicked)) => assert_eq!(panicked.message(), text),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_cancelled<T: std::fmt::Debug>(outcome: &Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
}

#[track_caller]
pub(crate) fn assert_timed_out<T: std::fmt::Debug>(
    outcome: &Result<T, Error>,
    after: Duration,
    was_started: bool,
) {
    match outcome {
        Err(Error::TimedOut { limit, started, .. }) => {
            assert_eq!((*limit, *started), (after, was_started));
        }
        other => panic!("{other:?}"),
    }
}
