//! The pool that the pictures are computed on: how many may wait, for how long, and how it ends.

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use concurrent_futures::dump::Dump;
use concurrent_futures::{
    AnyExecutor, Error, ExecutorService, Metrics, ProcessPoolExecutor, Shutdown, ShutdownReport,
    ThreadPoolExecutor, call,
};
use rustix::process::{getpriority_process, setpriority_process};

use crate::failure::Failure;
use crate::peers;
use crate::picture::thumbnail;

/// A client waits for so long; what comes later is of no use.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// How many requests may wait, so that each that does is answered in time.
///
/// Whoever is last in a full queue waits until all before it are done. `workers` that are always
/// busy finish `workers / time` requests per second, so that takes `capacity × time / workers`
/// (Little's law: how many wait = how many leave per second × how long each waits). Turned round:
///
/// ```text
/// capacity = workers × wait / time
/// ```
///
/// Half of the time that a client waits goes to the queue. The other half is for the computation,
/// for HTTP, for pictures that are larger than the usual one, and for what else the CPUs do. A
/// longer queue makes no more answers, only later ones.
pub fn queue_capacity(workers: usize, time: Duration) -> usize {
    let wait = ANSWER_WITHIN / 2;
    let capacity = workers as f64 * wait.as_secs_f64() / time.as_secs_f64();
    (capacity as usize).max(1)
}

/// Until when a computation is worth beginning. The last quarter is for itself: without that, a
/// service that others take CPUs from would compute one answer after the other that is just too late.
fn begin_within(within: Duration) -> Duration {
    within * 3 / 4
}

/// A pool of threads.
///
/// # Errors
///
/// [`Error::InvalidSetting`] if there are no workers or no room.
pub fn threads(workers: usize, queue_capacity: usize) -> Result<ThreadPoolExecutor, Error> {
    ThreadPoolExecutor::builder()
        .max_workers(workers)
        .queue_capacity(queue_capacity)
        .name("thumbnail")
        .initializer(stand_back)
        .build()
}

/// The same on processes: no picture, however malformed, can take the service down with it.
///
/// # Errors
///
/// As [`threads`], and if worker processes can't be started here.
pub fn processes(workers: usize, queue_capacity: usize) -> Result<ProcessPoolExecutor, Error> {
    ProcessPoolExecutor::builder()
        .max_workers(workers)
        .queue_capacity(queue_capacity)
        .name("thumbnail")
        .initializer(call!(stand_back()))
        .build()
}

/// Gives this thread a lower priority than the others of the service have.
///
/// The workers keep all CPUs busy, and the threads that speak HTTP need a little of them, at once.
/// With the same priority they would wait for the end of a worker's time slice, some milliseconds
/// each time. The workers lose nothing by it: they get all that HTTP leaves, as before.
pub(crate) fn stand_back() -> io::Result<()> {
    // On Linux, and without a process id, this is about the calling thread alone.
    let usual = getpriority_process(None)?;
    setpriority_process(None, usual + 10)?;
    Ok(())
}

/// What runs the computations. Clones share it.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Threads or worker processes of this crate.
    Pool(AnyExecutor),
    /// Tokio's threads for blocking calls. No bound, no deadline: see `peers.rs`.
    SpawnBlocking,
    /// A rayon pool, and a channel for each answer. No bound, no deadline: see `peers.rs`.
    Rayon(Arc<rayon::ThreadPool>),
}

impl Backend {
    /// A thumbnail of the picture, or why there is none.
    ///
    /// If this future is dropped, because the client has hung up, the [`TaskFuture`] in it is
    /// dropped too. That withdraws the task from the queue, and the next request has its place.
    ///
    /// [`TaskFuture`]: concurrent_futures::TaskFuture
    ///
    /// # Errors
    ///
    /// At once if the queue is full; and if the computation could not be begun while there was time
    /// for it, then it never is.
    pub async fn thumbnail(
        &self,
        picture: Bytes,
        width: u32,
        within: Duration,
    ) -> Result<Bytes, Failure> {
        let thumbnail = match self {
            Self::Pool(pool) => {
                let task = pool.task().label("thumbnail").queue_timeout(begin_within(within));
                task.submit(call!(thumbnail(picture, width))).await?
            }
            Self::SpawnBlocking => peers::spawn_blocking(move || thumbnail(picture, width)).await?,
            Self::Rayon(pool) => peers::rayon(pool, move || thumbnail(picture, width)).await?,
        };
        thumbnail.map_err(Failure::BadPicture)
    }

    /// Takes no more requests and finishes those that it has, within the limit. Then it gives up
    /// what has not begun, and the report names what still runs. `None`: it can't tell.
    pub async fn shutdown(&self, limit: Duration) -> Option<ShutdownReport> {
        match self {
            Self::Pool(pool) => Some(pool.shutdown(Shutdown::Drain).deadline(limit).await),
            Self::SpawnBlocking | Self::Rayon(_) => None,
        }
    }

    /// The pool's counters. `None`: it has none.
    pub fn metrics(&self) -> Option<Metrics> {
        match self {
            Self::Pool(pool) => Some(pool.metrics()),
            Self::SpawnBlocking | Self::Rayon(_) => None,
        }
    }

    /// Who runs what since when, and what waits, for whoever wonders why the service is slow.
    /// `None`: it can't tell.
    pub fn dump(&self) -> Option<Dump> {
        match self {
            Self::Pool(pool) => Some(pool.dump()),
            Self::SpawnBlocking | Self::Rayon(_) => None,
        }
    }
}

/// The choice of a backend, by its name on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "see Backend")]
pub enum Kind {
    #[default]
    Threads,
    Processes,
    SpawnBlocking,
    Rayon,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Threads, Self::Processes, Self::SpawnBlocking, Self::Rayon];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Processes => "processes",
            Self::SpawnBlocking => "spawn-blocking",
            Self::Rayon => "rayon",
        }
    }

    /// Makes the backend. The last two have no use for a capacity.
    ///
    /// # Errors
    ///
    /// Why the pool can't be made.
    pub fn build(
        self,
        workers: usize,
        queue_capacity: usize,
    ) -> Result<Backend, Box<dyn std::error::Error + Send + Sync>> {
        Ok(match self {
            Self::Threads => Backend::Pool(threads(workers, queue_capacity)?.into()),
            Self::Processes => Backend::Pool(processes(workers, queue_capacity)?.into()),
            Self::SpawnBlocking => Backend::SpawnBlocking,
            Self::Rayon => Backend::Rayon(Arc::new(peers::rayon_pool(workers)?)),
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        let names = || Self::ALL.map(Self::name).join(", ");
        known.ok_or_else(|| format!("there is no backend {name}; take one of {}", names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_worked_off_in_half_of_the_time() {
        let time = Duration::from_millis(10);
        assert_eq!(queue_capacity(1, time), 25);
        assert_eq!(queue_capacity(8, time), 200);
        assert_eq!(queue_capacity(2, Duration::from_secs(60)), 1, "never none");
    }

    #[test]
    fn every_backend_has_a_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("fork".parse::<Kind>().is_err_and(|text| text.contains("spawn-blocking")));
    }
}
