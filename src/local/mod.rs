//! One worker process on this machine, for whoever wants it: how it is started, what its owner knows of
//! it, and the memory that both share.
//!
//! * [`start`]: how a worker comes to be;
//! * [`worker_handle`]: a worker as its pool sees it, under the pool's lock;
//! * [`control_block`]: the shared memory; in it lie the [`claim`] of each task, the [`checkpoint`] of a
//!   chunk, and the cause of a [`crash`];
//! * [`family`]: a worker and all that its tasks have started.

pub(crate) mod checkpoint;
pub(crate) mod claim;
#[allow(unsafe_code)]
pub(crate) mod control_block;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
#[allow(unsafe_code)]
pub(crate) mod crash;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
pub(crate) mod family;
pub(crate) mod start;
pub(crate) mod worker_handle;

#[cfg(not(all(target_os = "linux", not(no_process_pool))))]
pub(crate) use start::unsupported::family;
