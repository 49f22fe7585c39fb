//! The files of the crate's `core/worker` that have a protocol in them.

#[path = "../../../../src/core/worker/local_queue.rs"]
pub(crate) mod local_queue;
#[path = "../../../../src/core/worker/waits.rs"]
pub(crate) mod waits;

pub(crate) use crate::doubles::{context, parker};
