//! Options for one task, then its submission.

use std::fmt;
use std::time::Duration;

use super::{Executor, Permit};
use crate::error::TrySubmitError;
use crate::future::TaskFuture;
use crate::job::PortableCall;
use crate::label::Label;
use crate::stop_token::StopToken;
use crate::task_options::TaskOptions;

/// Options for one task, then its submission: from the `task()` of an executor, where `P` is a reference to
/// the executor, or of a [`Permit`], whose room the task takes.
///
/// The setters are those of [`TaskOptions`]. `submit` takes what the executor takes: any job on threads, a
/// [`call!`](crate::call) on processes. Code that is generic over the executor uses
/// [`submit_call`](TaskBuilder::submit_call).
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
/// use std::time::Duration;
///
/// let pool = ThreadPoolExecutor::new();
/// let thumb = pool
///     .task()
///     .label("thumb")
///     .queue_timeout(Duration::from_secs(1)) // not started by then: not wanted any more
///     .timeout(Duration::from_secs(5)) // from its start
///     .submit(|| 6 * 7);
/// assert_eq!(thumb.result()?, 42);
/// # Ok::<(), Error>(())
/// ```
///
/// The same in a room that was waited for:
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// # futures::executor::block_on(async {
/// let pool = ThreadPoolExecutor::builder().queue_capacity(100).build()?;
/// let answer = pool.reserve().await?.task().label("answer").submit(|| 6 * 7);
/// assert_eq!(answer.await?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "options do nothing until a job is submitted with them"]
#[derive(Clone)]
pub struct TaskBuilder<P> {
    place: P,
    options: TaskOptions,
}

impl<P> TaskBuilder<P> {
    pub(crate) fn new(place: P) -> Self {
        Self { place, options: TaskOptions::new() }
    }

    /// Returns where the task goes, and its options.
    pub(crate) fn into_parts(self) -> (P, TaskOptions) {
        (self.place, self.options)
    }

    /// Takes all of these options, in place of what was set so far.
    ///
    /// ```
    /// use concurrent_futures::{Error, TaskOptions, ThreadPoolExecutor};
    /// use std::time::Duration;
    ///
    /// let pool = ThreadPoolExecutor::new();
    /// let usual = TaskOptions::new().timeout(Duration::from_secs(5));
    /// let thumb = pool.task().options(&usual).label("thumb").submit(|| 6 * 7);
    /// assert_eq!(thumb.result()?, 42);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn options(mut self, options: &TaskOptions) -> Self {
        self.options = options.clone();
        self
    }

    /// A name for people. See [`TaskOptions::label`].
    pub fn label(mut self, label: impl Into<Label>) -> Self {
        self.options = self.options.label(label);
        self
    }

    /// A limit on the run, counted from the start of the task. See [`TaskOptions::timeout`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options = self.options.timeout(limit);
        self
    }

    /// A limit on the wait in the queue, counted from the submission. See [`TaskOptions::queue_timeout`].
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.options = self.options.queue_timeout(limit);
        self
    }

    /// Maximum number of times that the task runs again after a worker process was lost with it. See
    /// [`TaskOptions::retries`].
    pub fn retries(mut self, n: u32) -> Self {
        self.options = self.options.retries(n);
        self
    }

    /// Has the task cancelled when the token is set. See [`TaskOptions::stop_token`].
    pub fn stop_token(mut self, token: &StopToken) -> Self {
        self.options = self.options.stop_token(token);
        self
    }
}

impl<E: Executor> TaskBuilder<&E> {
    /// Submits a call, on any executor. Refused as by [`Executor::submit`].
    pub fn submit_call<C: PortableCall>(self, call: C) -> TaskFuture<C::Output> {
        let Self { place: executor, options } = self;
        options.submit(|options| executor.submit_options(call, options, false))
    }

    /// Submits a call, on any executor, or returns it.
    ///
    /// # Errors
    ///
    /// The call, as [`Executor::try_submit`].
    pub fn try_submit_call<C: PortableCall>(
        self,
        call: C,
    ) -> Result<TaskFuture<C::Output>, TrySubmitError<C>> {
        let Self { place: executor, options } = self;
        options.try_submit(|options| executor.try_submit_options(call, options))
    }
}

impl<E: Executor> TaskBuilder<Permit<E>> {
    /// Submits a call into the room, on any executor. It fails only if the executor was shut down or broke
    /// meanwhile: then the future is finished with that error.
    pub fn submit_call<C: PortableCall>(self, call: C) -> TaskFuture<C::Output> {
        let Self { place: permit, options } = self;
        // With a token that is set already the permit is dropped, which gives the room back.
        options.submit(|options| permit.into_executor().submit_options(call, options, true))
    }
}

impl<P: fmt::Debug> fmt::Debug for TaskBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskBuilder")
            .field("place", &self.place)
            .field("options", &self.options)
            .finish()
    }
}

