//! An `Rc` is shared within one thread; another process gets the value.

use std::rc::Rc;

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn sum(numbers: Rc<Vec<u64>>) -> u64 {
    numbers.iter().sum()
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let numbers = Rc::new(vec![1, 2, 3]);
    println!("{}", pool.submit(call!(sum(numbers))).result()?);
    Ok(())
}
