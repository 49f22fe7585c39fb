//! The slots of the processes that have an object, by which the others know what a process has of it that was killed.
//! In any process.

use std::io;

use crate::sys::robust_lock::{Holder, holder_of};
use crate::sys::{RobustMemory, SLOTS};

/// Returns whether the process that has a slot is there.
pub(super) fn is_alive(memory: &RobustMemory, slot: usize) -> bool {
    holder_of(memory.slot(slot)) == Holder::Alive
}

/// Returns this process's slot. If it has none it takes one, of which `clear` is to clear what was before. `is_locked`:
/// the caller has the lock.
pub(super) fn own(
    memory: &RobustMemory,
    is_locked: bool,
    clear: impl FnOnce(usize),
) -> io::Result<usize> {
    if let Some(slot) = memory.own_slot() {
        return Ok(slot);
    }
    let locked = if is_locked { None } else { memory.lock(None)? };
    let free = (0..SLOTS).find(|slot| !is_alive(memory, *slot));
    let free = free.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!("{SLOTS} processes have it, which is the most"),
        )
    })?;
    clear(free);
    memory.take_slot(free)?;
    drop(locked);
    Ok(free)
}
