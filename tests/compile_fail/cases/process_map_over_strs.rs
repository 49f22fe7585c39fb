//! Strings go to another process as `String`s.

use concurrent_futures::{Error, ProcessPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    println!("{:?}", pool.map(|word: &str| word.len(), ["to", "be"]).result()?);
    println!("{:?}", pool.map(str::len, ["to", "be"]).result()?);
    Ok(())
}
