//! What stands in the models in place of parts of the crate.

pub(crate) mod sys {
    use std::time::Duration;

    pub(crate) fn monotonic_now() -> Duration {
        Duration::from_nanos(7)
    }

    pub(crate) use super::futex::{wait_on, wake_all_on, wake_one_on};
}

/// The kernel's waits for words: a table of those who wait, under one lock.
pub(crate) mod futex {
    use std::collections::HashMap;
    use std::time::Duration;

    use loom::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::Release};
    use loom::sync::{Condvar, Mutex};

    /// Of a word: those that wait, and how many of these were woken and are still in the table.
    type Waits = HashMap<usize, (usize, usize)>;

    loom::lazy_static! {
        static ref WAITS: Mutex<Waits> = Mutex::new(HashMap::new());
        static ref WOKEN: Condvar = Condvar::new();
    }

    fn address(word: &AtomicU32) -> usize {
        std::ptr::from_ref(word).addr()
    }

    pub(crate) fn wait_on(word: &AtomicU32, value: u32) {
        let mut waits = WAITS.lock().unwrap();
        if word.load(Relaxed) != value {
            return;
        }
        waits.entry(address(word)).or_default().0 += 1;
        loop {
            waits = WOKEN.wait(waits).unwrap();
            let (waiting, woken) = waits.get_mut(&address(word)).unwrap();
            if *woken > 0 {
                *woken -= 1;
                *waiting -= 1;
                return;
            }
        }
    }

    /// Without a limit, so that a model hangs where one would help out.
    pub(crate) fn wait_on_for(word: &AtomicU32, value: u32, _: Duration) {
        wait_on(word, value);
    }

    fn wake(waits: &mut Waits, word: &AtomicU32, most: usize) -> bool {
        let Some((waiting, woken)) = waits.get_mut(&address(word)) else { return false };
        let count = most.min(*waiting - *woken);
        *woken += count;
        WOKEN.notify_all();
        count > 0
    }

    pub(crate) fn wake_one_on(word: &AtomicU32) -> bool {
        wake(&mut WAITS.lock().unwrap(), word, 1)
    }

    pub(crate) fn wake_all_on(word: &AtomicU32) {
        wake(&mut WAITS.lock().unwrap(), word, usize::MAX);
    }

    pub(crate) fn clear_and_wake_one(word: &AtomicU32) {
        let mut waits = WAITS.lock().unwrap();
        word.store(0, Release);
        wake(&mut waits, word, 1);
    }
}

/// A thread that has locked is there.
pub(crate) mod robust_list {
    pub(crate) fn is_thread(_: u32) -> bool {
        true
    }
}

/// No process is killed at a store.
pub(crate) mod journal {
    use loom::sync::atomic::{AtomicU64, Ordering};

    pub(crate) fn store(word: &AtomicU64, value: u64, order: Ordering) {
        word.store(value, order);
    }
}

pub(crate) mod sync {
    use std::sync::PoisonError;
    use std::time::Instant;

    pub(crate) use loom::sync::{MutexGuard, atomic};

    // The pool knows them as `tokio::sync`.
    pub(crate) use super::semaphore::{Semaphore, TryAcquireError};

    /// One look before sleep: more would be more orders of the same kind.
    pub(crate) const WATCH_ROUNDS: u32 = 1;

