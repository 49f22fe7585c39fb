//! A permit is room for one task.

use concurrent_futures::{Error, ThreadPoolExecutor};

async fn two(pool: &ThreadPoolExecutor) -> Result<u32, Error> {
    let permit = pool.reserve().await?;
    let one = permit.submit(|| 1);
    let two = permit.submit(|| 2);
    Ok(one.await? + two.await?)
}

fn main() {
    let _ = futures::executor::block_on(two(&ThreadPoolExecutor::new()));
}
