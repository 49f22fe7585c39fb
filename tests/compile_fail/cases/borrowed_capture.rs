//! A job may run for longer than what the caller lends.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let text = String::from("seven");
    let length = pool.submit(|| text.len());
    drop(text);
    println!("{:?}", length.result());
}
