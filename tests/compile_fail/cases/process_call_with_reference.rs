//! A reference means nothing in another process: the value goes there.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn sum(numbers: &Vec<u64>) -> u64 {
    numbers.iter().sum()
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let numbers = vec![1, 2, 3];
    println!("{}", pool.submit(call!(sum(&numbers))).result()?);
    Ok(())
}
