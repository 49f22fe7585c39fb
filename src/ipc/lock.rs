//! A lock between processes. In any process.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde_core::de::{Deserialize, Deserializer};
use serde_core::ser::{Serialize, Serializer};

use super::error::Error;
use super::held::Held;
use super::object::{Kind, Object};
use super::waiting::Waiting;
use super::waits::Look;
use crate::core::Awaited;

/// A lock that processes share: for a file, a device, or whatever else one of them may use at a time.
///
/// A clone is the same lock, and so is what arrives in another process: see [`ipc`](crate::ipc) for how it travels.
/// It has no value of its own; for one that is changed under a lock there is [`Value`](super::Value).
///
/// ```
/// use concurrent_futures::ipc::Lock;
///
/// fn append((file, line): (Lock, String)) {
///     let _locked = file.lock_blocking();
///     // .. open the file, and append the line.
///     # let _ = line;
/// }
///
/// let file = Lock::new()?;
/// // On a process pool: pool.submit(call!(append((file.clone(), line))))
/// append((file.clone(), "hello".to_owned()));
/// assert!(file.try_lock().is_some());
/// # Ok::<(), concurrent_futures::ipc::Error>(())
/// ```
///
/// # When a holder is killed
///
/// The kernel frees the lock, and the next holder learns of it by [`LockGuard::was_abandoned`]: what the lock protects
/// may be half done.
///
/// # Order
///
/// There is none among those who wait: one that asks at the right moment may be quicker than one that has waited for
/// long.
///
/// # Blocking
///
/// A lock does not recur: a holder that locks again waits for itself. In a task of a process pool that blocks for
/// a lock the worker's place is lent out meanwhile. A process that is stopped keeps what it holds.
#[derive(Clone)]
pub struct Lock(Arc<Object<Bare>>);

/// Nothing beside the lock.
struct Bare;

impl Kind for Bare {
    const MARK: u64 = u64::from_le_bytes(*b"lock0001");
    const EVENTS: usize = 0;
    const AWAITED: Awaited = Awaited::Lock;

    fn open(_: &[AtomicU64]) -> Option<Self> {
        Some(Self)
    }

    fn look(_: &Object<Self>, _: usize) -> Look {
        Look::None
    }
}

impl Lock {
    /// A new lock, which nobody holds.
    ///
    /// # Errors
    ///
    /// If the system refuses the memory, the descriptor, or a thread, which each process has that shares a lock.
    pub fn new() -> Result<Self, Error> {
        let lock = Object::create(1, 1, |_| ());
        lock.map(Self).map_err(Error::io("the lock can't be made"))
    }

    /// Locks, and waits while another has the lock.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn lock(&self) -> LockGuard {
        let mut waiting = Waiting::default();
        LockGuard(poll_fn(|cx| Held::poll(&self.0, &mut waiting, cx)).await)
    }

    /// Locks, unless another has the lock.
    pub fn try_lock(&self) -> Option<LockGuard> {
        Held::try_new(&self.0).map(LockGuard)
    }

    /// Locks, and blocks the thread while another has the lock.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock_blocking(&self) -> LockGuard {
        loop {
            // Without a deadline there is always a guard.
            if let Some(held) = Held::block(&self.0, None) {
                return LockGuard(held);
            }
        }
    }

    /// As [`lock_blocking`](Self::lock_blocking), for `limit` at most. `None`: another has the lock still.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn lock_timeout(&self, limit: Duration) -> Option<LockGuard> {
        // A limit beyond the clock's range is none.
        Held::block(&self.0, Instant::now().checked_add(limit)).map(LockGuard)
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl Serialize for Lock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize("Lock", "Lock", serializer)
    }
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize("Lock", "Lock", deserializer).map(Self)
    }
}

/// A [`Lock`] that is held, until this is dropped. That may be in another thread, and the guard may be held across an
/// `await`.
#[must_use = "the lock is free again as soon as this is dropped"]
pub struct LockGuard(Held<Object<Bare>>);

impl LockGuard {
    /// Returns whether the last holder was killed while it had the lock. Only the next one is told.
    pub fn was_abandoned(&self) -> bool {
        self.0.was_abandoned
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("was_abandoned", &self.was_abandoned()).finish()
    }
}
