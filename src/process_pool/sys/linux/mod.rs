//! Worker processes on Linux. rustix makes system calls safe to call; what it lacks is libc's: `fork`,
//! signal handlers and masks, `signalfd`, `wait4`, and closing descriptors by number.

mod attributes;
pub(crate) mod control;
mod crash;
mod descriptors;
mod family;
mod fork;
mod helper;
pub(crate) mod hook;
pub(crate) mod pipe;
mod poller;
mod process;
mod shared_page;
mod signals;
pub(crate) mod socket;
mod spawn;
mod stdio;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use rustix::stdio::stdin;
pub(crate) use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) use attributes::Attributes;
pub(crate) use crash::install as install_crash_handler;
pub(crate) use descriptors::Kept;
pub(crate) use family::{Family, children, kill_families};
pub(crate) use fork::{Fork, Sacrifice};
pub(crate) use helper::{Helper, Surroundings, can_start, ignore_sigpipe, take_control};
pub(crate) use poller::{Event, Poller};
pub(crate) use process::{
    PidFd, SingleThreaded, adopt_orphans, ended_child, exit_now, has_children, kill_child,
    kill_group, lead_group, memory_size, monotonic_now, out_of_memory_kills, private_memory, reap,
    set_name, stopped_child,
};
pub(crate) use shared_page::SharedPage;
pub(crate) use signals::ChildSignals;
pub(crate) use stdio::{flush_c_stdout, flush_c_streams};
