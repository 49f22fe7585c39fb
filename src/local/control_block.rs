//! The control block: one page of memory that a worker and its pool both have mapped, so that the pool can
//! read it after the death of the worker. Both ends.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire};

use crate::remote::slots::SLOTS;
use crate::sys::{ExitStatus, Shareable, SharedMemory};

/// The causes of a fault, as [`ControlBlock::cause`] has them. 0 is none.
pub(crate) const FAULT: u32 = 1;
pub(crate) const STACK_OVERFLOW: u32 = 2;

/// A worker retires when a job has panicked.
pub(crate) const RETIRES_AFTER_PANIC: u32 = 1;

/// The panics of jobs are not printed.
pub(crate) const HIDES_PANICS: u32 = 2;

/// The control block. A new one is all zeros.
///
/// What a worker has written may be anything: it may have gone wrong before it died.
#[repr(C)]
pub(crate) struct ControlBlock {
    /// The kind of the worker's last fault. If the worker has ended otherwise than by `signal`, the program
    /// has a handler of its own, which has dealt with the fault: the one of the standard library,
    /// which is there if [`init`](crate::init) was needed, aborts after a stack overflow.
    pub(crate) cause: AtomicU32,
    /// The signal of that fault.
    pub(crate) signal: AtomicU32,
    /// The address that could not be accessed.
    pub(crate) address: AtomicU64,
    /// The number of the worker's process, from its start on.
    pub(crate) pid: AtomicU32,
    /// The most verbose level of events that a subscriber in the pool's process wants: 0 is none, 5
    /// is all.
    pub(crate) level: AtomicU32,
    /// Maximum number of workers of the pool. Set before the worker starts.
    pub(crate) max_workers: AtomicU32,
    /// Settings of the pool, of [`RETIRES_AFTER_PANIC`] and others. Set before the worker starts.
    pub(crate) settings: AtomicU32,
    /// The claim of the task in each slot.
    pub(crate) claims: [AtomicU32; SLOTS],
    /// The start of the task in each slot, in nanoseconds of [`claim::now`](super::claim::now); 0
    /// if it has not started.
    pub(crate) started_at: [AtomicU64; SLOTS],
}

/// The memory of one worker, as this process has it mapped.
pub(crate) type SharedControlBlock = SharedMemory<ControlBlock>;

// SAFETY: the control block is `repr(C)`, consists of integer atomics, for which any bytes are a value, and is
// shorter than a page of memory: `SharedMemory` checks that.
unsafe impl Shareable for ControlBlock {}

impl ControlBlock {
    /// Returns whether `signal` killed the worker because its main stack overflowed.
    pub(crate) fn is_stack_overflow(&self, signal: i32) -> bool {
        // The handler writes `cause` last, so it is read first. SIGABRT is how the handler of the
        // standard library, where it comes second, ends the process after an overflow.
        self.cause.load(Acquire) == STACK_OVERFLOW
            && (self.signal.load(Acquire) == signal.unsigned_abs()
                || ExitStatus::Signal(signal) == ExitStatus::ABORTED)
    }
}
