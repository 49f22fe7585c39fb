//! What a subscriber of `tracing` hears of tasks, and that it can't harm the pool.

#[allow(unreachable_pub, reason = "each test binary includes it as a private module")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(all(feature = "process", target_os = "linux"))]
mod processes;
mod recorder;
mod threads;
