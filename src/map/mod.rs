//! One function over many items.
//!
//! [`engine`] is the workers' side: they take shares of the [`input`] themselves, under the window.
//! [`chunk`] decides how long a share is, and computes it; [`apply`] says where, and [`elsewhere`] how
//! it comes back from there. [`segment`] is the memory in which items and results lie. Here is the
//! consumer's side: results in order, or as they come.

pub(crate) mod apply;
mod chunk;
pub(crate) mod crew;
#[cfg_attr(not(feature = "process"), allow(dead_code, reason = "all is computed here"))]
pub(crate) mod elsewhere;
mod engine;
mod input;
mod integers;
mod segment;
mod source;
mod state;

use std::fmt;
use std::future::Future;
use std::iter::Flatten;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::vec;

use futures_core::Stream;
use futures_core::stream::FusedStream;

use self::apply::Apply;
use self::chunk::ChunkItems;
use self::crew::{Begin, Crew};
use self::engine::Engine;
use self::segment::Segment;
use self::source::{Setting, Source, Taken, Wanted};
use crate::core::{Awaited, context, parker};
use crate::error::Error;
use crate::timer::Delay;

/// Starts a map; the second value begins it in earnest when the executor is shut down.
pub(crate) fn start<A, R, I, F, C>(crew: C, f: F, input: I) -> (Map<R>, Weak<dyn Begin>)
where
    A: Send + 'static,
    R: Send + 'static,
    I: Iterator<Item = A> + Send + 'static,
    F: Apply<A, R>,
    C: Crew,
{
    let engine = Engine::new(crew, f, input);
    engine.open();
    let begin: Arc<dyn Begin> = engine.clone();
    let map = Map { consumer: Consumer::new(engine), all: None, indices: Vec::new() };
    // Weak, so that the executor's list keeps no map alive that was dropped.
    (map, Arc::downgrade(&begin))
}

/// The results of `map`: awaited, all of them in order; as a stream, one by one in order.
///
/// * Awaited it is `Result<Vec<T>, Error>`. The first error in the order of the input wins; the
///   items that have not started by then never run.
/// * As a [`Stream`] of `Result<T, Error>`, an item's error stands in its place and does not end
///   the stream. A consumer that pauses does not hold up the workers, only the window does.
///   `Map` is a future and a stream, so where both `FutureExt` and `StreamExt` are in scope a method
///   that both have is named in full: `StreamExt::map(results, ..)`.
/// * [`unordered`](Self::unordered) yields results as they finish, with their index.
/// * [`result`](Self::result) blocks, for synchronous code;
///   `futures::executor::block_on_stream` makes an iterator of it.
///
/// # When the work starts
///
/// At the call, with the first item; no window forbids that. With the others as soon as it is
/// known how far the workers may run ahead: when [`buffersize`](Self::buffersize) says so, or at
/// the first poll, which fixes that there is no limit, or when the executor is shut down. To
/// have a map without limit run before it is polled, say `.buffersize(usize::MAX)`.
///
/// The workers pull the input themselves, one of them at a time. An input that blocks holds one
/// worker; an input that panics ends the map with that panic, in the place of the next item.
///
/// # Drop and cancel safety
///
/// Dropping the map stops it: items that have not started are dropped, running ones see
/// [`task::stop_requested`](crate::task::stop_requested), and the input is dropped. `next()` may be
/// dropped at any time; no result is lost.
///
/// # Examples
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
/// use futures::StreamExt;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let squares: Vec<u64> = pool.map(|x| x * x, 0..1_000).await?;
/// assert_eq!(squares[999], 998_001);
///
/// // An endless input, eight items ahead at most.
/// let mut roots = pool.map(|x: u32| f64::from(x).sqrt(), 0..).buffersize(8);
/// assert_eq!(roots.next().await.transpose()?, Some(0.0));
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a Map stops it; await it, or read it as a stream"]
pub struct Map<T> {
    consumer: Consumer<T>,
    /// Results that have been gathered, when awaited.
    all: Option<Segment<T>>,
    /// Their indices, in the same order.
    indices: Vec<Range<usize>>,
}

