//! The executor without threads.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::clock;
use crate::closed::Closed;
use crate::core::{Extra, Promise, Source, StopFlag, TaskId, context};
use crate::dump::Dump;
use crate::error::{Error, TrySubmitError};
use crate::executor::{Permit, impl_executor, impl_service, takes_jobs};
use crate::executor_state::ExecutorState;
use crate::future::TaskFuture;
use crate::job::{Job, SendJob};
use crate::label::Label;
use crate::lifecycle::{Accepting, Counts, Lifecycle, Phase};
use crate::map::apply::Here;
use crate::map::crew::{AfterChunk, Crew};
use crate::map::{Map, TryMap};
use crate::metrics::{Metrics, Totals, WorkerMetrics};
use crate::panic::{catch, drop_quietly, install_hook};
use crate::room::Room;
use crate::shutdown::{Closing, Place, Shutdown, ShutdownFuture, ShutdownReport};
use crate::stop_token::StopToken;
use crate::sync::{Mutex, MutexGuard};
use crate::task_options::TaskOptions;
use crate::timer::{Timer, deadline};

/// Runs every job at its submission, on the caller's thread. For unit tests of code that takes
/// an [`Executor`](crate::Executor): no threads, no order but the program's.
///
/// The futures are finished when `submit` returns; a panic of the job is caught and becomes
/// [`Error::Panicked`], as on threads. A [`Map`] computes its items as they are
/// asked for. There is no queue, so nothing waits, is full, or can be
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

struct Shared(Mutex<State>);

thread_local! {
    /// The executor whose job this thread runs.
    static CURRENT: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

struct State {
    life: Lifecycle,
    /// The lock makes this thread the only writer.
    metrics: WorkerMetrics,
    /// Tasks, and jobs of maps, that are running.
    tasks: usize,
    map_jobs: usize,
    /// Items of maps that have a value.
    items: u64,
}

impl State {
    fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        totals.add(&self.metrics);
        totals
    }

    fn counts(&self) -> Counts {
        let Totals { completed, failed, .. } = self.totals();
        Counts { completed, failed, cancelled: 0 }
    }
}

impl Accepting for Shared {
    fn life<R>(&self, look: impl FnOnce(&mut Lifecycle) -> R) -> R {
        look(&mut self.0.lock().life)
    }

    fn room(&self) -> Option<&Room> {
        None
    }

    fn close(self: &Arc<Self>, how: Shutdown) {
        let mut state = self.0.lock();
        let counts = state.counts();
        state.life.close(how, counts);
        drop(state);
        self.tell_closed();
    }
}

impl InlineExecutor {
    /// An open executor.
    pub fn new() -> Self {
        install_hook();
        let life = Lifecycle::new(Phase::Open);
        let state = State { life, metrics: WorkerMetrics::new(), tasks: 0, map_jobs: 0, items: 0 };
        Self { shared: Arc::new(Shared(Mutex::new(state))) }
    }

    /// Runs the job, then returns its future.
    pub fn submit<J>(&self, job: J) -> TaskFuture<J::Output>
    where
        J: Job + Send + 'static,
        J::Output: Send + 'static,
    {
        self.try_submit(job).unwrap_or_else(refused)
    }

    /// Runs the job, or gives it back after a shutdown.
    ///
    /// # Errors
    ///
    /// The job, with [`ShutDown`](Error::ShutDown).
    pub fn try_submit<J>(&self, job: J) -> Result<TaskFuture<J::Output>, TrySubmitError<J>>
    where
        J: Job + Send + 'static,
        J::Output: Send + 'static,
    {
        match self.shared.check_open() {
            Ok(()) => Ok(self.run(job)),
            Err(error) => Err(TrySubmitError::new(job, error)),
        }
    }

    fn submit_job<J: SendJob>(
        &self,
        job: J,
        options: TaskOptions,
        _holds_room: bool,
    ) -> TaskFuture<J::Output> {
        self.try_submit_job(job, options).unwrap_or_else(refused)
    }

    fn try_submit_job<J: SendJob>(
        &self,
        job: J,
        options: TaskOptions,
    ) -> Result<TaskFuture<J::Output>, TrySubmitError<J>> {
        match self.shared.check_open() {
            Ok(()) => Ok(self.run_with(job, options)),
            Err(error) => Err(TrySubmitError::new(job, error)),
        }
    }

