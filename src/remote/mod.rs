//! Calls that run in another process, whatever carries them.
//!
//! In the pool's process: a [`call`] or a chunk of a [`map`] is packed and given to the [`scheduler`].
//! In the worker's process: the [`worker`] takes it and replies; a job there submits calls of its own by
//! [`parent_pool`]. Between both go [`frame`]s; errors travel by [`error_codec`], events of `tracing` by
//! [`trace_relay`].

pub(crate) mod call;
pub(crate) mod error_codec;
pub(crate) mod frame;
pub(crate) mod map;
pub(crate) mod parent_pool;
pub(crate) mod scheduler;
pub(crate) mod trace_relay;
pub(crate) mod worker;
