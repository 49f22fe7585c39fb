//! A result comes from another thread.

use std::rc::Rc;

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    println!("{:?}", pool.submit(|| Rc::new(7)).result());
}
