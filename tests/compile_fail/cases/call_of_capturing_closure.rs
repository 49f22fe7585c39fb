//! `call!` takes a plain function: only that can be named in another process.

use concurrent_futures::{ThreadPoolExecutor, call};

fn main() {
    let pool = ThreadPoolExecutor::new();
    let n = 3;
    let add_n = move |x: u32| x + n;
    println!("{:?}", pool.submit(call!(add_n(4))).result());
}
