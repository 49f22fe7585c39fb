//! A client that gives up leaves no dead work in the queue: dropping a future withdraws its task
//! if it has not started. So `tokio::time::timeout`, `select!` and a closed connection cancel.
//!
//! ```text
//! cargo run --release --example cancel_on_drop
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use concurrent_futures::ThreadPoolExecutor;
use tokio::sync::oneshot;
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = ThreadPoolExecutor::builder().max_workers(1).build()?;
    let ran = Arc::new(AtomicUsize::new(0));
    let count = || {
        let ran = Arc::clone(&ran);
        move || ran.fetch_add(1, Relaxed)
    };

    // Keeps the only worker busy until it is released.
    let (start, started) = oneshot::channel();
    let (release, released) = oneshot::channel();
    let busy = pool.submit(move || {
        let _ = start.send(());
        released.blocking_recv()
    });
    started.await?;

    // The time limit passes, `timeout` drops the future, the task leaves the queue.
    for _ in 0..10 {
        let client = timeout(Duration::from_millis(10), pool.submit(count())).await;
        assert!(client.is_err(), "nobody was there to answer");
    }
    // A future that is only lent to `timeout` stays, and so does its task.
    let mut patient = pool.submit(count());
    assert!(timeout(Duration::from_millis(10), &mut patient).await.is_err());
    // `detach` is for work that is to be done though nobody waits for it.
    pool.submit(count()).detach();

    let metrics = pool.metrics();
    println!("{} withdrawn, {} in the queue", metrics.cancelled, metrics.queued);
    assert_eq!((metrics.cancelled, metrics.queued), (10, 2));

    let _ = release.send(());
    busy.await??;
    patient.await?;
    // One worker runs its tasks in order: when this one is done, all before it are.
    pool.submit(|| ()).await?;
    println!("of 12 tasks {} ran", ran.load(Relaxed));
    assert_eq!(ran.load(Relaxed), 2);
    Ok(())
}