    pub(crate) fn pause(_round: u32) {
        loom::thread::yield_now();
    }

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }

        /// The time is over at once: others may do whatever they do before.
        pub(crate) fn wait_until<'a, T>(
            &self,
            lock: &'a Mutex<T>,
            guard: MutexGuard<'a, T>,
            _until: Instant,
        ) -> MutexGuard<'a, T> {
            drop(guard);
            loom::thread::yield_now();
            lock.lock()
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    pub(crate) mod thread {
        use std::io;

        /// The prefix of names of which the system grants the first and refuses the second.
        pub(crate) const ONE: &str = "one";

        /// Says whether the thread is refused: by its name, or by the size of its stack, if no system
        /// has such a one.
        pub(crate) struct Builder(bool);

        impl Builder {
            pub(crate) fn new() -> Self {
                Self(false)
            }

            pub(crate) fn name(self, name: String) -> Self {
                Self(name == format!("{ONE}_1"))
            }

            pub(crate) fn stack_size(self, size: usize) -> Self {
                Self(self.0 || size == usize::MAX)
            }

            pub(crate) fn spawn(
                self,
                f: impl FnOnce() + Send + 'static,
            ) -> io::Result<JoinHandle<()>> {
                if self.0 {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                Ok(JoinHandle(loom::thread::spawn(f)))
            }
        }

        pub(crate) use loom::thread::Thread;

        pub(crate) struct JoinHandle<T>(loom::thread::JoinHandle<T>);

        impl<T> JoinHandle<T> {
            /// As a thread whose last step is still to come.
            pub(crate) fn is_finished(&self) -> bool {
                false
            }

            pub(crate) fn thread(&self) -> &Thread {
                self.0.thread()
            }

            pub(crate) fn join(self) -> std::thread::Result<T> {
                self.0.join()
            }
        }
    }

    /// Finds accesses that nothing orders.
    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            self.0.with(f)
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(f)
        }
    }
}

/// tokio's, as far as the pool uses it.
pub(crate) mod semaphore {
    use std::future::poll_fn;
    use std::task::{Poll, Waker};

    use super::sync::Mutex;

    pub(crate) enum TryAcquireError {
        Closed,
        NoPermits,
    }

    /// Takes no account of who came first. It notices if more is given back than was taken, and at
    /// its end if less was.
    pub(crate) struct Semaphore {
        state: Mutex<Permits>,
        most: usize,
    }

    struct Permits {
        left: usize,
        closed: bool,
        waiting: Vec<Waker>,
    }

    /// Only ever forgotten.
    #[must_use]
    pub(crate) struct SemaphorePermit(());

    impl SemaphorePermit {
        pub(crate) fn forget(self) {}
    }

    impl Semaphore {
        pub(crate) const MAX_PERMITS: usize = usize::MAX >> 3;

        pub(crate) fn new(permits: usize) -> Self {
            let state = Permits { left: permits, closed: false, waiting: Vec::new() };
            Self { state: Mutex::new(state), most: permits }
        }

        pub(crate) fn try_acquire(&self) -> Result<SemaphorePermit, TryAcquireError> {
            let mut state = self.state.lock();
            if state.closed {
                return Err(TryAcquireError::Closed);
            }
            state.left = state.left.checked_sub(1).ok_or(TryAcquireError::NoPermits)?;
            Ok(SemaphorePermit(()))
        }

        pub(crate) async fn acquire(&self) -> Result<SemaphorePermit, TryAcquireError> {
            poll_fn(|cx| {
                let mut state = self.state.lock();
                if state.closed {
                    return Poll::Ready(Err(TryAcquireError::Closed));
                }
                if state.left == 0 {
                    state.waiting.push(cx.waker().clone());
                    return Poll::Pending;
                }
                state.left -= 1;
                Poll::Ready(Ok(SemaphorePermit(())))
            })
            .await
        }

        pub(crate) fn add_permits(&self, count: usize) {
            let mut state = self.state.lock();
            state.left += count;
            assert!(state.left <= self.most, "room was given back twice");
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }

        pub(crate) fn close(&self) {
            let mut state = self.state.lock();
            state.closed = true;
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    impl Drop for Semaphore {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                assert_eq!(self.state.lock().left, self.most, "room was not given back");
            }
        }
    }
}

/// No process is forked here.
pub(crate) mod fork {
    use super::sync::{Mutex, MutexGuard};

    pub(crate) fn generation() -> u32 {
        0
    }

    pub(crate) fn watch() {}

    pub(crate) struct Own<T>(T);

    impl<T> Own<T> {
        pub(crate) fn new(home: T, _make: fn() -> T) -> Self {
            Self(home)
        }

        pub(crate) const fn from_start(home: T, _make: fn() -> T) -> Self {
            Self(home)
        }

        pub(crate) fn is_home(&self) -> bool {
            true
        }

        pub(crate) fn get(&self) -> &T {
            &self.0
        }
    }

