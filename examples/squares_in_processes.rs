//! The first steps, in worker processes: one call, then `map`, one function over many items.
//!
//! ```text
//! cargo run --release --example squares_in_processes
//! ```
//!
//! What differs from threads is that a task is a `call!` of a plain function, whose arguments and
//! result can be serialised. The functions need no attribute, and `main` no extra line.

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

fn square(n: u64) -> u64 {
    n * n
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;

    let answer = pool.submit(call!(fib(30))).await?;
    println!("fib(30) = {answer}");
    assert_eq!(answer, 832_040);

    let n = 1_000_000;
    let million = pool.map(square, 0..n).await?;
    println!("{} squares; that of 999,999 is {}", million.len(), million[999_999]);
    assert!(million.into_iter().eq((0..n).map(square)), "the same as a serial map, in order");

    let (workers, this) = (pool.worker_pids(), std::process::id());
    println!("computed by the processes {workers:?}; this is {this}");
    assert!(!workers.is_empty() && !workers.contains(&this));
    Ok(())
}
