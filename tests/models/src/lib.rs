//! Models of the crate's protocols: loom runs each under the orders that its threads can meet in, and
//! the values that the memory model lets them read.
//!
//! What is checked is the crate's own source: the files of `src/core`, the pool with its queue and
//! its workers, and the wait for its end; of the process pool, its claims, its outgoing lines and the
//! word that its end depends on. Beside it stand small doubles: of what is no part of a protocol (the
//! clock, the timer, the slabs, what is counted, the settings, frames), of what loom can't follow
//! (threads, and what a thread knows of itself), of maps, and of tokio's semaphore, for which tokio has
//! a model (`loom_semaphore_batch.rs`).
//!
//! A generic model runs with the crate's own operations, `Shipped`, and then with faults planted, which
//! it must find: the operations are a trait whose default is the crate's code, and a fault replaces one
//! of them. Add a fault where you doubt that a model would notice.
#![cfg(loom)]
#![allow(dead_code, reason = "a model uses a part of what it is compiled with")]

#[path = "../../../src/dump.rs"]
mod dump;
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/executor_state.rs"]
mod executor_state;
#[path = "../../../src/instruments.rs"]
mod instruments;
#[path = "../../../src/label.rs"]
mod label;
#[path = "../../../src/panic.rs"]
mod panic;
#[allow(unused_imports, reason = "there are no maps here")]
#[path = "../../../src/trace/mod.rs"]
mod trace;

#[path = "../../../src/cache_padded.rs"]
mod cache_padded;
mod doubles;
use doubles::{builder, clock, codec, fork, map, metrics, sync, sys, timer, worker_info};

// So that paths into tokio lead to doubles as well.
extern crate self as tokio;

mod core;
mod ipc;

#[path = "../../../src/lifecycle.rs"]
mod lifecycle;
mod local;
#[path = "../../../src/thread_pool/pool/mod.rs"]
mod pool;
#[path = "../../../src/thread_pool/queue.rs"]
mod queue;
mod remote;
#[path = "../../../src/room.rs"]
mod room;
#[path = "../../../src/thread_pool/runtime.rs"]
mod runtime;
#[path = "../../../src/shrink.rs"]
mod shrink;
#[path = "../../../src/shutdown.rs"]
mod shutdown;
#[path = "../../../src/thread_pool/sleep.rs"]
mod sleep;
#[path = "../../../src/reactor/turn.rs"]
mod turn;
#[path = "../../../src/thread_pool/worker.rs"]
mod worker;

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
mod claim_model;
#[cfg(test)]
mod finishing_model;
#[cfg(test)]
mod ipc_model;
#[cfg(test)]
mod local_queue_model;
#[cfg(test)]
mod outgoing_model;
#[cfg(test)]
mod permits_model;
#[cfg(test)]
mod queue_model;
#[cfg(test)]
mod set_model;
#[cfg(test)]
mod shutdown_model;
#[cfg(test)]
mod task_model;
#[cfg(test)]
mod test_pool;
#[cfg(test)]
mod turn_model;
