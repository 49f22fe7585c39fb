//! The handler of faults in a worker: it notes a fault in the [`ControlBlock`], and lets the signal take its
//! course. Installed by the zygote, from which workers have it.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicUsize};

use libc::{c_int, c_void, sigaction, siginfo_t, stack_t};
use rustix::process::{Resource, getrlimit};

use super::control_block::{ControlBlock, FAULT, STACK_OVERFLOW, SharedControlBlock};
use crate::sys::SingleThreaded;

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// The kernel keeps this much free below a stack (`stack_guard_gap`). What overflows a stack hits it
/// first, unless it leaps.
const GAP: usize = 1024 * 1024;

/// Size in bytes of the stack that the handler runs on, for the thread's own may be used up:
/// several times what the registers of any processor need. It takes memory only once it is used.
const STACK: usize = 64 * 1024;

/// The control block in which this process notes its faults; null in the zygote. Set once by each
/// worker.
static BLOCK: AtomicPtr<ControlBlock> = AtomicPtr::new(null_mut());

/// The lowest address that the main thread's stack may grow to.
static STACK_END: AtomicUsize = AtomicUsize::new(0);

/// A value that is written before there is a second thread or a fault, and then left alone.
struct Early<T>(UnsafeCell<T>);

// SAFETY: `install` writes, in a process with one thread. The handler reads, and `install` has
// installed it after it wrote.
unsafe impl<T> Sync for Early<T> {}

static HANDLER_STACK: Early<[u8; STACK]> = Early(UnsafeCell::new([0; STACK]));

/// The earlier action of each of the signals.
static EARLIER: Early<[MaybeUninit<sigaction>; SIGNALS.len()]> =
    Early(UnsafeCell::new([MaybeUninit::uninit(); SIGNALS.len()]));

/// Installs the handler, for this process and those that it forks. An earlier handler, such as a
/// sanitizer's, still gets its turn.
pub(crate) fn install(_: &SingleThreaded) -> io::Result<()> {
    STACK_END.store(stack_end(), Relaxed);
    // SAFETY: zeros are a value of these types. The calls get valid places, and a stack that nobody
    // else uses. No other thread is there, and no fault of this one leads to the handler until the
    // first `sigaction`, by which time that signal's earlier action is written.
    unsafe {
        let mut stack: stack_t = zeroed();
        checked(libc::sigaltstack(null(), &mut stack))?;
        // A stack that a library has set up for its own handler is used as it is.
        if stack.ss_flags & libc::SS_DISABLE != 0 {
            let base = HANDLER_STACK.0.get().cast();
            stack = stack_t { ss_sp: base, ss_flags: 0, ss_size: STACK };
            checked(libc::sigaltstack(&stack, null_mut()))?;
        }
        let mut action: sigaction = zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for (signal, earlier) in SIGNALS.into_iter().zip(&mut *EARLIER.0.get()) {
            checked(libc::sigaction(signal, null(), earlier.as_mut_ptr()))?;
            checked(libc::sigaction(signal, &action, null_mut()))?;
        }
    }
    Ok(())
}

/// Has faults of this process noted in `block`, which stays mapped from now on.
pub(crate) fn write_to(block: &SharedControlBlock) {
    BLOCK.store(std::ptr::from_ref(block.pin()).cast_mut(), Release);
}

/// Notes a fault, and hands the signal to its earlier action. Uses only what is allowed in a
/// handler: atomics and system calls.
extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a description of the signal, which has an address if it is a fault.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Codes of 0 and below are of `kill` and its like, which report no fault.
    let is_fault = code > 0;
    // SAFETY: null, or a control block that was pinned: it stays mapped until the end of the process.
    let block = unsafe { BLOCK.load(Relaxed).as_ref() };
    if let (Some(block), true) = (block, is_fault) {
        let end = STACK_END.load(Relaxed);
        // An end of 0 means that it is not known; no fault counts as an overflow.
        let is_overflow = end.checked_sub(GAP).is_some_and(|gap| (gap..end).contains(&address));
        block.address.store(address as u64, Relaxed);
        block.signal.store(signal.unsigned_abs(), Relaxed);
        // `cause` last, with `Release`: a reader that finds it set finds the other two.
        block.cause.store(if is_overflow { STACK_OVERFLOW } else { FAULT }, Release);
    }
    let at = SIGNALS.iter().position(|known| *known == signal);
    // SAFETY: `install` has written the earlier actions before it installed this handler. `raise` and
    // `sigaction` may be called in handlers.
    unsafe {
        if let Some(earlier) = at.and_then(|at| (*EARLIER.0.get()).get(at)) {
            libc::sigaction(signal, earlier.as_ptr(), null_mut());
        }
        if !is_fault {
            libc::raise(signal); // is delivered on return
        } // and what has faulted does so again
    }
}

/// The lowest address of the main thread's stack, 0 if it is not known.
///
/// The kernel puts the program's path, which it tells, at the top of the stack, with one more word
/// above it, and lets the stack grow as far down from there as the limit says. `pthread_getattr_np`
/// would have to read the memory map for that (glibc), or tells how far it has grown so far (musl).
fn stack_end() -> usize {
    let Some(limit) = getrlimit(Resource::Stack).current else { return 0 };
    // SAFETY: `getauxval` reads what the kernel has told this process at its start. That is 0 or a
    // pointer to a path which nothing has changed since.
    let (page, path) = unsafe {
        let path = libc::getauxval(libc::AT_EXECFN) as usize;
        let path = std::ptr::with_exposed_provenance::<c_char>(path);
        if path.is_null() {
            return 0;
        }
        (libc::getauxval(libc::AT_PAGESZ) as usize, CStr::from_ptr(path))
    };
    let top = path.as_ptr().addr() + path.count_bytes() + 1 + size_of::<usize>();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    top.next_multiple_of(page.max(1)).saturating_sub(limit)
}

fn checked(answer: c_int) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
