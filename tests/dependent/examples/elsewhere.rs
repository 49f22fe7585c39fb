//! A function of an example, in a worker process.
//!
//! ```text
//! cargo run -p dependent --example elsewhere
//! ```

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn whereabouts(greeting: String) -> (String, u32) {
    (format!("{greeting} from elsewhere"), std::process::id())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    let (greeting, process) = pool.submit(call!(whereabouts("hello".to_owned()))).await?;
    println!("{greeting}, process {process}");
    assert_eq!(greeting, "hello from elsewhere");
    assert_ne!(process, std::process::id());
    Ok(())
}
