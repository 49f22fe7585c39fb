//! A job's own `Result` is its value, so there are two to look at.

use concurrent_futures::{Error, ThreadPoolExecutor};

async fn notes(pool: &ThreadPoolExecutor) -> Result<String, Error> {
    let text: String = pool.submit(|| std::fs::read_to_string("notes.txt")).await?;
    Ok(text)
}

fn main() {
    println!("{:?}", futures::executor::block_on(notes(&ThreadPoolExecutor::new())));
}
