//! Passes: a closure without captures is a plain function, and what it needs are its arguments.

use concurrent_futures::{Error, ProcessPoolExecutor, ThreadPoolExecutor, call};

fn length(text: &str) -> usize {
    text.len()
}

fn main() -> Result<(), Error> {
    let text = "seven".to_owned();
    let by_threads = ThreadPoolExecutor::new().submit(call!(length("seven")));
    assert_eq!(by_threads.result()?, 5);
    let by_processes = ProcessPoolExecutor::new()?.submit(call!((|text: String| length(&text))(text)));
    assert_eq!(by_processes.result()?, 5);
    let words = ["to", "be"].map(str::to_owned);
    let lengths = ProcessPoolExecutor::new()?.map(|word: String| length(&word), words);
    assert_eq!(lengths.result()?, [2, 2]);
    Ok(())
}
