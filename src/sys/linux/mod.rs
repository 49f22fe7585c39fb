//! Linux, in any process, and without a lock of this crate. rustix makes system calls safe to call; what it lacks is
//! libc's: `fork`, signal handlers and masks, `signalfd`, `wait4`, and closing descriptors by number.

pub(crate) mod attributes;
mod chunk_memory;
pub(crate) mod control;
pub(crate) mod descriptors;
mod futex;
mod mapping;
pub(crate) mod pipe;
mod poller;
pub(crate) mod process;
mod robust_list;
pub(crate) mod robust_lock;
mod robust_memory;
mod sealed_memory;
mod shared_memory;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod spawn;
mod stdio;
mod writable_memory;

pub(crate) use rustix::stdio::stdin;
pub(crate) use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) use attributes::Attributes;
pub(crate) use chunk_memory::{ChunkLocks, ChunkMemory, HeldChunk};
pub(crate) use descriptors::Kept;
pub(crate) use futex::{MOST_WORDS, wait_on, wait_on_any, wait_on_for, wake_all_on, wake_one_on};
pub(crate) use poller::{Event, Poller};
pub(crate) use process::{
    PidFd, SingleThreaded, adopt_orphans, ended_child, exit_now, has_children, is_frozen,
    kill_child, kill_group, lead_group, memory_size, monotonic_now, out_of_memory_kills,
    private_memory, reap, set_name, stopped_child, usage,
};
pub(crate) use robust_memory::{RobustGuard, RobustMemory, SLOTS, reserve};
pub(crate) use sealed_memory::{SealedMemory, UnsealedMemory, identity};
pub(crate) use shared_memory::{
    Shareable, SharedMemory, file as memory_file, length as shared_memory_length,
};
pub(crate) use signals::ChildSignals;
pub(crate) use stdio::{flush_c_stdout, flush_c_streams, print_to_stderr};
pub(crate) use writable_memory::WritableMemory;
