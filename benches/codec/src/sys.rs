#[path = "../../../src/sys/memory.rs"]
pub(crate) mod memory;
