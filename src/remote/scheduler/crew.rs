//! The pool, as its maps need it. A map's drivers run on helper threads of the pool's process.

use std::sync::Arc;

use super::Pool;
use super::transport::Transport;
use crate::error::Error;
use crate::future::TaskFuture;
use crate::label::Label;
use crate::lifecycle::Accepting;
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
        self.pool.check_open()
    }

    fn start(&self, driver: Box<dyn FnOnce() + Send>, _label: Option<&Label>) -> TaskFuture<()> {
        self.pool.start_driver(driver)
    }

    fn after_chunk(&self) -> AfterChunk {
        let goes_on = self.pool.life(|life| life.goes_on());
        if goes_on { AfterChunk::GoOn } else { AfterChunk::GiveUp }
    }

    fn refusal(&self) -> Error {
        self.pool.withdrawal()
    }

    fn may_help(&self) -> bool {
        // The thread that waits for a map is none of its workers.
        false
    }
}
