//! A set of tasks that grows while its results are taken.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::FusedFuture;
use futures_core::stream::FusedStream;

use crate::blocking::{Blocking, BlockingNext};
use crate::core::set::{CompletionSet, WakeAt};
use crate::core::{Awaited, context, parker};
use crate::error::{Error, Unfinished};
use crate::future::TaskFuture;
use crate::next::Next;
use crate::task_handle::TaskHandle;
use crate::timer::Delay;

/// Places of a set that was empty.
const FIRST_PLACES: usize = 16;

const NO_PLACE: usize = usize::MAX;

/// A set of tasks, each with a key, that yields results as they come, and may be given further tasks
/// meanwhile: what a crawler needs, whose pages name further pages.
///
/// Where the futures are known beforehand, [`as_completed`](crate::as_completed()) is simpler. A completion
/// and a [`push`](Self::push) cost O(1) each, the latter on average, whatever the number of tasks. An empty
/// set has no next result: [`next`](Self::next) is `None` at once, and may have one again after a `push`.
///
/// # Drop
///
/// Dropping the set drops its futures, which withdraws the tasks that have not started.
///
/// # Examples
///
/// ```
/// use concurrent_futures::{TaskSet, ThreadPoolExecutor};
///
/// /// The numbers that a page links to.
/// fn links(page: u32) -> Vec<u32> {
///     [2 * page, 2 * page + 1].into_iter().filter(|page| *page < 100).collect()
/// }
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let mut pages = TaskSet::new();
/// pages.push(1, pool.submit(|| links(1)));
/// let mut seen = 0;
/// while let Some((page, links_of_it)) = pages.next().await {
///     seen += 1;
///     for link in links_of_it? {
///         assert!(link > page);
///         pages.push(link, pool.submit(move || links(link)));
///     }
/// }
/// assert_eq!(seen, 99);
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a TaskSet withdraws its tasks that have not started"]
pub struct TaskSet<K, T> {
    /// As many as in `set`.
    places: Vec<Place<K, T>>,
    /// The first free place; [`NO_PLACE`] if there is none.
    free: usize,
    unfinished: usize,
    /// Places whose tasks are done, and the number of them that were yielded.
    ready: Vec<usize>,
    yielded: usize,
    set: Arc<CompletionSet>,
    pending_here: context::Pending,
}

enum Place<K, T> {
    /// Until its result is yielded.
    Member(K, TaskFuture<T>),
    Free {
        /// The next free place.
        next: usize,
    },
}

impl<K, T> Place<K, T> {
    fn into_member(self) -> Option<(K, TaskFuture<T>)> {
        match self {
            Place::Member(key, future) => Some((key, future)),
            Place::Free { .. } => None,
        }
    }
}

impl<K, T> TaskSet<K, T> {
    /// Makes a set without tasks.
    pub fn new() -> Self {
        std::iter::empty().collect()
    }

    /// Adds a task. The handle can cancel it, or look at it. The key need not be unique.
    pub fn push(&mut self, key: K, future: TaskFuture<T>) -> TaskHandle {
        let handle = future.handle();
        self.insert(key, future);
        handle
    }

    fn insert(&mut self, key: K, mut future: TaskFuture<T>) {
        if self.free == NO_PLACE {
            self.grow();
        }
        let place = self.free;
        // A future that is done already tells no set.
        if !future.listen(&self.set, place) {
            self.ready.push(place);
            self.set.wake();
        }
        if let Place::Free { next } =
            std::mem::replace(&mut self.places[place], Place::Member(key, future))
        {
            self.free = next;
        }
        self.unfinished += 1;
    }

    /// Moves all members to a set of twice as many places.
    fn grow(&mut self) {
        let places = self.places.len();
        let all = places + places.max(FIRST_PLACES);
        let set = Arc::new(CompletionSet::new(all, WakeAt::Any));
        self.forget_yielded();
        // In the order in which they finished. What the old set is told from here on is not looked at.
        self.set.take(&mut self.ready);
        let mut is_ready = vec![false; places];
        self.ready.iter().for_each(|place| is_ready[*place] = true);
        for (place, member) in self.places.iter_mut().enumerate() {
            let Place::Member(_, future) = member else { continue };
            future.unlisten();
            if !future.listen(&set, place) && !is_ready[place] {
                self.ready.push(place);
            }
        }
        let nexts = (places + 1..all).chain([self.free]);
        self.places.extend(nexts.map(|next| Place::Free { next }));
        self.free = places;
        // A consumer that was left pending polls again, and so leaves its waker with the new set.
        std::mem::replace(&mut self.set, set).wake();
    }

    fn forget_yielded(&mut self) {
        self.ready.drain(..std::mem::take(&mut self.yielded));
    }

