//! A task whose result many can await.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::core::{Awaited, TaskId, context, parker};
use crate::error::Error;
use crate::future::TaskFuture;
use crate::panic::{KeptWaker, wake_all};
use crate::sync::Mutex;
use crate::task_handle::TaskHandle;
use crate::timer::deadline;

/// A future whose clones all get the result of one task. Made by [`TaskFuture::shared`].
///
/// Each clone can be awaited, or blocked on, and gets a clone of the result; a clone that is awaited again
/// gets it again. A completion costs O(1) beside one wake-up for each clone that waits.
///
/// # Drop
///
/// Dropping the last clone does what dropping the [`TaskFuture`] would have done: it withdraws the task if
/// it has not started.
///
/// # Cancel safety
///
/// Polling takes nothing, so a clone can be dropped or awaited again at any moment.
///
/// # Examples
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let thumbnail = pool.submit(|| "expensive".to_owned()).shared();
/// let (one, other) = tokio::join!(thumbnail.clone(), thumbnail);
/// assert_eq!(one?, other?);
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping the last clone withdraws the task if it has not started"]
pub struct SharedTask<T> {
    shared: Arc<Shared<T>>,
    /// Key of this clone's waker.
    key: u64,
    pending_here: context::Pending,
}

struct Shared<T> {
    handle: TaskHandle,
    waiters: Arc<Waiters>,
    /// Polled by whichever clone looks; `None` once its result is in `outcome`.
    future: Mutex<Option<TaskFuture<T>>>,
    outcome: OnceLock<Result<T, Error>>,
}

/// The wakers of the clones that wait, by their keys. As a waker it wakes them all.
#[derive(Default)]
struct Waiters {
    wakers: Mutex<BTreeMap<u64, KeptWaker>>,
    next_key: AtomicU64,
}

impl Waiters {
    fn new_key(&self) -> u64 {
        self.next_key.fetch_add(1, Relaxed)
    }

    fn forget(&self, key: u64) {
        // In a statement of its own, so that the waker is dropped after the lock is released.
        let waker = self.wakers.lock().remove(&key);
        drop(waker);
    }
}

impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wake_all(wakers.into_values().collect());
    }
}

impl<T: Clone> TaskFuture<T> {
    /// Lets many await the result, each with a clone of what this returns. An example is at
    /// [`SharedTask`].
    pub fn shared(self) -> SharedTask<T> {
        let waiters = Arc::<Waiters>::default();
        let key = waiters.new_key();
        let (handle, future) = (self.handle(), Mutex::new(Some(self)));
        let shared = Arc::new(Shared { handle, waiters, future, outcome: OnceLock::new() });
        SharedTask { shared, key, pending_here: context::Pending::default() }
    }
}

impl<T: Clone> SharedTask<T> {
    /// Waits for the result by blocking this thread, as [`TaskFuture::result`].
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result(&self) -> Result<T, Error> {
        let queued = self.shared.future.lock().as_ref().map(TaskFuture::task);
        if let Some(task) = queued {
            task.runnable().run_in_place();
        }
        match self.clone().wait(None) {
            Some(outcome) => outcome,
            None => unreachable!("a wait without a limit ends with a result"),
        }
    }

    /// Waits for the result by blocking this thread, for at most `limit`. `None` if there is no result by
    /// then.
    ///
    /// ```
    /// use concurrent_futures::TaskFuture;
    /// use std::time::Duration;
    ///
    /// let (completer, future) = TaskFuture::promise();
    /// let shared = future.shared();
    /// assert!(shared.result_timeout(Duration::from_millis(1)).is_none());
    /// completer.complete(Ok(7));
    /// assert!(matches!(shared.result_timeout(Duration::from_millis(1)), Some(Ok(7))));
    /// ```
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn result_timeout(&self, limit: Duration) -> Option<Result<T, Error>> {
        self.clone().wait(Some(limit))
    }

    /// Waits with a key of its own, since several threads may wait by one clone.
    #[cfg_attr(debug_assertions, track_caller)]
    fn wait(self, limit: Option<Duration>) -> Option<Result<T, Error>> {
        let awaited = Awaited::Task(self.id());
        parker::block_on(|| awaited, limit.map(deadline), |cx| self.poll_outcome(cx))
    }

    fn poll_outcome(&self, cx: &Context<'_>) -> Poll<Result<T, Error>> {
        let shared = &*self.shared;
        if shared.outcome.get().is_none() {
            // Before the look at the task: a completion after that look finds the waker.
            let waker = KeptWaker::new(cx.waker());
            let before = shared.waiters.wakers.lock().insert(self.key, waker);
            drop(before);
            shared.look(self.key);
        }
        shared.outcome.get().cloned().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> SharedTask<T> {
    /// Withdraws the task for all clones, as [`TaskFuture::cancel`].
    pub fn cancel(&self) -> bool {
        self.shared.handle.cancel()
    }

    /// Returns a handle, to cancel the task or to look at it, without a part in its result.
    pub fn handle(&self) -> TaskHandle {
        self.shared.handle.clone()
    }

    /// Returns whether there is a result: a value or an error.
    pub fn is_done(&self) -> bool {
        self.shared.future.lock().as_ref().is_none_or(TaskFuture::is_done)
    }

    /// The number of the task, as [`TaskFuture::id`].
    pub fn id(&self) -> TaskId {
        self.shared.handle.id()
    }
}

impl<T> Shared<T> {
    /// Takes the result if it is there, for the clone with this key. Else the clones that wait are woken
    /// once it is.
    fn look(&self, key: u64) {
        let waker = Waker::from(Arc::clone(&self.waiters));
        let mut future = self.future.lock();
        let Some(task) = &mut *future else {
            drop(future);
            return self.waiters.forget(key);
        };
        // No user code: the result is moved, and the waker is that of the waiters.
        if let Poll::Ready(outcome) = task.poll_outcome(&Context::from_waker(&waker)) {
            let _ = self.outcome.set(outcome);
            let done = future.take();
            drop(future);
            drop(done);
            // This poll may have taken the waker out of the task before its end, which wakes no clone then.
            self.waiters.forget(key);
            Arc::clone(&self.waiters).wake();
        }
    }
}

impl<T: Clone> Future for SharedTask<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.poll_outcome(cx);
        let id = self.id();
        self.pending_here.note(&polled, cx, || Awaited::Task(id));
        polled
    }
}

impl<T> Clone for SharedTask<T> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        let key = shared.waiters.new_key();
        Self { shared, key, pending_here: context::Pending::default() }
    }
}

impl<T> Drop for SharedTask<T> {
    fn drop(&mut self) {
        let id = self.id();
        self.pending_here.over(|| Awaited::Task(id));
        self.shared.waiters.forget(self.key);
    }
}

impl<T> fmt::Debug for SharedTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTask")
            .field("id", &self.id())
            .field("is_done", &self.is_done())
            .finish_non_exhaustive()
    }
}
