//! A closure can't be named in another process.

use concurrent_futures::{Error, ProcessPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    println!("{}", pool.submit(|| 6 * 7).result()?);
    Ok(())
}
