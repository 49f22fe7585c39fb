//! Models of the crate's protocols: loom runs each under the orders that its threads can meet in, and
//! the values that the memory model lets them read.
//!
//! What is checked is the crate's own source: the files of `src/core` and the sleep of the
//! workers. Beside them stand small doubles of what is no part of a protocol or would start real
//! threads: the clock, the timer, the thread's context, the slabs.
#![cfg(loom)]
#![allow(dead_code, reason = "a model uses a part of what it is compiled with")]

#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/panic.rs"]
mod panic;

mod doubles;
use doubles::{clock, sync, timer};

mod core;

#[path = "../../../src/thread_pool/sleep.rs"]
mod sleep;

/// Runs `model` in every order with at most two interruptions; more is beyond what a machine can
/// do, and most faults show with two.
#[cfg(test)]
fn check(model: impl Fn() + Send + Sync + 'static) {
    check_with(2, model);
}

#[cfg(test)]
fn check_with(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(model);
}

#[cfg(test)]
mod queue_model;
#[cfg(test)]
mod set_model;
#[cfg(test)]
mod share_model;
#[cfg(test)]
mod task_model;
