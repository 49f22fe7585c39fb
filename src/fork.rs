//! Forks of this process. A child has of its parent all memory, and none of the threads but one.
//!
//! So what stands for a thread, a lock that another thread may have held, and all that a pool knows of
//! its workers, is wrong in the child, and stays so. A handler of `fork` counts, and an [`Own`] gives
//! each process a value of its own; to look at the count costs a load.
//!
//! A process that was made by the bare system call is not noticed.

use std::ptr::null_mut;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use crate::sync::{Mutex, MutexGuard};

/// Number of forks between the first call of [`watch`] and this process.
static GENERATION: AtomicU32 = AtomicU32::new(0);

pub(crate) fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// Has forks counted from now on.
pub(crate) fn watch() {
    // Not a `Once`: another thread may be within it when the process forks.
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.load(Relaxed) && !IS_WATCHED.swap(true, Relaxed) {
        watch_forks();
    }
}

/// Miri knows neither forks nor the handler.
#[cfg(all(unix, not(miri)))]
fn watch_forks() {
    type Handler = Option<unsafe extern "C" fn()>;

    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> std::ffi::c_int;
    }

    unsafe extern "C" fn in_child() {
        GENERATION.fetch_add(1, Relaxed);
    }

    // SAFETY: this is the function's signature in C. The handler only touches an atomic, which it may
    // at any time; it is there as long as the program's image is, and if that is unloaded before, the
    // C library forgets the handler with it.
    let _no_memory = unsafe { pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(not(all(unix, not(miri))))]
fn watch_forks() {}

/// A value of which each process has its own. The one in `home` belongs to the process that has made
/// this; in one that is forked from it `make` makes another, when it is first wanted.
pub(crate) struct Own<T> {
    home: T,
    generation: u32,
    make: fn() -> T,
    /// The value of this process, if it is not at home; or that of the process which it was forked from.
    abroad: AtomicPtr<Abroad<T>>,
}

struct Abroad<T> {
    value: T,
    generation: u32,
}

impl<T> Own<T> {
    pub(crate) fn new(home: T, make: fn() -> T) -> Self {
        watch();
        Self { home, generation: generation(), make, abroad: AtomicPtr::new(null_mut()) }
    }

    /// For a static. Whoever starts a thread that it stands for calls [`watch`].
    pub(crate) const fn from_start(home: T, make: fn() -> T) -> Self {
        Self { home, generation: 0, make, abroad: AtomicPtr::new(null_mut()) }
    }

    /// Returns whether this process has made it.
    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        self.generation == generation()
    }

    #[inline]
    pub(crate) fn get(&self) -> &T {
        if self.is_home() { &self.home } else { self.abroad() }
    }

    #[cold]
    fn abroad(&self) -> &T {
        let generation = generation();
        loop {
            let there = self.abroad.load(Acquire);
            // SAFETY: what is not null was made below, and is freed only by the drop of `self`. One
            // that another has taken the place of is never freed.
            if let Some(abroad) = unsafe { there.as_ref() } {
                if abroad.generation == generation {
                    return &abroad.value;
                }
            }
            let new = Box::into_raw(Box::new(Abroad { value: (self.make)(), generation }));
            if self.abroad.compare_exchange(there, new, AcqRel, Relaxed).is_err() {
                // SAFETY: it was made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}

impl<T> Own<Mutex<T>> {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.get().lock()
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        let abroad = *self.abroad.get_mut();
        if !abroad.is_null() {
            // SAFETY: `abroad` has made it, and nobody has a reference to it any more.
            drop(unsafe { Box::from_raw(abroad) });
        }
    }
}
