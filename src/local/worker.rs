//! The main function of a worker process, after the fork.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use super::UNFIT;
use super::control_block::{HIDES_PANICS, SharedControlBlock};
use super::parent_connection::ParentConnection;
use crate::core::context;
use crate::panic;
use crate::remote::frame::Kind;
use crate::remote::worker;
use crate::sys::{self, OwnedFd};
use crate::worker_info::WorkerInfo;

/// The resources and the identity that a worker begins with.
pub(crate) struct WorkerStart {
    /// Its end of the stream. It blocks.
    pub(crate) socket: OwnedFd,
    pub(crate) block: SharedControlBlock,
    pub(crate) name: String,
    /// Its place in a pool. `None`: it is a process of its own, with one call to make.
    pub(crate) info: Option<WorkerInfo>,
}

/// Settings for the report of this worker's panics.
static REPORT: OnceLock<Report> = OnceLock::new();

struct Report {
    name: String,
    hides_panics: bool,
}

/// Serves the pool until the end of the socket, or makes one call. Returns the exit code.
pub(crate) fn main(start: WorkerStart) -> i32 {
    let WorkerStart { socket, block, name, info } = start;
    let hides_panics = block.settings.load(Relaxed) & HIDES_PANICS != 0;
    let _first = REPORT.set(Report { name, hides_panics });
    panic::report_by(report);
    let Some(info) = info else { return make_one_call(socket, block) };
    info.become_process();
    let connection = ParentConnection::install(socket, block);
    match worker::serve(&connection) {
        Ok(()) => 0,
        Err(_the_pool_is_gone) => 1,
    }
}

/// The exit codes are those of a Rust program: with a value as one whose `main` returns, without one as
/// one whose `main` panics or returns an error.
fn make_one_call(socket: OwnedFd, block: SharedControlBlock) -> i32 {
    let connection = ParentConnection::without_pool(socket, block);
    let made = worker::serve_one(&connection);
    // Open until this process is gone: its owner takes the end of the socket for that of the process,
    // which still has handlers for its exit to run.
    std::mem::forget(connection);
    match made {
        Ok(Some(Kind::Value)) => 0,
        Ok(Some(Kind::Panicked)) => UNFIT, // that of a panic
        Ok(_) | Err(_) => 1,
    }
}

/// Prints a panic of the main thread as the standard library does, but under the worker's name: the thread
/// is older than the worker, and a thread can't be renamed.
fn report(info: &PanicHookInfo<'_>) -> bool {
    static IS_FIRST: AtomicBool = AtomicBool::new(true);

    let Some(Report { name, hides_panics }) = REPORT.get() else { return false };
    if *hides_panics && context::is_in_body() {
        return true;
    }
    // Where the program has called `init` it has come to `main`, which may have set a hook.
    if thread::current().name().is_some() {
        return false;
    }
    let (pid, text) = (std::process::id(), panic::text_of(info.payload()));
    let at = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
    let mut printed = format!("\nthread '{name}' ({pid}) panicked{at}:\n{text}\n");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        printed += &format!("stack backtrace:\n{backtrace}");
    } else if IS_FIRST.swap(false, Relaxed) {
        printed +=
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    }
    sys::print_to_stderr(&printed);
    true
}
