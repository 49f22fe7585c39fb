//! First the function, then the items.

use concurrent_futures::{Error, ThreadPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ThreadPoolExecutor::new();
    println!("{:?}", pool.map(0..10, |n: u64| n * n).result()?);
    Ok(())
}
