//! The task cell: what a submitted job becomes.
//!
//! One allocation serves both sides. The worker's side is a [`Runnable`] (claim it, run it,
//! withdraw it); the caller's side is an [`Outcome`] (is it done, what came of it). Between them
//! lie the [`state`] of the run, the [`completion`] with its one listener, and the [`context`]
//! through which a running job finds its task and its worker.

pub(crate) mod completion;
pub(crate) mod context;
pub(crate) mod parker;
mod state;
pub(crate) mod task;

pub(crate) use completion::{Completion, Sink};
pub(crate) use task::{Body, Host, Info, Options, Outcome, Promise, Runnable, Task};