impl<T> Map<T> {
    /// At most `n` items are taken from the input and not yet delivered, so an endless input
    /// works and memory stays flat. An item counts as delivered when the next one is asked for.
    /// Default: no limit.
    ///
    /// Awaiting a `Map` collects everything; the limit then bounds only what waits for its turn.
    ///
    /// # Panics
    ///
    /// If `n` is 0: no item could ever be taken.
    #[track_caller]
    pub fn buffersize(self, n: usize) -> Self {
        self.consumer.buffersize(n);
        self
    }

    /// Hands the items to the workers in chunks of `n`. Default: chosen, and changed on the way,
    /// such that a chunk takes about a quarter of a millisecond by what items have taken so far;
    /// items that take longer go one by one.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn chunksize(self, n: usize) -> Self {
        self.consumer.chunksize(n);
        self
    }

    /// Stops the map once `limit` has passed, counted from this call: the item that is waited
    /// for ends with [`Error::TimedOut`], and nothing comes after it. Results that are there by
    /// then are delivered first.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.consumer.delay = Some(Delay::new(limit));
        self
    }

    /// Yields the results as they finish instead of in order, each with its index in the input.
    pub fn unordered(mut self) -> Unordered<T> {
        self.consumer.next = None;
        let gathered = self.all.unwrap_or_else(Segment::empty);
        let indices = self.indices.into_iter().flatten();
        Unordered { consumer: self.consumer, gathered, indices }
    }

    /// Waits for all results by blocking this thread. Inside a job of the same executor, the
    /// worker computes items itself while it waits.
    ///
    /// # Errors
    ///
    /// The first error in the order of the input.
    pub fn result(mut self) -> Result<Vec<T>, Error> {
        let deadline = self.consumer.delay.as_mut().map(Delay::keep_by_caller);
        let all = parker::block_on(
            || Awaited::Map,
            deadline,
            |cx| {
                loop {
                    let polled = self.poll_all(cx);
                    // This thread may compute a chunk next, so it takes its place back.
                    context::resumed();
                    if polled.is_ready() || !self.consumer.help() {
                        return polled;
                    }
                }
            },
        );
        match all {
            Some(all) => all,
            None => unreachable!("a wait ends with a result, at its limit too"),
        }
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<T>, Error>> {
        let consumer = &mut self.consumer;
        // Batches that are taken from here on come with slots of this segment.
        let all = self.all.get_or_insert_with(|| consumer.source.gather(consumer.count));
        consumer.wants_all = true;
        let failed = loop {
            let (first, before) = (consumer.index, all.len());
            let appended = consumer.append_to(all);
            let more = first..first + (all.len() - before);
            match self.indices.last_mut() {
                Some(last) if last.end == more.start => last.end = more.end,
                _ => self.indices.push(more),
            }
            match appended {
                Err(error) => break error,
                Ok(()) => match ready!(consumer.poll_more(cx)) {
                    Ok(true) => {}
                    Ok(false) => {
                        let all = self.all.take().map_or_else(Vec::new, Segment::into_vec);
                        return Poll::Ready(Ok(all));
                    }
                    Err(error) => break error,
                },
            }
        };
        consumer.finish();
        self.all = None;
        Poll::Ready(Err(failed))
    }
}

impl<T> Future for Map<T> {
    type Output = Result<Vec<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.poll_all(cx);
        self.consumer.pending_here.note(&polled, cx, || Awaited::Map);
        polled
    }
}

impl<T> Stream for Map<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // After an await that was given up, each result is wanted as it comes again.
        self.consumer.wants_all = false;
        let polled = self.consumer.poll_item(cx);
        self.consumer.pending_here.note(&polled, cx, || Awaited::Map);
        polled.map(|item| item.map(|(_, result)| result))
    }
}