    /// Runs a job that sees its options, and what asks the job to stop on whose thread it runs.
    fn run_with<J: SendJob>(&self, job: J, options: TaskOptions) -> TaskFuture<J::Output> {
        let TaskOptions { options, stop: token } = options;
        let limit = options.timeout.map(|limit| (limit, deadline(limit)));
        let passed = Arc::<StopFlag>::default();
        let timer = limit.map(|(_, at)| {
            let passed = Arc::clone(&passed);
            Timer::new(at, Box::new(move || passed.set()))
        });
        let mut stop = context::stop_flags();
        stop.extend(token.iter().flat_map(StopToken::flags).cloned());
        stop.push(passed);
        let extra = Extra::with_deadline(options, limit.map(|(_, at)| at));
        let (promise, future) = Promise::of(InlineTask { stop, extra });
        let timer = match timer.transpose() {
            Ok(timer) => timer,
            Err(refused) => {
                drop_quietly(job);
                promise.keep(Err(Error::NoTimer(Arc::new(refused))), || ());
                return TaskFuture::new(future);
            }
        };
        let (outcome, ticks) = self.count(|| {
            let mut outcome = Err(Error::Cancelled);
            promise.run_body(|| outcome = run(job));
            match limit {
                Some((limit, at)) if at <= Instant::now() => {
                    drop_quietly(outcome);
                    Err(Error::TimedOut { limit, started: true })
                }
                _ => outcome,
            }
        });
        drop(timer);
        promise.ran(ticks);
        promise.keep(outcome, || ());
        TaskFuture::new(future)
    }

    /// There is no queue, so that no room is taken.
    fn leave_room(&self) {}

    fn run<J: SendJob>(&self, job: J) -> TaskFuture<J::Output> {
        let (outcome, ticks) = self.count(|| run(job));
        let future = TaskFuture::ready(outcome);
        future.task().header().state.set_run_time(ticks);
        future
    }

    /// Runs a job of this executor, which does not panic. Returns how long that took, too, in ticks.
    fn count<T>(&self, job: impl FnOnce() -> Result<T, Error>) -> (Result<T, Error>, u64) {
        let (outcome, ticks, state) = self.stay(|state| &mut state.tasks, job);
        // In one critical section, so that `submitted`, which is the sum, never goes back.
        if outcome.is_ok() {
            state.metrics.completed();
        } else {
            state.metrics.failed();
        }
        drop(state);
        (outcome, ticks)
    }

    /// Calls `job`, which does not panic, counted as one of `running`.
    fn stay<T>(
        &self,
        running: fn(&mut State) -> &mut usize,
        job: impl FnOnce() -> T,
    ) -> (T, u64, MutexGuard<'_, State>) {
        // The job runs without the lock: it may use the executor itself, and several threads may.
        *running(&mut self.shared.0.lock()) += 1;
        let start = clock::now();
        let outer = CURRENT.replace(Some(Arc::clone(&self.shared)));
        let outcome = job();
        CURRENT.set(outer);
        let ticks = clock::now().saturating_sub(start);
        let mut state = self.shared.0.lock();
        *running(&mut state) -= 1;
        state.metrics.started(0);
        state.metrics.ran(ticks);
        (outcome, ticks, state)
    }

    /// Ready at once: there is always room.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](Error::ShutDown).
    pub async fn reserve(&self) -> Result<Permit<Self>, Error> {
        self.shared.check_open()?;
        Ok(Permit::new(self.clone()))
    }

    /// Takes room in the queue if there is some now, to submit without being refused.
    ///
    /// # Errors
    ///
    /// [`QueueFull`](Error::QueueFull), [`ShutDown`](Error::ShutDown) or
    /// [`BrokenPool`](Error::BrokenPool).
    pub fn try_reserve(&self) -> Result<Permit<Self>, Error> {
        self.shared.check_open()?;
        Ok(Permit::new(self.clone()))
    }

