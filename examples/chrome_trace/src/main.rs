//! The program: see the library.

use std::env;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let trace = arguments.next().unwrap_or_else(|| env::temp_dir().join("chrome_trace.json"));
    chrome_trace::run(&trace, arguments.next().as_deref())?;
    println!("open {} at https://ui.perfetto.dev", trace.display());
    Ok(())
}
