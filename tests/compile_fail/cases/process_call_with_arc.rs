//! Processes share no memory, so an `Arc` does not travel; what it holds does.

use std::sync::Arc;

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn sum(numbers: Arc<Vec<u64>>) -> u64 {
    numbers.iter().sum()
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let numbers = Arc::new(vec![1, 2, 3]);
    println!("{}", pool.submit(call!(sum(numbers.clone()))).result()?);
    Ok(())
}
