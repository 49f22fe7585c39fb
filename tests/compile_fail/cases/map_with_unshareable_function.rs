//! All workers use the function of a map at the same time, so it must be `Sync`.

use std::cell::Cell;

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let count = Cell::new(0);
    println!("{:?}", pool.map(move |n: u32| n + count.replace(n), 0..3).result());
}