    impl<T> Own<Mutex<T>> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }
    }
}

pub(crate) mod clock {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        /// How much later each reading is than the one before.
        static STEP: Cell<u64> = const { Cell::new(0) };
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    /// Starts the clock anew, for one execution of a model.
    pub(crate) fn start(step: u64) {
        STEP.set(step);
        NOW.set(0);
    }

    pub(crate) fn now() -> u64 {
        NOW.set(NOW.get() + STEP.get());
        NOW.get()
    }

    pub(crate) fn duration(_ticks: u64) -> Duration {
        Duration::ZERO
    }
}

/// Frames have no descriptors here.
pub(crate) mod codec {
    pub(crate) mod handle {
        pub(crate) enum Descriptor {}
    }
}

pub(crate) mod timer {
    use std::io;
    use std::task::{Context, Poll};
    use std::time::{Duration, Instant};

    /// Never runs out. One that is soon due is refused, as where the system has no thread for it: a pool that was
    /// refused a thread would wait for ever for the time to ask again.
    pub(crate) struct Timer;

    impl Timer {
        pub(crate) fn new(at: Instant, _action: Box<dyn FnOnce() + Send>) -> io::Result<Self> {
            let is_soon = at.saturating_duration_since(Instant::now()) < Duration::from_millis(500);
            if is_soon { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(Self) }
        }
    }

    pub(crate) fn deadline(limit: Duration) -> Instant {
        Instant::now() + limit
    }

    /// Has passed at once.
    pub(crate) struct Delay(Duration);

    impl Delay {
        pub(crate) fn new(limit: Duration) -> Self {
            Self(limit)
        }

        pub(crate) fn limit(&self) -> Duration {
            self.0
        }

        pub(crate) fn keep_by_caller(&mut self) -> Instant {
            Instant::now()
        }

        pub(crate) fn poll(&mut self, _: &Context<'_>) -> Poll<Duration> {
            Poll::Ready(self.0)
        }
    }
}

pub(crate) mod builder {
    use std::error::Error;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::core::OnUnobserved;
    use crate::instruments::Instruments;
    use crate::runtime::Runtime;

    type Initializer = Arc<dyn Fn() -> Result<(), Box<dyn Error + Send + Sync>> + Send + Sync>;
    type Finalizer = Arc<dyn Fn() + Send + Sync>;

    pub(crate) struct Config {
        pub(crate) max_workers: usize,
        pub(crate) name: String,
        pub(crate) initializer: Option<Initializer>,
        pub(crate) finalizer: Option<Finalizer>,
        pub(crate) stack_size: usize,
        pub(crate) queue_capacity: Option<usize>,
        pub(crate) idle_timeout: Option<Duration>,
        pub(crate) min_workers: usize,
        pub(crate) runtime: Runtime,
        pub(crate) follows_submitter: bool,
        pub(crate) on_unobserved: OnUnobserved,
        pub(crate) print_panics: bool,
        pub(crate) instruments: Instruments,
        pub(crate) is_internal: bool,
    }
}

/// What a thread knows of itself: nothing here, where loom's threads are one.
pub(crate) mod worker_info {
    pub(crate) struct WorkerInfo;

    impl WorkerInfo {
        pub(crate) fn new(_index: usize, _pool_name: &str) -> Self {
            Self
        }

        pub(crate) fn enter(self, work: impl FnOnce()) {
            work();
        }
    }
}

/// What the pool sees of maps; there are none here.
pub(crate) mod map {
    pub(crate) mod crew {
        pub(crate) enum AfterChunk {
            GoOn,
            Requeue,
            GiveUp,
        }
    }
}

/// How many tasks came to which end, without their times.
pub(crate) mod metrics {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    pub(crate) struct Metrics {
        pub(crate) workers: usize,
        pub(crate) idle: usize,
        pub(crate) queued: usize,
        pub(crate) running: usize,
        pub(crate) submitted: u64,
        pub(crate) completed: u64,
        pub(crate) failed: u64,
        pub(crate) cancelled: u64,
        pub(crate) items: u64,
        pub(crate) workers_lost: u64,
        pub(crate) queue_time: (),
        pub(crate) run_time: (),
    }

