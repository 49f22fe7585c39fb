//! The next result of a map has to be awaited.

use concurrent_futures::{Error, ThreadPoolExecutor};

async fn print(pool: &ThreadPoolExecutor) -> Result<(), Error> {
    let mut squares = pool.map(|n: u64| n * n, 0..10);
    while let Some(square) = squares.next() {
        println!("{}", square?);
    }
    Ok(())
}

fn main() {
    println!("{:?}", futures::executor::block_on(print(&ThreadPoolExecutor::new())));
}
