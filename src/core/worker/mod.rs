//! The worker's side of the core: what a thread has that runs tasks. Used on that thread by the tasks that
//! run there, and from others as each file says.
//!
//! * [`context`]: which task and which worker this thread has; the frames of the tasks on its stack.
//! * [`local_queue`]: tasks that the worker took ahead. Any thread may take them away again.
//! * [`parker`]: a wait for a future that blocks the thread and lends the worker's place out.
//! * `runtime_poll`: reports, in debug builds, a wait that blocks a runtime of tokio.
//! * [`waits`]: which waits there are, for a dump. Written by the worker, read by any thread.

pub(crate) mod context;
pub(crate) mod local_queue;
pub(crate) mod parker;
#[cfg(all(feature = "tokio", debug_assertions))]
pub(crate) mod runtime_poll;
pub(crate) mod waits;
