//! A large table that many tasks read: once as a `Buffer`, which goes to the worker with each task, and once as
//! a `SharedSlice`, which all workers map. Beside it lies an index of names, which is a `Shared`: each worker decodes
//! it once.
//!
//! ```text
//! cargo run --release --example big_data
//! ```
//!
//! It is joblib's example of a memory-mapped array: the means of many windows over one table. Each task gets the
//! whole table and the place of its window.

use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;

use concurrent_futures::ipc::{Shared, SharedSlice};
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

/// Where the windows begin, by their names.
type Index = HashMap<String, usize>;

fn mean_of((index, table, name): (Shared<Index>, SharedSlice<f64>, String)) -> Option<f64> {
    index.get(&name).map(|from| mean(&table[*from..from + WINDOW]))
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
    let by_sharing = pool.map(
        mean_of_slice,
        windows().map({
            let table = shared.clone();
            move |from| (table.clone(), from)
        }),
    );
    let by_sharing = by_sharing.await?;
    println!("40 tasks, with the table as a SharedSlice: {:?}", start.elapsed());

    assert_eq!(by_copies, by_sharing);

    let index: Index = (0..LENGTH - WINDOW).step_by(50).map(|n| (format!("from {n}"), n)).collect();
    let start = Instant::now();
    let index = Shared::new(index)?;
    println!("{} names encoded into shared memory: {:?}", index.len(), start.elapsed());
    let start = Instant::now();
    let by_names = pool.map(
        mean_of,
        windows().map(move |from| (index.clone(), shared.clone(), format!("from {from}"))),
    );
    let by_names = by_names.await?;
    println!("40 tasks, with the names as a Shared:      {:?}", start.elapsed());
    assert!(by_names.iter().flatten().eq(&by_sharing));
    println!("the mean of the last window: {}", by_sharing[39]);
    Ok(())
}
