//! What a test runs over: the executors, and futures in every state.

use std::future::Future;
use std::hint;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Duration;

#[cfg(all(feature = "process", target_os = "linux"))]
use concurrent_futures::ProcessPoolExecutor;
use concurrent_futures::{
    AnyExecutor, Completer, Error, Executor, ExecutorService, InlineExecutor, Job, Map, ReturnWhen,
    Shutdown, TaskFuture, TaskOptions, ThreadPoolExecutor, call, wait,
};

#[cfg(all(feature = "process", target_os = "linux"))]
use crate::processes as tools;
use crate::support::{Counter, Gate, POOL_SIZES, on_runtimes, pool, scaled, within_limit};

/// A limit that no test reaches.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A limit that every test that sets it waits for.
pub(crate) const SHORT: Duration = Duration::from_millis(20);

/// The executors of this process, which take closures; the trait [`ExecutorService`] takes plain functions
/// only.
pub(crate) trait Closures: ExecutorService {
    fn submit_job<J: Job<Output: Send + 'static> + Send + 'static>(
        &self,
        job: J,
    ) -> TaskFuture<J::Output>;

    fn submit_job_with<J: Job<Output: Send + 'static> + Send + 'static>(
        &self,
        options: &TaskOptions,
        job: J,
    ) -> TaskFuture<J::Output>;

    fn map_closure<A, R, F, I>(&self, f: F, items: I) -> Map<R>
    where
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(A) -> R + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static;

    fn map_context<C, A, R, F, I>(&self, context: C, f: F, items: I) -> Map<R>
    where
        C: Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(&C, A) -> R + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static;
}

macro_rules! closures {
    ($executor:ty) => {
        impl Closures for $executor {
            fn submit_job<J: Job<Output: Send + 'static> + Send + 'static>(
                &self,
                job: J,
            ) -> TaskFuture<J::Output> {
                self.submit(job)
            }

            fn submit_job_with<J: Job<Output: Send + 'static> + Send + 'static>(
                &self,
                options: &TaskOptions,
                job: J,
            ) -> TaskFuture<J::Output> {
                self.submit_with(options, job)
            }

            fn map_closure<A, R, F, I>(&self, f: F, items: I) -> Map<R>
            where
                A: Send + 'static,
                R: Send + 'static,
                F: Fn(A) -> R + Send + Sync + 'static,
                I: IntoIterator<Item = A>,
                I::IntoIter: Send + 'static,
            {
                self.map(f, items)
            }

            fn map_context<C, A, R, F, I>(&self, context: C, f: F, items: I) -> Map<R>
            where
                C: Send + Sync + 'static,
                A: Send + 'static,
                R: Send + 'static,
                F: Fn(&C, A) -> R + Send + Sync + 'static,
                I: IntoIterator<Item = A>,
                I::IntoIter: Send + 'static,
            {
                self.map_with(context, f, items)
            }
        }
    };
}

closures!(ThreadPoolExecutor);
closures!(InlineExecutor);

/// The pools, and the jobs that tests need on all of them. A `ParentPool` is none: a job that uses it has a
/// worker, so a test in there can't occupy all of them and go on.
pub(crate) trait Pool: ExecutorService {
    /// What jobs wait at until it is opened. Opens when it is dropped, so that a failed test leaves
    /// no worker behind.
    type Held: Send + Sync;

    fn of(max_workers: usize) -> Self;

    fn held() -> Self::Held;

    fn open(held: &Self::Held);

    /// A job that returns 42 once the gate is open.
    fn gated(&self, held: &Self::Held) -> TaskFuture<u32>;

    /// A job that panics with "failed" once the gate is open.
    fn gated_failure(&self, held: &Self::Held) -> TaskFuture<u32>;

    /// Occupies every worker with a job that returns 42 once the gate is open. Returns when they
    /// all run.
    fn occupy_all(&self, held: &Self::Held) -> Vec<TaskFuture<u32>>;

    /// Ends the pool and sees that no worker is left.
    fn ended(&self) -> impl Future<Output = ()> + Send;
}

impl Pool for ThreadPoolExecutor {
    type Held = Held;

    fn of(max_workers: usize) -> Self {
        pool(max_workers)
    }

