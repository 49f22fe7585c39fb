//! The task cell: what the worker does against all that the caller can do at the same time.
//!
//! In every order the job runs or is dropped, once; its value is seen or dropped, once; and each
//! waiter is told.

use std::future::poll_fn;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use loom::future::block_on;
use loom::thread;

use crate::check;
use crate::core::cell::TaskRef;
use crate::core::context::{End, WorkerContext};
use crate::core::extra::{Extra, MaybeExtra, Options};
use crate::core::id::TaskId;
use crate::core::outcome::Outcome;
use crate::core::promise::Promise;
use crate::core::runnable::TaskWaker;
use crate::core::set::{CompletionSet, WakeAt};
use crate::core::stop_flag::StopFlag;
use crate::core::submit;
use crate::core::task::{Body, Host, Polled};
use crate::core::unobserved::OnUnobserved;
use crate::core::waits::{Awaited, Waits};
use crate::error::Error;
use crate::label::Label;
use crate::panic::Panicked;
use crate::sync::Mutex;

#[derive(Default)]
pub(crate) struct Counts {
    bodies: AtomicUsize,
    pub(crate) ran: AtomicUsize,
    bodies_dropped: AtomicUsize,
    values: AtomicUsize,
    values_dropped: AtomicUsize,
    told: AtomicUsize,
    /// Threads that wake a body.
    waking: std::sync::Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Counts {
    pub(crate) fn get(counter: &AtomicUsize) -> usize {
        counter.load(Relaxed)
    }

    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Relaxed);
    }

    /// Waits until no waker of a body is left.
    pub(crate) fn join(&self) {
        let waking = std::mem::take(&mut *self.waking.lock().unwrap());
        waking.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// All is over: what was made is gone.
    pub(crate) fn check(&self) {
        assert_eq!(Self::get(&self.bodies_dropped), Self::get(&self.bodies));
        assert_eq!(Self::get(&self.values), Self::get(&self.ran));
        assert_eq!(Self::get(&self.values_dropped), Self::get(&self.values));
    }
}

pub(crate) struct Value(StdArc<Counts>);

impl Value {
    fn new(counts: &StdArc<Counts>) -> Self {
        Counts::add(&counts.values);
        Self(StdArc::clone(counts))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        Counts::add(&self.0.values_dropped);
    }
}

/// A body that is pending so many times, and wakes itself each time.
pub(crate) struct TestBody<const ASYNC: bool> {
    counts: StdArc<Counts>,
    pending: usize,
    waker: std::sync::Weak<TaskWaker>,
}

impl<const ASYNC: bool> TestBody<ASYNC> {
    pub(crate) fn new(counts: &StdArc<Counts>, pending: usize) -> Self {
        Counts::add(&counts.bodies);
        Self { counts: StdArc::clone(counts), pending, waker: Default::default() }
    }
}

impl<const ASYNC: bool> Drop for TestBody<ASYNC> {
    fn drop(&mut self) {
        Counts::add(&self.counts.bodies_dropped);
    }
}

impl<const IS_ASYNC: bool> Body for TestBody<IS_ASYNC> {
    type Output = Value;

    const ASYNC: bool = IS_ASYNC;

    fn poll(mut self, task: &TaskRef) -> Polled<Self> {
        if self.pending > 0 {
            self.pending -= 1;
            let waker = TaskWaker::get(&mut self.waker, task);
            let waking = thread::spawn(move || waker.wake());
            self.counts.waking.lock().unwrap().push(waking);
            return Polled::Pending(self);
        }
        Counts::add(&self.counts.ran);
        Polled::Ready(Ok(Value::new(&self.counts)))
    }
}

/// A queue, and its lock.
struct TestHost {
    queue: Mutex<Vec<TaskRef>>,
    on_unobserved: OnUnobserved,
    stop: StdArc<StopFlag>,
}

impl TestHost {
    fn new() -> StdArc<Self> {
        Self::telling(OnUnobserved::default())
    }

    fn telling(on_unobserved: OnUnobserved) -> StdArc<Self> {
        StdArc::new(Self { queue: Mutex::new(Vec::new()), on_unobserved, stop: StdArc::default() })
    }
}

impl Host for TestHost {
    fn take_queued(&self, take: &mut dyn FnMut() -> bool) -> bool {
        let _lock = self.queue.lock();
        take()
    }

    fn requeue(self: &StdArc<Self>, task: TaskRef) {
        self.queue.lock().push(task);
    }

    fn release_room(&self) {}

    fn count_cancelled(&self) {}

    fn count_failed(&self) {}

