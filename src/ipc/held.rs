//! A lock between processes that is held for as long as its user likes. In any process.
//!
//! It is a robust lock, whose word those who wait sleep on: threads, and for futures the thread `cf-waits`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::waiting::Waiting;
use super::waits::{BlockingWait, Look, WaitList, Watched};
use crate::fork;
use crate::sys::robust_lock::{self, Holder};

/// Looks at the lock before a thread sleeps, or a future waits.
const TRIES: u32 = 100;

/// Time after which a process that was forked asks again for a thread that stands for it.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(20);

/// An object with a lock.
pub(super) trait Lockable: Watched + Sized + 'static {
    /// The event that the lock is free. Its word is the lock.
    const LOCK: usize;

    /// What a process has that has taken the lock.
    type Taken;

    /// Returns the number that stands for this process. An error: it was forked, and may not have a thread.
    fn holder(&self) -> io::Result<u32>;

    /// Takes the lock, unless another has it. `has_waited`: the caller has waited, so others may wait as well. Returns
    /// also whether the last holder was killed.
    fn take(&self, has_waited: bool) -> Option<(Self::Taken, bool)>;

    /// Frees the lock.
    fn release(&self, taken: &Self::Taken);

    /// Returns who of those that wait for the lock may go on.
    fn look_at_lock(&self) -> Look {
        let word = self.word(Self::LOCK);
        robust_lock::free_nonsense(word);
        if robust_lock::holder_of(word) == Holder::Alive { Look::None } else { Look::One }
    }
}

/// A lock that is a word alone, and was taken.
pub(super) struct TakenWord {
    holder: u32,
    /// A process that was forked meanwhile has a copy of this, and not the lock.
    generation: u32,
}

impl TakenWord {
    #[inline]
    pub(super) fn take(word: &AtomicU32, holder: u32, has_waited: bool) -> Option<(Self, bool)> {
        let was_abandoned = robust_lock::take(word, holder, has_waited)?;
        Some((Self { holder, generation: fork::generation() }, was_abandoned))
    }

    #[inline]
    pub(super) fn release(&self, word: &AtomicU32) {
        if self.generation == fork::generation() {
            robust_lock::unlock(word, self.holder);
        }
    }
}

/// The lock of an object, until it is dropped, by whichever thread.
pub(super) struct Held<L: Lockable> {
    pub(super) object: Arc<L>,
    pub(super) taken: L::Taken,
    /// The last holder was killed.
    pub(super) was_abandoned: bool,
}

impl<L: Lockable> Held<L> {
    pub(super) fn try_new(object: &Arc<L>) -> Option<Self> {
        Self::take(object, false)
    }

    #[inline]
    fn take(object: &Arc<L>, has_waited: bool) -> Option<Self> {
        let (taken, was_abandoned) = object.take(has_waited)?;
        Some(Self { object: Arc::clone(object), taken, was_abandoned })
    }

    /// As [`take`](Self::take), for a moment.
    fn take_soon(object: &Arc<L>, has_waited: bool) -> Option<Self> {
        (0..TRIES).find_map(|tries| {
            if tries > 0 {
                std::hint::spin_loop();
            }
            Self::take(object, has_waited)
        })
    }

    /// Blocks until this process has the lock, or until `deadline`: `None`.
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn block(object: &Arc<L>, deadline: Option<Instant>) -> Option<Self> {
        let mut wait = BlockingWait::new(deadline);
        let mut has_waited = false;
        loop {
            if let Some(held) = Self::take_soon(object, has_waited) {
                return Some(held);
            }
            if wait.is_over() {
                return None;
            }
            if object.holder().is_err() {
                std::thread::sleep(ASK_AGAIN);
                continue;
            }
            let value = object.arm(L::LOCK);
            has_waited = true;
            if robust_lock::is_held(value) {
                WaitList::block(object, L::LOCK, value, &mut wait);
            }
        }
    }

    /// As [`block`](Self::block), for a future.
    pub(super) fn poll(
        object: &Arc<L>,
        waiting: &mut Waiting<L>,
        cx: &mut Context<'_>,
    ) -> Poll<Self> {
        waiting.polled(object, L::LOCK, cx, |waiting, cx| {
            loop {
                if let Some(held) = Self::take_soon(object, waiting.has_waited()) {
                    return Poll::Ready(held);
                }
                let armed = object.holder().ok().map(|_| object.arm(L::LOCK));
                // One that was freed meanwhile is tried again.
                if armed.is_none_or(robust_lock::is_held) {
                    waiting.keep(object, L::LOCK, cx, armed);
                    return Poll::Pending;
                }
            }
        })
    }
}

impl<L: Lockable> Drop for Held<L> {
    fn drop(&mut self) {
        self.object.release(&self.taken);
    }
}
