//! `map`: one function over many items, 10 and 1,000,000, with the results in order.
//!
//! ```text
//! cargo run --release --example squares
//! ```
//!
//! No async runtime is needed to wait for a whole map: `result()` blocks, as `Pool.map` does in
//! Python. In async code, `.await` the map instead.

use concurrent_futures::{Error, ThreadPoolExecutor};

fn square(n: u64) -> u64 {
    n * n
}

fn main() -> Result<(), Error> {
    let pool = ThreadPoolExecutor::new();

    let ten = pool.map(square, 0..10).result()?;
    println!("{ten:?}");
    assert_eq!(ten, [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);

    // A square takes a nanosecond, handing it to another thread takes far longer. `map` measures
    // that and gives each worker thousands of items at a time; there is nothing to tune.
    let n = 1_000_000;
    let million = pool.map(square, 0..n).result()?;
    println!("{} squares; that of 999,999 is {}", million.len(), million[999_999]);
    assert!(million.into_iter().eq((0..n).map(square)), "the same as a serial map, in order");
    Ok(())
}
