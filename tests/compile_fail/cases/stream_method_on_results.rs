//! The items of a stream are results, and `StreamExt` leaves the errors to the caller.

use concurrent_futures::{Error, ThreadPoolExecutor};
use futures::StreamExt;

async fn sum(pool: &ThreadPoolExecutor) -> Result<u64, Error> {
    let squares = pool.map(|n: u64| n * n, 0..10);
    Ok(squares.fold(0, |sum, square| async move { sum + square }).await)
}

fn main() {
    println!("{:?}", futures::executor::block_on(sum(&ThreadPoolExecutor::new())));
}
