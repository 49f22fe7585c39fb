//! A future is not its value.

use concurrent_futures::{Error, ThreadPoolExecutor};

async fn answer(pool: &ThreadPoolExecutor) -> Result<u32, Error> {
    let seven = pool.submit(|| 7);
    Ok(6 * seven)
}

fn main() {
    println!("{:?}", futures::executor::block_on(answer(&ThreadPoolExecutor::new())));
}
