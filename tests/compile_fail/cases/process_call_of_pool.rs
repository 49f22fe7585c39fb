//! A pool is of one process; a worker process reaches its pool by `ParentPool::current()`.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn nested(pool: ProcessPoolExecutor, n: u32) -> u32 {
    pool.submit(call!(u32::pow(2, n))).result().unwrap()
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    println!("{}", pool.submit(call!(nested(pool.clone(), 5))).result()?);
    Ok(())
}
