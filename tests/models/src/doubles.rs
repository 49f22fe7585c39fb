//! What stands in the models in place of parts of the crate.

pub(crate) mod sync {
    use std::sync::PoisonError;

    pub(crate) use loom::sync::{MutexGuard, atomic};

    /// One look before sleep: more would be more orders of the same kind.
    pub(crate) const WATCH_ROUNDS: u32 = 1;

    pub(crate) fn pause(_round: u32) {
        loom::thread::yield_now();
    }

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// Finds accesses that nothing orders.
    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            self.0.with(f)
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(f)
        }
    }
}

pub(crate) mod clock {
    pub(crate) fn now() -> u64 {
        0
    }
}

pub(crate) mod timer {
    use std::time::{Duration, Instant};

    /// Never runs out.
    pub(crate) struct Timer;

    impl Timer {
        pub(crate) fn new(_at: Instant, _action: Box<dyn FnOnce() + Send>) -> Self {
            Self
        }
    }

    pub(crate) fn deadline(limit: Duration) -> Instant {
        Instant::now() + limit
    }
}

pub(crate) mod context {
    use std::rc::Rc;
    use std::sync::Arc;

    use crate::core::cell::TaskRef;

    pub(crate) trait WorkerContext {
        fn host(&self) -> *const ();
        fn has_stack(&self) -> bool;
        fn started(&self, task: &TaskRef, first: bool, label: Option<&Arc<str>>) -> u64;
        fn stopped(&self, since: u64, end: End);
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum End {
        Completed,
        Failed,
        Uncounted,
    }

    pub(crate) fn worker() -> Option<Rc<dyn WorkerContext>> {
        None
    }

    pub(crate) fn run_in_frame<R>(_: &TaskRef, _asynchronous: bool, f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// Every block is the allocator's own, which tells loom nothing and valgrind all.
pub(crate) mod slab {
    use std::alloc::{Layout, alloc, dealloc};
    use std::ptr::NonNull;

    pub(crate) type Position = u8;

    pub(crate) fn allocate(layout: Layout) -> (NonNull<u8>, Position) {
        // SAFETY: no block is empty.
        (NonNull::new(unsafe { alloc(layout) }).expect("there is memory"), 0)
    }

    /// # Safety
    ///
    /// The block is from `allocate`, with this layout.
    pub(crate) unsafe fn free(block: NonNull<u8>, layout: Layout, _position: Position) {
        // SAFETY: as above.
        unsafe { dealloc(block.as_ptr(), layout) };
    }
}
