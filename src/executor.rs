//! The trait that all executors share.

use std::fmt;
use std::future::Future;

use crate::dump::Dump;
use crate::error::{Error, TrySubmitError};
use crate::executor_state::ExecutorState;
use crate::future::TaskFuture;
use crate::job::Call;
use crate::map::{Map, TryMap};
use crate::metrics::Metrics;
use crate::portable::Portable;
use crate::shutdown::{Shutdown, ShutdownFuture, ShutdownReport};

/// An executor, for code that is to run on any of them.
///
/// The bounds are the strictest of all executors. The methods of the same names on a concrete
/// executor accept more, such as capturing closures on threads.
///
/// The trait is sealed: new methods are not a breaking change.
///
/// ```
/// use concurrent_futures::{Error, Executor, InlineExecutor, ThreadPoolExecutor, call};
///
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// async fn doubled_twice<E: Executor>(pool: &E, n: u32) -> Result<u32, Error> {
///     let once = pool.submit(call!(double(n))).await?;
///     pool.submit(call!(double(once))).await
/// }
///
/// # futures::executor::block_on(async {
/// assert_eq!(doubled_twice(&ThreadPoolExecutor::new(), 10).await?, 40);
/// assert_eq!(doubled_twice(&InlineExecutor::new(), 10).await?, 40);
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
pub trait Executor: Clone + Send + Sync + 'static + sealed::Sealed {
    /// Hands in a call. Never blocks; if it is refused, the future is finished with the error:
    /// [`QueueFull`](Error::QueueFull), [`ShutDown`](Error::ShutDown) or
    /// [`BrokenPool`](Error::BrokenPool).
    fn submit<A: Portable, R: Portable>(&self, call: Call<A, R>) -> TaskFuture<R>;

    /// Hands in a call, or gives it back.
    ///
    /// # Errors
    ///
    /// The call, with the same reasons as for [`submit`](Self::submit).
    fn try_submit<A: Portable, R: Portable>(
        &self,
        call: Call<A, R>,
    ) -> Result<TaskFuture<R>, TrySubmitError<Call<A, R>>>;

    /// Waits for room in the queue. First come, first served; dropping the future gives up its
    /// place and loses nothing.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](Error::ShutDown) or [`BrokenPool`](Error::BrokenPool).
    fn reserve(&self) -> impl Future<Output = Result<Permit<Self>, Error>> + Send;

    /// Takes room in the queue, if there is some now.
    ///
    /// # Errors
    ///
    /// [`QueueFull`](Error::QueueFull), [`ShutDown`](Error::ShutDown) or
    /// [`BrokenPool`](Error::BrokenPool).
    fn try_reserve(&self) -> Result<Permit<Self>, Error>;

    /// Calls `function` with every item. See [`Map`].
    fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Map<R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static;

    /// As [`map`](Self::map), with a function that returns a `Result`, whose first error ends the map. See
    /// [`TryMap`].
    fn try_map<A, R, E, I>(&self, function: fn(A) -> Result<R, E>, items: I) -> TryMap<R, E>
    where
        A: Portable,
        R: Portable,
        E: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        self.map(function, items).until_error()
    }

    /// Returns the number of tasks that can run at the same time.
    fn max_workers(&self) -> usize;
}

/// An executor that the caller may end and look into: a pool itself, not a task's way to the pool that it
/// runs on.
///
/// The trait is sealed: new methods are not a breaking change.
///
/// ```
/// use concurrent_futures::{Error, ExecutorService, Shutdown, ThreadPoolExecutor, call};
///
/// /// The task runs, and then the executor is no more.
/// async fn last_task<E: ExecutorService>(executor: E) -> Result<u32, Error> {
///     let last = executor.submit(call!(u32::pow(2, 5)));
///     let report = executor.shutdown(Shutdown::Drain).await;
///     assert_eq!(report.cancelled, 0);
///     last.await
/// }
///
/// # futures::executor::block_on(async {
/// assert_eq!(last_task(ThreadPoolExecutor::new()).await?, 32);
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
pub trait ExecutorService: Executor {
    /// The executor's counters. See [`Metrics`].
    fn metrics(&self) -> Metrics;

    /// A snapshot for people. See [`dump`](crate::dump).
    fn dump(&self) -> Dump;

    /// The phase of the executor's life.
    fn state(&self) -> ExecutorState;

    /// Takes no more tasks, and ends. See [`Shutdown`].
    fn shutdown(&self, how: Shutdown) -> ShutdownFuture;

