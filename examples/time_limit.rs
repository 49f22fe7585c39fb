//! A loop that never ends is killed at its time limit, and its worker replaced.
//!
//! ```text
//! cargo run --release --example time_limit
//! ```
//!
//! A thread can only be asked to stop. A process can be made to, whatever it is at.

use std::time::{Duration, Instant};

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn search(step: u64) -> u64 {
    let mut n = 1_u64;
    while n % 2 == 1 {
        n = n.wrapping_add(step); // with an even step it stays odd
    }
    n
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::builder().max_workers(1).build()?;
    println!("step 3 finds {}", pool.submit(call!(search(3))).await?);

    let limit = Duration::from_millis(200);
    let endless = pool.task().timeout(limit).submit(call!(search(2))).await;
    let start = Instant::now();
    println!("step 2: {}", endless.as_ref().unwrap_err());
    assert!(matches!(endless, Err(Error::TimedOut { started: true, .. })));

    // The only worker is a new one by now.
    let found = pool.submit(call!(search(5))).await?;
    println!("step 5 finds {found}, {:.1?} after that", start.elapsed());
    assert_eq!(found, 6);
    Ok(())
}
