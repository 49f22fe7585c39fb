//! Prints what worker processes compute. It says so when `main` begins, since that must be once:
//! the workers are processes of this program, and do not get there.

use concurrent_futures::{Error, ProcessPoolExecutor, call};
use dependent::{largest, square};

fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    println!("main begins");
    let pool = ProcessPoolExecutor::new()?;
    println!("fib(20) = {}", pool.submit(call!(fib(20))).await?);
    println!("squares: {:?}", pool.map(square, 0..5).await?);
    println!("largest: {:?}", pool.submit(call!(largest(vec!['b', 'c', 'a']))).await?);
    println!("2^10 = {}", pool.submit(call!(u64::pow(2, 10))).await?);
    let worker = pool.submit(call!(std::process::id())).await?;
    println!("computed in another process: {}", worker != std::process::id());
    Ok(())
}
