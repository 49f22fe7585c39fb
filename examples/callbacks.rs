//! Ten slow squares, each with a done-callback: a function that is called with the result.
//!
//! ```text
//! cargo run --release --example callbacks
//! ```
//!
//! Callbacks suit code that nobody awaits, such as a progress line. Where somebody does wait for
//! the results, `as_completed` reads better.

use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use concurrent_futures::{Shutdown, ThreadPoolExecutor};

fn slow_square(n: u64) -> u64 {
    thread::sleep(Duration::from_millis(50)); // blocking a worker is fine, that is what it is for
    n * n
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool = ThreadPoolExecutor::builder().max_workers(4).build()?;
    let (sender, squares) = mpsc::channel();
    for n in 0..10 {
        let sender = sender.clone();
        // The future is dropped at the end of the statement. That would withdraw the task, if
        // somebody did not await its result here: the callback.
        pool.submit(move || slow_square(n)).add_done_callback(move |result| {
            // On the worker that has computed the square, so a callback should be quick.
            match result {
                Ok(square) => {
                    println!("{n} squared is {square}");
                    let _ = sender.send(*square); // fails only if nobody listens any more
                }
                Err(error) => eprintln!("no square of {n}: {error}"),
            }
        });
    }
    drop(sender); // now the callbacks have the last ones

    // Runs what was submitted, callbacks included, and ends the workers. Without it `main` would
    // return, and the process end, while they are at work.
    let report = pool.shutdown_blocking(Shutdown::Drain)?;
    println!("{} tasks completed", report.completed);

    let sum: u64 = squares.iter().sum();
    assert_eq!(sum, 285);
    Ok(())
}