    fn held() -> Held {
        Held::new()
    }

    fn open(held: &Held) {
        held.open();
    }

    fn gated(&self, held: &Held) -> TaskFuture<u32> {
        let gate = held.gate();
        self.submit(move || {
            gate.wait();
            42
        })
    }

    fn gated_failure(&self, held: &Held) -> TaskFuture<u32> {
        let gate = held.gate();
        self.submit(move || {
            gate.wait();
            fail()
        })
    }

    fn occupy_all(&self, held: &Held) -> Vec<TaskFuture<u32>> {
        let started = Counter::new();
        let futures = (0..self.max_workers()).map(|_| {
            let (started, gate) = (started.clone(), held.gate());
            self.submit(move || {
                started.add();
                gate.wait();
                42
            })
        });
        let futures = futures.collect();
        started.wait_for(self.max_workers());
        futures
    }

    async fn ended(&self) {
        let report = self.shutdown(Shutdown::Drain).await;
        assert_eq!(report.running, []);
        assert_eq!(self.metrics().workers, 0);
    }
}

#[cfg(all(feature = "process", target_os = "linux"))]
impl Pool for ProcessPoolExecutor {
    type Held = tools::Gate;

    fn of(max_workers: usize) -> Self {
        tools::pool(max_workers)
    }

    fn held() -> tools::Gate {
        tools::Gate::new()
    }

    fn open(held: &tools::Gate) {
        held.open();
    }

    fn gated(&self, held: &tools::Gate) -> TaskFuture<u32> {
        fn job(gate: tools::Gate) -> u32 {
            gate.wait();
            42
        }
        self.submit(call!(job(held.clone())))
    }

    fn gated_failure(&self, held: &tools::Gate) -> TaskFuture<u32> {
        fn job(gate: tools::Gate) -> u32 {
            gate.wait();
            fail()
        }
        self.submit(call!(job(held.clone())))
    }

    fn occupy_all(&self, held: &tools::Gate) -> Vec<TaskFuture<u32>> {
        tools::occupy_all(self, held)
    }

    async fn ended(&self) {
        tools::ended(self).await;
    }
}

pub(crate) fn any_executors() -> Vec<AnyExecutor> {
    vec![
        pool(2).into(),
        #[cfg(all(feature = "process", target_os = "linux"))]
        tools::pool(2).into(),
        InlineExecutor::new().into(),
    ]
}

/// Runs `async fn check<P: Pool>(pool: P)` over pools of all kinds, with one worker and with
/// several, on both kinds of runtime.
macro_rules! over_all_pools {
    ($check:ident) => {
        $crate::support::on_runtimes(|| async {
            use $crate::backend::Pool;
            for max_workers in $crate::support::POOL_SIZES {
                let pool: concurrent_futures::ThreadPoolExecutor = Pool::of(max_workers);
                $check(pool.clone()).await;
                pool.ended().await;
                #[cfg(all(feature = "process", target_os = "linux"))]
                {
                    let pool: concurrent_futures::ProcessPoolExecutor = Pool::of(max_workers);
                    $check(pool.clone()).await;
                    pool.ended().await;
                }
            }
        })
    };
}
pub(crate) use over_all_pools;

/// Runs `async fn check<E: ExecutorService>(executor: E)` as [`over_all_pools`], over the inline
/// executor, and over one of each kind that is chosen at run time.
macro_rules! over_services {
    ($check:ident) => {
        $crate::backend::over_all_pools!($check);
        $crate::backend::over_inline!($check);
        $crate::support::on_runtimes(|| async {
            use concurrent_futures::{ExecutorService, Shutdown};
            for executor in $crate::backend::any_executors() {
                $check(executor.clone()).await;
                executor.shutdown(Shutdown::Drain).await;
            }
        });
    };
}
pub(crate) use over_services;

/// Runs `async fn check<E: Executor>(executor: E)` as [`over_services`], and as a job of each executor, over
/// the one that it belongs to: in a worker process that is a `ParentPool`.
macro_rules! over_executors {
    ($check:ident) => {
        $crate::backend::over_services!($check);
        $crate::backend::over_own_executors!($check);
    };
}
pub(crate) use over_executors;

