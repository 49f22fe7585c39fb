//! A pool for the models of it: the crate's own, with tasks that are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::thread::{self, JoinHandle};

use crate::builder::Config;
use crate::core::OnUnobserved;
use crate::core::extra::{Continuation, Extra, Options};
use crate::core::outcome::Outcome;
use crate::core::submit;
use crate::core::task::Body;
use crate::error::Error;
use crate::instruments::Instruments;
use crate::lifecycle::Accepting;
use crate::pool::{Ending, Origin, Pool, PoolHost};
use crate::runtime::Runtime;
use crate::shutdown::{Shutdown, ShutdownFuture};
use crate::task_model::{Counts, TestBody, Value};

pub(crate) struct TestPool {
    pub(crate) pool: Arc<Pool>,
    host: Arc<PoolHost>,
    pub(crate) counts: Arc<Counts>,
    accepted: AtomicUsize,
}

impl TestPool {
    pub(crate) fn new(max_workers: usize) -> Arc<Self> {
        Self::with(max_workers, |_| ())
    }

    pub(crate) fn with(max_workers: usize, set: impl FnOnce(&mut Config)) -> Arc<Self> {
        let mut config = Config {
            max_workers,
            name: String::new(),
            initializer: None,
            finalizer: None,
            stack_size: 0,
            queue_capacity: None,
            idle_timeout: None,
            min_workers: 0,
            runtime: Runtime::none(),
            follows_submitter: true,
            on_unobserved: OnUnobserved::default(),
            print_panics: true,
            instruments: Instruments::none(),
            is_internal: false,
        };
        set(&mut config);
        let (pool, counts) = (Pool::new(config), Arc::default());
        let host = PoolHost::new(Arc::clone(&pool), Runtime::none());
        Arc::new(Self { pool, host, counts, accepted: AtomicUsize::new(0) })
    }

    pub(crate) fn submit(&self) -> Result<Outcome<Value>, Error> {
        self.submit_with(Options::default())
    }

    /// As `ThreadPoolExecutor` does it.
    pub(crate) fn submit_with(&self, options: Options) -> Result<Outcome<Value>, Error> {
        self.pool.take_room()?;
        self.submit_into_room(options)
    }

    pub(crate) fn submit_into_room(&self, options: Options) -> Result<Outcome<Value>, Error> {
        self.enqueue(TestBody::<false>::new(&self.counts, 0), options, Origin::Caller)
    }

    /// A body that is pending once, and is woken by another thread.
    pub(crate) fn submit_async(&self, options: Options) -> Result<Outcome<Value>, Error> {
        self.pool.take_room()?;
        self.enqueue(TestBody::<true>::new(&self.counts, 1), options, Origin::AsyncCaller)
    }

    /// As a map does it that was accepted before: no task of its own.
    pub(crate) fn go_on(&self) -> Result<Outcome<Value>, Error> {
        let body = TestBody::<false>::new(&self.counts, 0);
        let queue = |new: &_| self.host.enqueue(new, Continuation(None), Origin::Continuation);
        submit::try_submit(body, queue).map_err(|(_body, error)| error)
    }

    fn enqueue<B: Body>(
        &self,
        body: B,
        options: Options,
        origin: Origin,
    ) -> Result<Outcome<B::Output>, Error> {
        let queue = |new: &_| self.host.enqueue(new, Extra::new(options), origin);
        let outcome = submit::try_submit(body, queue).map_err(|(_body, error)| error)?;
        self.accepted.fetch_add(1, Relaxed);
        Ok(outcome)
    }

    /// As `ThreadPoolExecutor` does it.
    pub(crate) fn shutdown(&self, how: Shutdown) -> ShutdownFuture {
        self.pool.close(how);
        ShutdownFuture::new(Arc::new(self.ending()))
    }

    pub(crate) fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.pool))
    }

    /// Runs `f` on another thread.
    pub(crate) fn meanwhile<T: 'static>(
        self: &Arc<Self>,
        f: impl FnOnce(&Self) -> T + 'static,
    ) -> JoinHandle<T> {
        let this = Arc::clone(self);
        thread::spawn(move || f(&this))
    }

    /// Ends the pool, which goes with it.
    pub(crate) fn end(self: Arc<Self>) {
        self.shutdown(Shutdown::Drain).result().unwrap();
        self.ended();
    }

    /// The pool has ended: every task came to one end, and nothing is left.
    pub(crate) fn ended(self: Arc<Self>) {
        self.counts.join();
        let Some(this) = Arc::into_inner(self) else { panic!("a thread has a handle") };
        let metrics = this.pool.metrics();
        assert_eq!((metrics.workers, metrics.queued, metrics.running), (0, 0, 0));
        let ends = metrics.completed + metrics.failed + metrics.cancelled;
        assert_eq!(ends, this.accepted.into_inner() as u64);
        assert_eq!(ends, metrics.submitted);
        assert!(Arc::into_inner(this.host).is_some(), "a task is left");
        assert_eq!(Arc::strong_count(&this.pool), 1, "a worker is left");
        // With it goes the semaphore, which looks whether all room is back.
        drop(this.pool);
        this.counts.check();
    }
}
