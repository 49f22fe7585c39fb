//! The settings of a pool that do not depend on what carries its calls. In the pool's process.

use std::sync::Arc;
use std::time::Duration;

use crate::core::OnUnobserved;
use crate::instruments::Instruments;
use crate::remote::frame::Content;

pub(crate) struct Config {
    pub(crate) max_workers: usize,
    pub(crate) min_workers: usize,
    /// Places that are lent out at most by tasks that wait for other processes.
    pub(crate) max_waiting: usize,
    pub(crate) name: String,
    pub(crate) initializer: Option<Arc<Content>>,
    pub(crate) finalizer: Option<Arc<Content>>,
    pub(crate) max_tasks_per_worker: Option<usize>,
    pub(crate) queue_capacity: Option<usize>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) on_unobserved: OnUnobserved,
    pub(crate) instruments: Instruments,
}