    pub(crate) struct WorkerMetrics {
        completed: AtomicU64,
        failed: AtomicU64,
    }

    impl WorkerMetrics {
        pub(crate) fn new() -> Self {
            Self { completed: AtomicU64::new(0), failed: AtomicU64::new(0) }
        }

        pub(crate) fn started(&self, _waited: u64) {}

        pub(crate) fn ran(&self, _ticks: u64) {}

        pub(crate) fn completed(&self) {
            self.completed.fetch_add(1, Relaxed);
        }

        pub(crate) fn failed(&self) {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    #[derive(Clone)]
    pub(crate) struct Totals {
        pub(crate) completed: u64,
        pub(crate) failed: u64,
    }

    impl Totals {
        pub(crate) fn new() -> Self {
            Self { completed: 0, failed: 0 }
        }

        pub(crate) fn times(self) -> ((), ()) {
            ((), ())
        }

        pub(crate) fn add(&mut self, worker: &WorkerMetrics) {
            self.completed += worker.completed.load(Relaxed);
            self.failed += worker.failed.load(Relaxed);
        }
    }
}

pub(crate) mod parker {
    use std::future::poll_fn;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use crate::core::Awaited;

    pub(crate) fn block_on<R>(
        _awaited: impl Fn() -> Awaited,
        _deadline: Option<Instant>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Option<R> {
        Some(loom::future::block_on(poll_fn(|cx| poll(cx))))
    }
}

pub(crate) mod context {
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use crate::core::cell::{TaskRef, Typed};
    use crate::core::waits::{Awaited, Waits};
    use crate::label::Label;

    pub(crate) trait WorkerContext {
        fn host(&self) -> *const ();
        fn has_stack(&self) -> bool;
        fn started(&self, task: &TaskRef, first: bool, label: Option<&Label>) -> u64;
        fn stopped(&self, since: u64, end: End) -> u64;
        fn wait_begin(&self, awaited: Option<Awaited>, until: bool);
        fn wait_end(&self);
        fn seek_spare(&self) -> Option<Duration> {
            None
        }
        fn keep_waker(&self, _waker: &Waker) {}
        fn keep_busy(&self) {}
        fn waits(&self) -> Option<&Waits>;
    }

    pub(crate) type FrameId = std::num::NonZeroU32;

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum End {
        Completed,
        Failed,
        Uncounted,
    }

    pub(crate) fn worker() -> Option<Rc<dyn WorkerContext>> {
        None
    }

    pub(crate) fn run_as_worker(_: Rc<dyn WorkerContext>, f: impl FnOnce()) {
        f();
    }

    pub(crate) fn is_worker_of(_host: *const ()) -> bool {
        false
    }

    pub(crate) fn belong_to(_host: *const ()) {}

    pub(crate) fn is_in_body() -> bool {
        true
    }

    #[derive(Default)]
    pub(crate) struct Pending(());

    impl Pending {
        pub(crate) fn note<T>(
            &mut self,
            _polled: &Poll<T>,
            _cx: &Context<'_>,
            _awaited: impl Fn() -> Awaited,
        ) {
        }
    }

    pub(crate) fn run_in_frame<K, P, R>(
        task: Typed<K>,
        body: impl FnOnce(&Typed<K>) -> P,
        end: impl FnOnce(Typed<K>, P) -> R,
    ) -> R {
        let polled = body(&task);
        end(task, polled)
    }
}

/// Every block is the allocator's own, which tells loom nothing and valgrind all.
pub(crate) mod slab {
    use std::alloc::{Layout, alloc, dealloc};
    use std::ptr::NonNull;

    pub(crate) type Position = u8;

    pub(crate) fn allocate(layout: Layout) -> (NonNull<u8>, Position) {
        // SAFETY: no block is empty.
        (NonNull::new(unsafe { alloc(layout) }).expect("there is memory"), 0)
    }

    /// # Safety
    ///
    /// The block is from `allocate`, with this layout.
    pub(crate) unsafe fn free(block: NonNull<u8>, layout: Layout, _position: Position) {
        // SAFETY: as above.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
}
