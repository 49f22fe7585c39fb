//! What came of a task, and who wants to know.
//!
//! A completion is settled once. Callbacks run first, on the settling thread and with a reference
//! to the result; then the result is published and the one listener is told: the waker of a
//! future, or the set that the future belongs to. So whoever sees the future finished also sees
//! what its callbacks did.
//!
//! The lock is held for a few moves and never while user code runs. It is taken twice in the
//! life of a task that is awaited, by different threads at different times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Release};
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::panic::drop_quietly;
use crate::sync::Mutex;

pub(crate) type Callback<T> = Box<dyn FnOnce(&Result<T, Error>) + Send>;

/// A set of futures that is told which of them have finished.
pub(crate) trait Sink: Send + Sync {
    /// Future number `index` has finished; `failed`: with an error other than `Cancelled`.
    fn finished(&self, index: usize, failed: bool);
}

enum Listener {
    None,
    Waker(Waker),
    Set(Arc<dyn Sink>, usize),
}

impl Listener {
    fn tell(self, failed: bool) {
        match self {
            Listener::None => {}
            Listener::Waker(waker) => waker.wake(),
            Listener::Set(set, index) => set.finished(index, failed),
        }
    }
}

const PENDING: u8 = 0;
const VALUE: u8 = 1;
const FAILED: u8 = 2;
const CANCELLED: u8 = 3;

enum Phase<T> {
    /// No result yet, or the settling thread still runs callbacks with it.
    Open,
    Settling(bool),
    Done(Result<T, Error>),
    Taken,
}

struct Slot<T> {
    phase: Phase<T>,
    listener: Listener,
    callbacks: Vec<Callback<T>>,
    /// The name of the error, for `Debug`; stays when the result is taken.
    error: Option<&'static str>,
    /// A callback was added at some time, so the drop of the future detaches it.
    observed: bool,
    /// The future is gone: the result is dropped as soon as it is there.
    abandoned: bool,
}

pub(crate) struct Completion<T> {
    /// `PENDING` until the result is published. Kept when the result is taken.
    status: AtomicU8,
    slot: Mutex<Slot<T>>,
}

impl<T> Completion<T> {
    pub(crate) fn new() -> Self {
        Self {
            status: AtomicU8::new(PENDING),
            slot: Mutex::new(Slot {
                phase: Phase::Open,
                listener: Listener::None,
                callbacks: Vec::new(),
                error: None,
                observed: false,
                abandoned: false,
            }),
        }
    }

    pub(crate) fn finished(outcome: Result<T, Error>) -> Self {
        let completion = Self::new();
        completion.publish(outcome);
        completion
    }

    /// Settles with `outcome`, unless that has happened already; then the outcome comes back.
    ///
    /// `account` runs after the callbacks and before the result is published, so that counters
    /// are right for whoever sees the result.
    pub(crate) fn settle(
        &self,
        outcome: Result<T, Error>,
        account: impl FnOnce(),
    ) -> Result<(), Result<T, Error>> {
        if !self.begin_as(matches!(outcome, Err(Error::Cancelled))) {
            return Err(outcome);
        }
        self.conclude(outcome, account);
        Ok(())
    }

    /// Takes the right to settle; whoever gets it must [`conclude`](Self::conclude).
    pub(crate) fn begin(&self) -> bool {
        self.begin_as(false)
    }

    fn begin_as(&self, cancelled: bool) -> bool {
        let mut slot = self.slot.lock();
        let open = matches!(slot.phase, Phase::Open);
        if open {
            slot.phase = Phase::Settling(cancelled);
        }
        open
    }

    pub(crate) fn conclude(&self, outcome: Result<T, Error>, account: impl FnOnce()) {
        while self.run_callbacks(&outcome) {}
        account();
        self.publish(outcome);
    }

    /// Cancelled, or about to be: callbacks still run.
    pub(crate) fn is_being_cancelled(&self) -> bool {
        match self.slot.lock().phase {
            Phase::Settling(cancelled) => cancelled,
            _ => self.is_cancelled(),
        }
    }

    /// Runs the callbacks there are now; tells whether there were any.
    fn run_callbacks(&self, outcome: &Result<T, Error>) -> bool {
        let callbacks = std::mem::take(&mut self.slot.lock().callbacks);
        let any = !callbacks.is_empty();
        for callback in callbacks {
            // A panic has been reported by the panic hook; the next callback is not to blame.
            drop_quietly(crate::panic::catch(|| callback(outcome)));
        }
        any
    }

