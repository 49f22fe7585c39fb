//! A string goes to another process as a `String`.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn length(text: &str) -> usize {
    text.len()
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    println!("{}", pool.submit(call!(length("seven"))).result()?);
    Ok(())
}
