//! A map is no iterator, since its results have to be waited for.

use concurrent_futures::{Error, ThreadPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ThreadPoolExecutor::new();
    for square in pool.map(|n: u64| n * n, 0..10) {
        println!("{}", square?);
    }
    Ok(())
}
