//! One worker process on this machine: how it is started, what its owner knows of it, and the
//! memory that both share.
//!
//! | in the process of the | file | |
//! | --- | --- | --- |
//! | owner | [`worker_handle`] | the record of a worker, under the owner's lock |
//! | | [`outgoing`] | frames that wait for room in its socket |
//! | | [`memory_limit`] | looks at the memory that it uses |
//! | owner, helper | [`start`] | how a worker comes to be |
//! | worker | [`worker`], [`parent_connection`] | its main function; its connection to the owner |
//! | | [`crash`] | the handler that notes the cause of a fault |
//! | any | [`control_block`], [`claim`] | the shared memory; in it the claim of each task |
//! | | [`family`] | a worker and all that its tasks have started |

pub(crate) mod claim;
#[allow(unsafe_code)]
pub(crate) mod control_block;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
#[allow(unsafe_code)]
pub(crate) mod crash;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
pub(crate) mod family;
pub(crate) mod memory_limit;
pub(crate) mod outgoing;
pub(crate) mod parent_connection;
pub(crate) mod start;
pub(crate) mod worker;
pub(crate) mod worker_handle;

#[cfg(not(all(target_os = "linux", not(no_process_pool))))]
pub(crate) use start::unsupported::family;

/// The exit code of a worker that could not be set up; it is that of a Rust program that panics.
pub(crate) const UNFIT: i32 = 101;
