//! The function of `try_map` returns a `Result`.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    println!("{:?}", pool.try_map(|n: u64| n * n, 0..10).result());
}
