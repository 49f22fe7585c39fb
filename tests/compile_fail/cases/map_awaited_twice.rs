//! Awaiting a map takes it, and its results with it.

use concurrent_futures::{Error, ThreadPoolExecutor};

async fn sums(pool: &ThreadPoolExecutor) -> Result<(u64, usize), Error> {
    let squares = pool.map(|n: u64| n * n, 0..10);
    let sum = squares.await?.iter().sum();
    let count = squares.await?.len();
    Ok((sum, count))
}

fn main() {
    println!("{:?}", futures::executor::block_on(sums(&ThreadPoolExecutor::new())));
}
