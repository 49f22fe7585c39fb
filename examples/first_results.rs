//! Five tasks, looked at in two ways: with `as_completed`, result by result as they finish, and
//! with `wait`, until the first has finished; the others are asked to stop then.
//!
//! ```text
//! cargo run --release --example first_results
//! ```

use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, ReturnWhen, TaskFuture, ThreadPoolExecutor, as_completed, task, wait,
};

/// The smaller `n`, the longer it takes. Looks now and then whether it is still to go on.
fn slow_square(n: u64) -> Result<u64, Error> {
    for _ in n..5 {
        thread::sleep(Duration::from_millis(50));
        task::checkpoint()?;
    }
    Ok(n * n)
}

fn submit_five(pool: &ThreadPoolExecutor) -> Vec<TaskFuture<Result<u64, Error>>> {
    (0..5).map(|n| pool.submit(move || slow_square(n))).collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ThreadPoolExecutor::builder().max_workers(5).build()?;

    let mut squares = [None; 5];
    let mut done = as_completed(submit_five(&pool));
    while let Some((n, square)) = done.next().await {
        // Two results in one another: the outer one is the pool's (did the job run to its end?),
        // the inner one is what the job returned.
        let square = square??;
        println!("{n} squared is {square}");
        squares[n] = Some(square);
    }
    assert_eq!(squares, [Some(0), Some(1), Some(4), Some(9), Some(16)]);

    let first = wait(submit_five(&pool), ReturnWhen::FirstCompleted).await;
    assert!(!first.done.is_empty());
    assert_eq!(first.done.len() + first.not_done.len(), 5);
    for future in first.done {
        println!("a first result: {}", future.await??);
    }
    for future in &first.not_done {
        // Withdraws a task that has not started. One that runs can't be killed, since it is on a
        // thread; its job sees the request at its next `checkpoint`.
        future.cancel();
    }
    for future in first.not_done {
        match future.await {
            Ok(Ok(square)) => println!("finished before it saw that: {square}"),
            Ok(Err(stopped)) => println!("stopped on the way: {stopped}"),
            Err(withdrawn) => println!("never started: {withdrawn}"),
        }
    }
    Ok(())
}
