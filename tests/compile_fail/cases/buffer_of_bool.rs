//! A `bool` has bit patterns that are no value.

use concurrent_futures::{Buffer, Error, ProcessPoolExecutor, call};

fn count(flags: Buffer<bool>) -> usize {
    flags.iter().filter(|flag| **flag).count()
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let flags = Buffer::from(vec![true, false]);
    println!("{}", pool.submit(call!(count(flags))).result()?);
    Ok(())
}