macro_rules! over_own_executors {
    ($check:ident) => {
        $crate::support::within_limit(|| {
            use concurrent_futures::{AnyExecutor, InlineExecutor, Shutdown};
            use futures::executor::block_on;

            let own = || AnyExecutor::current().expect("it is a job");
            InlineExecutor::new().submit(move || block_on($check(own()))).result().unwrap();
            for max_workers in $crate::support::POOL_SIZES {
                let pool = $crate::support::pool(max_workers);
                // Async, since the check awaits what may need this worker.
                pool.submit_future(async move { $check(own()).await }).result().unwrap();
                pool.shutdown_blocking(Shutdown::Drain).unwrap();
                #[cfg(all(feature = "process", target_os = "linux"))]
                {
                    use concurrent_futures::{ParentPool, call};

                    fn over_parent_pool() {
                        let pool = ParentPool::current().expect("it is a worker process");
                        block_on($check(pool));
                    }
                    let pool = $crate::processes::pool(max_workers);
                    pool.submit(call!(over_parent_pool())).result().unwrap();
                    pool.shutdown_blocking(Shutdown::Drain).unwrap();
                }
            }
        });
    };
}
pub(crate) use over_own_executors;

/// Runs `async fn check<E: Closures>(executor: E)` over the thread pool with one worker and with
/// several and over the inline executor, on both kinds of runtime.
macro_rules! over_closures {
    ($check:ident) => {
        $crate::backend::over_pools_async(|pool| $check(pool));
        $crate::backend::over_inline!($check);
    };
}
pub(crate) use over_closures;

macro_rules! over_inline {
    ($check:ident) => {
        $crate::support::on_runtimes(|| $check(concurrent_futures::InlineExecutor::new()))
    };
}
pub(crate) use over_inline;

/// Runs a test over the thread pool with one worker and with several.
pub(crate) fn over_pools(check: impl Fn(&ThreadPoolExecutor) + Send + 'static) {
    within_limit(move || {
        for max_workers in POOL_SIZES {
            let pool = pool(max_workers);
            check(&pool);
            pool.shutdown_blocking(Shutdown::Drain).unwrap();
            assert_eq!(pool.metrics().workers, 0);
        }
    });
}

/// As [`over_pools`], for an async test on both kinds of runtime.
pub(crate) fn over_pools_async<F, Fut>(check: F)
where
    F: Fn(ThreadPoolExecutor) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    on_runtimes(move || {
        let check = check.clone();
        async move {
            for max_workers in POOL_SIZES {
                let pool = pool(max_workers);
                check(pool.clone()).await;
                pool.ended().await;
            }
        }
    });
}

/// A gate that opens when it is dropped, so that a failed test leaves no thread behind.
pub(crate) struct Held(Gate);

impl Held {
    pub(crate) fn new() -> Self {
        Self(Gate::new())
    }

    pub(crate) fn gate(&self) -> Gate {
        self.0.clone()
    }

    pub(crate) fn open(&self) {
        self.0.open();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open();
    }
}

pub(crate) fn answer() -> u32 {
    42
}

fn fail() -> u32 {
    panic!("failed")
}

/// A future that the executor has finished with 42.
pub(crate) fn finished_task(executor: &impl Executor) -> TaskFuture<u32> {
    until_done(executor.submit(call!(answer())))
}

/// A future whose job has panicked with "failed".
pub(crate) fn failed_task(executor: &impl Executor) -> TaskFuture<u32> {
    until_done(executor.submit(call!(fail())))
}

/// Waits for a future and leaves the result in it.
pub(crate) fn until_done<T>(future: TaskFuture<T>) -> TaskFuture<T> {
    let mut parts = wait([future], ReturnWhen::AllCompleted).result();
    assert_eq!(parts.not_done.len(), 0);
    parts.done.pop().unwrap()
}

