//! Executors, `submit`, futures, `map`, `as_completed` and `wait`, in the manner of Python's
//! `concurrent.futures`, with futures that are Rust futures.

#![forbid(unsafe_code)]

mod as_completed;
mod core;
mod error;
mod executor;
mod future;
mod inline;
mod job;
mod map;
mod metrics;
mod panic;
mod shutdown;
mod sync;
pub mod task;
mod thread_pool;
mod timer;
mod wait;

pub use as_completed::{AsCompleted, AsCompletedTimeout, as_completed};
pub use error::{BrokenPool, BuildError, Error, TimedOut, TrySubmitError};
pub use executor::{Executor, Permit, Portable};
pub use future::{Completer, TaskFuture};
pub use inline::InlineExecutor;
pub use job::{Call, Job};
pub use map::{Map, Unordered};
pub use metrics::{Histogram, Metrics};
pub use panic::{PanicLocation, Panicked};
pub use shutdown::{RunningTask, Shutdown, ShutdownFuture, ShutdownReport};
pub use thread_pool::{InitializerOutcome, TaskOptions, ThreadPoolBuilder, ThreadPoolExecutor};
pub use wait::{DoneAndNotDone, ReturnWhen, Wait, wait};
