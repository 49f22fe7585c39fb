//! Starting worker processes may fail.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new();
    println!("{}", pool.submit(call!(u32::pow(2, 5))).result()?);
    Ok(())
}
