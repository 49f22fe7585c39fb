//! Locks as this crate uses them, and what else the models have doubles of.
//!
//! No user code ever runs while one of these locks is held, so a lock can only be poisoned by a
//! bug of this crate. The wrappers take the value of a poisoned lock all the same: one task that
//! meets such a bug must not take the pool with it.

use std::sync::PoisonError;
use std::time::Instant;

pub(crate) use std::sync::{MutexGuard, atomic};
pub(crate) use std::thread;

/// The first looks of a thread that watches follow each other at once: a few microseconds in all,
/// in which the next task often comes.
const SPINS: u32 = 64;

/// Number of looks of a worker without a task before it sleeps: some 50 microseconds on an
/// idle CPU.
pub(crate) const WATCH_ROUNDS: u32 = SPINS + 320;

/// Between two looks at what another thread is about to change; `round` counts them.
pub(crate) fn pause(round: u32) {
    if round < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// Memory that is shared by a protocol of its own. The models check that protocol, and so have
/// another one in this place.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

#[derive(Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "process")]
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        match self.0.wait_timeout(guard, limit) {
            Ok((guard, _)) => guard,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// Waits until `until` at the latest, under this lock, which the models' double has to take again itself.
    pub(crate) fn wait_until<'a, T>(
        &self,
        _lock: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        until: Instant,
    ) -> MutexGuard<'a, T> {
        self.wait_timeout(guard, until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}
