//! The buffers of the C library, and stderr.

use std::ffi::c_int;
use std::ptr::null_mut;

use libc::FILE;

use super::process::SingleThreaded;

// Of POSIX; the crate `libc` lacks them.
unsafe extern "C" {
    static stdout: *mut FILE;
    fn ftrylockfile(stream: *mut FILE) -> c_int;
    fn funlockfile(stream: *mut FILE);
}

/// Writes what is in the buffer of C's `stdout`, unless another thread has the stream locked: that
/// thread may keep it for ever, and the buffer is its own then.
pub(crate) fn flush_c_stdout() {
    // SAFETY: the C library initialises `stdout` before any code of the program runs, and the stream
    // stays valid unless the program closes it, after which any use of it would be wrong. The lock can
    // be taken again by its owner, which is this thread from `ftrylockfile` to `funlockfile`.
    unsafe {
        if ftrylockfile(stdout) == 0 {
            libc::fflush(stdout);
            funlockfile(stdout);
        }
    }
}

/// Writes what is in the buffers of all of C's streams.
///
/// With other threads this could wait for ever: for one that blocks in a read, which keeps its
/// stream locked.
pub(crate) fn flush_c_streams(_: &SingleThreaded) {
    // SAFETY: a null pointer stands for all streams.
    unsafe { libc::fflush(null_mut()) };
}

/// Writes to stderr without the lock of the standard library, which another thread may have.
pub(crate) fn print_to_stderr(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), rest) {
            Ok(count @ 1..) => rest = &rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}
