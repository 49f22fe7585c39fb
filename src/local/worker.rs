//! The main function of a worker process, after the fork.

use super::control_block::SharedControlBlock;
use super::parent_connection::ParentConnection;
use crate::remote::worker;
use crate::sys::OwnedFd;
use crate::worker_info::WorkerInfo;

/// What a worker begins with.
pub(crate) struct WorkerStart {
    /// Its end of the stream. It blocks.
    pub(crate) socket: OwnedFd,
    pub(crate) block: SharedControlBlock,
    pub(crate) info: WorkerInfo,
}

/// Serves the pool until the end of the socket. Returns the exit code.
pub(crate) fn main(start: WorkerStart) -> i32 {
    start.info.become_process();
    let connection = ParentConnection::install(start.socket, start.block);
    match worker::serve(&connection) {
        Ok(()) => 0,
        Err(_the_pool_is_gone) => 1,
    }
}
