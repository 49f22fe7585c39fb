//! What processes share. The ids are those of `docs/behaviours.md`.

#![cfg(all(feature = "process", target_os = "linux"))]
#![allow(dead_code, reason = "modules shared with other test binaries, which use all of them")]

mod arrays;
mod channel_kills;
mod channel_settings;
mod channels;
mod chunks;
mod handles;
mod hostile;
mod kept;
mod locks;
mod memory;
mod moved;
#[path = "../crashes/program.rs"]
mod program;
mod refused;
mod semaphores;
mod shared;
mod slices;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
#[path = "../processes/tools.rs"]
mod tools;
mod values;
#[path = "../crashes/watch.rs"]
mod watch;
