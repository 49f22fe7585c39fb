//! An `io::Error` has no form that travels; `PortableError` has.

use std::{fs, io};

use concurrent_futures::{Error, ProcessPoolExecutor, call};

fn read(path: String) -> io::Result<String> {
    fs::read_to_string(path)
}

fn main() -> Result<(), Error> {
    let pool = ProcessPoolExecutor::new()?;
    println!("{:?}", pool.submit(call!(read("notes.txt".to_owned()))).result()?);
    Ok(())
}
