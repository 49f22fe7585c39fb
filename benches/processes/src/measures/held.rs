//! Tasks that never end.

use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::sides::{Side, Submitted};

/// Where tasks that never end say that they run.
pub(super) struct Place {
    path: PathBuf,
    listener: UnixListener,
}

impl Place {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("processes-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).expect("a socket in the temporary directory");
        Self { path, listener }
    }

    pub(super) fn submit<S: Side>(&self, side: &S) -> S::Submitted<()> {
        let address = self.path.to_str().expect("a path in UTF-8").to_owned();
        side.submit(never_end, address)
    }

    /// Waits until one more of them runs, and holds it.
    pub(super) fn accept(&self) -> UnixStream {
        self.listener.accept().expect("the task connects").0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("it is there");
    }
}

/// Connects to `address` to say that it runs, and waits for what does not come.
fn never_end(address: String) {
    let mut socket = UnixStream::connect(address).expect("someone listens");
    let _ = socket.read(&mut [0]);
}

/// Workers that are kept busy.
pub(super) struct Held<H> {
    tasks: Vec<H>,
    _sockets: Vec<UnixStream>,
}

impl<H: Submitted<()>> Held<H> {
    pub(super) fn new<S: Side<Submitted<()> = H>>(side: &S, workers: usize) -> Self {
        let place = Place::new();
        let tasks = (0..workers).map(|_| place.submit(side)).collect();
        let sockets = (0..workers).map(|_| place.accept()).collect();
        Self { tasks, _sockets: sockets }
    }

    pub(super) async fn end(self) {
        for mut task in self.tasks {
            task.kill();
            task.result().await.expect_err("it can't have ended");
        }
    }
}
