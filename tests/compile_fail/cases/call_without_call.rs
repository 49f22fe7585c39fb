//! `call!` takes a call, not a function.

use concurrent_futures::{ThreadPoolExecutor, call};

fn double(n: u32) -> u32 {
    2 * n
}

fn main() {
    let pool = ThreadPoolExecutor::new();
    println!("{:?}", pool.submit(call!(double)).result());
}
