//! What the suite of Python's `concurrent.futures` checks, as tests of this crate.
//!
//! A test's comment begins with the id of its behaviour in `docs/behaviours.md`: EX is what every
//! executor does, FU is one future, AC is `as_completed`, WA is `wait`. Where the types of Rust
//! leave nothing to test, a comment stands in the test's place. What `options` tests Python has not.

mod as_completed;
mod backend;
mod executor;
mod future;
mod options;
#[cfg(all(feature = "process", target_os = "linux"))]
#[path = "../processes/tools.rs"]
mod processes;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
mod wait;
#[cfg(all(feature = "process", target_os = "linux"))]
mod workers;
