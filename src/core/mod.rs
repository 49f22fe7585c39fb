//! The task cell: what a submitted job becomes. Nearly all of the crate's `unsafe` is here.
//!
//! One block of a [`slab`] serves both sides. The worker's side has a [`TaskRef`]: claim it, run
//! it, withdraw it ([`task`]). The caller's side has an [`Outcome`]: is it done, what came of it,
//! who is to be told. Between them lie the [`state`], one word with all that is known of the task,
//! and the [`cell`], the memory, which says who may touch what. Callbacks are in a [`watch`], a
//! [`promise`] is a result without a task, and a [`set`] gathers tasks that have finished. A failure
//! that nobody sees is [`unobserved`]. A worker takes tasks ahead in a [`share`]. A running job finds its task and its worker through the
//! [`context`], where it leaves what it [`waits`] for.
//!
//! The protocols, and where code of the user's runs, are described in `README.md`, beside this file; loom
//! checks them in `tests/models`.

pub(crate) mod cell;
pub(crate) mod context;
pub(crate) mod id;
pub(crate) mod outcome;
pub(crate) mod parker;
pub(crate) mod promise;
mod registry;
pub(crate) mod set;
pub(crate) mod share;
mod slab;
pub(crate) mod state;
pub(crate) mod task;
pub(crate) mod unobserved;
pub(crate) mod waits;
mod watch;

pub(crate) use cell::TaskRef;
pub use id::TaskId;
pub(crate) use outcome::Outcome;
#[cfg(feature = "process")]
pub(crate) use promise::Source;
pub(crate) use promise::{Promise, Refused};
pub(crate) use registry::Registry;
pub(crate) use task::{Body, Extra, Host, MaybeExtra, Options, Polled, Task, TaskWaker};
pub(crate) use unobserved::OnUnobserved;
pub use unobserved::UnobservedFailure;
pub use waits::Awaited;