    fn async_ended(&self, _id: TaskId) {}

    fn asked_to_stop(&self, _id: TaskId) {}

    fn on_unobserved(&self) -> &OnUnobserved {
        &self.on_unobserved
    }

    fn stop(&self) -> &StdArc<StopFlag> {
        &self.stop
    }

    fn name(&self) -> &str {
        "model"
    }
}

struct TestWorker;

impl WorkerContext for TestWorker {
    fn host(&self) -> *const () {
        std::ptr::null()
    }

    fn has_stack(&self) -> bool {
        false
    }

    fn started(&self, _: &TaskRef, _first: bool, _: Option<&Label>) -> u64 {
        0
    }

    fn stopped(&self, _since: u64, _end: End) -> u64 {
        0
    }

    fn wait_begin(&self, _: Option<Awaited>, _: bool) {}

    fn wait_end(&self) {}

    fn waits(&self) -> Option<&Waits> {
        None
    }
}

/// The worker: runs the task, unless it is withdrawn.
fn work(task: TaskRef) {
    if let Some(claimed) = task.claim() {
        claimed.run(&TestWorker);
    }
}

fn submit(counts: &StdArc<Counts>) -> (TaskRef, Outcome<Value>) {
    let body = TestBody::<false>::new(counts, 0);
    submit_to(&TestHost::new(), body, (), false)
}

fn submit_to<B: Body, X: MaybeExtra>(
    host: &StdArc<TestHost>,
    body: B,
    extra: X,
    takes_room: bool,
) -> (TaskRef, Outcome<B::Output>) {
    let mut task = None;
    let outcome = submit::submit(body, |new| {
        task = Some(new.queue(StdArc::clone(host), extra, takes_room));
        None
    });
    (task.unwrap(), outcome)
}

/// A queued task, for other models.
pub(crate) fn queued() -> (TaskRef, Dropped) {
    let (task, outcome) = submit(&StdArc::default());
    (task, Dropped(Some(outcome)))
}

/// An outcome that is dropped as a future does it.
pub(crate) struct Dropped(Option<Outcome<Value>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            drop_future(outcome);
        }
    }
}

pub(crate) fn drop_future<T>(mut outcome: Outcome<T>) {
    let now = outcome.look();
    if !now.is_done() && !now.is_observed() {
        outcome.task().runnable().withdraw_unstarted();
    }
    outcome.abandon();
}

pub(crate) fn wait<T>(outcome: &mut Outcome<T>) -> Result<T, Error> {
    block_on(poll_fn(|cx| outcome.poll(cx)))
}

fn cancel<T>(outcome: &Outcome<T>) -> bool {
    outcome.task().runnable().cancel()
}

fn add_callback(outcome: &Outcome<Value>, counts: &StdArc<Counts>) {
    let counts = StdArc::clone(counts);
    outcome.add_callback(move |_| Counts::add(&counts.told));
}

/// Has a worker run the task while `caller` does something else with its outcome.
fn against_the_worker(caller: impl Fn(Outcome<Value>, &StdArc<Counts>) + Send + Sync + 'static) {
    check(move || {
        let counts = StdArc::<Counts>::default();
        let (task, outcome) = submit(&counts);
        let worker = thread::spawn(move || work(task));
        caller(outcome, &counts);
        worker.join().unwrap();
        assert!(Counts::get(&counts.ran) <= 1);
        counts.check();
    });
}

#[test]
fn the_caller_waits() {
    against_the_worker(|mut outcome, counts| {
        assert!(wait(&mut outcome).is_ok());
        assert_eq!(Counts::get(&counts.ran), 1);
        assert!(matches!(wait(&mut outcome), Err(Error::ResultTaken)));
        drop_future(outcome);
    });
}

#[test]
fn the_caller_drops_the_future() {
    against_the_worker(|outcome, _| drop_future(outcome));
}

#[test]
fn the_caller_detaches() {
    against_the_worker(|mut outcome, _| outcome.abandon());
}

#[test]
fn the_caller_polls_once_and_drops() {
    against_the_worker(|mut outcome, _| {
        block_on(poll_fn(|cx| {
            let _ = outcome.poll(cx);
            Poll::Ready(())
        }));
        drop_future(outcome);
    });
}

#[test]
fn the_caller_polls_with_one_waker_and_waits_with_another() {
    against_the_worker(|mut outcome, _| {
        let mut polled = std::pin::pin!(poll_fn(|cx| Poll::Ready(outcome.poll(cx).map(drop))));
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        let first = std::future::Future::poll(polled.as_mut(), &mut cx);
        if matches!(first, Poll::Ready(Poll::Pending)) {
            assert!(wait(&mut outcome).is_ok());
        }
        drop_future(outcome);
    });
}

