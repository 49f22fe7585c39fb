//! A result without a task of this process behind it: it is there from the start, or is given by hand, or by
//! work that runs elsewhere.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::cell::{Head, Header, NewBlock, TaskRef, Typed};
use super::extra::{Extra, MaybeExtra};
use super::id::TaskId;
use super::outcome::{Outcome, Publisher, publish};
use super::runnable::{Claimed, Runnable};
use super::state::{Kind, Snapshot, State};
use super::stop_flag::StopFlag;
use super::unobserved::{OnUnobserved, UnobservedFailure};
use super::worker::context::WorkerContext;
use crate::error::Error;
use crate::label::Label;
use crate::panic::drop_quietly;

/// The origin of a promise's result. The default methods are those of a source that knows only its promise.
pub(crate) trait Source: Send + Sync + 'static {
    /// Keeps the work from starting; with `stop`, asks work that runs to stop. Returns `false` if it
    /// has started or is done.
    fn withdraw(&self, task: TaskId, stop: bool) -> bool;

    /// Ends the work, whether it runs or not. Returns `false` if it is done or can't be ended by force.
    fn kill(&self, _task: TaskId) -> bool {
        false
    }

    /// Returns whether dropping the future withdraws the work.
    fn is_withdrawn_on_drop(&self) -> bool {
        false
    }

    fn is_running(&self, _task: TaskId) -> bool {
        false
    }

    fn is_stop_requested(&self) -> bool {
        false
    }

    /// Returns the stop requests that tokens look at, if the promise is a job.
    fn stop_flags(&self) -> Vec<Arc<StopFlag>> {
        Vec::new()
    }

    /// Returns the number of the task, if it is not that of the promise.
    fn id(&self) -> Option<TaskId> {
        None
    }

    fn extra(&self) -> Option<&Extra> {
        None
    }

    /// Returns the callback for an unobserved failure, and the name of the pool.
    fn on_unobserved(&self) -> Option<(&OnUnobserved, &str)> {
        None
    }
}

/// A promise that knows of no work behind it.
impl Source for () {
    fn withdraw(&self, _task: TaskId, _stop: bool) -> bool {
        true
    }

    fn kill(&self, _task: TaskId) -> bool {
        true
    }
}

/// The source of a task that a pool has refused.
pub(crate) struct Refused {
    pub(crate) extra: Extra,
    pub(crate) on_unobserved: OnUnobserved,
    pub(crate) pool: String,
}

impl Source for Refused {
    fn withdraw(&self, _task: TaskId, _stop: bool) -> bool {
        false
    }

    fn extra(&self) -> Option<&Extra> {
        Some(&self.extra)
    }

    fn on_unobserved(&self) -> Option<(&OnUnobserved, &str)> {
        Some((&self.on_unobserved, &self.pool))
    }
}

#[repr(C)]
struct Promised<S> {
    header: Header,
    source: S,
}

/// The side of a promise that gives the result.
pub(crate) struct Promise<T> {
    task: TaskRef,
    result: PhantomData<fn(T)>,
}

/// A task that has failed from the start. So it has no value of any type.
pub(crate) struct Failure(TaskRef);

impl Failure {
    pub(crate) fn new<S: Source>(error: Error, source: S) -> Self {
        let kind = Kind::of_error(&error);
        // SAFETY: the state has one reference. A stored error is stored below, before another thread looks.
        let task = unsafe { Promised::make::<()>(State::finished(kind), source) };
        if kind.is_stored() {
            // SAFETY: no other thread has seen the task yet, so its place is this thread's, and it is empty.
            unsafe { task.store_error(error) };
        }
        Self(task)
    }

    pub(super) fn into_task(self) -> TaskRef {
        self.0
    }

    pub(crate) fn into_outcome<T>(self) -> Outcome<T> {
        // SAFETY: the result is no value, so it is a result of every type. This is its one outcome.
        unsafe { Outcome::new(self.0) }
    }
}

impl<T: Send + 'static> Promise<T> {
    pub(crate) fn of<S: Source>(source: S) -> (Self, Outcome<T>) {
        // SAFETY: the state has two references, for the two below, and no result.
        unsafe {
            let task = Promised::make::<T>(State::promised(), source);
            let outcome = Outcome::new(TaskRef::from_raw(task.as_ptr()));
            (Self { task, result: PhantomData }, outcome)
        }
    }

    /// Makes a promise that is done from the start.
    pub(crate) fn kept<S: Source>(outcome: Result<T, Error>, source: S) -> Outcome<T> {
        let value = match outcome {
            Ok(value) => value,
            Err(error) => return Failure::new(error, source).into_outcome(),
        };
        // SAFETY: the state has one reference, and the value is stored at once: no other thread has seen the task
        // yet, so its place, of a `T`, is this thread's, and it is empty. This is its one outcome.
        unsafe {
            let task = Promised::make::<T>(State::finished(Kind::VALUE), source);
            task.store_value(value);
            Outcome::new(task)
        }
    }

    #[cfg(test)]
    pub(crate) fn task(&self) -> &TaskRef {
        &self.task
    }

    /// Runs `body` on this thread as the body of the promise's task.
    pub(crate) fn run_body(&self, body: impl FnOnce()) {
        // A clone, since the frame gives its reference away; this one is for the result.
        super::worker::context::run_in_frame(self.task.clone().into(), |_| body(), |_, ()| ());
    }

    pub(crate) fn id(&self) -> TaskId {
        self.task.header().id()
    }

    #[cfg(feature = "process")]
    pub(crate) fn look(&self) -> Snapshot {
        self.task.header().state.look()
    }

    /// Notes how long the work has run, in ticks, before the result is given.
    pub(crate) fn ran(&self, ticks: u64) {
        self.task.header().state.set_run_time(ticks);
    }

    /// Gives the result, unless it was cancelled. `account` runs after the callbacks and before
    /// another thread can see the result.
    pub(crate) fn keep(&self, outcome: Result<T, Error>, account: impl FnOnce()) {
        let mut account = Some(account);
        let mut account = || {
            if let Some(account) = account.take() {
                account();
            }
        };
        let value = match outcome {
            Ok(value) => value,
            Err(error) => return settle(&self.task, error, &mut account),
        };
        // The promise was cancelled or is complete: the result that comes second is dropped.
        if !self.task.header().state.settle(Kind::VALUE) {
            return drop_quietly(value);
        }
        // SAFETY: this thread has settled it, so that it is the only one to publish. Nothing but a publication
        // uses a promise's place, which is that of a `T`; so it is empty.
        unsafe {
            self.task.store_value(value);
            publish_settled(&self.task, Kind::VALUE, &mut account);
        }
    }
}

