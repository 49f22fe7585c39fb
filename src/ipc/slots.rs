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

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    /// Each mapping is as that of another process.
    #[test]
    fn a_process_beyond_the_slots_is_refused_until_one_has_left() {
        let (memory, fd) = RobustMemory::create(8).unwrap();
        let mut all = vec![memory];
        all.extend((1..SLOTS).map(|_| RobustMemory::map(&fd).unwrap()));
        let numbers: Vec<_> =
            all.iter().map(|memory| own(memory, false, |_| ()).unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..SLOTS));
        assert_eq!(own(&all[7], false, |_| unreachable!("it has one")).unwrap(), 7);
        let further = RobustMemory::map(&fd).unwrap();
        let refused = own(&further, false, |_| ()).unwrap_err();
        assert_eq!(refused.to_string(), "128 processes have it, which is the most");
        drop(all.remove(7));
        let mut cleared = None;
        assert_eq!(own(&further, false, |slot| cleared = Some(slot)).unwrap(), 7);
        assert_eq!(cleared, Some(7));
    }
}