    /// Makes the result visible, once no callback is left, and tells the listener.
    fn publish(&self, outcome: Result<T, Error>) {
        let status = match &outcome {
            Ok(_) => VALUE,
            Err(Error::Cancelled) => CANCELLED,
            Err(_) => FAILED,
        };
        let mut slot = self.slot.lock();
        while !slot.callbacks.is_empty() {
            drop(slot);
            self.run_callbacks(&outcome);
            slot = self.slot.lock();
        }
        self.status.store(status, Release);
        slot.error = outcome.as_ref().err().map(Error::name);
        let unwanted = if slot.abandoned {
            slot.phase = Phase::Taken;
            Some(outcome)
        } else {
            slot.phase = Phase::Done(outcome);
            None
        };
        let listener = std::mem::replace(&mut slot.listener, Listener::None);
        drop(slot);
        // A waker is user code and may panic; the settling thread must not.
        drop_quietly(crate::panic::catch(|| listener.tell(status == FAILED)));
        drop_quietly(unwanted);
    }

    /// Calls `callback` with the result: now if it is there, else on the thread that settles.
    pub(crate) fn add_callback(&self, callback: Callback<T>) {
        let mut slot = self.slot.lock();
        slot.observed = true;
        match slot.phase {
            Phase::Open | Phase::Settling(_) => slot.callbacks.push(callback),
            Phase::Done(_) => {
                // Lent to this thread; callbacks added meanwhile are run by it as well.
                slot.callbacks.push(callback);
                let outcome = take(&mut slot.phase);
                slot.phase = Phase::Settling(self.is_cancelled());
                drop(slot);
                if let Some(outcome) = outcome {
                    self.publish(outcome);
                }
            }
            Phase::Taken => {
                drop(slot);
                let taken = Err(Error::ResultTaken);
                drop_quietly(crate::panic::catch(|| callback(&taken)));
            }
        }
    }

    /// Takes the result, or leaves the waker to be woken by it.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<T, Error>> {
        if self.status.load(Acquire) == PENDING {
            if let Listener::Waker(waker) = &self.slot.lock().listener {
                if waker.will_wake(cx.waker()) {
                    return Poll::Pending;
                }
            }
            // Cloned outside of the lock: a waker's clone is user code.
            let waker = Listener::Waker(cx.waker().clone());
            let mut slot = self.slot.lock();
            if self.status.load(Acquire) == PENDING {
                let old = std::mem::replace(&mut slot.listener, waker);
                drop(slot);
                drop(old);
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take())
    }

    /// Takes the result of a completion that is done.
    pub(crate) fn take(&self) -> Result<T, Error> {
        take(&mut self.slot.lock().phase).unwrap_or(Err(Error::ResultTaken))
    }

    /// Has `sink` told about the end, instead of any waker. If the end is there already, nothing
    /// is registered and the answer is `false`.
    pub(crate) fn listen(&self, sink: Arc<dyn Sink>, index: usize) -> bool {
        let mut slot = self.slot.lock();
        if self.is_done() {
            return false;
        }
        let old = std::mem::replace(&mut slot.listener, Listener::Set(sink, index));
        drop(slot);
        drop(old);
        true
    }

    /// Nobody wants to be told any more.
    pub(crate) fn unlisten(&self) {
        let old = std::mem::replace(&mut self.slot.lock().listener, Listener::None);
        drop(old);
    }

    /// Nobody will ask for the result: it is dropped now, or as soon as it is there.
    pub(crate) fn abandon(&self) {
        let (outcome, listener) = {
            let mut slot = self.slot.lock();
            slot.abandoned = true;
            (take(&mut slot.phase), std::mem::replace(&mut slot.listener, Listener::None))
        };
        drop_quietly((outcome, listener));
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.slot.lock().observed
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.slot.lock().abandoned
    }

    pub(crate) fn is_done(&self) -> bool {
        self.status.load(Acquire) != PENDING
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.status.load(Acquire) == CANCELLED
    }

    /// Done with an error other than `Cancelled`.
    pub(crate) fn is_failed(&self) -> bool {
        self.status.load(Acquire) == FAILED
    }

    /// The name of the error that it ended with.
    pub(crate) fn error_name(&self) -> Option<&'static str> {
        self.slot.lock().error
    }
}

/// Takes the result out of a finished phase.
fn take<T>(phase: &mut Phase<T>) -> Option<Result<T, Error>> {
    if !matches!(phase, Phase::Done(_)) {
        return None;
    }
    match std::mem::replace(phase, Phase::Taken) {
        Phase::Done(outcome) => Some(outcome),
        _ => None,
    }
}