#[test]
fn the_caller_cancels() {
    against_the_worker(|mut outcome, counts| {
        let cancelled = cancel(&outcome);
        let result = wait(&mut outcome);
        assert_eq!(cancelled, matches!(result, Err(Error::Cancelled)));
        assert_eq!(cancelled, Counts::get(&counts.ran) == 0);
        drop(result);
        drop_future(outcome);
    });
}

#[test]
fn the_caller_adds_a_callback_and_waits() {
    against_the_worker(|mut outcome, counts| {
        add_callback(&outcome, counts);
        assert!(wait(&mut outcome).is_ok());
        assert_eq!(Counts::get(&counts.told), 1);
        drop_future(outcome);
    });
}

#[test]
fn the_caller_adds_a_callback_and_drops() {
    check(|| {
        let counts = StdArc::<Counts>::default();
        let (task, outcome) = submit(&counts);
        let worker = thread::spawn(move || work(task));
        add_callback(&outcome, &counts);
        drop_future(outcome);
        worker.join().unwrap();
        // Nothing withdraws a task that has a callback.
        assert_eq!((Counts::get(&counts.ran), Counts::get(&counts.told)), (1, 1));
        assert_eq!(Counts::get(&counts.values_dropped), 1);
    });
}

#[test]
fn two_threads_add_callbacks() {
    check(|| {
        let counts = StdArc::<Counts>::default();
        let (task, outcome) = submit(&counts);
        let outcome = StdArc::new(outcome);
        let worker = thread::spawn(move || work(task));
        let other = {
            let (outcome, counts) = (StdArc::clone(&outcome), StdArc::clone(&counts));
            thread::spawn(move || add_callback(&outcome, &counts))
        };
        add_callback(&outcome, &counts);
        other.join().unwrap();
        worker.join().unwrap();
        assert_eq!((Counts::get(&counts.ran), Counts::get(&counts.told)), (1, 2));
    });
}

#[test]
fn two_threads_cancel() {
    check(|| {
        let counts = StdArc::<Counts>::default();
        let (task, outcome) = submit(&counts);
        let outcome = StdArc::new(outcome);
        let worker = thread::spawn(move || work(task));
        let other = {
            let outcome = StdArc::clone(&outcome);
            thread::spawn(move || cancel(&outcome))
        };
        let cancelled = cancel(&outcome) | other.join().unwrap();
        worker.join().unwrap();
        assert_eq!(cancelled, Counts::get(&counts.ran) == 0);
        assert!(outcome.is_done());
    });
}

#[test]
fn the_caller_waits_in_a_set() {
    against_the_worker(|mut outcome, _| {
        let set = StdArc::new(CompletionSet::new(1, WakeAt::Any));
        if outcome.listen(&set, 0) {
            let mut finished = Vec::new();
            block_on(poll_fn(|cx| set.poll(cx.waker(), &mut finished)));
            assert_eq!(finished, [0]);
        }
        assert!(outcome.take().is_ok());
        drop_future(outcome);
    });
}

#[test]
fn a_set_is_dropped_before_its_members_finish() {
    against_the_worker(|mut outcome, _| {
        let set = StdArc::new(CompletionSet::new(1, WakeAt::Any));
        outcome.listen(&set, 0);
        drop(set);
        drop_future(outcome);
    });
}

/// A running task is cancelled while a token is made of it, and waited for.
#[test]
fn a_token_is_made_while_the_task_is_cancelled() {
    check(|| {
        let counts = StdArc::<Counts>::default();
        let (task, mut outcome) = submit(&counts);
        let runs = task.clone();
        let claimed = task.claim().expect("it is queued");
        let canceller = {
            let task = runs.clone();
            thread::spawn(move || task.runnable().cancel())
        };
        let (flag, mut place) = (runs.stop_flag(), None);
        block_on(poll_fn(|cx| flag.poll(&mut place, cx.waker())));
        assert!(!canceller.join().unwrap());
        claimed.run(&TestWorker);
        drop(runs);
        assert!(wait(&mut outcome).is_ok());
        drop_future(outcome);
        counts.check();
    });
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: StdArc<Self>) {
        Counts::add(&self.0);
    }
}

