//! Items that are references do not travel.

use concurrent_futures::{Error, ProcessPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let words = vec!["to".to_owned(), "be".to_owned()];
    println!("{:?}", pool.map(|word: &String| word.len(), &words).result()?);
    Ok(())
}
