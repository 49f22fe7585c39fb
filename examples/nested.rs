//! A merge sort whose jobs submit to the pool that they run on, and wait for the results.
//!
//! ```text
//! cargo run --release --example nested
//! ```
//!
//! In many pools this hangs, as soon as every worker waits for a task that is still queued. Here
//! a job that waits runs such a task itself, so a single worker is enough.

use std::time::Instant;

use concurrent_futures::{Error, ThreadPoolExecutor};

/// So few items are sorted on the spot: a task must be worth its handing over.
const SMALL: usize = 10_000;

fn sort(pool: &ThreadPoolExecutor, mut items: Vec<u64>) -> Result<Vec<u64>, Error> {
    if items.len() <= SMALL {
        items.sort_unstable();
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    // A job owns all it needs. To clone the pool is to clone a handle; the workers are the same.
    let handle = pool.clone();
    let right = pool.submit(move || sort(&handle, right));
    let left = sort(pool, items)?; // meanwhile, on this worker
    Ok(merge(&left, &right.result()??))
}

fn merge(mut left: &[u64], mut right: &[u64]) -> Vec<u64> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(l), Some(r)) = (left.first(), right.first()) {
        if l <= r {
            merged.push(*l);
            left = &left[1..];
        } else {
            merged.push(*r);
            right = &right[1..];
        }
    }
    merged.extend_from_slice(left);
    merged.extend_from_slice(right);
    merged
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Numbers in no order, the same at every run.
    let items: Vec<u64> =
        (0..1_000_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let mut expected = items.clone();
    expected.sort_unstable();

    for pool in [ThreadPoolExecutor::builder().max_workers(1).build()?, ThreadPoolExecutor::new()] {
        let items = items.clone();
        let start = Instant::now();
        let handle = pool.clone();
        let sorted = pool.submit(move || sort(&handle, items)).result()??;
        println!("{} items, {} workers: {:.1?}", sorted.len(), pool.max_workers(), start.elapsed());
        assert_eq!(sorted, expected);
    }
    Ok(())
}
