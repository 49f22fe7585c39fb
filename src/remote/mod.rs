//! Calls that run in another process, whatever carries them.
//!
//! | in the process of the | file | |
//! | --- | --- | --- |
//! | submitter | [`call`], [`map`] | a call, or a map's chunk, is packed; its reply is unpacked |
//! | | [`submission`] | what a pool is given, and the receiver of the reply |
//! | | [`parent_pool`] | the pool that a task belongs to, for a submitter that is a task |
//! | pool | [`scheduler`] | which worker gets which call, and what becomes of it |
//! | worker | [`worker`] | takes one task after the other |
//! | | [`run`], [`run_chunk`] | runs it |
//! | any | [`frame`], [`message`], [`reply`], [`error_codec`], [`options_codec`], [`checkpoint`], [`map_context`], [`trace_relay`] | what goes between them |

pub(crate) mod call;
pub(crate) mod checkpoint;
pub(crate) mod error_codec;
pub(crate) mod frame;
pub(crate) mod map;
pub(crate) mod map_context;
pub(crate) mod message;
pub(crate) mod options_codec;
pub(crate) mod parent_pool;
pub(crate) mod reply;
pub(crate) mod run;
pub(crate) mod run_chunk;
pub(crate) mod scheduler;
pub(crate) mod slots;
pub(crate) mod submission;
pub(crate) mod trace_relay;
pub(crate) mod worker;
