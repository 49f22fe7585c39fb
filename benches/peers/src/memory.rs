//! Memory in two measures.
//!
//! [`resident`] is what the process takes from the machine. It has everything in it, also what
//! the allocator adds to each block and loses to alignment; but pages that were freed mostly stay
//! resident, so it is good only for growth in a fresh process.
//!
//! [`Count`] is the bytes of live heap blocks as they were asked for: exact, the same on every
//! system, and it also goes down. A counting allocator does that. It counts only in the workloads
//! that ask for it; in all others the price is one relaxed load of a flag that is not written, and
//! a branch that always goes the same way.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

static COUNTING: AtomicBool = AtomicBool::new(false);
/// Since counting began; negative if more was freed than allocated.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of the process that are in memory. `None` where the system doesn't tell as Linux does.
pub(crate) fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Counts from its start to its drop.
pub(crate) struct Count(());

impl Count {
    pub(crate) fn start() -> Self {
        LIVE.store(0, Relaxed);
        let was = COUNTING.swap(true, Relaxed);
        assert!(!was, "one count at a time");
        Self(())
    }

    /// Bytes allocated since the start and not freed.
    pub(crate) fn live(&self) -> isize {
        LIVE.load(Relaxed)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        COUNTING.store(false, Relaxed);
    }
}

fn add(bytes: usize) {
    if COUNTING.load(Relaxed) {
        LIVE.fetch_add(bytes as isize, Relaxed);
    }
}

fn remove(bytes: usize) {
    if COUNTING.load(Relaxed) {
        LIVE.fetch_sub(bytes as isize, Relaxed);
    }
}

// SAFETY: every call is passed on to `System` as it came; counting touches no block and does not
// allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's duties are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        remove(layout.size());
        // SAFETY: as above; `block` came from `System`, through this allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        remove(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}
