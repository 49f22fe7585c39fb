//! The files of the crate's `core` that have a protocol in them.

#[path = "../../../src/core/cell.rs"]
pub(crate) mod cell;
#[path = "../../../src/core/extra.rs"]
pub(crate) mod extra;
#[path = "../../../src/core/id.rs"]
pub(crate) mod id;
#[path = "../../../src/core/listener.rs"]
mod listener;
#[path = "../../../src/core/outcome.rs"]
pub(crate) mod outcome;
#[path = "../../../src/core/promise.rs"]
pub(crate) mod promise;
#[path = "../../../src/core/registry.rs"]
mod registry;
#[path = "../../../src/core/runnable.rs"]
pub(crate) mod runnable;
#[path = "../../../src/core/set.rs"]
pub(crate) mod set;
#[path = "../../../src/core/state.rs"]
pub(crate) mod state;
#[path = "../../../src/core/stop_flag.rs"]
pub(crate) mod stop_flag;
#[path = "../../../src/core/submit.rs"]
pub(crate) mod submit;
#[path = "../../../src/core/task.rs"]
pub(crate) mod task;
#[path = "../../../src/core/unobserved.rs"]
pub(crate) mod unobserved;
#[path = "../../../src/core/waiters.rs"]
pub(crate) mod waiters;
#[path = "../../../src/core/watchers.rs"]
mod watchers;
mod worker;

pub(crate) use crate::doubles::slab;
pub(crate) use cell::TaskRef;
pub(crate) use extra::MaybeExtra;
pub(crate) use id::TaskId;
pub(crate) use registry::Registry;
pub(crate) use runnable::TakenOut;
pub(crate) use stop_flag::StopFlag;
pub(crate) use submit::New;
pub(crate) use task::{Host, TaskTables};
pub(crate) use unobserved::OnUnobserved;
pub use worker::waits::Awaited;
pub(crate) use worker::{context, local_queue, parker, waits};
