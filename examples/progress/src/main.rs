//! A bar with throughput and remaining time over results as they finish, by indicatif's own adapter
//! for streams; failures and cancelled items counted apart. Ctrl-C cancels what has not started.
//!
//! ```text
//! cargo run --release -p progress
//! ```
//!
//! The bar is drawn to stderr if that is a terminal; the summary goes to stdout in any case.

use std::error::Error as StdError;

use concurrent_futures::{Error, Shutdown, ThreadPoolExecutor, as_completed};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};

const NUMBERS: u64 = 2_000;

/// How far a factor is looked for; some milliseconds.
const PATIENCE: u64 = 1_000_000;

/// The smallest factor, by trial, of numbers that mostly have one. For some the job gives up.
fn smallest_factor(n: u64) -> Result<u64, String> {
    (2..PATIENCE)
        .find(|factor| n % factor == 0)
        .ok_or_else(|| format!("{n} has no factor below {PATIENCE}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let pool = ThreadPoolExecutor::new();
    let numbers = (0..NUMBERS).map(|n| u64::MAX - n);
    let futures: Vec<_> = numbers.map(|n| pool.submit(move || smallest_factor(n))).collect();

    let style = "{elapsed} {wide_bar} {pos}/{len}, {per_sec}, {eta} left{msg}";
    let bar = ProgressBar::new(NUMBERS).with_style(ProgressStyle::with_template(style)?);
    let mut done = bar.wrap_stream(as_completed(futures));

    let (mut found, mut failed, mut cancelled) = (0, 0, 0);
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(ctrl_c);
    let mut is_stopped = false;
    loop {
        let result = tokio::select! {
            item = done.next() => match item {
                Some((_index, result)) => result,
                None => break,
            },
            _ = &mut ctrl_c, if !is_stopped => {
                is_stopped = true;
                // Begins at once. Nobody need wait for it: the stream ends when all have ended.
                drop(pool.shutdown(Shutdown::CancelQueued));
                continue;
            }
        };
        match result {
            Ok(Ok(_factor)) => found += 1,
            Err(Error::Cancelled) => cancelled += 1,
            Ok(Err(_)) | Err(_) => failed += 1, // the job's own error; a panic and the like
        }
        if failed + cancelled > 0 {
            bar.set_message(format!("; {failed} failed, {cancelled} cancelled"));
        }
    }

    println!("{found} factors found, {failed} failed, {cancelled} cancelled");
    assert_eq!(bar.position(), NUMBERS);
    assert_eq!(found + failed + cancelled, NUMBERS);
    Ok(())
}
