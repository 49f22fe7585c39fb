//! When work arrives faster than it is done: a bounded queue, and two ways to meet its bound.
//!
//! ```text
//! cargo run --release --example backpressure
//! ```
//!
//! By default a queue has no bound, and only memory limits what piles up in it.

use std::error::Error;
use std::thread;
use std::time::Duration;

use concurrent_futures::ThreadPoolExecutor;
use tokio::sync::oneshot;

const CAPACITY: usize = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = ThreadPoolExecutor::builder().max_workers(1).queue_capacity(CAPACITY).build()?;
    shed_load(&pool).await?;
    wait_for_room(&pool).await
}

/// `try_submit` never waits. If the queue is full it hands the job back, and the caller decides:
/// do it here, do it elsewhere, or tell a client to come again later.
async fn shed_load(pool: &ThreadPoolExecutor) -> Result<(), Box<dyn Error>> {
    // Keeps the only worker busy until it is released, so that the queue fills up.
    let (start, started) = oneshot::channel();
    let (release, released) = oneshot::channel();
    let busy = pool.submit(move || {
        let _ = start.send(());
        released.blocking_recv()
    });
    started.await?;

    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for n in 0..6 {
        match pool.try_submit(move || n * n) {
            Ok(future) => accepted.push(future),
            Err(error) => {
                println!("job {n}: {error}");
                refused.push(error.into_job());
            }
        }
    }
    assert_eq!((accepted.len(), refused.len()), (CAPACITY, 2));

    let by_caller: Vec<_> = refused.into_iter().map(|job| job()).collect();
    println!("done by the caller: {by_caller:?}");
    assert_eq!(by_caller, [16, 25]);

    let _ = release.send(());
    busy.await??;
    for (n, future) in accepted.into_iter().enumerate() {
        assert_eq!(future.await?, n * n);
    }
    Ok(())
}

/// `reserve` waits for room, first come, first served. A producer that asks for room before it
/// fetches the next item goes as fast as the workers, however many items there are.
async fn wait_for_room(pool: &ThreadPoolExecutor) -> Result<(), Box<dyn Error>> {
    let mut futures = Vec::new();
    let mut most_queued = 0;
    for n in 0..200_u64 {
        let room = pool.reserve().await?;
        // Here a real producer would read a file, or take a message.
        futures.push(room.submit(move || {
            thread::sleep(Duration::from_millis(1));
            n
        }));
        most_queued = most_queued.max(pool.metrics().queued);
    }
    let mut sum = 0;
    for future in futures {
        sum += future.await?;
    }
    println!("200 jobs, of which at most {most_queued} waited in the queue; their sum is {sum}");
    assert!(most_queued <= CAPACITY);
    assert_eq!(sum, 19_900);
    Ok(())
}
