//! One of ten tasks writes through a dangling pointer. In a thread that would be the end of the
//! program; in a worker process it is the end of one task.
//!
//! ```text
//! cargo run --release --example crash_and_carry_on
//! ```

use concurrent_futures::{Error, ProcessPoolExecutor, as_completed, call};

fn work(n: u32) -> u32 {
    if n == 7 {
        // SAFETY: there is none; this is the bug of the day.
        unsafe { std::ptr::dangling_mut::<u8>().write_volatile(0) };
    }
    n * n
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let futures: Vec<_> = (0..10).map(|n| pool.submit(call!(work(n)))).collect();

    let (mut finished, mut lost) = (0, Vec::new());
    let mut done = as_completed(futures);
    while let Some((n, result)) = done.next().await {
        match result {
            Ok(square) => {
                finished += 1;
                println!("{n}: {square}");
            }
            Err(Error::WorkerLost(error)) => {
                println!("{n}: {error}");
                lost.push((n, error.signal));
            }
            Err(error) => return Err(error),
        }
    }
    assert_eq!(finished, 9);
    assert_eq!(lost, [(7, Some(11))]); // 11 is SIGSEGV
    Ok(())
}
