//! Room in a bounded queue: counted exactly, and handed out in the order of asking.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use tokio::sync::{Semaphore, TryAcquireError};

use crate::error::Error;
use crate::panic::KeptWaker;

/// The largest capacity.
pub(crate) const MOST: usize = Semaphore::MAX_PERMITS;

/// Fair, so that nobody who waits is passed over.
pub(crate) struct Room {
    free: Semaphore,
    capacity: usize,
}

/// The reason for which there is no room.
pub(crate) enum NoRoom {
    Full {
        capacity: usize,
    },
    /// The queue takes nothing more.
    Closed,
}

impl NoRoom {
    /// The error for the submitter; `refusal` says why the queue is closed.
    pub(crate) fn into_error(self, refusal: impl FnOnce() -> Error) -> Error {
        match self {
            Self::Full { capacity } => Error::QueueFull { capacity },
            Self::Closed => refusal(),
        }
    }
}

impl Room {
    /// Makes room for tasks that wait; of a queue without room, for those that run, one for each worker.
    pub(crate) fn new(capacity: usize, max_workers: usize) -> Self {
        let free = if capacity == 0 { max_workers.min(MOST) } else { capacity };
        Self { free: Semaphore::new(free), capacity }
    }

    /// Takes room for one.
    pub(crate) fn take(&self) -> Result<(), NoRoom> {
        match self.free.try_acquire() {
            // A task gives its room back by `release`, from any thread, so there is no guard to
            // keep.
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(NoRoom::Full { capacity: self.capacity }),
            Err(TryAcquireError::Closed) => Err(NoRoom::Closed),
        }
    }

    /// Waits for room for one. `false`: there will be none any more.
    pub(crate) async fn wait(&self) -> bool {
        let mut acquire = pin!(self.free.acquire());
        // The semaphore clones wakers under its lock, and wakes and drops several at a time; one
        // that panics must not cost the others.
        let acquired = poll_fn(|cx| {
            let waker = Waker::from(Arc::new(Waiting(KeptWaker::new(cx.waker()))));
            acquire.as_mut().poll(&mut Context::from_waker(&waker))
        });
        match acquired.await {
            Ok(permit) => {
                permit.forget();
                true
            }
            Err(_closed) => false,
        }
    }

    /// Gives room for so many back, to the first who wait.
    pub(crate) fn release(&self, count: usize) {
        self.free.add_permits(count);
    }

    /// Returns how much room is left.
    #[cfg(all(test, feature = "process"))]
    pub(crate) fn left(&self) -> usize {
        self.free.available_permits()
    }

    /// Closes the room: no more is given.
    pub(crate) fn close(&self) {
        self.free.close();
    }
}

/// The waker of a caller that waits.
struct Waiting(KeptWaker);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
    }
}
