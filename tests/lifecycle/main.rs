//! From the first thread of a pool to its last: the behaviours TP, IN and SD of
//! `docs/behaviours.md`, the runtime that jobs see, and the ends that a pool can come to.
//!
//! What takes a process of its own is in files of its own: TP-5 and TP-6 in `fork.rs`, SD-2, SD-6
//! and SD-17 in `program_end.rs`, and the count of the process's threads in `threads_left.rs`.

mod ending;
mod idle;
mod init;
#[cfg(all(feature = "process", target_os = "linux"))]
#[path = "../processes/tools.rs"]
mod processes;
#[cfg(feature = "tokio")]
mod program;
#[cfg(feature = "tokio")]
mod runtime;
mod shutdown;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
mod thread_pool;
mod threads;