    /// As [`shutdown`](Self::shutdown), waiting by blocking this thread.
    ///
    /// # Errors
    ///
    /// [`WouldDeadlock`](Error::WouldDeadlock) inside a job of this executor, which stays open.
    fn shutdown_blocking(&self, how: Shutdown) -> Result<ShutdownReport, Error>;
}

/// Implements [`Executor`] by the methods of the same names, which every executor has for all that it
/// can take.
macro_rules! impl_executor {
    ($executor:ty) => {
        const _: () = {
            use $crate::error::{Error, TrySubmitError};
            use $crate::executor::{Executor, Permit};
            use $crate::future::TaskFuture;
            use $crate::job::Call;
            use $crate::map::Map;
            use $crate::portable::Portable;

            impl Executor for $executor {
                fn submit<A: Portable, R: Portable>(&self, call: Call<A, R>) -> TaskFuture<R> {
                    self.submit(call)
                }

                fn try_submit<A: Portable, R: Portable>(
                    &self,
                    call: Call<A, R>,
                ) -> Result<TaskFuture<R>, TrySubmitError<Call<A, R>>> {
                    self.try_submit(call)
                }

                async fn reserve(&self) -> Result<Permit<Self>, Error> {
                    self.reserve().await
                }

                fn try_reserve(&self) -> Result<Permit<Self>, Error> {
                    self.try_reserve()
                }

                fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Map<R>
                where
                    A: Portable,
                    R: Portable,
                    I: IntoIterator<Item = A>,
                    I::IntoIter: Send + 'static,
                {
                    self.map(function, items)
                }

                fn max_workers(&self) -> usize {
                    self.max_workers()
                }
            }
        };
    };
}
pub(crate) use impl_executor;

/// Implements [`ExecutorService`] by the methods of the same names.
macro_rules! impl_service {
    ($executor:ty) => {
        impl $crate::executor::ExecutorService for $executor {
            fn metrics(&self) -> $crate::metrics::Metrics {
                self.metrics()
            }

            fn dump(&self) -> $crate::dump::Dump {
                self.dump()
            }

            fn state(&self) -> $crate::executor_state::ExecutorState {
                self.state()
            }

            fn shutdown(
                &self,
                how: $crate::shutdown::Shutdown,
            ) -> $crate::shutdown::ShutdownFuture {
                self.shutdown(how)
            }

            fn shutdown_blocking(
                &self,
                how: $crate::shutdown::Shutdown,
            ) -> Result<$crate::shutdown::ShutdownReport, $crate::error::Error> {
                self.shutdown_blocking(how)
            }
        }
    };
}
pub(crate) use impl_service;

pub(crate) mod sealed {
    use crate::future::TaskFuture;
    use crate::job::Call;
    use crate::portable::Portable;

    /// Keeps [`Executor`](super::Executor) to this crate, and has what a permit needs.
    #[allow(unnameable_types, reason = "that is what seals the trait above")]
    pub trait Sealed {
        /// Submits into a room that is held.
        #[doc(hidden)]
        fn submit_reserved<A: Portable, R: Portable>(&self, call: Call<A, R>) -> TaskFuture<R>
        where
            Self: Sized;

        /// Gives a room back.
        #[doc(hidden)]
        fn release_room(&self);
    }
}

/// Room for one task in an executor's queue, from `reserve`.
///
/// # Drop
///
/// Gives the room back, to the next who waits in `reserve`.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::builder().queue_capacity(100).build()?;
/// let permit = pool.reserve().await?; // waits while 100 tasks wait
/// let answer = permit.submit(|| 6 * 7).await?;
/// assert_eq!(answer, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a Permit gives its room back; call `submit` on it"]
pub struct Permit<E: Executor> {
    /// Taken when it is used.
    executor: Option<E>,
}

impl<E: Executor> Permit<E> {
    pub(crate) fn new(executor: E) -> Self {
        Self { executor: Some(executor) }
    }

    /// Submits a call into the room; for code that is generic over the executor. It fails only
    /// if the executor was shut down or broke meanwhile: then the future is finished with that
    /// error.
    pub fn submit_call<A: Portable, R: Portable>(self, call: Call<A, R>) -> TaskFuture<R> {
        self.into_executor().submit_reserved(call)
    }

    /// The room is the caller's now.
    pub(crate) fn into_executor(mut self) -> E {
        match self.executor.take() {
            Some(executor) => executor,
            None => unreachable!("a permit is used once"),
        }
    }
}

impl<E: Executor> Drop for Permit<E> {
    fn drop(&mut self) {
        if let Some(executor) = &self.executor {
            executor.release_room();
        }
    }
}

impl<E: Executor> fmt::Debug for Permit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
