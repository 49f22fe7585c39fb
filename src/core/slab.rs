//! Memory for tasks: many small blocks that live for a short time, made by one thread and freed by
//! another, in about the order in which they were made.
//!
//! Each thread cuts blocks from a slab of its own, one after the other. A freed block is not used again;
//! a slab goes back to the allocator with its last block. So a block costs a few moves and one atomic
//! subtraction, and no memory besides its own bytes. A `Box` for each task, with glibc's allocator, makes a
//! submission take 2.2 times as many instructions, and a burst of tiny tasks 1.3 times as much CPU time. A
//! block that stays keeps its neighbours' memory, at most a slab, so slabs are small: 2 KiB.
//!
//! A slab begins with the number of its blocks in use. As long as its thread cuts from it, the number is
//! larger by [`OPEN`], and only that thread knows how many blocks it has cut.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
#[cfg(not(thread_sanitizer))]
use std::sync::atomic::fence;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Release};

/// The unit of positions in a slab, and the largest alignment of a block.
const UNIT: usize = 8;
const SLAB: Layout = match Layout::from_size_align(256 * UNIT, UNIT) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};
/// Larger blocks are the allocator's own.
const LARGEST: usize = SLAB.size() / 8;
const OPEN: usize = usize::MAX / 2;

/// The place of a block in its slab, in units; 0 for a block of the allocator's own.
pub(super) type Position = u8;

#[repr(C)]
struct Slab {
    in_use: AtomicUsize,
}

/// The slab that this thread cuts from.
struct Current {
    slab: Cell<Option<NonNull<Slab>>>,
    /// Where it is cut next.
    next: Cell<usize>,
    cut: Cell<usize>,
}

thread_local! {
    static CURRENT: Current = const {
        Current { slab: Cell::new(None), next: Cell::new(0), cut: Cell::new(0) }
    };
}

/// Returns a block for a value of this layout, which is not empty.
#[inline]
pub(super) fn allocate(layout: Layout) -> (NonNull<u8>, Position) {
    let small = layout.size() <= LARGEST && layout.align() <= UNIT;
    // A thread whose storage is gone already has no slab either.
    let block =
        if small { CURRENT.try_with(|current| current.cut(layout.size())).ok() } else { None };
    block.unwrap_or_else(|| (allocated(layout), 0))
}

/// Frees a block.
///
/// # Safety
///
/// The block is from [`allocate`], with this layout and this position, and is not used any more.
#[inline]
pub(super) unsafe fn free(block: NonNull<u8>, layout: Layout, position: Position) {
    if position == 0 {
        // SAFETY: by its position the block is the allocator's own, and of this layout.
        return unsafe { dealloc(block.as_ptr(), layout) };
    }
    // SAFETY: the block lies so many units behind the start of its slab, in the same allocation.
    let slab = unsafe { block.sub(usize::from(position) * UNIT) }.cast::<Slab>();
    // SAFETY: the block was in use until now, and is not used any more.
    unsafe { Slab::release(slab, 1) };
}

fn allocated(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout is not empty; a task has at least its header.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Slab {
    /// Takes `count` from the number of blocks in use, and frees the slab with the last of them.
    ///
    /// # Safety
    ///
    /// The number contains `count` that stand for blocks which are not used any more, or were never cut.
    #[inline]
    unsafe fn release(slab: NonNull<Self>, count: usize) {
        // SAFETY: a slab is there until its number is 0, and `count` of it are still the caller's.
        let before = unsafe { slab.as_ref() }.in_use.fetch_sub(count, Release);
        if before == count {
            // ThreadSanitizer does not know fences; a load of the same word does the same.
            #[cfg(not(thread_sanitizer))]
            fence(Acquire);
            #[cfg(thread_sanitizer)]
            // SAFETY: the number was not 0 before, so no other thread frees the slab.
            let _ = unsafe { slab.as_ref() }.in_use.load(Acquire);
            // SAFETY: the number is 0: no block is in use, and no thread cuts from the slab. It was
            // allocated with this layout.
            unsafe { dealloc(slab.as_ptr().cast(), SLAB) };
        }
    }
}

impl Current {
    #[inline]
    fn cut(&self, size: usize) -> (NonNull<u8>, Position) {
        let size = size.next_multiple_of(UNIT);
        let (slab, at) = match self.slab.get() {
            Some(slab) if self.next.get() + size <= SLAB.size() => (slab, self.next.get()),
            _ => (self.renew(), UNIT),
        };
        self.next.set(at + size);
        self.cut.set(self.cut.get() + 1);
        // SAFETY: `at + size` is at most the slab's size, so that is inside of it.
        let block = unsafe { slab.cast::<u8>().add(at) };
        (block, (at / UNIT) as Position)
    }

    #[cold]
    fn renew(&self) -> NonNull<Slab> {
        self.close();
        let slab = allocated(SLAB).cast::<Slab>();
        // SAFETY: it is new, large enough for a `Slab` and aligned to [`UNIT`], which is enough for one.
        unsafe { slab.write(Slab { in_use: AtomicUsize::new(OPEN) }) };
        self.slab.set(Some(slab));
        slab
    }

    /// Gives the slab up: nothing more is cut from it.
    fn close(&self) {
        if let Some(slab) = self.slab.take() {
            let never_cut = OPEN - self.cut.replace(0);
            // SAFETY: `OPEN` was added for blocks to come; those that were cut have their share of it.
            unsafe { Slab::release(slab, never_cut) };
        }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_all_sizes_do_not_overlap() {
        let mut blocks = Vec::new();
        for round in 0..if cfg!(miri) { 200usize } else { 2_000 } {
            let layout = Layout::from_size_align(1 + round % 300, 1 << (round % 5)).unwrap();
            let (block, position) = allocate(layout);
            assert_eq!(block.addr().get() % layout.align(), 0);
            // SAFETY: the block is so large.
            unsafe { block.write_bytes(round as u8, layout.size()) };
            blocks.push((block, position, layout, round as u8));
        }
        for (block, position, layout, byte) in blocks {
            for at in 0..layout.size() {
                // SAFETY: the block is so large, and was filled above.
                assert_eq!(unsafe { block.add(at).read() }, byte);
            }
            // SAFETY: it is from `allocate`, and not used any more.
            unsafe { free(block, layout, position) };
        }
    }

    #[test]
    fn blocks_outlive_their_thread_and_are_freed_by_others() {
        struct Block(NonNull<u8>, Position);
        // SAFETY: memory is not bound to a thread.
        unsafe impl Send for Block {}
        let layout = Layout::new::<[u64; 7]>();
        let (sender, blocks) = std::sync::mpsc::channel::<Block>();
        let makers: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    for _ in 0..if cfg!(miri) { 100 } else { 10_000 } {
                        let (block, position) = allocate(layout);
                        sender.send(Block(block, position)).unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        for Block(block, position) in blocks {
            // SAFETY: it is from `allocate`, and not used any more.
            unsafe { free(block, layout, position) };
        }
        makers.into_iter().for_each(|maker| maker.join().unwrap());
    }
}
