//! What the suite of Python's `concurrent.futures` checks, as tests of this crate.
//!
//! A test is named after the id of the behaviour: `ex_` is what every executor does, `fu_` is one
//! future, `ac_` is `as_completed`, `wa_` is `wait`. Where the types of Rust leave nothing to
//! test, a comment stands in the test's place.

mod ac;
mod backend;
mod ex;
mod fu;
#[cfg(all(feature = "process", target_os = "linux"))]
#[path = "../processes/tools.rs"]
mod processes;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
mod wa;
