//! A method is called by its path, with the value as an argument.

use concurrent_futures::{ThreadPoolExecutor, call};

fn main() {
    let pool = ThreadPoolExecutor::new();
    let text = String::from("seven");
    println!("{:?}", pool.submit(call!(text.len())).result());
}
