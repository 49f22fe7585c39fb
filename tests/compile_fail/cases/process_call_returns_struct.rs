//! What comes back from another process has serde's derives, both of them.

use concurrent_futures::{Error, ProcessPoolExecutor, call};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Size {
    bytes: usize,
}

fn size(text: String) -> Size {
    Size { bytes: text.len() }
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    println!("{:?}", pool.submit(call!(size("seven".to_owned()))).result()?);
    Ok(())
}
