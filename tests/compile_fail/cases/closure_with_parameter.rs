//! A job takes no parameters.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    println!("{:?}", pool.submit(|n: u32| n + 1).result());
}
