//! The task cell: one block of memory that a submitted job becomes. Nearly all of the crate's `unsafe` is
//! here.
//!
//! A task on its way, file by file:
//!
//! 1. [`submit()`]: a pool makes a [`task`] of a body, options ([`extra`]) and itself, with an [`id`]. The block
//!    comes from a [`slab`]. [`cell`] says which thread may touch what of it, [`state`] is the word that decides that.
//! 2. [`runnable`]: the queue has a [`TaskRef`] without types, and the worker claims it. A suspended task is
//!    found again in a [`registry`].
//! 3. [`worker`]: the job runs in a frame of its thread, and finds its task and its worker there.
//! 4. [`outcome`]: the result is published, and the caller's side takes it. A [`listener`] is told, which
//!    may be a [`set`] with other tasks. A failure that nothing has seen is [`unobserved`].
//!
//! A [`promise`] is a result without a task of this process.
//!
//! The protocols, and where code of the user's runs, are described in `README.md`, beside this file; loom
//! checks them in `tests/models`.

pub(crate) mod cell;
pub(crate) mod extra;
pub(crate) mod id;
mod listener;
pub(crate) mod outcome;
pub(crate) mod promise;
mod registry;
pub(crate) mod runnable;
pub(crate) mod set;
mod slab;
pub(crate) mod state;
pub(crate) mod stop_flag;
pub(crate) mod submit;
pub(crate) mod task;
pub(crate) mod unobserved;
pub(crate) mod waiters;
mod watchers;
mod worker;

pub(crate) use cell::TaskRef;
pub(crate) use extra::{Continuation, Extra, MaybeExtra, Options, TaskName};
pub use id::TaskId;
pub(crate) use outcome::Outcome;
pub(crate) use promise::{Failure, Promise, Refused, Source};
pub(crate) use registry::Registry;
pub(crate) use runnable::{TakenOut, TaskWaker};
pub(crate) use stop_flag::StopFlag;
pub(crate) use submit::{New, submit, try_submit};
pub(crate) use task::{Body, Host, Polled, TaskTables};
pub(crate) use unobserved::OnUnobserved;
pub use unobserved::UnobservedFailure;
#[cfg(all(feature = "process", feature = "tokio", debug_assertions))]
pub(crate) use worker::runtime_poll;
pub use worker::waits::Awaited;
pub(crate) use worker::{context, local_queue, parker, waits};
