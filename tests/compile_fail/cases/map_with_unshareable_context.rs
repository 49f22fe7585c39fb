//! The workers of a map see its context at the same time.

use std::cell::RefCell;
use std::collections::HashMap;

use concurrent_futures::{Error, ThreadPoolExecutor};

fn main() -> Result<(), Error> {
    let pool = ThreadPoolExecutor::new();
    let seen = RefCell::new(HashMap::new());
    let counts = pool.map_with(
        seen,
        |seen: &RefCell<HashMap<u32, u32>>, n| *seen.borrow_mut().entry(n % 3).or_insert(n),
        0..10,
    );
    println!("{:?}", counts.result()?);
    Ok(())
}
