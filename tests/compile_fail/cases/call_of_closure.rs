//! `call!` takes the call alone, without a closure around it.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn double(n: u32) -> u32 {
    2 * n
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    println!("{}", pool.submit(call!(|| double(21))).result()?);
    println!("{}", pool.submit(call!(move || double(21))).result()?);
    Ok(())
}
