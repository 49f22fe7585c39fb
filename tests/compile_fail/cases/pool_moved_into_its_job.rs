//! A job that submits has a handle of its own: a clone.

use concurrent_futures::{Error, ThreadPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ThreadPoolExecutor::new();
    let nested = pool.submit(move || pool.submit(|| 7).result());
    println!("{}", nested.result()??);
    Ok(())
}
