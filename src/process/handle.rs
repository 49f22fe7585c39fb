//! The controls of a process without its value. In the process that has spawned it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::exit::ProcessExit;
use super::host::Host;
use crate::core::TaskId;
use crate::error::Error;
use crate::fork::Own;
use crate::future::{Completer, TaskFuture};
use crate::remote::scheduler::transport::EndBy;
use crate::shared_task::SharedTask;
use crate::sync::Mutex;

/// The controls of a [`Process`](crate::Process) without its value: to wait for its end, or to end it. From
/// [`Process::handle`](crate::Process::handle) and [`Process::running`](crate::Process::running).
///
/// Clones are handles of the same process. Dropping one does nothing to it.
///
/// ```
/// use concurrent_futures::{Process, call};
///
/// fn endless() {
///     loop {
///         std::thread::park();
///     }
/// }
///
/// # futures::executor::block_on(async {
/// let process = Process::spawn(call!(endless()));
/// let handle = process.handle();
/// let watcher = std::thread::spawn(move || handle.join_blocking());
/// process.kill();
/// assert_eq!(watcher.join().unwrap().signal(), Some(9));
/// # });
/// ```
#[derive(Clone)]
pub struct ProcessHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: String,
    place: Mutex<Place>,
    pub(super) pid: OnceLock<u32>,
    started: SharedTask<u32>,
    exited: SharedTask<ProcessExit>,
}

#[derive(Default)]
struct Place {
    /// The host, and its number for the process, once that was asked for.
    at: Option<(Weak<Host>, u32)>,
    /// The way in which the process was ended, which may have been before it was asked for.
    ended_by: Option<EndBy>,
}

/// The sides of a handle's results that give these.
pub(super) struct Progress {
    pub(super) started: Option<Completer<u32>>,
    pub(super) exited: Completer<ProcessExit>,
}

/// The processes that were spawned and whose end is not known.
static RUNNING: Own<Mutex<BTreeMap<TaskId, ProcessHandle>>> =
    Own::from_start(Mutex::new(BTreeMap::new()), Mutex::default);

impl ProcessHandle {
    pub(super) fn new(name: String) -> (Self, Progress) {
        let (to_start, started) = TaskFuture::promise();
        let (to_exit, exited) = TaskFuture::promise();
        let (started, exited) = (started.shared(), exited.shared());
        let (place, pid) = (Mutex::default(), OnceLock::new());
        let shared = Arc::new(Shared { name, place, pid, started, exited });
        (Self { shared }, Progress { started: Some(to_start), exited: to_exit })
    }

    /// Enters it among those that run.
    pub(super) fn enter(&self) {
        RUNNING.lock().insert(self.shared.exited.id(), self.clone());
    }

    /// Takes it from those that run.
    pub(super) fn leave(&self) {
        let left = RUNNING.lock().remove(&self.shared.exited.id());
        drop(left);
    }

    pub(super) fn running() -> Vec<Self> {
        RUNNING.lock().values().cloned().collect()
    }

    /// Returns the host of the process, and its number there, as long as there may be one.
    pub(super) fn place(&self) -> Option<(Arc<Host>, u32)> {
        let (host, number) = self.shared.place.lock().at.clone()?;
        Some((host.upgrade()?, number))
    }

    /// Records that this host was asked for the process. Returns how that is to be ended, if it is.
    pub(super) fn place_at(&self, host: &Arc<Host>, number: u32) -> Option<EndBy> {
        let mut place = self.shared.place.lock();
        place.at = Some((Arc::downgrade(host), number));
        place.ended_by
    }

    /// The name of the process, as given to [`ProcessBuilder::name`](crate::ProcessBuilder::name).
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The number of the process, once it has started.
    pub fn pid(&self) -> Option<u32> {
        self.shared.pid.get().copied()
    }

    /// Waits until the process has started, and returns its number. Before that nothing of the function has
    /// run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`BrokenPool`](Error::BrokenPool) if it can't start, or [`WorkerLost`](Error::WorkerLost) if it has died
    /// before; the error of the value, if the process was refused for its settings or arguments.
    pub fn started(&self) -> impl Future<Output = Result<u32, Error>> + Send + use<> {
        self.shared.started.clone()
    }

    /// Returns whether the process may be there: it was spawned, and its end is not known yet. A value comes
    /// before that end.
    pub fn is_running(&self) -> bool {
        !self.shared.exited.is_done()
    }

    /// Waits until the process has ended, was reaped, and what its function has started was killed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub fn join(&self) -> impl Future<Output = ProcessExit> + Send + use<> {
        let exited = self.shared.exited.clone();
        async { exited.await.unwrap_or_default() }
    }

    /// Waits for the end as [`join`](Self::join), by blocking this thread.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn join_blocking(&self) -> ProcessExit {
        self.shared.exited.result().unwrap_or_default()
    }

    /// Waits for the end as [`join`](Self::join), by blocking this thread for at most `limit`. `None` if the
    /// process has not ended by then.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn join_timeout(&self, limit: Duration) -> Option<ProcessExit> {
        self.shared.exited.result_timeout(limit).map(Result::unwrap_or_default)
    }

    /// Asks the process to end, with SIGTERM. The function may handle that, or take no notice. If it has not
    /// begun, it never will. Has no effect on a process that has ended.
    pub fn terminate(&self) {
        self.end(EndBy::Termination);
    }

    /// Ends the process by SIGKILL, and all that its function has started. If the function has not begun, it
    /// never will. Has no effect on a process that has ended.
    pub fn kill(&self) {
        self.end(EndBy::Kill);
    }

    fn end(&self, how: EndBy) {
        // Recorded before the look at the place, where it is looked at after that was set.
        let mut place = self.shared.place.lock();
        if place.ended_by != Some(EndBy::Kill) {
            place.ended_by = Some(how);
        }
        drop(place);
        if let Some((host, number)) = self.place() {
            host.end(number, how);
        }
    }
}

impl fmt::Debug for ProcessHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessHandle")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .field("is_running", &self.is_running())
            .finish()
    }
}