/// The caller has left its waker, which moves to the watchers while the worker looks for it.
#[test]
fn a_token_is_made_while_the_caller_waits() {
    check(|| {
        let (counts, woken) = (StdArc::<Counts>::default(), StdArc::<Woken>::default());
        let (task, mut outcome) = submit(&counts);
        let waker = StdArc::clone(&woken).into();
        assert!(outcome.poll(&std::task::Context::from_waker(&waker)).is_pending());
        let worker = thread::spawn(move || work(task));
        drop(outcome.task().stop_flag());
        worker.join().unwrap();
        assert_eq!(Counts::get(&woken.0), 1);
        assert!(wait(&mut outcome).is_ok());
        drop_future(outcome);
        counts.check();
    });
}

#[test]
fn a_token_is_made_while_the_caller_drops() {
    against_the_worker(|outcome, _| {
        let task = outcome.task().clone();
        let other = thread::spawn(move || drop(task.stop_flag()));
        drop_future(outcome);
        other.join().unwrap();
    });
}

/// A handle waits for the end while `caller` does something with the future.
fn a_handle_waits(caller: impl Fn(Outcome<Value>, &StdArc<Counts>) + Send + Sync + 'static) {
    check(move || {
        let counts = StdArc::<Counts>::default();
        let (task, outcome) = submit(&counts);
        let handle = task.clone();
        let worker = thread::spawn(move || work(task));
        caller(outcome, &counts);
        let mut place = None;
        block_on(poll_fn(|cx| handle.poll_done(&mut place, cx.waker())));
        worker.join().unwrap();
        drop(handle);
        counts.check();
    });
}

#[test]
fn a_handle_waits_for_a_task_whose_future_is_dropped() {
    a_handle_waits(|outcome, _| drop_future(outcome));
}

#[test]
fn a_handle_waits_for_a_task_that_is_detached() {
    a_handle_waits(|mut outcome, _| outcome.abandon());
}

#[test]
fn a_handle_waits_for_a_task_with_a_callback() {
    a_handle_waits(|outcome, counts| {
        add_callback(&outcome, counts);
        drop_future(outcome);
    });
}

#[test]
fn a_handle_waits_while_the_future_is_dropped() {
    check(|| {
        let counts = StdArc::<Counts>::default();
        let (task, outcome) = submit(&counts);
        let handle = task.clone();
        let dropping = thread::spawn(move || {
            // On one thread, one after the other: against the third, which waits.
            work(task);
            drop_future(outcome);
        });
        let mut place = None;
        block_on(poll_fn(|cx| handle.poll_done(&mut place, cx.waker())));
        dropping.join().unwrap();
        drop(handle);
        counts.check();
    });
}

/// The time limit of a task passes while this thread runs it and goes on as its caller.
fn against_the_clock(
    before: impl Fn(&Outcome<Value>, &StdArc<Counts>) + Send + Sync + 'static,
    after: impl Fn(Outcome<Value>, &StdArc<Counts>) + Send + Sync + 'static,
) {
    check(move || {
        let counts = StdArc::<Counts>::default();
        let body = TestBody::<false>::new(&counts, 0);
        let limit = Duration::from_secs(1);
        let options = Options { timeout: Some(limit), ..Options::default() };
        let (task, outcome) = submit_to(&TestHost::new(), body, Extra::new(options), false);
        before(&outcome, &counts);
        let clock = task.clone();
        let clock = thread::spawn(move || {
            // The run starts it.
            if clock.header().state.look().is_started() {
                clock.runnable().ran_too_long(limit);
            }
        });
        work(task);
        after(outcome, &counts);
        clock.join().unwrap();
        counts.check();
    });
}

#[test]
fn a_time_limit_passes_and_the_caller_waits() {
    against_the_clock(
        |_, _| (),
        |mut outcome, _| {
            let result = wait(&mut outcome);
            assert!(matches!(result, Ok(_) | Err(Error::TimedOut { started: true, .. })));
            drop(result);
            drop_future(outcome);
        },
    );
}

#[test]
fn a_time_limit_passes_and_the_caller_has_gone() {
    against_the_clock(|_, _| (), |outcome, _| drop_future(outcome));
}

#[test]
fn a_time_limit_passes_for_a_task_with_a_callback() {
    against_the_clock(add_callback, |mut outcome, counts| {
        drop(wait(&mut outcome));
        assert_eq!(Counts::get(&counts.told), 1);
        drop_future(outcome);
    });
}

#[test]
fn a_time_limit_passes_while_a_callback_is_added() {
    against_the_clock(
        |_, _| (),
        |mut outcome, counts| {
            add_callback(&outcome, counts);
            drop(wait(&mut outcome));
            assert_eq!(Counts::get(&counts.told), 1);
            drop_future(outcome);
        },
    );
}

