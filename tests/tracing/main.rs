//! What a subscriber of `tracing` hears of tasks, and that it can't harm the pool.

#[allow(unreachable_pub, reason = "each test binary includes it as a private module")]
#[path = "../support/mod.rs"]
mod support;

#[allow(unreachable_pub, reason = "as above")]
mod recorder;
mod threads;
