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
    Ordering::Release,
};

use crate::sync::{Mutex, MutexGuard};

/// Number of forks between the first call of [`watch`] and this process, or a larger one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

pub(crate) fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// Has forks counted from now on.
pub(crate) fn watch() {
    // Not a `Once`: another thread may be within it when the process forks. Of two threads that are
    // here at once each adds a handler, and a fork counts twice, which is as good.
    static IS_WATCHED: AtomicBool = AtomicBool::new(false);
    if !IS_WATCHED.load(Acquire) {
        watch_forks();
        IS_WATCHED.store(true, Release);
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

/// A value that is made at its first use, and stays. Two threads that need it at once both make one,
/// and the first one counts. So none waits for another, which a forked child may not have: there a
/// `OnceLock` that another thread was about to set is so for ever.
pub(crate) struct FirstMade<T>(AtomicPtr<T>);

impl<T: Send + Sync> FirstMade<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // SAFETY: what is not null was made by `get_or_make`, which has left it to this cell, and is
        // freed only by the drop of `self`. Nothing changes it.
        unsafe { self.0.load(Acquire).as_ref() }
    }

    #[inline]
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        match self.get() {
            Some(made) => made,
            None => self.add(make()),
        }
    }

    #[cold]
    fn add(&self, made: T) -> &T {
        let made = Box::into_raw(Box::new(made));
        let first = match self.0.compare_exchange(null_mut(), made, AcqRel, Acquire) {
            Ok(_) => made,
            Err(first) => {
                // SAFETY: it was made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                first
            }
        };
        // SAFETY: as in `get`; it is what the cell has from now on.
        unsafe { &*first }
    }
}

impl<T> Drop for FirstMade<T> {
    fn drop(&mut self) {
        let made = *self.0.get_mut();
        if !made.is_null() {
            // SAFETY: `add` has made it, and nobody has a reference to it any more.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// As in a child, where the first thread is not there to end it.
    #[test]
    fn a_thread_that_makes_a_value_holds_up_no_other() {
        let cell = &FirstMade::new();
        let (begun, begins) = mpsc::channel();
        let (goes_on, go_on) = mpsc::channel();
        std::thread::scope(|scope| {
            let first = scope.spawn(move || {
                cell.get_or_make(|| {
                    begun.send(()).unwrap();
                    go_on.recv().unwrap();
                    "first begun"
                })
            });
            begins.recv().unwrap();
            assert_eq!(cell.get(), None);
            assert_eq!(*cell.get_or_make(|| "first made"), "first made");
            goes_on.send(()).unwrap();
            assert_eq!(*first.join().unwrap(), "first made");
        });
        assert_eq!(*cell.get_or_make(|| unreachable!("there is one")), "first made");
    }
}
