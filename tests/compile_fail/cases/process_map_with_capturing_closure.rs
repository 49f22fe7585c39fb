//! A worker process is told the function and the item; what else the function needs is a context.

use concurrent_futures::{Error, ProcessPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let by = 2;
    println!("{:?}", pool.map(|n: u32| n * by, 0..10).result()?);
    Ok(())
}
