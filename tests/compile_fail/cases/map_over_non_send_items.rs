//! The workers pull the input of a map, so it moves to them.

use std::rc::Rc;

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new();
    let items: Vec<Rc<u32>> = vec![Rc::new(7)];
    println!("{:?}", pool.map(|n: Rc<u32>| *n, items).result());
}
