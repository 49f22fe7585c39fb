//! Jobs to be submitted: closures, and calls of plain functions.

use std::fmt;

use crate::portable::Portable;

/// Something to run once: any `FnOnce() -> T + Send + 'static`, or a [`Call`].
///
/// A closure that borrows does not live long enough; move what it needs into it:
///
/// ```compile_fail,E0373
/// let pool = concurrent_futures::ThreadPoolExecutor::new();
/// let text = String::from("abc");
/// let length = pool.submit(|| text.len());
/// drop(text);
/// ```
///
/// What it captures must be allowed to move to another thread:
///
/// ```compile_fail,E0277
/// let pool = concurrent_futures::ThreadPoolExecutor::new();
/// let shared = std::rc::Rc::new(1);
/// let one = pool.submit(move || *shared);
/// ```
///
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job",
    label = "not a closure without parameters",
    note = "a job is a closure without parameters, or `call!(function(arguments))`; an async block is for \
            `submit_future`"
)]
pub trait Job: sealed::Named {
    /// The type of its value.
    type Output;

    /// Runs it.
    fn run(self) -> Self::Output;
}

/// A job that may go to another thread.
pub(crate) trait SendJob: Job<Output: Send + 'static> + Send + 'static {}

impl<J: Job<Output: Send + 'static> + Send + 'static> SendJob for J {}

/// A job that may go to another process: a [`call!`](crate::call) whose arguments and result are
/// [`Portable`].
///
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent to another process",
    label = "not a `call!(function(arguments))`",
    note = "executors whose jobs may run in another process take calls of plain functions: write \
            `call!(function(arguments))`, with all that the function needs among its arguments"
)]
pub trait PortableCall: Job<Output: Portable> + Send + 'static {
    /// The type of the arguments: a tuple of them.
    type Arguments: Portable;

    #[doc(hidden)]
    fn into_call(self) -> Call<Self::Arguments, Self::Output>;
}

impl<A: Portable, R: Portable> PortableCall for Call<A, R> {
    type Arguments = A;

    fn into_call(self) -> Self {
        self
    }
}

pub(crate) mod sealed {
    use super::Call;
    use crate::core::{MaybeExtra, TaskName};

    /// Keeps [`Job`](super::Job) to this crate, and has the name of a job, if its kind has one.
    #[allow(
        unnameable_types,
        private_bounds,
        private_interfaces,
        reason = "that is what seals the trait"
    )]
    pub trait Named {
        #[doc(hidden)]
        type Name: MaybeExtra;

        #[doc(hidden)]
        fn name(&self) -> Self::Name;
    }

    impl<F: FnOnce() -> T, T> Named for F {
        type Name = ();

        fn name(&self) {}
    }

    impl<A, R> Named for Call<A, R> {
        type Name = TaskName;

        fn name(&self) -> TaskName {
            TaskName(self.path.map(Into::into))
        }
    }
}

// The error of what is not a job is that of `Job`, and that of what can't be sent names what is in its way.
#[diagnostic::do_not_recommend]
impl<F: FnOnce() -> T, T> Job for F {
    type Output = T;

    fn run(self) -> T {
        self()
    }
}

/// A plain function with its arguments, made by [`call!`](crate::call).
///
/// Unlike a closure it can be handed to any executor. On threads it runs as a closure does, and
/// nothing is serialised. A clone is a second task with the same arguments.
///
/// A task that is made of a `call!` and was given no [label](crate::TaskOptions::label) has the function's path
/// for one, as it stands in the `call!`: in dumps, in traces, and in [`TaskFuture::label`](crate::TaskFuture::label).
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor, call};
///
/// let pool = ThreadPoolExecutor::new();
/// let power = call!(u32::pow(2, 5));
/// assert_eq!(pool.submit(power.clone()).result()?, 32);
/// let (function, arguments) = power.into_parts();
/// assert_eq!((function(arguments), arguments), (32, (2, 5)));
/// # Ok::<(), Error>(())
/// ```
#[must_use = "a Call does nothing until it is submitted"]
pub struct Call<A, R> {
    function: fn(A) -> R,
    arguments: A,
    /// The function as `call!` was given it.
    path: Option<&'static str>,
}

impl<A, R> Call<A, R> {
    /// The call of `function` with `arguments`; several arguments are a tuple.
    pub fn new(function: fn(A) -> R, arguments: A) -> Self {
        Self { function, arguments, path: None }
    }

    /// Makes the call of a function of this path. For `call!`.
    #[doc(hidden)]
    #[rustfmt::skip] // The compiler shows the line of the name where the function is a closure that captures.
    pub fn of_plain_function( // not a closure in a variable: pass what it captures as an argument
        path: &'static str,
        function: fn(A) -> R,
        arguments: A,
    ) -> Self {
        Self { path: Some(path), ..Self::new(function, arguments) }
    }

    /// Returns the function and its arguments.
    pub fn into_parts(self) -> (fn(A) -> R, A) {
        (self.function, self.arguments)
    }
}