impl<T> FusedStream for Map<T> {
    fn is_terminated(&self) -> bool {
        self.consumer.finished
    }
}

// No field is pinned: results are moved out, never polled in place.
impl<T> Unpin for Map<T> {}

impl<T> fmt::Debug for Map<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.debug(f.debug_struct("Map"))
    }
}

/// The results of a map as they finish, each with its index in the input. From
/// [`Map::unordered`].
///
/// With chunks of more than one item, the results of a chunk come together.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
/// use futures::StreamExt;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::new();
/// let words = ["one", "three", "eleven"];
/// let mut lengths = pool.map(str::len, words).unordered();
/// while let Some((index, length)) = lengths.next().await {
///     assert_eq!(length?, words[index].len());
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping an Unordered stops its map; read it as a stream"]
pub struct Unordered<T> {
    consumer: Consumer<T>,
    /// Results that an await of the map had gathered, and their indices.
    gathered: Segment<T>,
    indices: Flatten<vec::IntoIter<Range<usize>>>,
}

impl<T> Unordered<T> {
    /// As [`Map::buffersize`].
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn buffersize(self, n: usize) -> Self {
        self.consumer.buffersize(n);
        self
    }

    /// As [`Map::chunksize`].
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn chunksize(self, n: usize) -> Self {
        self.consumer.chunksize(n);
        self
    }

    /// As [`Map::timeout`]; the index that comes with the error is the number of results that
    /// were delivered.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.consumer.delay = Some(Delay::new(limit));
        self
    }
}

impl<T> Stream for Unordered<T> {
    type Item = (usize, Result<T, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(value) = self.gathered.next() {
            return Poll::Ready(self.indices.next().map(|index| (index, Ok(value))));
        }
        let polled = self.consumer.poll_item(cx);
        self.consumer.pending_here.note(&polled, cx, || Awaited::Map);
        polled
    }
}

impl<T> FusedStream for Unordered<T> {
    fn is_terminated(&self) -> bool {
        self.consumer.finished && self.gathered.is_empty()
    }
}

impl<T> Unpin for Unordered<T> {}

impl<T> fmt::Debug for Unordered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.consumer.debug(f.debug_struct("Unordered"))
    }
}

/// The part that both kinds of results share.
struct Consumer<T> {
    source: Arc<dyn Source<T>>,
    /// The next item that is wanted; `None`: any.
    next: Option<usize>,
    /// Set if all results are wanted together, so that there is no hurry for the next one.
    wants_all: bool,
    /// The chunk in hand, and the index of its next item.
    items: ChunkItems<T>,
    index: usize,
    count: usize,
    /// The item of the last poll, which the consumer may still work on.
    handed_out: bool,
    /// Delivered items that the workers have not been told of.
    untold: usize,
    /// Set if there is a window, in which the workers wait for deliveries.
    is_bounded: bool,
    delay: Option<Delay>,
    /// Set once the limit has passed: results that are there are delivered, and nothing more is
    /// computed.
    is_late: bool,
    finished: bool,
    pending_here: context::Pending,
}

impl<T> Consumer<T> {
    fn new(source: Arc<dyn Source<T>>) -> Self {
        Self {
            source,
            next: Some(0),
            wants_all: false,
            items: ChunkItems::empty(),
            index: 0,
            count: 0,
            handed_out: false,
            untold: 0,
            is_bounded: false,
            delay: None,
            is_late: false,
            finished: false,
            pending_here: context::Pending::default(),
        }
    }

    #[track_caller]
    fn buffersize(&self, n: usize) {
        assert!(n > 0, "buffersize must be at least 1, so that an item can be taken");
        Arc::clone(&self.source).set(Setting::Window(n));
    }

    #[track_caller]
    fn chunksize(&self, n: usize) {
        assert!(n > 0, "chunksize must be at least 1");
        Arc::clone(&self.source).set(Setting::ChunkSize(n));
    }

