//! `UnwindSafe` and `RefUnwindSafe` of the public types, which the compiler does not find by itself: their
//! parts are shared, by locks and atomics of this crate's own.
//!
//! They hold, since no code of the user's runs under a lock or amid a change (see `core/README.md`): a panic
//! that is caught outside finds them whole. A result is handed out at once and as a whole, so its type does
//! not matter.

use std::panic::{RefUnwindSafe, UnwindSafe};

macro_rules! unwind_safe {
    ($([$($generics:tt)*] $type:ty,)+) => { $(
        impl<$($generics)*> UnwindSafe for $type {}
        impl<$($generics)*> RefUnwindSafe for $type {}
    )+ };
}

unwind_safe! {
    [] crate::ThreadPoolExecutor,
    [] crate::ThreadPoolBuilder,
    [] crate::TaskOptions,
    [P] crate::TaskBuilder<P>,
    [] crate::InlineExecutor,
    [E: crate::Executor] crate::Permit<E>,
    [T] crate::TaskFuture<T>,
    [T: Send + 'static] crate::Completer<T>,
    [T] crate::SharedTask<T>,
    [] crate::TaskHandle,
    [] crate::TaskDone,
    [] crate::StopToken,
    [] crate::StopSource,
    [] crate::Stopped,
    [] crate::Closed,
    [K, T] crate::TaskSet<K, T>,
    [T] crate::AsCompleted<T>,
    [T] crate::Wait<T>,
    [T] crate::Map<T>,
    [T] crate::MapFuture<T>,
    [T, E] crate::TryMap<T, E>,
    [T, E] crate::TryMapFuture<T, E>,
    [T] crate::Unordered<T>,
    [] crate::ShutdownFuture,
    [] crate::Error,
    [] crate::BrokenPool,
}

#[cfg(feature = "process")]
unwind_safe! {
    [] crate::ProcessPoolExecutor,
    [] crate::ProcessPoolBuilder,
    [] crate::ParentPool,
    [R] crate::Process<R>,
    [] crate::ProcessHandle,
    [] crate::ProcessBuilder,
    [T: crate::Element] crate::Buffer<T>,
    [T: crate::Element] crate::ipc::SharedSlice<T>,
    [T: RefUnwindSafe] crate::ipc::Shared<T>,
    [] crate::ipc::Error,
}
