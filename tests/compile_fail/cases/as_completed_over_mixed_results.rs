//! What is awaited together has values of one type.

use concurrent_futures::{ThreadPoolExecutor, as_completed};

fn main() {
    let pool = ThreadPoolExecutor::new();
    let length = pool.submit(|| "seven".len());
    let upper = pool.submit(|| "seven".to_uppercase());
    for (index, value) in as_completed([length, upper]).blocking() {
        println!("{index}: {value:?}");
    }
}
