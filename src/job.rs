//! Jobs to be submitted: closures, and calls of plain functions.

use std::fmt;

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
pub trait Job: Send + 'static {
    /// The type of its value.
    type Output: Send + 'static;

    /// Runs it.
    fn run(self) -> Self::Output;
}

impl<F, T> Job for F
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
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
}

impl<A, R> Call<A, R> {
    /// The call of `function` with `arguments`; several arguments are a tuple.
    pub fn new(function: fn(A) -> R, arguments: A) -> Self {
        Self { function, arguments }
    }

    /// Returns the function and its arguments.
    pub fn into_parts(self) -> (fn(A) -> R, A) {
        (self.function, self.arguments)
    }
}

impl<A: Clone, R> Clone for Call<A, R> {
    fn clone(&self) -> Self {
        Self { function: self.function, arguments: self.arguments.clone() }
    }
}

impl<A, R> Job for Call<A, R>
where
    A: Send + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn run(self) -> R {
        (self.function)(self.arguments)
    }
}

impl<A: fmt::Debug, R> fmt::Debug for Call<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("arguments", &self.arguments).finish_non_exhaustive()
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
/// The function must be a plain one, since only that can be named in another process:
///
/// ```compile_fail,E0308
/// let n = 3;
/// let add_n = move |x: i32| x + n;
/// let call = concurrent_futures::call!(add_n(1));
/// ```
#[macro_export]
macro_rules! call {
    ($($call:tt)+) => { $crate::__call_split!([] $($call)+) };
}

/// Splits `path(arguments)` at the last group.
#[doc(hidden)]
#[macro_export]
macro_rules! __call_split {
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
        $crate::Call::new(|($($name,)*)| $($function)+($($name),*), ($($value,)*))
    };
}
