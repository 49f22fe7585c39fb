//! `result` waits by blocking; what is awaited is the future.

use concurrent_futures::{Error, ThreadPoolExecutor};

async fn answer(pool: &ThreadPoolExecutor) -> Result<u32, Error> {
    pool.submit(|| 6 * 7).result().await
}

fn main() {
    println!("{:?}", futures::executor::block_on(answer(&ThreadPoolExecutor::new())));
}
