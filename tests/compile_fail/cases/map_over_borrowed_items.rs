//! A map may run for longer than what the caller lends.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let items = vec![1, 2, 3];
    let sum: u32 = pool.map(|n: &u32| *n, items.iter()).result().unwrap().iter().sum();
    println!("{sum}");
}