    /// Calls `f` with every item, when its result is asked for. See [`Map`].
    pub fn map<A, R, F, I>(&self, f: F, items: I) -> Map<R>
    where
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(A) -> R + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        Map::new(self.clone(), Here::new(f), items.into_iter())
    }

    /// Calls `f` with the context and every item, when its result is asked for. See
    /// [`ThreadPoolExecutor::map_with`](crate::ThreadPoolExecutor::map_with).
    pub fn map_with<C, A, R, F, I>(&self, context: C, f: F, items: I) -> Map<R>
    where
        C: Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(&C, A) -> R + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        Map::new(self.clone(), Here::with(context, f), items.into_iter())
    }

    /// As [`map`](Self::map), with a function that returns a `Result`: its first error, in the order of the
    /// input, ends the map, and what has not started by then never runs. See [`TryMap`].
    pub fn try_map<A, R, E, F, I>(&self, f: F, items: I) -> TryMap<R, E>
    where
        A: Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        self.map(f, items).until_error()
    }

    /// One: the caller.
    pub fn max_workers(&self) -> usize {
        1
    }

    /// The executor's counters. `workers`, `idle`, `queued`, `cancelled` and
    /// `workers_lost` are always 0.
    pub fn metrics(&self) -> Metrics {
        let (totals, tasks, map_jobs, items) = {
            let state = self.shared.0.lock();
            (state.totals(), state.tasks, state.map_jobs, state.items)
        };
        let (completed, failed) = (totals.completed, totals.failed);
        let (queue_time, run_time) = totals.times();
        let submitted = completed + failed + tasks as u64;
        Metrics {
            running: tasks + map_jobs,
            submitted,
            completed,
            failed,
            items,
            queue_time,
            run_time,
            ..Metrics::none()
        }
    }

    /// A snapshot for people. There are no workers and no queue, so it has the state alone.
    pub fn dump(&self) -> Dump {
        Dump::of_none("inline", self.state(), 1)
    }

    /// The phase of the executor's life. It has ended as soon as it is shut down.
    pub fn state(&self) -> ExecutorState {
        self.shared.life(|life| life.state(!life.is_open()))
    }

    /// Waits until the executor is shut down. See [`ExecutorService::closed`](crate::ExecutorService::closed).
    pub fn closed(&self) -> Closed {
        Closed::new(Some(self.shared.closed()))
    }

    /// The executor whose job this thread runs.
    pub(crate) fn current() -> Option<Self> {
        let shared = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()?;
        Some(Self { shared })
    }

    /// Takes no more jobs. There is nothing to wait for: the report is ready.
    pub fn shutdown(&self, how: Shutdown) -> ShutdownFuture {
        self.shared.close(how);
        ShutdownFuture::new(self.shared.clone())
    }

    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    ///
    /// None; the signature is that of all executors.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn shutdown_blocking(&self, how: Shutdown) -> Result<ShutdownReport, Error> {
        self.shutdown(how).result()
    }
}

fn run<J: SendJob>(job: J) -> Result<J::Output, Error> {
    catch(|| job.run()).map_err(|panicked| Error::Panicked(Box::new(panicked)))
}

/// The future of a job that was refused.
fn refused<J: SendJob>(refused: TrySubmitError<J>) -> TaskFuture<J::Output> {
    let (job, error) = refused.into_parts();
    drop_quietly(job);
    TaskFuture::ready(Err(error))
}

/// A job with options, as it sees itself while it runs.
struct InlineTask {
    stop: Vec<Arc<StopFlag>>,
    extra: Extra,
}

impl Source for InlineTask {
    fn withdraw(&self, _task: TaskId, _stop: bool) -> bool {
        false
    }

    fn is_running(&self, _task: TaskId) -> bool {
        true
    }

    fn is_stop_requested(&self) -> bool {
        self.stop.iter().any(|flag| flag.is_set())
    }

    fn stop_flags(&self) -> Vec<Arc<StopFlag>> {
        self.stop.clone()
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }
}

impl Closing for Shared {
    fn poll_ended(&self, _place: &mut Place, _waker: &Waker) -> Poll<()> {
        Poll::Ready(())
    }

    fn give_up(&self, _place: Place) {}

    fn report(&self) -> ShutdownReport {
        let state = self.0.lock();
        state.life.report(state.counts(), 0, Vec::new())
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
            .field("closed", &self.shared.check_open().is_err())
            .finish_non_exhaustive()
    }
}

impl Permit<InlineExecutor> {
    /// Runs the job, then returns its future.
    pub fn submit<J>(self, job: J) -> TaskFuture<J::Output>
    where
        J: Job + Send + 'static,
        J::Output: Send + 'static,
    {
        self.into_executor().submit(job)
    }
}

impl_executor!(InlineExecutor);
takes_jobs!(InlineExecutor);
impl_service!(InlineExecutor);

/// The consumer computes a chunk whenever it has none.
impl Crew for InlineExecutor {
    fn size(&self) -> usize {
        1
    }

    fn check_open(&self) -> Result<(), Error> {
        self.shared.check_open()
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>, _label: Option<&Label>) -> TaskFuture<()> {
        // Not `check_open`: after a `Drain` a map that was accepted goes on.
        if !self.shared.life(|life| life.goes_on()) {
            return TaskFuture::ready(Err(self.refusal()));
        }
        let (outcome, ..) = self.stay(|state| &mut state.map_jobs, || run(driver));
        TaskFuture::ready(outcome)
    }

    fn count_items(&self, count: usize) {
        self.shared.0.lock().items += count as u64;
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
