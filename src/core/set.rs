//! A completion queue: the tasks of a set that have finished, in that order.
//!
//! A finishing task pushes its number on a stack that is threaded through an array with a place
//! for each member: one compare-and-swap, no allocation, no lock. The consumer takes the whole
//! stack at once. The word that is the head of the stack also says whether the consumer waits, so the thread
//! that pushes to the stack of a waiting consumer knows that it has to wake it.

use std::task::{Poll, Waker};

use crate::panic::KeptWaker;
use crate::sync::Mutex;
use crate::sync::atomic::{
    AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

/// The head of an empty stack; otherwise the head is the top's number and one.
const EMPTY: usize = 0;
/// Set if the consumer has left its waker and is to be woken. Set by the consumer, cleared by the
/// push that wakes it, or by the consumer.
const WAITING: usize = 1 << (usize::BITS - 1);

/// The moment at which the consumer is woken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeAt {
    /// Each time that a task has finished: for [`poll`](CompletionSet::poll). The other ways are for
    /// [`poll_over`](CompletionSet::poll_over).
    Any,
    /// When one has finished.
    First,
    /// When one has failed, or all have finished.
    Failure,
    /// When all have finished.
    All,
}

/// The members of a set that have finished, and the waker of the one consumer.
pub(crate) struct CompletionSet {
    head: AtomicUsize,
    /// For each member that is on the stack, the head below it.
    below: Box<[AtomicUsize]>,
    wake_at: WakeAt,
    /// Not counted for `WakeAt::Any`.
    unfinished: AtomicUsize,
    failed: AtomicBool,
    waker: Mutex<Option<KeptWaker>>,
}

impl CompletionSet {
    pub(crate) fn new(members: usize, wake_at: WakeAt) -> Self {
        Self {
            head: AtomicUsize::new(EMPTY),
            below: (0..members).map(|_| AtomicUsize::new(EMPTY)).collect(),
            wake_at,
            unfinished: AtomicUsize::new(members),
            failed: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Adds member number `index`, which has finished; `failed`: with an error other than `Cancelled`.
    pub(crate) fn finished(&self, index: usize, failed: bool) {
        // The counts change before the push; `poll_over` sets `WAITING` before it reads them. Both
        // steps are on `head`, so either the push sees `WAITING` or `poll_over` sees the counts.
        let wakes = match self.wake_at {
            WakeAt::Any => true,
            WakeAt::First => {
                self.unfinished.fetch_sub(1, AcqRel);
                true
            }
            WakeAt::Failure => {
                self.failed.fetch_or(failed, AcqRel);
                // In this order: the thread that counts the last member does not miss the failure.
                self.unfinished.fetch_sub(1, AcqRel) == 1 || failed
            }
            WakeAt::All => self.unfinished.fetch_sub(1, AcqRel) == 1,
        };
        let mut head = self.head.load(Relaxed);
        loop {
            // A member is pushed once, so its entry is this thread's until it is published.
            self.below[index].store(head & !WAITING, Relaxed);
            // The push that clears `WAITING` is the one that wakes.
            let kept = if wakes { 0 } else { head & WAITING };
            match self.head.compare_exchange_weak(head, (index + 1) | kept, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(changed) => head = changed,
            }
        }
        if wakes && head & WAITING != 0 {
            self.wake();
        }
    }

    /// Wakes the consumer, if it has left its waker and was not woken yet. An earlier push may have done so:
    /// the poll after that sees this one as well.
    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns `Ready` once there is nothing to wait for any more.
    pub(crate) fn poll_over(&self, waker: &Waker) -> Poll<()> {
        self.leave(waker);
        // The waker is in place before the look, so that no end falls in between.
        self.head.fetch_or(WAITING, AcqRel);
        let unfinished = self.unfinished.load(Acquire);
        let is_over = match self.wake_at {
            WakeAt::Any | WakeAt::First => unfinished < self.below.len(),
            WakeAt::Failure => self.failed.load(Acquire),
            WakeAt::All => false,
        };
        if is_over || unfinished == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Appends the numbers of those that have finished since the last time, in the order in which
    /// they did. If there are none, the waker is woken as soon as `WakeAt` says.
    ///
    /// There is one consumer.
    pub(crate) fn poll(&self, waker: &Waker, finished: &mut Vec<usize>) -> Poll<()> {
        loop {
            // May be out of date: `wait` decides by a compare-and-swap.
            if self.head.load(Relaxed) & !WAITING == EMPTY && self.wait(waker) {
                return Poll::Pending;
            }
            if self.take(finished) {
                return Poll::Ready(());
            }
        }
    }

    /// Begins to wait, if the stack is empty. `false`: it is not.
    fn wait(&self, waker: &Waker) -> bool {
        self.leave(waker);
        let waits = self.head.compare_exchange(EMPTY, WAITING, AcqRel, Acquire);
        // `WAITING` is still set by an earlier poll, which no push has followed.
        matches!(waits, Ok(_) | Err(WAITING))
    }

    /// Leaves the waker to be woken.
    fn leave(&self, waker: &Waker) {
        let is_there = self.waker.lock().as_ref().is_some_and(|there| there.will_wake(waker));
        if !is_there {
            // Wakers are user code: cloned and dropped outside of the lock.
            let waker = KeptWaker::new(waker);
            let old = self.waker.lock().replace(waker);
            drop(old);
        }
    }

    /// Takes the whole stack. `false`: it was empty.
    pub(crate) fn take(&self, finished: &mut Vec<usize>) -> bool {
        // Each push is a read-modify-write of `head`, so this acquires all of them.
        let mut head = self.head.swap(EMPTY, AcqRel) & !WAITING;
        let from = finished.len();
        while head != EMPTY {
            finished.push(head - 1);
            head = self.below[head - 1].load(Relaxed);
        }
        // The last one is on top of the stack.
        finished[from..].reverse();
        finished.len() > from
    }
}
