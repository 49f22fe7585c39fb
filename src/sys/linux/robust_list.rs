//! The robust list, from which the kernel frees the locks of a process that dies, however it does. In any process.
//!
//! The list belongs to a thread: when that ends, the kernel goes through it, and marks each lock that the thread
//! holds (`get_robust_list(2)`, and `Documentation/locking/robust-futex-ABI.rst` in the kernel's source). Here it
//! belongs to a *keeper*, a thread that sleeps until the process ends, and that stands for the whole process:
//! whichever thread locks writes the keeper's number into the lock.
//!
//! The kernel follows the list's pointers. glibc's robust mutexes have them beside the locks, in the shared
//! memory, where a process that went wrong could have the next one write anywhere. Here the nodes are in memory of
//! this process's own, each at the same [`DISTANCE`] before its lock.

use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed, Ordering::Release};
use std::sync::mpsc;

use super::signals;

/// From a node to its lock, in bytes.
pub(super) const DISTANCE: usize = 2 << 20;

/// The most nodes of a keeper. The kernel takes a list of more than 2,048 for a circle.
const MOST_NODES: usize = 2000;

/// An entry of the list; the kernel's `struct robust_list`.
#[repr(C)]
pub(super) struct Node {
    next: AtomicPtr<Node>,
}

impl Node {
    /// Returns whether it is in a list, if its memory began with zeros.
    pub(super) fn is_linked(&self) -> bool {
        !self.next.load(Relaxed).is_null()
    }
}

/// The kernel's `struct robust_list_head`.
#[repr(C)]
struct Head {
    /// The list, which ends where it begins: here.
    list: Node,
    offset: isize,
    /// For locks that are taken before they are in the list. Here they are in it all the time.
    pending: *mut Node,
}

/// The sleeping thread, and its list.
pub(super) struct Keeper {
    /// The thread's number, in which a lock has two bits for other things.
    pub(super) thread: u32,
    head: NonNull<Head>,
    nodes: usize,
}

// SAFETY: the head stays to the end of the process, and what this one changes of the list is atomic.
unsafe impl Send for Keeper {}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name("cf-keeper".to_owned());
        thread.spawn(move || {
            let _ = tell.send(signals::block_all().and_then(|()| Self::register()));
            loop {
                std::thread::park();
            }
        })?;
        told.recv().map_err(|_| io::Error::other("the keeper's thread has ended"))?
    }

    /// Makes the calling thread a keeper.
    fn register() -> io::Result<Self> {
        // The kernel that runs a 32-bit program may have another layout.
        if cfg!(not(target_pointer_width = "64")) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Never freed: the kernel reads it when the thread ends.
        let head = NonNull::from(Box::leak(Box::new(Head {
            list: Node { next: AtomicPtr::new(null_mut()) },
            offset: DISTANCE as isize,
            pending: null_mut(),
        })));
        // SAFETY: it was made above, and is never freed.
        unsafe { head.as_ref() }.list.next.store(head.as_ptr().cast(), Relaxed);
        // SAFETY: the head is as the kernel has it, of that length, and stays until the thread is gone; so does each
        // node that it leads to, by the contract of `link`.
        let set =
            unsafe { libc::syscall(libc::SYS_set_robust_list, head.as_ptr(), size_of::<Head>()) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        Ok(Self { thread, head, nodes: 0 })
    }

    pub(super) fn has_room(&self) -> bool {
        self.nodes < MOST_NODES
    }

    fn first(&self) -> &AtomicPtr<Node> {
        // SAFETY: it is never freed, and of its list all that is ever written is atomic.
        unsafe { &(*self.head.as_ptr()).list.next }
    }

    /// Adds a node: the lock behind it is freed when this process dies.
    ///
    /// # Safety
    ///
    /// The node is in no list. Until it is [unlinked](Self::unlink) it can be written to and is used for nothing
    /// else, and [`DISTANCE`] bytes behind it is an `AtomicU32`.
    pub(super) unsafe fn link(&mut self, node: NonNull<Node>) {
        let first = self.first();
        // SAFETY: the caller's promise.
        unsafe { node.as_ref() }.next.store(first.load(Relaxed), Relaxed);
        // A process that is killed here has a whole list, with the node or without it.
        first.store(node.as_ptr(), Release);
        self.nodes += 1;
    }

    /// Takes a node out again.
    ///
    /// # Safety
    ///
    /// It is in this list.
    pub(super) unsafe fn unlink(&mut self, node: NonNull<Node>) {
        let mut before = self.first();
        while before.load(Relaxed) != node.as_ptr() {
            // SAFETY: a node of the list, which the one that is looked for is behind, and nodes in it stay where
            // they are.
            before = unsafe { &(*before.load(Relaxed)).next };
        }
        // SAFETY: it is still in the list.
        let behind = unsafe { node.as_ref() }.next.load(Relaxed);
        before.store(behind, Release);
        // SAFETY: as above; the list does not lead to it any more.
        unsafe { node.as_ref() }.next.store(null_mut(), Relaxed);
        self.nodes -= 1;
    }
}

/// Returns whether there is a thread of this number.
pub(super) fn is_thread(number: u32) -> bool {
    // SAFETY: signal 0 is none; a number without a thread, or one that this process may not signal, is an error.
    let sent = unsafe { libc::syscall(libc::SYS_tkill, number, 0) };
    sent == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