/// A task of a pool in every state that there is. All workers are occupied until the gate opens.
pub(crate) struct States<P: Pool> {
    /// Behind the occupied workers; its value is 42.
    pub(crate) pending: TaskFuture<u32>,
    /// Blocked on the gate; its value is 42.
    pub(crate) running: TaskFuture<u32>,
    /// Cancelled in the queue, where no worker has come to it.
    pub(crate) cancelled: TaskFuture<u32>,
    /// Cancelled in the queue, and a worker has come and gone.
    pub(crate) noticed: TaskFuture<u32>,
    /// Panicked with "failed".
    pub(crate) failed: TaskFuture<u32>,
    /// Its value is 42.
    pub(crate) finished: TaskFuture<u32>,
    /// On the other workers.
    pub(crate) others: Vec<TaskFuture<u32>>,
    pub(crate) held: P::Held,
}

impl<P: Pool> States<P> {
    pub(crate) fn new(pool: &P) -> Self {
        let first = P::held();
        let occupied = pool.occupy_all(&first);
        let noticed = cancelled_task(pool);
        P::open(&first);
        occupied.into_iter().for_each(|future| assert_eq!(future.result().unwrap(), 42));
        // Behind the cancelled task in the queue, so a worker has been there when this is done.
        let finished = finished_task(pool);
        let failed = failed_task(pool);
        let held = P::held();
        let mut others = pool.occupy_all(&held);
        let running = others.remove(0);
        let cancelled = cancelled_task(pool);
        let pending = pool.submit(call!(answer()));
        Self { pending, running, cancelled, noticed, failed, finished, others, held }
    }
}

/// Submits a task to a pool whose workers are all occupied, and cancels it.
fn cancelled_task(pool: &impl Pool) -> TaskFuture<u32> {
    fn job() -> u32 {
        unreachable!("it is cancelled")
    }
    let cancelled = pool.submit(call!(job()));
    assert!(cancelled.cancel());
    cancelled
}

/// Waits for many futures, one after the other. Another thread ends each, sooner or later after
/// the wait has begun, so that in the end every moment of a wait has had its turn.
pub(crate) fn end_during_the_wait<T: Send + 'static>(
    end: impl Fn(Completer<T>) + Sync,
    wait_for: impl Fn(TaskFuture<T>),
) {
    let (completers, futures): (Vec<_>, Vec<_>) =
        (0..scaled(10_000)).map(|_| TaskFuture::promise()).unzip();
    let begun = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for (n, completer) in completers.into_iter().enumerate() {
                // Without a system call as a rule: both threads must be at it at the same time.
                for spins in 1u64.. {
                    if begun.load(Acquire) > n {
                        break;
                    } else if spins % 2_000 == 0 {
                        thread::yield_now();
                    } else {
                        hint::spin_loop();
                    }
                }
                for _ in 0..n % 100 {
                    hint::spin_loop();
                }
                end(completer);
            }
        });
        for future in futures {
            begun.fetch_add(1, Release);
            wait_for(future);
        }
    });
}

/// How often the panic hook has reported a panic with just this text, a literal.
pub(crate) fn reports(text: &str) -> usize {
    REPORTED.lock().unwrap().iter().filter(|reported| *reported == text).count()
}

static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Has panics noted for [`reports`] from here on.
pub(crate) fn note_reports() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // The crate puts its own hook in place with the first executor; two threads that change
        // the hook at the same time would lose one.
        let _executor = InlineExecutor::new();
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(text) = info.payload().downcast_ref::<&str>() {
                REPORTED.lock().unwrap().push((*text).to_owned());
            }
            earlier(info);
        }));
    });
}

/// The text of the panic that `f` ends with.
#[track_caller]
pub(crate) fn panic_text<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("no panic"),
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => *payload.downcast::<String>().unwrap(),
        },
    }
}

#[track_caller]
pub(crate) fn assert_cancelled<T: std::fmt::Debug>(outcome: &Result<T, Error>) {
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
}

#[track_caller]
pub(crate) fn assert_panicked<T: std::fmt::Debug>(outcome: &Result<T, Error>, text: &str) {
    match outcome {
        Err(Error::Panicked(panicked)) => assert_eq!(panicked.message(), text),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_timed_out<T: std::fmt::Debug>(
    outcome: &Result<T, Error>,
    after: Duration,
    was_started: bool,
) {
    match outcome {
        Err(Error::TimedOut { limit, started, .. }) => {
            assert_eq!((*limit, *started), (after, was_started));
        }
        other => panic!("{other:?}"),
    }
}
