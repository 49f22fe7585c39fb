//! The traits that all executors share, and the parts of a submission.

mod permit;
mod task_builder;

pub use permit::Permit;
pub use task_builder::TaskBuilder;
pub(crate) use task_builder::{takes_calls, takes_jobs};

use std::future::Future;

use crate::closed::Closed;
use crate::dump::Dump;
use crate::error::{Error, TrySubmitError};
use crate::executor_state::ExecutorState;
use crate::future::TaskFuture;
use crate::job::PortableCall;
use crate::map::{Map, TryMap};
use crate::metrics::Metrics;
use crate::portable::Portable;
use crate::shutdown::{Shutdown, ShutdownFuture, ShutdownReport};
use crate::task_options::TaskOptions;

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
    ///
    /// Arguments and result are owned values with serde's traits, as another process may run the call: a
    /// `String` instead of a `&str`, see [`call!`](crate::call). The function is no `async fn`, since the
    /// future that it returns is no such value.
    fn submit<C: PortableCall>(&self, call: C) -> TaskFuture<C::Output>;

    /// Hands in a call, or gives it back.
    ///
    /// # Errors
    ///
    /// The call, with the same reasons as for [`submit`](Self::submit).
    fn try_submit<C: PortableCall>(
        &self,
        call: C,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>>;

    /// Submits a call with options. Refused as by [`submit`](Self::submit).
    fn submit_with<C: PortableCall>(
        &self,
        options: &TaskOptions,
        call: C,
    ) -> TaskFuture<C::Output> {
        self.task().options(options).submit_call(call)
    }

    /// Options for one task, then its submission.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, InlineExecutor, TaskFuture, call};
    ///
    /// fn power<E: Executor>(executor: &E) -> TaskFuture<u32> {
    ///     executor.task().label("power").submit_call(call!(u32::pow(2, 5)))
    /// }
    ///
    /// assert_eq!(power(&InlineExecutor::new()).result()?, 32);
    /// # Ok::<(), Error>(())
    /// ```
    fn task(&self) -> TaskBuilder<&Self> {
        TaskBuilder::new(self)
    }

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

    /// Calls `function` with every item. See [`Map`]. What a closure would capture is the context of
    /// [`map_with`](Self::map_with).
    fn map<A, R, I>(&self, function: fn(A) -> R, items: I) -> Map<R>
    where
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static;

    /// Calls `function` with the context and every item; all items share the context. It reaches each worker
    /// process once. See [`ThreadPoolExecutor::map_with`](crate::ThreadPoolExecutor::map_with).
    ///
    /// ```
    /// use std::collections::BTreeSet;
    ///
    /// use concurrent_futures::{Error, Executor, InlineExecutor, ThreadPoolExecutor};
    ///
    /// fn is_known(names: &BTreeSet<String>, name: String) -> bool {
    ///     names.contains(&name)
    /// }
    ///
    /// fn count_known<E: Executor>(pool: &E, known: BTreeSet<String>, names: Vec<String>) -> Result<usize, Error> {
    ///     let answers = pool.map_with(known, is_known, names).result()?;
    ///     Ok(answers.into_iter().filter(|is_known| *is_known).count())
    /// }
    ///
    /// let known = || BTreeSet::from(["Ada".to_owned(), "Grace".to_owned()]);
    /// let names = || vec!["Grace".to_owned(), "Alan".to_owned()];
    /// assert_eq!(count_known(&ThreadPoolExecutor::new(), known(), names())?, 1);
    /// assert_eq!(count_known(&InlineExecutor::new(), known(), names())?, 1);
    /// # Ok::<(), Error>(())
    /// ```
    fn map_with<C, A, R, I>(&self, context: C, function: fn(&C, A) -> R, items: I) -> Map<R>
    where
        C: Portable + Sync,
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

    /// Waits until the executor takes no more tasks: it was shut down, its last handle was dropped, or it broke,
    /// which [`state`](Self::state) tells apart. Work that was accepted may still run.
    ///
    /// ```
    /// use concurrent_futures::{ExecutorService, ExecutorState, Shutdown, ThreadPoolExecutor};
    ///
    /// async fn supervise<E: ExecutorService>(executor: E) {
    ///     executor.closed().await;
    ///     match executor.state() {
    ///         ExecutorState::Broken(broken) => eprintln!("a new one is needed: {broken}"),
    ///         _ => println!("shut down"),
    ///     }
    /// }
    ///
    /// # futures::executor::block_on(async {
    /// let pool = ThreadPoolExecutor::new();
    /// tokio::join!(supervise(pool.clone()), pool.shutdown(Shutdown::Drain));
    /// # });
    /// ```
    fn closed(&self) -> Closed;

    /// Takes no more tasks, and ends. See [`Shutdown`].
    fn shutdown(&self, how: Shutdown) -> ShutdownFuture;

    /// As [`shutdown`](Self::shutdown), waiting by blocking this thread.
    ///
    /// # Errors
    ///
    /// [`WouldDeadlock`](Error::WouldDeadlock) inside a job of this executor, which stays open.
    #[cfg_attr(debug_assertions, track_caller)]
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
            use $crate::job::PortableCall;
            use $crate::map::Map;
            use $crate::portable::Portable;

            impl Executor for $executor {
                fn submit<C: PortableCall>(&self, call: C) -> TaskFuture<C::Output> {
                    self.submit(call)
                }

                fn try_submit<C: PortableCall>(
                    &self,
                    call: C,
                ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
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

                fn map_with<C, A, R, I>(
                    &self,
                    context: C,
                    function: fn(&C, A) -> R,
                    items: I,
                ) -> Map<R>
                where
                    C: Portable + Sync,
                    A: Portable,
                    R: Portable,
                    I: IntoIterator<Item = A>,
                    I::IntoIter: Send + 'static,
                {
                    self.map_with(context, function, items)
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

            fn closed(&self) -> $crate::closed::Closed {
                self.closed()
            }

            fn shutdown(
                &self,
                how: $crate::shutdown::Shutdown,
            ) -> $crate::shutdown::ShutdownFuture {
                self.shutdown(how)
            }

            #[cfg_attr(debug_assertions, track_caller)]
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
    use crate::error::TrySubmitError;
    use crate::future::TaskFuture;
    use crate::job::PortableCall;
    use crate::task_options::TaskOptions;

    /// Keeps [`Executor`](super::Executor) to this crate, and has what builders and permits need.
    #[allow(unnameable_types, reason = "that is what seals the trait above")]
    pub trait Sealed {
        /// Submits a call with options; with `holds_room` into a room that is held. The caller has
        /// the task cancelled by the options' token, once it is submitted.
        #[doc(hidden)]
        fn submit_options<C: PortableCall>(
            &self,
            call: C,
            options: TaskOptions,
            holds_room: bool,
        ) -> TaskFuture<C::Output>
        where
            Self: Sized;

        /// Submits a call with options, or returns it.
        #[doc(hidden)]
        fn try_submit_options<C: PortableCall>(
            &self,
            call: C,
            options: TaskOptions,
        ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>>
        where
            Self: Sized;

        /// Gives a room back.
        #[doc(hidden)]
        fn release_room(&self);
    }
}