    /// Waits for the next result, in the order in which the tasks finish. `None` if the set is empty.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time; no result is lost.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is that of streams, and returns a future"
    )]
    pub fn next(&mut self) -> Next<'_, Self> {
        Next::new(self)
    }

    /// Returns a result that is there, without waiting.
    pub fn try_next(&mut self) -> Option<(K, Result<T, Error>)> {
        if self.yielded == self.ready.len() {
            self.forget_yielded();
            self.set.take(&mut self.ready);
        }
        self.take_ready()
    }

    /// Waits for the next result, for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] if there is none by then. The tasks go on, and the set is as before.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time; no result is lost.
    pub fn next_timeout(&mut self, limit: Duration) -> NextTimeout<'_, K, T> {
        NextTimeout { set: self, delay: Delay::new(limit), is_over: false }
    }

    /// Waits for the next result by blocking this thread, for code without a runtime. Inside a job the
    /// worker's place is lent out meanwhile.
    ///
    /// Where nothing is pushed meanwhile, [`blocking`](Self::blocking) makes an iterator of the set.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn next_blocking(&mut self) -> Option<(K, Result<T, Error>)> {
        let awaited = Awaited::Set(self.unfinished);
        match parker::block_on(|| awaited, None, |cx| self.poll_item(cx)) {
            Some(item) => item,
            None => unreachable!("a wait without a limit ends with a result"),
        }
    }

    /// Iterates over the results by blocking this thread.
    pub fn blocking(self) -> Blocking<Self> {
        Blocking::new(self)
    }

    /// Returns the number of tasks whose results were not taken yet.
    pub fn len(&self) -> usize {
        self.unfinished
    }

    /// Returns whether there is no task left.
    pub fn is_empty(&self) -> bool {
        self.unfinished == 0
    }

    /// Cancels all tasks, as [`TaskFuture::cancel`]. They stay in the set, which yields what became of them.
    pub fn cancel_all(&self) {
        for place in &self.places {
            if let Place::Member(_, future) = place {
                future.cancel();
            }
        }
    }

    /// Lets all tasks run on without anyone waiting for them, and empties the set.
    pub fn detach_all(&mut self) {
        for (_, future) in std::mem::take(self).into_futures() {
            future.detach();
        }
    }

    /// Gives the futures back whose results were not taken, in no particular order.
    pub fn into_futures(self) -> impl Iterator<Item = (K, TaskFuture<T>)> {
        self.places.into_iter().filter_map(Place::into_member).map(|(key, mut future)| {
            // It is the caller's again, so its end is not for this set.
            future.unlisten();
            (key, future)
        })
    }

    fn take_ready(&mut self) -> Option<(K, Result<T, Error>)> {
        let place = *self.ready.get(self.yielded)?;
        self.yielded += 1;
        let free = Place::Free { next: std::mem::replace(&mut self.free, place) };
        let (key, mut future) = std::mem::replace(&mut self.places[place], free).into_member()?;
        self.unfinished -= 1;
        Some((key, future.take()))
    }

    /// Polls for the next result, and does not note the wait.
    pub(crate) fn poll_item(&mut self, cx: &Context<'_>) -> Poll<Option<(K, Result<T, Error>)>> {
        if self.unfinished == 0 {
            return Poll::Ready(None);
        }
        if self.yielded == self.ready.len() {
            self.forget_yielded();
            if self.set.poll(cx.waker(), &mut self.ready).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.take_ready())
    }
}

impl<K, T> Default for TaskSet<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T> Extend<(K, TaskFuture<T>)> for TaskSet<K, T> {
    fn extend<I: IntoIterator<Item = (K, TaskFuture<T>)>>(&mut self, futures: I) {
        futures.into_iter().for_each(|(key, future)| self.insert(key, future));
    }
}

impl<K, T> FromIterator<(K, TaskFuture<T>)> for TaskSet<K, T> {
    fn from_iter<I: IntoIterator<Item = (K, TaskFuture<T>)>>(futures: I) -> Self {
        let member = |(key, future)| Place::Member(key, future);
        let mut places: Vec<_> = futures.into_iter().map(member).collect();
        let set = Arc::new(CompletionSet::new(places.len(), WakeAt::Any));
        let mut ready = Vec::new();
        for (index, place) in places.iter_mut().enumerate() {
            // A future that is done already tells no set.
            let Place::Member(_, future) = place else { continue };
            if !future.listen(&set, index) {
                ready.push(index);
            }
        }
        Self {
            unfinished: places.len(),
            places,
            free: NO_PLACE,
            ready,
            yielded: 0,
            set,
            pending_here: context::Pending::default(),
        }
    }
}

// Keys are moved in and out, and never pinned.
impl<K, T> Unpin for TaskSet<K, T> {}

impl<K, T> Stream for TaskSet<K, T> {
    type Item = (K, Result<T, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.poll_item(cx);
        let unfinished = self.unfinished;
        self.pending_here.note(&polled, cx, || Awaited::Set(unfinished));
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.unfinished, Some(self.unfinished))
    }
}

/// Terminated while it is empty.
impl<K, T> FusedStream for TaskSet<K, T> {
    fn is_terminated(&self) -> bool {
        self.is_empty()
    }
}

impl<K, T> BlockingNext for TaskSet<K, T> {
    #[cfg_attr(debug_assertions, track_caller)]
    fn next_blocking(&mut self) -> Option<Self::Item> {
        self.next_blocking()
    }
}

impl<K, T> fmt::Debug for TaskSet<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSet").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The future of [`TaskSet::next_timeout`].
///
/// # Cancel safety
///
/// It may be dropped at any time; no result is lost.
#[must_use = "futures do nothing unless polled"]
pub struct NextTimeout<'a, K, T> {
    set: &'a mut TaskSet<K, T>,
    delay: Delay,
    is_over: bool,
}

impl<K, T> Future for NextTimeout<'_, K, T> {
    type Output = Result<Option<(K, Result<T, Error>)>, Unfinished>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = match this.set.poll_item(cx) {
            Poll::Ready(item) => Poll::Ready(Ok(item)),
            Poll::Pending => this.delay.poll(cx).map(|_limit| {
                let unfinished = this.set.unfinished;
                Err(Unfinished { unfinished, total: unfinished })
            }),
        };
        let unfinished = this.set.unfinished;
        this.set.pending_here.note(&polled, cx, || Awaited::Set(unfinished));
        this.is_over = polled.is_ready();
        polled
    }
}

impl<K, T> FusedFuture for NextTimeout<'_, K, T> {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl<K, T> fmt::Debug for NextTimeout<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextTimeout").field("limit", &self.delay.limit()).finish_non_exhaustive()
    }
}