impl<A: Clone, R> Clone for Call<A, R> {
    fn clone(&self) -> Self {
        Self { arguments: self.arguments.clone(), ..*self }
    }
}

impl<A, R> Job for Call<A, R> {
    type Output = R;

    fn run(self) -> R {
        (self.function)(self.arguments)
    }
}

impl<A: fmt::Debug, R> fmt::Debug for Call<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Call");
        if let Some(path) = self.path {
            debug.field("function", &format_args!("{path}"));
        }
        debug.field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

/// Turns `function(arguments)` into a [`Call`]: the arguments are evaluated now, the function
/// runs on a worker.
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, call};
///
/// fn add(a: u32, b: u32) -> u32 {
///     a + b
/// }
///
/// let pool = ThreadPoolExecutor::new();
/// assert_eq!(pool.submit(call!(add(1, 2))).result()?, 3);
/// assert_eq!(pool.submit(call!(u64::pow(2, 10))).result()?, 1024);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// The function must be a plain one, since only that can be named in another process. A closure in a variable
/// is none; what it captures becomes an argument:
///
/// ```compile_fail,E0308
/// let n = 3;
/// let add_n = move |x: i32| x + n;
/// let call = concurrent_futures::call!(add_n(1));
/// ```
///
/// An `async fn` only returns a future: that is the value of its task, and no worker polls it. On threads
/// write [`submit_future`](crate::ThreadPoolExecutor::submit_future) instead; for an executor that may run
/// jobs in other processes, such a call does not compile.
///
/// # Arguments that are references
///
/// A worker may use the arguments after the caller has returned. So on threads a reference must be
/// `'static`, as a string literal is; otherwise pass a clone or an [`Arc`](std::sync::Arc). To another process
/// a reference can't be sent at all, and it shares no `Arc` with this one: pass the value, so a `String` instead
/// of a `&str`.
///
/// ```
/// use concurrent_futures::{Error, Executor, ThreadPoolExecutor, call};
///
/// fn length(text: &str) -> usize {
///     text.len()
/// }
///
/// fn length_of(text: String) -> usize {
///     length(&text)
/// }
///
/// fn length_anywhere(executor: &impl Executor, text: &str) -> Result<usize, Error> {
///     executor.submit(call!(length_of(text.to_owned()))).result()
/// }
///
/// let pool = ThreadPoolExecutor::new();
/// assert_eq!(pool.submit(call!(length("seven"))).result()?, 5);
/// assert_eq!(length_anywhere(&pool, "seven")?, 5);
/// # Ok::<(), Error>(())
/// ```
///
/// Where a `&str` does not compile, the error is that an "implementation of `Deserialize` is not general
/// enough": one can be read only from bytes that stay where they are.
///
/// ```compile_fail
/// # use concurrent_futures::{Error, Executor, TaskFuture, call};
/// # fn length(text: &str) -> usize { text.len() }
/// fn length_of_seven(executor: &impl Executor) -> TaskFuture<usize> {
///     executor.submit(call!(length("seven")))
/// }
/// ```
#[macro_export]
macro_rules! call {
    ($($call:tt)+) => { $crate::__call_split!([] $($call)+) };
}

/// Splits `path(arguments)` at the last group.
#[doc(hidden)]
#[macro_export]
macro_rules! __call_split {
    ([] move $($rest:tt)*) => { $crate::__call_split!(closure) };
    ([] || $($rest:tt)*) => { $crate::__call_split!(closure) };
    ([] | $($rest:tt)*) => { $crate::__call_split!(closure) };
    (closure) => {
        ::core::compile_error!(
            "call! takes a function call, not a closure: write call!(function(arguments))"
        )
    };
    ([$($function:tt)+] ($($arguments:tt)*)) => {
        $crate::__call_arguments!([$($function)+] $($arguments)*)
    };
    ([$($function:tt)+] . $($rest:tt)*) => {
        ::core::compile_error!(
            "call! takes a plain function, not a method: write call!(Type::method(value, arguments))"
        )
    };
    ([$($function:tt)*] $next:tt $($rest:tt)*) => {
        $crate::__call_split!([$($function)* $next] $($rest)*)
    };
    ([$($function:tt)*]) => {
        ::core::compile_error!("call! takes a function call: call!(function(arguments))")
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __call_arguments {
    ([$($function:tt)+] $($argument:expr),* $(,)?) => {
        $crate::__call_bind!([$($function)+] [] $($argument,)*)
    };
}

/// Gives every argument a name. The `argument` of each step is a name of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __call_bind {
    ([$($function:tt)+] [$(($name:ident $value:expr))*] $next:expr, $($rest:expr,)*) => {
        $crate::__call_bind!([$($function)+] [$(($name $value))* (argument $next)] $($rest,)*)
    };
    ([$($function:tt)+] [$(($name:ident $value:expr))*]) => {
        $crate::Call::of_plain_function(
            ::core::stringify!($($function)+),
            |($($name,)*)| $($function)+($($name),*),
            ($($value,)*),
        )
    };
}
