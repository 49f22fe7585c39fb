//! The function of a map moves to the workers, and all of them use it.

use std::rc::Rc;

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let shared: Rc<u32> = Rc::new(7);
    println!("{:?}", pool.map(move |n: u32| n + *shared, 0..3).result());
}
