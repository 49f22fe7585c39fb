//! The same on what one would use instead: `spawn_blocking` as it is mostly written, and rayon,
//! which tokio's documentation points to for many computations.
//!
//! Both take whatever comes: there is no bound at which they refuse, and a closure that has been
//! handed in runs, also if nobody waits for its answer any more. Bounds and deadlines would be
//! the service's own work: a semaphore that is tried before each request, and a look at the clock
//! first thing in each closure. At the end of the process tokio waits, without a limit, for the
//! closures that have begun; rayon waits for none.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;

use crate::backend::stand_back;
use crate::failure::Failure;

/// On one of tokio's threads for blocking calls, of which there are 512 at most by default. They
/// can't be given a low priority: tokio has one hook for the start of a thread, and the threads that
/// serve HTTP run it as well.
pub(crate) async fn spawn_blocking<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(job).await;
    done.map_err(|error| Failure::Fault(error.to_string()))
}

/// A pool of rayon's. A panic in it would abort the process; this way the request fails.
pub(crate) fn rayon_pool(workers: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|index| format!("thumbnail_{index}"))
        .start_handler(|_| {
            if let Err(error) = stand_back() {
                eprintln!("service: a worker keeps its priority: {error}");
            }
        })
        .panic_handler(|_| ())
        .build()
}

/// On rayon, with a channel for the answer.
pub(crate) async fn rayon<T: Send + 'static>(
    pool: &ThreadPool,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = oneshot::channel();
    pool.spawn(move || {
        let _ = sender.send(job());
    });
    receiver.await.map_err(|_| Failure::Fault("the computation panicked".to_owned()))
}
