//! The start of a helper process, the zygote: checks in the pool's process, and the way from `main` in its own.
//!
//! The process is started with a variable in its environment. Before `main` a hook sees it
//! ([`hook`]), and the process never gets to `main`. Where that can't work, [`init`] does the
//! same, in `main`.
//!
//! What must not happen is that a process that was started as zygote runs the program's `main`, and
//! that its pools start more of the kind. So a pool is refused in a process in which neither the hook
//! nor `init` has run, and in one that still has the variable.

#[cfg(all(target_os = "linux", not(no_process_pool)))]
#[allow(unsafe_code)]
pub(crate) mod helper;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
#[allow(unsafe_code)]
pub(crate) mod hook;
#[cfg(all(test, target_os = "linux", not(no_process_pool)))]
#[allow(unsafe_code)]
pub(crate) mod tests;
#[cfg(not(all(target_os = "linux", not(no_process_pool))))]
pub(crate) mod unsupported;
pub(crate) mod zygote;

#[cfg(not(all(target_os = "linux", not(no_process_pool))))]
use self::unsupported::{helper, hook};

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::function::copy_name;
#[cfg(all(target_os = "linux", not(no_process_pool)))]
use crate::sys;

/// The variable by which a process knows that it is to be the zygote. Its value names the copy of this
/// crate that has started the process ([`copy_name`]): other copies in the program, be they of the same
/// version, take no notice of it.
pub(crate) const VARIABLE: &str = "CONCURRENT_FUTURES_ZYGOTE";

/// The hook has run in this process, or in the one it was forked from.
static HOOK_HAS_RUN: AtomicBool = AtomicBool::new(false);

/// [`init`] was called in this process, or in the one it was forked from.
static INIT_WAS_CALLED: AtomicBool = AtomicBool::new(false);

/// This is a zygote, not forked yet.
static IS_ZYGOTE: AtomicBool = AtomicBool::new(false);

/// Lets worker processes start in programs in which they can't do so by themselves.
///
/// **Most programs need not call this.** A [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) starts
/// the program once more, and a hook of this crate turns that process into the parent of the workers
/// before its `main` begins. That can't work where the crate is in a shared library (a Rust `dylib`) or
/// in a static library that a foreign linker has taken apart, nor in a static program that is linked to
/// a fixed address. Then a pool can't be created, and the error names this function: call it first
/// thing in `main`, before threads or an async runtime start. In the process that is to be the workers'
/// parent it does not return, and what `main` does before it, is done there as well. Otherwise it does
/// nothing.
///
/// ```
/// use concurrent_futures::ProcessPoolExecutor;
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///
///     let runtime = tokio::runtime::Runtime::new().unwrap();
///     runtime.block_on(async {
///         let pool = ProcessPoolExecutor::new()?;
///         // ...
/// #       drop(pool);
///         Ok(())
///     })
/// }
/// ```
pub fn init() {
    INIT_WAS_CALLED.store(true, Relaxed);
    #[cfg(all(target_os = "linux", not(no_process_pool)))]
    if is_asked_to_be_zygote() {
        become_zygote(|| ());
    }
}

/// Runs as the hook. `constructors` calls the constructors that come after it.
#[cfg(all(target_os = "linux", not(no_process_pool)))]
pub(crate) fn before_main(constructors: impl FnOnce()) {
    HOOK_HAS_RUN.store(true, Relaxed);
    // In this order: the look at the environment is cheap, and ends here in nearly all processes.
    if is_asked_to_be_zygote() && hook::is_in_charge() {
        become_zygote(constructors);
    }
}

/// Records that this process, a fork of the zygote, is a worker: it may have pools of its own.
#[cfg(all(target_os = "linux", not(no_process_pool)))]
pub(crate) fn become_worker() {
    IS_ZYGOTE.store(false, Relaxed);
}

/// Checks that this process can start worker processes. The error says what to do.
pub(crate) fn check_can_start() -> io::Result<()> {
    helper::can_start()?;
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::Unsupported, why.to_owned()));
    if IS_ZYGOTE.load(Relaxed) {
        return refuse(
            "the process from which workers are forked has no pools itself; create the pool in `main` or in a task, and not in a preloaded function or in code that runs before `main`",
        );
    }
    // A zygote removes the variable when it takes control, so neither the hook nor `init` has done
    // that here.
    if is_asked_to_be_zygote() {
        return refuse(
            "this process was started to fork workers, but has come as far as to create a pool; call `concurrent_futures::init()` first thing in `main`",
        );
    }
    let can_start_by_itself = || HOOK_HAS_RUN.load(Relaxed) && hook::is_in_charge();
    if !INIT_WAS_CALLED.load(Relaxed) && !can_start_by_itself() {
        return refuse(
            "worker processes can't start by themselves in this program, since the start-up hook of concurrent-futures is in a shared library, or was not linked, or can't see what else runs before `main`; call `concurrent_futures::init()` first thing in `main`",
        );
    }
    Ok(())
}

fn is_asked_to_be_zygote() -> bool {
    // The name is looked up only where the variable is set: that reads the images of the process.
    std::env::var(VARIABLE).is_ok_and(|value| copy_name().is_ok_and(|name| name == value))
}

/// Returns only if this process was not started by a pool.
#[cfg(all(target_os = "linux", not(no_process_pool)))]
fn become_zygote(constructors: impl FnOnce()) {
    match helper::take_control() {
        Ok(Some(control)) => {
            // Before constructors and the preloaded function run: a pool that these make is
            // refused.
            IS_ZYGOTE.store(true, Relaxed);
            crate::local::start::zygote::process::main(control, constructors)
        }
        // Stdin is no control socket, so the variable was set or inherited by mistake; or this
        // program has raised privileges. It runs, without pools.
        Ok(None) => {}
        // The socket is still on stdin: `take_control` leaves it there if it fails.
        Err(error) => crate::local::start::zygote::process::refuse(
            sys::stdin(),
            format!("the process that starts workers can't begin: {error}"),
        ),
    }
}
