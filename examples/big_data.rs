//! A large table that many tasks read: once as a `Buffer`, which goes to the worker with each task, and once as
//! a `SharedSlice`, which all workers map.
//!
//! ```text
//! cargo run --release --example big_data
//! ```
//!
//! It is joblib's example of a memory-mapped array: the means of many windows over one table. Each task gets the
//! whole table and the place of its window.

use std::error::Error;
use std::time::Instant;

use concurrent_futures::ipc::SharedSlice;
use concurrent_futures::{Buffer, ProcessPoolExecutor};

/// 32 MiB of numbers.
const LENGTH: usize = 4 << 20;
const WINDOW: usize = 100_000;

fn mean(window: &[f64]) -> f64 {
    window.iter().sum::<f64>() / window.len() as f64
}

fn mean_of_buffer((table, from): (Buffer<f64>, usize)) -> f64 {
    mean(&table[from..from + WINDOW])
}

fn mean_of_slice((table, from): (SharedSlice<f64>, usize)) -> f64 {
    mean(&table[from..from + WINDOW])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = ProcessPoolExecutor::new()?;
    // The workers are there before the time counts.
    pool.map(usize::count_ones, 0..100).await?;

    let copied: Buffer<f64> = (0..LENGTH).map(|n| n as f64).collect();
    let start = Instant::now();
    let shared = SharedSlice::new(&copied)?;
    println!(
        "{} MiB copied into shared memory: {:?}",
        size_of_val(&shared[..]) >> 20,
        start.elapsed()
    );

    let windows = || (0..40).map(|n| n * WINDOW);
    let start = Instant::now();
    let by_copies = pool.map(
        mean_of_buffer,
        windows().map({
            let table = copied.clone();
            move |from| (table.clone(), from)
        }),
    );
    let by_copies = by_copies.await?;
    println!("40 tasks, with the table as a Buffer:      {:?}", start.elapsed());

    let start = Instant::now();
    let by_sharing =
        pool.map(mean_of_slice, windows().map(move |from| (shared.clone(), from))).await?;
    println!("40 tasks, with the table as a SharedSlice: {:?}", start.elapsed());

    assert_eq!(by_copies, by_sharing);
    println!("the mean of the last window: {}", by_sharing[39]);
    Ok(())
}
