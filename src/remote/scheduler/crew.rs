//! The pool, as its maps need it. A map's drivers run on helper threads of the pool's process.

use std::sync::Arc;

use super::Pool;
use super::transport::Transport;
use crate::error::Error;
use crate::future::TaskFuture;
use crate::map::crew::{AfterChunk, Crew};

/// The crew of a map, which keeps a handle of the pool so that it stays open.
pub(crate) struct MapCrew<T: Transport, H> {
    pub(crate) pool: Arc<Pool<T>>,
    #[expect(dead_code, reason = "it is there to be dropped with the map")]
    pub(crate) handle: H,
}

impl<T: Transport, H: Send + Sync + 'static> Crew for MapCrew<T, H> {
    fn size(&self) -> usize {
        // One chunk in each worker's hands, and one on the way.
        2 * self.pool.config.max_workers
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.pool.is_open() { Ok(()) } else { Err(self.pool.refusal()) }
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>) -> TaskFuture<()> {
        self.pool.start_driver(driver)
    }

    fn after_chunk(&self) -> AfterChunk {
        if self.pool.has_given_up() { AfterChunk::GiveUp } else { AfterChunk::GoOn }
    }

    fn refusal(&self) -> Error {
        self.pool.withdrawal()
    }

    fn may_help(&self) -> bool {
        false
    }
}
