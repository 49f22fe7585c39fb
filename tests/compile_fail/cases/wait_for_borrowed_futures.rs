//! `wait` takes the futures, and gives them back.

use concurrent_futures::{ReturnWhen, ThreadPoolExecutor, wait};

fn main() {
    let pool = ThreadPoolExecutor::new();
    let futures = vec![pool.submit(|| 6), pool.submit(|| 7)];
    let waited = futures::executor::block_on(wait(&futures, ReturnWhen::FirstCompleted));
    println!("{waited:?}");
}
