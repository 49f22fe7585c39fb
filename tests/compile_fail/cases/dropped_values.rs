//! What must not be dropped unseen says why, and what to do.

#![deny(unused_must_use)]

use concurrent_futures::{ReturnWhen, Shutdown, ThreadPoolExecutor, as_completed, wait};

async fn forgetful(pool: &ThreadPoolExecutor) {
    pool.submit(|| 7);
    pool.submit_future(async { 7 });
    pool.submit(|| async { 7 }).await.unwrap();
    pool.map(|n: u32| n, 0..3);
    pool.map(|n: u32| n, 0..3).unordered();
    as_completed([pool.submit(|| 7)]);
    wait([pool.submit(|| 7)], ReturnWhen::AllCompleted);
    pool.reserve().await.unwrap();
    pool.task().label("forgotten");
    pool.shutdown(Shutdown::Drain);
    ThreadPoolExecutor::builder().max_workers(1);
}

fn main() {
    futures::executor::block_on(forgetful(&ThreadPoolExecutor::new()));
}
