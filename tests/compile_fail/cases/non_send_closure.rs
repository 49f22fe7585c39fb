//! What a job captures must be allowed to move to another thread.

use std::rc::Rc;

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let shared = Rc::new(7);
    let future = pool.submit(move || *shared + 1);
    println!("{:?}", future.result());
}
