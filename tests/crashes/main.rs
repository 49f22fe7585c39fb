//! What workers die of, and what becomes of their tasks, of their pool, and of the program; and that
//! nothing outlives any of them.
//!
//! A test that counts what is left of a pool, or whose process is to die, is a program of its own:
//! see `program`.

#![cfg(all(feature = "process", target_os = "linux"))]

mod causes;
mod deaths;
mod families;
mod hostile;
mod losses;
mod matrix;
mod orphans;
mod printed;
mod program;
mod resources;
mod stopped;
#[allow(unreachable_pub, reason = "each test binary is a crate of its own")]
#[path = "../support/mod.rs"]
mod support;
#[path = "../processes/tools.rs"]
mod tools;
mod watch;
