//! The executor without threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Poll, Waker};

use crate::clock;
use crate::error::{Error, TrySubmitError};
use crate::executor::sealed::Sealed;
use crate::executor::{Permit, impl_executor};
use crate::future::TaskFuture;
use crate::job::{Call, Job};
use crate::map::apply::Here;
use crate::map::crew::{AfterChunk, Crew};
use crate::map::{self, Map};
use crate::metrics::{Metrics, Totals, WorkerMetrics};
use crate::panic::{catch, drop_quietly, install_hook};
use crate::portable::Portable;
use crate::shutdown::{Closing, Place, Shutdown, ShutdownFuture, ShutdownReport};
use crate::sync::Mutex;

/// Runs every job at its submission, on the caller's thread. For unit tests of code that takes
/// an [`Executor`](crate::Executor): no threads, no order but the program's.
///
/// The futures are finished when `submit` returns; a panic of the job is caught and becomes
/// [`Error::Panicked`], as on threads. A [`Map`] computes its first item at the call and the
/// others as they are asked for. There is no queue, so nothing waits, is full, or can be
/// cancelled. After [`shutdown`](Self::shutdown) submissions end with [`Error::ShutDown`].
///
/// ```
/// use concurrent_futures::InlineExecutor;
///
/// let executor = InlineExecutor::new();
/// let future = executor.submit(|| 6 * 7);
/// assert!(future.is_done());
/// assert_eq!(future.result()?, 42);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone)]
pub struct InlineExecutor {
    shared: Arc<Shared>,
}

struct Shared {
    closed: AtomicBool,
    /// Maps do not go on either.
    cancelled: AtomicBool,
    counts: Mutex<Counts>,
}

struct Counts {
    /// The lock makes this thread the only writer.
    metrics: WorkerMetrics,
    running: usize,
    at_shutdown: Option<Totals>,
}

impl Shared {
    fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        totals.add(&self.counts.lock().metrics);
        totals
    }
}

impl InlineExecutor {
    /// An open executor.
    pub fn new() -> Self {
        install_hook();
        Self {
            shared: Arc::new(Shared {
                closed: AtomicBool::new(false),
                cancelled: AtomicBool::new(false),
                counts: Mutex::new(Counts {
                    metrics: WorkerMetrics::new(),
                    running: 0,
                    at_shutdown: None,
                }),
            }),
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.shared.closed.load(SeqCst) { Err(Error::ShutDown) } else { Ok(()) }
    }

    /// Runs the job, then returns its future.
    pub fn submit<J: Job>(&self, job: J) -> TaskFuture<J::Output> {
        match self.check_open() {
            Ok(()) => TaskFuture::ready(self.run(job)),
            Err(error) => {
                drop_quietly(job);
                TaskFuture::ready(Err(error))
            }
        }
    }

    /// Runs the job, or gives it back after a shutdown.
    ///
    /// # Errors
    ///
    /// The job, with [`ShutDown`](Error::ShutDown).
    pub fn try_submit<J: Job>(&self, job: J) -> Result<TaskFuture<J::Output>, TrySubmitError<J>> {
        match self.check_open() {
            Ok(()) => Ok(TaskFuture::ready(self.run(job))),
            Err(error) => Err(TrySubmitError::new(job, error)),
        }
    }

    fn run<J: Job>(&self, job: J) -> Result<J::Output, Error> {
        self.shared.counts.lock().running += 1;
        let start = clock::now();
        let outcome = catch(|| job.run()).map_err(|panicked| Error::Panicked(Box::new(panicked)));
        let mut counts = self.shared.counts.lock();
        counts.running -= 1;
        counts.metrics.started(0);
        counts.metrics.ran(clock::now().saturating_sub(start));
        if outcome.is_ok() {
            counts.metrics.completed();
        } else {
            counts.metrics.failed();
        }
        outcome
    }

    /// Ready at once: there is always room.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](Error::ShutDown).
    pub async fn reserve(&self) -> Result<Permit<Self>, Error> {
        self.check_open()?;
        Ok(Permit::new(self.clone()))
    }

    /// Calls `f` with every item: the first now, the others when they are asked for.
    pub fn map<A, R, F, I>(&self, f: F, items: I) -> Map<R>
    where
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(A) -> R + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        map::start(self.clone(), Here::new(f), items.into_iter()).0
    }

    /// One: the caller.
    pub fn max_workers(&self) -> usize {
        1
    }

    /// The executor's counters. `workers`, `idle`, `queued`, `cancelled` and
    /// `workers_lost` are always 0.
    pub fn metrics(&self) -> Metrics {
        let totals = self.shared.totals();
        let (completed, failed) = (totals.completed, totals.failed);
        let (queue_time, run_time) = totals.times();
        let running = self.shared.counts.lock().running;
        Metrics {
            workers: 0,
            idle: 0,
            queued: 0,
            running,
            submitted: completed + failed + running as u64,
            completed,
            failed,
            cancelled: 0,
            workers_lost: 0,
            queue_time,
            run_time,
        }
    }

    /// Takes no more jobs. There is nothing to wait for: the report is ready.
    pub fn shutdown(&self, how: Shutdown) -> ShutdownFuture {
        self.shared.cancelled.fetch_or(how == Shutdown::CancelQueued, SeqCst);
        self.shared.closed.store(true, SeqCst);
        let totals = self.shared.totals();
        self.shared.counts.lock().at_shutdown.get_or_insert(totals);
        ShutdownFuture::new(self.shared.clone())
    }

    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    ///
    /// None; the signature is that of all executors.
    pub fn shutdown_blocking(&self, how: Shutdown) -> Result<ShutdownReport, Error> {
        self.shutdown(how).result()
    }
}

impl Closing for Shared {
    fn poll_ended(&self, _place: &mut Place, _waker: &Waker) -> Poll<()> {
        Poll::Ready(())
    }

    fn give_up(&self, _place: Place) {}

    fn report(&self) -> ShutdownReport {
        let now = self.totals();
        let counts = self.counts.lock();
        let before = counts.at_shutdown.as_ref();
        ShutdownReport {
            completed: now.completed - before.map_or(0, |totals| totals.completed),
            failed: now.failed - before.map_or(0, |totals| totals.failed),
            ..ShutdownReport::default()
        }
    }

    fn escalate(&self) {}

    fn is_inside(&self) -> bool {
        false
    }

    fn join(&self) {}
}

impl Default for InlineExecutor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InlineExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineExecutor")
            .field("closed", &self.shared.closed)
            .finish_non_exhaustive()
    }
}

impl Permit<InlineExecutor> {
    /// Runs the job, then returns its future.
    pub fn submit<J: Job>(self, job: J) -> TaskFuture<J::Output> {
        self.into_executor().submit(job)
    }
}

impl Sealed for InlineExecutor {
    fn submit_reserved<A: Portable, R: Portable>(&self, call: Call<A, R>) -> TaskFuture<R> {
        self.submit(call)
    }

    fn release_room(&self) {}
}

impl_executor!(InlineExecutor);

/// The consumer computes a chunk whenever it has none.
impl Crew for InlineExecutor {
    fn size(&self) -> usize {
        1
    }

    fn check_open(&self) -> Result<(), Error> {
        self.check_open()
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>) -> TaskFuture<()> {
        if self.shared.cancelled.load(SeqCst) {
            return TaskFuture::ready(Err(self.refusal()));
        }
        TaskFuture::ready(self.run(driver))
    }

    fn after_chunk(&self) -> AfterChunk {
        AfterChunk::Stop
    }

    fn refusal(&self) -> Error {
        Error::Cancelled
    }

    fn may_help(&self) -> bool {
        false
    }
}
