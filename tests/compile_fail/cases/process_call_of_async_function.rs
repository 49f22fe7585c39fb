//! A worker process runs a plain function; there is nothing in it that polls a future.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

async fn double(n: u32) -> u32 {
    2 * n
}

async fn print(pool: &ProcessPoolExecutor) -> Result<(), Error> {
    println!("{}", pool.submit(call!(double(21))).await?.await);
    Ok(())
}

fn main() -> Result<(), Error> {
    futures::executor::block_on(print(&ProcessPoolExecutor::new()?))
}