    /// The next result and its index.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Result<T, Error>)>> {
        // The item of the last poll counts as delivered only now, when the next one is asked for.
        self.untold += usize::from(std::mem::take(&mut self.handed_out));
        loop {
            if let Some(result) = self.items.next() {
                // Not with the next chunk: in a window the workers may wait for this room.
                if self.untold > 0 && self.is_bounded {
                    Arc::clone(&self.source).delivered(std::mem::take(&mut self.untold));
                }
                let index = self.index;
                self.pass(1);
                self.handed_out = true;
                return Poll::Ready(Some((index, result)));
            }
            match ready!(self.poll_more(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some((self.count, Err(error)))),
            }
        }
    }

    /// Waits until there are items in hand. `false`: there are no others. After an error there
    /// are none either.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.finished {
            return Poll::Ready(Ok(false));
        }
        if !self.is_late && self.delay.as_ref().is_some_and(Delay::has_passed) {
            // Not late if all is computed: then the map ends as it would without a limit.
            self.is_late = self.source.halt();
        }
        let wanted = match self.next {
            None => Wanted::Any,
            Some(next) if self.wants_all => Wanted::All(next),
            Some(next) => Wanted::From(next),
        };
        let untold = std::mem::take(&mut self.untold);
        match Arc::clone(&self.source).poll_chunk(wanted, untold, cx) {
            Poll::Ready(Taken::Chunk(first, chunk)) => {
                self.items = chunk.into_iter();
                self.index = first;
                self.is_bounded = self.source.is_bounded();
                Poll::Ready(Ok(true))
            }
            // The next result is not there, and none comes any more.
            _ if self.is_late => Poll::Ready(Err(self.time_out())),
            Poll::Ready(Taken::Finished) => {
                self.finish();
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Taken::Failed(error)) => {
                self.finish();
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                let Some(delay) = &mut self.delay else { return Poll::Pending };
                ready!(delay.poll(cx));
                Poll::Ready(Err(self.time_out()))
            }
        }
    }

    /// Ends the map with the error of its time limit.
    fn time_out(&mut self) -> Error {
        let limit = self.delay.as_ref().map(Delay::limit).unwrap_or_default();
        let started = self.source.is_taken(self.next.unwrap_or(self.count));
        self.finish();
        Error::TimedOut { limit, started }
    }

    /// Moves the values at hand to `all`, up to the first error.
    fn append_to(&mut self, all: &mut Segment<T>) -> Result<(), Error> {
        self.untold += usize::from(std::mem::take(&mut self.handed_out));
        let count = self.items.append_to(all);
        self.pass(count);
        self.untold += count;
        match self.items.next() {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Counts the next `count` items in hand as the consumer's.
    fn pass(&mut self, count: usize) {
        self.index += count;
        self.count += count;
        self.next = self.next.map(|next| next + count);
    }

    fn help(&self) -> bool {
        Arc::clone(&self.source).help()
    }

    fn finish(&mut self) {
        self.finished = true;
        // An empty rest of a chunk may still share the memory that `into_vec` is to take over.
        self.items = ChunkItems::empty();
        self.source.stop();
    }

    fn debug(&self, mut debug: fmt::DebugStruct<'_, '_>) -> fmt::Result {
        debug
            .field("delivered", &self.count)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.source.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{Sender, channel};
    use std::task::Waker;

    use super::apply::{Computed, Here};
    use super::crew::AfterChunk;
    use super::elsewhere::{Elsewhere, Remote, Results};
    use super::*;
    use crate::future::TaskFuture;
    use crate::sync::{Condvar, Mutex};

    type Driver = Box<dyn FnOnce() + Send>;

    /// Two threads; they end with the last clone.
    #[derive(Clone)]
    struct Threads {
        drivers: Sender<Driver>,
        /// Drivers that have not ended.
        left: Arc<(Mutex<usize>, Condvar)>,
    }

    impl Default for Threads {
        fn default() -> Self {
            let (drivers, receiver) = channel::<Driver>();
            let receiver = Arc::new(Mutex::new(receiver));
            let left = Arc::<(Mutex<usize>, Condvar)>::default();
            for _ in 0..2 {
                let (receiver, left) = (Arc::clone(&receiver), Arc::clone(&left));
                std::thread::spawn(move || {
                    loop {
                        let next = receiver.lock().recv();
                        let Ok(driver) = next else { return };
                        driver();
                        *left.0.lock() -= 1;
                        left.1.notify_all();
                    }
                });
            }
            Self { drivers, left }
        }
    }

    impl Threads {
        fn map<A, R, I, F>(&self, f: F, input: I) -> Map<R>
        where
            A: Send + 'static,
            R: Send + 'static,
            I: IntoIterator<Item = A>,
            I::IntoIter: Send + 'static,
            F: Fn(A) -> R + Send + Sync + 'static,
        {
            start(self.clone(), Here::new(f), input.into_iter()).0
        }

        /// Until no driver runs.
        fn join(&self) {
            let mut left = self.left.0.lock();
            while *left > 0 {
                left = self.left.1.wait(left);
            }
        }
    }

    impl Crew for Threads {
        fn size(&self) -> usize {
            2
        }

        fn check_open(&self) -> Result<(), Error> {
            Ok(())
        }

        fn start(&self, driver: Box<dyn FnOnce() + Send>) -> TaskFuture<()> {
            *self.left.0.lock() += 1;
            self.drivers.send(driver).unwrap();
            TaskFuture::ready(Ok(()))
        }

        fn after_chunk(&self) -> AfterChunk {
            AfterChunk::GoOn
        }

        fn refusal(&self) -> Error {
            Error::Cancelled
        }

        fn may_help(&self) -> bool {
            false
        }
    }

    fn poll_once<T>(map: &mut Map<T>) -> Poll<Result<Vec<T>, Error>> {
        Pin::new(map).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn poll_next<T>(map: &mut Map<T>) -> Poll<Option<Result<T, Error>>> {
        Pin::new(map).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn next<T>(map: &mut Map<T>) -> Option<T> {
        let next = parker::block_on(|| Awaited::Map, None, |cx| Pin::new(&mut *map).poll_next(cx))
            .unwrap();
        next.transpose().unwrap()
    }

    /// The size of a map, `n` as a rule.
    const fn scaled(n: usize) -> usize {
        let small = n.div_ceil(50);
        if !cfg!(miri) {
            n
        } else if small < 30 {
            small
        } else {
            30
        }
    }

    #[test]
    fn results_of_known_number_are_gathered_in_one_place() {
        for n in [0, 1, 2, 63, scaled(5_000), scaled(100_001)] {
            for chunk in [None, Some(1_000)] {
                let crew = Threads::default();
                let all = |map: Map<usize>| {
                    let map = match chunk {
                        Some(n) => map.chunksize(n),
                        None => map,
                    };
                    let all = map.result().unwrap();
                    assert!(all.iter().copied().eq((0..n).map(|n| 2 * n)));
                    all.capacity()
                };
                // A copy into a `Vec` that grows would leave it with room.
                assert_eq!(all(crew.map(|n| 2 * n, 0..n)), n);
                assert_eq!(all(crew.map(|n| 2 * n, (0..n).collect::<Vec<_>>())), n);
                assert_eq!(all(crew.map(|n| 2 * n, 0..n).buffersize(7)), n);
                all(crew.map(|n| 2 * n, (0..n).filter(|_| true)));
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "chunks become long where an item takes no time")]
    fn shares_that_were_given_back_keep_their_place() {
        let crew = Threads::default();
        // Quick at first, so the chunks get long; then each takes more than the time of a chunk.
        let f = |n: usize| {
            if n > 20_000 && n % 100 == 0 {
                std::thread::sleep(Duration::from_micros(600));
            }
            n
        };
        let all = crew.map(f, 0..40_000).result().unwrap();
        assert!(all.iter().copied().eq(0..40_000));
        assert_eq!(all.capacity(), 40_000);
    }

    #[test]
    fn a_map_may_be_read_in_both_ways() {
        let crew = Threads::default();
        let n = scaled(1_000);
        let mut map = crew.map(|n| n, 0..n);
        assert_eq!([next(&mut map), next(&mut map)], [Some(0), Some(1)]);
        assert!(map.result().unwrap().into_iter().eq(2..n));

        let mut map = crew.map(|n| n, 0..n);
        let gathered = match poll_once(&mut map) {
            Poll::Pending => map.all.as_ref().map_or(0, Segment::len),
            Poll::Ready(all) => return assert!(all.unwrap().into_iter().eq(0..n)),
        };
        assert_eq!(next(&mut map), Some(gathered));
        assert_eq!(next(&mut map), Some(gathered + 1));
        let rest = (0..gathered).chain(gathered + 2..n);
        assert!(map.result().unwrap().into_iter().eq(rest));
    }

    #[test]
    fn what_an_await_has_gathered_comes_out_of_order_too() {
        let crew = Threads::default();
        let stuck = Arc::new(Mutex::new(()));
        let held = stuck.lock();
        let wait = Arc::clone(&stuck);
        let f = move |n: usize| {
            if n == 5 {
                drop(wait.lock());
            }
            n
        };
        let mut map = crew.map(f, 0..10).chunksize(1).buffersize(1);
        assert_eq!(next(&mut map), Some(0));
        // Up to the one that is stuck.
        while map.all.as_ref().is_none_or(|all| all.len() < 4) {
            assert!(poll_once(&mut map).is_pending());
        }
        drop(held);
        let mut map = map.unordered();
        let rest = std::iter::from_fn(|| {
            let poll = |cx: &mut Context<'_>| Pin::new(&mut map).poll_next(cx);
            parker::block_on(|| Awaited::Map, None, poll).unwrap()
        });
        let mut rest: Vec<_> = rest.map(|(index, n)| (index, n.unwrap())).collect();
        rest.sort_unstable();
        assert!(rest.into_iter().eq((1..10).map(|n| (n, n))));
    }

    #[test]
    fn known_items_stay_within_the_window() {
        let all = scaled(1_000);
        for window in [1, 2, 7, 100] {
            for by_vec in [false, true] {
                let crew = Threads::default();
                let computed = Arc::new(AtomicUsize::new(0));
                let count = Arc::clone(&computed);
                let f = move |_: usize| count.fetch_add(1, SeqCst);
                let map = if by_vec {
                    crew.map(f, (0..all).collect::<Vec<_>>())
                } else {
                    crew.map(f, 0..all)
                };
                let mut map = map.buffersize(window);
                for delivered in 0..all {
                    assert!(next(&mut map).is_some());
                    if delivered % 50 == 0 {
                        crew.join();
                        let most = (delivered + window).min(all);
                        assert_eq!(computed.load(SeqCst), most, "{window}, {delivered}");
                    }
                    assert!(computed.load(SeqCst) <= delivered + window);
                }
                assert!(next(&mut map).is_none());
            }
        }
    }

    #[test]
    fn an_awaited_map_is_woken_by_an_error_before_its_end() {
        let crew = Threads::default();
        let stuck = Arc::new(Mutex::new(()));
        let held = stuck.lock();
        let wait = Arc::clone(&stuck);
        let f = move |n: usize| match n {
            0..5 => n,
            5 => panic!("five"),
            _ => {
                drop(wait.lock());
                n
            }
        };
        let error = crew.map(f, 0..scaled(1_000)).chunksize(1).result().unwrap_err();
        assert!(error.to_string().contains("five"), "{error}");
        drop(held);
        crew.join();
    }

    /// Counts how many there are.
    struct Tracked(Arc<AtomicUsize>);

    impl Tracked {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, SeqCst);
            Self(Arc::clone(count))
        }
    }

    impl Drop for Tracked {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    #[test]
    fn known_items_and_their_results_are_dropped_once_however_the_map_ends() {
        let (all, middle) = (scaled(500), scaled(333));
        for ending in 0..6 {
            for chunk in [None, Some(1), Some(70)] {
                let crew = Threads::default();
                let (items, results) = (Arc::default(), Arc::default());
                let input: Vec<_> = (0..all).map(|n| (n, Tracked::new(&items))).collect();
                let make = Arc::clone(&results);
                let f = move |(n, _): (usize, Tracked)| {
                    assert!(ending < 4 || n != middle, "in the middle");
                    Tracked::new(&make)
                };
                let mut map = crew.map(f, input);
                if let Some(n) = chunk {
                    map = map.chunksize(n);
                }
                match ending {
                    0 => drop(map),
                    1 => {
                        let _ = poll_once(&mut map);
                        drop(map);
                    }
                    2 => {
                        let _ = (poll_once(&mut map), poll_next(&mut map));
                        drop(map);
                    }
                    3 => assert_eq!(map.result().unwrap().len(), all),
                    4 => assert!(map.result().is_err()),
                    _ => {
                        (0..middle).for_each(|_| drop(next(&mut map)));
                        drop(map);
                    }
                }
                crew.join();
                let left = (items.load(SeqCst), results.load(SeqCst));
                assert_eq!(left, (0, 0), "{ending}, {chunk:?}");
            }
        }
    }

    /// Computes an item at once, or on another thread, or forgets it.
    struct Forgetful;

    impl Remote<usize, usize> for Forgetful {
        fn compute(&self, items: Vec<usize>, results: Results<usize>) -> Option<Computed<usize>> {
            let [n] = items[..] else { panic!("one at a time") };
            let step = move |mut results: Results<usize>| {
                results.push(Ok(2 * n));
                results.finish(None)
            };
            match n {
                3 => drop(results.into_job(step)),
                5 => drop(std::thread::spawn(results.into_job(step))),
                _ => return step(results),
            }
            None
        }

        fn stop(&self) {}
    }

    #[test]
    fn a_step_that_is_dropped_fails_its_items() {
        let map = start(Threads::default(), Elsewhere(Forgetful), 0..8).0.chunksize(1);
        let mut map = map.buffersize(usize::MAX);
        let next = || {
            let poll = |cx: &mut Context<'_>| Pin::new(&mut map).poll_next(cx);
            let item = parker::block_on(|| Awaited::Map, None, poll).unwrap();
            item.map(|result| result.map_err(|error| matches!(error, Error::Cancelled)))
        };
        let all: Vec<_> = std::iter::from_fn(next).collect();
        let expected = (0..8).map(|n| if n == 3 { Err(true) } else { Ok(2 * n) });
        assert!(all.iter().copied().eq(expected), "{all:?}");
    }

    /// Computes at once, and does not say in what time. Has the length of the longest chunk.
    struct Timeless(Arc<AtomicUsize>);

    impl Remote<usize, usize> for Timeless {
        fn compute(
            &self,
            items: Vec<usize>,
            mut results: Results<usize>,
        ) -> Option<Computed<usize>> {
            self.0.fetch_max(items.len(), SeqCst);
            items.into_iter().for_each(|n| results.push(Ok(n)));
            results.finish(None)
        }

        fn stop(&self) {}
    }

    #[test]
    fn chunks_do_not_grow_by_times_that_are_not_known() {
        let longest = Arc::default();
        let remote = Elsewhere(Timeless(Arc::clone(&longest)));
        let n = scaled(500);
        let all = start(Threads::default(), remote, 0..n).0.result().unwrap();
        assert!(all.into_iter().eq(0..n));
        assert_eq!(longest.load(SeqCst), 1);
    }
}
