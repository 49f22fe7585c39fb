//! What these modules share beyond `support`.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use concurrent_futures::{Error, TaskFuture, ThreadPoolExecutor};
use futures::Stream;

use crate::support::{Gate, occupy};

/// Far longer than anything here takes; only a hang gets there.
const HANG: Duration = Duration::from_secs(60);

/// The result, or a panic instead of a hang.
#[track_caller]
pub(crate) fn soon<T>(mut future: TaskFuture<T>) -> Result<T, Error> {
    let result = future.result_timeout(HANG);
    result.unwrap_or_else(|| panic!("{future:?} does not finish"))
}

/// Waits, by looking, for what no event tells of.
#[track_caller]
pub(crate) fn eventually(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < HANG, "it does not come to that");
        thread::yield_now();
    }
}

/// Occupies all workers of `pool`, so that whatever is submitted next stays in the queue until
/// `gate` opens.
pub(crate) fn occupy_all(pool: &ThreadPoolExecutor, gate: &Gate) -> Vec<TaskFuture<()>> {
    (0..pool.max_workers()).map(|_| occupy(pool, gate)).collect()
}

/// Where, and by that how often, its values were dropped.
#[derive(Clone, Default)]
pub(crate) struct Drops(Arc<(Mutex<Vec<ThreadId>>, Condvar)>);

impl Drops {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn value(&self) -> Tracked {
        Tracked(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    /// Blocks until `n` values have been dropped.
    pub(crate) fn wait_for(&self, n: usize) {
        let mut threads = self.0.0.lock().unwrap();
        while threads.len() < n {
            threads = self.0.1.wait(threads).unwrap();
        }
    }

    /// Exactly `n` values were dropped, all of them on this thread.
    #[track_caller]
    pub(crate) fn assert_here(&self, n: usize) {
        let here = vec![thread::current().id(); n];
        assert_eq!(*self.0.0.lock().unwrap(), here);
    }
}

/// A value that tells when it is dropped.
pub(crate) struct Tracked(Drops);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.0.0.lock().unwrap().push(thread::current().id());
        self.0.0.1.notify_all();
    }
}

/// Panics when dropped.
pub(crate) struct Bomb(pub(crate) &'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{} explodes when dropped", self.0);
    }
}

/// A panic payload that panics when dropped, with a payload that does so as well.
pub(crate) struct BombChain;

impl Drop for BombChain {
    fn drop(&mut self) {
        panic_any(BombChain);
    }
}

/// Counts what is done to a waker and to its clones. One per test, kept for ever.
#[derive(Default)]
pub(crate) struct Wakes {
    wakes: AtomicUsize,
    clones: AtomicUsize,
    gone: AtomicUsize,
    on_clone: Option<fn()>,
    on_wake: Option<fn()>,
    on_drop: Option<fn()>,
}

impl Wakes {
    pub(crate) fn new() -> &'static Self {
        Self::default().keep()
    }

    /// `on_clone` runs in every clone.
    pub(crate) fn with_clone(on_clone: fn()) -> &'static Self {
        Self { on_clone: Some(on_clone), ..Self::default() }.keep()
    }

    /// `on_wake` runs in every wake.
    pub(crate) fn with_wake(on_wake: fn()) -> &'static Self {
        Self { on_wake: Some(on_wake), ..Self::default() }.keep()
    }

    /// `on_drop` runs in the drop of every clone.
    pub(crate) fn with_drop(on_drop: fn()) -> &'static Self {
        Self { on_drop: Some(on_drop), ..Self::default() }.keep()
    }

    /// Keeps it where tools that look for lost memory find it.
    fn keep(self) -> &'static Self {
        static KEPT: Mutex<Vec<&Wakes>> = Mutex::new(Vec::new());
        let kept: &'static Self = Box::leak(Box::new(self));
        KEPT.lock().unwrap().push(kept);
        kept
    }

    pub(crate) fn poll<F: Future + Unpin>(&'static self, future: &mut F) -> Poll<F::Output> {
        self.with_context(|cx| Pin::new(future).poll(cx))
    }

    pub(crate) fn poll_next<S: Stream + Unpin>(
        &'static self,
        stream: &mut S,
    ) -> Poll<Option<S::Item>> {
        self.with_context(|cx| Pin::new(stream).poll_next(cx))
    }

    /// The waker lent to `f` is neither counted as a clone nor dropped.
    pub(crate) fn with_context<R>(&'static self, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let data = std::ptr::from_ref(self).cast();
        // SAFETY: the functions of `TABLE` take a pointer to a `Wakes` that lives for ever, may be
        // called from any thread, and own nothing.
        let waker = unsafe { Waker::from_raw(RawWaker::new(data, &TABLE)) };
        f(&mut Context::from_waker(&ManuallyDrop::new(waker)))
    }

    /// Waits, by looking, until there were `n` wakes.
    pub(crate) fn until_woken(&self, n: usize) {
        while self.wakes() < n {
            thread::yield_now();
        }
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.load(SeqCst)
    }

    /// How many clones were made.
    pub(crate) fn clones(&self) -> usize {
        self.clones.load(SeqCst)
    }

    /// How many clones there are.
    pub(crate) fn held(&self) -> usize {
        self.clones() - self.gone.load(SeqCst)
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_clone);

/// The `Wakes` behind a waker.
fn behind(data: *const ()) -> &'static Wakes {
    // SAFETY: `data` is the `&'static Wakes` that `with_context` made a pointer of.
    unsafe { &*data.cast::<Wakes>() }
}

fn clone(data: *const ()) -> RawWaker {
    let wakes = behind(data);
    if let Some(on_clone) = wakes.on_clone {
        on_clone();
    }
    wakes.clones.fetch_add(1, SeqCst);
    RawWaker::new(data, &TABLE)
}

fn wake(data: *const ()) {
    behind(data).gone.fetch_add(1, SeqCst);
    wake_by_ref(data);
}

fn wake_by_ref(data: *const ()) {
    let wakes = behind(data);
    wakes.wakes.fetch_add(1, SeqCst);
    if let Some(on_wake) = wakes.on_wake {
        on_wake();
    }
}

fn drop_clone(data: *const ()) {
    let wakes = behind(data);
    wakes.gone.fetch_add(1, SeqCst);
    if let Some(on_drop) = wakes.on_drop {
        on_drop();
    }
}
