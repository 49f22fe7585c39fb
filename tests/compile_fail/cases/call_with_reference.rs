//! The arguments of `call!` move to the worker.

use concurrent_futures::{Error, ThreadPoolExecutor, call};

fn sum(numbers: &[u64]) -> u64 {
    numbers.iter().sum()
}

fn main() -> Result<(), Error> {
    let pool = ThreadPoolExecutor::new();
    let numbers = vec![1, 2, 3];
    println!("{}", pool.submit(call!(sum(&numbers))).result()?);
    Ok(())
}