/// Finishes a promise with `error`, unless it is settled already.
fn settle(task: &TaskRef, error: Error, account: &mut dyn FnMut()) {
    let kind = Kind::of_error(&error);
    // The promise was cancelled or is complete: the result that comes second is dropped.
    if !task.header().state.settle(kind) {
        return drop_quietly(error);
    }
    // SAFETY: this thread has settled it, so that it is the only one to publish. Nothing but a publication uses
    // a promise's place, so it is empty.
    unsafe {
        if kind.is_stored() {
            task.store_error(error);
        }
        publish_settled(task, kind, account);
    }
}

/// # Safety
///
/// As for [`publish`].
unsafe fn publish_settled(task: &TaskRef, kind: Kind, account: &mut dyn FnMut()) {
    // SAFETY: this thread alone may publish, and has the place with a result of this kind, if that is stored; else
    // the task is settled as this kind: that is required here too.
    unsafe { publish(Publisher::Keeping(task), kind, |_| account(), false) };
}

impl<S: Source> Promised<S> {
    /// Makes the block of a promise whose result is a `T`.
    ///
    /// # Safety
    ///
    /// The caller gets one of the references that the state counts. If the state has a stored result, the caller
    /// stores it before another thread can look.
    unsafe fn make<T: Send + 'static>(state: State, source: S) -> TaskRef {
        let new = NewBlock::of_result::<Self, T>();
        let block = new.header();
        let header = Header::new(&new, TaskId::next(), state);
        // SAFETY: the block is made for this head. A promise has ended from the start, so it is not at rest, and
        // there is no body.
        unsafe {
            block.cast::<Self>().write(Self { header, source });
            TaskRef::from_raw(block)
        }
    }

    fn is_done(&self) -> bool {
        self.header.state.look().is_done()
    }

    /// Returns whether the promise is cancelled, or about to be, while its callbacks run.
    fn is_cancelled(&self) -> bool {
        self.header.state.look().kind() == Some(Kind::CANCELLED)
    }
}

// SAFETY: it is `repr(C)`, and its first field is a header.
unsafe impl<S: Source> Head for Promised<S> {
    fn runnable(task: &Typed<Self>) -> &dyn Runnable {
        task
    }

    fn run(_claimed: Claimed<Typed<Self>>, _worker: &dyn WorkerContext) {
        unreachable!("a promise is never queued")
    }
}

/// A promise never runs here, so the worker's part does nothing.
impl<S: Source> Runnable for Typed<Promised<S>> {
    fn extra(&self) -> Option<&Extra> {
        self.source.extra()
    }

    fn label(&self) -> Option<&Label> {
        self.source.extra().and_then(Extra::label)
    }

    fn id(&self) -> Option<TaskId> {
        self.source.id()
    }

    fn take_out(&self, _why: &Error) -> bool {
        false
    }

    unsafe fn taken_out(&self, _error: Error) {}

    fn withdraw(&self, _error: Error) {}

    fn cancel(&self) -> bool {
        // A result may come between these steps: `settle` decides, and `is_cancelled` tells.
        if !self.is_done() && self.source.withdraw(self.header().id(), true) {
            settle(self.untyped(), Error::Cancelled, &mut || ());
        }
        self.is_cancelled()
    }

    fn kill(&self) -> bool {
        if !self.is_done() && self.source.kill(self.header().id()) {
            settle(self.untyped(), Error::Cancelled, &mut || ());
        }
        self.is_cancelled()
    }

    fn withdraw_unstarted(&self) {
        if self.source.is_withdrawn_on_drop() && self.source.withdraw(self.header().id(), false) {
            settle(self.untyped(), Error::Cancelled, &mut || ());
        }
    }

    fn is_running(&self) -> bool {
        self.source.is_running(self.header().id())
    }

    fn run_in_place(&self) {}

    fn wake(&self) {}

    fn queued_too_long(&self, _limit: Duration) {}

    fn ran_too_long(&self, _limit: Duration) {}

    fn is_stop_requested(&self) -> bool {
        self.source.is_stop_requested()
    }

    fn stop_flags(&self) -> Vec<Arc<StopFlag>> {
        self.source.stop_flags()
    }

    fn unobserved(&self, error: &Error) {
        if let Some((on_unobserved, pool)) = self.source.on_unobserved() {
            let label = self.label().map(|label| &**label);
            let id = self.untyped().id();
            on_unobserved.tell(UnobservedFailure { pool, id, label, error });
        }
    }

    fn not_stored(&self, _now: Snapshot) -> Error {
        Error::Cancelled
    }
}