/// An async body that is pending once, and is woken from another thread.
fn async_against(caller: impl Fn(Outcome<Value>) + Send + Sync + 'static) {
    // Three threads that meet at many points: more interruptions would take minutes.
    crate::check_with(1, move || {
        let counts = StdArc::<Counts>::default();
        let host = TestHost::new();
        let body = TestBody::<true>::new(&counts, 1);
        let (task, outcome) = submit_to(&host, body, (), false);
        let worker = {
            let host = StdArc::clone(&host);
            thread::spawn(move || {
                let ended = task.clone();
                work(task);
                loop {
                    let next = host.queue.lock().pop();
                    match next {
                        Some(task) => work(task),
                        None if ended.header().state.look().is_ended() => return,
                        None => thread::yield_now(),
                    }
                }
            })
        };
        caller(outcome);
        worker.join().unwrap();
        host.queue.lock().clear();
        counts.check();
    });
}

#[test]
fn an_async_body_is_woken_and_finishes() {
    async_against(|mut outcome| {
        assert!(wait(&mut outcome).is_ok());
        drop_future(outcome);
    });
}

#[test]
fn an_async_body_is_cancelled_while_it_is_woken() {
    async_against(|mut outcome| {
        cancel(&outcome);
        drop(wait(&mut outcome));
        drop_future(outcome);
    });
}

#[test]
fn a_promise_is_kept_while_its_future_is_cancelled() {
    check(|| {
        let counts = StdArc::<Counts>::default();
        let (promise, mut outcome) = Promise::of(());
        let value = Value::new(&counts);
        let keeper = thread::spawn(move || promise.keep(Ok(value), || ()));
        let cancelled = cancel(&outcome);
        let result = wait(&mut outcome);
        assert_eq!(cancelled, result.is_err());
        drop(result);
        drop_future(outcome);
        keeper.join().unwrap();
        assert_eq!(Counts::get(&counts.values_dropped), 1);
    });
}

/// A body that panics.
struct Failing(StdArc<Counts>);

impl Body for Failing {
    type Output = Value;

    const ASYNC: bool = false;

    fn poll(self, _: &TaskRef) -> Polled<Self> {
        Counts::add(&self.0.ran);
        Polled::Ready(Err(Panicked::new(Box::new("as it should"))))
    }
}

/// Has a worker run a task that fails, and perhaps a clock that ends it. If no future has `seen`
/// that, the pool is told, once.
fn a_failure_against(
    limit: Option<Duration>,
    seen: bool,
    caller: impl Fn(Outcome<Value>, &StdArc<Counts>) + Send + Sync + 'static,
) {
    check(move || {
        let counts = StdArc::<Counts>::default();
        let told = StdArc::<AtomicUsize>::default();
        let tell = StdArc::clone(&told);
        let host = TestHost::telling(OnUnobserved::new(move |_| Counts::add(&tell)));
        let body = Failing(StdArc::clone(&counts));
        let extra = Extra::new(Options { timeout: limit, ..Options::default() });
        let (task, outcome) = submit_to(&host, body, extra, true);
        let clock = limit.map(|limit| {
            let task = task.clone();
            thread::spawn(move || {
                if task.header().state.look().is_started() {
                    task.runnable().ran_too_long(limit);
                }
            })
        });
        let worker = thread::spawn(move || work(task));
        caller(outcome, &counts);
        worker.join().unwrap();
        clock.into_iter().for_each(|clock| clock.join().unwrap());
        let expected = if seen { 0 } else { Counts::get(&counts.ran) };
        assert_eq!(Counts::get(&told), expected);
    });
}

#[test]
fn a_failure_is_told_when_the_future_is_detached() {
    a_failure_against(None, false, |mut outcome, _| outcome.abandon());
}

#[test]
fn a_failure_is_told_when_the_future_is_dropped() {
    a_failure_against(None, false, |outcome, _| drop_future(outcome));
}

#[test]
fn a_failure_is_told_once_if_there_is_a_time_limit() {
    let limit = Some(Duration::from_secs(1));
    a_failure_against(limit, false, |mut outcome, _| outcome.abandon());
}

#[test]
fn a_failure_that_is_taken_is_not_told() {
    a_failure_against(None, true, |mut outcome, _| {
        assert!(wait(&mut outcome).is_err());
        drop_future(outcome);
    });
}

#[test]
fn a_failure_that_a_callback_sees_is_not_told() {
    a_failure_against(None, true, |outcome, counts| {
        add_callback(&outcome, counts);
        drop_future(outcome);
    });
}
