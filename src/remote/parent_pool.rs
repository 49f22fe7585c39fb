//! The pool, from within one of its workers.

use std::fmt;
use std::sync::Arc;

use crate::core::{Options, Promise, Source, TaskId};
use crate::error::Error;
use crate::future::TaskFuture;
use crate::job::Call;
use crate::map::apply::Elsewhere;
use crate::map::engine::{AfterChunk, Crew};
use crate::map::{self, Map};
use crate::portable::Portable;
use crate::remote::call;
use crate::remote::frame::Kind;
use crate::remote::map::{Chunks, TakesChunks};
use crate::remote::scheduler::Order;
use crate::remote::worker::parent_connection::Channel;
use crate::trace::TaskTrace;

/// The pool that this process is a worker of.
///
/// A job submits to its own pool by this, and may wait for the result: its worker does not count
/// against `max_workers` meanwhile, so that works with one worker too.
///
/// A handle from the process that has made the pool can't be used here, and one that is made here
/// is that of another pool, with workers of its own.
///
/// ```
/// use concurrent_futures::{Error, ParentPool, ProcessPoolExecutor, call};
///
/// fn sum(numbers: Vec<u64>) -> u64 {
///     let Some(pool) = ParentPool::current() else { return numbers.iter().sum() };
///     if numbers.len() < 100 {
///         return numbers.iter().sum();
///     }
///     let (left, right) = numbers.split_at(numbers.len() / 2);
///     let left = pool.submit(call!(sum(left.to_vec())));
///     sum(right.to_vec()) + left.result().unwrap()
/// }
///
/// let pool = ProcessPoolExecutor::builder().max_workers(1).build()?;
/// assert_eq!(pool.submit(call!(sum((1..=400).collect()))).result()?, 80_200);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct ParentPool {
    channel: Arc<Channel>,
}

impl ParentPool {
    /// The pool of this worker process; `None` in any other process.
    pub fn current() -> Option<Self> {
        Channel::current().map(|channel| Self { channel: Arc::clone(channel) })
    }

    /// Hands in a call. Never blocks; a refusal is the future's error, as for
    /// [`ProcessPoolExecutor::submit`](crate::ProcessPoolExecutor::submit).
    ///
    /// [`cancel`](TaskFuture::cancel) on the future waits for the pool's answer.
    pub fn submit<A: Portable, R: Portable>(&self, call: Call<A, R>) -> TaskFuture<R> {
        let content = match call::pack(call) {
            Ok(content) => content,
            Err(error) => return TaskFuture::ready(Err(error)),
        };
        let task = PoolTask { channel: Arc::clone(&self.channel) };
        let (promise, outcome) = Promise::of(task);
        self.channel.submit(Order {
            number: promise.id().get(),
            kind: Kind::Call,
            detail: 0,
            content,
            complete: Box::new(promise),
            options: Options::default(),
            retries: 0,
            holds_room: false,
            trace: TaskTrace::none(),
        });
        TaskFuture::new(outcome)
    }

    /// Calls `function` with every item, in the pool's workers. See
    /// [`ProcessPoolExecutor::map`](crate::ProcessPoolExecutor::map).
    pub fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Map<R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let remote = Elsewhere(Chunks::new(self.clone(), function));
        map::start(self.clone(), remote, items.into_iter()).0
    }

    /// The largest number of workers that run tasks at the same time.
    pub fn max_workers(&self) -> usize {
        self.channel.max_workers()
    }
}

impl TakesChunks for ParentPool {
    fn push(&self, order: Order) -> bool {
        self.channel.submit(order);
        true
    }

    fn cancel(&self, number: u64) {
        self.channel.withdraw(number, true);
    }

    fn withdrawal(&self) -> Error {
        Error::Cancelled
    }
}

impl Crew for ParentPool {
    fn size(&self) -> usize {
        2 * self.max_workers()
    }

    fn check_open(&self) -> Result<(), Error> {
        Ok(())
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>) -> TaskFuture<()> {
        self.channel.helpers().go_on(driver)
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

/// A task that this process has submitted, as its future sees it.
struct PoolTask {
    channel: Arc<Channel>,
}

impl Source for PoolTask {
    fn withdraw(&self, task: TaskId, stop: bool) -> bool {
        // If it is withdrawn, the answer has finished the future.
        self.channel.withdraw(task.get(), stop);
        false
    }

    fn kill(&self, task: TaskId) -> bool {
        self.withdraw(task, true)
    }

    fn is_withdrawn_on_drop(&self) -> bool {
        true
    }
}

impl fmt::Debug for ParentPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentPool").field("max_workers", &self.max_workers()).finish()
    }
}
