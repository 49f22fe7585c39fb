//! A stop request that is seen, and waited for, from any thread.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::waiters::{Place, Waiters};
use crate::panic::{KeptWaker, wake_all};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

/// A stop request. It may come after the end of what it is for, and is harmless then.
#[derive(Default)]
pub(crate) struct StopFlag {
    is_raised: AtomicBool,
    waiters: Mutex<Waiters>,
    elsewhere: Option<Elsewhere>,
}

/// The place where another process makes the request; `None` from the end of the job on, since another
/// job's request may come there.
type Elsewhere = Mutex<Option<Box<dyn Remote>>>;

/// A place where another process makes a stop request.
pub(crate) trait Remote: Send + Sync {
    fn is_stop_requested(&self) -> bool;

    /// Has the flag woken at the request, from now on until `end`. `false`: that is not possible.
    fn watch(&self, flag: &Arc<StopFlag>) -> bool;

    /// Ends the watch, if there is one.
    #[cfg_attr(not(feature = "process"), allow(dead_code, reason = "there is no other process"))]
    fn end(&self);
}

impl StopFlag {
    /// Makes the flag of a job whose stop request another process makes.
    #[cfg(feature = "process")]
    pub(crate) fn elsewhere(remote: Box<dyn Remote>) -> Self {
        Self { elsewhere: Some(Mutex::new(Some(remote))), ..Self::default() }
    }

    /// Returns whether the request was made in this process, or has been seen here.
    #[inline]
    pub(crate) fn is_raised(&self) -> bool {
        self.is_raised.load(Acquire)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_raised() || self.elsewhere.as_ref().is_some_and(|there| self.look_at(there))
    }

    #[cold]
    fn look_at(&self, elsewhere: &Elsewhere) -> bool {
        // Under the lock, which the end of the job takes before the place is another job's.
        let remote = elsewhere.lock();
        if remote.as_ref().is_some_and(|remote| remote.is_stop_requested()) {
            self.raise();
        }
        self.is_raised()
    }

    /// Makes the request. Waiters are told by [`wake`](Self::wake).
    pub(crate) fn raise(&self) {
        self.is_raised.store(true, Release);
    }

    /// Wakes those who wait. Called without a lock, after [`raise`](Self::raise).
    pub(crate) fn wake(&self) {
        let mut wakers = self.waiters.lock().take_all();
        // The last first: tasks that are still queued are withdrawn before a worker that is asked to stop
        // comes to them.
        wakers.reverse();
        wake_all(wakers);
    }

    /// Makes the request and tells of it.
    pub(crate) fn set(&self) {
        self.raise();
        self.wake();
    }

    /// Leaves the waker to be woken by a request that comes from now on. `false`: nothing tells of one.
    pub(crate) fn leave(self: &Arc<Self>, place: &mut Place, waker: &Waker) -> bool {
        let kept = KeptWaker::new(waker);
        let old = self.waiters.lock().leave(place, kept);
        drop(old);
        self.elsewhere.as_ref().is_none_or(|elsewhere| {
            elsewhere.lock().as_ref().is_none_or(|remote| remote.watch(self))
        })
    }

    /// Ready once the request was made; until then the waker is left.
    pub(crate) fn poll(self: &Arc<Self>, place: &mut Place, waker: &Waker) -> Poll<()> {
        if self.is_set() {
            return Poll::Ready(());
        }
        let is_told = self.leave(place, waker);
        // After the waker is there: a request that this look does not see finds it.
        if self.is_set() {
            return Poll::Ready(());
        }
        if !is_told {
            // Nothing tells of the request, so it is looked for again and again.
            std::thread::sleep(std::time::Duration::from_millis(1));
            waker.wake_by_ref();
        }
        Poll::Pending
    }

    /// The future with this place waits no longer.
    pub(crate) fn give_up(&self, place: Place) {
        let waker = self.waiters.lock().give_up(place);
        drop(waker);
    }

    /// The job has ended: what another process says from now on is not for it.
    #[cfg(feature = "process")]
    pub(crate) fn close(&self) {
        let Some(elsewhere) = &self.elsewhere else { return };
        let remote = elsewhere.lock().take();
        if let Some(remote) = remote {
            remote.end();
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// Returns whether nothing can raise the flag any more that watches another process.
    #[cfg(feature = "process")]
    pub(crate) fn is_closed(&self) -> bool {
        self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.lock().is_none())
    }
}