/// Has an executor take any job with options, by its methods `submit_job`, `try_submit_job` and `leave_room`.
macro_rules! takes_jobs {
    ($executor:ty) => {
        impl $crate::executor::sealed::Sealed for $executor {
            fn submit_options<C: $crate::job::PortableCall>(
                &self,
                call: C,
                options: $crate::task_options::TaskOptions,
                holds_room: bool,
            ) -> $crate::future::TaskFuture<C::Output> {
                self.submit_job(call, options, holds_room)
            }

            fn try_submit_options<C: $crate::job::PortableCall>(
                &self,
                call: C,
                options: $crate::task_options::TaskOptions,
            ) -> Result<$crate::future::TaskFuture<C::Output>, $crate::error::TrySubmitError<C>>
            {
                self.try_submit_job(call, options)
            }

            fn release_room(&self) {
                self.leave_room();
            }
        }

        impl $executor {
            /// Submits a job with options. Refused as by [`submit`](Self::submit).
            pub fn submit_with<J>(
                &self,
                options: &$crate::task_options::TaskOptions,
                job: J,
            ) -> $crate::future::TaskFuture<J::Output>
            where
                J: $crate::job::Job + Send + 'static,
                J::Output: Send + 'static,
            {
                self.task().options(options).submit(job)
            }

            /// Options for one task, then its submission. To use the same for several tasks, see
            /// [`submit_with`](Self::submit_with).
            pub fn task(&self) -> $crate::executor::TaskBuilder<&Self> {
                $crate::executor::TaskBuilder::new(self)
            }
        }

        impl $crate::executor::TaskBuilder<&$executor> {
            /// Submits a job, as the executor's `submit`.
            pub fn submit<J>(self, job: J) -> $crate::future::TaskFuture<J::Output>
            where
                J: $crate::job::Job + Send + 'static,
                J::Output: Send + 'static,
            {
                let (executor, options) = self.into_parts();
                options.submit(|options| executor.submit_job(job, options, false))
            }

            /// Submits a job, or returns it, as the executor's `try_submit`.
            ///
            /// # Errors
            ///
            /// The job, and why it was refused.
            pub fn try_submit<J>(
                self,
                job: J,
            ) -> Result<$crate::future::TaskFuture<J::Output>, $crate::error::TrySubmitError<J>>
            where
                J: $crate::job::Job + Send + 'static,
                J::Output: Send + 'static,
            {
                let (executor, options) = self.into_parts();
                options.try_submit(|options| executor.try_submit_job(job, options))
            }
        }

        impl $crate::executor::TaskBuilder<$crate::executor::Permit<$executor>> {
            /// Submits a job into the room, as the permit's `submit`.
            pub fn submit<J>(self, job: J) -> $crate::future::TaskFuture<J::Output>
            where
                J: $crate::job::Job + Send + 'static,
                J::Output: Send + 'static,
            {
                let (permit, options) = self.into_parts();
                options.submit(|options| permit.into_executor().submit_job(job, options, true))
            }
        }
    };
}
pub(crate) use takes_jobs;

/// Has an executor take calls with options, as all executors do for code that is generic.
macro_rules! takes_calls {
    ($executor:ty) => {
        impl $executor {
            /// Submits a call with options. Refused as by [`submit`](Self::submit).
            pub fn submit_with<C: $crate::job::PortableCall>(
                &self,
                options: &$crate::task_options::TaskOptions,
                call: C,
            ) -> $crate::future::TaskFuture<C::Output> {
                self.task().options(options).submit_call(call)
            }

            /// Options for one task, then its submission. To use the same for several tasks, see
            /// [`submit_with`](Self::submit_with).
            pub fn task(&self) -> $crate::executor::TaskBuilder<&Self> {
                $crate::executor::TaskBuilder::new(self)
            }
        }

        impl $crate::executor::TaskBuilder<&$executor> {
            /// Submits a call, as the executor's `submit`.
            pub fn submit<C: $crate::job::PortableCall>(
                self,
                call: C,
            ) -> $crate::future::TaskFuture<C::Output> {
                self.submit_call(call)
            }

            /// Submits a call, or returns it, as the executor's `try_submit`.
            ///
            /// # Errors
            ///
            /// The call, and why it was refused.
            pub fn try_submit<C: $crate::job::PortableCall>(
                self,
                call: C,
            ) -> Result<$crate::future::TaskFuture<C::Output>, $crate::error::TrySubmitError<C>>
            {
                self.try_submit_call(call)
            }
        }

        impl $crate::executor::TaskBuilder<$crate::executor::Permit<$executor>> {
            /// Submits a call into the room, as the permit's `submit`.
            pub fn submit<C: $crate::job::PortableCall>(
                self,
                call: C,
            ) -> $crate::future::TaskFuture<C::Output> {
                self.submit_call(call)
            }
        }

        impl $crate::executor::Permit<$executor> {
            /// Submits a call into the room. It fails only if the executor was shut down or broke
            /// meanwhile: then the future is finished with that error.
            pub fn submit<C: $crate::job::PortableCall>(
                self,
                call: C,
            ) -> $crate::future::TaskFuture<C::Output> {
                self.submit_call(call)
            }
        }
    };
}
pub(crate) use takes_calls;
